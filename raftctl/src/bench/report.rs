//! The result of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::tally::Figures;

/// What was measured, against what.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The cluster's name.
    pub cluster: String,
    /// Where its hosts come from.
    pub provider: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// Who led when it was over; null if nobody did.
    pub leader: Option<u64>,
    /// `stream` or `unary`.
    pub transport: &'static str,
    /// How reads were answered.
    pub consistency: String,
    /// Connections.
    pub clients: usize,
    /// Operations on their way at any time.
    pub in_flight: usize,
    /// Length of a value.
    pub value_bytes: usize,
    /// How many different keys.
    pub keys: u64,
    /// Share of reads that was asked for.
    pub read_share: f64,
    /// How long was measured.
    pub seconds: f64,
    /// Whether that is less than was asked for: somebody ended it.
    pub interrupted: bool,
    /// Flushes (fdatasync) of the leader's log meanwhile; null if the leader changed.
    pub leader_fsyncs: Option<u64>,
    /// Reads; null if there were none.
    pub reads: Option<Figures>,
    /// Writes; null if there were none.
    pub writes: Option<Figures>,
    /// Failed operations by reason.
    pub errors: BTreeMap<String, u64>,
}

impl Report {
    /// What was measured against what, then a line each for reads and writes.
    #[must_use]
    pub fn text(&self) -> String {
        let partial = match self.interrupted {
            true => "PARTIAL: interrupted while it was measured\n",
            false => "",
        };
        let mut text = format!(
            "{partial}{}: {} nodes ({}), leader {}; a SET is flushed (fdatasync) by a majority before its \
             answer\n{} connections, {} operations in flight ({}), {} B values, {} keys, {:.0} % \
             reads ({}), {:.1} s\n\n",
            self.cluster,
            self.nodes,
            self.provider,
            self.leader
                .map_or("none".into(), |leader| leader.to_string()),
            self.clients,
            self.in_flight,
            self.transport,
            self.value_bytes,
            grouped(self.keys),
            self.read_share * 100.0,
            self.consistency,
            self.seconds,
        );
        row(
            &mut text,
            [
                "",
                "operations",
                "per second",
                "p50 ms",
                "p99 ms",
                "p99.9 ms",
                "max ms",
            ],
        );
        for (name, figures) in [("reads", &self.reads), ("writes", &self.writes)] {
            if let Some(figures) = figures {
                figures_row(&mut text, name, figures);
            }
        }
        if let (Some(fsyncs), Some(writes)) = (self.leader_fsyncs, &self.writes)
            && fsyncs > 0
        {
            let each = writes.operations as f64 / fsyncs as f64;
            let fsyncs = grouped(fsyncs);
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "\n{fsyncs} flushes at the leader, {each:.1} writes each"
            );
        }
        if !self.errors.is_empty() {
            let errors: Vec<String> = self
                .errors
                .iter()
                .map(|(why, count)| format!("{why} {}", grouped(*count)))
                .collect();
            let _ = writeln!(text, "\nerrors: {}", errors.join(", "));
        }
        text
    }
}

fn figures_row(text: &mut String, name: &str, figures: &Figures) {
    let ms = |us: u64| format!("{:.2}", us as f64 / 1000.0);
    row(
        text,
        [
            name,
            &grouped(figures.operations),
            &grouped(figures.per_second as u64),
            &ms(figures.p50_us),
            &ms(figures.p99_us),
            &ms(figures.p999_us),
            &ms(figures.max_us),
        ],
    );
}

fn row(text: &mut String, cells: [&str; 7]) {
    let [name, operations, per_second, p50, p99, p999, max] = cells;
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "{name:<7}{operations:>12}{per_second:>12}{p50:>10}{p99:>10}{p999:>10}{max:>10}"
    );
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table says what was measured against what, and leaves out what was not measured.
    #[test]
    fn the_table_names_its_circumstances() {
        let mut report = Report {
            cluster: "demo".into(),
            provider: "local".into(),
            nodes: 3,
            leader: Some(2),
            transport: "stream",
            consistency: "lease".into(),
            clients: 4,
            in_flight: 64,
            value_bytes: 256,
            keys: 10_000,
            read_share: 0.0,
            seconds: 10.0,
            interrupted: false,
            leader_fsyncs: Some(25_000),
            reads: None,
            writes: Some(Figures {
                operations: 100_000,
                per_second: 10_000.0,
                p50_us: 6_100,
                p99_us: 9_000,
                p999_us: 12_345,
                max_us: 40_000,
            }),
            errors: BTreeMap::from([("overloaded".to_owned(), 1234)]),
        };
        assert_eq!(
            report.text(),
            "demo: 3 nodes (local), leader 2; a SET is flushed (fdatasync) by a majority before \
             its answer\n4 connections, 64 operations in flight (stream), 256 B values, 10,000 \
             keys, 0 % reads (lease), 10.0 s\n\n\
             \x20        operations  per second    p50 ms    p99 ms  p99.9 ms    max ms\n\
             writes      100,000      10,000      6.10      9.00     12.35     40.00\n\n\
             25,000 flushes at the leader, 4.0 writes each\n\nerrors: overloaded 1,234\n"
        );
        report.interrupted = true;
        assert!(report.text().starts_with("PARTIAL: "));
    }
}
