//! What nodes say to each other: one variant a message, named fields, no wire format.

use super::{Entry, Incarnation, Index, NodeId, Run, SnapshotId, Term};
use std::sync::Arc;

/// A message between two nodes. Sender and receiver stand beside it, not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Entries and heartbeat in one (AppendEntries, Raft paper figure 2). Without entries it is a
    /// heartbeat. Either kind asks for a promise of one lease.
    Append {
        /// The leader's term.
        term: Term,
        /// Index just before the first entry.
        base_index: Index,
        /// Term of the entry at `base_index`.
        base_term: Term,
        /// Entries that follow `base_index`; may be none.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit_index: Index,
        /// How long the receiver promises, from its receipt.
        lease_ms: u64,
        /// Rises with each append of this leader in this term; the reply echoes it.
        sequence: u64,
        /// Which run of the leader's node it is to which the receiver promises.
        incarnation: Incarnation,
    },
    /// Answer to [`Message::Append`].
    AppendReply {
        /// The replier's term.
        term: Term,
        /// Echo of the append's sequence: tells the leader which send time was acknowledged.
        sequence: u64,
        /// What became of it.
        outcome: AppendOutcome,
    },
    /// A piece of a snapshot, for a follower that lacks what the leader's log does not have any more
    /// (InstallSnapshot, Raft paper figure 13). Asks for a promise as an append does.
    InstallSnapshot {
        /// The leader's term.
        term: Term,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Where in it the piece stands.
        offset: u64,
        /// The piece.
        data: Arc<[u8]>,
        /// How long the receiver promises, from its receipt.
        lease_ms: u64,
        /// One of the numbers that appends have.
        sequence: u64,
        /// As in an append.
        incarnation: Incarnation,
    },
    /// Answer to [`Message::InstallSnapshot`].
    InstallReply {
        /// The replier's term.
        term: Term,
        /// Echo of the piece's sequence.
        sequence: u64,
        /// Which snapshot, by its last entry.
        index: Index,
        /// How many bytes of it are here: where to go on. Says nothing about the log.
        offset: u64,
    },
    /// Asks for a vote, or, with `pre`, whether a vote would be given (dissertation 9.6).
    Vote {
        /// The candidate's term; with `pre` the term it would take.
        term: Term,
        /// The candidate's last index.
        last_index: Index,
        /// Term of the entry at `last_index`.
        last_term: Term,
        /// A question only: nothing changes at the voter.
        pre: bool,
        /// Leader and term of the one lease that was given up for good by a transfer.
        released: Option<(NodeId, Term)>,
        /// Which run of the candidate's node it is: who votes for it notes that with the vote.
        incarnation: Incarnation,
    },
    /// Answer to [`Message::Vote`].
    VoteReply {
        /// The voter's term; for a granted pre-vote the term that was asked about.
        term: Term,
        /// Whether the vote is (or would be) given.
        granted: bool,
        /// Echo of the question.
        pre: bool,
        /// The longest promise still open to any leader but the candidate, rounded up.
        /// `None` counts as a full lease.
        promise_remaining_ms: Option<u64>,
        /// The same in detail, and what the voter knows of ended runs.
        owed: Owed,
    },
    /// The hash of the state after an entry, from a snapshot that ends there.
    State {
        /// The sender's term.
        term: Term,
        /// The entry.
        index: Index,
        /// The hash.
        hash: u32,
        /// From a leader: what a majority has. Otherwise: what the sender has.
        agreed: bool,
    },
    /// Tells the receiver to stand for election at once (dissertation 3.10).
    TimeoutNow {
        /// The sender's term.
        term: Term,
        /// The sender's last index: a target that lacks it would lose.
        last_index: Index,
        /// The sender has given up its lease of `term` for good.
        released: bool,
    },
}

/// What a voter tells of its promises, one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Those that are open to any leader but the candidate. `None`: not told; the longest of them then
    /// counts as one to anyone.
    pub promises: Option<Vec<OpenPromise>>,
    /// Runs that have ended for certain.
    pub ended: Vec<Run>,
}

/// A promise that is open at a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPromise {
    /// To which run; one without a name is any.
    pub leader: Run,
    /// As leader of which term. 0: not known.
    pub term: Term,
    /// How much of it is left, rounded up.
    pub remaining_ms: u64,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The log equals the leader's up to here, durably.
    Accepted {
        /// Highest index known to be equal.
        match_index: Index,
    },
    /// The log does not hold the base entry, or the sender's term is over.
    Rejected {
        /// Where to go on: the first index of the conflicting term, or just past the log's end.
        conflict_index: Index,
        /// Term of the conflicting entry; `None` where the log is too short.
        conflict_term: Option<Term>,
    },
}

impl Message {
    /// The term that the sender was in. For a pre-vote, the term it would take.
    pub fn term(&self) -> Term {
        match self {
            Message::Append { term, .. }
            | Message::AppendReply { term, .. }
            | Message::InstallSnapshot { term, .. }
            | Message::InstallReply { term, .. }
            | Message::Vote { term, .. }
            | Message::VoteReply { term, .. }
            | Message::State { term, .. }
            | Message::TimeoutNow { term, .. } => *term,
        }
    }
}
