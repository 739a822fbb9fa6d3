//! A cluster in one thread: each message takes a millisecond, each flush too, clocks agree.

use crate::tell::{tell_event, tell_message};
use raft_node::command::{FORMAT_FIRST, FORMAT_NEWEST, Operation};
use raft_node::engine::{
    Consistency, DiskWork, Effects, Engine, Input, LeaseRead, Query, Request, Token,
};
use raft_node::raft::{
    AppendOutcome, Config, Contradiction, Entry, Event, Formats, Index, LogState, Message, Micros,
    NodeId, Role,
};
use raft_node::wal::{DamageMark, Files, decode_promises, encode_promises, recover};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

const MS: Micros = 1_000;
const CLOCK: &str = "the-one-clock";

/// See the module.
pub struct Cluster {
    now: Micros,
    seed: u64,
    raise_format_from: Index,
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
    damaged: Option<Vec<u8>>,
    mark: Option<Vec<u8>>,
    /// A copy of logs, metadata and mark.
    copy: Option<[Vec<u8>; 3]>,
    /// What was agreed on when a leader was refused.
    refused: Option<u64>,
    accepts: bool,
    /// The newest format that the version installed here reads.
    reads_format: u64,
}

impl Cluster {
    /// `old`: a node on which a version is installed that reads the first format alone.
    pub fn new(count: u64, seed: u64, raise_format_from: Index, old: Option<NodeId>) -> Self {
        let node = || Node {
            engine: None,
            inbox: Vec::new(),
            waiting_works: Vec::new(),
            disk_stalled: false,
            logs: Vec::new(),
            metadata: None,
            promises: None,
            damaged: None,
            mark: None,
            copy: None,
            refused: None,
            accepts: false,
            reads_format: FORMAT_NEWEST,
        };
        let mut cluster = Cluster {
            now: MS,
            seed,
            raise_format_from,
            nodes: (1..=count).map(|id| (id, node())).collect(),
            messages: Vec::new(),
            cut: BTreeSet::new(),
            next_token: 1,
            output: String::new(),
            log_everything: false,
        };
        if let Some(id) = old {
            cluster.node(id).reads_format = FORMAT_FIRST;
        }
        for id in 1..=count {
            cluster.start(id).expect("empty files can be recovered");
        }
        cluster
    }

    /// Starts the node as the only voter, on the files of a node of three.
    pub fn start_alone(&mut self, id: NodeId) -> Result<(), Box<dyn Error>> {
        self.nodes.retain(|other, _| *other == id);
        self.start(id)
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
            formats: Formats {
                reads: self.nodes[&id].reads_format,
                raise_from: self.raise_format_from,
                ..Formats::default()
            },
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
            damaged: node.damaged.as_deref(),
            mark: node.mark.as_deref(),
        })?;
        node.logs.truncate(recovery.log_bytes as usize);
        match &recovery.damage_mark {
            DamageMark::Keep => {}
            DamageMark::Write(mark) => node.damaged = Some(mark.clone()),
            DamageMark::Remove => node.damaged = None,
        }
        let found = recovery.damage.take();
        if std::mem::take(&mut node.accepts) {
            let metadata = recovery.accept(node.refused.take());
            node.metadata = Some(metadata.encode());
            (node.damaged, node.mark) = (None, None);
        }
        let kept = node.promises.take();
        // No node here has ever had another lease.
        recovery.recovered.former_lease_us = config.lease_us;
        // All run on one machine, whose kernel knows that they are dead.
        recovery.recovered.all_ended = true;
        recovery.recovered.kept_promises = kept.and_then(|text| decode_promises(CLOCK, &text));
        node.inbox.clear();
        node.engine = Some(Engine::new(config, recovery.recovered, recovery.log, now));
        self.connect(id);
        if let Some(damage) = found {
            self.say(&format!("n{id} finds {damage:?}"));
        }
        Ok(())
    }

    /// Keeps a copy of a node's files.
    pub fn copy(&mut self, id: NodeId) {
        let node = self.node(id);
        let files = [&node.metadata, &node.mark].map(|file| file.clone().unwrap_or_default());
        let [metadata, mark] = files;
        node.copy = Some([node.logs.clone(), metadata, mark]);
    }

    /// Puts the copy back.
    pub fn restore(&mut self, id: NodeId) -> Result<(), Box<dyn Error>> {
        let node = self.node(id);
        let [logs, metadata, mark] = node.copy.take().ok_or("there is no copy")?;
        (node.logs, node.metadata, node.mark) = (logs, Some(metadata), Some(mark));
        Ok(())
    }

    /// Changes the first byte of a line.
    pub fn damage(&mut self, id: NodeId, line: usize) {
        let logs = &mut self.node(id).logs;
        let ends = logs.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let starts: Vec<usize> = ends.map(|(at, _)| at + 1).collect();
        let at = line.checked_sub(2).map_or(0, |before| starts[before]);
        logs[at] ^= 1;
    }

    /// At its next start the node gives up what damage cost, or what it refused to give up.
    pub fn accept_damage(&mut self, id: NodeId) {
        self.node(id).accepts = true;
    }

    /// Another version is installed, from the next start on.
    pub fn install(&mut self, id: NodeId, reads_format: u64) {
        self.node(id).reads_format = reads_format;
    }

    fn connect(&mut self, id: NodeId) {
        let up: Vec<NodeId> = self.up().filter(|other| *other != id).collect();
        for other in up {
            self.push_connected(other, id);
            self.push_connected(id, other);
        }
    }

    fn push_connected(&mut self, at: NodeId, peer: NodeId) {
        let reads_format = self.node(peer).reads_format;
        self.push(at, Input::Connected { peer, reads_format });
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
        self.push_connected(at, peer);
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
            let contradiction = effects.contradiction;
            self.carry_out(id, effects);
            if let Some(contradiction) = contradiction {
                self.say(&format!("n{id} ends: {contradiction}"));
                if let Contradiction::LeaderLacksCommitted { keep, .. } = contradiction {
                    self.node(id).refused = Some(keep);
                }
                self.crash(id);
            }
        }
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) {
        for event in &effects.events {
            if self.log_everything || !is_routine(event) {
                self.say(&format!("n{id} {}", tell_event(event)));
            }
        }
        self.node(id).waiting_works.extend(effects.disk);
        for (to, message) in effects.messages {
            if self.log_everything || !is_heartbeat(&message) {
                self.say(&format!("n{id} -> n{to} {}", tell_message(&message)));
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
            let log = match status.log {
                LogState::Whole => String::new(),
                other => format!(" {other:?}"),
            };
            let lost = status.peers.iter().filter(|peer| peer.lost_until > 0);
            let lost = lost.map(|peer| format!(" n{} lost until {}", peer.id, peer.lost_until));
            let lost: String = lost.collect();
            lines.push(format!(
                "n{id} {:?} term={} last={} commit={}{lease}{log}{lost}",
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
        self.metadata = work.metadata_before.or(self.metadata.take());
        if let Some(length) = work.truncate_to {
            self.logs.truncate(length as usize);
        }
        self.logs.extend(work.append);
        self.mark = work.mark.or(self.mark.take());
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
