//! Latencies by the time of their answers: what a run was like from its beginning to its end. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::tally::Kind;

/// So many parts has a run: as many as can be told apart in a picture.
const PARTS: u32 = 100;

/// Two latencies that differ by less are not told apart: this is for pictures, and there are many of them.
const PRECISION: f64 = 1.05;

/// How many answers there were in each part of a run, by kind and latency.
#[derive(Debug, Clone)]
pub struct Series {
    started: Instant,
    part: Duration,
    /// By part, kind and step of latency. Sparse: a client meets few of them.
    answers: BTreeMap<(u32, Kind, u16), u32>,
}

/// One kind of operation in one part of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The middle of the part, in seconds since the beginning.
    pub at_seconds: f64,
    /// How many were answered a second.
    pub per_second: f64,
    /// Half were at least as fast, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were at least as fast.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Series {
    /// Of a run that begins then and is so long.
    #[must_use]
    pub fn new(started: Instant, length: Duration) -> Self {
        Series {
            started,
            part: (length / PARTS).max(Duration::from_millis(1)),
            answers: BTreeMap::new(),
        }
    }

    /// An operation was answered after so many microseconds. What is answered after the end belongs to the last part.
    pub fn answered(&mut self, kind: Kind, now: Instant, us: u64) {
        let since = now.saturating_duration_since(self.started);
        let part = since.as_nanos() / self.part.as_nanos();
        let part = u32::try_from(part).unwrap_or(u32::MAX).min(PARTS - 1);
        let step = (us.max(1) as f64).ln() / PRECISION.ln();
        // The longest time that fits in a u64 is step 910.
        *self.answers.entry((part, kind, step as u16)).or_default() += 1;
    }

    /// Adds what another client got.
    pub fn add(&mut self, other: &Series) {
        for (at, count) in &other.answers {
            *self.answers.entry(*at).or_default() += count;
        }
    }

    /// One kind of operation over time; parts without an answer are left out.
    #[must_use]
    pub fn points(&self, kind: Kind) -> Vec<Point> {
        (0..PARTS)
            .filter_map(|part| self.point(kind, part))
            .collect()
    }

    fn point(&self, kind: Kind, part: u32) -> Option<Point> {
        let steps: Vec<(u16, u64)> = self
            .answers
            .range((part, kind, 0)..=(part, kind, u16::MAX))
            .map(|((_, _, step), count)| (*step, u64::from(*count)))
            .collect();
        let all: u64 = steps.iter().map(|(_, count)| count).sum();
        let within = |share: f64| {
            let wanted = (all as f64 * share).ceil() as u64;
            let mut seen = 0;
            let reached = steps.iter().find(|(_, count)| {
                seen += count;
                seen >= wanted
            });
            // The middle of a step.
            reached.map(|(step, _)| PRECISION.powf(f64::from(*step) + 0.5) / 1000.0)
        };
        let seconds = self.part.as_secs_f64();
        Some(Point {
            at_seconds: (f64::from(part) + 0.5) * seconds,
            per_second: all as f64 / seconds,
            p50_ms: within(0.5)?,
            p99_ms: within(0.99)?,
            max_ms: within(1.0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each answer belongs to the part of the run in which it came, by its kind; what several clients got adds up.
    #[test]
    fn answers_belong_to_their_part() {
        let started = Instant::now();
        let mut one = Series::new(started, Duration::from_secs(10));
        let mut two = one.clone();
        let at = |ms: u64| started + Duration::from_millis(ms);
        for _ in 0..99 {
            one.answered(Kind::Read, at(250), 1_000);
        }
        two.answered(Kind::Read, at(299), 80_000);
        two.answered(Kind::Read, at(99_000), 500);
        two.answered(Kind::Write, at(250), 7_000);
        one.add(&two);
        let points = one.points(Kind::Read);
        assert_eq!(points.len(), 2, "{points:?}");
        let close = |ms: f64, expected: f64| (ms / expected - 1.0).abs() < 0.06;
        assert!((points[0].at_seconds - 0.25).abs() < 1e-9, "{points:?}");
        assert!((points[0].per_second - 1_000.0).abs() < 1e-6, "{points:?}");
        assert!(
            close(points[0].p50_ms, 1.0) && close(points[0].p99_ms, 1.0),
            "{points:?}"
        );
        assert!(close(points[0].max_ms, 80.0), "{points:?}");
        assert!(
            (points[1].at_seconds - 9.95).abs() < 1e-9,
            "after the end: the last part"
        );
        assert_eq!(one.points(Kind::Write).len(), 1);
    }
}
