//! What happened, as values. Rendering them into sentences is the business of others.

use super::{Entry, Index, Micros, NodeId, Term};

/// Something an operator wants to read about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The election timer ran out, or a broken connection stood in for it.
    ElectionStarted {
        /// The term stood for.
        term: Term,
    },
    /// A majority voted for this node.
    BecameLeader {
        /// The term won.
        term: Term,
    },
    /// A new leader found that an older lease may still be alive.
    WaitingForOldLease {
        /// The new leader's term.
        term: Term,
        /// How long at most.
        remaining_us: Micros,
    },
    /// The wait of a new leader is over: what was held back commits.
    OldLeaseOver {
        /// The leader's term.
        term: Term,
        /// Entries whose commit was held back.
        deferred: u64,
    },
    /// A heartbeat round goes out, to keep the lease.
    HeartbeatSent {
        /// The leader's term.
        term: Term,
    },
    /// No majority acknowledged for a whole lease.
    LeaseRenewalFailed {
        /// The term that was led.
        term: Term,
    },
    /// A leader or candidate became a follower.
    SteppedDown {
        /// The term it enters.
        term: Term,
    },
    /// A vote was given.
    VoteGranted {
        /// To whom.
        candidate: NodeId,
        /// In which term.
        term: Term,
    },
    /// A vote was refused.
    VoteDenied {
        /// To whom.
        candidate: NodeId,
        /// In which term.
        term: Term,
    },
    /// An append, with entries or without, was taken in.
    AppendAccepted {
        /// From whom.
        leader: NodeId,
        /// In which term.
        term: Term,
        /// How many entries it brought; none in a heartbeat.
        entries: u64,
        /// The last index it covers.
        last_index: Index,
    },
    /// An append was refused.
    AppendRejected {
        /// From whom.
        leader: NodeId,
        /// The replier's term.
        term: Term,
        /// Index before the first entry that did not fit.
        base_index: Index,
    },
    /// An entry was committed and goes to the state machine.
    Committed {
        /// The entry.
        entry: Entry,
        /// Whether this node leads.
        as_leader: bool,
    },
    /// Leadership is being handed to another node.
    TransferStarted {
        /// Who shall take over.
        target: NodeId,
        /// The term that ends.
        term: Term,
    },
    /// The disk has not answered for a whole lease: the lease is given up.
    DiskStalled {
        /// The term that was led.
        term: Term,
    },
}
