//! A snapshot on its way to a follower that lacks entries which the leader has let go.
//!
//! The leader sends the text of its newest snapshot piece by piece, each when the one before is
//! answered, none longer than the peer's window allows: so heartbeats never wait behind it for long.
//! A piece asks for a promise as an append does, and its answer counts for the lease, so neither
//! loses anything by a transfer that takes its time. Where a connection breaks, the follower's answer
//! tells from where to go on: the name of a snapshot names its every byte, whoever sends it.
//!
//! While clients write, the leader pauses between two pieces, so that a node that joins takes a part of what
//! the others can do, and not all that it can get.
//!
//! The answer to the last piece says nothing about the log. What the follower has is told by its
//! answers to appends, as ever, and those are held until the snapshot is applied and durable.
//!
//! A received snapshot takes the place of the log (Raft paper, figure 13). What follows its last entry
//! stays only where the log has that very entry, of the same term: else it is not what the leader has.

use super::progress::{Install, Progress};
use super::state::{Leadership, Raft, State};
use super::{
    ChunkWanted, Event, Index, Message, Micros, Mutation, NodeId, Piece, Run, SnapshotId, Term,
};
use crate::command::Members;
use std::sync::Arc;

impl Raft {
    /// The newest snapshot that is durable here, with a log behind it.
    pub fn snapshot(&self) -> Option<SnapshotId> {
        self.snapshot
    }

    /// What is being received: which snapshot, and how many bytes are here.
    pub fn receiving(&self) -> Option<(SnapshotId, u64)> {
        self.receiving
    }

    /// Whether a snapshot is on its way to a peer that answers.
    pub fn is_installing(&self) -> bool {
        let recently = |install: &Install| self.now < install.answered_us + self.config.lease_us;
        self.leadership().is_some_and(|leading| {
            let mut installs = leading.progress.values().filter_map(|p| p.install.as_ref());
            installs.any(recently)
        })
    }

    /// The first entry that is in memory is the one behind this.
    pub fn base_index(&self) -> Index {
        self.log.base_index()
    }

    /// Term of the entry at that index.
    pub fn base_term(&self) -> Term {
        self.log.term_at(self.log.base_index()).unwrap_or(0)
    }

    /// Term of the entry at an index, as long as that is in memory or the last that was let go.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The state up to an entry is durable, and the log on disk begins behind it.
    pub(super) fn on_snapshot_taken(&mut self, snapshot: SnapshotId, keep_bytes: usize) {
        let newer = self.snapshot.is_none_or(|own| own.index < snapshot.index);
        assert!(snapshot.index <= self.commit_index, "not committed yet");
        if !newer {
            return;
        }
        self.snapshot = Some(snapshot);
        self.note_own_state();
        let (mut keep, mut bytes) = (snapshot.index, 0);
        while keep > self.log.base_index() && bytes < keep_bytes {
            let entry = self.log.entry(keep);
            bytes += entry.map_or(0, |entry| entry.command.size_bytes());
            keep -= 1;
        }
        self.let_go(keep);
    }

    /// Whether the newest snapshot is not on disk as it was written.
    pub(super) fn is_snapshot_damaged(&self) -> bool {
        self.snapshot.is_some() && self.snapshot_damaged == self.snapshot
    }

    /// Nobody is sent what was found damaged; the engine takes another one.
    pub(super) fn on_snapshot_damaged(&mut self, snapshot: SnapshotId) {
        if self.snapshot != Some(snapshot) || self.is_snapshot_damaged() {
            return;
        }
        self.snapshot_damaged = Some(snapshot);
        let term = self.term();
        self.event(Event::SnapshotDamaged { term, snapshot });
    }

    fn let_go(&mut self, index: Index) {
        self.out.let_go.extend(self.log.let_go(index));
        if self.mutated(Mutation::BaseTermForgotten) {
            self.log.forget_base_term();
        }
    }

    /// Whether this peer lacks entries that were let go.
    pub(super) fn needs_snapshot(&self, peer: NodeId) -> bool {
        let progress = self.leadership().and_then(|l| l.progress.get(&peer));
        progress.is_some_and(|progress| progress.next_index <= self.log.base_index())
    }

