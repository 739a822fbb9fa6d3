//! A leader: appends, replicates with several appends in flight, commits, and keeps its lease.

use super::core::{PeerStatus, Raft, State};
use super::lease::leader_lease_us;
use super::progress::{Mode, Progress};
use super::transfer::Handover;
use super::{
    AppendOutcome, Entry, Event, Index, Message, Micros, Mutation, NodeId, Proposed, Refusal, Term,
};
use crate::command::Command;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Entries in one append.
const APPEND_ENTRIES_MAX: usize = 1024;
/// Bytes in one append; one entry may be longer and then travels alone.
const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Uncommitted entries; then proposals are refused.
const BACKLOG_ENTRIES_MAX: u64 = 16 * 1024;
/// Uncommitted bytes; then proposals are refused.
const BACKLOG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Quorum reads that wait; then further ones are refused.
const QUORUM_READS_MAX: usize = 16 * 1024;
/// Followers hear of a new commit index after this time, if no append tells them before: a
/// restarted cluster then has little in limbo.
const COMMIT_NOTICE_US: Micros = 5_000;

/// What a leader keeps for as long as it leads.
#[derive(Debug)]
pub(super) struct Leadership {
    elected_at_us: Micros,
    /// Its own NO-OP: once this is committed, all before it is.
    first_index: Index,
    pub(super) old_lease_until_us: Micros,
    old_lease_over: bool,
    /// The lease of this term was given up for good.
    pub(super) released: bool,
    pub(super) progress: BTreeMap<NodeId, Progress>,
    sequence: u64,
    heartbeat_at_us: Micros,
    commit_notice_at_us: Option<Micros>,
    /// Own appends that are not known to be durable yet: last index and time of the request.
    unpersisted: VecDeque<(Index, Micros)>,
    /// Size of each uncommitted entry of the own term from this index on, and their sum.
    backlog_first_index: Index,
    backlog: VecDeque<usize>,
    backlog_bytes: usize,
    reads_waiting: Vec<u64>,
    read_round: Option<ReadRound>,
    pub(super) handover: Option<Handover>,
}

/// A heartbeat round that confirms leadership for quorum reads.
#[derive(Debug)]
struct ReadRound {
    first_sequence: u64,
    read_index: Index,
    tokens: Vec<u64>,
}

impl Leadership {
    pub(super) fn peers(&self) -> Vec<PeerStatus> {
        let peers = self.progress.iter().map(|(id, progress)| PeerStatus {
            id: *id,
            match_index: progress.match_index,
            connected: progress.connected,
        });
        peers.collect()
    }
}

impl Raft {
    pub(super) fn become_leader(&mut self, old_lease_until_us: Micros) {
        let first_index = self.log.last_index() + 1;
        let progress = self
            .peers()
            .into_iter()
            .map(|peer| (peer, Progress::new(first_index)))
            .collect();
        let waits = old_lease_until_us > self.now;
        self.state = State::Leader(Box::new(Leadership {
            elected_at_us: self.now,
            first_index,
            old_lease_until_us,
            old_lease_over: !waits,
            released: false,
            progress,
            sequence: 0,
            heartbeat_at_us: self.now,
            commit_notice_at_us: None,
            unpersisted: VecDeque::new(),
            backlog_first_index: first_index,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            reads_waiting: Vec::new(),
            read_round: None,
            handover: None,
        }));
        self.leader = Some(self.config.id);
        self.never_ran = false;
        self.early_attempts = 0;
        let term = self.term();
        self.event(Event::BecameLeader { term });
        if waits {
            self.counters.old_lease_waits += 1;
            self.event(Event::WaitingForOldLease {
                term,
                remaining_us: old_lease_until_us - self.now,
            });
        }
        self.append_own(vec![Arc::new(Command::NoOp)]);
        self.on_leader_time(); // The first heartbeat is due and carries the NO-OP.
    }

    /// Called with the state already replaced: nobody sees a lease any more.
    pub(super) fn end_leadership(&mut self, leadership: Leadership) {
        let refusal = Refusal::NotLeader { leader: None };
        let round = leadership.read_round.into_iter().flat_map(|r| r.tokens);
        for token in round.chain(leadership.reads_waiting) {
            self.out.quorum_reads.push((token, Err(refusal)));
        }
    }

