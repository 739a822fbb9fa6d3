//! Raft with leader leases, as a pure function of values.
//!
//! [`Raft::step`] takes the time and one [`Input`] and returns one [`Output`]. Inside there is no
//! clock, no randomness source, no I/O, no thread: time, seed, messages and the news that
//! something is durable come in as values and go out as values. So a test can be a table of
//! values, and a simulator needs no mocks.
//!
//! The protocol, in prose. A *follower* hears from the leader; each append it takes in makes it
//! promise to the leader one lease, and a new leader learns from its voters how much of such
//! promises is left and waits that out before it commits anything (`lease`). A follower that
//! hears nothing for a random time asks around first (pre-vote) and then stands as *candidate*
//! (`election`). A *leader* appends a NO-OP, replicates its log to each peer with several appends
//! in flight (`leader`, `progress`), as many bytes as are acknowledged well within a lease
//! (`window`), measures its own lease from the time it *sent* the appends that a majority
//! acknowledged, and counts an entry as committed when a majority holds it durably, the entry is
//! of its own term, and no older lease can still be alive.
//!
//! Deliberately absent: snapshots and changes of membership (the places where they will come in
//! are the log's first index and [`Config::voters`]), and any knowledge of what a command means.

mod core;
mod election;
mod event;
mod follower;
mod leader;
mod leader_lease;
mod lease;
mod log;
mod message;
mod progress;
mod quorum_read;
mod random;
mod replication;
mod transfer;
mod window;

pub use self::core::{Counters, LeaseStatus, PeerStatus, Raft, Role, Status};
pub use event::Event;
pub use lease::{LEASE_FLOOR_US, LEASE_US_MAX, Promise, leader_lease_us};
pub use message::{AppendOutcome, Message};

use crate::command::Command;
use std::{ops::RangeInclusive, sync::Arc};

/// Names a node for good; never 0.
pub type NodeId = u64;
/// A term (Raft paper 5.1). 0 is before the first election.
pub type Term = u64;
/// Position in the log, from 1. 0 is before the first entry.
pub type Index = u64;
/// Microseconds: a duration, or a point on one node's own monotonic clock. Points are never
/// compared between nodes.
pub type Micros = u64;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub index: Index,
    /// Term of the leader that made it.
    pub term: Term,
    /// What it does.
    pub command: Arc<Command>,
}

/// What stays the same while a node runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// All voters, this node included.
    pub voters: Vec<NodeId>,
    /// How long a follower promises: the cluster's one lease duration, 2 s to 10 s.
    pub lease_us: Micros,
    /// Bound on how much any clock runs fast or slow, in parts per million.
    pub max_clock_drift_ppm: u64,
    /// From these the election timeout is drawn, anew for each wait.
    pub election_timeout_us: RangeInclusive<Micros>,
    /// Time between heartbeats.
    pub heartbeat_us: Micros,
    /// Whether a new leader serves reads while an older lease may be alive.
    pub inherited_reads: bool,
    /// Seeds the random timeouts.
    pub seed: u64,
    /// Test-only: breaks one rule, so that the tests can show they would notice.
    pub mutation: Option<Mutation>,
}

/// What must be on disk before a reply depends on it (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}

/// What a node finds in its files when it starts.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The log, from index 1.
    pub entries: Vec<Entry>,
    /// Up to here entries were known to be committed. May be behind, never ahead.
    pub commit_index: Index,
    /// The node has never run before: it cannot have forgotten a promise.
    pub never_ran: bool,
    /// The promises of the former run, if it stopped in good order and its clock goes on. `None`:
    /// they are forgotten, and count as a full lease from now, a former one where that was longer.
    pub kept_promises: Option<Vec<Promise>>,
    /// The longest lease that former runs may have promised: it may have been another than
    /// [`Config::lease_us`].
    pub former_lease_us: Micros,
    /// The log lost entries to damage that reached up to this index: the node neither votes nor
    /// stands until it has been refilled and knows a commit that far. 0: no damage.
    pub damaged_until: Index,
}

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A message came in.
    Received {
        /// Its sender.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// A connection from the peer came up.
    Connected {
        /// The peer.
        peer: NodeId,
    },
    /// The connection from the peer broke: its process died or the way to it did.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// Append these commands, all or none. See [`Output::proposed`].
    Propose(Vec<Arc<Command>>),
    /// Confirm leadership by a heartbeat round, without trusting a clock (dissertation 6.4).
    QuorumRead {
        /// Comes back in [`Output::quorum_reads`].
        token: u64,
    },
    /// Hand leadership over; `None`: to the most up-to-date follower.
    Transfer {
        /// Who takes over.
        target: Option<NodeId>,
    },
    /// All of the log up to `index`, whose entry had this term, is durable.
    Persisted {
        /// Last durable index.
        index: Index,
        /// Term of the entry that was written there.
        term: Term,
    },
    /// The newest [`HardState`] of this term is durable: only now the own vote in it counts.
    HardStatePersisted {
        /// Its term.
        term: Term,
    },
}

