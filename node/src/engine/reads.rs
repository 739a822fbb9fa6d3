//! What a lease read looks at: the store and a gate, shared with the threads that answer clients.
//!
//! The order is what makes it right: take the value, *then* read the clock, *then* check the
//! gate, then reply. A pause between clock and reply is harmless, because the read was already
//! right at the time the clock was read; a pause before it is seen by the check.

use super::{Answer, Query, ReadPath};
use crate::kv::{ExportStep, Store, Walk};
use crate::raft::{Index, Micros, NodeId, Role, Term};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether, until when and what a node may answer from its own memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadGate {
    /// What the node is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it believes to lead.
    pub leader: Option<NodeId>,
    /// Leader: end of the own lease on the own clock. 0: no lease.
    pub lease_until_us: Micros,
    /// Leader: an entry of the own term is committed and applied.
    pub own_term_applied: bool,
    /// New leader, while an older lease may be alive and inherited reads are on: the keys that
    /// entries above the commit index with an earlier term touch.
    pub limbo: Option<Arc<HashSet<Arc<str>>>>,
    /// Leader: an older leader's lease may be alive until then. 0: over.
    pub old_lease_until_us: Micros,
}

/// The store and the gate in front of it.
#[derive(Debug, Default)]
pub struct ReadView {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) gate: ReadGate,
}

/// What became of a lease read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseRead {
    /// Answered.
    Done {
        /// What was found.
        answer: Answer,
        /// The state that was read.
        applied_index: Index,
        /// Under the own lease, or while an older one may be alive.
        path: ReadPath,
    },
    /// This node leads but may not answer yet: hand the request to the engine, which waits.
    Wait,
    /// Ask the leader.
    NotLeader {
        /// The believed leader.
        leader: Option<NodeId>,
    },
}

impl ReadView {
    /// Answers a read under the lease, if that is allowed at the time that `clock` gives. The
    /// clock is read after the value was taken, never before.
    pub fn lease_read(&self, query: &Query, clock: impl FnOnce() -> Micros) -> LeaseRead {
        let (answer, applied_index, gate) = {
            let inner = self.lock();
            (
                inner.store.read(query),
                inner.store.applied_index(),
                inner.gate.clone(),
            )
        };
        match gate.permits(query, clock()) {
            Permit::Read(path) => LeaseRead::Done {
                answer,
                applied_index,
                path,
            },
            Permit::Wait => LeaseRead::Wait,
            Permit::NotLeader => LeaseRead::NotLeader {
                leader: gate.leader,
            },
        }
    }

    /// Answers from this node's own state, however old.
    pub fn stale_read(&self, query: &Query) -> (Answer, Index) {
        let inner = self.lock();
        (inner.store.read(query), inner.store.applied_index())
    }

    /// Goes on with a backup: about so many records.
    pub fn backup_next(&self, walk: Walk, most: usize) -> ExportStep {
        self.lock().store.backup_next(walk, most)
    }

    /// Gives a backup up, if it is under way.
    pub fn end_backup(&self, walk: Walk) {
        self.lock().store.end_backup(walk);
    }

    /// The gate as it is now.
    pub fn gate(&self) -> ReadGate {
        self.lock().gate.clone()
    }

    /// Runs a closure on the store: for status and tests.
    pub fn with_store<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.lock().store)
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic while the lock is held ends the process (the node aborts on panic), so a
        // poisoned lock is never seen outside tests.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Permit {
    Read(ReadPath),
    Wait,
    NotLeader,
}

impl ReadGate {
    /// Whether a read that waits should look again.
    pub(super) fn opens(&self, query: &Query, now: Micros) -> bool {
        matches!(self.permits(query, now), Permit::Read(_))
    }

    fn permits(&self, query: &Query, now: Micros) -> Permit {
        if self.role != Role::Leader {
            return Permit::NotLeader;
        }
        if now >= self.lease_until_us {
            return Permit::Wait;
        }
        if self.own_term_applied {
            return Permit::Read(ReadPath::Lease);
        }
        match &self.limbo {
            Some(limbo) if !touches(limbo, query) => Permit::Read(ReadPath::Inherited),
            _ => Permit::Wait,
        }
    }
}

