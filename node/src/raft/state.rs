//! What a node keeps: [`Raft`], what it is at the moment, and the few changes that every role makes.
//! What happens to it stands in the files above: `step` takes the inputs in, each role has its own.

use super::hashes::{StateHashes, StateTold};
use super::lease::{Promises, Slots};
use super::log::Log;
use super::progress::Progress;
use super::random::Random;
use super::run::EndedRuns;
use super::{
    Config, Contradiction, Entry, Event, HardState, Incarnation, Index, Message, Micros, Mutation,
    NodeId, Output, Promise, Recovered, Refusal, Run, SnapshotId, Term,
};
use crate::command::Members;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Timeout of a node that never ran, while it looks for the others of a new cluster.
const FIRST_TIMEOUT_US: RangeInclusive<Micros> = 20_000..=150_000;

/// How long a node that gave up entries lets those lead who may still hold them.
const ACCEPTED_WAIT_US: Micros = 30_000_000;

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
    /// The name of this run; 0: it has none.
    pub(super) incarnation: Incarnation,
    /// Runs that have ended for certain, of this node and of others.
    pub(super) ended: EndedRuns,
    /// The run that was last heard as leader.
    pub(super) heard_run: Option<Run>,
    /// The runs that the former run of this node may have promised something to, as long as no later term and no
    /// leader was heard of since. `None`: one was, or it is not known to whom.
    pub(super) former_leaders: Option<Vec<Run>>,
    /// The run that this node voted for in its term, if that has a name.
    pub(super) voted_run: Option<Run>,
    pub(super) random: Random,
    pub(super) damage: Damage,
    /// When the newest finished flush was asked for.
    pub(super) flushed_us: Option<Micros>,
    /// From each peer: up to here it has acknowledged entries that are committed. Such entries are
    /// never cut, so a log that ends before is not the one that it was.
    pub(super) kept_by_peers: BTreeMap<NodeId, Index>,
    /// The newest snapshot that is durable here.
    pub(super) snapshot: Option<SnapshotId>,
    /// The last one that was found not to be on disk as it was written.
    pub(super) snapshot_damaged: Option<SnapshotId>,
    /// The snapshot that is being received, and how many bytes of it are here.
    pub(super) receiving: Option<(SnapshotId, u64)>,
    pub(super) never_ran: bool,
    /// What was told to the leader of the own state.
    pub(super) state_told: Option<StateTold>,
    /// Of the cluster; 0: it has none.
    pub(super) cluster_id: u128,
    /// A newer format is needed: see `format`.
    pub(super) newer_format_wanted: bool,
    /// And by a change of membership, so that it does not wait for nodes that are away.
    pub(super) members_wanted: bool,
    /// As many voters as former runs had; 0: not known.
    former_voters: u64,
    /// See [`Recovered::all_ended`].
    all_ended: bool,
    pub(super) transfer_watch: Option<TransferWatch>,
    /// Whether the connection from a peer is up, or broke and did not come back. Without those
    /// that never were connected.
    pub(super) links: BTreeMap<NodeId, Link>,
    pub(super) counters: Counters,
    pub(super) out: Output,
    /// The node is at its end.
    pub(super) contradicted: bool,
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
    /// Snapshots that took the place of the own log.
    pub installs: u64,
    /// Runs of which this node learnt for certain that they have ended.
    pub proofs: u64,
    /// Promises that such an end has waived.
    pub promises_waived: u64,
    /// Waits for an older lease that such an end has ended, or made needless.
    pub waits_waived: u64,
}

/// A run for leadership.
#[derive(Debug)]
pub(super) struct Candidacy {
    /// Only asking whether votes would be given.
    pub(super) pre: bool,
    pub(super) votes: BTreeSet<NodeId>,
    pub(super) denials: BTreeSet<NodeId>,
    /// Older leases that may be alive, by all votes counted so far.
    pub(super) old_leases: Slots,
    /// Leases that would have been waited for until then if their holders had not ended.
    pub(super) waived_until_us: Micros,
}

/// What a leader keeps for as long as it leads.
#[derive(Debug)]
pub(super) struct Leadership {
    pub(super) elected_at_us: Micros,
    /// Its own NO-OP: once this is committed, all before it is.
    pub(super) first_index: Index,
    /// Older leases that may be alive, and until when.
    pub(super) old_leases: Slots,
    pub(super) old_lease_until_us: Micros,
    pub(super) old_lease_over: bool,
    /// The lease of this term was given up for good.
    pub(super) released: bool,
    pub(super) progress: BTreeMap<NodeId, Progress>,
    pub(super) sequence: u64,
    pub(super) heartbeat_at_us: Micros,
    pub(super) commit_notice_at_us: Option<Micros>,
    /// Own appends that are not known to be durable yet: last index and time of the request.
    pub(super) unpersisted: VecDeque<(Index, Micros)>,
    /// When a flush was asked for that only shows that the disk is there, if it is awaited.
    pub(super) flush_asked_us: Option<Micros>,
    /// Size of each uncommitted entry of the own term from this index on, and their sum.
    pub(super) backlog_first_index: Index,
    pub(super) backlog: VecDeque<usize>,
    pub(super) backlog_bytes: usize,
    pub(super) reads_waiting: Vec<u64>,
    pub(super) read_round: Option<ReadRound>,
    pub(super) handover: Option<Handover>,
    /// When the configuration in force was appended here, or leadership began.
    pub(super) members_appended_us: Micros,
    /// A leader that is to leave tries again then to hand over.
    pub(super) leave_at_us: Micros,
    /// So long who was removed is sent to. `None`: nobody was, or that is not committed yet.
    pub(super) departed_until_us: Option<Micros>,
    /// What all nodes have made of the log.
    pub(super) states: StateHashes,
}

