//! Snapshots: when one is taken, how it gets to the disk while the node goes on, and what becomes of
//! one that a leader sends.
//!
//! *When* is a function of the log alone, so that all nodes take theirs at the same entries: at the
//! first entry at which the text of the log has grown, since the last such place, by as much as the
//! state took there, and by [`Start::snapshot_log_bytes`] at least. So what is written for snapshots
//! is in proportion to what is written for the log, and the log to the state. A place may be left out
//! (too much changes meanwhile, no room, a follower is receiving the last one); the next one stays
//! where it is.
//!
//! The first place of all is also where the format that snapshots need is asked for: whoever writes little
//! needs none, and can go back to an older version all the time. In a log that an older version has written,
//! only what came since the upgrade counts ([`Recovered::reads`](crate::raft::Recovered::reads)), so that
//! the way back does not end with the upgrade of the last node.
//!
//! *How*: beside the log's own works, which never wait for it. A piece of text at a time, each after the
//! one before is durable; then the rest of the log is copied, again piece by piece and pass by pass,
//! while it goes on to grow. Only what is committed is copied: it stays as it is. When little is left,
//! one work for the log puts snapshot and rest of the log in place of the log (see `disk::snapshot`), and
//! the core lets go of what is in the snapshot.

use super::Reply;
use super::work::Engine;
use crate::kv::{ExportStep, Store};
use crate::raft::{self, Event, Index, Mutation, Piece, SnapshotId, Term};
use crate::wal::{LogBase, LogWriter, Restored, SnapshotHead, SnapshotReader, SnapshotWriter};

/// From this format on there are snapshots.
const FORMAT: u64 = 2;
/// Text that is written at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Of the rest of the log that is copied at a time.
const COPY_BYTES: u64 = 1024 * 1024;
/// So little of it is copied in the switch itself, where nothing else is written.
const COPY_LAST_BYTES: u64 = 128 * 1024;
/// Most passes over what the log has grown by meanwhile: a log that grows faster than it is copied is
/// cut all the same.
const COPY_PASSES: u32 = 8;
/// Records that are taken off the state at a time: each may be large.
const RECORDS: usize = 16;
/// Entries that are in a snapshot stay in memory up to so many bytes.
const KEEP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So many places are left out for the sake of a follower that is receiving the last one.
const LEFT_OUT_MAX: u32 = 3;

/// What an engine starts from, beside what the core needs.
#[derive(Debug, Default)]
pub struct Start {
    /// Goes on behind the recovered entries.
    pub log: LogWriter,
    /// The state after the snapshot that precedes them.
    pub store: Store,
    /// Snapshots are taken, but not before the log has grown by so many bytes. `None`: never.
    pub snapshot_log_bytes: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Snapshots {
    log_bytes_min: Option<u64>,
    /// Text of the log since the last place, and how much makes the next.
    log_bytes: u64,
    due_bytes: u64,
    /// Text of the log behind this entry is counted until there is a format with snapshots.
    reads_since: Index,
    grown_bytes: u64,
    left_out: u32,
    taking: Option<Taking>,
    receiving: Option<Receiving>,
    /// The state that was received, until the disk has all of it.
    received: Option<(Restored, u64)>,
}

/// The own state on its way to the disk.
#[derive(Debug)]
struct Taking {
    log_crc: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The next piece can be written once the work with this ticket is durable.
    Writing(SnapshotWriter, u64),
    /// All of it is written, with the work of this ticket.
    Written(SnapshotId, u64),
    /// The rest of the log is copied.
    Copying(SnapshotId, Copying),
    /// The work with this ticket puts it in place.
    Placing(SnapshotId, u64),
}

/// The rest of the log on its way into the next one.
#[derive(Clone, Copy, Debug)]
struct Copying {
    /// The work of this ticket copies up to here,...
    ticket: u64,
    copied_to: u64,
    /// ...and this pass ends here.
    pass_to: u64,
    passes: u32,
}

/// A leader's state on its way from the wire to the disk.
#[derive(Debug)]
struct Receiving {
    snapshot: SnapshotId,
    reader: SnapshotReader,
}

impl Snapshots {
    pub(super) fn new(log_bytes_min: Option<u64>, store: &Store, reads_since: Index) -> Self {
        let mut snapshots = Snapshots {
            log_bytes_min,
            log_bytes: 0,
            due_bytes: 0,
            reads_since,
            grown_bytes: 0,
            left_out: 0,
            taking: None,
            receiving: None,
            received: None,
        };
        snapshots.begin_at(store);
        snapshots
    }

