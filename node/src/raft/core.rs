//! The one entry point, [`Raft::step`]: the one check of terms, the dispatch by role, the timers.
//! What each role does stands in files of its own.

use super::election::Candidacy;
use super::leader::Leadership;
use super::lease::Promises;
use super::log::Log;
use super::random::Random;
use super::transfer::TransferWatch;
use super::{
    AppendOutcome, Config, Entry, Event, HardState, Index, Input, Message, Micros, Mutation,
    NodeId, Output, Promise, Recovered, Term,
};
use std::collections::BTreeMap;

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks for votes, or whether it would get them.
    Candidate,
    /// Leads.
    Leader,
}

#[derive(Debug)]
pub(super) enum State {
    Follower,
    Candidate(Candidacy),
    Leader(Box<Leadership>),
}

/// One node's part in consensus. See the module's prose.
#[derive(Debug)]
pub struct Raft {
    pub(super) config: Config,
    /// The time of the step under way, on this node's clock.
    pub(super) now: Micros,
    pub(super) state: State,
    pub(super) hard_state: HardState,
    pub(super) log: Log,
    /// Own entries up to here are durable.
    pub(super) durable_index: Index,
    pub(super) commit_index: Index,
    pub(super) leader: Option<NodeId>,
    /// When the leader of this term was last heard.
    pub(super) heard_us: Option<Micros>,
    /// The connection from the leader broke and nothing was heard since.
    pub(super) leader_link_broken: bool,
    /// Elections tried early in a row since the link to the leader broke.
    pub(super) early_attempts: u32,
    pub(super) election_at_us: Micros,
    pub(super) promises: Promises,
    pub(super) random: Random,
    pub(super) damaged_until: Index,
    pub(super) never_ran: bool,
    pub(super) transfer_watch: Option<TransferWatch>,
    /// Whether the connection from a peer is up, or broke and did not come back. Without those
    /// that never were connected.
    links: BTreeMap<NodeId, bool>,
    pub(super) counters: Counters,
    pub(super) out: Output,
}

/// What a node counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Elections stood for (pre-votes not counted).
    pub elections_started: u64,
    /// Heartbeat rounds sent because the interval was over.
    pub heartbeat_rounds: u64,
    /// Rounds sent because quorum reads asked.
    pub read_rounds: u64,
    /// Commands appended as leader.
    pub proposals: u64,
    /// Entries whose commit was held back by an older lease.
    pub deferred_commits: u64,
    /// Times a new leader found an older lease to wait for.
    pub old_lease_waits: u64,
    /// Leaderships handed over.
    pub transfers: u64,
    /// Conflicting suffixes cut from the own log.
    pub conflicts: u64,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The follower.
    pub id: NodeId,
    /// Its log equals the leader's up to here.
    pub match_index: Index,
    /// Its connection is up.
    pub connected: bool,
}

/// What decides about lease reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// What the node is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it believes to lead.
    pub leader: Option<NodeId>,
    /// Leader: end of the lease on the own clock; 0: none.
    pub lease_until_us: Micros,
    /// Leader: older leases may be alive until then; 0: over.
    pub old_lease_until_us: Micros,
    /// Leader: an entry of the own term is committed.
    pub own_term_committed: bool,
    /// Until then a former run of this node may have promised a lease to anyone.
    pub unknown_promises_until_us: Micros,
}

/// A look at a node from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Role, term, leader and leases.
    pub lease: LeaseStatus,
    /// Up to here entries are committed.
    pub commit_index: Index,
    /// Its last entry.
    pub last_index: Index,
    /// Leader: its followers.
    pub peers: Vec<PeerStatus>,
    /// What it counted.
    pub counters: Counters,
}

