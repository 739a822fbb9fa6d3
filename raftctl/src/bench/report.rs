//! The result of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::pace::Rate;
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
    /// The version of raft-node that it runs; null if nobody led.
    pub version: Option<String>,
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
    /// Open loop: what became of the rate. Null in a closed loop, where the next operation begins when one ends.
    pub rate: Option<Rate>,
    /// How long was measured.
    pub seconds: f64,
    /// Whether that is less than was asked for: somebody ended it.
    pub interrupted: bool,
    /// Flushes (fdatasync) of the leader's log meanwhile; null if the leader changed.
    pub leader_fsyncs: Option<u64>,
    /// How reads were answered, and how many in each way.
    pub read_paths: BTreeMap<&'static str, u64>,
    /// Reads; null if there were none.
    pub reads: Option<Figures>,
    /// Writes; null if there were none.
    pub writes: Option<Figures>,
    /// Failed operations by reason.
    pub errors: BTreeMap<String, u64>,
}

impl Report {
    /// Whether operations wait for one another, in words.
    fn loop_text(&self) -> String {
        match &self.rate {
            None => format!("{} operations in flight", self.in_flight),
            Some(rate) => format!(
                "{} operations begun a second, at most {} in flight",
                grouped(rate.asked_per_second),
                self.in_flight
            ),
        }
    }

    /// What was measured against what, then a line each for reads and writes.
    #[must_use]
    pub fn text(&self) -> String {
        let partial = match self.interrupted {
            true => "PARTIAL: interrupted while it was measured\n",
            false => "",
        };
        let mut text = format!(
            "{partial}{}: {} nodes ({}{}), leader {}; a SET is flushed (fdatasync) by a majority before its \
             answer\n{} connections, {} ({}), {} B values, {} keys, {:.0} % reads ({}), {:.1} s\n\n",
            self.cluster,
            self.nodes,
            self.provider,
            self.version
                .as_ref()
                .map_or(String::new(), |it| format!(", raft-node {it}")),
            self.leader
                .map_or("none".into(), |leader| leader.to_string()),
            self.clients,
            self.loop_text(),
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
        let is_as_asked = |path: &&'static str| **path == *self.consistency;
        if !self.read_paths.keys().all(is_as_asked) {
            let paths = self.read_paths.iter();
            let paths: Vec<String> = paths
                .map(|(path, count)| format!("{path} {}", grouped(*count)))
                .collect();
            let _ = writeln!(text, "\nreads were answered as: {}", paths.join(", "));
        }
        if let Some(rate) = &self.rate {
            text.push_str(&rate_text(rate));
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

/// From when latencies are counted, and whether they are those of the rate.
fn rate_text(rate: &Rate) -> String {
    let late_ms = rate.late_us_max as f64 / 1000.0;
    let mut text = format!(
        "\nlatencies count from when an operation was to begin; the latest began {late_ms:.1} ms after that\n"
    );
    if !rate.is_kept() {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "THE RATE WAS NOT KEPT: {} of {} operations that were due never began, and are in no figure; ask \
             for less, or give it more --in-flight",
            grouped(rate.never_begun),
            grouped(rate.due)
        );
    }
    text
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
#[must_use]
pub fn grouped(number: u64) -> String {
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
            version: Some("0.1.0".into()),
            transport: "stream",
            consistency: "lease".into(),
            clients: 4,
            in_flight: 64,
            value_bytes: 256,
            keys: 10_000,
            read_share: 0.0,
            rate: None,
            seconds: 10.0,
            interrupted: false,
            leader_fsyncs: Some(25_000),
            read_paths: BTreeMap::new(),
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
            "demo: 3 nodes (local, raft-node 0.1.0), leader 2; a SET is flushed (fdatasync) by a majority before \
             its answer\n4 connections, 64 operations in flight (stream), 256 B values, 10,000 \
             keys, 0 % reads (lease), 10.0 s\n\n\
             \x20        operations  per second    p50 ms    p99 ms  p99.9 ms    max ms\n\
             writes      100,000      10,000      6.10      9.00     12.35     40.00\n\n\
             25,000 flushes at the leader, 4.0 writes each\n\nerrors: overloaded 1,234\n"
        );
        report.interrupted = true;
        assert!(report.text().starts_with("PARTIAL: "));
        report.read_paths = [("lease", 1_000)].into();
        assert!(!report.text().contains("answered as"));
        report.read_paths.insert("inherited", 5);
        let told = "reads were answered as: inherited 5, lease 1,000\n";
        assert!(report.text().contains(told));
        let rate = |never_begun| Rate {
            asked_per_second: 12_000,
            due: 120_000,
            never_begun,
            late_us_max: 2_345,
        };
        report.rate = Some(rate(0));
        let text = report.text();
        let circumstances = "12,000 operations begun a second, at most 64 in flight (stream)";
        assert!(text.contains(circumstances), "{text}");
        assert!(text.contains("the latest began 2.3 ms after"), "{text}");
        assert!(!text.contains("NOT KEPT"), "{text}");
        report.rate = Some(rate(20_000));
        let text = report.text();
        let told = "THE RATE WAS NOT KEPT: 20,000 of 120,000 operations";
        assert!(text.contains(told), "{text}");
    }
}
