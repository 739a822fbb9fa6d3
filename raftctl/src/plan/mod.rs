//! What has to be done so that a cluster is as cluster.yaml says: `(target, facts) -> steps`.
//!
//! Pure: nothing here looks at a host. The same steps are printed by `plan` and run by `up`, and
//! none at all means that the cluster is as it should be.

pub mod arguments;
mod facts;
mod step;

pub use facts::{DISK_FREE_KIB_MIN, Facts};
pub use step::Step;

use std::collections::BTreeMap;

use crate::cluster::{NodeId, list};
use crate::hosts::control::{NodeFacts, ProcessState};
use crate::scripts::StartNode;
use arguments::member_ids;

/// What a cluster is to be.
#[derive(Debug, Clone)]
pub struct Target {
    /// Every node, by rising id.
    pub nodes: Vec<StartNode>,
    /// Those whose addresses are only guessed: they are no reason to change anything.
    pub guessed: Vec<NodeId>,
    /// What builds the binary, where there is none yet. What runs can't be compared with it then.
    pub build: Option<String>,
    /// The release that every host is to have, where binaries are shipped.
    pub release: Option<Release>,
    /// Up to which format of files the binary reads, where that is known.
    pub reads_format: Option<u64>,
}

impl Target {
    /// What a node is to have other arguments for than it runs with.
    fn differences(&self, running: &NodeFacts, wanted: &StartNode) -> Vec<String> {
        arguments::differences(&running.arguments, &wanted.arguments, &self.guessed)
    }

    /// Those of them for which all nodes have to be stopped together.
    fn grave_differences(&self, running: &NodeFacts, wanted: &StartNode) -> Vec<String> {
        let mut differences = self.differences(running, wanted);
        differences.retain(|difference| !arguments::is_mild(difference));
        differences
    }
}

/// A binary as it lies on hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its name; absent where it has not been built yet.
    pub name: Option<String>,
    /// Its size; 0 where it has not been built yet.
    pub bytes: u64,
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
    obstacles.extend(facts.hidden_logs());
    obstacles.extend(newer_format(target, facts));
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
    let state = |node: &StartNode| facts.node(node.layout.id);
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
    let mut text = match &release.name {
        Some(name) => format!(
            "{name}, {} KiB before compression",
            release.bytes.div_ceil(1024)
        ),
        None => "once it is built".into(),
    };
    let unasked = nodes
        .iter()
        .copied()
        .filter(|id| facts.unasked.contains(id));
    let unasked: Vec<NodeId> = unasked.collect();
    if !unasked.is_empty() {
        text.push_str(&format!(
            "; what is on data disks already ({}) can't be seen without a machine",
            list(&unasked)
        ));
    }
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
        let Some(running) = facts.alive(node.layout.id) else {
            continue;
        };
        let differences = target.grave_differences(running, node);
        if differences.is_empty() {
            continue;
        }
        nodes.push(node.layout.id);
        for difference in differences {
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
    let is_new = |id: &NodeId| facts.node(*id).is_some_and(|facts| !facts.has_data);
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

/// Restarts nodes that run another binary, or have arguments in which nodes may differ, one at a time, the
/// leader last, so that the cluster serves all the while. Nodes that are restarted for another reason get
/// both anyway.
fn roll(target: &Target, facts: &Facts, steps: &mut Vec<Step>) {
    let why = |node: &StartNode| {
        let running = facts.alive(node.layout.id)?;
        if !target.grave_differences(running, node).is_empty() {
            return None;
        }
        let runs_other = running.sha256.as_deref() != Some(node.sha256.as_str());
        let binary = (runs_other && target.build.is_none()).then(|| "another binary".to_owned());
        let whys: Vec<String> = binary
            .into_iter()
            .chain(target.differences(running, node))
            .collect();
        (!whys.is_empty()).then(|| (node.layout.id, whys.join(", ")))
    };
    let mut whys: BTreeMap<NodeId, String> = target.nodes.iter().filter_map(why).collect();
    let mut ids: Vec<NodeId> = whys.keys().copied().collect();
    leader_last(&mut ids, facts.leader);
    steps.extend(ids.into_iter().map(|node| Step::Restart {
        node,
        why: whys.remove(&node).unwrap_or_default(),
    }));
}

/// The order in which nodes are restarted one after the other: the leader last, because each of the others
/// would else be a likely next leader, and be moved again.
pub fn leader_last(ids: &mut [NodeId], leader: Option<NodeId>) {
    ids.sort_by_key(|id| (Some(*id) == leader, *id));
}

/// Why nodes can't be started one by one: another cluster than that of cluster.yaml has run here, or
/// runs, or may come back. While some nodes keep one lease and some another, or count other members,
/// nothing that they promise holds.
///
/// # Errors
/// As said.
pub fn refuse_changed(target: &Target, facts: &Facts) -> Result<(), Obstacles> {
    refuse_other_members(target, facts)?;
    if let Some(newer) = newer_format(target, facts) {
        return Err(Obstacles(vec![newer]));
    }
    if let Some(hidden) = facts.hidden_logs() {
        return Err(Obstacles(vec![hidden]));
    }
    let changed = |node: &StartNode| {
        let running = facts.alive(node.layout.id)?;
        let differences = target.grave_differences(running, node);
        (!differences.is_empty()).then(|| (node.layout.id, differences.join(", ")))
    };
    match target.nodes.iter().find_map(changed) {
        None => Ok(()),
        Some((id, differences)) => Err(Obstacles(vec![format!(
            "cluster.yaml has changed since node {id} was started ({differences}): `raftctl up` takes \
             that to all nodes together"
        )])),
    }
}

/// The binary does not read what is on the disks: nodes would not start with it.
fn newer_format(target: &Target, facts: &Facts) -> Option<String> {
    let reads = target.reads_format?;
    let nodes = || facts.hosts.values().flat_map(|host| &host.nodes);
    let newer = nodes().filter(|node| node.format > reads);
    let newer: Vec<NodeId> = newer.map(|node| node.id).collect();
    let format = nodes().map(|node| node.format).max()?;
    (!newer.is_empty()).then(|| {
        format!(
            "the files of {} are of format {format}, and the raft-node of cluster.yaml reads up to \
             {reads}: it would refuse them; there is no way back to it, so name a newer one \
             (`binary: PATH`)",
            list(&newer)
        )
    })
}

/// Refuses to give a cluster other members than it was made of.
///
/// # Errors
/// As said.
pub fn refuse_other_members(target: &Target, facts: &Facts) -> Result<(), Obstacles> {
    match other_members(target, facts) {
        None => Ok(()),
        Some(other) => Err(Obstacles(vec![other])),
    }
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

#[cfg(test)]
mod tests;
