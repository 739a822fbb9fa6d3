//! A simulated disk: what is durable, what is being flushed, what waits. Like the disk of the real
//! node it takes all that waits in one flush, writes the log first and replaces metadata.txt last.
//! A snapshot, and what is copied of the log for it, is written beside that, by a second flush that knows
//! nothing of the first, and takes the log's place as the real node does it.
//! A crash may leave any part of the flush under way, cut at any byte, and nothing that waits.

use crate::random::Random;
use raft_node::engine::{DiskWork, Input, SnapshotTask, SnapshotWork};
use raft_node::raft::{ChunkWanted, Index, SnapshotId, Term};
use raft_node::wal::{
    LogBase, Recovery, Restored, SnapshotError, SnapshotLook, SnapshotReader, goes_on_from,
};
use std::collections::VecDeque;

/// A file of a node, as far as it is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOf {
    /// `logs.txt`
    Log,
    /// `snapshot.txt`
    Snapshot,
    /// `mark.txt`
    Mark,
    /// `metadata.txt`
    Metadata,
}

/// What reaches the disk in one piece.
const SECTOR_BYTES: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub struct Disk {
    /// `logs.txt`, durable.
    pub logs: Vec<u8>,
    /// `snapshot.txt`, durable.
    pub snapshot: Vec<u8>,
    /// `snapshot.new.txt`, as far as it was written; `None`: what is written is lost.
    pub snapshot_new: Option<Vec<u8>>,
    /// `logs.new.txt`, as far as it was written.
    logs_new: Option<Vec<u8>>,
    /// The next piece of a snapshot that is written finds no room.
    pub is_full: bool,
    /// Nor does any other.
    pub has_no_room: bool,
    /// `metadata.txt`, durable.
    pub metadata: Option<Vec<u8>>,
    /// `damaged.txt`, durable.
    pub mark: Option<Vec<u8>>,
    /// `mark.txt` as the machine sees it, and as far as it was flushed.
    pub flush_mark: Option<Vec<u8>>,
    flushed_mark: Option<Vec<u8>>,
    /// A byte of `logs` was changed, and nobody has noticed yet.
    pub corrupt: bool,
    /// Entries up to here may have been lost to a changed byte: until the node knows a commit that
    /// far it must not vote, so no majority rests on its copies.
    pub damaged_until: Index,
    /// The last entry that is in `snapshot`, and its term.
    base: (Index, Term),
    /// End in bytes and term of each whole line of `logs` that is an entry.
    lines: Vec<(usize, Term)>,
    flushing: Vec<DiskWork>,
    waiting: VecDeque<DiskWork>,
    /// The first is under way.
    ahead: VecDeque<SnapshotWork>,
    /// How many faults stall it at the moment.
    pub stalls: u32,
    /// Only what is written beside the log does not get there.
    pub ahead_stalls: bool,
    /// It does though the rest is stalled.
    pub ahead_goes_on: bool,
    /// The flush under way took its time, but the disk is stalled.
    pub overdue: bool,
    /// The same for what is written beside the log.
    pub ahead_overdue: bool,
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

    /// What a process has left whose disk was taken away: nothing that it asks for is ever done.
    pub fn gone() -> Self {
        Disk {
            stalls: 1,
            ..Disk::default()
        }
    }

    /// An operator gives up what damage cost.
    pub fn accept(&mut self, metadata: Vec<u8>) {
        self.metadata = Some(metadata);
        (self.mark, self.flush_mark, self.flushed_mark) = (None, None, None);
        self.damaged_until = 0;
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
            self.carry_out(work);
        }
        self.replace_metadata(&works);
        Some((ticket, self.begin()))
    }

    fn carry_out(&mut self, work: &DiskWork) {
        self.announce(work);
        self.cut(work);
        self.write(&work.append);
        self.put_in_place(work, 2);
    }

    /// Takes in a work that is carried out beside the log. True: it begins.
    pub fn submit_ahead(&mut self, work: SnapshotWork) -> bool {
        self.ahead.push_back(work);
        self.ahead.len() == 1
    }

    /// The work beside the log that is under way is done: its ticket, whether the next one begins, and
    /// what the node is told of it besides.
    pub fn finish_ahead(&mut self) -> Option<(u64, bool, Option<Input>)> {
        let work = self.ahead.pop_front()?;
        let more = !self.ahead.is_empty();
        if let SnapshotTask::Look(snapshot) = work.task {
            let told = Input::SnapshotDamaged { snapshot };
            return Some((work.ticket, more, self.is_damaged(snapshot).then_some(told)));
        }
        let lost = std::mem::take(&mut self.is_full) || self.has_no_room;
        let lost = match lost {
            true => {
                (self.snapshot_new, self.logs_new) = (None, None);
                true
            }
            false => !self.write_ahead(&work.task, usize::MAX),
        };
        Some((work.ticket, more, lost.then_some(Input::SnapshotLost)))
    }

    /// Whether this snapshot is in place, and not what it was.
    fn is_damaged(&self, snapshot: SnapshotId) -> bool {
        let in_place = LogBase::read(&self.logs).map(|(base, _)| base.snapshot);
        let mut look = SnapshotLook::default();
        look.feed(&self.snapshot);
        in_place == Some(snapshot) && !look.is(snapshot)
    }

    /// So many bytes of it. False: what it goes on from is not there.
    fn write_ahead(&mut self, task: &SnapshotTask, most: usize) -> bool {
        let (file, begins, bytes) = match task {
            SnapshotTask::Write { begins, bytes } => {
                (&mut self.snapshot_new, *begins, bytes.clone())
            }
            SnapshotTask::Copy {
                first_line,
                from,
                to,
            } => {
                let mut bytes = first_line.clone().unwrap_or_default();
                if from < to {
                    bytes.extend_from_slice(&self.logs[*from as usize..*to as usize]);
                }
                (&mut self.logs_new, first_line.is_some(), bytes)
            }
            SnapshotTask::Look(_) => return true,
        };
        if begins {
            *file = Some(Vec::new());
        }
        let written = bytes.len().min(most);
        let file = file.as_mut();
        file.map(|file| file.extend_from_slice(&bytes[..written]))
            .is_some()
    }

    /// So many of the two steps: the log's name, the snapshot's name.
    fn put_in_place(&mut self, work: &DiskWork, steps: u64) {
        let Some(cut) = work.cut.as_ref().filter(|_| steps > 0) else {
            return;
        };
        let new = self.snapshot_new.as_ref().expect("a snapshot was written");
        assert_eq!(new.len() as u64, cut.snapshot.bytes, "all of it");
        let mut logs = match (cut.rest_from, cut.copied_to) {
            (Some(from), Some(to)) => {
                let copied = self.logs_new.take().expect("the log was copied");
                let length = cut.first_line.len() as u64 + (to - from);
                assert_eq!(copied.len() as u64, length, "all that was copied");
                copied
            }
            _ => cut.first_line.clone(),
        };
        if let Some(from) = cut.copied_to.or(cut.rest_from) {
            logs.extend_from_slice(&self.logs[from as usize..]);
        }
        self.base = (cut.snapshot.index, cut.snapshot.term);
        self.logs.clear();
        self.lines.clear();
        self.logs.extend_from_slice(&cut.first_line);
        self.write(&logs[cut.first_line.len()..]);
        if steps > 1 {
            self.snapshot = self.snapshot_new.take().unwrap_or_default();
        }
    }

    /// What a start finds: the snapshot that the log names, or goes on from, by whichever name it has.
    pub fn named_snapshot(&mut self) -> Option<Result<Restored, SnapshotError>> {
        let base = LogBase::read(&self.logs).map(|(base, _)| base);
        let read = |text: &[u8]| {
            let mut reader = SnapshotReader::default();
            reader.feed(text)?;
            reader.finish()
        };
        let is_named = |found: &Restored| match base {
            Some(base) => found.id == base.snapshot,
            None => goes_on_from(&self.logs, found),
        };
        let in_place = read(&self.snapshot);
        let new = self.snapshot_new.take();
        self.logs_new = None;
        if in_place.as_ref().is_ok_and(is_named) {
            return Some(in_place);
        }
        if let Some(new) = new
            && let Ok(found) = read(&new)
            && is_named(&found)
        {
            self.snapshot = new;
            return Some(Ok(found));
        }
        base.map(|_| in_place)
    }

    /// A piece of the snapshot that is in place, if it is this one.
    pub fn read(&self, wanted: &ChunkWanted) -> Vec<u8> {
        let in_place = LogBase::read(&self.logs).map(|(base, _)| base.snapshot);
        let from = wanted.offset as usize;
        match in_place == Some(wanted.snapshot) && !self.snapshot.is_empty() {
            true => self.snapshot[from..from + wanted.bytes].to_vec(),
            false => Vec::new(),
        }
    }

    /// Nothing of what is under way gets there.
    pub fn lose(&mut self) {
        self.flushing.clear();
        self.waiting.clear();
        self.ahead.clear();
    }

    /// The machine loses its memory. Returns whether a torn line was left behind.
    pub fn crash(&mut self, random: &mut Random) -> bool {
        self.waiting.clear();
        (self.overdue, self.ahead_overdue) = (false, false);
        if let Some(work) = self.ahead.pop_front() {
            let most = match &work.task {
                SnapshotTask::Write { bytes, .. } => bytes.len() as u64,
                SnapshotTask::Copy { from, to, .. } => to - from,
                SnapshotTask::Look(_) => 0,
            };
            self.write_ahead(&work.task, random.below(most + 1) as usize);
            self.ahead.clear();
        }
        let works = std::mem::take(&mut self.flushing);
        let reached = random.below(works.len() as u64 + 1) as usize;
        for work in &works[..reached] {
            self.carry_out(work);
        }
        match works.get(reached) {
            Some(work) => self.tear(work, random),
            None if random.percent(50) => self.replace_metadata(&works),
            None => {}
        }
        if random.percent(50) {
            self.flush_mark = self.flushed_mark.clone();
        }
        self.is_torn()
    }

    fn tear(&mut self, work: &DiskWork, random: &mut Random) {
        if random.percent(20) {
            return; // Not even cut.
        }
        self.announce(work);
        if work.metadata_before.is_some() && random.percent(50) {
            return;
        }
        self.cut(work);
        if work.cut.is_some() && random.percent(70) {
            self.write(&work.append);
            return self.put_in_place(work, random.below(3));
        }
        let written = random.below(work.append.len() as u64 + 1) as usize;
        if random.percent(30) && self.leave_hole(&work.append, written) {
            return;
        }
        self.write(&work.append[..written]);
        if random.percent(10) && written < work.append.len() && self.is_torn() {
            // The file was made longer, but its last page was never filled.
            self.logs
                .resize(self.logs.len() + work.append.len() - written, 0);
        }
    }

    /// What comes last got there, but not what is before it, from `written` on up to the end of a
    /// sector. False: there is no such place.
    fn leave_hole(&mut self, append: &[u8], written: usize) -> bool {
        let begin = self.logs.len();
        let end = (begin + written + 1).next_multiple_of(SECTOR_BYTES) - begin;
        if end >= append.len() {
            return false;
        }
        self.write(&append[..written]);
        self.logs.resize(begin + end, 0);
        self.logs.extend_from_slice(&append[end..]);
        true
    }

    fn is_torn(&self) -> bool {
        self.logs.len() > self.lines.last().map_or(self.first_line(), |line| line.0)
    }

    /// Length of the line that names the snapshot.
    fn first_line(&self) -> usize {
        LogBase::read(&self.logs).map_or(0, |(_, length)| length)
    }

    /// Changes a byte of what was flushed. False: there is too little to change.
    pub fn corrupt(&mut self, random: &mut Random) -> bool {
        let file = match self.base.0 > 0 && random.percent(50) {
            true => FileOf::Snapshot,
            false => FileOf::Log,
        };
        let at = random.below(self.text_of(file).len().max(1) as u64) as usize;
        self.flip(file, at, random.below(7) as u32)
    }

    /// Changes a bit of a file that was flushed. False: the file is not so long.
    pub fn flip(&mut self, file: FileOf, at: usize, bit: u32) -> bool {
        let text = match file {
            FileOf::Log => &mut self.logs,
            FileOf::Snapshot => &mut self.snapshot,
            FileOf::Mark => self.flush_mark.get_or_insert_default(),
            FileOf::Metadata => self.metadata.get_or_insert_default(),
        };
        let Some(byte) = text.get_mut(at) else {
            return false;
        };
        *byte ^= 1 << bit;
        if file == FileOf::Snapshot {
            self.snapshot_new = None;
        }
        self.corrupt |= matches!(file, FileOf::Log | FileOf::Snapshot);
        true
    }

    /// What a file holds.
    pub fn text_of(&self, file: FileOf) -> &[u8] {
        match file {
            FileOf::Log => &self.logs,
            FileOf::Snapshot => &self.snapshot,
            FileOf::Mark => self.flush_mark.as_deref().unwrap_or_default(),
            FileOf::Metadata => self.metadata.as_deref().unwrap_or_default(),
        }
    }

    /// Recovery cuts a torn tail off, or what comes after a damaged line, and mends what it knows.
    pub fn settle(&mut self, recovery: &Recovery) {
        self.logs.resize(recovery.log_bytes as usize, 0);
        for mend in &recovery.mends {
            let begin = mend.offset as usize;
            self.logs[begin..begin + mend.bytes.len()].copy_from_slice(&mend.bytes);
        }
        if self.first_line() == 0 {
            self.base = (0, 0);
        }
        let logs = std::mem::take(&mut self.logs);
        let (first_line, entries) = logs.split_at(LogBase::read(&logs).map_or(0, |base| base.1));
        self.logs.extend_from_slice(first_line);
        self.lines.clear();
        self.write(entries);
        assert!(!self.is_torn(), "recovery left a torn line");
    }

    /// Whether a log is being put in place of another.
    pub fn is_switching(&self) -> bool {
        self.flushing.iter().any(|work| work.cut.is_some())
    }

    /// Whether the rest of the log is being copied.
    pub fn is_copying(&self) -> bool {
        let task = self.ahead.front().map(|work| &work.task);
        task.is_some_and(|task| matches!(task, SnapshotTask::Copy { .. }))
    }

    /// The last entry that is in the snapshot, by the log's first line.
    pub fn base_index(&self) -> Index {
        self.base.0
    }

    /// The last index that is durable.
    pub fn last_index(&self) -> Index {
        self.base.0 + self.lines.len() as Index
    }

    /// Whether a majority may rest on the entry of this term at `index` here: it is durable, or
    /// was, and its loss keeps the node from voting.
    pub fn holds(&self, index: Index, term: Term) -> bool {
        let in_snapshot = index <= self.base.0;
        in_snapshot || self.term_at(index) == Some(term) || index <= self.damaged_until
    }

    /// Term of the durable entry at `index`.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let behind = index.checked_sub(self.base.0)?;
        let line = self.lines.get(behind.checked_sub(1)? as usize)?;
        Some(line.1)
    }

    /// What comes before all else of a work.
    fn announce(&mut self, work: &DiskWork) {
        if let Some(metadata) = &work.metadata_before {
            self.metadata = Some(metadata.clone());
        }
    }

    fn cut(&mut self, work: &DiskWork) {
        if let Some(mark) = &work.mark {
            self.flush_mark = Some(mark.clone());
            if work.flush_mark {
                self.flushed_mark = Some(mark.clone());
            }
        }
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
