//! What has to be done so that a cluster is as cluster.yaml says: `(target, facts) -> steps`.
//!
//! Pure: nothing here looks at a host. The same steps are printed by `plan` and run by `up`, and
//! none at all means that the cluster is as it should be.

use std::collections::BTreeMap;
use std::fmt;

use crate::arguments::{self, member_ids};
use crate::cluster::NodeId;
use crate::error::Error;
use crate::hosts::control::{HostFacts, NodeFacts, ProcessState, TakenPort};
use crate::hosts::scripts::StartNode;
use crate::ops::wait::list;

/// Less space than this, and a node is not started: it would stop at its first writes.
pub const DISK_FREE_KIB_MIN: u64 = 16 << 10;

/// What a cluster is to be.
#[derive(Debug, Clone)]
pub struct Target {
    /// Every node, by rising id.
    pub nodes: Vec<StartNode>,
    /// What builds the binary, where there is none yet. What runs can't be compared with it then.
    pub build: Option<String>,
    /// The release that every host is to have, where binaries are shipped.
    pub release: Option<Release>,
}

/// A binary as it lies on hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its name; absent where it has not been built yet.
    pub name: Option<String>,
    /// Its size; 0 where it has not been built yet.
    pub bytes: u64,
}

/// What a cluster is.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What the host of each node says; a node is missing where its host does not answer.
    pub hosts: BTreeMap<NodeId, HostFacts>,
    /// What the operator calls the host of each node, for messages.
    pub names: BTreeMap<NodeId, String>,
    /// The node that leads.
    pub leader: Option<NodeId>,
    /// The nodes that are left behind, where the others make a majority, each with the reason: the
    /// host does not answer, or a person must clear something there first.
    pub left_behind: BTreeMap<NodeId, Error>,
}

impl Facts {
    /// Leaves the nodes behind that something stands in the way of, if `majority` others remain.
    pub fn leave_obstructed(&mut self, majority: usize) {
        let obstructed: Vec<(NodeId, String)> = self
            .hosts
            .iter()
            .filter_map(|(id, host)| Some((*id, self.obstacles(*id, host)?)))
            .collect();
        if obstructed.is_empty() || self.hosts.len() - obstructed.len() < majority {
            return; // All of it is told when the plan is made.
        }
        for (id, text) in obstructed {
            self.hosts.remove(&id);
            self.left_behind.insert(id, Error::Usage(text));
        }
    }

    /// Lets nodes begin with nothing whose logs are gone.
    pub fn accept_lost_data(&mut self) {
        let nodes = self.hosts.values_mut().flat_map(|host| &mut host.nodes);
        nodes.for_each(|node| node.lost_data = false);
    }

    /// What a person must clear before a node can be started on its host.
    fn obstacles(&self, id: NodeId, host: &HostFacts) -> Option<String> {
        let node = host.nodes.iter().find(|node| node.id == id)?;
        if node.state != ProcessState::Stopped {
            return None;
        }
        let at = self
            .names
            .get(&id)
            .map_or(String::new(), |name| format!("{name}: "));
        let port = |taken: &TakenPort| {
            let port = taken.port;
            format!(
                "{at}port {port} of node {id} is in use by {}; end that (see it with `raftctl exec \
                 {id} -- ss -ltnp sport = :{port}`), or move `ports` in cluster.yaml",
                taken.owner
            )
        };
        let mut obstacles: Vec<String> = node.taken_ports.iter().map(port).collect();
        if node.lost_data {
            obstacles.push(format!(
                "{at}the log of node {id} is gone; started with nothing it could vote against what \
                 it voted for before, and acknowledged entries could be lost: put logs_node_{id} \
                 back, or accept that with `raftctl up --allow-data-loss`"
            ));
        }
        let free_kib = host.disk_free_kib;
        if free_kib < DISK_FREE_KIB_MIN {
            obstacles.push(format!(
                "{at}node {id} has {free_kib} KiB of disk space left, and needs \
                 {DISK_FREE_KIB_MIN} to start; free some (`raftctl exec {id} -- df -h`)"
            ));
        }
        (!obstacles.is_empty()).then(|| obstacles.join("\n"))
    }
}

/// One step of a plan. Steps are taken one after the other; within a step all hosts work at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Build the binary.
    Build {
        /// The command.
        command: String,
    },
    /// Send the binary to the hosts of nodes, and make it the current one there.
    Ship {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// What is sent.
        release: String,
    },
    /// Let paused nodes go on.
    Resume {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Stop nodes in order.
    Stop {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// Why they can't go on as they are.
        why: String,
    },
    /// Start nodes.
    Start {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// Why they do not run.
        why: String,
    },
    /// Stop one node in order, start it, and wait until it is back.
    Restart {
        /// The node.
        node: NodeId,
        /// Why it can't go on as it is.
        why: String,
    },
    /// Wait until nodes answer and the cluster has a leader with a lease.
    WaitForLeader {
        /// The nodes that have to answer.
        nodes: Vec<NodeId>,
    },
}

