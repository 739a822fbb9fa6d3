//! What goes to the disk, and what must wait for it.
//!
//! All that one step writes becomes one [`DiskWork`]. Messages that depend on it are held until
//! it is reported durable; messages of later steps queue up behind them, so that a peer never
//! sees a later answer before an earlier one.

use super::{DiskWork, SnapshotTask, SnapshotWork};
use crate::raft::{Entry, Index, Message, Micros, Mutation, NodeId, SnapshotId, Term};
use crate::wal::{LogBase, LogCut, LogWriter, Mark, Metadata};
use std::collections::VecDeque;

/// `metadata.txt` names the commit index for people and for a quick start; it may lag this much.
const METADATA_LAG_US: Micros = 1_000_000;

/// `mark.txt` rides along with other work, at most so often.
const MARK_LAG_US: Micros = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct DiskQueue {
    writer: LogWriter,
    /// Length of `logs.txt` with everything that was asked for.
    log_bytes: u64,
    written: Metadata,
    written_at_us: Micros,
    marked_at_us: Option<Micros>,
    /// The term of the mark that was flushed last.
    marked_term: Option<Term>,
    next_ticket: u64,
    durable_ticket: u64,
    outstanding: VecDeque<Outstanding>,
    batch: Batch,
    snapshots: SnapshotQueue,
    mutation: Option<Mutation>,
}

/// Works on files that are not in place yet.
#[derive(Debug, Default)]
struct SnapshotQueue {
    next_ticket: u64,
    written_ticket: u64,
    waiting: VecDeque<SnapshotWork>,
    /// The last work for the log that takes such files away.
    cut_ticket: u64,
    /// Messages that wait until what a work writes is on disk, so that a sender is never far ahead of it.
    held: VecDeque<(u64, Vec<(NodeId, Message)>)>,
}

#[derive(Debug)]
struct Outstanding {
    ticket: u64,
    since_us: Micros,
    last: Option<(Index, Term)>,
    hard_state_term: Option<Term>,
    messages: Vec<(NodeId, Message)>,
}

/// What has become durable.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// When the newest of the works was asked for.
    pub(super) since_us: Option<Micros>,
    /// May leave now.
    pub(super) messages: Vec<(NodeId, Message)>,
    /// The last entry that was written.
    pub(super) last: Option<(Index, Term)>,
    /// Term of the last hard state that was written.
    pub(super) hard_state_term: Option<Term>,
}

/// What the step under way has collected.
#[derive(Debug, Default)]
struct Batch {
    truncate_to: Option<u64>,
    append: Vec<u8>,
    cut: Option<LogCut>,
    metadata_due: bool,
    flush_due: bool,
    last: Option<(Index, Term)>,
    held: Vec<(NodeId, Message)>,
}

impl DiskQueue {
    pub(super) fn new(writer: LogWriter, written: Metadata, now: Micros) -> Self {
        DiskQueue {
            log_bytes: writer.len_bytes(),
            writer,
            written,
            written_at_us: now,
            marked_at_us: None,
            marked_term: None,
            next_ticket: 1,
            durable_ticket: 0,
            outstanding: VecDeque::new(),
            batch: Batch::default(),
            snapshots: SnapshotQueue::default(),
            mutation: None,
        }
    }

    /// The same, with one rule broken where a test asks for that.
    pub(super) fn mutated(self, mutation: Option<Mutation>) -> Self {
        DiskQueue { mutation, ..self }
    }

    pub(super) fn truncate_after(&mut self, index: Index) {
        let keep = self.writer.truncate_after(index);
        let batch_start = self.log_bytes - self.batch.append.len() as u64;
        if keep >= batch_start {
            self.batch.append.truncate((keep - batch_start) as usize);
        } else {
            self.batch.append.clear();
            let earlier = self.batch.truncate_to.unwrap_or(keep);
            self.batch.truncate_to = Some(earlier.min(keep));
        }
        self.log_bytes = keep;
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        assert!(
            entries.is_empty() || self.batch.cut.is_none(),
            "appended behind a cut of the same step"
        );
        for entry in entries {
            let before = self.batch.append.len();
            self.writer.append(entry, &mut self.batch.append);
            self.log_bytes += (self.batch.append.len() - before) as u64;
            self.batch.last = Some((entry.index, entry.term));
        }
    }

