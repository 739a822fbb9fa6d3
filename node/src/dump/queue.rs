//! The bounded queue between the node and the thread that writes.

use super::happening::{Frequent, Happening};
use crate::raft::Index;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Most happenings that wait to be written; further ones are counted and dropped.
const QUEUE_MAX: usize = 8192;
/// Frequent happenings written one by one: so many at once...
const SINGLE_LINES_BURST: f64 = 1000.0;
/// ...and so many a second. Beyond, they are folded.
const SINGLE_LINES_PER_SECOND: f64 = 500.0;
/// A folded line covers at least this much time.
const FOLD: Duration = Duration::from_millis(250);

/// A happening and when it was told.
pub(super) type Timed = (SystemTime, Happening);

/// Several happenings of one kind in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) kind: Frequent,
    pub(super) count: u64,
    pub(super) first_index: Index,
    pub(super) last_index: Index,
    pub(super) first_time: SystemTime,
    pub(super) last_time: SystemTime,
}

/// What the writer takes out in one go.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) happenings: VecDeque<Timed>,
    pub(super) runs: Vec<Run>,
    pub(super) dropped: u64,
    pub(super) closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    happenings: VecDeque<Timed>,
    /// One for each kind at most, where the kind names leader and term: elections are rarer than takes.
    runs: Vec<Run>,
    dropped: u64,
    closed: bool,
    allowance: Allowance,
}

/// How many frequent happenings may be written one by one at the moment.
#[derive(Debug)]
struct Allowance {
    lines: f64,
    since: Option<SystemTime>,
}

impl Default for Allowance {
    fn default() -> Self {
        Allowance {
            lines: SINGLE_LINES_BURST,
            since: None,
        }
    }
}

impl Allowance {
    fn take(&mut self, now: SystemTime) -> bool {
        let since = *self.since.get_or_insert(now);
        // A wall clock that was set back gives nothing, and starts to give again from there.
        let elapsed = now.duration_since(since).unwrap_or_default();
        let gained = elapsed.as_secs_f64() * SINGLE_LINES_PER_SECOND;
        self.lines = (self.lines + gained).min(SINGLE_LINES_BURST);
        self.since = Some(now);
        let granted = self.lines >= 1.0;
        if granted {
            self.lines -= 1.0;
        }
        granted
    }
}

impl Queue {
    pub(super) fn push_all(&self, now: SystemTime, happenings: impl Iterator<Item = Happening>) {
        let mut state = self.lock();
        let was_empty = state.happenings.is_empty() && state.runs.is_empty();
        for happening in happenings {
            state.push(now, happening);
        }
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits until there is something, at most as long as a run may take to fill.
    pub(super) fn wait(&self) {
        let state = self.lock();
        let idle = |state: &mut State| state.happenings.is_empty() && !state.closed;
        if state.runs.is_empty() {
            let waited = self
                .filled
                .wait_while(state, |state| idle(state) && state.runs.is_empty());
            drop(waited);
        } else {
            let waited = self.filled.wait_timeout_while(state, FOLD, idle);
            drop(waited);
        }
    }

    /// Takes out what may be written now: runs only once they cover some time.
    pub(super) fn take(&self, now: SystemTime) -> Batch {
        let mut state = self.lock();
        let closed = state.closed;
        let due =
            |run: &mut Run| closed || now.duration_since(run.first_time).unwrap_or(FOLD) >= FOLD;
        Batch {
            happenings: std::mem::take(&mut state.happenings),
            runs: state.runs.extract_if(.., due).collect(),
            dropped: std::mem::take(&mut state.dropped),
            closed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process, so a poisoned lock is never seen outside tests.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, now: SystemTime, happening: Happening) {
        if let Some((kind, index)) = happening.frequent() {
            let open = self.runs.iter_mut().find(|run| run.kind == kind);
            match open {
                Some(run) => return run.extend(now, index),
                None if !self.allowance.take(now) => {
                    return self.runs.push(Run::new(kind, now, index));
                }
                None => {}
            }
        }
        if self.happenings.len() < QUEUE_MAX {
            self.happenings.push_back((now, happening));
        } else {
            self.dropped += 1;
        }
    }
}

impl Run {
    fn new(kind: Frequent, now: SystemTime, index: Index) -> Self {
        Run {
            kind,
            count: 1,
            first_index: index,
            last_index: index,
            first_time: now,
            last_time: now,
        }
    }

    fn extend(&mut self, now: SystemTime, index: Index) {
        self.count += 1;
        self.last_index = index;
        self.last_time = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::Asked;
    use crate::raft::Event;
    use std::time::UNIX_EPOCH;

    fn at_ms(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    fn got() -> Happening {
        Happening::Received(Asked::Get("k".into()))
    }

    fn push(queue: &Queue, ms: u64, happening: Happening) {
        queue.push_all(at_ms(ms), std::iter::once(happening));
    }

    // A flood of one kind costs a bounded number of lines, loses nothing silently, and leaves
    // rarer kinds as they are.
    #[test]
    fn a_flood_is_folded() {
        let queue = Queue::default();
        for _ in 0..100_000 {
            push(&queue, 1000, got());
        }
        push(
            &queue,
            1000,
            Happening::Raft(Event::BecameLeader { term: 3 }),
        );
        let batch = queue.take(at_ms(1001));
        assert_eq!(batch.happenings.len(), SINGLE_LINES_BURST as usize + 1);
        assert!(batch.runs.is_empty(), "a run covers some time");
        push(&queue, 1100, got());
        let batch = queue.take(at_ms(1300));
        assert!(batch.happenings.is_empty());
        assert_eq!(batch.runs[0].count, 100_001 - SINGLE_LINES_BURST as u64);
        assert_eq!((batch.runs.len(), batch.dropped), (1, 0));
        push(&queue, 5000, got());
        assert_eq!(queue.take(at_ms(5000)).happenings.len(), 1, "calm again");
    }

    // A run is of one leader and one term: who reads it must know to whom was promised.
    #[test]
    fn runs_of_two_leaders_stay_apart() {
        let accepted = |leader, term| {
            Happening::Raft(Event::AppendAccepted {
                leader,
                term,
                entries: 0,
                last_index: 7,
                sequence: 1,
                promise_us: 2_000_000,
            })
        };
        let queue = Queue::default();
        for _ in 0..SINGLE_LINES_BURST as usize + 3 {
            push(&queue, 1000, accepted(2, 4));
        }
        push(&queue, 1000, accepted(3, 5));
        let runs = queue.take(at_ms(2000)).runs;
        let counts: Vec<u64> = runs.iter().map(|run| run.count).collect();
        assert_eq!(counts, [3, 1]);
        let fields = runs[1].kind.common_fields();
        assert_eq!(fields, " term=5 peer=3 promise_us=2000000");
    }

    // What can't be folded is bounded too, and what is lost is counted.
    #[test]
    fn a_flood_of_the_rare_is_counted() {
        let queue = Queue::default();
        for _ in 0..QUEUE_MAX + 7 {
            push(&queue, 1000, Happening::SendFailed(2));
        }
        let batch = queue.take(at_ms(1000));
        assert_eq!((batch.happenings.len(), batch.dropped), (QUEUE_MAX, 7));
    }

    // Nothing told before the end is left behind.
    #[test]
    fn closing_gives_out_the_rest() {
        let queue = Queue::default();
        for _ in 0..SINGLE_LINES_BURST as usize + 5 {
            push(&queue, 1000, got());
        }
        queue.close();
        queue.wait();
        let batch = queue.take(at_ms(1000));
        assert_eq!(batch.runs[0].count, 5);
        assert!(batch.closed);
    }
}
