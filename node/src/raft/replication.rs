//! Replication, from the leader's side: appends to each peer, several in flight, and what their
//! replies say about the peer's log and the leader's lease.

use super::log::Log;
use super::progress::Mode;
use super::state::Raft;
use super::{AppendOutcome, Entry, Event, Index, Message, Mutation, NodeId, Term};

/// Entries in one append.
const APPEND_ENTRIES_MAX: usize = 1024;

impl Raft {
    /// Sends each peer what it lacks, as far as its window allows.
    pub(super) fn replicate(&mut self) {
        for peer in self.peers() {
            self.replicate_to(peer);
        }
    }

    pub(super) fn replicate_to(&mut self, peer: NodeId) {
        if self.needs_snapshot(peer) {
            return self.feed_install(peer);
        }
        loop {
            let (now, last_index) = (self.now, self.log.last_index());
            let Some(progress) = self.progress_mut(peer) else {
                return;
            };
            if !progress.may_send_entries(now) || progress.next_index > last_index {
                return;
            }
            self.send_append(peer, true);
        }
    }

    /// Sends one append, with entries or as a bare heartbeat.
    pub(super) fn send_append(&mut self, peer: NodeId, with_entries: bool) {
        let (now, commit_index) = (self.now, self.commit_index);
        let lease_ms = self.config.lease_us / 1_000;
        let meet_index = match self.needs_snapshot(peer) {
            true => self.snapshot.map_or(0, |snapshot| snapshot.index),
            false => 0,
        };
        let Some(progress) = self.progress_mut(peer) else {
            return;
        };
        // Where what was let go is needed, the logs will meet at the snapshot.
        let base_index = (progress.next_index - 1).max(meet_index);
        let with_entries = with_entries && base_index == progress.next_index - 1;
        let bytes_max = progress.append_bytes_max();
        let (entries, bytes) = match with_entries {
            true => entries_after(&self.log, base_index, bytes_max),
            false => (Vec::new(), 0),
        };
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        leading.sequence += 1;
        let sequence = leading.sequence;
        let Some(progress) = leading.progress.get_mut(&peer) else {
            return;
        };
        // The stamp is taken before the transport sees the message: the lease counts from here.
        progress.note_sent(sequence, now, entries.len() as u64, bytes);
        progress.commit_told = commit_index;
        let base_term = self
            .log
            .term_at(base_index)
            .unwrap_or_else(|| panic!("next index {} of {peer} beyond the log", base_index + 1));
        let message = Message::Append {
            term: self.term(),
            base_index,
            base_term,
            entries,
            commit_index,
            lease_ms,
            sequence,
            incarnation: self.incarnation,
        };
        self.send(peer, message);
    }

    pub(super) fn on_append_reply(&mut self, from: NodeId, sequence: u64, outcome: AppendOutcome) {
        let late_credited = self.mutated(Mutation::LateAckCredited);
        let from_ack = self.mutated(Mutation::LeaseFromAck);
        let (now, last_index) = (self.now, self.log.last_index());
        let base_index = self.log.base_index();
        let Some(progress) = self.progress_mut(from) else {
            return;
        };
        let mut sent_us = match late_credited {
            true => progress.newest_sent_us(),
            false => None,
        };
        let named_us = progress.note_acked(sequence, now);
        sent_us = sent_us.or(named_us);
        if from_ack {
            sent_us = sent_us.map(|_| now);
        }
        if let AppendOutcome::Accepted { match_index } = outcome
            && match_index > last_index
        {
            // It was never sent. What else it says is not believed either.
            let term = self.term();
            return self.event(Event::Implausible {
                peer: from,
                term,
                acknowledged: match_index,
            });
        }
        if let Some(sent_us) = sent_us {
            progress.credit(sent_us);
        }
        match outcome {
            AppendOutcome::Accepted { match_index } => {
                progress.match_index = progress.match_index.max(match_index);
                progress.kept_index = progress.kept_index.max(match_index);
                if progress.match_index >= progress.lost_until {
                    progress.lost_until = 0;
                }
                progress.next_index = progress.next_index.max(match_index + 1);
                if progress.next_index > base_index {
                    progress.install = None;
                }
                if sequence >= progress.valid_from_sequence {
                    progress.mode = Mode::Replicate;
                }
            }
            AppendOutcome::Rejected {
                conflict_index,
                conflict_term,
            } => self.backtrack(from, sequence, conflict_index, conflict_term),
        }
        self.maybe_commit();
        self.note_kept_by_peers();
        self.confirm_reads();
        self.replicate_to(from);
        self.choose_target(from, sequence);
        self.advance_handover(from);
    }

