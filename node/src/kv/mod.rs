//! The state machine: an ordered map of keys to values, and the sessions that make a resent write
//! apply once.
//!
//! [`Store::apply`] is a function of the log alone: the same entries in the same order give the
//! same map, the same sessions and the same results on every node, whenever they are applied.
//! Nothing in here depends on a clock, on chance, or on the order of a hash table.
//!
//! Limits on the size of a key or a value are not checked here: an entry that is in the log is
//! applied, so they are checked where a request comes in.
//!
//! Deliberately absent: watching a key.

mod digest;
mod key;
mod session;
mod snapshot;

pub use key::Key;
pub use session::{SESSION_WINDOW, SESSIONS_MAX};
pub use snapshot::{ExportStep, Import, ImportError, Record, SessionRecord, StateHead, Walk};

use crate::command::{Command, FORMAT_FIRST, Members, Operation, Write};
use crate::raft::{Index, Mutation};
use digest::digest;
use session::{Known, Sessions};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Most entries in one page of a list.
pub const PAGE_ENTRIES_MAX: usize = 1_000;

/// Most bytes in one page of a list, keys, values and [`PAGE_ENTRY_OVERHEAD_BYTES`] each. With
/// it a page fits, with other replies beside it, in a message of 4 MiB, which gRPC clients accept
/// without being told to.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024 - 512 * 1024;

/// What an entry of a page is counted for beside its key and value: more than the wire adds.
pub const PAGE_ENTRY_OVERHEAD_BYTES: usize = 24;