    pub(super) fn on_propose(&mut self, commands: Vec<Arc<Command>>) {
        let count = commands.len() as u64;
        let first_index = self.log.last_index() + 1;
        let bytes: usize = commands.iter().map(|command| command.size_bytes()).sum();
        let backlog_entries = self.log.last_index() - self.commit_index;
        let refusal = match self.leadership() {
            None => Some(Refusal::NotLeader {
                leader: self.leader,
            }),
            Some(leading) if leading.handover.is_some() || leading.released => {
                Some(Refusal::Transferring)
            }
            Some(leading)
                if backlog_entries + count > BACKLOG_ENTRIES_MAX
                    || leading.backlog_bytes + bytes > BACKLOG_BYTES_MAX =>
            {
                Some(Refusal::Overloaded)
            }
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            self.out.proposed = Some(Err(refusal));
            return;
        }
        self.counters.proposals += count;
        self.append_own(commands);
        self.out.proposed = Some(Ok(Proposed {
            first_index,
            term: self.term(),
        }));
        self.replicate();
    }

    fn append_own(&mut self, commands: Vec<Arc<Command>>) {
        let (term, now) = (self.term(), self.now);
        let mut sizes = Vec::with_capacity(commands.len());
        for command in commands {
            sizes.push(command.size_bytes());
            let entry = self.log.append_command(term, command).clone();
            self.out.append.push(entry);
        }
        let last_index = self.log.last_index();
        if let Some(leading) = self.leadership_mut() {
            leading.unpersisted.push_back((last_index, now));
            leading.backlog_bytes += sizes.iter().sum::<usize>();
            leading.backlog.extend(sizes);
        }
    }

    /// Sends each peer what it lacks, as far as its window allows.
    pub(super) fn replicate(&mut self) {
        for peer in self.peers() {
            self.replicate_to(peer);
        }
    }

    fn replicate_to(&mut self, peer: NodeId) {
        loop {
            let last_index = self.log.last_index();
            let Some(progress) = self.progress_mut(peer) else {
                return;
            };
            if !progress.may_send_entries() || progress.next_index > last_index {
                return;
            }
            self.send_append(peer, true);
        }
    }

    /// Sends one append, with entries or as a bare heartbeat.
    fn send_append(&mut self, peer: NodeId, with_entries: bool) {
        let (now, commit_index) = (self.now, self.commit_index);
        let lease_ms = self.config.lease_us / 1_000;
        let Some(progress) = self.progress_mut(peer) else {
            return;
        };
        let base_index = progress.next_index - 1;
        let entries = match with_entries {
            true => entries_after(&self.log, base_index),
            false => Vec::new(),
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
        progress.note_sent(sequence, now, entries.len() as u64);
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
        };
        self.send(peer, message);
    }

