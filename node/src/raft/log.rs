//! The log in memory: consecutive entries from index 1.
//!
//! Deliberately absent: the disk. What is durable is told by [`super::Input::Persisted`]. Nothing
//! is compacted yet, so the log also is the history.

use super::{Entry, Index, Term};
use crate::command::Command;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Entry>,
}

impl Log {
    /// Panics where the entries are not consecutive from 1 or terms fall: the codec has checked
    /// this, so it would be a bug.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let mut log = Log::default();
        entries.into_iter().for_each(|entry| log.push(entry));
        log
    }

    pub(super) fn last_index(&self) -> Index {
        self.entries.len() as Index
    }

    pub(super) fn last_term(&self) -> Term {
        self.entries.last().map_or(0, |entry| entry.term)
    }

    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.entries.get(index.checked_sub(1)? as usize)
    }

    /// Term of the entry at `index`; 0 before the first entry; `None` behind the last.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        match index {
            0 => Some(0),
            _ => self.entry(index).map(|entry| entry.term),
        }
    }

    /// Entries after `index` up to and with `last`.
    pub(super) fn range(&self, after: Index, last: Index) -> &[Entry] {
        let end = last.min(self.last_index()) as usize;
        &self.entries[(after as usize).min(end)..end]
    }

    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index() + 1, "a gap in the log");
        assert!(entry.term >= self.last_term(), "terms fall in the log");
        self.entries.push(entry);
    }

    pub(super) fn append_command(&mut self, term: Term, command: Arc<Command>) -> &Entry {
        let index = self.last_index() + 1;
        self.push(Entry {
            index,
            term,
            command,
        });
        &self.entries[index as usize - 1]
    }

    pub(super) fn truncate_after(&mut self, index: Index) {
        self.entries.truncate(index as usize);
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
        self.entries.partition_point(|entry| entry.term < term) as Index + 1
    }

    /// Last index whose entry has at most this term.
    pub(super) fn last_index_up_to_term(&self, term: Term) -> Index {
        self.entries.partition_point(|entry| entry.term <= term) as Index
    }
}