impl Step {
    /// The word for it, the same in text and JSON.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Step::Build { .. } => "build",
            Step::Ship { .. } => "ship",
            Step::Resume { .. } => "resume",
            Step::Stop { .. } => "stop",
            Step::Start { .. } => "start",
            Step::Restart { .. } => "restart",
            Step::WaitForLeader { .. } => "wait",
        }
    }

    /// What is told of a node while it is taken, and afterwards.
    #[must_use]
    pub fn phases(&self) -> (&'static str, &'static str) {
        match self {
            Step::Build { .. } => ("", ""),
            Step::Ship { .. } => ("waiting for its upload", "shipped"),
            Step::Resume { .. } => ("resuming", "resumed"),
            Step::Stop { .. } => ("stopping", "stopped"),
            Step::Start { .. } => ("starting", "started"),
            Step::Restart { .. } => ("restarting", "restarted"),
            Step::WaitForLeader { .. } => ("waiting for a leader", "up"),
        }
    }

    /// The nodes it concerns.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        match self {
            Step::Build { .. } => &[],
            Step::Restart { node, .. } => std::slice::from_ref(node),
            Step::Resume { nodes }
            | Step::Ship { nodes, .. }
            | Step::Stop { nodes, .. }
            | Step::Start { nodes, .. }
            | Step::WaitForLeader { nodes } => nodes,
        }
    }

    /// The same step without some of its nodes; nothing where none is left.
    #[must_use]
    pub fn without(mut self, is_left_out: impl Fn(&NodeId) -> bool) -> Option<Self> {
        let is_empty = match &mut self {
            Step::Build { .. } => false,
            Step::Restart { node, .. } => is_left_out(node),
            Step::Resume { nodes }
            | Step::Ship { nodes, .. }
            | Step::Stop { nodes, .. }
            | Step::Start { nodes, .. }
            | Step::WaitForLeader { nodes } => {
                nodes.retain(|id| !is_left_out(id));
                nodes.is_empty()
            }
        };
        (!is_empty).then_some(self)
    }

    /// Why it has to be; may be empty.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Step::Build { command } => command,
            Step::Ship { release, .. } => release,
            Step::Stop { why, .. } | Step::Start { why, .. } | Step::Restart { why, .. } => why,
            Step::Resume { .. } => "paused",
            Step::WaitForLeader { .. } => "",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Build { command } => write!(formatter, "build raft-node: {command}"),
            Step::Ship { nodes, release } => {
                write!(formatter, "ship raft-node to {} ({release})", list(nodes))
            }
            Step::WaitForLeader { nodes } => {
                write!(
                    formatter,
                    "wait for a leader with a lease, and for {}",
                    list(nodes)
                )
            }
            other => write!(
                formatter,
                "{} {} ({})",
                other.action(),
                list(other.nodes()),
                other.why()
            ),
        }
    }
}

/// Why there can be no plan. Nothing has been changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Obstacles(pub Vec<String>);

/// The steps from the facts to the target.
///
/// # Errors
/// Everything that stands in the way, and must be cleared by a person first.
pub fn plan(target: &Target, facts: &Facts) -> Result<Vec<Step>, Obstacles> {
    let hosts = facts.hosts.iter();
    let mut obstacles: Vec<String> = hosts
        .filter_map(|(id, host)| facts.obstacles(*id, host))
        .collect();
    obstacles.extend(other_members(target, facts));
    if !obstacles.is_empty() {
        return Err(Obstacles(obstacles));
    }
    let mut steps = Vec::new();
    if let Some(command) = &target.build {
        steps.push(Step::Build {
            command: command.clone(),
        });
    }
    steps.extend(ship(target, facts));
    let state = |node: &StartNode| node_facts(facts, node.layout.id);
    let ids = |wanted: ProcessState| -> Vec<NodeId> {
        let fits = |node: &&StartNode| state(node).is_some_and(|facts| facts.state == wanted);
        target
            .nodes
            .iter()
            .filter(fits)
            .map(|node| node.layout.id)
            .collect()
    };
    let paused = ids(ProcessState::Paused);
    if !paused.is_empty() {
        steps.push(Step::Resume { nodes: paused });
    }
    changes(target, facts, &mut steps);
    start(target, ids(ProcessState::Stopped), facts, &mut steps);
    roll(target, facts, &mut steps);
    if !steps.is_empty() || facts.leader.is_none() {
        steps.push(Step::WaitForLeader {
            nodes: facts.hosts.keys().copied().collect(),
        });
    }
    Ok(steps)
}