/// What a node must do next. Fields stand in the order in which they must be honoured.
#[derive(Debug, Default)]
pub struct Output {
    /// Durable before any of `messages_after_persist` leaves.
    pub hard_state: Option<HardState>,
    /// Cut the durable log after this index before writing `append`.
    pub truncate_after: Option<Index>,
    /// Write these behind the durable log, then report [`Input::Persisted`].
    pub append: Vec<Entry>,
    /// May leave at once, while the disk works.
    pub messages: Vec<(NodeId, Message)>,
    /// Leave only when everything asked for up to and with this output is durable.
    pub messages_after_persist: Vec<(NodeId, Message)>,
    /// Answer to [`Input::Propose`]: where the commands stand, or why nothing was appended.
    pub proposed: Option<Result<Proposed, Refusal>>,
    /// Apply entries up to here.
    pub commit_index: Option<Index>,
    /// Quorum reads that may now be answered from a state applied up to the given index, or must
    /// be refused.
    pub quorum_reads: Vec<(u64, Result<Index, Refusal>)>,
    /// Answer to [`Input::Transfer`]: `Ok` once another leader of a later term was seen.
    pub transferred: Vec<Result<NodeId, Refusal>>,
    /// What happened, for the operator.
    pub events: Vec<Event>,
}

/// Where proposed commands stand: consecutive indexes of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Index of the first command.
    pub first_index: Index,
    /// Their term. An entry at such an index with another term is somebody else's.
    pub term: Term,
}

/// Why a request was refused. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Ask the leader, if one is named.
    NotLeader {
        /// The believed leader.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over: ask again in a moment.
    Transferring,
    /// Too much waits already: back off.
    Overloaded,
    /// The target of a transfer is no other voter that is connected, or did not catch up in time.
    TransferFailed,
}

/// A rule to break, one at a time, so that a test can show that it notices. Never set outside
/// tests: the node's flags cannot reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A new leader does not wait for older leases.
    NoWait,
    /// A new leader commits while an older lease may be alive (it only delays reads).
    NoDeferral,
    /// Inherited reads ignore entries in limbo.
    NoLimboGuard,
    /// The leader counts the full lease.
    NoDriftFactor,
    /// The lease is measured from the acknowledgement.
    LeaseFromAck,
    /// A restarted node reports no promise.
    PromiseForgottenOnRestart,
    /// A node that was restarted with a shorter lease counts forgotten promises with that one.
    FormerLeaseForgotten,
    /// Only the newest promise is kept.
    OneSlotPromise,
    /// A late acknowledgement counts for the newest append.
    LateAckCredited,
    /// Reads are served before an entry of the own term is committed.
    ReadBeforeOwnCommit,
    /// A leader that grants a vote keeps its lease.
    VoteKeepsLease,
    /// A resent write applies again.
    ResendAppliedTwice,
    /// A follower acknowledges before its disk does.
    AckBeforeFsync,
    /// Entries of an earlier term are committed by counting.
    CommitOfOlderTerm,
    /// A transfer keeps the old leader's lease although it told the target it was released.
    TransferKeepsLease,
    /// A leader with a stalled disk keeps its lease.
    StalledDiskKeepsLease,
    /// A node votes and stands although its log lost entries to damage.
    DamagedNodeVotes,
}
