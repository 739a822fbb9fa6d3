//! A snapshot that an operator asks for, of the state of now.
//!
//! It does not move the places at which snapshots are taken anyway (see `snapshots`): those are a function of
//! the log, and one node alone is asked here. So two nodes have the same text only if they were asked after
//! the same entry, and at the next place they have it again.

use super::work::Engine;
use super::{Reply, RequestError, Token};
use crate::command::FORMAT_SNAPSHOTS;
use crate::raft::{self, FormatHindrance, Micros, SnapshotId};

impl Engine {
    pub(super) fn on_take_snapshot(&mut self, token: Token) {
        if self.view.lock().store.format() < FORMAT_SNAPSHOTS {
            let error = self.ask_for_format();
            return self.reply(token, Err(error));
        }
        let applied = self.applied_index;
        if let Some(snapshot) = self.raft.snapshot().filter(|own| own.index == applied) {
            return self.reply(token, Ok(Reply::SnapshotTaken { snapshot }));
        }
        let why = match (self.snapshots.is_free(), self.raft.is_installing()) {
            (false, _) => Some("another snapshot is under way"),
            (_, true) => Some("another node is receiving the last snapshot"),
            (true, false) => None,
        };
        if let Some(why) = why {
            return self.reply(token, Err(RequestError::NotReady(why)));
        }
        self.begin_of_now();
        self.pending.snapshot = Some(token);
    }

    fn begin_of_now(&mut self) {
        let applied = self.applied_index;
        let (term, log_crc) = (self.raft.term_at(applied), self.disk.log_crc(applied));
        let (Some(term), Some(log_crc)) = (term, log_crc) else {
            unreachable!("what was let go was applied, and more stands behind it");
        };
        let text = {
            let mut view = self.view.lock();
            self.snapshots.begin(&mut view.store, term, log_crc)
        };
        self.disk.write_snapshot(true, text);
    }

    /// What is in place is no good for whoever needs it: another one is taken at once, unless one is under
    /// way, or nothing has changed since. Then the next place comes to it.
    pub(super) fn on_snapshot_damaged(&mut self, now: Micros, snapshot: SnapshotId) {
        self.drive(now, raft::Input::SnapshotDamaged { snapshot });
        if self.snapshots.is_free() && self.applied_index > snapshot.index {
            self.begin_of_now();
        }
    }

    /// Nothing of the format that snapshots need is written before all nodes read it; only a leader knows.
    fn ask_for_format(&mut self) -> RequestError {
        let leader = self.raft.leader();
        match self.raft.format_hindrance() {
            None => RequestError::NotLeader { leader },
            Some(Err(FormatHindrance::Away)) => {
                let why = "snapshots need a newer format, which every node must read, and not all are \
                           connected";
                RequestError::NotReady(why)
            }
            Some(Err(why)) => {
                RequestError::Invalid(format!("snapshots need a newer format, and {why}"))
            }
            Some(Ok(())) => {
                self.raft.want_newer_format();
                let why = "the cluster goes over to the format that snapshots need";
                RequestError::NotReady(why)
            }
        }
    }

    /// The one that was asked for will not be.
    pub(super) fn give_up_on_demand(&mut self) {
        if let Some(token) = self.pending.snapshot.take() {
            let why = "the snapshot was given up: too much changed meanwhile, there is no room, or the \
                       leader sent one";
            self.reply(token, Err(RequestError::NotReady(why)));
        }
    }
}
