//! Elections: pre-vote, vote, and what a voter tells of its promises.

use super::lease::Slots;
use super::state::{Candidacy, Raft, State};
use super::{Event, HardState, LEASE_US_MAX, Message, Micros, Mutation, NodeId, Owed, Run, Term};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Random delay before a pre-vote when the link to the leader broke.
const EARLY_DELAY_US: RangeInclusive<Micros> = 1_000..=12_000;
/// Early attempts before the normal timer takes over again; their delays double.
const EARLY_ATTEMPTS_MAX: u32 = 5;
impl Raft {
    pub(super) fn schedule_early_election(&mut self) {
        let delay_us = self.random.within(&EARLY_DELAY_US) << self.early_attempts;
        self.early_attempts += 1;
        self.election_at_us = self.election_at_us.min(self.now + delay_us);
    }

    pub(super) fn on_election_timer(&mut self) {
        self.reset_election_timer();
        if self.leader_link_broken && self.early_attempts < EARLY_ATTEMPTS_MAX {
            self.schedule_early_election();
        }
        if !self.is_voter() {
            return; // A learner, or a node that joins: its log says so when it votes.
        }
        if self.vote_awaits_disk() {
            return; // Where there is no room, one election after another would wait for it.
        }
        if self.is_damaged() {
            return; // It may have lost what it voted for; it waits to be refilled.
        }
        if self.leaves_it_to_others() {
            return;
        }
        self.start_pre_vote();
    }

    /// Whether this node stands for election and its own vote is not durable yet.
    fn vote_awaits_disk(&self) -> bool {
        match &self.state {
            State::Candidate(candidacy) => {
                !candidacy.pre && !candidacy.votes.contains(&self.config.id)
            }
            State::Follower | State::Leader(_) => false,
        }
    }

    fn start_pre_vote(&mut self) {
        if self.members().has_quorum(|id| id == self.config.id) {
            return self.start_election(None);
        }
        self.state = State::Candidate(Candidacy {
            pre: true,
            votes: BTreeSet::from([self.config.id]),
            denials: BTreeSet::new(),
            old_leases: Slots::default(),
            waived_until_us: 0,
        });
        self.leader = None;
        let question = self.vote_request(self.term() + 1, true, None);
        for peer in self.other_voters() {
            self.send(peer, question.clone());
        }
    }

    /// Stands for election in the next term.
    pub(super) fn start_election(&mut self, released: Option<(NodeId, Term)>) {
        let term = self.term() + 1;
        self.set_hard_state(HardState {
            term,
            voted_for: Some(self.config.id),
        });
        self.counters.elections_started += 1;
        self.event(Event::ElectionStarted { term });
        self.leader = None;
        self.heard_us = None;
        self.leader_link_broken = false;
        self.reset_election_timer();
        self.learn_released(released);
        let own = self.own_run();
        self.voted_run = Some(own).filter(|run| run.is_named());
        let old_leases = self.promises.owed(own);
        self.state = State::Candidate(Candidacy {
            pre: false,
            // The own vote counts when it is durable: a node that died before would otherwise be
            // free to lead the same term once more.
            votes: BTreeSet::new(),
            denials: BTreeSet::new(),
            old_leases,
            waived_until_us: 0,
        });
        let request = self.vote_request(term, false, released);
        for peer in self.other_voters() {
            self.send_after_persist(peer, request.clone());
        }
        if self.mutated(Mutation::OwnVoteBeforeFsync) {
            self.send_without_persist();
            self.on_hard_state_persisted(term);
        }
    }

    /// A lease was given up for good: nobody waits for it, whoever stands now or later.
    fn learn_released(&mut self, released: Option<(NodeId, Term)>) {
        if let Some((leader, term)) = released {
            self.promises.waive_released(leader, term);
        }
    }

    pub(super) fn on_hard_state_persisted(&mut self, term: Term) {
        let (id, own_term) = (self.config.id, self.term());
        match &mut self.state {
            State::Candidate(candidacy) if !candidacy.pre && term == own_term => {
                candidacy.votes.insert(id);
                self.count_votes();
            }
            _ => {}
        }
    }

    fn vote_request(&self, term: Term, pre: bool, released: Option<(NodeId, Term)>) -> Message {
        Message::Vote {
            term,
            last_index: self.log.last_index(),
            last_term: self.log.last_term(),
            pre,
            released,
            incarnation: self.incarnation,
        }
    }

    /// Says whether a vote would be given; changes nothing.
    pub(super) fn on_pre_vote(&mut self, from: NodeId, message: &Message) {
        let Message::Vote {
            term,
            last_index,
            last_term,
            ..
        } = *message
        else {
            return;
        };
        let granted = term > self.term()
            && !self.refuses_strangers(from)
            && !self.is_damaged()
            && !self.hears_a_leader()
            && self.log.is_covered_by(last_index, last_term);
        if granted {
            let reply = Message::VoteReply {
                term,
                granted,
                pre: true,
                promise_remaining_ms: None,
                owed: Owed::default(),
            };
            self.send(from, reply);
        } else {
            self.deny_vote(from, true);
        }
    }

