//! Backups: the state of one moment, told to an operator while entries go on being applied.
//!
//! Only the beginning passes through here, because it has to name the entry that the state is of. The
//! walk itself is the reader's: [`super::ReadView::backup_next`]. Nothing is written on the node for it, so it
//! asks for no format, and the places at which snapshots are taken stay where they are.

use super::work::Engine;
use super::{Reply, RequestError, Token};
use crate::raft::Index;
use crate::wal::SnapshotHead;

impl Engine {
    pub(super) fn on_backup(&mut self, token: Token, not_before: Index) {
        if self.pending.backup.is_some() {
            let why = "another backup waits for this node to catch up";
            return self.reply(token, Err(RequestError::Overloaded(why)));
        }
        self.pending.backup = Some((token, not_before));
    }

    /// Begins the backup that waits, once all that it must hold is applied.
    pub(super) fn advance_backup(&mut self) {
        let applied = self.applied_index;
        let ready = |(_, not_before): &mut (Token, Index)| applied >= *not_before;
        let Some((token, _)) = self.pending.backup.take_if(ready) else {
            return;
        };
        let (term, log_crc) = (self.raft.term_at(applied), self.disk.log_crc(applied));
        let (Some(term), Some(log_crc)) = (term, log_crc) else {
            unreachable!("what was let go was applied, and more stands behind it");
        };
        let (walk, state) = self.view.lock().store.begin_backup();
        let head = SnapshotHead {
            state,
            term,
            log_crc,
        };
        self.reply(token, Ok(Reply::BackupBegun { walk, head }));
    }
}
