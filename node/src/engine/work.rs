//! [`Engine`]: takes inputs to the core and the core's outputs to disk, peers and clients.

use super::disk::DiskQueue;
use super::pending::Pending;
use super::reads::{ReadGate, ReadView};
use super::snapshots::{Snapshots, Start};
use super::{Consistency, Effects, Input, Query, ReadPath, Reply, Request, RequestError, Token};
use crate::command::{Command, FORMAT_FIRST, Write};
use crate::kv::Applied;
use crate::raft::{
    self, Config, Ids, Index, Micros, Mutation, Output, Raft, ReadsSince, Recovered, Refusal, Role,
    Term,
};
use crate::wal::{LogWriter, Metadata};
use std::collections::HashSet;
use std::sync::Arc;

/// Writes that go to the core in one go.
const PROPOSE_MAX: usize = 1024;
/// And their bytes: the core takes all of them or none, so many large ones at once would be
/// refused even if it had room for most.
const PROPOSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// See [`Mutation::StateGoesAstray`].
const ASTRAY_NODE: raft::NodeId = 2;

/// One whole node without its machine. See the module's prose.
#[derive(Debug)]
pub struct Engine {
    pub(super) raft: Raft,
    pub(super) disk: DiskQueue,
    pub(super) view: Arc<ReadView>,
    pub(super) pending: Pending,
    pub(super) snapshots: Snapshots,
    /// The core is to hear that what was received of a snapshot is of no use.
    pub(super) snapshots_refused: bool,
    /// The keys in limbo of this node's leadership of the given term.
    limbo: Option<(Term, Arc<HashSet<Arc<str>>>)>,
    inherited_reads: bool,
    pub(super) mutation: Option<Mutation>,
    pub(super) applied_index: Index,
    ids: Ids,
    reads: ReadsSince,
    pub(super) effects: Effects,
}

impl Engine {
    /// A node as it starts, with what its files held. Entries that were known to be committed are
    /// applied before it returns.
    pub fn new(config: Config, recovered: Recovered, writer: LogWriter, now: Micros) -> Self {
        let start = Start {
            log: writer,
            ..Start::default()
        };
        Engine::behind(start, config, recovered, now)
    }

    /// The same where the log was cut: the state is that after the snapshot that precedes it.
    pub fn behind(
        Start {
            log: writer,
            store,
            snapshot_log_bytes,
        }: Start,
        config: Config,
        recovered: Recovered,
        now: Micros,
    ) -> Self {
        // One node alone does it: else all have the same wrong state.
        let is_astray =
            |it: &Mutation| *it != Mutation::StateGoesAstray || config.id == ASTRAY_NODE;
        let mutation = config.mutation.filter(is_astray);
        let inherited_reads = config.inherited_reads;
        let metadata = Metadata {
            hard_state: recovered.hard_state,
            commit_index: recovered.commit_index,
            applied_index: recovered.commit_index,
            accepted_until: recovered.accepted_until,
            voters: recovered.voters,
            format: recovered.format,
            ids: recovered.ids,
            reads: recovered.reads,
            names: recovered.names.clone(),
        };
        let (ids, reads) = (metadata.ids, metadata.reads);
        let (term_on_record, voters_on_record) = (metadata.hard_state.term, metadata.voters);
        let view = Arc::new(ReadView::default());
        let applied_index = store.applied_index();
        let recovered = Recovered {
            configuration: store.configuration().cloned(),
            ..recovered
        };
        let snapshots = Snapshots::new(snapshot_log_bytes, &store, recovered.reads.index);
        view.lock().store = store.mutated(mutation);
        let mut engine = Engine {
            raft: Raft::new(config, recovered, now),
            disk: DiskQueue::new(writer, metadata, now).mutated(mutation),
            view,
            pending: Pending::default(),
            snapshots,
            snapshots_refused: false,
            limbo: None,
            inherited_reads,
            mutation,
            applied_index,
            ids,
            reads,
            effects: Effects::default(),
        };
        engine.apply_to(engine.raft.commit_index());
        engine.publish(now);
        engine.effects = Effects::default();
        let now_on_record = engine.metadata();
        if term_on_record > 0 && now_on_record.voters > voters_on_record {
            // Before anything is promised to the new ones.
            engine.disk.require_metadata();
        }
        engine
    }

    /// What lease reads look at.
    pub fn view(&self) -> Arc<ReadView> {
        Arc::clone(&self.view)
    }

    /// A look at the core, as of the last step.
    pub fn status(&self) -> raft::Status {
        self.raft.status()
    }