    /// Test-only: whoever is asked answers, whatever its own configuration says, for it may be out of date.
    fn refuses_strangers(&self, from: NodeId) -> bool {
        self.mutated(Mutation::StrangersGetNoVote) && !self.members().votes(from)
    }

    /// Sticky leader (Raft dissertation 4.2.3): who has heard from a leader within the minimum
    /// election timeout, over a connection that lives, helps nobody to depose it.
    fn hears_a_leader(&self) -> bool {
        let recent_us = *self.config.election_timeout_us.start();
        match &self.state {
            State::Leader(leadership) => {
                !leadership.released && self.now < self.leadership_deadline_us(leadership)
            }
            State::Follower | State::Candidate(_) => {
                !self.leader_link_broken
                    && self.heard_us.is_some_and(|at| self.now < at + recent_us)
            }
        }
    }

    pub(super) fn on_vote(&mut self, from: NodeId, message: &Message) {
        let Message::Vote {
            term,
            last_index,
            last_term,
            released,
            incarnation,
            ..
        } = *message
        else {
            return;
        };
        self.learn_released(released);
        let free = self.hard_state.voted_for.is_none_or(|voted| voted == from);
        let granted = free
            && !self.refuses_strangers(from)
            && !matches!(self.state, State::Leader(_))
            && !self.is_damaged()
            && self.log.is_covered_by(last_index, last_term);
        if !granted {
            self.event(Event::VoteDenied {
                candidate: from,
                term,
            });
            return self.deny_vote(from, false);
        }
        // A candidate of this term voted for itself, so at most a pre-vote is given up here.
        self.state = State::Follower;
        self.set_hard_state(HardState {
            term,
            voted_for: Some(from),
        });
        let candidate = Run {
            node: from,
            incarnation,
        };
        self.voted_run = Some(candidate).filter(|run| run.is_named());
        self.reset_election_timer();
        let open_until_us = self.promises.open_until(candidate);
        let owed = self.owed_to_others(candidate);
        let remaining_us = open_until_us.saturating_sub(self.now);
        self.event(Event::VoteGranted {
            candidate: from,
            term,
            promise_us: remaining_us,
        });
        self.send_after_persist(
            from,
            Message::VoteReply {
                term,
                granted: true,
                pre: false,
                promise_remaining_ms: Some(remaining_us.div_ceil(1_000)),
                owed,
            },
        );
        if self.mutated(Mutation::VoteBeforeFsync) {
            self.send_without_persist();
        }
    }

    pub(super) fn deny_vote(&mut self, from: NodeId, pre: bool) {
        let term = self.term();
        self.send_after_persist(
            from,
            Message::VoteReply {
                term,
                granted: false,
                pre,
                promise_remaining_ms: None,
                owed: Owed::default(),
            },
        );
    }

    pub(super) fn on_vote_reply(
        &mut self,
        from: NodeId,
        term: Term,
        granted: bool,
        pre: bool,
        promise_remaining_ms: Option<u64>,
        owed: Owed,
    ) {
        let own_term = self.term();
        let State::Candidate(candidacy) = &mut self.state else {
            return;
        };
        let asked_term = own_term + u64::from(pre);
        if pre != candidacy.pre {
            return;
        }
        if !granted {
            return self.on_vote_denied(from);
        }
        if term != asked_term {
            return;
        }
        candidacy.votes.insert(from);
        if !pre {
            self.count_owed(promise_remaining_ms, owed, LEASE_US_MAX);
        }
        self.count_votes();
    }

    /// When a majority is out of reach, because the votes were split, waiting for the timer gains
    /// nothing: try again after a short random time. Bounded, then the timer decides.
    fn on_vote_denied(&mut self, from: NodeId) {
        let State::Candidate(candidacy) = &mut self.state else {
            return;
        };
        candidacy.denials.insert(from);
        let State::Candidate(candidacy) = &self.state else {
            return;
        };
        let may_vote = |id| {
            let gone = !candidacy.votes.contains(&id) && self.has_lost(id);
            !candidacy.denials.contains(&id) && !gone
        };
        let lost = !self.members().has_quorum(may_vote);
        if lost && !candidacy.pre && self.early_attempts < EARLY_ATTEMPTS_MAX {
            self.schedule_early_election();
        }
    }

    fn count_votes(&mut self) {
        let State::Candidate(candidacy) = &self.state else {
            return;
        };
        if !self
            .in_force_for_quorums()
            .has_quorum(|id| candidacy.votes.contains(&id))
        {
            return;
        }
        match candidacy.pre {
            true => self.start_election(None),
            false => {
                let wait = self.may_owe_a_lease() && !self.mutated(Mutation::NoWait);
                let old_leases = match wait {
                    true => candidacy.old_leases.clone(),
                    false => Slots::default(),
                };
                let waived_until_us = candidacy.waived_until_us;
                self.become_leader(old_leases, waived_until_us);
            }
        }
    }
}
