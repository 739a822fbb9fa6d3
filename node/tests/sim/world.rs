//! The world: machines, wires, clients, and the queue of what happens next. One thread; all luck
//! comes from the seed; so the same plan always gives the same run.

use crate::client::{Client, Told};
use crate::clock::Clock;
use crate::coverage::Coverage;
use crate::disk::Disk;
use crate::fault::Undo;
use crate::ghost::Ghost;
use crate::machine::Machine;
use crate::members::Operator;
use crate::network::Network;
use crate::oracle::{Checked, Oracle, broken};
use crate::plan::Plan;
use crate::random::Random;
use crate::runner::UNDECIDED;
use crate::trace::Trace;
use checker::{Budget, History, Verdict, check};
use raft_node::engine::Token;
use raft_node::raft::{Message, Micros, NodeId, Role, Run};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What will happen.
#[derive(Debug)]
pub enum Event {
    /// A message reaches a node.
    Arrive {
        from: NodeId,
        to: NodeId,
        epoch: u64,
        message: Message,
    },
    /// A node learns that a connection came up or broke.
    Notice {
        to: NodeId,
        life: u64,
        peer: NodeId,
        connected: bool,
    },
    /// A node's loop runs.
    Step { id: NodeId, life: u64 },
    /// A flush is done.
    Flushed { id: NodeId, life: u64 },
    /// A work of a node's disk beside its log is done.
    WrittenAhead { id: NodeId, life: u64 },
    /// A paused node goes on.
    Resume { id: NodeId, life: u64 },
    /// A client's attempt reaches a node.
    Request { client: usize, attempt: u64 },
    /// A client is told what came of an attempt.
    Answer {
        client: usize,
        attempt: u64,
        told: Told,
    },
    /// A client may begin something.
    Think { client: usize },
    /// A client asks again.
    Again { client: usize, attempt: u64 },
    /// A client has waited long enough for this attempt.
    Impatient { client: usize, attempt: u64 },
    /// The planned fault with this number begins.
    Fault { number: usize },
    /// A fault ends.
    FaultEnds(Undo),
    /// A silently cut connection is found to be dead.
    Break { a: NodeId, b: NodeId },
    /// A broken connection is tried again.
    Reconnect { a: NodeId, b: NodeId },
    /// Who watches a run of a node looks whether that has ended.
    Witness { id: NodeId, run: Run, place: String },
    /// A node is told that a run has ended.
    Testimony { to: NodeId, run: Run },
    /// The operator looks whether the members are as wished.
    Operate,
}

/// What a story wants done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing special.
    Pass,
    /// It is lost.
    Lose,
    /// It takes so many microseconds more.
    Delay(Micros),
}

/// A story's hand on the wires: sender, receiver, message.
pub type Filter = Box<dyn FnMut(NodeId, NodeId, &Message) -> Fate>;

/// See the module.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Micros,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    /// The place of each node, by its id; behind them, once a disk was taken, that of the ghost.
    pub(crate) machines: Vec<Machine>,
    pub(crate) ghost: Option<Ghost>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) keys: Vec<String>,
    pub(crate) random: Random,
    pub(crate) client_random: Random,
    pub(crate) witness_random: Random,
    pub(crate) oracle: Oracle,
    pub(crate) history: History,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    pub(crate) filter: Option<Filter>,
    pub(crate) operator: Operator,
    /// Answers to transfers that a story or a fault asked for.
    pub(crate) operator_token: Token,
    /// A log has been damaged in this run.
    pub(crate) damaged: bool,
    /// Calls that began in the calm and were answered: writes and lease reads.
    pub(crate) calm_answers: (u64, u64),
}

#[derive(Debug)]
struct Scheduled {
    at_us: Micros,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

impl World {
    /// All nodes are started at time 0, on empty disks; clients and faults stand in the queue.
    pub fn new(plan: Plan, trace: Trace) -> Self {
        let disks = (0..plan.nodes).map(|_| Disk::default()).collect();
        World::with_disks(plan, trace, disks)
    }