    /// From here on the text of the log is counted.
    fn begin_at(&mut self, store: &Store) {
        self.log_bytes = 0;
        self.due_bytes = store.live_bytes().max(self.log_bytes_min.unwrap_or(0));
    }

    /// An entry was applied whose line has so many bytes. Returns whether this is a place.
    pub(super) fn note_applied(&mut self, store: &Store, line_bytes: u64) -> bool {
        if self.log_bytes_min.is_none() {
            return false;
        }
        self.log_bytes += line_bytes;
        let is_place = self.log_bytes >= self.due_bytes;
        if is_place {
            self.begin_at(store);
        }
        is_place
    }

    /// The same, for the format that snapshots need. Returns whether the log has grown by as much as
    /// makes a place since the node first ran a version that reads it.
    pub(super) fn note_growth(&mut self, store: &Store, index: Index, line_bytes: u64) -> bool {
        if index > self.reads_since && store.format() < FORMAT {
            self.grown_bytes += line_bytes;
        }
        self.growth_left(store) == Some(0)
    }

    /// How much more text of the log it takes until the format that snapshots need is asked for.
    /// `None`: it is in force, or nothing asks for it.
    pub(super) fn growth_left(&self, store: &Store) -> Option<u64> {
        let due_bytes = self.log_bytes_min?.max(store.live_bytes());
        let is_older = store.format() < FORMAT;
        is_older.then(|| due_bytes.saturating_sub(self.grown_bytes))
    }

    /// Whether a snapshot may be taken now; who sends the last one waits for its end a while.
    pub(super) fn may_begin(&mut self, store: &Store, is_installing: bool) -> bool {
        if store.format() < FORMAT {
            return false;
        }
        let waits = is_installing && self.left_out < LEFT_OUT_MAX;
        let may = self.taking.is_none() && self.received.is_none() && !waits;
        self.left_out = if waits { self.left_out + 1 } else { 0 };
        may
    }

    /// Whether nothing is being taken or received.
    pub(super) fn is_free(&self) -> bool {
        self.taking.is_none() && self.receiving.is_none() && self.received.is_none()
    }

    /// What stays in the log's memory: a part of what comes between two snapshots.
    fn keep_bytes(&self) -> usize {
        let part = self.log_bytes_min.unwrap_or(0) / 4;
        KEEP_BYTES_MAX.min(part as usize)
    }

    /// Begins to take the state of now, that after the entry of this term.
    pub(super) fn begin(&mut self, store: &mut Store, term: Term, log_crc: u32) -> Vec<u8> {
        let head = SnapshotHead {
            state: store.begin_export(),
            term,
            log_crc,
        };
        let mut text = Vec::new();
        let writer = SnapshotWriter::begin(head, &mut text);
        // Who applies entries needs no snapshot of a leader any more.
        self.receiving = None;
        self.taking = Some(Taking {
            log_crc,
            stage: Stage::Writing(writer, 0),
        });
        text
    }
}

impl Engine {
    /// The disk could not keep what was written of a snapshot.
    pub(super) fn on_snapshot_lost(&mut self, now: raft::Micros) {
        self.leave_out_unplaced();
        if self.snapshots.receiving.take().is_some() | self.snapshots.received.take().is_some() {
            self.drive(now, raft::Input::InstallFailed);
        }
    }

