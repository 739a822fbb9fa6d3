//! A simulated disk: what is durable, what is being flushed, what waits. Like the disk of the real
//! node it takes all that waits in one flush, writes the log first and replaces metadata.txt last.
//! A crash may leave any part of the flush under way, cut at any byte, and nothing that waits.

use crate::random::Random;
use raft_node::engine::DiskWork;
use raft_node::raft::{Index, Term};
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub struct Disk {
    /// `logs.txt`, durable.
    pub logs: Vec<u8>,
    /// `metadata.txt`, durable.
    pub metadata: Option<Vec<u8>>,
    /// `damaged.txt`, durable.
    pub mark: Option<Vec<u8>>,
    /// A byte of `logs` was changed, and nobody has noticed yet.
    pub corrupt: bool,
    /// Entries up to here may have been lost to a changed byte: until the node knows a commit that
    /// far it must not vote, so no majority rests on its copies.
    pub damaged_until: Index,
    /// End in bytes and term of each whole line of `logs`.
    lines: Vec<(usize, Term)>,
    flushing: Vec<DiskWork>,
    waiting: VecDeque<DiskWork>,
    /// How many faults stall it at the moment.
    pub stalls: u32,
    /// The flush under way took its time, but the disk is stalled.
    pub overdue: bool,
}

impl Disk {
    /// A disk that was written before the world began.
    pub fn written(logs: &[u8], metadata: Vec<u8>) -> Self {
        let mut disk = Disk {
            metadata: Some(metadata),
            ..Disk::default()
        };
        disk.write(logs);
        disk
    }

    /// Takes a work in. True: the disk was idle, so that a flush begins.
    pub fn submit(&mut self, work: DiskWork) -> bool {
        self.waiting.push_back(work);
        self.begin()
    }

    /// Begins the next flush, if the disk is idle and anything waits.
    fn begin(&mut self) -> bool {
        if !self.flushing.is_empty() || self.waiting.is_empty() {
            return false;
        }
        self.flushing.extend(self.waiting.drain(..));
        true
    }

    /// The flush under way is done: its last ticket, and whether the next one begins.
    pub fn finish(&mut self) -> Option<(u64, bool)> {
        let works = std::mem::take(&mut self.flushing);
        let ticket = works.last()?.ticket;
        for work in &works {
            self.cut(work);
            self.write(&work.append);
        }
        self.replace_metadata(&works);
        Some((ticket, self.begin()))
    }

    /// The machine loses its memory. Returns whether a torn line was left behind.
    pub fn crash(&mut self, random: &mut Random) -> bool {
        self.waiting.clear();
        self.overdue = false;
        let works = std::mem::take(&mut self.flushing);
        let reached = random.below(works.len() as u64 + 1) as usize;
        for work in &works[..reached] {
            self.cut(work);
            self.write(&work.append);
        }
        match works.get(reached) {
            Some(work) => self.tear(work, random),
            None if random.percent(50) => self.replace_metadata(&works),
            None => {}
        }
        self.logs.len() > self.lines.last().map_or(0, |line| line.0)
    }

    fn tear(&mut self, work: &DiskWork, random: &mut Random) {
        if random.percent(20) {
            return; // Not even cut.
        }
        self.cut(work);
        let written = random.below(work.append.len() as u64 + 1) as usize;
        self.write(&work.append[..written]);
        if random.percent(10) && written < work.append.len() && self.is_torn() {
            // The file was made longer, but its last page was never filled.
            self.logs
                .resize(self.logs.len() + work.append.len() - written, 0);
        }
    }

    fn is_torn(&self) -> bool {
        self.logs.len() > self.lines.last().map_or(0, |line| line.0)
    }

    /// Changes a byte of what was flushed, in any line but the last: at the end of the file a
    /// change may look like a torn write. False: there is too little to change.
    pub fn corrupt(&mut self, random: &mut Random) -> bool {
        let Some((last_line, _)) = self.lines.len().checked_sub(2).map(|at| self.lines[at]) else {
            return false;
        };
        let at = random.below(last_line as u64) as usize;
        self.logs[at] ^= 1 << random.below(7);
        self.corrupt = true;
        true
    }

    /// Recovery cuts a torn tail off, or what comes after a damaged line.
    pub fn cut_tail(&mut self, bytes: u64) {
        self.logs.truncate(bytes as usize);
        self.lines.retain(|(end, _)| *end as u64 <= bytes);
        assert!(!self.is_torn(), "recovery left a torn line");
    }

    /// The last index that is durable.
    pub fn last_index(&self) -> Index {
        self.lines.len() as Index
    }

    /// Whether a majority may rest on the entry of this term at `index` here: it is durable, or
    /// was, and its loss keeps the node from voting.
    pub fn holds(&self, index: Index, term: Term) -> bool {
        self.term_at(index) == Some(term) || index <= self.damaged_until
    }

    /// Term of the durable entry at `index`.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let line = self.lines.get(index.checked_sub(1)? as usize)?;
        Some(line.1)
    }

    fn cut(&mut self, work: &DiskWork) {
        let Some(bytes) = work.truncate_to else {
            return;
        };
        let bytes = bytes as usize;
        assert!(bytes <= self.logs.len(), "cut beyond the end of the log");
        self.logs.truncate(bytes);
        self.lines.retain(|(end, _)| *end <= bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.logs.extend_from_slice(line);
            if line.ends_with(b"\n") {
                self.lines.push((self.logs.len(), term_of(line)));
            }
        }
    }

    fn replace_metadata(&mut self, works: &[DiskWork]) {
        let last = works.iter().rev().find_map(|work| work.metadata.clone());
        self.metadata = last.or(self.metadata.take());
    }
}

/// The number before the tab, as the format of `logs.txt` has it.
fn term_of(line: &[u8]) -> Term {
    let text = std::str::from_utf8(line).expect("the log is text");
    let before_tab = text.split('\t').next().expect("split gives one at least");
    let term = before_tab.rsplit(' ').next().map(str::parse);
    term.expect("rsplit gives one at least")
        .expect("a line ends with its term")
}