    /// The same on disks that have been written before.
    pub fn with_disks(plan: Plan, trace: Trace, disks: Vec<Disk>) -> Self {
        let clocks = plan
            .clocks
            .iter()
            .map(|(at_zero_us, bends)| Clock::new(*at_zero_us, bends));
        let machines = (1..).zip(clocks).zip(disks);
        let lease_us = plan.lease_us;
        let machines = machines.map(|((id, clock), disk)| Machine {
            names_runs: plan.names_runs >> id & 1 == 1,
            ..Machine::new(id, clock, disk, lease_us)
        });
        let keys: Vec<String> = (0..plan.keys).map(|number| format!("k{number}")).collect();
        let mut world = World {
            machines: machines.collect(),
            ghost: None,
            network: Network::new(plan.network.clone(), plan.nodes, plan.seed),
            clients: Vec::new(),
            random: Random::new(plan.seed, 3),
            client_random: Random::new(plan.seed, 4),
            witness_random: Random::new(plan.seed, 8),
            oracle: Oracle::new(&plan, &keys),
            keys,
            history: History::new(),
            coverage: Coverage::default(),
            trace,
            filter: None,
            operator: Operator::new((1..=plan.voters as NodeId).collect()),
            operator_token: Token::MAX,
            damaged: false,
            calm_answers: (0, 0),
            now: 0,
            queue: BinaryHeap::new(),
            scheduled: 0,
            plan,
        };
        for id in 1..=world.plan.nodes as u64 {
            world.start(id).expect("disks are written by the codec");
        }
        for (number, client) in world.plan.clients.clone().into_iter().enumerate() {
            let believed = 1 + number as u64 % world.plan.nodes as u64;
            world
                .clients
                .push(Client::new(number as u64, Some(client), believed));
            world.schedule(number as u64 * 1_000, Event::Think { client: number });
        }
        for number in 0..world.plan.faults.len() {
            world.schedule(world.plan.faults[number].at_us, Event::Fault { number });
        }
        world
    }

