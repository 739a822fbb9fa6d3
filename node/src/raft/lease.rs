//! The lease, from both sides.
//!
//! A follower *promises*: from the receipt of an append it counts one full lease, and tells every
//! later candidate what is left. A leader *measures*: from the time it sent the appends that a
//! majority acknowledged it counts a lease that is shortened for drift. As a promise begins after
//! the send and is counted in full, a leader's lease ends before the promises it rests on, as long
//! as each clock's rate stays within the assumed bound. Points in time never leave a node; only
//! durations do.

use super::run::{Incarnation, Run};
use super::{Micros, NodeId, Term};
use std::collections::BTreeMap;

/// Taken off a leader's lease beside drift: clock granularity and rounding, in microseconds.
pub const LEASE_FLOOR_US: Micros = 10_000;

/// No lease is longer, so no promise is.
pub const LEASE_US_MAX: Micros = 10_000_000;

const MILLION: u128 = 1_000_000;

/// How long a leader may rely on a lease of `lease_us` when every clock may run fast or slow by
/// `max_clock_drift_ppm`: the slowest leader clock against the fastest follower clock. The margin
/// is applied here and nowhere else.
pub fn leader_lease_us(lease_us: Micros, max_clock_drift_ppm: u64) -> Micros {
    let drift = u128::from(max_clock_drift_ppm).min(MILLION);
    let shortened = u128::from(lease_us) * (MILLION - drift) / (MILLION + drift);
    // Never longer than `lease_us`, so it fits.
    (shortened as Micros).saturating_sub(LEASE_FLOOR_US)
}

/// One promise: this node helps nobody to depose the leader of `term` unheard before `until_us` on
/// its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// To whom; 0: not known any more, so to anyone.
    pub leader: NodeId,
    /// Which run of that node; 0: not known.
    pub incarnation: Incarnation,
    /// The leader's term; 0: not known any more.
    pub term: Term,
    /// End on the own clock.
    pub until_us: Micros,
}

impl Promise {
    /// The same with the name of its leader's run, if that was not written beside it and only one of
    /// these can be meant.
    pub(super) fn named_by(&self, names: Option<&[Run]>) -> Promise {
        let of_leader = |run: &&Run| run.node == self.leader;
        let mut named = names.unwrap_or_default().iter().filter(of_leader);
        match (named.next(), named.next()) {
            (Some(run), None) if self.incarnation == 0 => Promise {
                incarnation: run.incarnation,
                ..*self
            },
            _ => *self,
        }
    }

    fn slot(&self) -> Slot {
        let run = Run {
            node: self.leader,
            incarnation: self.incarnation,
        };
        (run, self.term)
    }
}

/// A run of a node, as leader of a term.
pub(super) type Slot = (Run, Term);

/// Promises of one node, or those that a candidate has heard of, each with its end on the own clock.
/// One slot a leader and term, because several earlier leaders can still hold time.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(BTreeMap<Slot, Micros>);

impl Slots {
    /// Takes in a promise; the longer of two to the same counts.
    pub(super) fn add(&mut self, slot: Slot, until_us: Micros) {
        let until = self.0.entry(slot).or_default();
        *until = (*until).max(until_us);
    }

    /// The run has ended: nothing that was promised to it holds any more. Everything else does, that
    /// to a run without a name too. Returns what is gone.
    pub(super) fn waive(&mut self, run: Run, all_of: Waived) -> Vec<(Slot, Micros)> {
        let gone = |slot: &Slot| match all_of {
            Waived::Run => slot.0 == run && run.is_named(),
            Waived::Node => slot.0.node == run.node,
            Waived::Unknown => slot.0 == run || !slot.0.is_named(),
        };
        let slots = self.0.iter().filter(|(slot, _)| gone(slot));
        let waived: Vec<_> = slots.map(|(slot, until)| (*slot, *until)).collect();
        self.0.retain(|slot, _| !gone(slot));
        waived
    }

    /// Those that are not over at `now`.
    pub(super) fn open(&self, now: Micros) -> impl Iterator<Item = (Slot, Micros)> {
        let slots = self.0.iter().map(|(slot, until)| (*slot, *until));
        slots.filter(move |(_, until)| *until > now)
    }

