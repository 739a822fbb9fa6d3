//! A leader: appends, commits, and does in time what is due. How it replicates, keeps its lease,
//! confirms reads and hands over stands in `replication`, `leader_lease`, `quorum_read`, `transfer`.

use super::hashes::StateHashes;
use super::lease::Slots;
use super::progress::{Mode, Progress};
use super::state::{Leadership, Raft, State};
use super::{Event, Micros, Mutation, NodeId, Proposed, Refusal};
use crate::command::Command;
use std::collections::VecDeque;
use std::sync::Arc;

/// Uncommitted entries of the own term; then proposals are refused. Those of earlier terms are as
/// many as they are: they must not keep a new leader from taking writes.
const BACKLOG_ENTRIES_MAX: usize = 16 * 1024;
/// Uncommitted bytes of the own term; then proposals are refused.
const BACKLOG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Followers hear of a new commit index after this time, if no append tells them before: a
/// restarted cluster then has little in limbo.
const COMMIT_NOTICE_US: Micros = 5_000;

impl Raft {
    /// Leads from now on, and waits for these leases. Until `waived_until_us` it would have waited for
    /// some whose holders have ended.
    pub(super) fn become_leader(&mut self, old_leases: Slots, waived_until_us: Micros) {
        let old_lease_until_us = old_leases.until();
        let first_index = self.log.last_index() + 1;
        let begin = |peer| {
            let kept_index = self.kept_by_peers.get(&peer).copied().unwrap_or(0);
            let connected = self.is_connected(peer);
            Progress::new(first_index, connected, self.config.lease_us).keeping(kept_index)
        };
        let peers = self.peers().into_iter();
        let progress = peers.map(|peer| (peer, begin(peer))).collect();
        let waits = old_lease_until_us > self.now;
        self.state = State::Leader(Box::new(Leadership {
            elected_at_us: self.now,
            first_index,
            old_leases,
            old_lease_until_us,
            old_lease_over: !waits,
            released: false,
            progress,
            sequence: 0,
            heartbeat_at_us: self.now,
            commit_notice_at_us: None,
            unpersisted: VecDeque::new(),
            flush_asked_us: None,
            backlog_first_index: first_index,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            reads_waiting: Vec::new(),
            read_round: None,
            handover: None,
            members_appended_us: self.now,
            leave_at_us: self.now,
            departed_until_us: None,
            states: StateHashes::default(),
        }));
        self.leader = Some(self.config.id);
        self.never_ran = false;
        self.early_attempts = 0;
        let term = self.term();
        self.event(Event::BecameLeader { term });
        self.note_own_state();
        if waits {
            self.counters.old_lease_waits += 1;
            self.event(Event::WaitingForOldLease {
                term,
                remaining_us: old_lease_until_us - self.now,
            });
        }
        let needless_us = waived_until_us.saturating_sub(old_lease_until_us.max(self.now));
        if needless_us > 0 {
            self.counters.waits_waived += 1;
            self.event(Event::WaitWaived {
                term,
                remaining_us: needless_us,
            });
        }
        self.append_own(vec![Arc::new(Command::NoOp)]);
        self.on_leader_time(); // The first heartbeat is due and carries the NO-OP.
    }

