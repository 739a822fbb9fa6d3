//! What goes to the disk, and what must wait for it.
//!
//! All that one step writes becomes one [`DiskWork`]. Messages that depend on it are held until
//! it is reported durable; messages of later steps queue up behind them, so that a peer never
//! sees a later answer before an earlier one.

use super::DiskWork;
use crate::raft::{Entry, Index, Message, Micros, NodeId, Term};
use crate::wal::{LogWriter, Metadata};
use std::collections::VecDeque;

/// `metadata.txt` names the commit index for people and for a quick start; it may lag this much.
const METADATA_LAG_US: Micros = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct DiskQueue {
    writer: LogWriter,
    /// Length of `logs.txt` with everything that was asked for.
    log_bytes: u64,
    written: Metadata,
    written_at_us: Micros,
    next_ticket: u64,
    outstanding: VecDeque<Outstanding>,
    batch: Batch,
}

#[derive(Debug)]
struct Outstanding {
    ticket: u64,
    last: Option<(Index, Term)>,
    hard_state_term: Option<Term>,
    messages: Vec<(NodeId, Message)>,
}

/// What has become durable.
#[derive(Debug, Default)]
pub(super) struct Durable {
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
    metadata_due: bool,
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
            next_ticket: 1,
            outstanding: VecDeque::new(),
            batch: Batch::default(),
        }
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
        for entry in entries {
            let before = self.batch.append.len();
            self.writer.append(entry, &mut self.batch.append);
            self.log_bytes += (self.batch.append.len() - before) as u64;
            self.batch.last = Some((entry.index, entry.term));
        }
    }

    pub(super) fn require_metadata(&mut self) {
        self.batch.metadata_due = true;
    }

    pub(super) fn hold(&mut self, messages: Vec<(NodeId, Message)>) {
        self.batch.held.extend(messages);
    }

    /// Ends the step: the work to start, and the messages that wait for nothing.
    pub(super) fn finish(
        &mut self,
        metadata: Metadata,
        now: Micros,
    ) -> (Option<DiskWork>, Vec<(NodeId, Message)>) {
        let batch = std::mem::take(&mut self.batch);
        let lags = self.written != metadata && now >= self.written_at_us + METADATA_LAG_US;
        let writes_metadata = batch.metadata_due || lags;
        let has_work = writes_metadata || batch.truncate_to.is_some() || !batch.append.is_empty();
        if !has_work {
            return match self.outstanding.back_mut() {
                Some(last) => {
                    last.messages.extend(batch.held);
                    (None, Vec::new())
                }
                None => (None, batch.held),
            };
        }
        if writes_metadata {
            self.written = metadata;
            self.written_at_us = now;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.outstanding.push_back(Outstanding {
            ticket,
            last: batch.last,
            hard_state_term: writes_metadata.then_some(metadata.hard_state.term),
            messages: batch.held,
        });
        let work = DiskWork {
            ticket,
            truncate_to: batch.truncate_to,
            append: batch.append,
            metadata: writes_metadata.then(|| metadata.encode()),
        };
        (Some(work), Vec::new())
    }

    /// Takes in that all work up to `ticket` is durable.
    pub(super) fn on_durable(&mut self, ticket: u64) -> Durable {
        assert!(ticket < self.next_ticket, "durable before it was asked for");
        let mut durable = Durable::default();
        while self
            .outstanding
            .front()
            .is_some_and(|work| work.ticket <= ticket)
        {
            if let Some(work) = self.outstanding.pop_front() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::wal::{Files, recover};
    use std::sync::Arc;

    fn entry(index: Index, term: Term) -> Entry {
        Entry {
            index,
            term,
            command: Arc::new(Command::NoOp),
        }
    }

    fn queue() -> DiskQueue {
        DiskQueue::new(LogWriter::default(), Metadata::default(), 0)
    }

    fn carry_out(file: &mut Vec<u8>, work: Option<DiskWork>) {
        let work = work.expect("something was asked for");
        if let Some(length) = work.truncate_to {
            file.truncate(length as usize);
        }
        file.extend(work.append);
    }

    fn terms(file: &[u8]) -> Vec<Term> {
        let metadata = Metadata::default().encode();
        let recovery = recover(Files {
            logs: Some(file),
            metadata: Some(&metadata),
            damaged: None,
        });
        let entries = recovery.unwrap().recovered.entries;
        entries.iter().map(|entry| entry.term).collect()
    }

    /// Goal: whatever is appended and cut, within one batch or across several, the file holds just
    /// the entries that are left.
    #[test]
    fn cuts_and_appends_in_any_order_leave_the_right_file() {
        // Each batch: steps of (keep up to this index, then append up to that one).
        let batches: [&[(Index, Index)]; 5] = [
            &[(0, 3)],
            &[(3, 6), (4, 7)],
            &[(2, 4), (1, 2), (2, 8)],
            &[(8, 9), (0, 1)],
            &[(1, 5), (5, 6), (3, 4)],
        ];
        let (mut queue, mut file, mut model) = (queue(), Vec::new(), Vec::new());
        let mut term = 0;
        for batch in batches {
            for (keep, last) in batch {
                term += 1;
                if (*keep as usize) < model.len() {
                    queue.truncate_after(*keep);
                    model.truncate(*keep as usize);
                }
                let entries: Vec<Entry> = (keep + 1..=*last).map(|i| entry(i, term)).collect();
                queue.append(&entries);
                model.extend(entries.iter().map(|entry| entry.term));
            }
            let (work, _) = queue.finish(Metadata::default(), 0);
            carry_out(&mut file, work);
            assert_eq!(terms(&file), model);
        }
    }

    /// Goal: a message that depends on the disk leaves after it, and nothing overtakes it.
    #[test]
    fn held_messages_leave_in_order_when_the_disk_has_answered() {
        let message = |sequence| {
            let outcome = crate::raft::AppendOutcome::Accepted { match_index: 0 };
            let term = 1;
            vec![(
                2,
                Message::AppendReply {
                    term,
                    sequence,
                    outcome,
                },
            )]
        };
        let mut queue = queue();
        queue.hold(message(1));
        let (work, free) = queue.finish(Metadata::default(), 0);
        assert_eq!((work, free), (None, message(1)), "nothing to wait for");

        queue.append(&[entry(1, 1)]);
        queue.hold(message(2));
        let (first, free) = queue.finish(Metadata::default(), 0);
        assert_eq!(free, vec![]);
        queue.hold(message(3));
        let (none, free) = queue.finish(Metadata::default(), 0);
        assert_eq!((none, free), (None, vec![]), "queued behind the held one");

        let durable = queue.on_durable(first.unwrap().ticket);
        assert_eq!(durable.messages, [message(2), message(3)].concat());
        assert_eq!(durable.last, Some((1, 1)));
        assert_eq!(durable.hard_state_term, None, "only entries were written");
    }

    /// Goal: one flush may cover several works; the newest entry counts.
    #[test]
    fn one_flush_covers_all_earlier_works() {
        let mut queue = queue();
        queue.append(&[entry(1, 1)]);
        queue.finish(Metadata::default(), 0);
        queue.append(&[entry(2, 1)]);
        queue.finish(Metadata::default(), 0);
        queue.require_metadata();
        let (work, _) = queue.finish(Metadata::default(), 0);
        let durable = queue.on_durable(work.unwrap().ticket);
        assert_eq!(durable.last, Some((2, 1)));
        assert_eq!(durable.hard_state_term, Some(0));
    }
}