    /// Up to here entries are applied to the store.
    pub fn applied_index(&self) -> Index {
        self.applied_index
    }

    /// The core, for tests that check its invariants.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// When [`Engine::step`] is due at the latest, on the node's clock.
    pub fn wake_at(&self) -> Micros {
        let own = self.raft.wake_at();
        let others = [self.pending.wake_at(), self.disk.wake_at(&self.metadata())];
        others.into_iter().flatten().fold(own, Micros::min)
    }

    /// Takes in a batch at the time `now`, which never goes back. An empty batch lets time pass.
    pub fn step(&mut self, now: Micros, inputs: Vec<Input>) -> Effects {
        let mut writes = Vec::new();
        self.drive(now, raft::Input::Tick);
        for input in inputs {
            match input {
                Input::Tick => {}
                Input::Received { from, message } => {
                    self.drive(now, raft::Input::Received { from, message });
                }
                Input::Connected { peer, reads_format } => {
                    self.drive(now, raft::Input::Connected { peer, reads_format });
                }
                Input::Disconnected { peer } => {
                    self.drive(now, raft::Input::Disconnected { peer });
                }
                Input::Ended { run } => self.drive(now, raft::Input::Ended { run }),
                Input::JoinedCluster { cluster } => self.on_joined_cluster(cluster),
                Input::Request { token, request } => {
                    self.on_request(now, token, request, &mut writes);
                }
                Input::Abandoned { token } => self.pending.abandon(token),
                Input::SnapshotLost => self.on_snapshot_lost(now),
                Input::SnapshotDamaged { snapshot } => self.on_snapshot_damaged(now, snapshot),
                Input::SnapshotWritten { ticket } => self.disk.on_snapshot_written(ticket),
                Input::Chunk {
                    peer,
                    snapshot,
                    offset,
                    data,
                } => {
                    let chunk = raft::Input::Chunk {
                        peer,
                        snapshot,
                        offset,
                        data,
                    };
                    self.drive(now, chunk);
                }
                Input::Durable { ticket } => self.on_durable(now, ticket),
            }
        }
        self.propose(now, writes);
        self.advance_snapshots(now);
        self.advance_backup();
        self.advance_members_change();
        self.finish(now)
    }

    fn on_request(
        &mut self,
        now: Micros,
        token: Token,
        request: Request,
        writes: &mut Vec<(Token, Arc<Command>)>,
    ) {
        match request {
            Request::Write { request, operation } => {
                let write = Write { request, operation };
                writes.push((token, Arc::new(Command::Write(write))));
            }
            Request::Read { query, consistency } => self.on_read(now, token, query, consistency),
            Request::Transfer { target } => self.on_transfer(now, token, target),
            Request::ChangeMembers { base, target } => {
                self.on_change_members(now, token, base, target);
            }
            Request::TakeSnapshot => self.on_take_snapshot(token),
            Request::Backup { not_before } => self.on_backup(token, not_before),
        }
    }

    fn on_read(&mut self, now: Micros, token: Token, query: Query, consistency: Consistency) {
        match consistency {
            Consistency::Lease => {
                if let Err((token, error)) = self.pending.add_lease_read(token, query) {
                    self.reply(token, Err(error));
                }
            }
            Consistency::Quorum => {
                self.pending.quorum_reads.insert(token, query);
                self.drive(now, raft::Input::QuorumRead { token });
            }
            Consistency::Stale => self.answer(token, &query, ReadPath::Stale),
        }
    }

    fn on_transfer(&mut self, now: Micros, token: Token, target: Option<u64>) {
        if self.pending.transfer.is_some() {
            let why = "leadership is being handed over already";
            return self.reply(token, Err(RequestError::NotReady(why)));
        }
        self.pending.transfer = Some(token);
        self.drive(now, raft::Input::Transfer { target });
    }

    /// It is on disk before anything that depends on the disk leaves.
    fn on_joined_cluster(&mut self, cluster: u128) {
        self.ids.cluster = cluster;
        self.raft.join_cluster(cluster);
        self.disk.require_metadata();
    }

    fn on_durable(&mut self, now: Micros, ticket: u64) {
        let durable = self.disk.on_durable(ticket);
        self.effects.messages.extend(durable.messages);
        if let Some(since_us) = durable.since_us {
            self.drive(now, raft::Input::Flushed { since_us });
        }
        if let Some(term) = durable.hard_state_term {
            self.drive(now, raft::Input::HardStatePersisted { term });
        }
        if let Some((index, term)) = durable.last {
            self.drive(now, raft::Input::Persisted { index, term });
        }
    }

