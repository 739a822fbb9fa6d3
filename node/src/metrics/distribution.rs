//! How values are spread: counts in fixed buckets, made of atomics, so that whoever measures waits
//! for nobody who reads.

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper ends of the buckets of all durations: from an answer out of memory to one that waited for an
/// old lease. The same everywhere, so that they can be compared; few, because each is a series.
const DURATIONS_NS: &[u64] = &[
    500_000,
    2_000_000,
    10_000_000,
    50_000_000,
    250_000_000,
    2_500_000_000,
];

/// Upper ends of the buckets of counts.
const COUNTS: &[u64] = &[1, 16, 256];

/// See the module.
#[derive(Debug)]
pub(super) struct Distribution {
    ends: &'static [u64],
    /// So much is shown as one: divided by, because a product of decimals would show its error.
    unit: f64,
    /// One more than there are ends: for what lies beyond.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Distribution {
    /// Of durations, shown in seconds.
    pub(super) fn of_durations() -> Self {
        Distribution::new(DURATIONS_NS, 1e9)
    }

    /// Of whole numbers.
    pub(super) fn of_counts() -> Self {
        Distribution::new(COUNTS, 1.0)
    }

    fn new(ends: &'static [u64], unit: f64) -> Self {
        let buckets = std::iter::repeat_with(AtomicU64::default);
        Distribution {
            ends,
            unit,
            buckets: buckets.take(ends.len() + 1).collect(),
            sum: AtomicU64::default(),
        }
    }

    /// Takes in one value, so many times.
    pub(super) fn observe(&self, value: u64, times: u64) {
        let at = self.ends.partition_point(|end| *end < value);
        self.buckets[at].fetch_add(times, Relaxed);
        // Wraps after centuries of measured time.
        self.sum.fetch_add(value.wrapping_mul(times), Relaxed);
    }

    /// Takes in one duration, so many times.
    pub(super) fn observe_duration(&self, duration: Duration, times: u64) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.observe(nanos, times);
    }

    /// Upper ends of the buckets of durations.
    pub(super) const fn ends_of_durations_ns() -> &'static [u64] {
        DURATIONS_NS
    }

    /// How many values lie in each bucket.
    pub(super) fn counts(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed))
    }

    /// Writes it out.
    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let ends = self.ends.iter().map(|end| *end as f64 / self.unit);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        let buckets: Vec<_> = ends.chain([f64::INFINITY]).zip(counts).collect();
        // The sum of what is shown, whatever comes in meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sum.load(Relaxed) as f64 / self.unit;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
