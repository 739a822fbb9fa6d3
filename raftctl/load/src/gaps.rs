//! How long nobody got an answer. Pure: whoever counts says what time it is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::tally::Kind;

/// The time between two answers to any of the clients, of reads and of writes apart.
#[derive(Debug)]
pub struct Gaps(Mutex<State>);

#[derive(Debug)]
struct State {
    begun: Instant,
    reads: Silence,
    writes: Silence,
    failures: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Instant,
    longest: Duration,
    answers: u64,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Silence {
            since: now,
            longest: Duration::ZERO,
            answers: 0,
        }
    }

    /// Another moment that ends a silence; those of two threads may come in the wrong order.
    fn ends(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.since);
        self.longest = self.longest.max(gap);
        self.since = self.since.max(now);
    }
}

/// What one stretch of time held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// All of it.
    pub lasted: Duration,
    /// The longest time without the answer to a read.
    pub reads: Duration,
    /// The longest time without the answer to a write.
    pub writes: Duration,
    /// How many answers there were to reads, and to writes.
    pub answers: [u64; 2],
    /// Operations that failed though they were sent again as long as a client does, by reason.
    pub failures: BTreeMap<&'static str, u64>,
}

impl Gaps {
    /// Nothing was answered yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Gaps(Mutex::new(State {
            begun: now,
            reads: Silence::new(now),
            writes: Silence::new(now),
            failures: BTreeMap::new(),
        }))
    }

    /// A stretch begins.
    pub fn begin(&self, now: Instant) {
        let mut state = self.state();
        state.begun = now;
        (state.reads, state.writes) = (Silence::new(now), Silence::new(now));
        state.failures.clear();
    }

    /// An operation has its answer.
    pub fn answered(&self, kind: Kind, now: Instant) {
        let mut state = self.state();
        let silence = match kind {
            Kind::Read => &mut state.reads,
            Kind::Write => &mut state.writes,
        };
        silence.ends(now);
        silence.answers += 1;
    }

    /// An operation has failed.
    pub fn failed(&self, why: &'static str) {
        *self.state().failures.entry(why).or_default() += 1;
    }

    /// How long the present silence lasts: of reads, of writes.
    #[must_use]
    pub fn present(&self, now: Instant) -> [Duration; 2] {
        let state = self.state();
        [&state.reads, &state.writes].map(|one| now.saturating_duration_since(one.since))
    }

    /// The stretch is over: a silence that lasts counts up to now.
    #[must_use]
    pub fn end(&self, now: Instant) -> Stretch {
        let mut state = self.state();
        state.reads.ends(now);
        state.writes.ends(now);
        Stretch {
            lasted: now.saturating_duration_since(state.begun),
            reads: state.reads.longest,
            writes: state.writes.longest,
            answers: [state.reads.answers, state.writes.answers],
            failures: state.failures.clone(),
        }
    }

    /// Nothing panics while the lock is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The longest time between two answers counts, and so does the time before the first and after the last
    // one; reads fill no gap of writes. What was before the stretch is forgotten.
    #[test]
    fn the_longest_silence_counts() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let gaps = Gaps::new(start);
        gaps.answered(Kind::Read, at(900));
        gaps.failed("no leader");
        gaps.begin(at(1000));
        for ms in [1010, 1050, 1040, 1060] {
            gaps.answered(Kind::Read, at(ms));
        }
        gaps.answered(Kind::Write, at(1025));
        assert_eq!(gaps.present(at(1065)), [5, 40].map(Duration::from_millis));
        gaps.failed("timeout");
        let stretch = gaps.end(at(1070));
        let expected = Stretch {
            lasted: Duration::from_millis(70),
            reads: Duration::from_millis(40),
            writes: Duration::from_millis(45),
            answers: [4, 1],
            failures: [("timeout", 1)].into(),
        };
        assert_eq!(stretch, expected);
    }
}