impl Raft {
    /// A node as it starts, a follower. `now` is its clock at the start.
    pub fn new(config: Config, recovered: Recovered, now: Micros) -> Self {
        assert!(config.voters.contains(&config.id), "not a voter of its own");
        let forgets = config.mutation == Some(Mutation::PromiseForgottenOnRestart);
        let remembers = recovered.never_ran || recovered.kept_promises.is_some();
        let forgotten_until = match remembers || forgets {
            true => 0,
            false if config.mutation == Some(Mutation::FormerLeaseForgotten) => {
                now + config.lease_us
            }
            false => now + config.lease_us.max(recovered.former_lease_us),
        };
        let one_slot = config.mutation == Some(Mutation::OneSlotPromise);
        let mut promises = Promises::new(forgotten_until, one_slot);
        if !forgets {
            promises.restore(&recovered.kept_promises.unwrap_or_default());
        }
        let log = Log::new(recovered.entries);
        let mut raft = Raft {
            now,
            state: State::Follower,
            hard_state: recovered.hard_state,
            durable_index: log.last_index(),
            commit_index: recovered.commit_index.min(log.last_index()),
            log,
            leader: None,
            heard_us: None,
            leader_link_broken: false,
            early_attempts: 0,
            election_at_us: 0,
            promises,
            random: Random::new(config.seed),
            damaged_until: recovered.damaged_until,
            never_ran: recovered.never_ran,
            transfer_watch: None,
            links: BTreeMap::new(),
            counters: Counters::default(),
            out: Output::default(),
            config,
        };
        raft.reset_election_timer();
        raft
    }