    fn propose(&mut self, now: Micros, writes: Vec<(Token, Arc<Command>)>) {
        let mut rest = &writes[..];
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(fitting(rest));
            rest = later;
            let commands = chunk.iter().map(|(_, command)| Arc::clone(command));
            let mut output = self
                .raft
                .step(now, raft::Input::Propose(commands.collect()));
            let proposed = output.proposed.take();
            self.absorb(output);
            match proposed {
                Some(Ok(at)) => {
                    for ((token, _), index) in chunk.iter().zip(at.first_index..) {
                        let replaced = self.pending.add_write(index, at.term, *token);
                        if let Some((token, error)) = replaced {
                            self.reply(token, Err(error));
                        }
                    }
                }
                Some(Err(refusal)) => {
                    for (token, _) in chunk {
                        self.reply(*token, Err(refused(refusal)));
                    }
                }
                None => unreachable!("the core answers each proposal"),
            }
        }
    }

    pub(super) fn drive(&mut self, now: Micros, input: raft::Input) {
        let output = self.raft.step(now, input);
        self.absorb(output);
    }

    /// Carries the core's output on, in the order of its fields.
    pub(super) fn absorb(&mut self, output: Output) {
        if output.hard_state.is_some() {
            self.disk.require_metadata();
        }
        if let Some(index) = output.truncate_after {
            self.disk.truncate_after(index);
        }
        self.disk.append(&output.append);
        if output.flush {
            self.disk.require_flush();
        }
        if output.contradiction.is_some() {
            self.effects.contradiction = output.contradiction;
        }
        if let Some(piece) = &output.piece {
            self.on_piece(piece);
        }
        if let Some(keeps_rest) = output.installed {
            self.install(keeps_rest);
        }
        // Whoever is sent a damaged one can only ask for it again and again.
        for begun in output.chunks.iter().filter(|wanted| wanted.offset == 0) {
            self.disk.look_at(begun.snapshot);
        }
        self.effects.chunks.extend(output.chunks);
        self.effects.messages.extend(output.messages);
        match self.mutation {
            Some(Mutation::AckBeforeFsync) => {
                self.effects.messages.extend(output.messages_after_persist);
            }
            _ if output.piece.is_some() => {
                self.disk.hold_for_snapshot(output.messages_after_persist);
            }
            _ => self.disk.hold(output.messages_after_persist),
        }
        self.effects.let_go.extend(output.let_go);
        self.effects.events.extend(output.events);
        if let Some(index) = output.commit_index {
            self.apply_to(index);
        }
        for (token, outcome) in output.quorum_reads {
            self.on_quorum_read(token, outcome);
        }
        for outcome in output.transferred {
            if let Some(token) = self.pending.transfer.take() {
                let reply = outcome.map(|leader| Reply::Transferred { leader });
                self.reply(token, reply.map_err(refused));
            }
        }
    }

    fn apply_to(&mut self, commit_index: Index) {
        let leader = self.raft.leader();
        let entries = self.raft.entries(self.applied_index, commit_index);
        let mut view = self.view.lock();
        let mut wants_format = false;
        for entry in entries {
            let applied = view.store.apply(entry.index, &entry.command);
            let line_bytes = self.disk.line_bytes(entry.index);
            wants_format |= self
                .snapshots
                .note_growth(&view.store, entry.index, line_bytes);
            if self.snapshots.note_applied(&view.store, line_bytes)
                && let Some(log_crc) = self.disk.log_crc(entry.index)
            {
                if self
                    .snapshots
                    .may_begin(&view.store, self.raft.is_installing())
                {
                    let text = self.snapshots.begin(&mut view.store, entry.term, log_crc);
                    self.disk.write_snapshot(true, text);
                } else if view.store.format() > FORMAT_FIRST {
                    let (term, index) = (entry.term, entry.index);
                    let left_out = raft::Event::SnapshotSkipped { term, index };
                    self.effects.events.push(left_out);
                }
            }
            let waiting = self.pending.applied(entry, applied, leader);
            if let Some((token, outcome)) = waiting {
                let reply = outcome.and_then(|applied| written(entry.index, applied));
                self.effects.replies.push((token, reply));
            }
        }
        drop(view);
        self.applied_index = self.applied_index.max(commit_index);
        if wants_format {
            self.raft.want_newer_format();
        }
    }

    /// How much more text of the log it takes until a newer format is asked for. `None`: it is in
    /// force, or nothing asks for it.
    pub fn format_growth_left(&self) -> Option<u64> {
        self.snapshots.growth_left(&self.view.lock().store)
    }

    fn on_quorum_read(&mut self, token: Token, outcome: Result<Index, Refusal>) {
        let Some(query) = self.pending.quorum_reads.remove(&token) else {
            return; // Nobody waits any more.
        };
        match outcome {
            Ok(read_index) => {
                assert!(self.applied_index >= read_index, "read ahead of the state");
                self.answer(token, &query, ReadPath::Quorum);
            }
            Err(refusal) => self.reply(token, Err(refused(refusal))),
        }
    }

    fn answer(&mut self, token: Token, query: &Query, path: ReadPath) {
        let (answer, applied_index) = self.view.stale_read(query);
        let reply = Reply::Read {
            answer,
            applied_index,
            path,
        };
        self.reply(token, Ok(reply));
    }

    pub(super) fn reply(&mut self, token: Token, reply: Result<Reply, RequestError>) {
        self.effects.replies.push((token, reply));
    }

    fn finish(&mut self, now: Micros) -> Effects {
        let leads = self.raft.role() == Role::Leader;
        for (token, error) in self.pending.expire_writes(leads, now) {
            self.reply(token, Err(error));
        }
        self.publish(now);
        let metadata = self.metadata();
        // The core's time never goes back, whatever the clock does.
        let now = self.raft.now().max(now);
        let (work, free) = self.disk.finish(metadata, self.raft.durable_index(), now);
        self.effects.messages.extend(free);
        self.effects.disk = work;
        self.effects.snapshots = self.disk.take_snapshot_works();
        self.effects.wake_at_us = Some(self.wake_at());
        std::mem::take(&mut self.effects)
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            hard_state: self.raft.hard_state(),
            commit_index: self.raft.commit_index(),
            applied_index: self.applied_index,
            accepted_until: self.raft.accepted_until(),
            voters: self.raft.voters_on_record(),
            format: match self.raft.format_of_log() {
                ..=FORMAT_FIRST => 0,
                format => format,
            },
            ids: self.ids,
            reads: self.reads,
            names: self.raft.names(),
        }
    }

    /// Brings the gate up to date, then lets those look again who wait for it.
    fn publish(&mut self, now: Micros) {
        let gate = self.gate(now);
        let ready = self
            .pending
            .take_lease_reads(|query| gate.role != Role::Leader || gate.opens(query, now));
        for token in ready {
            self.effects.replies.push((token, Ok(Reply::LookAgain)));
        }
        self.view.lock().gate = gate;
    }

    fn gate(&mut self, now: Micros) -> ReadGate {
        let look = self.raft.lease_status();
        if self.mutation == Some(Mutation::VoteKeepsLease) && look.role != Role::Leader {
            let before = self.view.gate();
            if before.role == Role::Leader && now < before.lease_until_us {
                return before;
            }
        }
        let leads = look.role == Role::Leader;
        let early = leads && self.mutation == Some(Mutation::ReadBeforeOwnCommit);
        let own_term_applied = look.own_term_committed && now >= look.old_lease_until_us || early;
        let limbo = (leads && !own_term_applied && self.inherited_reads).then(|| self.limbo_keys());
        ReadGate {
            role: look.role,
            term: look.term,
            leader: look.leader,
            lease_until_us: match self.mutation {
                Some(Mutation::InheritedReadWithoutLease) if limbo.is_some() => Micros::MAX,
                _ => look.lease_until_us,
            },
            own_term_applied,
            limbo,
            old_lease_until_us: look.old_lease_until_us,
        }
    }

    /// The keys in limbo can't change while this node leads and has committed nothing of its own,
    /// so they are collected once a term.
    fn limbo_keys(&mut self) -> Arc<HashSet<Arc<str>>> {
        let term = self.raft.term();
        if let Some((of_term, keys)) = &self.limbo
            && *of_term == term
        {
            return Arc::clone(keys);
        }
        let guarded = self.mutation != Some(Mutation::NoLimboGuard);
        let entries = self.raft.limbo().filter(|_| guarded);
        let keys = entries.filter_map(|entry| match &*entry.command {
            Command::Write(write) => Some(Arc::clone(write.operation.key())),
            Command::NoOp | Command::Format(_) | Command::Members(_) => None,
        });
        let keys: Arc<HashSet<_>> = Arc::new(keys.collect());
        self.limbo = Some((term, Arc::clone(&keys)));
        keys
    }
}

