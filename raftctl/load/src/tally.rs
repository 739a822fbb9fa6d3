//! What was measured: latencies of reads and writes apart, and errors by their reason.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use raftkv::kv::ReadPath;
use serde::Serialize;

use super::series::Series;

/// Whether an operation reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A get.
    Read,
    /// A set.
    Write,
}

/// The shares of which it is told how long they took at most.
const SHARES: [f64; 12] = [
    0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0,
];

/// Latencies and errors; those of several connections add up.
#[derive(Debug, Clone)]
pub struct Tally {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    paths: BTreeMap<&'static str, u64>,
    series: Option<Series>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            reads: histogram(),
            writes: histogram(),
            errors: BTreeMap::new(),
            paths: BTreeMap::new(),
            series: None,
        }
    }
}

/// Microseconds with three digits, whatever the range.
fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 3)
        // The bounds are constants that the crate accepts: 1 to 1,000,000 us, 3 digits.
        .expect("constant bounds of a histogram");
    histogram.auto(true);
    histogram
}

impl Tally {
    /// One that also keeps latencies by the time of their answers, over `length` from `started` on.
    #[must_use]
    pub fn over_time(started: Instant, length: Duration) -> Self {
        Tally {
            series: Some(Series::new(started, length)),
            ..Tally::default()
        }
    }

    /// An operation that began at `begun` has its answer.
    pub fn succeeded(&mut self, kind: Kind, begun: Instant, now: Instant) {
        let latency = now.saturating_duration_since(begun);
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(series) = &mut self.series {
            series.answered(kind, now, us);
        }
        let histogram = match kind {
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
        };
        // A histogram that grows by itself takes any number.
        histogram.record(us).expect("a histogram that grows");
    }

    /// A read was answered in this way.
    pub fn read_over(&mut self, path: ReadPath) {
        let name = match path {
            ReadPath::Lease => "lease",
            ReadPath::Inherited => "inherited",
            ReadPath::Quorum => "quorum",
            ReadPath::Stale => "stale",
            ReadPath::Unspecified => "unknown",
        };
        *self.paths.entry(name).or_default() += 1;
    }

    /// How reads were answered, and how many in each way.
    #[must_use]
    pub fn paths(&self) -> &BTreeMap<&'static str, u64> {
        &self.paths
    }

    /// Latencies by the time of their answers, if that was asked for.
    #[must_use]
    pub fn series(&self) -> Option<&Series> {
        self.series.as_ref()
    }

    /// Shares of the operations, and the latency in microseconds that they did not exceed; none if there were none.
    #[must_use]
    pub fn percentiles(&self, kind: Kind) -> Vec<(f64, u64)> {
        let histogram = match kind {
            Kind::Read => &self.reads,
            Kind::Write => &self.writes,
        };
        let at = |share: &f64| (*share, histogram.value_at_quantile(*share));
        match histogram.is_empty() {
            true => Vec::new(),
            false => SHARES.iter().map(at).collect(),
        }
    }

    /// An operation failed.
    pub fn failed(&mut self, reason: &str) {
        *self.errors.entry(reason.to_owned()).or_default() += 1;
    }

    /// Adds what another connection measured.
    pub fn add(&mut self, other: &Tally) {
        for (to, from) in [
            (&mut self.reads, &other.reads),
            (&mut self.writes, &other.writes),
        ] {
            // Both have the same precision and grow by themselves.
            to.add(from).expect("histograms of one shape");
        }
        for (reason, count) in &other.errors {
            *self.errors.entry(reason.clone()).or_default() += count;
        }
        for (path, count) in &other.paths {
            *self.paths.entry(path).or_default() += count;
        }
        if let (Some(series), Some(more)) = (&mut self.series, &other.series) {
            series.add(more);
        }
    }

    /// Errors by their reason.
    #[must_use]
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// The figures of one kind of operation over `elapsed`; none if there were none.
    #[must_use]
    pub fn figures(&self, kind: Kind, elapsed: Duration) -> Option<Figures> {
        let histogram = match kind {
            Kind::Read => &self.reads,
            Kind::Write => &self.writes,
        };
        let operations = histogram.len();
        (operations > 0).then(|| Figures {
            operations,
            per_second: (operations as f64 / elapsed.as_secs_f64()).round(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        })
    }
}

/// The figures of one kind of operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// How many succeeded.
    pub operations: u64,
    /// How many succeeded in a second.
    pub per_second: f64,
    /// Half were at least as fast, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 were at least as fast, in microseconds.
    pub p99_us: u64,
    /// 999 of 1,000 were at least as fast, in microseconds.
    pub p999_us: u64,
    /// The slowest, in microseconds.
    pub max_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two connections measured apart gives the figures of both together.
    #[test]
    fn tallies_add_up() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        let begun = Instant::now();
        let read = |tally: &mut Tally, ms: u64| {
            let now = begun + Duration::from_millis(ms);
            tally.succeeded(Kind::Read, begun, now);
        };
        for ms in 1..=50 {
            read(&mut one, ms);
            read(&mut two, 50 + ms);
        }
        read(&mut two, 3_000);
        one.read_over(ReadPath::Lease);
        two.read_over(ReadPath::Lease);
        two.read_over(ReadPath::Inherited);
        two.failed("overloaded");
        one.failed("overloaded");
        one.add(&two);
        let figures = one.figures(Kind::Read, Duration::from_secs(2)).unwrap();
        assert_eq!((figures.operations, figures.per_second), (101, 51.0));
        let close = |us: u64, ms: u64| us.abs_diff(ms * 1000) <= ms * 2;
        assert!(close(figures.p50_us, 51), "{figures:?}");
        assert!(close(figures.p99_us, 100), "{figures:?}");
        assert!(close(figures.max_us, 3000), "{figures:?}");
        assert_eq!(one.figures(Kind::Write, Duration::from_secs(2)), None);
        assert_eq!(one.errors()["overloaded"], 2);
        assert_eq!(one.paths(), &[("inherited", 1), ("lease", 2)].into());
        let percentiles = one.percentiles(Kind::Read);
        assert_eq!(percentiles.last(), Some(&(1.0, figures.max_us)));
        assert!(percentiles.contains(&(0.5, figures.p50_us)));
        assert_eq!(one.percentiles(Kind::Write), []);
    }
}
