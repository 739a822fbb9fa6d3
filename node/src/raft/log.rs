//! The log in memory: consecutive entries behind the *base*, the last entry that is known to be in
//! a snapshot and was let go. Index and term of the base are kept: appends may meet there.
//!
//! What is at or before the base is committed, so it equals that of every leader to come.
//!
//! Deliberately absent: the disk. What is durable is told by [`super::Input::Persisted`].

use super::{Entry, Index, SnapshotId, Term};
use crate::command::{Command, FORMAT_FIRST, Members};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Log {
    base_index: Index,
    base_term: Term,
    entries: Vec<Entry>,
    /// Where it went over to which format.
    formats: Vec<(Index, u64)>,
    /// Which entry put which configuration in force; the first stands for all that came before. Never empty
    /// but in a default one.
    configurations: Vec<(Index, Arc<Members>)>,
}

impl Log {
    /// Panics where the entries are not consecutive behind the base or terms fall: the codec has
    /// checked this, so it would be a bug.
    pub(super) fn new(
        base: SnapshotId,
        members: (Index, Arc<Members>),
        entries: Vec<Entry>,
    ) -> Self {
        let mut log = Log {
            base_index: base.index,
            base_term: base.term,
            entries: Vec::with_capacity(entries.len()),
            formats: vec![(base.index, base.format)],
            configurations: vec![members],
        };
        entries.into_iter().for_each(|entry| log.push(entry));
        log
    }

    pub(super) fn base_index(&self) -> Index {
        self.base_index
    }

    pub(super) fn last_index(&self) -> Index {
        self.base_index + self.entries.len() as Index
    }

    pub(super) fn last_term(&self) -> Term {
        self.entries
            .last()
            .map_or(self.base_term, |entry| entry.term)
    }

    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let behind = index.checked_sub(self.base_index)?;
        self.entries.get(behind.checked_sub(1)? as usize)
    }

    /// Term of the entry at `index`; 0 before the first entry of all; `None` behind the last, and
    /// for what was let go.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        match index == self.base_index {
            true => Some(self.base_term),
            false => self.entry(index).map(|entry| entry.term),
        }
    }

    /// Whether the entry of this index and term is here, or was let go.
    pub(super) fn has(&self, index: Index, term: Term) -> bool {
        index < self.base_index || self.term_at(index) == Some(term)
    }

    /// Entries after `index` up to and with `last`, of those that were not let go.
    pub(super) fn range(&self, after: Index, last: Index) -> &[Entry] {
        let at = |index: Index| index.saturating_sub(self.base_index) as usize;
        let end = at(last.min(self.last_index()));
        &self.entries[at(after).min(end)..end]
    }

    /// Lets go of what is up to `index`, and returns it: of many entries the end takes its time.
    pub(super) fn let_go(&mut self, index: Index) -> Vec<Entry> {
        let Some(term) = self.term_at(index).filter(|_| index > self.base_index) else {
            return Vec::new();
        };
        let rest = self.entries.split_off((index - self.base_index) as usize);
        let gone = std::mem::replace(&mut self.entries, rest);
        (self.base_index, self.base_term) = (index, term);
        // What was in force where the log begins now stays known.
        let before = self.configurations.iter().filter(|(at, _)| *at <= index);
        let past = before.count().saturating_sub(1);
        self.configurations.drain(..past);
        gone
    }

    /// Test-only: see [`Mutation::BaseTermForgotten`](super::Mutation::BaseTermForgotten).
    pub(super) fn forget_base_term(&mut self) {
        self.base_term = 0;
    }

    /// The log behind a snapshot that holds all that is here, and more.
    pub(super) fn begin_after(&mut self, snapshot: SnapshotId, members: (Index, Arc<Members>)) {
        *self = Log::new(snapshot, members, Vec::new());
    }

    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index() + 1, "a gap in the log");
        assert!(entry.term >= self.last_term(), "terms fall in the log");
        match &*entry.command {
            Command::Format(format) => self.formats.push((entry.index, format.version)),
            Command::Members(members) => {
                let members = Arc::clone(members);
                self.configurations.push((entry.index, members));
            }
            Command::NoOp | Command::Write(_) => {}
        }
        self.entries.push(entry);
    }

    pub(super) fn append_command(&mut self, term: Term, command: Arc<Command>) -> &Entry {
        let index = self.last_index() + 1;
        self.push(Entry {
            index,
            term,
            command,
        });
        &self.entries[self.entries.len() - 1]
    }

    pub(super) fn truncate_after(&mut self, index: Index, members_stay: bool) {
        assert!(index >= self.base_index, "what was let go is cut");
        let keep = (index - self.base_index) as usize;
        self.entries.truncate(keep);
        self.formats.retain(|(at, _)| *at <= index);
        if members_stay {
            return;
        }
        let behind = self.configurations.iter().skip(1);
        let keep = 1 + behind.take_while(|(at, _)| *at <= index).count();
        self.configurations.truncate(keep);
    }

    /// The configuration that was appended last, committed or not, and its entry: the one in force (Raft
    /// paper, section 6).
    pub(super) fn members(&self) -> &(Index, Arc<Members>) {
        self.configurations
            .last()
            .expect("a log begins with a configuration")
    }

    /// The configurations that count where `commit_index` is committed: from the last committed to the last
    /// appended.
    pub(super) fn members_since(
        &self,
        commit_index: Index,
    ) -> impl Iterator<Item = &Arc<Members>> + Clone {
        let committed = self.configurations.iter();
        let committed = committed.filter(|(at, _)| *at <= commit_index).count();
        let counting = &self.configurations[committed.saturating_sub(1)..];
        counting.iter().map(|(_, members)| members)
    }

    /// The last configuration up to `commit_index`, with its entry.
    pub(super) fn members_at(&self, commit_index: Index) -> &(Index, Arc<Members>) {
        let mut newest_first = self.configurations.iter().rev();
        let committed = newest_first.find(|(at, _)| *at <= commit_index);
        committed.unwrap_or(&self.configurations[0])
    }

    /// The format that is in force where `index` is committed.
    pub(super) fn format_at(&self, index: Index) -> u64 {
        let formats = self.formats.iter().filter(|(at, _)| *at <= index);
        formats
            .map(|(_, format)| *format)
            .fold(FORMAT_FIRST, u64::max)
    }

    /// The format that its last entry may be of, whether that is committed or not.
    pub(super) fn format(&self) -> u64 {
        self.formats
            .iter()
            .map(|(_, format)| *format)
            .fold(FORMAT_FIRST, u64::max)
    }

    /// Whether a log that ends with this entry is at least as up to date (Raft paper 5.4.1).
    pub(super) fn is_covered_by(&self, last_index: Index, last_term: Term) -> bool {
        (last_term, last_index) >= (self.last_term(), self.last_index())
    }

    /// First index of the run of entries that share the term of the entry at `index`.
    pub(super) fn first_index_of_term_at(&self, index: Index) -> Index {
        let Some(term) = self.term_at(index) else {
            return self.last_index() + 1;
        };
        let before = self.entries.partition_point(|entry| entry.term < term);
        match before == 0 && self.base_term == term {
            // Where the run began was let go, and so far the logs meet.
            true => self.base_index.max(1),
            false => self.base_index + before as Index + 1,
        }
    }

    /// Last index whose entry has at most this term, the base at least.
    pub(super) fn last_index_up_to_term(&self, term: Term) -> Index {
        let up_to = self.entries.partition_point(|entry| entry.term <= term);
        self.base_index + up_to as Index
    }
}