/// Whether a read could see what an entry in limbo changes. A range must touch none of them.
fn touches(limbo: &HashSet<Arc<str>>, query: &Query) -> bool {
    match query {
        Query::Get { key } => limbo.contains(key),
        Query::List { prefix, .. } => limbo.iter().any(|key| key.starts_with(&**prefix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_END: Micros = 1_000;

    fn get(key: &str) -> Query {
        Query::Get { key: key.into() }
    }

    fn list(prefix: &str) -> Query {
        Query::List {
            prefix: prefix.into(),
            after: None,
            limit: 10,
        }
    }

    fn leader(own_term_applied: bool, limbo: Option<&[&str]>) -> ReadGate {
        let keys = |limbo: &[&str]| limbo.iter().map(|key| Arc::from(*key)).collect();
        ReadGate {
            role: Role::Leader,
            term: 2,
            leader: Some(1),
            lease_until_us: LEASE_END,
            own_term_applied,
            limbo: limbo.map(|limbo| Arc::new(keys(limbo))),
            old_lease_until_us: 0,
        }
    }

    /// What the gate says, in a word.
    fn verdict(gate: &ReadGate, query: &Query, now: Micros) -> &'static str {
        match gate.permits(query, now) {
            Permit::Read(ReadPath::Lease) => "lease",
            Permit::Read(ReadPath::Inherited) => "inherited",
            Permit::Read(path) => panic!("no way to read under a lease: {path:?}"),
            Permit::Wait => "wait",
            Permit::NotLeader => "not leader",
        }
    }

    /// Goal: only who leads answers, only while its own lease lives, and only what no entry in
    /// limbo can touch: whatever the other conditions say.
    #[test]
    fn a_read_needs_all_of_its_conditions() {
        let (before, end) = (LEASE_END - 1, LEASE_END);
        let limbo: Option<&[&str]> = Some(&["k/1"]);
        let table = [
            (leader(true, None), get("k/1"), before, "lease"),
            (leader(true, None), get("k/1"), end, "wait"),
            (leader(true, None), get("k/1"), end + 1, "wait"),
            (leader(false, None), get("k/2"), before, "wait"),
            (leader(false, limbo), get("k/2"), before, "inherited"),
            (leader(false, limbo), get("k/2"), end, "wait"),
            (leader(false, limbo), get("k/1"), before, "wait"),
            (leader(false, limbo), list("k/"), before, "wait"),
            (leader(false, limbo), list(""), before, "wait"),
            (leader(false, limbo), list("k/1"), before, "wait"),
            (leader(false, limbo), list("k/2"), before, "inherited"),
            (leader(false, limbo), list("k/11"), before, "inherited"),
            (leader(true, limbo), get("k/1"), before, "lease"),
        ];
        for (gate, query, now, expected) in table {
            assert_eq!(verdict(&gate, &query, now), expected, "{query:?} {gate:?}");
            assert_eq!(
                gate.opens(&query, now),
                !["wait", "not leader"].contains(&expected),
                "{query:?} {gate:?}"
            );
            for role in [Role::Follower, Role::Candidate] {
                let gate = ReadGate {
                    role,
                    ..gate.clone()
                };
                assert_eq!(verdict(&gate, &query, now), "not leader", "{gate:?}");
            }
        }
    }

    /// Goal: the value and the gate are taken before the clock is read, and nothing is held up
    /// meanwhile: a reader that sleeps between the two must find its lease over, not another one.
    #[test]
    fn the_value_is_taken_before_the_clock_is_read() {
        let view = ReadView::default();
        let set = |index, value: &str| {
            let operation = crate::command::Operation::Set {
                key: "k".into(),
                value: value.into(),
            };
            let request = None;
            let write = crate::command::Write { request, operation };
            let mut inner = view.lock();
            inner
                .store
                .apply(index, &crate::command::Command::Write(write));
        };
        set(1, "old");
        view.lock().gate = leader(true, None);
        let read_at = |index, now| {
            view.lease_read(&get("k"), || {
                set(index, "new");
                view.lock().gate.lease_until_us = 9 * LEASE_END;
                now
            })
        };
        let done = LeaseRead::Done {
            answer: Answer::Value(Some("old".into())),
            applied_index: 1,
            path: ReadPath::Lease,
        };
        assert_eq!(read_at(2, LEASE_END - 1), done);
        view.lock().gate = leader(true, None);
        assert_eq!(read_at(3, LEASE_END), LeaseRead::Wait);
    }

    /// Goal: who does not lead names the leader that it believes in.
    #[test]
    fn who_does_not_lead_names_the_leader() {
        let view = ReadView::default();
        view.lock().gate.leader = Some(3);
        let leader = Some(3);
        assert_eq!(
            view.lease_read(&get("k"), || 0),
            LeaseRead::NotLeader { leader }
        );
    }
}
