//! What a lease read looks at: the store and a gate, shared with the threads that answer clients.
//!
//! The order is what makes it right: take the value, *then* read the clock, *then* check the
//! gate, then reply. A pause between clock and reply is harmless, because the read was already
//! right at the time the clock was read; a pause before it is seen by the check.

use super::{Answer, Query, ReadPath};
use crate::kv::Store;
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
