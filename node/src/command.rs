//! What the log holds: commands, plain values without behaviour.
//!
//! The consensus core carries them without looking inside; the state machine applies them; the
//! write-ahead log writes them as text; the wire turns them into protobuf. Values are shared
//! (`Arc`), because one entry stands at the same time in the log, in the queue of each peer and,
//! once applied, in the store. GETs never become commands: they are not logged.

use std::sync::Arc;

/// One command of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Appended by each new leader, so that it has an entry of its own term to commit
    /// (Raft dissertation 6.4).
    NoOp,
    /// A client's write.
    Write(Write),
}

/// A client's write, with the identity that makes a resent one apply once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Absent: the client did not ask for resend-once.
    pub request: Option<RequestId>,
    /// What to do.
    pub operation: Operation,
}

/// What a write does to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Bind the key to the value.
    Set {
        /// Key to bind.
        key: Arc<str>,
        /// New value.
        value: Arc<str>,
    },
    /// Remove the key, if it is there.
    Delete {
        /// Key to remove.
        key: Arc<str>,
    },
    /// Bind the key to the value if its present value is the expected one.
    CompareAndSet {
        /// Key to bind.
        key: Arc<str>,
        /// Expected present value; `None`: the key must not exist.
        expected: Option<Arc<str>>,
        /// New value.
        value: Arc<str>,
    },
}

impl Command {
    /// Roughly what the command takes in memory and on the wire: for bounds on queues and
    /// messages.
    pub fn size_bytes(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            Command::NoOp => FIXED,
            Command::Write(write) => FIXED + write.operation.size_bytes(),
        }
    }
}

impl Operation {
    fn size_bytes(&self) -> usize {
        match self {
            Operation::Set { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
            Operation::CompareAndSet {
                key,
                expected,
                value,
            } => key.len() + value.len() + expected.as_ref().map_or(0, |text| text.len()),
        }
    }

    /// The one key that the operation reads or changes.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Operation::Set { key, .. }
            | Operation::Delete { key }
            | Operation::CompareAndSet { key, .. } => key,
        }
    }
}

/// Names one write of one client for good: the same three numbers, the same write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The client.
    pub client_id: u64,
    /// Counted up from 1 by the client.
    pub sequence: u64,
    /// A log index that the client had learnt of before it first sent this request. A session
    /// that ended after it may have held this write, one that ended before it can not have:
    /// that is how a resend to an expired session is told from a new client.
    pub since_index: u64,
}