/// A heartbeat round that confirms leadership for quorum reads.
#[derive(Debug)]
pub(super) struct ReadRound {
    pub(super) first_sequence: u64,
    pub(super) read_index: Index,
    pub(super) tokens: Vec<u64>,
}

/// A transfer under way, at the leader.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) target: Choice,
    pub(super) deadline_us: Micros,
    pub(super) told: bool,
}

/// Who takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    This(NodeId),
    /// Who first answers an append that was sent from this sequence on, and holds the whole log: a
    /// peer may be connected and yet stand still.
    First {
        sequence: u64,
        /// Without any answer until then there is nobody. The first answer ends this.
        answer_by_us: Option<Micros>,
    },
}

impl Handover {
    /// When it is given up unless something happens before.
    pub(super) fn due_us(&self) -> Micros {
        match self.target {
            Choice::First {
                answer_by_us: Some(answer_by_us),
                ..
            } => answer_by_us.min(self.deadline_us),
            Choice::First { .. } | Choice::This(_) => self.deadline_us,
        }
    }
}

/// Somebody waits for the transfer's outcome, whatever this node becomes meanwhile.
#[derive(Debug)]
pub(super) struct TransferWatch {
    pub(super) term: Term,
    pub(super) deadline_us: Micros,
}

/// The connection from a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) is_up: bool,
    /// The newest format that the peer reads, as it said when the connection came up last.
    pub(super) reads_format: u64,
}

/// What damage to the own log means for elections.
#[derive(Debug)]
pub(super) struct Damage {
    /// The first entry that was lost.
    pub(super) from: Index,
    /// See [`Recovered::damaged_until`].
    pub(super) until: Index,
    /// See [`Recovered::damaged_term`].
    pub(super) term: Term,
    /// See [`Recovered::accepted_until`].
    pub(super) accepted_until: Index,
    /// The term at the start: a leader of a later one was elected since.
    pub(super) started_term: Term,
    /// Until then those who may hold more than this node are waited for.
    pub(super) wait_until_us: Micros,
}

impl Damage {
    pub(super) fn new(recovered: &Recovered, now: Micros) -> Self {
        Damage {
            from: recovered.last_index() + 1,
            until: recovered.damaged_until,
            term: recovered.damaged_term,
            accepted_until: recovered.accepted_until,
            started_term: recovered.hard_state.term,
            wait_until_us: now + ACCEPTED_WAIT_US,
        }
    }
}

impl Raft {
    /// A node as it starts, a follower. `now` is its clock at the start.
    pub fn new(config: Config, recovered: Recovered, now: Micros) -> Self {
        let promises = promises_at_start(&config, &recovered, now);
        let former_leaders = believed_names(&config, &recovered).map(<[Run]>::to_vec);
        let damage = Damage::new(&recovered, now);
        let base = recovered.snapshot.unwrap_or_default();
        let of_flags = || {
            (
                0,
                Arc::new(Members::of_voters(config.voters.iter().copied())),
            )
        };
        let members = recovered.configuration.unwrap_or_else(of_flags);
        let log = Log::new(base, members, recovered.entries);
        let mut raft = Raft {
            now,
            state: State::Follower,
            hard_state: recovered.hard_state,
            durable_index: log.last_index(),
            commit_index: recovered.commit_index.clamp(base.index, log.last_index()),
            log,
            leader: None,
            heard_us: None,
            leader_link_broken: false,
            early_attempts: 0,
            election_at_us: 0,
            promises,
            incarnation: recovered.incarnation,
            ended: EndedRuns::default(),
            heard_run: None,
            former_leaders,
            voted_run: None,
            random: Random::new(config.seed),
            damage,
            flushed_us: None,
            kept_by_peers: BTreeMap::new(),
            snapshot: recovered.snapshot,
            snapshot_damaged: None,
            receiving: None,
            never_ran: recovered.never_ran,
            state_told: None,
            cluster_id: recovered.ids.cluster,
            newer_format_wanted: false,
            members_wanted: false,
            former_voters: if recovered.never_ran {
                1
            } else {
                recovered.voters
            },
            all_ended: recovered.all_ended,
            transfer_watch: None,
            links: BTreeMap::new(),
            counters: Counters::default(),
            out: Output::default(),
            contradicted: false,
            config,
        };
        raft.learn_own_ends(recovered.ended, recovered.former_run);
        raft.reset_election_timer();
        raft.stand_if_no_leader_is_left();
        raft
    }

