//! One whole node without its machine: consensus core, log codec, state machine, sessions and
//! waiting requests, as a function of values.
//!
//! [`Engine::step`] takes the time and a batch of [`Input`]s, and returns [`Effects`]: bytes for
//! the disk, messages for the peers, replies for the clients. The loop in `server` carries them
//! out on a real machine, the simulator in a simulated one, so what the simulator proves is what
//! runs.
//!
//! The way of a write: `Input::Request` -> all writes of the batch become one `Propose` -> bytes
//! for the disk and appends for the peers leave together -> `Input::Durable` counts the own vote,
//! the peers' replies theirs -> committed entries are applied -> `Effects::replies`.
//!
//! Lease reads do not come through here: they look at the shared [`ReadView`], which is brought up
//! to date before any effect of a step leaves. Only a lease read that must wait comes in.
//!
//! Never reads a clock. Does no I/O.

mod backup;
mod disk;
mod members;
mod on_demand;
mod pending;
mod reads;
mod snapshots;
mod work;

pub use reads::{LeaseRead, ReadGate, ReadView};
pub use snapshots::Start;
pub use work::Engine;

pub use crate::kv::{Answer, Query, Walk};
pub use crate::wal::SnapshotHead;

use crate::command::{Members, Operation, RequestId};
use crate::raft::{
    ChunkWanted, Contradiction, Entry, Event, Index, MembersRefusal, Message, Micros, NodeId, Run,
    SnapshotId,
};
use crate::wal::LogCut;
use std::sync::Arc;

/// Chosen by the caller for each request; comes back with the reply.
pub type Token = u64;

/// What can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A message from a peer.
    Received {
        /// Its sender.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// The connection from the peer came up.
    Connected {
        /// The peer.
        peer: NodeId,
        /// The newest format that it reads, as it says.
        reads_format: u64,
    },
    /// The connection from the peer broke.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// A run of a node has ended for certain: see [`crate::raft::Input::Ended`].
    Ended {
        /// Which.
        run: Run,
    },
    /// This node had no cluster id, and joins the cluster that has this one.
    JoinedCluster {
        /// The cluster's id.
        cluster: u128,
    },
    /// A client or an operator wants something.
    Request {
        /// Comes back with the reply.
        token: Token,
        /// What is wanted.
        request: Request,
    },
    /// The client no longer waits: whatever stands under this token may be forgotten.
    Abandoned {
        /// Of the request.
        token: Token,
    },
    /// What was written of a snapshot could not be kept. Comes before the news that the works which
    /// wrote it are done, and those that follow write it in vain, up to the next that begins one.
    SnapshotLost,
    /// The [`SnapshotWork`] with this ticket, and all before it, is durable, or was lost.
    SnapshotWritten {
        /// Of the work.
        ticket: u64,
    },
    /// The snapshot that was to be looked at is not on disk as it was written.
    SnapshotDamaged {
        /// Which one.
        snapshot: SnapshotId,
    },
    /// A piece of a snapshot that [`Effects::chunks`] asked for; empty where it is of another one.
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
    /// The disk work with this ticket, and all before it, is durable.
    Durable {
        /// Of the work.
        ticket: u64,
    },
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Change the store.
    Write {
        /// Makes a resend apply once.
        request: Option<RequestId>,
        /// The change.
        operation: Operation,
    },
    /// Read the store.
    Read {
        /// What to read.
        query: Query,
        /// How sure to be. A lease read comes here only where [`ReadView::lease_read`] said to
        /// wait.
        consistency: Consistency,
    },
    /// Hand over leadership.
    Transfer {
        /// To whom; `None`: the most up-to-date follower.
        target: Option<NodeId>,
    },
    /// Change who belongs to the cluster.
    ChangeMembers {
        /// The entry of the configuration that the change was made against.
        base: Index,
        /// All nodes as they are to be.
        target: Members,
    },
    /// Take a snapshot of the state of now.
    TakeSnapshot,
    /// Begin to walk over the state for a backup, once it is that after this entry or a later one.
    Backup {
        /// The entry.
        not_before: Index,
    },
}

/// How sure a read is to see every write acknowledged before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sure, by the leader's lease.
    Lease,
    /// Sure, by a heartbeat round.
    Quorum,
    /// Not sure: what this node has applied.
    Stale,
}

/// How a read was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPath {
    /// By the leader, under its lease.
    Lease,
    /// By a new leader, while an older lease may be alive.
    Inherited,
    /// After a heartbeat round.
    Quorum,
    /// From this node's own state.
    Stale,
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a write: applied at this index.
    Written {
        /// Where the write stands in the log (for a resent one: at least where it stood first).
        index: Index,
        /// What it found.
        result: crate::kv::WriteResult,
    },
    /// To a read.
    Read {
        /// What was found.
        answer: Answer,
        /// The state that was read.
        applied_index: Index,
        /// How it was answered.
        path: ReadPath,
    },
    /// To a lease read that had to wait: ask [`ReadView::lease_read`] again now. The engine can't
    /// answer itself, because its time is that of before the read.
    LookAgain,
    /// To a request for a snapshot: it is durable, and the log begins behind it.
    SnapshotTaken {
        /// Which one.
        snapshot: SnapshotId,
    },
    /// To a backup: it goes on with [`ReadView::backup_next`].
    BackupBegun {
        /// Which one.
        walk: Walk,
        /// What is told first.
        head: SnapshotHead,
    },
    /// To a change of membership: it is over, and committed.
    MembersChanged {
        /// The entry of the configuration in force.
        index: Index,
        /// That configuration.
        members: Arc<Members>,
    },
    /// To a transfer: the new leader.
    Transferred {
        /// The new leader.
        leader: NodeId,
    },
}

