//! How much a node does just now: the difference of what it counted between two looks. Pure.
//!
//! The percentiles are those of Prometheus' `histogram_quantile`, of the same buckets, so that what is
//! seen here and what alerts are made of agree.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use raftkv::admin::{Durations, Figures, StatusReply};

/// Over so long is counted: long enough for steady figures, short enough to see a change.
const WINDOW: Duration = Duration::from_secs(5);

/// Looks that are kept at most, however often somebody looks.
const LOOKS_MAX: usize = 64;

/// The percentile that is told.
const PERCENTILE: f64 = 0.99;

/// What was counted until a moment.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    pid: u64,
    writes: u64,
    reads: u64,
    figures: Option<Figures>,
}

/// What one node does just now. What an older version does not tell is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Writes that it answered, per second.
    pub writes_per_second: Option<f64>,
    /// 99 of 100 of them took no longer.
    pub write_p99: Option<Duration>,
    /// Reads that it answered, per second.
    pub reads_per_second: Option<f64>,
    /// 99 of 100 of them took no longer.
    pub read_p99: Option<Duration>,
    /// 99 of 100 flushes of its log took no longer.
    pub fsync_p99: Option<Duration>,
}

/// The looks at one node that still count.
#[derive(Debug, Clone, Default)]
pub struct Looks(VecDeque<Look>);

impl Looks {
    /// Takes in an answer. Another process has begun to count anew.
    pub fn take(&mut self, at: Instant, reply: &StatusReply) {
        if self.0.back().is_some_and(|look| look.pid != reply.pid) {
            self.0.clear();
        }
        self.0.push_back(look(at, reply));
        // One that is older than the window stays: the difference is to it.
        let is_old = |look: &Look| at.duration_since(look.at) >= WINDOW;
        while self.0.len() > LOOKS_MAX || self.0.get(1).is_some_and(is_old) {
            self.0.pop_front();
        }
    }

    /// What the node does, by these looks.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else {
            return Rates::default();
        };
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let per_second = |from: u64, to: u64| Some(to.saturating_sub(from) as f64 / seconds);
        let figures = first.figures.as_ref().zip(last.figures.as_ref());
        let p99 = |of: fn(&Figures) -> Option<&Durations>| {
            let (from, to) = figures?;
            quantile(&to.bucket_ends_ns, &of(from)?.counts, &of(to)?.counts)
        };
        Rates {
            writes_per_second: per_second(first.writes, last.writes),
            write_p99: p99(|it| it.writes.as_ref()),
            reads_per_second: per_second(first.reads, last.reads),
            read_p99: p99(|it| it.reads.as_ref()),
            fsync_p99: p99(|it| it.fsyncs.as_ref()),
        }
    }
}

fn look(at: Instant, reply: &StatusReply) -> Look {
    let counters = reply.counters.unwrap_or_default();
    let counted = |durations: &Option<Durations>| {
        let durations = durations.as_ref()?;
        Some(durations.counts.iter().sum())
    };
    let figures = reply.figures.as_ref();
    let reads = counters.lease_reads
        + counters.inherited_reads
        + counters.quorum_reads
        + counters.stale_reads;
    Look {
        at,
        pid: reply.pid,
        // What an older version counts as proposals is nearly the same.
        writes: figures
            .and_then(|it| counted(&it.writes))
            .unwrap_or(counters.proposals),
        reads: figures.and_then(|it| counted(&it.reads)).unwrap_or(reads),
        figures: reply.figures.clone(),
    }
}

/// As Prometheus reckons it: within a bucket values are taken to be spread evenly, and beyond the last
/// end nothing is known but that end. `None`: there was nothing.
fn quantile(ends_ns: &[u64], from: &[u64], to: &[u64]) -> Option<Duration> {
    let counts = to.iter().enumerate();
    let counts: Vec<u64> = counts
        .map(|(at, to)| to.saturating_sub(from.get(at).copied().unwrap_or(0)))
        .collect();
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = PERCENTILE * all as f64;
    let mut below = 0.0;
    let mut start_ns = 0;
    for (count, end_ns) in counts.iter().zip(ends_ns) {
        let count = *count as f64;
        if below + count >= rank {
            let share = if count > 0.0 {
                (rank - below) / count
            } else {
                0.0
            };
            let width_ns = end_ns.saturating_sub(start_ns) as f64;
            return Some(Duration::from_nanos(start_ns + (share * width_ns) as u64));
        }
        below += count;
        start_ns = *end_ns;
    }
    ends_ns.last().copied().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [u64; 2] = [1_000_000, 10_000_000];

    fn reply(pid: u64, writes: [u64; 3]) -> StatusReply {
        let durations = |counts: &[u64]| {
            Some(Durations {
                counts: counts.to_vec(),
            })
        };
        StatusReply {
            pid,
            figures: Some(Figures {
                bucket_ends_ns: ENDS.to_vec(),
                writes: durations(&writes),
                reads: durations(&[0; 3]),
                fsyncs: durations(&[0; 3]),
                ..Figures::default()
            }),
            ..StatusReply::default()
        }
    }

    // What was counted meanwhile counts, and what was before does not; a new process begins anew.
    #[test]
    fn rates_are_of_the_last_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut looks = Looks::default();
        assert_eq!(looks.rates(), Rates::default());
        looks.take(at(0), &reply(1, [0, 0, 900]));
        looks.take(at(10), &reply(1, [0, 0, 900]));
        looks.take(at(12), &reply(1, [200, 0, 900]));
        let rates = looks.rates();
        assert_eq!(rates.writes_per_second, Some(200.0 / 12.0));
        looks.take(at(15), &reply(1, [500, 0, 900]));
        let rates = looks.rates();
        assert_eq!(rates.writes_per_second, Some(100.0));
        assert_eq!(rates.write_p99, Some(Duration::from_micros(990)));
        assert_eq!((rates.read_p99, rates.reads_per_second), (None, Some(0.0)));
        looks.take(at(16), &reply(2, [3, 0, 0]));
        assert_eq!(looks.rates(), Rates::default());
    }

    // The percentile lies in the bucket where Prometheus sees it, and beyond all buckets at the last end.
    #[test]
    fn percentiles_are_those_of_prometheus() {
        let of = |to: [u64; 3]| quantile(&ENDS, &[0; 3], &to);
        assert_eq!(of([0, 0, 0]), None);
        assert_eq!(of([98, 2, 0]), Some(Duration::from_nanos(5_500_000)));
        assert_eq!(of([0, 0, 5]), Some(Duration::from_millis(10)));
    }

    // An older version tells how much, and not how long.
    #[test]
    fn an_older_node_is_counted_by_its_counters() {
        let start = Instant::now();
        let mut looks = Looks::default();
        for (second, proposals) in [(0, 10), (2, 30)] {
            let counters = raftkv::admin::Counters {
                proposals,
                lease_reads: 4 * proposals,
                ..Default::default()
            };
            let reply = StatusReply {
                counters: Some(counters),
                ..StatusReply::default()
            };
            looks.take(start + Duration::from_secs(second), &reply);
        }
        let rates = looks.rates();
        assert_eq!(rates.writes_per_second, Some(10.0));
        assert_eq!(rates.reads_per_second, Some(40.0));
        assert_eq!((rates.write_p99, rates.fsync_p99), (None, None));
    }
}
