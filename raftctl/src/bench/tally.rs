//! What was measured: latencies of reads and writes apart, and errors by their reason.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Whether an operation reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A get.
    Read,
    /// A set.
    Write,
}

/// Latencies and errors; those of several connections add up.
#[derive(Debug, Clone)]
pub struct Tally {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            reads: histogram(),
            writes: histogram(),
            errors: BTreeMap::new(),
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
    /// An operation succeeded after `latency`.
    pub fn succeeded(&mut self, kind: Kind, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let histogram = match kind {
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
        };
        // A histogram that grows by itself takes any number.
        histogram.record(us).expect("a histogram that grows");
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
        for ms in 1..=50 {
            one.succeeded(Kind::Read, Duration::from_millis(ms));
            two.succeeded(Kind::Read, Duration::from_millis(50 + ms));
        }
        two.succeeded(Kind::Read, Duration::from_secs(3));
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
    }
}
