//! What happened, as values. Rendering them into sentences is the business of others.

use super::{Entry, Index, Micros, NodeId, Run, SnapshotId, Term};

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
    /// A run of a node has ended for certain.
    RunEnded {
        /// Which.
        run: Run,
        /// The own term.
        term: Term,
    },
    /// A promise holds no more, because the run that it was made to has ended.
    PromiseWaived {
        /// To whom.
        leader: Run,
        /// As leader of which term. 0: not known.
        term: Term,
        /// What was left of it.
        remaining_us: Micros,
    },
    /// A new leader need not wait any more, or not at all: those for whom it would have waited longest
    /// have ended.
    WaitWaived {
        /// The leader's term.
        term: Term,
        /// So much longer it would have waited.
        remaining_us: Micros,
    },
    /// A heartbeat round goes out, to keep the lease.
    HeartbeatSent {
        /// The leader's term.
        term: Term,
        /// The first append of the round has this sequence, or a higher one.
        sequence: u64,
        /// What is left of the lease as the round begins; 0: there is none.
        lease_us: Micros,
        /// The newest append that each peer has acknowledged, by its sequence; none: 0.
        acknowledged: Vec<(NodeId, u64)>,
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
        /// What the candidate is told: how long another leader may still rely on this node.
        promise_us: Micros,
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
        /// Which of the leader's appends in this term.
        sequence: u64,
        /// What this node promised the leader, from now on.
        promise_us: Micros,
    },
    /// An append was refused.
    AppendRejected {
        /// From whom.
        leader: NodeId,
        /// The replier's term.
        term: Term,
        /// Index before the first entry that did not fit.
        base_index: Index,
        /// Which of the leader's appends in its term.
        sequence: u64,
        /// What this node promised the leader, from now on; 0 where its term is over.
        promise_us: Micros,
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
    /// The lease was given up for good: whoever takes over need not wait for it.
    LeaseReleased {
        /// Who takes over.
        target: NodeId,
        /// The term that ends.
        term: Term,
    },
    /// A peer lacks entries that it had acknowledged: its log was damaged, or its directory was put
    /// back from an older copy.
    PeerLostEntries {
        /// The peer.
        peer: NodeId,
        /// The leader's term.
        term: Term,
        /// It had acknowledged entries up to here.
        acknowledged: Index,
        /// Its log ends here.
        last_index: Index,
    },
    /// A peer lacks entries that the log does not have any more: it gets the snapshot.
    SnapshotSent {
        /// The peer.
        peer: NodeId,
        /// The leader's term.
        term: Term,
        /// What is sent.
        snapshot: SnapshotId,
    },
    /// A snapshot that was received took the place of the own log.
    SnapshotInstalled {
        /// Of its last entry.
        term: Term,
        /// Which one.
        snapshot: SnapshotId,
    },
    /// The own state was written down, and what it holds left the log.
    SnapshotTaken {
        /// Of its last entry.
        term: Term,
        /// Which one.
        snapshot: SnapshotId,
    },
    /// What was written down of the own state is not on disk any more as it was written. The next one
    /// takes its place.
    SnapshotDamaged {
        /// The own term.
        term: Term,
        /// Which one.
        snapshot: SnapshotId,
    },
    /// The own state should have been written down at this entry, and was not: too much changed
    /// meanwhile, or there was no room. The next one comes by itself.
    SnapshotSkipped {
        /// The own term.
        term: Term,
        /// The entry.
        index: Index,
    },
    /// A peer has come to another state than the others.
    StateDiffers {
        /// The peer.
        peer: NodeId,
        /// The leader's term.
        term: Term,
        /// After this entry.
        index: Index,
        /// A majority has one state, and the peer another: it ends. Otherwise nobody knows who is right.
        agreed: bool,
    },
    /// A peer said something that cannot be, and it was ignored.
    Implausible {
        /// The peer.
        peer: NodeId,
        /// The own term.
        term: Term,
        /// An index beyond the own log that it acknowledged.
        acknowledged: Index,
    },
    /// The disk has not answered for a whole lease: the lease is given up.
    DiskStalled {
        /// The term that was led.
        term: Term,
    },
}