    pub(super) fn on_propose(&mut self, commands: Vec<Arc<Command>>) {
        let count = commands.len() as u64;
        let first_index = self.log.last_index() + 1;
        let bytes: usize = commands.iter().map(|command| command.size_bytes()).sum();
        let refusal = match self.leadership() {
            None => Some(Refusal::NotLeader {
                leader: self.leader,
            }),
            Some(leading) if leading.handover.is_some() || leading.released => {
                Some(Refusal::Transferring)
            }
            Some(leading)
                if leading.backlog.len() + commands.len() > BACKLOG_ENTRIES_MAX
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

    pub(super) fn append_own(&mut self, commands: Vec<Arc<Command>>) {
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

    /// Commits what a majority holds durably, if it is of the own term and no older lease can be
    /// alive: until then an older leader may serve reads that do not know of it.
    pub(super) fn maybe_commit(&mut self) {
        let any_term = self.mutated(Mutation::CommitOfOlderTerm);
        let no_deferral = self.mutated(Mutation::NoDeferral);
        let Some(leading) = self.leadership() else {
            return;
        };
        let waits = self.now < leading.old_lease_until_us && !no_deferral;
        let matched = |id| match id == self.config.id {
            true => self.durable_index,
            false => leading.progress.get(&id).map_or(0, |p| p.match_index),
        };
        let members = self.in_force_for_quorums();
        let majority_index = members.reached_by_quorum(matched).unwrap_or(0);
        if self.takes_joint_back() && majority_index < self.members_index() {
            return;
        }
        // Own term only (Raft paper 5.4.2, figure 8).
        let own_term = self.log.term_at(majority_index) == Some(self.term()) || any_term;
        if majority_index <= self.commit_index || !own_term || waits {
            return;
        }
        self.commit_to(majority_index);
        self.note_committed();
    }

    /// What a peer acknowledged and is committed is there for good. Kept beyond this leadership.
    pub(super) fn note_kept_by_peers(&mut self) {
        let commit_index = self.commit_index;
        let State::Leader(leading) = &self.state else {
            return;
        };
        for (peer, progress) in &leading.progress {
            let kept_index = self.kept_by_peers.entry(*peer).or_default();
            *kept_index = (*kept_index).max(progress.match_index.min(commit_index));
        }
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
            self.flush_due_us(leading),
            leading.handover.as_ref().map(|h| h.due_us()),
            self.members_wake_at(leading),
            self.installs_wake_at(leading),
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
        self.flush_if_due();
        self.tell_commit_if_due();
        self.expire_handover();
        self.raise_format_if_due();
        self.feed_installs_if_due();
        self.advance_members();
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
        self.counters.heartbeat_rounds += 1;
        self.tell_heartbeat();
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

    fn tell_heartbeat(&mut self) {
        let Some(leading) = self.leadership() else {
            return;
        };
        let peers = leading.progress.iter();
        let round = Event::HeartbeatSent {
            term: self.term(),
            sequence: leading.sequence + 1,
            lease_us: self.lease_until_us(leading).saturating_sub(self.now),
            acknowledged: peers.map(|(id, p)| (*id, p.acked_sequence)).collect(),
        };
        self.event(round);
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

    pub(super) fn progress_mut(&mut self, peer: NodeId) -> Option<&mut Progress> {
        self.leadership_mut()?.progress.get_mut(&peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Config, Entry, Formats, HardState, Index, Input, Output, Recovered};

    const LEASE_US: Micros = 2_000_000;

    /// A node without peers, at its start after a crash, with so many entries that are not known
    /// to be committed.
    fn after_a_crash(limbo: usize) -> Raft {
        let config = Config {
            id: 1,
            voters: vec![1],
            lease_us: LEASE_US,
            max_clock_drift_ppm: 5_000,
            election_timeout_us: 100_000..=100_000,
            heartbeat_us: 100_000,
            inherited_reads: true,
            formats: Formats {
                raise_from: Index::MAX,
                ..Formats::default()
            },
            seed: 1,
            mutation: None,
        };
        let entry = |index| Entry {
            index,
            term: 1,
            command: Arc::new(Command::NoOp),
        };
        let recovered = Recovered {
            hard_state: HardState {
                term: 1,
                voted_for: Some(1),
            },
            entries: (1..=limbo as Index).map(entry).collect(),
            ..Recovered::default()
        };
        Raft::new(config, recovered, 0)
    }

    fn propose(raft: &mut Raft, now: Micros, count: usize) -> Output {
        let commands = std::iter::repeat_with(|| Arc::new(Command::NoOp)).take(count);
        raft.step(now, Input::Propose(commands.collect()))
    }

    /// Goal: after a crash of all nodes under load, the next leader takes writes while it waits for
    /// the old lease: what is in limbo is not its backlog.
    #[test]
    fn entries_in_limbo_are_no_backlog() {
        let mut raft = after_a_crash(2 * BACKLOG_ENTRIES_MAX);
        raft.step(100_000, Input::Tick);
        raft.step(101_000, Input::HardStatePersisted { term: 2 });
        assert!(raft.leadership().is_some(), "it leads");
        let taken = propose(&mut raft, 102_000, 16 * 1024 - 1).proposed;
        assert!(matches!(taken, Some(Ok(_))), "{taken:?}");
        assert_eq!(raft.commit_index(), 0, "the old lease may be alive");
        let refused = propose(&mut raft, 103_000, 1).proposed;
        assert_eq!(refused, Some(Err(Refusal::Overloaded)));

        let (index, term) = (raft.last_index(), raft.term());
        raft.step(104_000, Input::Persisted { index, term });
        raft.step(LEASE_US, Input::Tick);
        assert_eq!(raft.commit_index(), index, "the wait is over");
        let taken = propose(&mut raft, LEASE_US, 16 * 1024).proposed;
        assert!(matches!(taken, Some(Ok(_))), "{taken:?}");
    }
}
