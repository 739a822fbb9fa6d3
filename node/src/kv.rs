//! The state machine.

use crate::command::Command;
use crate::engine::{Answer, Query};
use crate::raft::Index;
use std::sync::Arc;

/// The store.
#[derive(Debug, Default)]
pub struct Store {}

/// What a write found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// Set: done.
    Set,
    /// Delete: whether the key was there.
    Deleted {
        /// The key was there.
        existed: bool,
    },
    /// Compare-and-set: whether the expected value was found.
    Swapped {
        /// The value was the expected one and is now the new one.
        swapped: bool,
    },
}

/// What applying a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A no-op.
    Nothing,
    /// A write took effect now, or had taken effect when it was sent before.
    Written {
        /// What it found, then.
        result: WriteResult,
        /// It had been applied before.
        resent: bool,
    },
    /// The session is gone: not applied now; whether it was before cannot be told.
    SessionExpired,
}

/// A page of keys and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In byte order of the keys.
    pub entries: Vec<(Arc<str>, Arc<str>)>,
    /// There are more.
    pub more: bool,
}

impl Store {
    /// Applies the entry at `index`, which must be the one after [`Store::applied_index`].
    pub fn apply(&mut self, index: Index, command: &Command) -> Applied {
        let _ = (index, command);
        Applied::Nothing
    }

    /// Answers a read.
    pub fn read(&self, query: &Query) -> Answer {
        let _ = query;
        Answer::Value(None)
    }

    /// Index of the newest applied entry.
    pub fn applied_index(&self) -> Index {
        0
    }
}