/// Sends the binary where the current one is another.
fn ship(target: &Target, facts: &Facts) -> Option<Step> {
    let release = target.release.as_ref()?;
    let has_other = |id: &NodeId| {
        let host = facts.hosts.get(id);
        host.is_some_and(|host| release.name.is_none() || host.setting.release != release.name)
    };
    let ids = target.nodes.iter().map(|node| node.layout.id);
    let nodes: Vec<NodeId> = ids.filter(has_other).collect();
    let text = match &release.name {
        Some(name) => format!(
            "{name}, {} KiB before compression",
            release.bytes.div_ceil(1024)
        ),
        None => "once it is built".into(),
    };
    (!nodes.is_empty()).then_some(Step::Ship {
        nodes,
        release: text,
    })
}

/// Stops and starts the nodes whose arguments changed, all of them together: while some nodes
/// keep one lease and some another, no lease can be trusted.
fn changes(target: &Target, facts: &Facts, steps: &mut Vec<Step>) {
    let mut nodes = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    for node in &target.nodes {
        let Some(running) = alive(facts, node.layout.id) else {
            continue;
        };
        if running.arguments == node.arguments {
            continue;
        }
        nodes.push(node.layout.id);
        for difference in arguments::differences(&running.arguments, &node.arguments) {
            if !reasons.contains(&difference) {
                reasons.push(difference);
            }
        }
    }
    if nodes.is_empty() {
        return;
    }
    steps.push(Step::Stop {
        nodes: nodes.clone(),
        why: reasons.join(", "),
    });
    steps.push(Step::Start {
        nodes,
        why: "with the new arguments".into(),
    });
}

fn start(target: &Target, stopped: Vec<NodeId>, facts: &Facts, steps: &mut Vec<Step>) {
    if stopped.is_empty() {
        return;
    }
    let is_new = |id: &NodeId| node_facts(facts, *id).is_some_and(|facts| !facts.has_data);
    let why = match stopped.iter().filter(|id| is_new(id)).count() {
        0 => "not running",
        count if count == target.nodes.len() => "new cluster",
        count if count == stopped.len() => "new, never ran",
        _ => "not running, some never ran",
    };
    steps.push(Step::Start {
        nodes: stopped,
        why: why.into(),
    });
}

/// Replaces the binary under the nodes one at a time, the leader last, so that the cluster serves
/// all the while. Nodes that are restarted for another reason get the new binary anyway.
fn roll(target: &Target, facts: &Facts, steps: &mut Vec<Step>) {
    if target.build.is_some() {
        return;
    }
    let is_old = |node: &&StartNode| {
        alive(facts, node.layout.id).is_some_and(|running| {
            running.arguments == node.arguments
                && running.sha256.as_deref() != Some(node.sha256.as_str())
        })
    };
    let mut old: Vec<NodeId> = target
        .nodes
        .iter()
        .filter(is_old)
        .map(|n| n.layout.id)
        .collect();
    old.sort_by_key(|id| (Some(*id) == facts.leader, *id));
    steps.extend(old.into_iter().map(|node| Step::Restart {
        node,
        why: "another binary".into(),
    }));
}

/// A cluster that has data can't be given other members by starting its nodes with them: a
/// majority of the new ones need not hold what a majority of the old ones had acknowledged.
fn other_members(target: &Target, facts: &Facts) -> Option<String> {
    let wanted: Vec<NodeId> = target.nodes.iter().map(|node| node.layout.id).collect();
    let nodes = facts.hosts.values().flat_map(|host| &host.nodes);
    let mut used = nodes
        .filter(|node| node.has_data)
        .map(|node| member_ids(&node.arguments));
    let other = used.find(|ids| !ids.is_empty() && *ids != wanted)?;
    Some(format!(
        "the cluster was made of {}, and cluster.yaml has {}; entries that were acknowledged could \
         be lost: write the nodes as they were, or give the new cluster another name",
        list(&other),
        list(&wanted)
    ))
}

fn node_facts(facts: &Facts, id: NodeId) -> Option<&NodeFacts> {
    facts
        .hosts
        .get(&id)?
        .nodes
        .iter()
        .find(|node| node.id == id)
}

fn alive(facts: &Facts, id: NodeId) -> Option<&NodeFacts> {
    node_facts(facts, id).filter(|node| node.state != ProcessState::Stopped)
}

#[cfg(test)]
mod tests;