    /// Asks the disk for the next piece, unless one is under way.
    pub(super) fn feed_install(&mut self, peer: NodeId) {
        let (now, term, wait_us) = (self.now, self.term(), self.config.lease_us);
        let last_index = self.log.last_index();
        let Some(snapshot) = self.snapshot.filter(|_| !self.is_snapshot_damaged()) else {
            return;
        };
        let all_is_let_go = self.log.base_index() == self.log.last_index();
        if all_is_let_go && self.mutated(Mutation::PurgedLogSendsNothing) {
            return;
        }
        let at_once = self.mutated(Mutation::PiecesIgnoreWindow);
        let Some(progress) = self.progress_mut(peer) else {
            return;
        };
        let most = match at_once {
            true => snapshot.bytes,
            false => progress.piece_bytes_max() as u64,
        };
        let known = progress.install.as_ref().map(|install| install.snapshot);
        if known != Some(snapshot) {
            progress.install = Some(Install::new(snapshot));
        }
        let Some(install) = &mut progress.install else {
            return;
        };
        if install.waits && now < install.retry_at_us || now < install.paused_until_us {
            return;
        }
        if install.offset == snapshot.bytes {
            // All of it was sent, and it did not show: from the beginning, or where the peer says.
            install.offset = 0;
        }
        let offset = install.offset;
        install.waits = true;
        install.asked = (now, last_index);
        install.retry_at_us = now + wait_us;
        self.out.chunks.push(ChunkWanted {
            peer,
            snapshot,
            offset,
            bytes: most.min(snapshot.bytes - offset) as usize,
        });
        if known.is_none() {
            self.event(Event::SnapshotSent {
                peer,
                term,
                snapshot,
            });
        }
    }

    /// When the first of the installs that pause goes on.
    pub(super) fn installs_wake_at(&self, leading: &Leadership) -> Option<Micros> {
        let installs = leading.progress.values().filter_map(|p| p.install.as_ref());
        let pausing =
            installs.filter(|install| !install.waits && self.now < install.paused_until_us);
        pausing.map(|install| install.paused_until_us).min()
    }