/// Why a request was not done. Each says what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing was done: ask the leader.
    #[error("this node is not the leader")]
    NotLeader {
        /// The believed leader.
        leader: Option<NodeId>,
    },
    /// Nothing was done: ask again shortly.
    #[error("the leader may not answer yet: {0}")]
    NotReady(&'static str),
    /// Nothing was done: back off, then ask again.
    #[error("overloaded: {0}")]
    Overloaded(&'static str),
    /// It may or may not take effect: send it again with the same request id.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(&'static str),
    /// The session is gone: whether the write applied cannot be told.
    #[error("the session has expired, so whether this write was applied cannot be told")]
    SessionExpired,
    /// Nothing was done: it can't be done as it is.
    #[error("{0}")]
    Members(MembersRefusal),
    /// Nothing was done by it: its request id stands for another write.
    #[error(
        "this request id stands for another write, which was done before: count the sequence up \
         with each write, and open a session of its own for each run of a client"
    )]
    IdReused,
    /// Nothing was done, and asking again will not help.
    #[error("{0}")]
    Invalid(String),
}

/// Work for the disk. Works are carried out in the order of their tickets; several that wait may
/// share one flush.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DiskWork {
    /// Rises by one from work to work; reported back by [`Input::Durable`].
    pub ticket: u64,
    /// Before anything else replace `metadata.txt` by these bytes, durably: they name a format that
    /// `logs.txt` is about to come to. A version that does not read it then refuses the directory,
    /// and never takes the new lines for damage.
    pub metadata_before: Option<Vec<u8>>,
    /// Then cut `logs.txt` to this length in bytes.
    pub truncate_to: Option<u64>,
    /// Then append these bytes to it.
    pub append: Vec<u8>,
    /// Then put the snapshot that was written, and the rest of the log, in place of the log: see
    /// `disk::snapshot`.
    pub cut: Option<LogCut>,
    /// Replace `metadata.txt` by these bytes, atomically.
    pub metadata: Option<Vec<u8>>,
    /// Write these bytes over `mark.txt`, which is always as long: before the log is cut, and then
    /// flushed; otherwise at any time, and flushed only where `flush_mark` says so.
    pub mark: Option<Vec<u8>>,
    /// Flush `mark.txt`: nothing else shows that the disk is there, or what it says is wanted soon.
    pub flush_mark: bool,
}

/// Work on files that are not in place yet. It is carried out beside [`DiskWork`], which never waits for
/// it, one work after the other and each flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotWork {
    /// Rises by one from work to work; reported back by [`Input::SnapshotWritten`].
    pub ticket: u64,
    /// What is to be done.
    pub task: SnapshotTask,
}

/// See [`SnapshotWork`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotTask {
    /// Write a piece of a snapshot.
    Write {
        /// It is the first: what was written of another one is void.
        begins: bool,
        /// The piece, which stands behind those before it.
        bytes: Vec<u8>,
    },
    /// Read the snapshot that is in place, and say so if it is this one and not as it was written.
    Look(SnapshotId),
    /// Copy a part of the log into the one that is to take its place. It is written and committed, so it
    /// stays as it is, whatever is appended and cut behind it meanwhile.
    Copy {
        /// The first part: this line stands before it, and what was copied before is void.
        first_line: Option<Vec<u8>>,
        /// From here in `logs.txt`...
        from: u64,
        /// ...up to here.
        to: u64,
    },
}

/// What a step wants done. Before any of it leaves, the [`ReadView`] is up to date.
#[derive(Debug, Default)]
pub struct Effects {
    /// Start this; do not wait for it before the messages.
    pub disk: Option<DiskWork>,
    /// Start these, in their order.
    pub snapshots: Vec<SnapshotWork>,
    /// Read these pieces of the snapshot that is in place by then, and report [`Input::Chunk`].
    pub chunks: Vec<ChunkWanted>,
    /// Send these, in order for each peer. Those that depend on the disk are held back inside the
    /// engine until [`Input::Durable`].
    pub messages: Vec<(NodeId, Message)>,
    /// Answer these.
    pub replies: Vec<(Token, Result<Reply, RequestError>)>,
    /// Nobody needs these any more: where there are many, drop them where nobody waits.
    pub let_go: Vec<Entry>,
    /// Tell the operator.
    pub events: Vec<Event>,
    /// End the node and tell the operator why.
    pub contradiction: Option<Contradiction>,
    /// Step again at this time at the latest.
    pub wake_at_us: Option<Micros>,
}

#[cfg(test)]
mod tests;
