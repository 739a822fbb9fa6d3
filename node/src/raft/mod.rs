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
//! What a node keeps is in `state`, the one entry with the check of terms and the timers in `step`.
//! Between them stands a file for each role and each rule.
//!
//! What is in a snapshot leaves the log, and a follower that needs it gets the snapshot (`install`). The
//! hashes of snapshots show whether all have come to the same state (`agreement`).
//!
//! Who belongs to the cluster is an entry of the log (`members`).
//!
//! Deliberately absent: any knowledge of what a command means or what is in a snapshot, but for formats and
//! members.

mod agreement;
mod contradiction;
mod damage;
mod election;
mod event;
mod follower;
mod format;
mod hashes;
mod install;
mod leader;
mod leader_lease;
mod lease;
mod log;
mod members;
mod message;
mod progress;
mod proof;
mod quorum_read;
mod random;
mod replication;
mod run;
mod snapshot;
mod state;
mod status;
mod step;
mod transfer;
mod window;

pub use contradiction::Contradiction;
pub use event::Event;
pub use format::FormatHindrance;
pub use lease::{LEASE_FLOOR_US, LEASE_US_MAX, Promise, leader_lease_us};
pub use members::MembersRefusal;
pub use message::{AppendOutcome, Message, OpenPromise, Owed};
pub use run::{ENDED_MAX, Incarnation, NAMES_MAX, Names, Run};
pub use snapshot::{ChunkWanted, Piece, SnapshotId};
pub use state::{Counters, Raft, Role};
pub use status::{LeaseStatus, LogState, PeerStatus, Status};

use crate::command::{Command, FORMAT_NEWEST, Members};
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
    /// All voters, this node included, where the log names no configuration. Empty on a node that joins a
    /// cluster: it stands for election only when the log says that it votes.
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
    /// What it reads, and when it goes over to something newer.
    pub formats: Formats,
    /// Seeds the random timeouts.
    pub seed: u64,
    /// Test-only: breaks one rule, so that the tests can show they would notice.
    pub mutation: Option<Mutation>,
}

/// What a node reads, and when a leader takes the cluster to a newer format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// The newest format that this node reads. It reads all that came before.
    pub reads: u64,
    /// Once so many entries are committed, a leader proposes the newest format that all voters read,
    /// whether or not anything needs it: see [`Raft::want_newer_format`].
    pub raise_from: Index,
    /// The newest format that it proposes: an operator keeps the way back to an older version open.
    pub hold_at: u64,
}

impl Default for Formats {
    fn default() -> Self {
        Formats {
            reads: FORMAT_NEWEST,
            raise_from: Index::MAX,
            hold_at: FORMAT_NEWEST,
        }
    }
}

/// What must be on disk before a reply depends on it (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}

/// Random numbers that tell apart what has the same name. The core only keeps them for
/// `metadata.txt`. 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Of the cluster: another one of the same name has another.
    pub cluster: u128,
    /// Of the node's directory: a copy of it has the same.
    pub directory: u128,
}

/// Since when a directory is used by a version that reads a format. An older one that comes between
/// forgets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadsSince {
    /// The newest format that was read by the version that used it last.
    pub format: u64,
    /// The log's last entry when the first version that reads it opened the directory.
    pub index: Index,
}

/// What a node finds in its files when it starts.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The snapshot that holds what precedes the log: the state after its last entry is there.
    pub snapshot: Option<SnapshotId>,
    /// The configuration that the snapshot holds, and its entry. `None`: it names none.
    pub configuration: Option<(Index, Arc<Members>)>,
    /// The log, from index 1 or behind the snapshot.
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
    /// stands until a leader has refilled it that far, or it knows a commit by one that was elected
    /// since. 0: no damage.
    pub damaged_until: Index,
    /// What the damage cost was acknowledged in this term or earlier.
    pub damaged_term: Term,
    /// An operator gave up entries up to this index that damage had cost, and nobody has been
    /// elected since: others may still hold them, and should lead. 0: nothing was given up.
    pub accepted_until: Index,
    /// As many voters the former runs had. 0: not known.
    pub voters: u64,
    /// The format that `metadata.txt` names. 0: the first.
    pub format: u64,
    /// Of its cluster and directory.
    pub ids: Ids,
    /// Since when the newest format is read here.
    pub reads: ReadsSince,
    /// The process of the former run is known to be dead. Otherwise it may live on without its
    /// disk.
    pub former_run_ended: bool,
    /// So are those of all runs before it. Otherwise a node without peers may still hold the lease that
    /// it gave itself.
    pub all_ended: bool,
    /// The name of this run, durable beside its lock. 0: it has none; then the end of a run proves
    /// nothing to it, and nobody can be told of its own.
    pub incarnation: Incarnation,
    /// The name of the former run. 0: not known.
    pub former_run: Incarnation,
    /// Former runs of this node that have ended for certain, the newest last.
    pub ended: Vec<Incarnation>,
    /// To whom former runs may have promised something that is not over.
    pub names: Names,
}