    /// Puts an event into the queue, `after_us` from now.
    pub(crate) fn schedule(&mut self, after_us: Micros, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled {
            at_us: self.now + after_us,
            order: self.scheduled,
            event,
        }));
    }

    /// Lets true time pass until `end_us`.
    pub fn run_to(&mut self, end_us: Micros) -> Checked {
        while self.queue.peek().is_some_and(|next| next.0.at_us <= end_us) {
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            assert!(next.at_us >= self.now, "time went back");
            self.now = next.at_us;
            self.happen(next.event)?;
        }
        self.now = self.now.max(end_us);
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrive {
                from,
                to,
                epoch,
                message,
            } => self.on_arrival(from, to, epoch, message),
            Event::Notice {
                to,
                life,
                peer,
                connected,
            } => self.on_notice(to, life, peer, connected),
            Event::Step { id, life } => return self.on_step(id, life),
            Event::Flushed { id, life } => self.on_flushed(id, life),
            Event::WrittenAhead { id, life } => self.on_written_ahead(id, life),
            Event::Resume { id, life } => return self.on_resume(id, life),
            Event::Request { client, attempt } => self.on_request(client, attempt),
            Event::Answer {
                client,
                attempt,
                told,
            } => self.on_answer(client, attempt, told),
            Event::Think { client } => self.on_think(client),
            Event::Again { client, attempt } => self.on_again(client, attempt),
            Event::Impatient { client, attempt } => self.on_impatient(client, attempt),
            Event::Fault { number } => return self.on_fault(number),
            Event::FaultEnds(undo) => return self.on_fault_ends(undo),
            Event::Break { a, b } => self.on_break(a, b),
            Event::Reconnect { a, b } => self.connect(a, b),
            Event::Witness { id, run, place } => self.on_witness(id, run, &place),
            Event::Testimony { to, run } => self.on_testimony(to, run),
            Event::Operate => self.on_operate(),
        }
        Ok(())
    }

    /// Runs the whole plan: the faults, then the calm in which there must be progress, then the
    /// judgement.
    pub fn run(&mut self) -> Checked {
        self.run_to(self.plan.calm_us)?;
        self.calm()?;
        self.progress()?;
        self.settle_members()?;
        self.converge()?;
        self.judge()
    }

    /// After the faults there is a leader with a lease, and clients are served, within a bounded
    /// time.
    fn progress(&mut self) -> Checked {
        let deadline_us = self.now + self.plan.recovery_us();
        let reads_needed = u64::from(self.plan.clocks_in_bound);
        loop {
            let served = self.calm_answers.0 > 0 && self.calm_answers.1 >= reads_needed;
            if self.lease_holder().is_some() && served {
                return Ok(());
            }
            if self.now >= deadline_us {
                let (writes, reads) = self.calm_answers;
                let detail = format!(
                    "lease holder {:?}, {writes} writes and {reads} reads answered in the calm",
                    self.lease_holder()
                );
                return broken("progress after the faults", detail);
            }
            self.run_to(self.now + 50_000)?;
        }
    }

    /// When the clients are silent all nodes come to hold the same.
    fn converge(&mut self) -> Checked {
        self.clients
            .iter_mut()
            .for_each(|client| client.stopped = true);
        let deadline_us = self.now + self.plan.recovery_us() + 10_000_000;
        loop {
            let committed = self.oracle.committed_index();
            let members = self.committed_members();
            let belong = |machine: &&Machine| members.nodes.contains_key(&machine.id);
            let behind = self
                .machines
                .iter()
                .filter(belong)
                .filter_map(|machine| machine.running.as_ref());
            let raft = |running: &crate::machine::Running| {
                let raft = running.engine.raft();
                (raft.commit_index(), raft.last_index())
            };
            let equal = behind
                .clone()
                .all(|running| raft(running) == (committed, committed));
            let idle = self.clients.iter().all(|client| client.call.is_none());
            if equal && idle {
                return Ok(());
            }
            if self.now >= deadline_us {
                let found: Vec<_> = behind.map(raft).collect();
                let detail = format!("{committed} committed; commit and last index: {found:?}");
                return broken("all nodes come to hold the same", detail);
            }
            self.run_to(self.now + 50_000)?;
        }
    }

    /// Whole logs, and what the clients were told.
    pub fn judge(&mut self) -> Checked {
        self.oracle.check_all(&self.machines)?;
        for number in 0..self.clients.len() {
            self.finish_open_call(number);
        }
        self.collect_counters();
        let budget = Budget::steps(3_000_000);
        match check(&self.history, &budget) {
            Verdict::Linearizable => Ok(()),
            Verdict::Undecided { .. } => {
                self.coverage.count(UNDECIDED, 1);
                Ok(())
            }
            Verdict::NotLinearizable(example) => {
                broken("histories are linearizable", example.to_string())
            }
        }
    }

    /// Who may answer reads from a lease of its own and knows its own commits.
    pub fn lease_holder(&self) -> Option<NodeId> {
        let nodes = &self.machines[..self.plan.nodes];
        let gates = nodes.iter().map(|m| (m.id, m.open_gate(self.now)));
        let open = gates.filter(|(_, gate)| gate.as_ref().is_some_and(|g| g.own_term_applied));
        open.map(|(id, _)| id).next()
    }

    /// Who leads in the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        let running = self.machines[..self.plan.nodes]
            .iter()
            .filter_map(|m| m.running.as_ref().map(|r| (m.id, r)));
        let leaders = running.filter(|(_, r)| r.engine.raft().role() == Role::Leader);
        let highest = leaders.max_by_key(|(_, r)| r.engine.raft().term());
        highest.map(|(id, _)| id)
    }

    pub(crate) fn machine(&mut self, id: NodeId) -> &mut Machine {
        &mut self.machines[id as usize - 1]
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.plan.nodes as u64
    }
}