    /// Writes a piece of a snapshot. Returns the ticket.
    pub(super) fn write_snapshot(&mut self, begins: bool, bytes: Vec<u8>) -> u64 {
        self.snapshots.push(SnapshotTask::Write { begins, bytes })
    }

    /// Has the snapshot that is in place looked at.
    pub(super) fn look_at(&mut self, snapshot: SnapshotId) {
        self.snapshots.push(SnapshotTask::Look(snapshot));
    }

    /// Copies a part of the log into the one that begins behind a snapshot. Returns the ticket.
    pub(super) fn copy_log(&mut self, begins: Option<&LogBase>, from: u64, to: u64) -> u64 {
        let first_line = begins.map(LogBase::encode);
        self.snapshots.push(SnapshotTask::Copy {
            first_line,
            from,
            to,
        })
    }

    /// All works on files that are not in place yet, up to this one, are done.
    pub(super) fn on_snapshot_written(&mut self, ticket: u64) {
        let queue = &mut self.snapshots;
        assert!(ticket <= queue.next_ticket, "done before it was asked for");
        queue.written_ticket = queue.written_ticket.max(ticket);
        while queue.held.front().is_some_and(|held| held.0 <= ticket) {
            let messages = queue.held.pop_front().map(|held| held.1);
            // They may also say that a term is on record.
            self.batch.held.extend(messages.unwrap_or_default());
        }
    }

    /// See [`DiskQueue::on_snapshot_written`].
    pub(super) fn written_ticket(&self) -> u64 {
        self.snapshots.written_ticket
    }

    /// The works of [`SnapshotQueue`] that may begin: none while the log's own thread takes the files
    /// of the last ones away, which have the same names.
    pub(super) fn take_snapshot_works(&mut self) -> Vec<SnapshotWork> {
        let queue = &mut self.snapshots;
        let early = self.mutation == Some(Mutation::NextSnapshotDuringTheSwitch);
        match queue.cut_ticket <= self.durable_ticket || early {
            true => queue.waiting.drain(..).collect(),
            false => Vec::new(),
        }
    }

    /// Puts the snapshot that was written, and the rest of the log, in place of the log; of which so much
    /// was copied already. Nothing is appended in the same step any more.
    pub(super) fn cut_log(&mut self, base: &LogBase, keeps_rest: bool, copied_to: Option<u64>) {
        let mut cut = self.writer.cut_before(base, keeps_rest);
        cut.copied_to = copied_to;
        self.snapshots.cut_ticket = self.next_ticket;
        match self.mutation {
            Some(Mutation::CutForgetsItsBase) => {
                cut.first_line.clear();
                cut.copied_to = None;
            }
            Some(Mutation::ChainBeginsAnew) => self.writer.begin_chain_anew(),
            _ => {}
        }
        self.batch.cut = Some(cut);
        self.log_bytes = self.writer.len_bytes();
        let place = (base.snapshot.index, base.snapshot.term);
        self.batch.last = self.batch.last.filter(|_| keeps_rest).or(Some(place));
        // It says that what is in the snapshot is committed.
        self.batch.metadata_due = true;
    }

    /// The ticket of the work that this step makes, if it makes one.
    pub(super) fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// All works up to this one are durable.
    pub(super) fn durable_ticket(&self) -> u64 {
        self.durable_ticket
    }

    /// Checksum of the line of an entry.
    pub(super) fn log_crc(&self, index: Index) -> Option<u32> {
        self.writer.crc_at(index)
    }

    /// Where in the log an entry ends.
    pub(super) fn end_bytes(&self, index: Index) -> Option<u64> {
        self.writer.end_bytes(index)
    }

    /// Length of the line of an entry.
    pub(super) fn line_bytes(&self, index: Index) -> u64 {
        self.writer.line_bytes(index)
    }

    pub(super) fn require_metadata(&mut self) {
        self.batch.metadata_due = true;
    }

    pub(super) fn require_flush(&mut self) {
        self.batch.flush_due = true;
    }

    pub(super) fn hold(&mut self, messages: Vec<(NodeId, Message)>) {
        self.batch.held.extend(messages);
    }