impl Recovered {
    /// The last entry, in the log or in the snapshot.
    pub fn last_index(&self) -> Index {
        let before = self.snapshot.map_or(0, |snapshot| snapshot.index);
        before + self.entries.len() as Index
    }
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
        /// The newest format that it reads, as it says.
        reads_format: u64,
    },
    /// The connection from the peer broke: its process died or the way to it did.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// Append these commands, all or none. See [`Output::proposed`].
    Propose(Vec<Arc<Command>>),
    /// Change who belongs to the cluster. See [`Output::members_proposed`].
    ChangeMembers {
        /// The entry of the configuration that the change was made against.
        base: Index,
        /// All nodes as they are to be. What it says of former voters and retired ids is not looked at.
        target: Members,
    },
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
    /// The state up to a committed entry is in a durable snapshot, and the log on disk begins behind
    /// it.
    SnapshotTaken {
        /// Which one.
        snapshot: SnapshotId,
        /// So much of what is in it stays in memory, for peers that are a little behind.
        keep_bytes: usize,
    },
    /// The snapshot that is in place was read again, and is not what was written.
    SnapshotDamaged {
        /// Which one.
        snapshot: SnapshotId,
    },
    /// A piece of a snapshot that [`Output::chunks`] asked for; empty: it can't be had.
    Chunk {
        /// Whom it is for.
        peer: NodeId,
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Where in it.
        offset: u64,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// All pieces of a snapshot are here and make a state. See [`Output::installed`].
    Installed {
        /// Which one.
        snapshot: SnapshotId,
        /// The configuration that it holds, and its entry. `None`: it names none.
        configuration: Option<(Index, Arc<Members>)>,
    },
    /// They do not, or there is no room for them.
    InstallFailed,
    /// A run has ended for certain: whoever says so had the lock that it held to the end of its
    /// process. Nothing else proves it, no silence and no broken connection.
    Ended {
        /// Which run of which node.
        run: Run,
    },
    /// A flush is done that was asked for at this time: until then at least the disk was there.
    /// Comes before the news of what it made durable.
    Flushed {
        /// On the own clock.
        since_us: Micros,
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
    /// Flush something, however little, unless the above makes for a flush; then report
    /// [`Input::Flushed`].
    pub flush: bool,
    /// Keep this piece of a snapshot behind those before it; the first of another one ends them.
    pub piece: Option<Piece>,
    /// Answer to [`Input::Installed`], if it was taken: put the snapshot's state in place of the own,
    /// and the snapshot in place of the durable log, with what follows its last entry if this is
    /// true; then report [`Input::Persisted`] of that entry.
    pub installed: Option<bool>,
    /// Read these, and report [`Input::Chunk`].
    pub chunks: Vec<ChunkWanted>,
    /// May leave at once, while the disk works.
    pub messages: Vec<(NodeId, Message)>,
    /// Leave only when everything asked for up to and with this output is durable.
    pub messages_after_persist: Vec<(NodeId, Message)>,
    /// Answer to [`Input::Propose`]: where the commands stand, or why nothing was appended.
    pub proposed: Option<Result<Proposed, Refusal>>,
    /// Answer to [`Input::ChangeMembers`]: the entry of the configuration that it led to, or why nothing was
    /// appended.
    pub members_proposed: Option<Result<Index, MembersRefusal>>,
    /// Apply entries up to here.
    pub commit_index: Option<Index>,
    /// Quorum reads that may now be answered from a state applied up to the given index, or must
    /// be refused.
    pub quorum_reads: Vec<(u64, Result<Index, Refusal>)>,
    /// Answer to [`Input::Transfer`]: `Ok` once another leader of a later term was seen.
    pub transferred: Vec<Result<NodeId, Refusal>>,
    /// Nobody needs these any more: where there are many, drop them where nobody waits.
    pub let_go: Vec<Entry>,
    /// What happened, for the operator.
    pub events: Vec<Event>,
    /// End the node and say why: no later input is taken in.
    pub contradiction: Option<Contradiction>,
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
    /// A follower promises a lease only where it accepts the append, though a rejection counts for
    /// the leader's lease.
    PromiseOnlyOnAccept,
    /// A new leader answers early although nobody has acknowledged a heartbeat of its own.
    InheritedReadWithoutLease,
    /// One confirmation less than a majority is enough for a quorum read.
    QuorumReadOfMinority,
    /// A quorum read is confirmed by the acknowledgement of a heartbeat that was sent before it.
    QuorumReadByEarlierAck,
    /// A candidate counts its own vote, and asks for others, before it is durable.
    OwnVoteBeforeFsync,
    /// A voter replies before its vote is durable.
    VoteBeforeFsync,
    /// What is durable at an index counts for whatever entry stands there now.
    PersistedOfAnyTerm,
    /// A leader whose target did not take over in time counts on its lease again.
    TransferRegainsLease,
    /// A leader's own acknowledgement is dated by its clock, not by its last finished flush.
    OwnAcknowledgementDatedNow,
    /// What follows a snapshot stays in the log although the entry there is of another term.
    InstallKeepsConflict,
    /// A leader whose log was cut behind its last entry sends nothing to who lacks it.
    PurgedLogSendsNothing,
    /// A snapshot that could not be kept counts as under way for ever.
    LostSnapshotBlocksNext,
    /// A follower takes a snapshot of what it has committed already.
    OlderSnapshotInstalled,
    /// A log that is cut does not say what precedes it.
    CutForgetsItsBase,
    /// The checksums behind a cut do not go on from those before it.
    ChainBeginsAnew,
    /// The term of the entry before the first that is left in memory is forgotten.
    BaseTermForgotten,
    /// A leader takes a snapshot for applied when all of it was received.
    InstallReportedOnTransfer,
    /// A follower goes on from a received snapshot before it is durable.
    InstalledBeforeDurable,
    /// A node cuts its log before its snapshot is durable.
    CutBeforeDurable,
    /// What is copied of a log that is about to be cut is not committed yet.
    CopyBeforeCommit,
    /// The next snapshot is written while the files of the last are put in place.
    NextSnapshotDuringTheSwitch,
    /// A snapshot that waits for the disk is put in place although the next one begins to arrive.
    SecondSnapshotBesideTheFirst,
    /// What is received of a snapshot begins anew with each connection.
    InstallStartsOver,
    /// A snapshot ends the damage of a log whatever it holds.
    SnapshotHealsAnyDamage,
    /// A piece of a snapshot asks for a promise and gets none.
    InstallPromisesNothing,
    /// A snapshot is sent in one piece, whatever the wire takes.
    PiecesIgnoreWindow,
    /// Sessions are left out of snapshots.
    SnapshotWithoutSessions,
    /// A snapshot holds each key as it is when the walk comes to it.
    FuzzySnapshot,
    /// A node that gave up what damage cost stands at once, although another may hold it.
    AcceptedDamageStandsAtOnce,
    /// A node applies a write to another value than it has.
    StateGoesAstray,
    /// A leader goes over to a newer format whether or not all voters read it.
    FormatRaisedUnasked,
    /// Members change before an entry of the leader's own term is committed, and in one step: the bug of 2015.
    MembersBeforeOwnCommit,
    /// A change is made on top of another that is not committed.
    ChangeOnTopOfChange,
    /// Voters change at once, without a joint configuration.
    NoJointConsensus,
    /// A configuration is in force when it is committed, not when it is appended.
    MembersFromCommit,
    /// A configuration stays in force although its entry was cut.
    MembersStayWhenCut,
    /// A learner counts like a voter.
    LearnerCounts,
    /// A joint configuration is committed by the new voters alone.
    JointByNewAlone,
    /// A learner becomes a voter before it has caught up.
    VoterBeforeCaughtUp,
    /// A learner becomes a voter before the lease holds with it.
    VoterBeforeLease,
    /// A leader removes itself.
    LeaderRemovesItself,
    /// An id of a node that left is used again.
    IdsUsedAgain,
    /// A change is made against whatever configuration is in force.
    MembersOfAnyBase,
    /// Any leader takes a joint configuration back, not just the one that appended it.
    AnyLeaderGoesBack,
    /// Snapshots do not hold the configuration.
    SnapshotWithoutMembers,
    /// Only those whom the own configuration names get a vote.
    StrangersGetNoVote,
    /// A connection that breaks counts as proof that the leader's run has ended.
    BrokenConnectionProves,
    /// A start proves the end of the former run, wherever the lock of that one is.
    StartElsewhereProves,
    /// What a former run wrote of its promises is believed, wherever the lock of that one is.
    NamesBelievedElsewhere,
    /// A node does not write down to whom it promises.
    NamesNotOnDisk,
    /// It does so some time after it has acknowledged.
    NamesOnDiskLate,
    /// The end of a run waives what was promised to other runs of its node.
    EndWaivesNode,
    /// The end of a run waives what was promised to nobody knows whom.
    EndWaivesUnknown,
}

#[cfg(test)]
mod tests;