    /// Finds where the logs may meet, skipping a whole term at a time (Raft paper 5.3).
    fn backtrack(
        &mut self,
        from: NodeId,
        sequence: u64,
        conflict_index: Index,
        conflict_term: Option<Term>,
    ) {
        let (base_index, last_index) = (self.log.base_index(), self.log.last_index());
        let meet = match conflict_term {
            // A log that holds entries of a term holds its first: the logs meet there at least.
            Some(term) if self.log.term_at(conflict_index) == Some(term) => {
                self.log.last_index_up_to_term(term) + 1
            }
            Some(_) | None => conflict_index,
        };
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        let next_sequence = leading.sequence + 1;
        let Some(progress) = leading.progress.get_mut(&from) else {
            return;
        };
        if sequence < progress.valid_from_sequence {
            return; // Sent before the last change of course.
        }
        let mut lost = None;
        if conflict_term.is_none() {
            // A follower that lost entries to damage asks for what it had acknowledged before.
            let ends_at = conflict_index.saturating_sub(1);
            progress.match_index = progress.match_index.min(ends_at);
            if ends_at < progress.kept_before && progress.lost_until == 0 {
                progress.lost_until = progress.kept_before;
                lost = Some((progress.kept_before, ends_at));
            }
        }
        let next_index = meet.clamp(progress.match_index + 1, last_index + 1);
        // While a snapshot is on its way nothing else is tried.
        match progress.install.is_some() && next_index <= base_index {
            true => progress.next_index = next_index,
            false => progress.probe_from(next_index, next_sequence),
        }
        if let Some((acknowledged, ends_at)) = lost {
            let term = self.term();
            self.event(Event::PeerLostEntries {
                peer: from,
                term,
                acknowledged,
                last_index: ends_at,
            });
        }
        if next_index > last_index {
            self.send_append(from, false); // Nothing to send, but the logs must be seen to meet.
        }
    }

    pub(super) fn on_peer_connected(&mut self, peer: NodeId) {
        self.restart_probe(peer, true);
        self.send_append(peer, true);
    }

    pub(super) fn on_peer_disconnected(&mut self, peer: NodeId) {
        self.restart_probe(peer, false);
    }

    fn restart_probe(&mut self, peer: NodeId, connected: bool) {
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        let next_sequence = leading.sequence + 1;
        if let Some(progress) = leading.progress.get_mut(&peer) {
            progress.connected = connected;
            progress.install = None;
            let next_index = match progress.mode {
                Mode::Probe => progress.next_index, // Nothing was assumed to arrive.
                Mode::Replicate => progress.match_index + 1,
            };
            progress.probe_from(next_index, next_sequence);
        }
    }
}

/// The entries of one append, and their bytes: bounded in both, but at least one entry.
fn entries_after(log: &Log, base_index: Index, bytes_max: usize) -> (Vec<Entry>, usize) {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for entry in log.range(base_index, base_index + APPEND_ENTRIES_MAX as Index) {
        let size = entry.command.size_bytes();
        if bytes > 0 && bytes + size > bytes_max {
            break;
        }
        bytes += size;
        entries.push(entry.clone());
    }
    (entries, bytes)
}