/// How many of the writes go to the core next: bounded in number and bytes, but at least one.
fn fitting(writes: &[(Token, Arc<Command>)]) -> usize {
    let mut bytes = 0;
    let first = writes.iter().take(PROPOSE_MAX);
    let fitting = first.take_while(|(_, command)| {
        bytes += command.size_bytes();
        bytes <= PROPOSE_BYTES_MAX
    });
    fitting.count().max(1)
}

fn written(index: Index, applied: Applied) -> Result<Reply, RequestError> {
    match applied {
        Applied::Written { result, .. } => Ok(Reply::Written { index, result }),
        Applied::SessionExpired => Err(RequestError::SessionExpired),
        Applied::IdReused => Err(RequestError::IdReused),
        // Only where two nodes led the same term.
        Applied::Nothing => {
            let why = "another entry of this term took its place in the log";
            Err(RequestError::OutcomeUnknown(why))
        }
    }
}

fn refused(refusal: Refusal) -> RequestError {
    match refusal {
        Refusal::NotLeader { leader } => RequestError::NotLeader { leader },
        Refusal::Transferring => RequestError::NotReady("leadership is being handed over"),
        Refusal::Overloaded => RequestError::Overloaded("too many writes are not committed yet"),
        Refusal::TransferFailed => {
            RequestError::NotReady("no connected follower took over the leadership in time")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Operation;

    /// An engine without peers that leads.
    fn leader() -> (Engine, Micros) {
        let config = Config {
            id: 1,
            voters: vec![1],
            lease_us: 2_000_000,
            max_clock_drift_ppm: 5_000,
            election_timeout_us: 1_000_000..=2_000_000,
            heartbeat_us: 100_000,
            inherited_reads: true,
            formats: Default::default(),
            seed: 1,
            mutation: None,
        };
        let recovered = Recovered {
            never_ran: true,
            ..Recovered::default()
        };
        let mut engine = Engine::new(config, recovered, LogWriter::default(), 0);
        let (mut now, mut inputs) = (0, Vec::new());
        while engine.raft().commit_index() == 0 {
            now += 10_000;
            assert!(now < 60_000_000, "it leads within a minute");
            let effects = engine.step(now, std::mem::take(&mut inputs));
            let durable = |work: crate::engine::DiskWork| Input::Durable {
                ticket: work.ticket,
            };
            inputs.extend(effects.disk.map(durable));
        }
        (engine, now)
    }

    fn writes(count: u64, value: &Arc<str>) -> Vec<Input> {
        let write = |token| Input::Request {
            token,
            request: Request::Write {
                request: None,
                operation: Operation::Set {
                    key: "k".into(),
                    value: Arc::clone(value),
                },
            },
        };
        (0..count).map(write).collect()
    }

    // Of more large writes at once than may be uncommitted, those that fit are taken.
    #[test]
    fn what_fits_of_a_large_batch_is_taken() {
        let (mut engine, now) = leader();
        let before = engine.raft().last_index();
        let effects = engine.step(now, writes(100, &"x".repeat(1024 * 1024).into()));
        let taken = engine.raft().last_index() - before;
        assert!((56..=64).contains(&taken), "{taken} of 64 MiB");
        let overloaded = |(_, reply): &(_, Result<Reply, RequestError>)| {
            matches!(reply, Err(RequestError::Overloaded(_)))
        };
        assert_eq!(effects.replies.len() as u64, 100 - taken);
        assert!(effects.replies.iter().all(overloaded));
    }

    // Writes go to the core in bounded pieces, none of them empty.
    #[test]
    fn pieces_are_bounded_in_number_and_bytes() {
        let of_bytes = |count: usize, bytes: usize| -> Vec<(Token, Arc<Command>)> {
            let write = |value: &str| {
                let value = value.into();
                let operation = Operation::Set {
                    key: "k".into(),
                    value,
                };
                let request = None;
                Arc::new(Command::Write(Write { request, operation }))
            };
            let fixed = write("").size_bytes();
            let command = write(&"x".repeat(bytes - fixed));
            (0..count as Token)
                .map(|token| (token, Arc::clone(&command)))
                .collect()
        };
        let mib = 1024 * 1024;
        assert_eq!(fitting(&of_bytes(5_000, 100)), 1024);
        assert_eq!(fitting(&of_bytes(10, 100)), 10);
        assert_eq!(fitting(&of_bytes(10, mib)), 4);
        assert_eq!(fitting(&of_bytes(10, mib + 1)), 3);
        assert_eq!(fitting(&of_bytes(10, 5 * mib)), 1);
    }
}
