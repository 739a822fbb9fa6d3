//! The lease, from both sides.
//!
//! A follower *promises*: from the receipt of an append it counts one full lease, and tells every
//! later candidate what is left. A leader *measures*: from the time it sent the appends that a
//! majority acknowledged it counts a lease that is shortened for drift. As a promise begins after
//! the send and is counted in full, a leader's lease ends before the promises it rests on, as long
//! as each clock's rate stays within the assumed bound. Points in time never leave a node; only
//! durations do.

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
    /// The leader's term.
    pub term: Term,
    /// End on the own clock.
    pub until_us: Micros,
}

/// What a node has promised to leaders, on its own clock. Lost in a crash: until a full lease has
/// passed after one, anything may have been promised to anyone. A node that stops in good order
/// keeps its promises, if the clock they were made on goes on.
#[derive(Debug)]
pub(super) struct Promises {
    /// One slot a leader and term, because several earlier leaders can still hold time.
    open: BTreeMap<(NodeId, Term), Micros>,
    /// End of what a former run of this node may have promised.
    forgotten_until: Micros,
    one_slot: bool,
}

impl Promises {
    pub(super) fn new(forgotten_until: Micros, one_slot: bool) -> Self {
        Promises {
            open: BTreeMap::new(),
            forgotten_until,
            one_slot,
        }
    }

    /// Takes up the promises of the former run of this node.
    pub(super) fn restore(&mut self, kept: &[Promise], now: Micros) {
        for promise in kept {
            let slot = (promise.leader, promise.term);
            let until = self.open.entry(slot).or_default();
            // Whatever a file says, nothing longer is ever promised.
            *until = (*until).max(promise.until_us.min(now.saturating_add(LEASE_US_MAX)));
        }
    }

    /// Until when this node may have made promises that it does not know any more.
    pub(super) fn unknown_until(&self) -> Micros {
        let kept_unknown = self.open.get(&(0, 0)).copied().unwrap_or_default();
        kept_unknown.max(self.forgotten_until)
    }

    /// All that is open at `now`.
    pub(super) fn open(&self, now: Micros) -> Vec<Promise> {
        let forgotten = Promise {
            leader: 0,
            term: 0,
            until_us: self.forgotten_until,
        };
        let open = self.open.iter().map(|(slot, until)| Promise {
            leader: slot.0,
            term: slot.1,
            until_us: *until,
        });
        open.chain([forgotten])
            .filter(|promise| promise.until_us > now)
            .collect()
    }

    /// Extends the promise to the leader of `term`; called before the append is acknowledged.
    pub(super) fn promise(&mut self, leader: NodeId, term: Term, now: Micros, lease_us: Micros) {
        let slot = (leader, term);
        let one_slot = self.one_slot;
        // Bounded: a slot lives for one lease, and terms do not change faster than elections.
        self.open
            .retain(|key, until| *key == slot || (*until > now && !one_slot));
        let until = self.open.entry(slot).or_default();
        *until = (*until).max(now + lease_us);
    }

    /// When the last promise to any leader but `except` ends, on this clock; the one lease that
    /// was `released` for good does not count.
    pub(super) fn open_until(&self, except: NodeId, released: Option<(NodeId, Term)>) -> Micros {
        self.open
            .iter()
            .filter(|(slot, _)| slot.0 != except && Some(**slot) != released)
            .map(|(_, until)| *until)
            .fold(self.forgotten_until, Micros::max)
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

    /// Goal: two earlier leaders are both waited for, the longer one wins.
    #[test]
    fn promises_to_two_leaders_both_count() {
        let mut promises = Promises::new(0, false);
        promises.promise(1, 4, 0, 10 * SECOND);
        promises.promise(2, 5, SECOND, 2 * SECOND);
        assert_eq!(promises.open_until(3, None), 10 * SECOND);
        assert_eq!(promises.open_until(1, None), 3 * SECOND);
        assert_eq!(promises.open_until(3, Some((1, 4))), 3 * SECOND);
        assert_eq!(promises.open_until(3, Some((1, 3))), 10 * SECOND);
    }

    /// Goal: a restarted node reports what is left of a full lease, whoever asks, even where one
    /// lease was released.
    #[test]
    fn restarted_node_reports_a_full_lease() {
        let promises = Promises::new(7 * SECOND, false);
        assert_eq!(promises.open_until(1, Some((2, 3))), 7 * SECOND);
    }

    /// Goal: what a node promised before it stopped in good order counts after it starts again,
    /// also what it did not know any more.
    #[test]
    fn kept_promises_count_after_a_restart() {
        let mut before = Promises::new(3 * SECOND, false);
        before.promise(1, 4, SECOND, 4 * SECOND);
        let mut after = Promises::new(0, false);
        after.restore(&before.open(2 * SECOND), 2 * SECOND);
        assert_eq!(after.open_until(2, None), 5 * SECOND);
        assert_eq!(after.open_until(2, Some((1, 4))), 3 * SECOND, "to anyone");
        assert_eq!(after.open(5 * SECOND), vec![]);
    }

    /// Goal: promises that are over take no room.
    #[test]
    fn ended_promises_are_forgotten() {
        let mut promises = Promises::new(0, false);
        for term in 1..100 {
            promises.promise(term % 5 + 1, term, term * SECOND, 2 * SECOND);
        }
        assert!(promises.open.len() <= 3, "{:?}", promises.open);
    }
}