    /// When the last of them ends.
    pub(super) fn until(&self) -> Micros {
        self.0.values().copied().max().unwrap_or(0)
    }
}

/// What the end of a run waives. A test may break that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waived {
    /// What was promised to it.
    Run,
    /// Broken: what was promised to any run of its node.
    Node,
    /// Broken: what was promised to nobody knows whom, too.
    Unknown,
}

/// What a node has promised to leaders, on its own clock. Lost in a crash: until a full lease has
/// passed after one, anything may have been promised, to those whom the disk names, or to anyone. A
/// node that stops in good order keeps its promises, if the clock they were made on goes on.
#[derive(Debug)]
pub(super) struct Promises {
    open: Slots,
    one_slot: bool,
}

impl Promises {
    pub(super) fn new(one_slot: bool) -> Self {
        Promises {
            open: Slots::default(),
            one_slot,
        }
    }

    /// The former run may have promised something until then: to these, or, `None`, to anyone.
    pub(super) fn forget(&mut self, until_us: Micros, names: Option<&[Run]>) {
        for run in names.unwrap_or(&[Run::UNKNOWN]) {
            self.open.add((*run, 0), until_us);
        }
    }

    /// Takes up the promises of the former run of this node.
    pub(super) fn restore(&mut self, kept: &[Promise], now: Micros) {
        for promise in kept {
            // Whatever a file says, nothing longer is ever promised.
            let until_us = promise.until_us.min(now.saturating_add(LEASE_US_MAX));
            self.open.add(promise.slot(), until_us);
        }
    }

    /// Until when this node may have made promises that it does not know any more.
    pub(super) fn unknown_until(&self) -> Micros {
        let slots = self.open.0.iter();
        let forgotten = slots.filter(|(slot, _)| slot.1 == 0);
        forgotten.map(|(_, until)| *until).max().unwrap_or(0)
    }

    /// All that is open at `now`.
    pub(super) fn open(&self, now: Micros) -> Vec<Promise> {
        let open = self.open.0.iter().map(|(slot, until)| Promise {
            leader: slot.0.node,
            incarnation: slot.0.incarnation,
            term: slot.1,
            until_us: *until,
        });
        open.filter(|promise| promise.until_us > now).collect()
    }

    /// To whom something is promised that is not over at `now`, in order. `None`: not all have a name.
    pub(super) fn names(&self, now: Micros) -> Option<Vec<Run>> {
        let open = self.open.0.iter().filter(|(_, until)| **until > now);
        let mut runs = Vec::new();
        for (slot, _) in open {
            if !slot.0.is_named() {
                return None;
            }
            runs.push(slot.0);
        }
        runs.dedup();
        Some(runs)
    }

    /// Extends the promise to the leader of `term`; called before the append is acknowledged.
    pub(super) fn promise(&mut self, leader: Run, term: Term, now: Micros, lease_us: Micros) {
        let slot = (leader, term);
        let one_slot = self.one_slot;
        // Bounded: a slot lives for one lease, and terms do not change faster than elections. What a
        // former run promised is kept beside them.
        self.open
            .0
            .retain(|key, until| *key == slot || *until > now && (!one_slot || key.1 == 0));
        self.open.add(slot, now + lease_us);
    }

    /// The run has ended. Returns what was promised to it.
    pub(super) fn waive(&mut self, run: Run, waived: Waived) -> Vec<(Slot, Micros)> {
        self.open.waive(run, waived)
    }

    /// The leader of this term gave its lease up for good, so what was promised to it holds no more; what was
    /// promised to nobody knows which leader of which term does.
    pub(super) fn waive_released(&mut self, leader: NodeId, term: Term) {
        let is_that = |slot: &Slot| (slot.0.node, slot.1) == (leader, term);
        self.open.0.retain(|slot, _| term == 0 || !is_that(slot));
    }

    /// The promises to any leader but `except`, on this clock. A former run of that node is another leader: it may
    /// live on without its disk. Only where one of the two has no name they count as one.
    pub(super) fn owed(&self, except: Run) -> Slots {
        let is_other = |run: Run| {
            let named = run.is_named() && except.is_named();
            run.node != except.node || named && run != except
        };
        let slots = self.open.0.iter().filter(|(slot, _)| is_other(slot.0));
        Slots(slots.map(|(slot, until)| (*slot, *until)).collect())
    }

