//! The state as a sequence of records, and back.
//!
//! The sequence is a function of the log up to one index: members, sessions by client, each with its
//! results by sequence, then keys in byte order. So it is the same on every node, whenever it is taken.
//!
//! Nothing stops for it. [`Store::begin_export`] notes the index; [`Store::export_next`] then walks
//! on by as many records as it is asked for, while entries are applied in between. A key that
//! changes before the walk has come to it leaves its old value behind (`saved`), and sessions are
//! shared until they change. An export in which too much would have to be left behind ends early:
//! the state is what matters.
//!
//! Replaying the log over a walk that does not do this (a *fuzzy* snapshot) would be wrong: a
//! compare-and-set that is applied to a later value finds another answer.

use super::session::{Remembered, Session};
use super::{Key, SESSION_WINDOW, SESSIONS_MAX, Store, WriteResult};
use crate::command::{Format, Members};
use crate::raft::{Index, Mutation};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

/// Bytes of old keys and values that an export may keep alive; then it is given up.
const SAVED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a saved value is counted for beside its key and value.
const SAVED_OVERHEAD_BYTES: usize = 96;

/// What is told before the records: how many there are, and what belongs to none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateHead {
    /// The state is that after this entry.
    pub applied_index: Index,
    /// The highest last use of any evicted session.
    pub evicted_until: Index,
    /// The format in force.
    pub format: u64,
    /// The cluster's id, as of the entry that began the format. 0: it had none.
    pub cluster: u128,
    /// How many members follow.
    pub members: u64,
    /// How many sessions follow.
    pub sessions: u64,
    /// How many keys follow.
    pub keys: u64,
}

/// One record of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A member of the cluster.
    Member {
        /// Its id.
        id: u64,
        /// The entry that made it one.
        since: Index,
    },
    /// The configuration that the log came to.
    Members {
        /// Who belongs to the cluster.
        members: Arc<Members>,
        /// The entry that says so.
        since: Index,
    },
    /// A client's session; its results follow.
    Session(SessionRecord),
    /// A write that the session before has applied.
    Result {
        /// Its number in the session.
        sequence: u64,
        /// Of the operation.
        digest: u64,
        /// What it found.
        result: WriteResult,
    },
    /// A key and its value.
    Key {
        /// The key.
        key: Key,
        /// Its value.
        value: Arc<str>,
    },
}

/// What a session is, beside its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The client.
    pub client_id: u64,
    /// The entry that used it last.
    pub last_used: Index,
    /// The highest sequence whose result was dropped.
    pub dropped_until: u64,
    /// Requests with a lower `since_index` may have been applied in an earlier session.
    pub not_before: Index,
    /// How many results follow.
    pub results: u64,
}

/// A step of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportStep {
    /// The next records, one at least.
    Records(Vec<Record>),
    /// There are no more.
    Done,
    /// Too much changed meanwhile: the export is given up.
    GivenUp,
}

