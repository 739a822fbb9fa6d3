//! A cluster in one thread: each message takes a millisecond, each flush too, clocks agree.

use raft_node::command::{Command, Operation};
use raft_node::engine::{
    Consistency, DiskWork, Effects, Engine, Input, LeaseRead, Query, Request, Token,
};
use raft_node::raft::{AppendOutcome, Config, Entry, Event, Message, Micros, NodeId, Role};
use raft_node::wal::{Files, decode_promises, encode_promises, recover};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

const MS: Micros = 1_000;
const CLOCK: &str = "the-one-clock";

/// See the module.
pub struct Cluster {
    now: Micros,
    seed: u64,
    nodes: BTreeMap<NodeId, Node>,
    /// Under way: deliverable from the next millisecond on.
    messages: Vec<(NodeId, NodeId, Message)>,
    cut: BTreeSet<(NodeId, NodeId)>,
    next_token: Token,
    output: String,
    pub log_everything: bool,
}

struct Node {
    engine: Option<Engine>,
    inbox: Vec<Input>,
    waiting_works: Vec<DiskWork>,
    disk_stalled: bool,
    logs: Vec<u8>,
    metadata: Option<Vec<u8>>,
    promises: Option<Vec<u8>>,
}

impl Cluster {
    pub fn new(count: u64, seed: u64) -> Self {
        let node = || Node {
            engine: None,
            inbox: Vec::new(),
            waiting_works: Vec::new(),
            disk_stalled: false,
            logs: Vec::new(),
            metadata: None,
            promises: None,
        };
        let mut cluster = Cluster {
            now: MS,
            seed,
            nodes: (1..=count).map(|id| (id, node())).collect(),
            messages: Vec::new(),
            cut: BTreeSet::new(),
            next_token: 1,
            output: String::new(),
            log_everything: false,
        };
        for id in 1..=count {
            cluster.start(id).expect("empty files can be recovered");
        }
        cluster
    }

    fn config(&self, id: NodeId) -> Config {
        Config {
            id,
            voters: self.nodes.keys().copied().collect(),
            lease_us: 2_000 * MS,
            max_clock_drift_ppm: 5_000,
            election_timeout_us: 1_000 * MS..=2_000 * MS,
            heartbeat_us: 100 * MS,
            inherited_reads: true,
            seed: self.seed * 1_000 + id,
            mutation: None,
        }
    }

    pub fn start(&mut self, id: NodeId) -> Result<(), Box<dyn Error>> {
        let (config, now) = (self.config(id), self.now);
        let node = self.nodes.get_mut(&id).ok_or("no such node")?;
        let mut recovery = recover(Files {
            logs: (!node.logs.is_empty()).then_some(&node.logs),
            metadata: node.metadata.as_deref(),
            damaged: None,
        })?;
        node.logs.truncate(recovery.log_bytes as usize);
        let kept = node.promises.take();
        // No node here has ever had another lease.
        recovery.recovered.former_lease_us = config.lease_us;
        recovery.recovered.kept_promises = kept.and_then(|text| decode_promises(CLOCK, &text));
        node.inbox.clear();
        node.engine = Some(Engine::new(config, recovery.recovered, recovery.log, now));
        self.connect(id);
        Ok(())
    }

    fn connect(&mut self, id: NodeId) {
        let up: Vec<NodeId> = self.up().filter(|other| *other != id).collect();
        for other in up {
            self.push(other, Input::Connected { peer: id });
            self.push(id, Input::Connected { peer: other });
        }
    }

    /// In good order: what was promised is written down.
    pub fn stop(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.node(id);
        let promises = node
            .engine
            .as_ref()
            .map(|engine| engine.raft().promises(now));
        self.crash(id);
        self.node(id).promises = promises.map(|promises| encode_promises(CLOCK, &promises));
    }

    pub fn crash(&mut self, id: NodeId) {
        let node = self.node(id);
        node.engine = None;
        node.inbox.clear();
        node.waiting_works.clear();
        self.messages.retain(|(_, to, _)| *to != id);
        let others: Vec<NodeId> = self.up().collect();
        for other in others {
            self.push(other, Input::Disconnected { peer: id });
        }
    }

