//! What share of the time operations succeeded, and the longest time in which none did. Pure.

use std::fmt::{Display, Formatter};
use std::time::Duration;

use checker::Operation;
use serde::Serialize;

/// A window counts as served if an operation succeeded in it.
const WINDOW_US: u64 = 100_000;

/// A time without a success is told from here on: shorter ones are the pauses of the clients.
const GAP_LEAST_US: u64 = 2 * WINDOW_US;

/// The times within the first `length` of a history in which no operation of a kind succeeded, in
/// microseconds. Where none was asked for, there are none.
#[must_use]
pub fn gaps(operations: &[Operation], kind: Kind, length: Duration) -> Vec<(u64, u64)> {
    let end_us = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
    let is_of_kind = |operation: &&Operation| {
        (operation.kind == checker::Kind::Get) == (kind == Kind::Reads)
            && operation.call_us < end_us
    };
    let mut asked = operations.iter().filter(is_of_kind).peekable();
    if asked.peek().is_none() {
        return Vec::new();
    }
    let succeeded = asked.filter(|operation| operation.outcome.is_answer());
    let mut successes_us: Vec<u64> = succeeded.filter_map(|it| it.return_us).collect();
    successes_us.retain(|at_us| *at_us < end_us);
    successes_us.sort_unstable();
    let ends = successes_us.iter().copied().chain([end_us]);
    let starts = std::iter::once(0).chain(successes_us.iter().copied());
    let gaps = starts.zip(ends);
    gaps.filter(|(from, until)| until - from >= GAP_LEAST_US)
        .collect()
}

/// Reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Gets.
    Reads,
    /// Everything else.
    Writes,
}

/// How available one kind of operation was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Availability {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many certainly did nothing.
    pub refused: u64,
    /// Of how many nobody knows.
    pub unknown: u64,
    /// Share of the windows of 100 ms in which at least one succeeded, 0 to 1.
    pub share: f64,
    /// The longest time without a success, in milliseconds.
    pub longest_gap_ms: u64,
    /// When it began, in milliseconds from the beginning.
    pub longest_gap_at_ms: u64,
}

impl Availability {
    /// The availability of one kind over the first `length` of a history.
    #[must_use]
    pub fn of(operations: &[Operation], kind: Kind, length: Duration) -> Self {
        let end_us = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let is_of_kind = |operation: &&Operation| {
            (operation.kind == checker::Kind::Get) == (kind == Kind::Reads)
                && operation.call_us < end_us
        };
        let (mut refused, mut unknown) = (0, 0);
        let mut successes_us = Vec::new();
        for operation in operations.iter().filter(is_of_kind) {
            match (operation.return_us, &operation.outcome) {
                (Some(return_us), outcome) if outcome.is_answer() => successes_us.push(return_us),
                (_, checker::Outcome::NotApplied) => refused += 1,
                _ => unknown += 1,
            }
        }
        let succeeded = successes_us.len() as u64;
        // An answer after the end shows nothing about the time before it.
        successes_us.retain(|at_us| *at_us < end_us);
        successes_us.sort_unstable();
        let (longest_gap_us, at_us) = longest_gap(&successes_us, end_us);
        Availability {
            succeeded,
            refused,
            unknown,
            share: share(&successes_us, end_us),
            longest_gap_ms: longest_gap_us / 1000,
            longest_gap_at_ms: at_us / 1000,
        }
    }
}

impl Display for Availability {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} succeeded, {} refused, {} unknown; served {:.1} % of the time, longest gap {:.2} \
             s at {:.2} s",
            self.succeeded,
            self.refused,
            self.unknown,
            self.share * 100.0,
            self.longest_gap_ms as f64 / 1000.0,
            self.longest_gap_at_ms as f64 / 1000.0
        )
    }
}

fn share(successes_us: &[u64], end_us: u64) -> f64 {
    let windows = end_us.div_ceil(WINDOW_US).max(1);
    let mut served: Vec<u64> = successes_us.iter().map(|at_us| at_us / WINDOW_US).collect();
    served.dedup();
    served.len() as f64 / windows as f64
}

/// The longest gap and when it began; the beginning and the end count as successes, so that an
/// outage there is one.
fn longest_gap(successes_us: &[u64], end_us: u64) -> (u64, u64) {
    let ends = successes_us.iter().copied().chain([end_us]);
    let starts = std::iter::once(0).chain(successes_us.iter().copied());
    let gaps = starts.zip(ends).map(|(start, end)| (end - start, start));
    gaps.max_by_key(|(gap, _)| *gap).unwrap_or((end_us, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use checker::Outcome;

    fn read(call_ms: u64, return_ms: u64) -> Operation {
        Operation {
            client: 1,
            call_us: call_ms * 1000,
            return_us: Some(return_ms * 1000),
            key: "k".into(),
            kind: checker::Kind::Get,
            outcome: Outcome::Read(None),
        }
    }

    fn write(call_ms: u64, outcome: Outcome) -> Operation {
        Operation {
            return_us: None,
            kind: checker::Kind::Set { value: "v".into() },
            outcome,
            ..read(call_ms, call_ms)
        }
    }

    /// Reads each 50 ms but for an outage of a bit more than two seconds.
    #[test]
    fn an_outage_is_seen_with_its_length() {
        let times = (0..100)
            .map(|n| n * 50)
            .filter(|ms| !(1000..3000).contains(ms));
        let mut operations: Vec<Operation> = times.map(|ms| read(ms, ms + 10)).collect();
        operations.push(write(100, Outcome::NotApplied));
        operations.push(write(200, Outcome::Unknown));
        let reads = Availability::of(&operations, Kind::Reads, Duration::from_secs(5));
        assert_eq!((reads.succeeded, reads.refused, reads.unknown), (60, 0, 0));
        assert_eq!((reads.longest_gap_ms, reads.longest_gap_at_ms), (2050, 960));
        assert!((reads.share - 0.6).abs() < 0.001, "{reads:?}");
        let writes = Availability::of(&operations, Kind::Writes, Duration::from_secs(5));
        assert_eq!(
            (writes.succeeded, writes.refused, writes.unknown),
            (0, 1, 1)
        );
        assert_eq!((writes.longest_gap_ms, writes.share), (5000, 0.0));
    }

    /// Each outage is a gap, at its place; the pauses of the clients are none, nor is what nobody asked for.
    #[test]
    fn each_gap_is_told() {
        let times = (0..100).map(|n| n * 50);
        let times = times.filter(|ms| !(1000..3000).contains(ms) && !(4000..4300).contains(ms));
        let operations: Vec<Operation> = times.map(|ms| read(ms, ms + 10)).collect();
        let length = Duration::from_secs(5);
        let expected = [(960_000, 3_010_000), (3_960_000, 4_310_000)];
        assert_eq!(gaps(&operations, Kind::Reads, length), expected);
        assert_eq!(gaps(&operations, Kind::Writes, length), []);
        assert_eq!(
            gaps(&operations[..1], Kind::Reads, length),
            [(10_000, 5_000_000)]
        );
    }

    /// An operation that hangs through an outage and succeeds after it does not hide it, and an
    /// outage at the end counts.
    #[test]
    fn nothing_hides_an_outage() {
        let operations = [read(0, 10), read(20, 4000)];
        let length = Duration::from_secs(6);
        let reads = Availability::of(&operations, Kind::Reads, length);
        assert_eq!((reads.longest_gap_ms, reads.longest_gap_at_ms), (3990, 10));
        let reads = Availability::of(&operations[..1], Kind::Reads, length);
        assert_eq!((reads.longest_gap_ms, reads.longest_gap_at_ms), (5990, 10));
    }
}