    /// Takes in one input at the time `now`, which never goes back.
    pub fn step(&mut self, now: Micros, input: Input) -> Output {
        self.now = self.now.max(now);
        match input {
            Input::Tick => {}
            Input::Received { from, message } => self.on_message(from, message),
            Input::Connected { peer } => self.on_connected(peer),
            Input::Disconnected { peer } => self.on_disconnected(peer),
            Input::Propose(commands) => self.on_propose(commands),
            Input::QuorumRead { token } => self.on_quorum_read(token),
            Input::Transfer { target } => self.on_transfer(target),
            Input::Persisted { index, term } => self.on_persisted(index, term),
            Input::HardStatePersisted { term } => self.on_hard_state_persisted(term),
        }
        self.on_time();
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

    /// What a gate for lease reads needs, as of the last step.
    pub fn lease_status(&self) -> LeaseStatus {
        let leadership = self.leadership();
        LeaseStatus {
            role: self.role(),
            term: self.term(),
            leader: self.leader,
            lease_until_us: leadership.map_or(0, |leading| self.lease_until_us(leading)),
            old_lease_until_us: leadership
                .map(|leading| leading.old_lease_until_us)
                .filter(|until| *until > self.now)
                .unwrap_or(0),
            own_term_committed: leadership.is_some_and(|leading| self.own_term_committed(leading)),
            unknown_promises_until_us: self.promises.unknown_until(),
        }
    }

    /// A look from outside, as of the last step.
    pub fn status(&self) -> Status {
        Status {
            lease: self.lease_status(),
            commit_index: self.commit_index,
            last_index: self.log.last_index(),
            peers: self.leadership().map_or_else(Vec::new, Leadership::peers),
            counters: self.counters,
        }
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        match self.state {
            State::Follower => Role::Follower,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// Whom it believes to lead.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Its term and vote, as they must be on disk.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Up to here entries are committed.
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// Its last entry.
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// The entry at `index`, if the log holds it.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.entry(index)
    }

    /// Entries behind `after` up to and with `last`.
    pub fn entries(&self, after: Index, last: Index) -> &[Entry] {
        self.log.range(after, last)
    }

    /// What this node has promised and not yet kept, to be kept through a stop in good order: see
    /// [`Recovered::kept_promises`]. Nothing may be acknowledged after this was written down.
    pub fn promises(&self, now: Micros) -> Vec<Promise> {
        self.promises.open(now)
    }

    /// The entries in limbo: above the commit index, of an earlier term. An older leader may have
    /// acknowledged them, so a leader can't tell yet what the keys they touch hold.
    pub fn limbo(&self) -> impl Iterator<Item = &Entry> {
        let term = self.term();
        let uncommitted = self.log.range(self.commit_index, self.log.last_index());
        uncommitted
            .iter()
            .take_while(move |entry| entry.term < term)
    }

    fn on_message(&mut self, from: NodeId, message: Message) {
        if from == self.config.id || !self.config.voters.contains(&from) {
            return; // Not of this cluster: the transport has refused it already.
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
            Message::Vote { pre: true, .. } => self.on_pre_vote(from, &message),
            Message::Vote { .. } => self.on_vote(from, &message),
            Message::VoteReply {
                granted,
                pre,
                promise_remaining_ms,
                term,
            } => self.on_vote_reply(from, term, granted, pre, promise_remaining_ms),
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
        let leader = matches!(message, Message::Append { .. }).then_some(from);
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
            Message::AppendReply { .. }
            | Message::VoteReply { .. }
            | Message::TimeoutNow { .. } => {}
        }
    }

    /// Enters `term` (or stays in it) as a follower. Whatever lease was held is gone with the
    /// leadership, before anything else happens.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        let state = std::mem::replace(&mut self.state, State::Follower);
        let was_active = !matches!(state, State::Follower);
        let only_asked = matches!(&state, State::Candidate(candidacy) if candidacy.pre);
        if let State::Leader(leadership) = state {
            self.end_leadership(*leadership);
        }
        // The short timer of a node that never ran ends with the first term it hears of: there is
        // a cluster, and it may be electing its leader just now.
        let was_new = self.term() == 0;
        if term > self.term() {
            self.set_hard_state(HardState {
                term,
                voted_for: None,
            });
            self.heard_us = None;
        }
        self.leader = leader;
        if was_active || was_new {
            self.reset_election_timer();
        }
        if was_active && !only_asked {
            self.event(Event::SteppedDown { term });
        }
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        assert!(hard_state.term >= self.term(), "the term went back");
        self.hard_state = hard_state;
        self.out.hard_state = Some(hard_state);
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

    fn on_connected(&mut self, peer: NodeId) {
        self.links.insert(peer, true);
        if let State::Leader(_) = self.state {
            self.on_peer_connected(peer);
        }
    }

    fn on_disconnected(&mut self, peer: NodeId) {
        self.links.insert(peer, false);
        match self.state {
            State::Leader(_) => self.on_peer_disconnected(peer),
            State::Follower if self.leader == Some(peer) => self.on_leader_link_broken(),
            State::Follower | State::Candidate(_) => {}
        }
    }

    fn on_persisted(&mut self, index: Index, term: Term) {
        // A conflicting suffix may have been cut meanwhile: what was written there says nothing
        // about what stands there now.
        if self.log.term_at(index) == Some(term) {
            self.durable_index = self.durable_index.max(index);
        }
        if let State::Leader(_) = self.state {
            self.on_own_persisted();
        }
    }

    /// Advances the commit index; entries leave for the state machine in order.
    pub(super) fn commit_to(&mut self, index: Index) {
        assert!(index <= self.log.last_index(), "commit beyond the log");
        assert!(index >= self.commit_index, "the commit index went back");
        let as_leader = self.role() == Role::Leader;
        for entry in self.log.range(self.commit_index, index) {
            self.out.events.push(Event::Committed {
                entry: entry.clone(),
                as_leader,
            });
        }
        self.commit_index = index;
        self.out.commit_index = Some(index);
    }

    pub(super) fn leadership(&self) -> Option<&Leadership> {
        match &self.state {
            State::Leader(leadership) => Some(leadership),
            State::Follower | State::Candidate(_) => None,
        }
    }

    pub(super) fn leadership_mut(&mut self) -> Option<&mut Leadership> {
        match &mut self.state {
            State::Leader(leadership) => Some(leadership),
            State::Follower | State::Candidate(_) => None,
        }
    }

    /// The connection from this peer is up.
    pub(super) fn is_connected(&self, peer: NodeId) -> bool {
        self.links.get(&peer) == Some(&true)
    }

    /// The connection from this peer was up, broke, and did not come back.
    pub(super) fn has_lost(&self, peer: NodeId) -> bool {
        self.links.get(&peer) == Some(&false)
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        let others = self.config.voters.iter().copied();
        others.filter(|id| *id != self.config.id).collect()
    }

    /// Voters needed for a majority, this node included.
    pub(super) fn quorum(&self) -> usize {
        self.config.voters.len() / 2 + 1
    }

    pub(super) fn mutated(&self, mutation: Mutation) -> bool {
        self.config.mutation == Some(mutation)
    }

    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        self.out.messages.push((to, message));
    }

    pub(super) fn send_after_persist(&mut self, to: NodeId, message: Message) {
        self.out.messages_after_persist.push((to, message));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.events.push(event);
    }
}