    /// When the last of those ends.
    pub(super) fn open_until(&self, except: Run) -> Micros {
        self.owed(except).until()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    /// Goal: the leader's lease is over before any promise it rests on, at the worst drift.
    #[test]
    fn shortened_lease_ends_before_the_fastest_promise() {
        for lease_us in [2 * SECOND, 5 * SECOND, 10 * SECOND] {
            for drift in [0u64, 1, 5_000, 20_000, 100_000] {
                let lease = leader_lease_us(lease_us, drift) as f64;
                // True durations: the leader's clock slow, the follower's fast.
                let leader_true = lease / (1.0 - drift as f64 / 1e6);
                let promise_true = lease_us as f64 / (1.0 + drift as f64 / 1e6);
                assert!(leader_true < promise_true, "{lease_us} {drift}");
            }
        }
    }

    fn run(node: NodeId, incarnation: Incarnation) -> Run {
        Run { node, incarnation }
    }

    /// Goal: two earlier leaders are both waited for, the longer one wins.
    #[test]
    fn promises_to_two_leaders_both_count() {
        let mut promises = Promises::new(false);
        promises.promise(run(1, 0), 4, 0, 10 * SECOND);
        promises.promise(run(2, 0), 5, SECOND, 2 * SECOND);
        assert_eq!(promises.open_until(run(3, 0)), 10 * SECOND);
        assert_eq!(promises.open_until(run(1, 0)), 3 * SECOND);
    }

    /// Goal: one lease that was given up for good is not waited for any more, by nobody; others are, of the same
    /// node too.
    #[test]
    fn a_lease_that_was_given_up_waives_one_promise() {
        let mut promises = Promises::new(false);
        promises.promise(run(1, 8), 4, 0, 10 * SECOND);
        promises.promise(run(1, 9), 6, 0, 5 * SECOND);
        promises.promise(run(2, 7), 5, 0, 3 * SECOND);
        promises.waive_released(1, 3);
        promises.waive_released(2, 4);
        promises.waive_released(2, 6);
        assert_eq!(promises.open_until(run(3, 0)), 10 * SECOND);
        promises.waive_released(1, 4);
        assert_eq!(promises.open_until(run(3, 0)), 5 * SECOND);
        promises.waive_released(1, 6);
        assert_eq!(promises.open_until(run(3, 0)), 3 * SECOND);
    }

    /// Goal: a restarted node reports what is left of a full lease, whoever asks, even where one
    /// lease was released; where its disk names to whom it may be bound, to those alone.
    #[test]
    fn restarted_node_reports_a_full_lease() {
        let mut promises = Promises::new(false);
        promises.forget(7 * SECOND, None);
        promises.waive_released(2, 3);
        promises.waive_released(0, 0);
        assert_eq!(promises.open_until(run(1, 0)), 7 * SECOND);
        assert_eq!(promises.names(0), None);
        let mut named = Promises::new(false);
        named.forget(7 * SECOND, Some(&[run(2, 9)]));
        named.waive_released(2, 3);
        named.waive_released(2, 0);
        assert_eq!(named.open_until(run(1, 0)), 7 * SECOND);
        assert_eq!(named.open_until(run(2, 9)), 0, "to itself");
        assert_eq!(named.names(0), Some(vec![run(2, 9)]));
        let mut nobody = Promises::new(false);
        nobody.forget(7 * SECOND, Some(&[]));
        assert_eq!(nobody.open_until(run(1, 0)), 0);
    }

    /// Goal: a former run of a candidate's node is another leader, which may live on without its disk;
    /// where one of the two has no name they count as one.
    #[test]
    fn a_former_run_of_the_candidate_is_another_leader() {
        let mut promises = Promises::new(false);
        promises.promise(run(1, 8), 4, 0, 2 * SECOND);
        assert_eq!(promises.open_until(run(1, 8)), 0);
        assert_eq!(promises.open_until(run(1, 9)), 2 * SECOND);
        assert_eq!(promises.open_until(run(1, 0)), 0);
        let mut nameless = Promises::new(false);
        nameless.promise(run(1, 0), 4, 0, 2 * SECOND);
        assert_eq!(nameless.open_until(run(1, 9)), 0);
    }

    /// Goal: the end of a run waives what was promised to it, in all its terms, and nothing else: not to
    /// another run of the same node, not to a run without a name.
    #[test]
    fn an_end_waives_what_was_promised_to_that_run() {
        let mut promises = Promises::new(false);
        for (node, incarnation, term) in [(1, 8, 4), (1, 8, 6), (1, 9, 7), (1, 0, 5), (2, 8, 8)] {
            promises.promise(run(node, incarnation), term, 0, SECOND);
        }
        promises.forget(2 * SECOND, None);
        let gone = promises.waive(run(1, 8), Waived::Run);
        let terms: Vec<Term> = gone.iter().map(|(slot, _)| slot.1).collect();
        assert_eq!(terms, [4, 6]);
        assert_eq!(promises.open(0).len(), 4);
        assert_eq!(
            promises.waive(run(1, 0), Waived::Run),
            [],
            "it names nobody"
        );
    }

    /// Goal: what a node promised before it stopped in good order counts after it starts again,
    /// also what it did not know any more.
    #[test]
    fn kept_promises_count_after_a_restart() {
        let mut before = Promises::new(false);
        before.forget(3 * SECOND, None);
        before.promise(run(1, 0), 4, SECOND, 4 * SECOND);
        let mut after = Promises::new(false);
        after.restore(&before.open(2 * SECOND), 2 * SECOND);
        assert_eq!(after.open_until(run(2, 0)), 5 * SECOND);
        after.waive_released(1, 4);
        assert_eq!(after.open_until(run(2, 0)), 3 * SECOND, "to anyone");
        assert_eq!(after.open(5 * SECOND), vec![]);
    }

    /// Goal: promises that are over take no room.
    #[test]
    fn ended_promises_are_forgotten() {
        let mut promises = Promises::new(false);
        for term in 1..100 {
            promises.promise(run(term % 5 + 1, 0), term, term * SECOND, 2 * SECOND);
        }
        assert!(promises.open.0.len() <= 3, "{:?}", promises.open);
    }
    /// Goal: a promise that is over names nobody; one that is open names its leader, and where that has no name
    /// there is nothing to believe.
    #[test]
    fn open_promises_name_their_leaders() {
        let mut promises = Promises::new(false);
        promises.promise(run(1, 8), 4, 0, SECOND);
        promises.promise(run(2, 9), 5, 0, 2 * SECOND);
        assert_eq!(promises.names(0), Some(vec![run(1, 8), run(2, 9)]));
        assert_eq!(promises.names(SECOND), Some(vec![run(2, 9)]));
        assert_eq!(
            (promises.open(0).len(), promises.open(SECOND).len()),
            (2, 1)
        );
        let owed = promises.owed(run(9, 1));
        assert_eq!((owed.open(0).count(), owed.open(SECOND).count()), (2, 1));
        promises.promise(run(3, 0), 6, SECOND, 2 * SECOND);
        assert_eq!(promises.names(SECOND), None);
        assert_eq!(promises.names(3 * SECOND), Some(vec![]));
    }

    /// Goal: a promise that has the name of its leader's run keeps that; one that has none gets it where only
    /// one can be meant.
    #[test]
    fn a_kept_promise_gets_the_only_name_that_it_can_have() {
        let promise = |incarnation| Promise {
            leader: 1,
            incarnation,
            term: 4,
            until_us: SECOND,
        };
        let names =
            |incarnation, runs: &[Run]| promise(incarnation).named_by(Some(runs)).incarnation;
        assert_eq!(names(0, &[run(1, 8), run(2, 9)]), 8);
        assert_eq!(names(5, &[run(1, 8), run(2, 9)]), 5);
        assert_eq!(names(0, &[run(1, 8), run(1, 9)]), 0);
        assert_eq!(names(0, &[run(2, 9)]), 0);
        assert_eq!(promise(0).named_by(None), promise(0));
    }
}
