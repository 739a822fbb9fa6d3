//! The one entry point, [`Raft::step`]: the one check of terms, the dispatch by role, the timers.
//! What each role does stands in files of its own.

use super::state::{Link, Raft, State};
use super::{
    AppendOutcome, Contradiction, Event, Index, Input, MembersRefusal, Message, Micros, Mutation,
    NodeId, Output, Refusal, Term,
};

impl Raft {
    /// Takes in one input at the time `now`, which never goes back.
    pub fn step(&mut self, now: Micros, input: Input) -> Output {
        self.now = self.now.max(now);
        if self.contradicted {
            return after_the_end(&input);
        }
        match input {
            Input::Tick => {}
            Input::Received { from, message } => self.on_message(from, message),
            Input::Connected { peer, reads_format } => self.on_connected(peer, reads_format),
            Input::Disconnected { peer } => self.on_disconnected(peer),
            Input::Propose(commands) => self.on_propose(commands),
            Input::ChangeMembers { base, target } => self.on_change_members(base, target),
            Input::QuorumRead { token } => self.on_quorum_read(token),
            Input::Transfer { target } => self.on_transfer(target),
            Input::Persisted { index, term } => self.on_persisted(index, term),
            Input::HardStatePersisted { term } => self.on_hard_state_persisted(term),
            Input::SnapshotTaken {
                snapshot,
                keep_bytes,
            } => self.on_snapshot_taken(snapshot, keep_bytes),
            Input::SnapshotDamaged { snapshot } => self.on_snapshot_damaged(snapshot),
            Input::Chunk {
                peer,
                snapshot,
                offset,
                data,
            } => self.on_chunk(peer, snapshot, offset, data),
            Input::Installed {
                snapshot,
                configuration,
            } => self.on_installed(snapshot, configuration),
            Input::InstallFailed => self.on_install_failed(),
            Input::Flushed { since_us } => self.on_flushed(since_us),
            Input::Ended { run } => self.on_ended(run),
        }
        if !self.contradicted && self.is_removed() {
            let (entry, _) = *self.log.members_at(self.commit_index);
            self.contradict(Contradiction::Removed { entry });
        }
        if !self.contradicted {
            self.on_time();
        }
        std::mem::take(&mut self.out)
    }