    /// Cuts both directions, silently.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// The connection breaks and comes up again at once.
    pub fn break_link(&mut self, at: NodeId, peer: NodeId) {
        self.push(at, Input::Disconnected { peer });
        self.push(at, Input::Connected { peer });
        self.step_due();
    }

    pub fn stall_disk(&mut self, id: NodeId, stalled: bool) {
        self.node(id).disk_stalled = stalled;
    }

    pub fn set(&mut self, id: NodeId, key: &str, value: &str) {
        let operation = Operation::Set {
            key: key.into(),
            value: value.into(),
        };
        self.request(
            id,
            Request::Write {
                request: None,
                operation,
            },
        );
    }

    pub fn quorum_get(&mut self, id: NodeId, key: &str) {
        self.request(
            id,
            Request::Read {
                query: Query::Get { key: key.into() },
                consistency: Consistency::Quorum,
            },
        );
    }

    pub fn transfer(&mut self, id: NodeId, target: NodeId) {
        self.request(
            id,
            Request::Transfer {
                target: Some(target),
            },
        );
    }

    pub fn lease_get(&mut self, id: NodeId, key: &str) {
        let now = self.now;
        let Some(engine) = &self.node(id).engine else {
            return self.say(&format!("n{id} is down"));
        };
        let query = Query::Get { key: key.into() };
        let read = engine.view().lease_read(&query, || now);
        self.say(&format!("n{id} reads {key}: {read:?}"));
        if read == LeaseRead::Wait {
            self.request(
                id,
                Request::Read {
                    query,
                    consistency: Consistency::Lease,
                },
            );
        }
    }

    fn request(&mut self, id: NodeId, request: Request) {
        let token = self.next_token;
        self.next_token += 1;
        self.say(&format!("client -> n{id} #{token}"));
        self.push(id, Input::Request { token, request });
        self.step_due();
    }