/// Why records do not make a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Something comes twice, or not in its order.
    #[error("{0} out of order")]
    Order(&'static str),
    /// There are more or fewer of them than was told.
    #[error("another number of {0} than was told")]
    Count(&'static str),
    /// A number that no node writes.
    #[error("{0} out of bounds")]
    Bounds(&'static str),
}

/// A walk under way.
#[derive(Debug)]
pub(super) struct Export {
    members: std::vec::IntoIter<(u64, Index)>,
    configuration: Option<(Index, Arc<Members>)>,
    sessions: std::vec::IntoIter<(u64, Arc<Session>)>,
    /// Keys up to this one have been told.
    told: Option<Key>,
    /// Old values of keys that were changed before the walk came to them; `None`: the key was not
    /// there.
    saved: BTreeMap<Key, Option<Arc<str>>>,
    saved_bytes: usize,
    saved_bytes_max: usize,
    given_up: bool,
}

impl Export {
    /// A key is about to have another value, or none.
    pub(super) fn save(&mut self, key: &Arc<str>, before: Option<Arc<str>>) {
        let is_told = |told: &Key| key.as_bytes() <= told.as_bytes();
        if self.given_up || self.told.as_ref().is_some_and(is_told) {
            return;
        }
        let Entry::Vacant(place) = self.saved.entry(Key::from(key)) else {
            return;
        };
        self.saved_bytes += saved_bytes(key.len(), before.as_ref());
        if self.saved_bytes > self.saved_bytes_max {
            self.given_up = true;
            self.saved.clear();
            return;
        }
        place.insert(before);
    }

    fn next(&mut self, map: &BTreeMap<Key, Arc<str>>, most: usize) -> ExportStep {
        if self.given_up {
            return ExportStep::GivenUp;
        }
        let members = self.members.by_ref().take(most);
        let mut records: Vec<Record> = members
            .map(|(id, since)| Record::Member { id, since })
            .collect();
        if records.len() < most
            && let Some((since, members)) = self.configuration.take()
        {
            records.push(Record::Members { members, since });
        }
        while records.len() < most
            && let Some((client_id, session)) = self.sessions.next()
        {
            session.tell(client_id, &mut records);
        }
        self.tell_keys(map, most, &mut records);
        match records.is_empty() {
            true => ExportStep::Done,
            false => ExportStep::Records(records),
        }
    }

    /// Walks on over both the keys of now and those whose old value was saved, which counts.
    fn tell_keys(&mut self, map: &BTreeMap<Key, Arc<str>>, most: usize, records: &mut Vec<Record>) {
        let start = match &self.told {
            Some(told) => Bound::Excluded(told.clone()),
            None => Bound::Unbounded,
        };
        let mut present = map.range((start, Bound::Unbounded)).peekable();
        while records.len() < most {
            let (now, old) = (present.peek(), self.saved.first_key_value());
            let take_old = match (now, old) {
                (None, None) => break,
                (Some((key, _)), Some((saved, _))) => saved <= key,
                (now, _) => now.is_none(),
            };
            let (key, value) = if take_old {
                let Some((key, value)) = self.saved.pop_first() else {
                    break;
                };
                self.saved_bytes -= saved_bytes(key.as_bytes().len(), value.as_ref());
                present.next_if(|(present, _)| **present == key);
                (key, value)
            } else {
                let Some((key, value)) = present.next() else {
                    break;
                };
                (key.clone(), Some(Arc::clone(value)))
            };
            self.told = Some(key.clone());
            records.extend(value.map(|value| Record::Key { key, value }));
        }
    }
}

fn saved_bytes(key_bytes: usize, value: Option<&Arc<str>>) -> usize {
    key_bytes + value.map_or(0, |value| value.len()) + SAVED_OVERHEAD_BYTES
}

/// Tells one walk of a backup from those before it.
pub type Walk = u64;

/// The walk of a backup. It has a place of its own beside that of a snapshot, so that neither ends the
/// other; at most one is under way.
#[derive(Debug, Default)]
pub(super) struct Backup {
    export: Option<Export>,
    last: Walk,
}

impl Backup {
    pub(super) fn under_way(&mut self) -> Option<&mut Export> {
        self.export.as_mut()
    }
}

impl Store {
    /// Begins to tell the state of now. Another export that is under way ends.
    pub fn begin_export(&mut self) -> StateHead {
        let (export, head) = self.walk();
        self.export = Some(export);
        head
    }

    fn walk(&self) -> (Export, StateHead) {
        let sessions = match self.mutation {
            Some(Mutation::SnapshotWithoutSessions) => Vec::new(),
            _ => self.sessions.all(),
        };
        let members: Vec<_> = self.members.iter().map(|(id, at)| (*id, *at)).collect();
        let head = StateHead {
            applied_index: self.applied_index,
            evicted_until: self.sessions.evicted_until(),
            format: self.format(),
            cluster: self.cluster,
            members: self.members.len() as u64,
            sessions: sessions.len() as u64,
            keys: self.map.len() as u64,
        };
        let export = Export {
            members: members.into_iter(),
            configuration: match self.mutation {
                Some(Mutation::SnapshotWithoutMembers) => None,
                _ => self.configuration.clone(),
            },
            sessions: sessions.into_iter(),
            told: None,
            saved: BTreeMap::new(),
            saved_bytes: 0,
            saved_bytes_max: SAVED_BYTES_MAX,
            given_up: false,
        };
        (export, head)
    }

    /// Begins to tell the state of now for a backup. Another backup that is under way ends; a snapshot
    /// goes on.
    pub fn begin_backup(&mut self) -> (Walk, StateHead) {
        let (export, head) = self.walk();
        self.backup.last += 1;
        self.backup.export = Some(export);
        (self.backup.last, head)
    }

    /// Goes on with a backup: about `most` records, whole sessions with their results. One that has
    /// ended, or that another took the place of, is given up.
    pub fn backup_next(&mut self, walk: Walk, most: usize) -> ExportStep {
        let Backup { export, last } = &mut self.backup;
        let Some(under_way) = export.as_mut().filter(|_| *last == walk) else {
            return ExportStep::GivenUp;
        };
        let step = under_way.next(&self.map, most.max(1));
        if !matches!(step, ExportStep::Records(_)) {
            *export = None;
        }
        step
    }

    /// Gives a backup up, if it is under way.
    pub fn end_backup(&mut self, walk: Walk) {
        if self.backup.last == walk {
            self.backup.export = None;
        }
    }

    /// No write that a client may have sent before this state is applied to it: whether it was, in what
    /// came after this state and is lost, nobody can tell. So every session, and every client that has
    /// none, is asked for a `since_index` from here on.
    fn close_sessions(&mut self) {
        self.sessions.close(self.applied_index);
    }

    /// Makes it the state with which another cluster begins: one of this id and these members, and of this
    /// format at least.
    pub fn begin_anew(&mut self, begin: &Format) {
        self.format = self.format.max(begin.version);
        self.cluster = begin.cluster;
        let members = begin.voters.iter().map(|id| (*id, self.applied_index));
        self.members = members.collect();
        self.configuration = None;
        self.close_sessions();
    }

    /// Goes on with the export under way: about `most` records, whole sessions with their results.
    pub fn export_next(&mut self, most: usize) -> ExportStep {
        let Some(export) = &mut self.export else {
            return ExportStep::GivenUp;
        };
        let step = export.next(&self.map, most.max(1));
        if !matches!(step, ExportStep::Records(_)) {
            self.export = None;
        }
        step
    }

    /// Gives the export under way up, if there is one.
    pub fn end_export(&mut self) {
        self.export = None;
    }

    /// Test-only: lets an export keep no more than so many old bytes.
    #[cfg(test)]
    pub(super) fn bound_export(&mut self, bytes_max: usize) {
        if let Some(export) = &mut self.export {
            export.saved_bytes_max = bytes_max;
        }
    }
}

/// Makes a store of records again.
#[derive(Debug)]
pub struct Import {
    head: StateHead,
    store: Store,
    keys: Vec<(Key, Arc<str>)>,
    /// The session that results belong to, and how many are still to come.
    session: Option<(u64, Session, u64)>,
    sessions: u64,
}

impl Import {
    /// Begins with what is told before the records.
    pub fn new(head: StateHead) -> Result<Self, ImportError> {
        if head.sessions > SESSIONS_MAX as u64 || head.evicted_until > head.applied_index {
            return Err(ImportError::Bounds("sessions"));
        }
        let mut store = Store {
            applied_index: head.applied_index,
            format: head.format,
            cluster: head.cluster,
            ..Store::default()
        };
        store.sessions.set_evicted_until(head.evicted_until);
        Ok(Import {
            head,
            store,
            keys: Vec::new(),
            session: None,
            sessions: 0,
        })
    }

    /// Takes in the next record.
    pub fn take(&mut self, record: Record) -> Result<(), ImportError> {
        match record {
            Record::Member { id, since } => self.take_member(id, since),
            Record::Members { members, since } => self.take_configuration(members, since),
            Record::Session(session) => self.begin_session(session),
            Record::Result {
                sequence,
                digest,
                result,
            } => self.take_result(sequence, Remembered { result, digest }),
            Record::Key { key, value } => {
                self.end_session()?;
                self.check_members()?;
                if self.sessions != self.head.sessions {
                    return Err(ImportError::Count("sessions"));
                }
                if self.keys.last().is_some_and(|(last, _)| *last >= key) {
                    return Err(ImportError::Order("keys"));
                }
                if self.keys.len() as u64 == self.head.keys {
                    return Err(ImportError::Count("keys"));
                }
                self.keys.push((key, value));
                Ok(())
            }
        }
    }

    /// Whether something was told that comes behind all members.
    fn is_behind_members(&self) -> bool {
        self.sessions > 0 || !self.keys.is_empty()
    }

    fn take_member(&mut self, id: u64, since: Index) -> Result<(), ImportError> {
        let is_behind_members = self.is_behind_members();
        let members = &mut self.store.members;
        let is_next = members.last_key_value().is_none_or(|(last, _)| *last < id);
        if !is_next || is_behind_members {
            return Err(ImportError::Order("members"));
        }
        if members.len() as u64 == self.head.members {
            return Err(ImportError::Count("members"));
        }
        if since > self.head.applied_index {
            return Err(ImportError::Bounds("member"));
        }
        members.insert(id, since);
        Ok(())
    }

    fn take_configuration(
        &mut self,
        members: Arc<Members>,
        since: Index,
    ) -> Result<(), ImportError> {
        self.check_members()?;
        let is_first = self.store.configuration.is_none();
        if !is_first || self.is_behind_members() {
            return Err(ImportError::Order("the configuration"));
        }
        if since > self.head.applied_index || !members.nodes.keys().eq(self.store.members.keys()) {
            return Err(ImportError::Bounds("the configuration"));
        }
        self.store.configuration = Some((since, members));
        Ok(())
    }

    fn begin_session(&mut self, record: SessionRecord) -> Result<(), ImportError> {
        self.check_members()?;
        if !self.keys.is_empty() {
            return Err(ImportError::Order("sessions"));
        }
        self.end_session()?;
        let in_bounds = record.last_used <= self.head.applied_index
            && record.not_before <= self.head.evicted_until
            && record.results <= SESSION_WINDOW as u64;
        if !in_bounds {
            return Err(ImportError::Bounds("session"));
        }
        self.sessions += 1;
        if self.sessions > self.head.sessions {
            return Err(ImportError::Count("sessions"));
        }
        let session = Session::from_record(&record);
        self.session = Some((record.client_id, session, record.results));
        Ok(())
    }

    fn take_result(&mut self, sequence: u64, remembered: Remembered) -> Result<(), ImportError> {
        match &mut self.session {
            Some((_, session, left)) if *left > 0 => {
                *left -= 1;
                match session.restore(sequence, remembered) {
                    true => Ok(()),
                    false => Err(ImportError::Order("results")),
                }
            }
            _ => Err(ImportError::Count("results")),
        }
    }

    fn check_members(&self) -> Result<(), ImportError> {
        match self.store.members.len() as u64 == self.head.members {
            true => Ok(()),
            false => Err(ImportError::Count("members")),
        }
    }

    fn end_session(&mut self) -> Result<(), ImportError> {
        match self.session.take() {
            None => Ok(()),
            Some((_, _, left)) if left > 0 => Err(ImportError::Count("results")),
            Some((client_id, session, _)) => {
                match self.store.sessions.restore(client_id, session) {
                    true => Ok(()),
                    false => Err(ImportError::Order("sessions")),
                }
            }
        }
    }

    /// The store, if all of it was told.
    pub fn finish(mut self) -> Result<Store, ImportError> {
        self.end_session()?;
        self.check_members()?;
        if self.sessions != self.head.sessions {
            return Err(ImportError::Count("sessions"));
        }
        if self.keys.len() as u64 != self.head.keys {
            return Err(ImportError::Count("keys"));
        }
        let sizes = self
            .keys
            .iter()
            .map(|(key, value)| super::live_bytes(key.as_str(), value));
        self.store.live_bytes = sizes.sum();
        self.store.map = self.keys.into_iter().collect();
        Ok(self.store)
    }
}

#[cfg(test)]
mod tests;