    /// The same for messages that also wait for the last piece of a snapshot that was asked for.
    pub(super) fn hold_for_snapshot(&mut self, messages: Vec<(NodeId, Message)>) {
        let queue = &mut self.snapshots;
        match queue.next_ticket > queue.written_ticket {
            true => queue.held.push_back((queue.next_ticket, messages)),
            false => self.hold(messages),
        }
    }

    /// Ends the step: the work to start, and the messages that wait for nothing.
    pub(super) fn finish(
        &mut self,
        metadata: Metadata,
        durable_index: Index,
        now: Micros,
    ) -> (Option<DiskWork>, Vec<(NodeId, Message)>) {
        let batch = std::mem::take(&mut self.batch);
        let lags = self.written != metadata && now >= self.written_at_us + METADATA_LAG_US;
        let raises_format = metadata.format > self.written.format;
        // Before whoever is promised something for the first time hears of it.
        let names_due = !self.written.names.cover(&metadata.names)
            && self.mutation != Some(Mutation::NamesOnDiskLate);
        let writes_metadata = batch.metadata_due || lags || raises_format || names_due;
        let flushes = writes_metadata || batch.truncate_to.is_some() || !batch.append.is_empty();
        let has_work = flushes || batch.flush_due;
        if !has_work {
            return match self.outstanding.back_mut() {
                Some(last) => {
                    last.messages.extend(batch.held);
                    (None, Vec::new())
                }
                None => (None, batch.held),
            };
        }
        // What is on record now is safe to stand there in any case.
        let before = Metadata {
            format: metadata.format,
            ..self.written.clone()
        };
        let metadata_before = raises_format.then(|| before.encode());
        if writes_metadata {
            self.written = metadata.clone();
            self.written_at_us = now;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let term = metadata.hard_state.term;
        // Without a mark of its term a line that a crash tears counts as damage.
        let first_of_term = !batch.append.is_empty() && self.marked_term != Some(term);
        // A log that is cut must not end before what the mark says was durable.
        let flush_mark = !flushes
            || batch.truncate_to.is_some()
            || batch.cut.is_some()
            || lags && !batch.metadata_due
            || first_of_term;
        if flush_mark {
            self.marked_term = Some(term);
        }
        let marked_lately = self.marked_at_us.is_some_and(|at| now < at + MARK_LAG_US);
        let mark = (flush_mark || !marked_lately).then(|| {
            self.marked_at_us = Some(now);
            let mark = Mark {
                commit_index: metadata.commit_index.min(durable_index),
                durable_index,
                term,
                ticket,
            };
            mark.encode()
        });
        self.outstanding.push_back(Outstanding {
            ticket,
            since_us: now,
            last: batch.last,
            hard_state_term: writes_metadata.then_some(metadata.hard_state.term),
            messages: batch.held,
        });
        let work = DiskWork {
            ticket,
            metadata_before,
            truncate_to: batch.truncate_to,
            append: batch.append,
            cut: batch.cut,
            metadata: writes_metadata.then(|| metadata.encode()),
            mark,
            flush_mark,
        };
        (Some(work), Vec::new())
    }

    /// Takes in that all work up to `ticket` is durable.
    pub(super) fn on_durable(&mut self, ticket: u64) -> Durable {
        assert!(ticket < self.next_ticket, "durable before it was asked for");
        self.durable_ticket = self.durable_ticket.max(ticket);
        let mut durable = Durable::default();
        while self
            .outstanding
            .front()
            .is_some_and(|work| work.ticket <= ticket)
        {
            if let Some(work) = self.outstanding.pop_front() {
                durable.since_us = Some(work.since_us);
                durable.messages.extend(work.messages);
                durable.last = work.last.or(durable.last);
                durable.hard_state_term = work.hard_state_term.or(durable.hard_state_term);
            }
        }
        durable
    }

    /// When the lagging metadata should be written at the latest.
    pub(super) fn wake_at(&self, metadata: &Metadata) -> Option<Micros> {
        (self.written != *metadata).then_some(self.written_at_us + METADATA_LAG_US)
    }
}

impl SnapshotQueue {
    fn push(&mut self, task: SnapshotTask) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.waiting.push_back(SnapshotWork { ticket, task });
        ticket
    }
}

#[cfg(test)]
mod tests;