    /// When the next [`Input::Tick`] is due at the latest.
    pub fn wake_at(&self) -> Micros {
        let own = match &self.state {
            State::Leader(leadership) => self.leader_wakes_at(leadership),
            State::Follower | State::Candidate(_) => self.election_at_us,
        };
        match &self.transfer_watch {
            Some(watch) => own.min(watch.deadline_us),
            None => own,
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message) {
        // Whoever is of this cluster is heard, whether or not the own configuration names it: that one may be out
        // of date (dissertation 4.1). The transport has refused others.
        if from == self.config.id || self.is_too_late(from, &message) {
            return;
        }
        self.check_term(from, &message);
        if message.term() < self.term() {
            return self.answer_outdated(from, &message);
        }
        match message {
            Message::Append { .. } => self.on_append(from, message),
            Message::AppendReply {
                sequence, outcome, ..
            } => self.on_append_reply(from, sequence, outcome),
            Message::InstallSnapshot { .. } => self.on_install(from, message),
            Message::InstallReply {
                sequence,
                index,
                offset,
                ..
            } => self.on_install_reply(from, sequence, index, offset),
            Message::Vote { pre: true, .. } => self.on_pre_vote(from, &message),
            Message::Vote { .. } => self.on_vote(from, &message),
            Message::VoteReply {
                granted,
                pre,
                promise_remaining_ms,
                term,
                owed,
            } => self.on_vote_reply(from, term, granted, pre, promise_remaining_ms, owed),
            Message::State {
                index,
                hash,
                agreed,
                ..
            } => self.on_state(from, index, hash, agreed),
            Message::TimeoutNow {
                last_index,
                released,
                ..
            } => self.on_timeout_now(from, last_index, released),
        }
    }

    /// The one place where a later term is adopted (Raft paper 5.1). A question about a term, or
    /// a yes to such a question, is no proof that the term exists.
    fn check_term(&mut self, from: NodeId, message: &Message) {
        let hypothetical = matches!(
            message,
            Message::Vote { pre: true, .. }
                | Message::VoteReply {
                    pre: true,
                    granted: true,
                    ..
                }
        );
        if hypothetical || message.term() <= self.term() {
            return;
        }
        let leads = matches!(
            message,
            Message::Append { .. } | Message::InstallSnapshot { .. }
        );
        let leader = leads.then_some(from);
        self.become_follower(message.term(), leader);
    }

    /// Tells the sender of an outdated request about the newer term; outdated replies tell
    /// nothing.
    fn answer_outdated(&mut self, from: NodeId, message: &Message) {
        let term = self.term();
        match *message {
            Message::Append {
                sequence,
                base_index,
                ..
            } => {
                self.event(Event::AppendRejected {
                    leader: from,
                    term,
                    base_index,
                    sequence,
                    promise_us: 0,
                });
                let outcome = AppendOutcome::Rejected {
                    conflict_index: self.log.last_index() + 1,
                    conflict_term: None,
                };
                self.send_after_persist(
                    from,
                    Message::AppendReply {
                        term,
                        sequence,
                        outcome,
                    },
                );
            }
            Message::Vote { pre, term, .. } => {
                if !pre {
                    let candidate = from;
                    self.event(Event::VoteDenied { candidate, term });
                }
                self.deny_vote(from, pre);
            }
            Message::InstallSnapshot {
                sequence, snapshot, ..
            } => {
                let reply = Message::InstallReply {
                    term,
                    sequence,
                    index: snapshot.index,
                    offset: 0,
                };
                self.send_after_persist(from, reply);
            }
            Message::AppendReply { .. }
            | Message::InstallReply { .. }
            | Message::VoteReply { .. }
            | Message::State { .. }
            | Message::TimeoutNow { .. } => {}
        }
    }

    /// Whatever is due at this time, whichever input brought it.
    fn on_time(&mut self) {
        self.watch_transfer();
        match self.state {
            State::Leader(_) => self.on_leader_time(),
            State::Follower | State::Candidate(_) if self.now >= self.election_at_us => {
                self.on_election_timer();
            }
            State::Follower | State::Candidate(_) => {}
        }
    }

    fn on_connected(&mut self, peer: NodeId, reads_format: u64) {
        let link = Link {
            is_up: true,
            reads_format,
        };
        self.links.insert(peer, link);
        match self.state {
            State::Leader(_) => self.on_peer_connected(peer),
            State::Follower | State::Candidate(_) => self.stand_if_no_leader_is_left(),
        }
    }

    fn on_disconnected(&mut self, peer: NodeId) {
        let link = Link {
            is_up: false,
            reads_format: 0,
        };
        self.links.insert(peer, link);
        if self.mutated(Mutation::BrokenConnectionProves)
            && let Some(run) = self.heard_run.filter(|run| run.node == peer)
        {
            self.on_ended(run);
        }
        match self.state {
            State::Leader(_) => self.on_peer_disconnected(peer),
            State::Follower if self.leader == Some(peer) => self.on_leader_link_broken(),
            State::Follower | State::Candidate(_) => {}
        }
    }

    fn on_persisted(&mut self, index: Index, term: Term) {
        // A conflicting suffix may have been cut meanwhile: what was written there says nothing
        // about what stands there now.
        let any_term = self.mutated(Mutation::PersistedOfAnyTerm);
        if self.log.term_at(index) == Some(term) || any_term {
            self.durable_index = self.durable_index.max(index);
        }
        if let State::Leader(_) = self.state {
            self.on_own_persisted();
        }
    }

    fn on_flushed(&mut self, since_us: Micros) {
        self.flushed_us = self.flushed_us.max(Some(since_us));
        if let Some(leading) = self.leadership_mut() {
            leading.flush_asked_us.take_if(|asked| *asked <= since_us);
        }
    }
}

/// What comes of an input at the end of the node: nothing, but that each proposal is answered.
fn after_the_end(input: &Input) -> Output {
    let refused = matches!(input, Input::Propose(_));
    let change = matches!(input, Input::ChangeMembers { .. });
    Output {
        proposed: refused.then_some(Err(Refusal::NotLeader { leader: None })),
        members_proposed: change.then_some(Err(MembersRefusal::NotLeader { leader: None })),
        ..Output::default()
    }
}
