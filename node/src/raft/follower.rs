//! A follower: takes in the leader's log, promises it a lease, and stands for election when it
//! hears nothing.

use super::state::{Raft, State};
use super::{
    AppendOutcome, Contradiction, Entry, Event, Index, LEASE_US_MAX, Message, Micros, Mutation,
    NodeId, Run, Term,
};

impl Raft {
    pub(super) fn on_append(&mut self, from: NodeId, message: Message) {
        let Message::Append {
            term,
            base_index,
            base_term,
            entries,
            commit_index,
            lease_ms,
            sequence,
            incarnation,
        } = message
        else {
            return;
        };
        let accepts = self.log.has(base_index, base_term);
        let promises = accepts || !self.mutated(Mutation::PromiseOnlyOnAccept);
        let leader = Run {
            node: from,
            incarnation,
        };
        let Some(promise_us) = self.follow(leader, lease_ms, promises) else {
            return;
        };
        let covered = base_index + entries.len() as Index;
        let brought = entries.len() as u64;
        if let Some(keep) = self.cut_of_committed(base_index, base_term, &entries) {
            return self.contradict(Contradiction::LeaderLacksCommitted {
                leader: from,
                term,
                keep,
                committed: self.commit_index,
            });
        }
        let outcome = self.splice(base_index, base_term, entries);
        match outcome {
            AppendOutcome::Accepted { .. } => {
                self.refilled_to(covered);
                self.event(Event::AppendAccepted {
                    leader: from,
                    term,
                    entries: brought,
                    last_index: covered,
                    sequence,
                    promise_us,
                });
                // Only what this append has shown to be equal may be taken for committed.
                let commit_index = commit_index.min(covered);
                if commit_index > self.commit_index {
                    self.commit_to(commit_index);
                }
            }
            AppendOutcome::Rejected { .. } => self.event(Event::AppendRejected {
                leader: from,
                term,
                base_index,
                sequence,
                promise_us,
            }),
        }
        self.send_after_persist(
            from,
            Message::AppendReply {
                term,
                sequence,
                outcome,
            },
        );
        self.tell_state(from);
    }

    /// Accepts `from` as the leader of this term and promises it a lease: before anything is
    /// acknowledged, whether or not the logs meet. Returns how long it promised. `None`: this node leads
    /// the term itself.
    pub(super) fn follow(&mut self, leader: Run, lease_ms: u64, promises: bool) -> Option<Micros> {
        let (term, from) = (self.term(), leader.node);
        if matches!(self.state, State::Leader(_)) {
            self.contradict(Contradiction::TwoLeaders { other: from, term });
            return None;
        }
        if !matches!(self.state, State::Follower) || self.leader != Some(from) {
            self.become_follower(term, Some(from));
        }
        self.heard_us = Some(self.now);
        self.heard_run = Some(leader);
        self.former_leaders = None;
        self.leader_link_broken = false;
        self.early_attempts = 0;
        self.never_ran = false;
        self.reset_election_timer();
        // No cluster has a longer lease, whatever an append carries.
        let carried_us = lease_ms.saturating_mul(1_000).min(LEASE_US_MAX);
        let lease_us = carried_us.max(self.config.lease_us);
        if promises {
            self.promises.promise(leader, term, self.now, lease_us);
        }
        self.finish_transfer(from);
        Some(if promises { lease_us } else { 0 })
    }

    /// The last equal entry, where taking in these would cut one that is committed.
    fn cut_of_committed(
        &self,
        base_index: Index,
        base_term: Term,
        entries: &[Entry],
    ) -> Option<Index> {
        if !self.log.has(base_index, base_term) {
            return None;
        }
        let differs = |entry: &&Entry| !self.log.has(entry.index, entry.term);
        let keep = entries.iter().find(differs)?.index - 1;
        (keep < self.commit_index).then_some(keep)
    }

    /// Makes the log equal to the leader's where the two meet.
    fn splice(&mut self, base_index: Index, base_term: Term, entries: Vec<Entry>) -> AppendOutcome {
        match self.log.term_at(base_index) {
            None if base_index > self.log.last_index() => AppendOutcome::Rejected {
                conflict_index: self.log.last_index() + 1,
                conflict_term: None,
            },
            Some(term) if term != base_term => AppendOutcome::Rejected {
                conflict_index: self.log.first_index_of_term_at(base_index),
                conflict_term: Some(term),
            },
            // Equal, or let go because it is committed.
            Some(_) | None => {
                let match_index = base_index + entries.len() as Index;
                let known = entries
                    .iter()
                    .take_while(|entry| self.log.has(entry.index, entry.term))
                    .count();
                self.replace_suffix(entries.into_iter().skip(known).collect());
                AppendOutcome::Accepted { match_index }
            }
        }
    }

    fn replace_suffix(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else {
            return;
        };
        let keep = first.index - 1;
        if keep < self.log.last_index() {
            assert!(keep >= self.commit_index, "looked at before");
            self.counters.conflicts += 1;
            let members_stay = self.mutated(Mutation::MembersStayWhenCut);
            self.log.truncate_after(keep, members_stay);
            self.durable_index = self.durable_index.min(keep);
            self.out.truncate_after = Some(keep);
        }
        entries
            .iter()
            .cloned()
            .for_each(|entry| self.log.push(entry));
        self.out.append.extend(entries);
    }

    /// The connection from the leader broke, most likely because its process died: ask the others
    /// in a few milliseconds instead of waiting for the timer. Those who still hear the leader
    /// refuse, so that one flaky link deposes nobody.
    pub(super) fn on_leader_link_broken(&mut self) {
        self.leader_link_broken = true;
        self.early_attempts = 0;
        self.schedule_early_election();
    }
}
