//! A follower: takes in the leader's log, promises it a lease, and stands for election when it
//! hears nothing.

use super::core::{Raft, State};
use super::{AppendOutcome, Entry, Event, Index, Message, Micros, NodeId, Term};

/// A lease carried by an append is believed up to here: the longest that a cluster may have.
const LEASE_MS_MAX: u64 = 10_000;

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
        } = message
        else {
            return;
        };
        assert!(
            !matches!(self.state, State::Leader(_)),
            "two leaders in term {term}: this node and {from}"
        );
        self.follow(from, lease_ms);
        let covered = base_index + entries.len() as Index;
        let brought = entries.len() as u64;
        let outcome = self.splice(base_index, base_term, entries);
        match outcome {
            AppendOutcome::Accepted { .. } => {
                self.event(Event::AppendAccepted {
                    leader: from,
                    term,
                    entries: brought,
                    last_index: covered,
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
    }

    /// Accepts `from` as the leader of this term and promises it a lease: before anything is
    /// acknowledged, whether or not the logs meet.
    fn follow(&mut self, from: NodeId, lease_ms: u64) {
        let term = self.term();
        if !matches!(self.state, State::Follower) || self.leader != Some(from) {
            self.become_follower(term, Some(from));
        }
        self.heard_us = Some(self.now);
        self.leader_link_broken = false;
        self.early_attempts = 0;
        self.never_ran = false;
        self.reset_election_timer();
        let carried: Micros = lease_ms.min(LEASE_MS_MAX) * 1_000;
        let lease_us = carried.max(self.config.lease_us);
        self.promises.promise(from, term, self.now, lease_us);
        self.finish_transfer(from);
    }

    /// Makes the log equal to the leader's where the two meet.
    fn splice(&mut self, base_index: Index, base_term: Term, entries: Vec<Entry>) -> AppendOutcome {
        match self.log.term_at(base_index) {
            None => AppendOutcome::Rejected {
                conflict_index: self.log.last_index() + 1,
                conflict_term: None,
            },
            Some(term) if term != base_term => AppendOutcome::Rejected {
                conflict_index: self.log.first_index_of_term_at(base_index),
                conflict_term: Some(term),
            },
            Some(_) => {
                let match_index = base_index + entries.len() as Index;
                let known = entries
                    .iter()
                    .take_while(|entry| self.log.term_at(entry.index) == Some(entry.term))
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
            assert!(
                keep >= self.commit_index,
                "a leader asks to cut the committed entry {}",
                self.commit_index
            );
            self.counters.conflicts += 1;
            self.log.truncate_after(keep);
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