    /// The file that a snapshot is written to is needed for another. What is being put in place is
    /// out of it by then.
    fn leave_out_unplaced(&mut self) {
        let stage = self.snapshots.taking.as_ref().map(|taking| &taking.stage);
        if stage.is_some_and(|stage| !matches!(stage, Stage::Placing(..))) {
            self.leave_out();
        }
    }

    fn leave_out(&mut self) {
        self.snapshots.taking = None;
        if self.mutated(Mutation::LostSnapshotBlocksNext) {
            self.snapshots.log_bytes_min = None;
        }
        self.give_up_on_demand();
        let mut view = self.view.lock();
        view.store.end_export();
        let index = view.store.applied_index();
        drop(view);
        let term = self.raft.term();
        self.effects
            .events
            .push(Event::SnapshotSkipped { term, index });
    }

    /// A piece came from the leader.
    pub(super) fn on_piece(&mut self, piece: &Piece) {
        self.leave_out_unplaced();
        let begins = piece.offset == 0;
        if !self.mutated(Mutation::SecondSnapshotBesideTheFirst) {
            self.snapshots.received = None;
        }
        if begins {
            self.snapshots.receiving = Some(Receiving {
                snapshot: piece.snapshot,
                reader: SnapshotReader::default(),
            });
        }
        let Some(receiving) = &mut self.snapshots.receiving else {
            self.snapshots_refused = true;
            return;
        };
        let fits = (receiving.snapshot, receiving.reader.bytes()) == (piece.snapshot, piece.offset);
        if !fits || receiving.reader.feed(&piece.data).is_err() {
            self.snapshots.receiving = None;
            self.snapshots_refused = true;
            return;
        }
        let ticket = self.disk.write_snapshot(begins, piece.data.to_vec());
        if receiving.reader.bytes() < piece.snapshot.bytes {
            return;
        }
        let Some(Receiving { snapshot, reader }) = self.snapshots.receiving.take() else {
            return;
        };
        match reader.finish() {
            Ok(restored) if restored.id == snapshot => {
                self.snapshots.received = Some((restored, ticket));
            }
            Ok(_) | Err(_) => self.snapshots_refused = true,
        }
    }

    /// Goes on with whatever is under way: once a step, when nothing more is appended in it.
    pub(super) fn advance_snapshots(&mut self, now: raft::Micros) {
        if std::mem::take(&mut self.snapshots_refused) {
            self.drive(now, raft::Input::InstallFailed);
        }
        let (written, durable) = (self.disk.written_ticket(), self.disk.durable_ticket());
        let (early_install, early_cut) = (
            self.mutated(Mutation::InstalledBeforeDurable),
            self.mutated(Mutation::CutBeforeDurable),
        );
        if let Some((restored, ticket)) = &self.snapshots.received
            && (*ticket <= written || early_install)
        {
            let installed = raft::Input::Installed {
                snapshot: restored.id,
                configuration: restored.store.configuration().cloned(),
            };
            self.drive(now, installed);
            self.snapshots.received = None;
        }
        let Some(taking) = self.snapshots.taking.take() else {
            return;
        };
        let Taking { log_crc, stage } = taking;
        let stage = match stage {
            Stage::Writing(writer, ticket) if ticket <= written => self.write_piece(writer),
            Stage::Written(snapshot, _) if early_cut => {
                Some(self.put_in_place(LogBase { snapshot, log_crc }, None))
            }
            Stage::Written(snapshot, ticket) if ticket <= written => {
                Some(self.begin_copy(LogBase { snapshot, log_crc }))
            }
            Stage::Copying(snapshot, copying) if copying.ticket <= written => {
                Some(self.go_on_copying(LogBase { snapshot, log_crc }, copying))
            }
            Stage::Placing(snapshot, ticket) if ticket <= durable => {
                let keep_bytes = self.snapshots.keep_bytes();
                let taken = raft::Input::SnapshotTaken {
                    snapshot,
                    keep_bytes,
                };
                self.drive(now, taken);
                let term = snapshot.term;
                let taken = Event::SnapshotTaken { term, snapshot };
                self.effects.events.push(taken);
                if let Some(token) = self.pending.snapshot.take() {
                    self.reply(token, Ok(Reply::SnapshotTaken { snapshot }));
                }
                None
            }
            waits => Some(waits),
        };
        self.snapshots.taking = stage.map(|stage| Taking { log_crc, stage });
    }