    /// The id of the cluster that this node joins, where it had none.
    pub fn join_cluster(&mut self, cluster: u128) {
        self.cluster_id = cluster;
    }

    /// This run of this node.
    pub fn own_run(&self) -> Run {
        Run {
            node: self.config.id,
            incarnation: self.incarnation,
        }
    }

    /// The time of the last step, which never goes back.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// As many voters as count for promises that this node may still have to keep. 0: not known.
    pub fn voters_on_record(&self) -> u64 {
        let own = self.members().all_voters().len() as u64;
        match self.promises.open_until(self.own_run()) > self.now {
            // Not known, and still of weight: a crash now must not make it look known.
            true if self.former_voters == 0 => 0,
            true => self.former_voters.max(own),
            false => own,
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

    /// Its log is durable up to here.
    pub fn durable_index(&self) -> Index {
        self.durable_index
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
            self.voted_run = None;
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

    pub(super) fn reset_election_timer(&mut self) {
        let range = match self.never_ran && self.term() == 0 {
            true => FIRST_TIMEOUT_US,
            false => self.config.election_timeout_us.clone(),
        };
        self.election_at_us = self.now + self.random.within(&range);
    }

    /// Called with the state already replaced: nobody sees a lease any more.
    pub(super) fn end_leadership(&mut self, leadership: Leadership) {
        let refusal = Refusal::NotLeader { leader: None };
        let round = leadership.read_round.into_iter().flat_map(|r| r.tokens);
        for token in round.chain(leadership.reads_waiting) {
            self.out.quorum_reads.push((token, Err(refusal)));
        }
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        assert!(hard_state.term >= self.term(), "the term went back");
        if hard_state.term > self.term() {
            self.former_leaders = None;
        }
        self.hard_state = hard_state;
        self.out.hard_state = Some(hard_state);
    }

    /// The end of this node: nothing of what brought it here is taken in.
    pub(super) fn contradict(&mut self, contradiction: Contradiction) {
        self.contradicted = true;
        self.out.contradiction = Some(contradiction);
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
        self.outlive_damage();
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
        self.links.get(&peer).is_some_and(|link| link.is_up)
    }

    /// The connection from this peer was up, broke, and did not come back.
    pub(super) fn has_lost(&self, peer: NodeId) -> bool {
        self.links.get(&peer).is_some_and(|link| !link.is_up)
    }

    /// All other nodes: those of the configuration in force, and for a while those that just left it.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        match &self.state {
            State::Leader(leading) => leading.progress.keys().copied().collect(),
            State::Follower | State::Candidate(_) => {
                let nodes = self.members().nodes.keys().copied();
                nodes.filter(|id| *id != self.config.id).collect()
            }
        }
    }

    /// Whether anybody may hold a lease that this node does not know of: another voter to which a
    /// former run promised it, or a former run, where one may be alive without its disk. A run with a name
    /// knows to whom, and need not guess.
    pub(super) fn may_owe_a_lease(&self) -> bool {
        let alone = self.members_index() == 0 && self.members().nodes.len() <= 1;
        let named = self.own_run().is_named();
        named || !alone || self.former_voters != 1 || !self.all_ended
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

    /// Test-only: what was to leave after the disk leaves at once.
    pub(super) fn send_without_persist(&mut self) {
        let messages = std::mem::take(&mut self.out.messages_after_persist);
        self.out.messages.extend(messages);
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.events.push(event);
    }
}

/// What a node may still have to keep as it starts.
fn promises_at_start(config: &Config, recovered: &Recovered, now: Micros) -> Promises {
    let mut promises = Promises::new(config.mutation == Some(Mutation::OneSlotPromise));
    if recovered.never_ran || config.mutation == Some(Mutation::PromiseForgottenOnRestart) {
        return promises;
    }
    let names = believed_names(config, recovered);
    match &recovered.kept_promises {
        Some(kept) => {
            let kept: Vec<_> = kept.iter().map(|it| it.named_by(names)).collect();
            promises.restore(&kept, now);
        }
        None => {
            let lease_us = match config.mutation == Some(Mutation::FormerLeaseForgotten) {
                true => config.lease_us,
                false => config.lease_us.max(recovered.former_lease_us),
            };
            promises.forget(now + lease_us, names);
        }
    }
    promises
}

/// To whom the former run may have promised something, if its disk is to be believed. What it says is whole only
/// where nobody wrote after that run, and in the very place that it had.
fn believed_names<'a>(config: &Config, recovered: &'a Recovered) -> Option<&'a [Run]> {
    let elsewhere = config.mutation == Some(Mutation::NamesBelievedElsewhere);
    // A node without a name takes no part.
    let takes_part = recovered.incarnation != 0 && recovered.names.by != 0;
    let is_former = takes_part && recovered.names.by == recovered.former_run;
    let believed = is_former && (recovered.former_run_ended || elsewhere);
    recovered.names.runs.as_deref().filter(|_| believed)
}