/// The store: keys, values and sessions.
#[derive(Debug, Default)]
pub struct Store {
    map: BTreeMap<Key, Arc<str>>,
    sessions: Sessions,
    applied_index: Index,
    /// 0: none was named yet.
    format: u64,
    /// The cluster's id, as of the entry that began the format. 0: it had none.
    cluster: u128,
    /// Its members, each with the entry that made it one.
    members: BTreeMap<u64, Index>,
    /// The configuration that the log came to, and its entry. `None`: the log names none.
    configuration: Option<(Index, Arc<Members>)>,
    /// Bytes of all keys and values, and what each takes beside.
    live_bytes: u64,
    /// A walk over the state under way, for a snapshot.
    export: Option<snapshot::Export>,
    /// Another one, for a backup.
    backup: snapshot::Backup,
    mutation: Option<Mutation>,
}

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
    /// Not applied: its request id stands for another write, which was applied before.
    IdReused,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One key.
    Get {
        /// The key.
        key: Arc<str>,
    },
    /// Keys with a prefix, in byte order.
    List {
        /// The prefix; empty: all keys.
        prefix: Arc<str>,
        /// Only keys after this one.
        after: Option<Arc<str>>,
        /// At most this many; the store has bounds of its own.
        limit: usize,
    },
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Query::Get`].
    Value(Option<Arc<str>>),
    /// To [`Query::List`].
    Page(Page),
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
    /// The same store, with one rule broken where a test asks for that.
    pub fn mutated(self, mutation: Option<Mutation>) -> Self {
        Store { mutation, ..self }
    }

    /// Applies the entry at `index`, which must be the one after [`Store::applied_index`].
    pub fn apply(&mut self, index: Index, command: &Command) -> Applied {
        assert!(
            index == self.applied_index + 1,
            "entry {index} applied after {}",
            self.applied_index
        );
        self.applied_index = index;
        match command {
            Command::NoOp => Applied::Nothing,
            Command::Format(format) => {
                if format.version > self.format {
                    self.format = format.version;
                    self.cluster = format.cluster;
                    let members = format.voters.iter().map(|id| (*id, index));
                    self.members = members.collect();
                }
                Applied::Nothing
            }
            Command::Members(members) => {
                self.members.retain(|id, _| members.nodes.contains_key(id));
                for id in members.nodes.keys() {
                    self.members.entry(*id).or_insert(index);
                }
                self.configuration = Some((index, Arc::clone(members)));
                Applied::Nothing
            }
            Command::Write(write) => self.apply_write(index, write),
        }
    }

    fn apply_write(&mut self, index: Index, write: &Write) -> Applied {
        let Some(request) = &write.request else {
            let result = self.operate(&write.operation);
            return Applied::Written {
                result,
                resent: false,
            };
        };
        let digest = digest(&write.operation);
        match self.sessions.look_up(index, request, digest) {
            Known::Answered(result) if self.mutation != Some(Mutation::ResendAppliedTwice) => {
                Applied::Written {
                    result,
                    resent: true,
                }
            }
            Known::Expired => Applied::SessionExpired,
            Known::Another => Applied::IdReused,
            Known::Answered(_) | Known::New => {
                let result = self.operate(&write.operation);
                self.sessions.remember(request, digest, result);
                Applied::Written {
                    result,
                    resent: false,
                }
            }
        }
    }

    fn operate(&mut self, operation: &Operation) -> WriteResult {
        match operation {
            Operation::Set { key, value } => {
                let astray = self.mutation == Some(Mutation::StateGoesAstray);
                let other = format!("{value} ").into();
                self.bind(key, Some(if astray { &other } else { value }));
                WriteResult::Set
            }
            Operation::Delete { key } => WriteResult::Deleted {
                existed: self.bind(key, None),
            },
            Operation::CompareAndSet {
                key,
                expected,
                value,
            } => {
                let swapped = self.map.get(key.as_bytes()) == expected.as_ref();
                if swapped {
                    self.bind(key, Some(value));
                }
                WriteResult::Swapped { swapped }
            }
        }
    }

    /// Binds a key to a value, or to none; returns whether it had one. The only place where the map
    /// changes.
    fn bind(&mut self, key: &Arc<str>, value: Option<&Arc<str>>) -> bool {
        let before = match value {
            Some(value) => self.map.insert(Key::from(key), Arc::clone(value)),
            None => self.map.remove(key.as_bytes()),
        };
        self.live_bytes += value.map_or(0, |value| live_bytes(key, value));
        self.live_bytes -= before.as_ref().map_or(0, |before| live_bytes(key, before));
        let existed = before.is_some();
        if let Some(export) = self.backup.under_way() {
            export.save(key, before.clone());
        }
        if let Some(export) = &mut self.export
            && self.mutation != Some(Mutation::FuzzySnapshot)
        {
            export.save(key, before);
        }
        existed
    }

    /// Answers a read.
    pub fn read(&self, query: &Query) -> Answer {
        match query {
            Query::Get { key } => Answer::Value(self.map.get(key.as_bytes()).cloned()),
            Query::List {
                prefix,
                after,
                limit,
            } => Answer::Page(self.page(prefix, after.as_deref(), *limit)),
        }
    }

    fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix.as_bytes()),
        };
        let limit = limit.min(PAGE_ENTRIES_MAX);
        let mut page = Page::default();
        let mut bytes = 0;
        for (key, value) in self.map.range::<[u8], _>((start, Bound::Unbounded)) {
            if !key.as_bytes().starts_with(prefix.as_bytes()) {
                break;
            }
            bytes += key.as_bytes().len() + value.len() + PAGE_ENTRY_OVERHEAD_BYTES;
            if page.entries.len() == limit || bytes > PAGE_BYTES_MAX {
                page.more = true;
                break;
            }
            page.entries.push((key.to_shared(), value.clone()));
        }
        page
    }

    /// Index of the newest applied entry.
    pub fn applied_index(&self) -> Index {
        self.applied_index
    }

    /// The format that is in force: what the cluster's files and messages may be of. Like all else
    /// here it depends on the log alone, so all nodes go over to it at the same entry.
    pub fn format(&self) -> u64 {
        self.format.max(FORMAT_FIRST)
    }

    /// The configuration that the log came to, and its entry. `None`: the log names none.
    pub fn configuration(&self) -> Option<&(Index, Arc<Members>)> {
        self.configuration.as_ref()
    }

    /// How many keys are bound.
    pub fn key_count(&self) -> usize {
        self.map.len()
    }

    /// Roughly what the state takes as text or in memory: a function of the state alone.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// How many clients' sessions are remembered.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }
}

/// What a key and its value count for in [`Store::live_bytes`].
fn live_bytes(key: &str, value: &str) -> u64 {
    const BESIDE: usize = 24;
    (key.len() + value.len() + BESIDE) as u64
}

#[cfg(test)]
mod tests;