    /// Lets time pass, from event to event.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        self.step_due();
        while self.now < end {
            let busy = !self.messages.is_empty() || self.disks_work();
            let wakes = self.nodes.values().filter_map(|node| node.engine.as_ref());
            let wake_at = wakes.map(Engine::wake_at).min().unwrap_or(end);
            let next = match busy {
                true => self.now + MS,
                // Whole milliseconds, so that a script shows round times.
                false => wake_at.max(self.now + 1).next_multiple_of(MS),
            };
            if next > end {
                self.now = end;
                break;
            }
            self.now = next;
            self.deliver();
            self.step_due();
        }
    }

    fn disks_work(&self) -> bool {
        let mut nodes = self.nodes.values();
        nodes.any(|node| !node.disk_stalled && !node.waiting_works.is_empty())
    }

    fn deliver(&mut self) {
        for (from, to, message) in std::mem::take(&mut self.messages) {
            if self.cut.contains(&(from, to)) || self.node(to).engine.is_none() {
                continue;
            }
            self.push(to, Input::Received { from, message });
        }
        for node in self.nodes.values_mut().filter(|node| !node.disk_stalled) {
            let works = std::mem::take(&mut node.waiting_works);
            for work in works {
                let ticket = work.ticket;
                node.write(work);
                node.inbox.push(Input::Durable { ticket });
            }
        }
    }

    fn step_due(&mut self) {
        let now = self.now;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let node = self.node(id);
            let Some(engine) = &mut node.engine else {
                continue;
            };
            if node.inbox.is_empty() && engine.wake_at() > now {
                continue;
            }
            let effects = engine.step(now, std::mem::take(&mut node.inbox));
            self.carry_out(id, effects);
        }
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) {
        for event in &effects.events {
            if self.log_everything || !is_routine(event) {
                self.say(&format!("n{id} {event:?}"));
            }
        }
        self.node(id).waiting_works.extend(effects.disk);
        for (to, message) in effects.messages {
            if self.log_everything || !is_heartbeat(&message) {
                self.say(&format!("n{id} -> n{to} {}", tell(&message)));
            }
            self.messages.push((id, to, message));
        }
        for (token, reply) in effects.replies {
            self.say(&format!("n{id} -> client #{token} {reply:?}"));
        }
    }

    pub fn show_log(&mut self, id: NodeId) {
        let text = String::from_utf8(self.node(id).logs.clone()).expect("the log is text");
        self.output.push_str(&text);
    }

    pub fn show_status(&mut self) {
        let mut lines = Vec::new();
        for (id, node) in &self.nodes {
            let Some(engine) = &node.engine else {
                lines.push(format!("n{id} down"));
                continue;
            };
            let status = engine.status();
            let lease_ms = status.lease.lease_until_us.saturating_sub(self.now) / MS;
            let lease = match status.lease.role {
                Role::Leader => format!(" lease={lease_ms}ms"),
                Role::Follower | Role::Candidate => String::new(),
            };
            lines.push(format!(
                "n{id} {:?} term={} last={} commit={}{lease}",
                status.lease.role, status.lease.term, status.last_index, status.commit_index
            ));
        }
        self.output.push_str(&lines.join("\n"));
    }

    /// Committed entries are the same everywhere.
    pub fn check_logs_agree(&self) -> Result<(), Box<dyn Error>> {
        let mut agreed: BTreeMap<u64, &Entry> = BTreeMap::new();
        for engine in self.nodes.values().filter_map(|node| node.engine.as_ref()) {
            let raft = engine.raft();
            for entry in raft.entries(0, raft.commit_index()) {
                let first = agreed.entry(entry.index).or_insert(entry);
                if *first != entry {
                    return Err(format!("two committed entries: {first:?} {entry:?}").into());
                }
            }
        }
        Ok(())
    }

    pub fn take_output(&mut self) -> String {
        std::mem::take(&mut self.output)
    }

    fn up(&self) -> impl Iterator<Item = NodeId> {
        let up = self.nodes.iter().filter(|(_, node)| node.engine.is_some());
        up.map(|(id, _)| *id)
    }

    fn push(&mut self, id: NodeId, input: Input) {
        self.node(id).inbox.push(input);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .expect("scripts name nodes that exist")
    }

    fn say(&mut self, line: &str) {
        let text = format!("{:>6} {line}\n", format!("{}ms", self.now / MS));
        self.output.push_str(&text);
    }
}

impl Node {
    fn write(&mut self, work: DiskWork) {
        if let Some(length) = work.truncate_to {
            self.logs.truncate(length as usize);
        }
        self.logs.extend(work.append);
        if work.metadata.is_some() {
            self.metadata = work.metadata;
        }
    }
}

fn is_routine(event: &Event) -> bool {
    matches!(
        event,
        Event::HeartbeatSent { .. } | Event::AppendAccepted { .. } | Event::Committed { .. }
    )
}

fn is_heartbeat(message: &Message) -> bool {
    match message {
        Message::Append { entries, .. } => entries.is_empty(),
        Message::AppendReply { outcome, .. } => matches!(outcome, AppendOutcome::Accepted { .. }),
        _ => false,
    }
}

fn tell(message: &Message) -> String {
    match message {
        Message::Append {
            term,
            base_index,
            base_term,
            entries,
            commit_index,
            sequence,
            ..
        } => {
            let entries: Vec<String> = entries.iter().map(tell_entry).collect();
            format!(
                "Append term={term} base={base_index}@{base_term} [{}] commit={commit_index} \
                 sequence={sequence}",
                entries.join(", ")
            )
        }
        other => format!("{other:?}"),
    }
}

fn tell_entry(entry: &Entry) -> String {
    let what = match &*entry.command {
        Command::NoOp => "NO-OP".to_string(),
        Command::Write(write) => match &write.operation {
            Operation::Set { key, value } => format!("SET {key} {value}"),
            Operation::Delete { key } => format!("DEL {key}"),
            Operation::CompareAndSet { key, value, .. } => format!("CAS {key} {value}"),
        },
    };
    format!("{}@{} {what}", entry.index, entry.term)
}