    /// Goes on with the installs whose pause is over.
    pub(super) fn feed_installs_if_due(&mut self) {
        let now = self.now;
        let is_due = |progress: &Progress| {
            let install = progress.install.as_ref();
            install.is_some_and(|install| !install.waits && now >= install.paused_until_us)
        };
        let progress = self.leadership().map(|leading| leading.progress.iter());
        let due = progress.into_iter().flatten().filter(|(_, p)| is_due(p));
        for peer in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.replicate_to(peer);
        }
    }

    /// The disk has read a piece.
    pub(super) fn on_chunk(
        &mut self,
        peer: NodeId,
        snapshot: SnapshotId,
        offset: u64,
        data: Arc<[u8]>,
    ) {
        let (now, lease_ms, term) = (self.now, self.config.lease_us / 1_000, self.term());
        let own = self.own_run();
        let is_wanted = |install: &Install| {
            install.waits && (install.snapshot, install.offset) == (snapshot, offset)
        };
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        let sequence = leading.sequence + 1;
        let Some(progress) = leading.progress.get_mut(&peer) else {
            return;
        };
        // What could not be read, or is of another snapshot by now, is asked for again in time.
        let Some(install) = progress.install.as_mut().filter(|i| is_wanted(i)) else {
            return;
        };
        if data.is_empty() {
            return;
        }
        install.sequence = sequence;
        progress.note_sent(sequence, now, 0, data.len());
        leading.sequence = sequence;
        let message = Message::InstallSnapshot {
            term,
            snapshot,
            offset,
            data,
            lease_ms,
            sequence,
            incarnation: own.incarnation,
        };
        self.send(peer, message);
    }

    pub(super) fn on_install_reply(
        &mut self,
        from: NodeId,
        sequence: u64,
        index: Index,
        offset: u64,
    ) {
        let now = self.now;
        let retry_at_us = now + self.config.lease_us;
        let last_index = self.log.last_index();
        let on_transfer = self.mutated(Mutation::InstallReportedOnTransfer);
        let Some(progress) = self.progress_mut(from) else {
            return;
        };
        if let Some(sent_us) = progress.note_acked(sequence, now) {
            progress.credit(sent_us);
        }
        if let Some(install) = &progress.install
            && offset == install.snapshot.bytes
            && on_transfer
        {
            progress.match_index = progress.match_index.max(install.snapshot.index);
        }
        if let Some(install) = &mut progress.install
            && (install.snapshot.index, install.sequence) == (index, sequence)
            && offset <= install.snapshot.bytes
        {
            install.offset = offset;
            install.answered_us = now;
            // Once it has all of it, its next answer to a heartbeat tells.
            install.waits = offset == install.snapshot.bytes;
            install.retry_at_us = retry_at_us;
            install.pause(now, last_index);
        }
        self.confirm_reads();
        self.replicate_to(from);
    }

    /// A piece of a snapshot came in.
    pub(super) fn on_install(&mut self, from: NodeId, message: Message) {
        let Message::InstallSnapshot {
            term,
            snapshot,
            offset,
            data,
            lease_ms,
            sequence,
            incarnation,
        } = message
        else {
            return;
        };
        let promises = !self.mutated(Mutation::InstallPromisesNothing);
        let leader = Run {
            node: from,
            incarnation,
        };
        if self.follow(leader, lease_ms, promises).is_none() {
            return;
        }
        let is_old = snapshot.index <= self.commit_index;
        let have = match is_old && !self.mutated(Mutation::OlderSnapshotInstalled) {
            true => snapshot.bytes,
            false => self.take_piece(snapshot, offset, data),
        };
        let reply = Message::InstallReply {
            term,
            sequence,
            index: snapshot.index,
            offset: have,
        };
        self.send_after_persist(from, reply);
    }

    /// Returns how many bytes are here then.
    fn take_piece(&mut self, snapshot: SnapshotId, offset: u64, data: Arc<[u8]>) -> u64 {
        let anew = offset == 0 && self.mutated(Mutation::InstallStartsOver);
        let begun = self.receiving.filter(|(of, _)| *of == snapshot && !anew);
        let have = begun.map_or(0, |(_, have)| have);
        let fits = offset == have && data.len() as u64 <= snapshot.bytes - have;
        let have = have + if fits { data.len() as u64 } else { 0 };
        self.receiving = Some((snapshot, have));
        if fits {
            self.out.piece = Some(Piece {
                snapshot,
                offset,
                data,
            });
        }
        have
    }

    /// What was received is no snapshot, or can't be kept: from the beginning.
    pub(super) fn on_install_failed(&mut self) {
        self.receiving = None;
    }

    /// All of a snapshot is here and readable: it takes the place of the log.
    pub(super) fn on_installed(
        &mut self,
        snapshot: SnapshotId,
        configuration: Option<(Index, Arc<Members>)>,
    ) {
        let SnapshotId { index, term, .. } = snapshot;
        self.receiving = None;
        let is_follower = matches!(self.state, State::Follower);
        let is_old = index <= self.commit_index && !self.mutated(Mutation::OlderSnapshotInstalled);
        if is_old || !is_follower {
            return; // Overtaken by what came meanwhile.
        }
        let keeps_rest = self.keeps_rest(index, term);
        match keeps_rest {
            true => self.let_go(index),
            false => {
                // A snapshot that names none is of a log that named none.
                let members = configuration.unwrap_or_else(|| self.log.members_at(0).clone());
                self.log.begin_after(snapshot, members);
                // Of the log that was nothing but what is committed is sure to be in this one.
                self.durable_index = self.durable_index.min(self.commit_index);
            }
        }
        self.counters.installs += 1;
        self.commit_index = index;
        self.snapshot = Some(snapshot);
        self.out.installed = Some(keeps_rest);
        match self.mutated(Mutation::SnapshotHealsAnyDamage) {
            true => self.damage.until = 0,
            false => self.refilled_to(index),
        }
        self.outlive_damage();
        self.event(Event::SnapshotInstalled { term, snapshot });
    }

    /// Whether the log has the very entry that the snapshot ends with (Raft paper, figure 13, 6).
    fn keeps_rest(&self, index: Index, term: Term) -> bool {
        let any_term = self.mutated(Mutation::InstallKeepsConflict);
        let own = self.log.term_at(index);
        own == Some(term) || any_term && own.is_some()
    }
}