    pub(super) fn on_append_reply(&mut self, from: NodeId, sequence: u64, outcome: AppendOutcome) {
        let late_credited = self.mutated(Mutation::LateAckCredited);
        let from_ack = self.mutated(Mutation::LeaseFromAck);
        let (now, last_index) = (self.now, self.log.last_index());
        let Some(progress) = self.progress_mut(from) else {
            return;
        };
        let mut sent_us = match late_credited {
            true => progress.newest_sent_us(),
            false => None,
        };
        let named_us = progress.note_acked(sequence);
        sent_us = sent_us.or(named_us);
        if from_ack {
            sent_us = sent_us.map(|_| now);
        }
        if let Some(sent_us) = sent_us {
            progress.credit(sent_us);
        }
        match outcome {
            AppendOutcome::Accepted { match_index } => {
                assert!(
                    match_index <= last_index,
                    "{from} acknowledged {match_index}, beyond the log's {last_index}"
                );
                progress.match_index = progress.match_index.max(match_index);
                progress.next_index = progress.next_index.max(match_index + 1);
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
        self.confirm_reads();
        self.replicate_to(from);
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
        let last_index = self.log.last_index();
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
        if conflict_term.is_none() {
            // A follower that lost entries to damage asks for what it had acknowledged before.
            progress.match_index = progress.match_index.min(conflict_index.saturating_sub(1));
        }
        let next_index = meet.clamp(progress.match_index + 1, last_index + 1);
        progress.probe_from(next_index, next_sequence);
        if next_index > last_index {
            self.send_append(from, false); // Nothing to send, but the logs must be seen to meet.
        }
    }

    /// Commits what a majority holds durably, if it is of the own term and no older lease can be
    /// alive: until then an older leader may serve reads that do not know of it.
    pub(super) fn maybe_commit(&mut self) {
        let any_term = self.mutated(Mutation::CommitOfOlderTerm);
        let no_deferral = self.mutated(Mutation::NoDeferral);
        let Some(leading) = self.leadership() else {
            return;
        };
        let waits = self.now < leading.old_lease_until_us && !no_deferral;
        let mut matched: Vec<Index> = leading.progress.values().map(|p| p.match_index).collect();
        matched.push(self.durable_index);
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let majority_index = matched[self.quorum() - 1];
        // Own term only (Raft paper 5.4.2, figure 8).
        let own_term = self.log.term_at(majority_index) == Some(self.term()) || any_term;
        if majority_index <= self.commit_index || !own_term || waits {
            return;
        }
        self.commit_to(majority_index);
        self.note_committed();
    }

    fn note_committed(&mut self) {
        let (now, commit_index) = (self.now, self.commit_index);
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        while leading.backlog_first_index <= commit_index {
            let Some(size) = leading.backlog.pop_front() else {
                break;
            };
            leading.backlog_first_index += 1;
            leading.backlog_bytes -= size;
        }
        leading
            .commit_notice_at_us
            .get_or_insert(now + COMMIT_NOTICE_US);
    }

    pub(super) fn on_own_persisted(&mut self) {
        let durable_index = self.durable_index;
        if let Some(leading) = self.leadership_mut() {
            while leading
                .unpersisted
                .front()
                .is_some_and(|(last_index, _)| *last_index <= durable_index)
            {
                leading.unpersisted.pop_front();
            }
        }
        self.maybe_commit();
        self.confirm_reads();
    }

    /// When the newest append was sent that a majority, this node included, has acknowledged.
    fn majority_sent_us(&self, leading: &Leadership) -> Option<Micros> {
        let others_needed = self.quorum() - 1;
        if others_needed == 0 {
            return Some(self.now);
        }
        let mut sent: Vec<_> = leading.progress.values().map(|p| p.acked_sent_us).collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        sent[others_needed - 1]
    }

    /// End of the lease on this node's clock; 0: no lease.
    pub(super) fn lease_until_us(&self, leading: &Leadership) -> Micros {
        if leading.released && !self.mutated(Mutation::TransferKeepsLease) {
            return 0;
        }
        let Some(sent_us) = self.majority_sent_us(leading) else {
            return 0;
        };
        let drift = match self.mutated(Mutation::NoDriftFactor) {
            true => return sent_us + self.config.lease_us,
            false => self.config.max_clock_drift_ppm,
        };
        let until_us = sent_us + leader_lease_us(self.config.lease_us, drift);
        // Acknowledged heartbeats say nothing about the own disk.
        match self.disk_deadline_us(leading) {
            Some(deadline_us) => until_us.min(deadline_us),
            None => until_us,
        }
    }

    fn disk_deadline_us(&self, leading: &Leadership) -> Option<Micros> {
        if self.mutated(Mutation::StalledDiskKeepsLease) {
            return None;
        }
        let (_, since_us) = leading.unpersisted.front()?;
        Some(since_us + self.config.lease_us)
    }

    /// When leadership ends unless a majority acknowledges before.
    pub(super) fn leadership_deadline_us(&self, leading: &Leadership) -> Micros {
        let from_election = leading.elected_at_us + self.config.lease_us;
        match self.majority_sent_us(leading) {
            Some(sent_us) => (sent_us + self.config.lease_us).max(from_election),
            None => from_election,
        }
    }

    pub(super) fn own_term_committed(&self, leading: &Leadership) -> bool {
        self.commit_index >= leading.first_index
    }

    pub(super) fn leader_wakes_at(&self, leading: &Leadership) -> Micros {
        let mut wake_at = leading
            .heartbeat_at_us
            .min(self.leadership_deadline_us(leading));
        let others = [
            (!leading.old_lease_over).then_some(leading.old_lease_until_us),
            leading.commit_notice_at_us,
            self.disk_deadline_us(leading),
            leading.handover.as_ref().map(|h| h.deadline_us),
        ];
        for at in others.into_iter().flatten() {
            wake_at = wake_at.min(at);
        }
        wake_at
    }

    pub(super) fn on_leader_time(&mut self) {
        let Some(leading) = self.leadership() else {
            return;
        };
        let term = self.term();
        if self.now >= self.leadership_deadline_us(leading) {
            self.event(Event::LeaseRenewalFailed { term });
            return self.become_follower(term, None);
        }
        let stalled = self.disk_deadline_us(leading);
        if stalled.is_some_and(|deadline_us| self.now >= deadline_us) {
            self.event(Event::DiskStalled { term });
            return self.become_follower(term, None);
        }
        if self.now >= leading.old_lease_until_us && !leading.old_lease_over {
            self.end_old_lease();
        }
        self.heartbeat_if_due();
        self.tell_commit_if_due();
        self.expire_handover();
    }

    fn end_old_lease(&mut self) {
        if let Some(leading) = self.leadership_mut() {
            leading.old_lease_over = true;
        }
        let before = self.commit_index;
        self.maybe_commit();
        let deferred = self.commit_index - before;
        self.counters.deferred_commits += deferred;
        let term = self.term();
        self.event(Event::OldLeaseOver { term, deferred });
        self.confirm_reads();
    }

    fn heartbeat_if_due(&mut self) {
        let (now, interval_us) = (self.now, self.config.heartbeat_us);
        match self.leadership_mut() {
            Some(leading) if now >= leading.heartbeat_at_us => {
                leading.heartbeat_at_us = now + interval_us;
                leading.commit_notice_at_us = None;
            }
            _ => return,
        }
        let term = self.term();
        self.counters.heartbeat_rounds += 1;
        self.event(Event::HeartbeatSent { term });
        for peer in self.peers() {
            // A peer that left a probe unanswered gets bare heartbeats: cheap, and an answer to one
            // shows as well where the logs meet.
            let sent_before = self.out.messages.len();
            self.replicate_to(peer);
            if self.out.messages.len() == sent_before {
                self.send_append(peer, false);
            }
        }
    }

    fn tell_commit_if_due(&mut self) {
        let (now, commit_index) = (self.now, self.commit_index);
        match self.leadership_mut() {
            Some(leading) if leading.commit_notice_at_us.is_some_and(|at| now >= at) => {
                leading.commit_notice_at_us = None;
            }
            _ => return,
        }
        for peer in self.peers() {
            let behind = self
                .progress_mut(peer)
                .is_some_and(|p| p.mode == Mode::Replicate && p.commit_told < commit_index);
            if behind {
                self.send_append(peer, false);
            }
        }
    }

    pub(super) fn on_quorum_read(&mut self, token: u64) {
        let leader = self.leader;
        let refusal = match self.leadership_mut() {
            None => Some(Refusal::NotLeader { leader }),
            Some(leading) if leading.reads_waiting.len() >= QUORUM_READS_MAX => {
                Some(Refusal::Overloaded)
            }
            Some(leading) => {
                leading.reads_waiting.push(token);
                None
            }
        };
        match refusal {
            Some(refusal) => self.out.quorum_reads.push((token, Err(refusal))),
            None => self.confirm_reads(),
        }
    }

    /// Finishes the read round that a majority has acknowledged, then starts the next for all the
    /// reads that came meanwhile. Nothing is read before an entry of the own term is committed:
    /// before that the commit index may be behind what an older leader acknowledged.
    fn confirm_reads(&mut self) {
        loop {
            self.finish_read_round();
            if !self.start_read_round() {
                return;
            }
        }
    }

    fn finish_read_round(&mut self) {
        let others_needed = self.quorum() - 1;
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        let Some(round) = &leading.read_round else {
            return;
        };
        let confirmed = leading
            .progress
            .values()
            .filter(|progress| progress.acked_sequence >= round.first_sequence);
        if confirmed.count() < others_needed {
            return;
        }
        if let Some(round) = leading.read_round.take() {
            let confirmed = round.tokens.into_iter();
            let confirmed = confirmed.map(|token| (token, Ok(round.read_index)));
            self.out.quorum_reads.extend(confirmed);
        }
    }

    fn start_read_round(&mut self) -> bool {
        let read_index = self.commit_index;
        match self.leadership() {
            Some(leading)
                if leading.read_round.is_none()
                    && !leading.reads_waiting.is_empty()
                    && self.own_term_committed(leading) => {}
            _ => return false,
        }
        if let Some(leading) = self.leadership_mut() {
            leading.read_round = Some(ReadRound {
                first_sequence: leading.sequence + 1,
                read_index,
                tokens: std::mem::take(&mut leading.reads_waiting),
            });
        }
        self.counters.read_rounds += 1;
        for peer in self.peers() {
            self.send_append(peer, false);
        }
        true
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
            let next_index = match progress.mode {
                Mode::Probe => progress.next_index, // Nothing was assumed to arrive.
                Mode::Replicate => progress.match_index + 1,
            };
            progress.probe_from(next_index, next_sequence);
        }
    }

    pub(super) fn progress_mut(&mut self, peer: NodeId) -> Option<&mut Progress> {
        self.leadership_mut()?.progress.get_mut(&peer)
    }
}

/// The entries of one append: bounded in number and bytes, but at least one.
fn entries_after(log: &super::log::Log, base_index: Index) -> Vec<Entry> {
    let mut bytes = 0;
    let last_index = base_index + APPEND_ENTRIES_MAX as Index;
    let fitting = log
        .range(base_index, last_index)
        .iter()
        .take_while(|entry| {
            let first = bytes == 0;
            bytes += entry.command.size_bytes();
            first || bytes <= APPEND_BYTES_MAX
        });
    fitting.cloned().collect()
}
