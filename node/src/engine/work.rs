//! [`Engine`]: takes inputs to the core and the core's outputs to disk, peers and clients.

use super::disk::DiskQueue;
use super::pending::Pending;
use super::reads::{ReadGate, ReadView};
use super::{Consistency, Effects, Input, Query, ReadPath, Reply, Request, RequestError, Token};
use crate::command::{Command, Write};
use crate::kv::{Applied, Store};
use crate::raft::{
    self, Config, Index, Micros, Mutation, Output, Raft, Recovered, Refusal, Role, Term,
};
use crate::wal::{LogWriter, Metadata};
use std::collections::HashSet;
use std::sync::Arc;

/// Writes that go to the core in one go.
const PROPOSE_MAX: usize = 1024;
/// And their bytes: the core takes all of them or none, so many large ones at once would be
/// refused even if it had room for most.
const PROPOSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One whole node without its machine. See the module's prose.
#[derive(Debug)]
pub struct Engine {
    raft: Raft,
    disk: DiskQueue,
    view: Arc<ReadView>,
    pending: Pending,
    /// The keys in limbo of this node's leadership of the given term.
    limbo: Option<(Term, Arc<HashSet<Arc<str>>>)>,
    inherited_reads: bool,
    mutation: Option<Mutation>,
    applied_index: Index,
    effects: Effects,
}

impl Engine {
    /// A node as it starts, with what its files held. Entries that were known to be committed are
    /// applied before it returns.
    pub fn new(config: Config, recovered: Recovered, writer: LogWriter, now: Micros) -> Self {
        let mutation = config.mutation;
        let inherited_reads = config.inherited_reads;
        let metadata = Metadata {
            hard_state: recovered.hard_state,
            commit_index: recovered.commit_index,
            applied_index: recovered.commit_index,
        };
        let view = Arc::new(ReadView::default());
        view.lock().store = Store::with_mutation(mutation);
        let mut engine = Engine {
            raft: Raft::new(config, recovered, now),
            disk: DiskQueue::new(writer, metadata, now),
            view,
            pending: Pending::default(),
            limbo: None,
            inherited_reads,
            mutation,
            applied_index: 0,
            effects: Effects::default(),
        };
        engine.apply_to(engine.raft.commit_index());
        engine.publish(now);
        engine.effects = Effects::default();
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
                Input::Connected { peer } => self.drive(now, raft::Input::Connected { peer }),
                Input::Disconnected { peer } => {
                    self.drive(now, raft::Input::Disconnected { peer });
                }
                Input::Request { token, request } => {
                    self.on_request(now, token, request, &mut writes);
                }
                Input::Abandoned { token } => self.pending.abandon(token),
                Input::Durable { ticket } => self.on_durable(now, ticket),
            }
        }
        self.propose(now, writes);
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

    fn on_durable(&mut self, now: Micros, ticket: u64) {
        let durable = self.disk.on_durable(ticket);
        self.effects.messages.extend(durable.messages);
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

    fn drive(&mut self, now: Micros, input: raft::Input) {
        let output = self.raft.step(now, input);
        self.absorb(output);
    }

    /// Carries the core's output on, in the order of its fields.
    fn absorb(&mut self, output: Output) {
        if output.hard_state.is_some() {
            self.disk.require_metadata();
        }
        if let Some(index) = output.truncate_after {
            self.disk.truncate_after(index);
        }
        self.disk.append(&output.append);
        self.effects.messages.extend(output.messages);
        match self.mutation {
            Some(Mutation::AckBeforeFsync) => {
                self.effects.messages.extend(output.messages_after_persist);
            }
            _ => self.disk.hold(output.messages_after_persist),
        }
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
        for entry in entries {
            let applied = view.store.apply(entry.index, &entry.command);
            let waiting = self.pending.applied(entry, applied, leader);
            if let Some((token, outcome)) = waiting {
                let reply = outcome.and_then(|applied| written(entry.index, applied));
                self.effects.replies.push((token, reply));
            }
        }
        self.applied_index = self.applied_index.max(commit_index);
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

    fn reply(&mut self, token: Token, reply: Result<Reply, RequestError>) {
        self.effects.replies.push((token, reply));
    }

    fn finish(&mut self, now: Micros) -> Effects {
        let leads = self.raft.role() == Role::Leader;
        for (token, error) in self.pending.expire_writes(leads, now) {
            self.reply(token, Err(error));
        }
        self.publish(now);
        let metadata = self.metadata();
        let (work, free) = self.disk.finish(metadata, now);
        self.effects.messages.extend(free);
        self.effects.disk = work;
        self.effects.wake_at_us = Some(self.wake_at());
        std::mem::take(&mut self.effects)
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            hard_state: self.raft.hard_state(),
            commit_index: self.raft.commit_index(),
            applied_index: self.applied_index,
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
            lease_until_us: look.lease_until_us,
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
            Command::NoOp => None,
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
        Applied::Nothing => unreachable!("a waiting write stands at a no-op of the same term"),
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
}