    /// Up to here the log may be copied: what is on disk and committed is not changed any more.
    fn copy_end(&self) -> Option<u64> {
        let settled = match self.mutated(Mutation::CopyBeforeCommit) {
            true => self.raft.durable_index(),
            false => self.applied_index.min(self.raft.durable_index()),
        };
        self.disk.end_bytes(settled)
    }

    fn begin_copy(&mut self, base: LogBase) -> Stage {
        let from = self.disk.end_bytes(base.snapshot.index);
        let (Some(from), Some(end)) = (from, self.copy_end()) else {
            unreachable!("what was not cut is known");
        };
        let pass_to = end.max(from);
        let to = pass_to.min(from + COPY_BYTES);
        let copying = Copying {
            ticket: self.disk.copy_log(Some(&base), from, to),
            copied_to: to,
            pass_to,
            passes: 1,
        };
        Stage::Copying(base.snapshot, copying)
    }

    fn go_on_copying(&mut self, base: LogBase, mut copying: Copying) -> Stage {
        let from = copying.copied_to;
        if from == copying.pass_to {
            let end = self.copy_end().unwrap_or(from).max(from);
            if end - from <= COPY_LAST_BYTES || copying.passes == COPY_PASSES {
                return self.put_in_place(base, Some(from));
            }
            copying.pass_to = end;
            copying.passes += 1;
        }
        copying.copied_to = copying.pass_to.min(from + COPY_BYTES);
        copying.ticket = self.disk.copy_log(None, from, copying.copied_to);
        Stage::Copying(base.snapshot, copying)
    }

    fn put_in_place(&mut self, base: LogBase, copied_to: Option<u64>) -> Stage {
        self.disk.cut_log(&base, true, copied_to);
        Stage::Placing(base.snapshot, self.disk.next_ticket())
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn write_piece(&mut self, mut writer: SnapshotWriter) -> Option<Stage> {
        let mut text = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        while text.len() < PIECE_BYTES {
            // Reads of clients get in between.
            let step = self.view.lock().store.export_next(RECORDS);
            match step {
                ExportStep::Records(records) => {
                    records
                        .iter()
                        .for_each(|record| writer.record(record, &mut text));
                }
                ExportStep::Done => {
                    let snapshot = writer.end(&mut text);
                    let ticket = self.disk.write_snapshot(false, text);
                    return Some(Stage::Written(snapshot, ticket));
                }
                ExportStep::GivenUp => {
                    self.leave_out();
                    return None;
                }
            }
        }
        let ticket = self.disk.write_snapshot(false, text);
        Some(Stage::Writing(writer, ticket))
    }

    /// The core has put the received snapshot in place of its log.
    pub(super) fn install(&mut self, keeps_rest: bool) {
        let Some((restored, _)) = self.snapshots.received.take() else {
            unreachable!("the core installs only what was received");
        };
        let Restored { id, head, store } = restored;
        self.snapshots.begin_at(&store);
        self.snapshots.taking = None;
        self.give_up_on_demand();
        self.applied_index = id.index;
        self.view.lock().store = store.mutated(self.mutation);
        for (token, error) in self.pending.overtaken(id.index) {
            self.reply(token, Err(error));
        }
        let base = LogBase {
            snapshot: id,
            log_crc: head.log_crc,
        };
        self.disk.cut_log(&base, keeps_rest, None);
    }
}

#[cfg(test)]
mod tests;
