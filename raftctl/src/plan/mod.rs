//! What has to be done so that a cluster is as cluster.yaml says: `(target, facts) -> steps`.
//!
//! Pure: nothing here looks at a host. The same steps are printed by `plan` and run by `up`, and
//! none at all means that the cluster is as it should be.

pub mod arguments;
pub mod change;
mod facts;
pub mod membership;
mod step;

pub use facts::{DISK_FREE_KIB_MIN, Facts};
pub use step::Step;

use std::collections::BTreeMap;

use crate::cluster::{NodeId, list};
use crate::hosts::control::{NodeFacts, ProcessState};
use crate::scripts::StartNode;
use arguments::Founders;

/// What a cluster is to be.
#[derive(Debug, Clone)]
pub struct Target {
    /// Every node, by rising id.
    pub nodes: Vec<StartNode>,
    /// Where other nodes and clients reach each.
    pub addresses: BTreeMap<NodeId, (String, String)>,
    /// With which nodes the cluster began.
    pub founders: Founders,
    /// The newest format that the cluster may go over to; `None`: any.
    pub format_max: Option<u64>,
    /// Those whose addresses are only guessed: they are no reason to change anything.
    pub guessed: Vec<NodeId>,
    /// What builds the binary, where there is none yet. What runs can't be compared with it then.
    pub build: Option<String>,
    /// The release that every host is to have, where binaries are shipped.
    pub release: Option<Release>,
    /// Up to which format of files the binary reads, where that is known.
    pub reads_format: Option<u64>,
    /// What is to be done about certificates.
    pub certificates: Certificates,
}

/// What nodes are to be given so that they can speak TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Where an authority is to be made first; `None`: there is one, or none is needed.
    pub makes_authority: Option<String>,
    /// The nodes that are to be given something, each with the reason.
    pub due: BTreeMap<NodeId, String>,
}

impl Target {
    /// What a node is to have other arguments for than it runs with.
    fn differences(&self, running: &NodeFacts, wanted: &StartNode) -> Vec<String> {
        arguments::differences(&running.arguments, &wanted.arguments, &self.guessed)
    }

    /// Those of them for which all nodes have to be stopped together.
    fn grave_differences(&self, running: &NodeFacts, wanted: &StartNode) -> Vec<String> {
        let mut differences = self.differences(running, wanted);
        differences.retain(|difference| {
            let is_step =
                arguments::is_step_of_tls(difference, &running.arguments, &wanted.arguments);
            !is_step && !arguments::is_mild(difference)
        });
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
    obstacles.extend(facts.hidden_logs());
    obstacles.extend(newer_format(target, facts));
    let change = change::steps(target, facts).unwrap_or_else(|others| {
        obstacles.extend(others);
        Vec::new()
    });
    if !obstacles.is_empty() {
        return Err(Obstacles(obstacles));
    }
    let joining = change::joining(target, facts);
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
    let at = steps.len();
    changes(target, facts, &mut steps);
    let mut stopped = ids(ProcessState::Stopped);
    let late = facts.await_others(target.nodes.len() / 2 + 1);
    stopped.retain(|id| !joining.contains(id) && !late.contains(id));
    start(target, stopped, facts, &mut steps);
    start_former(facts, &mut steps);
    roll(target, facts, &mut steps);
    let all: Vec<NodeId> = facts.hosts.keys().copied().collect();
    if !steps.is_empty() || facts.leader.is_none() {
        let is_in = |id: &NodeId| !joining.contains(id) && !late.contains(id);
        let nodes = all.iter().copied().filter(is_in).collect();
        steps.push(Step::WaitForLeader { nodes });
    }
    // Before anybody is started with them; and nobody has to be waited for because of them.
    steps.splice(at..at, certify(target, facts));
    if !change.is_empty() {
        steps.extend(change);
        steps.push(Step::WaitForLeader { nodes: all });
    }
    Ok(steps)
}

/// Gives nodes their certificates.
fn certify(target: &Target, facts: &Facts) -> Vec<Step> {
    let due = &target.certificates.due;
    let due = due.iter().filter(|(id, _)| facts.hosts.contains_key(id));
    let mut by_reason: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for (id, why) in due {
        by_reason.entry(why).or_default().push(*id);
    }
    let made = target.certificates.makes_authority.clone();
    let made = made.filter(|_| !by_reason.is_empty());
    let certify = by_reason.into_iter().map(|(why, nodes)| Step::Certify {
        nodes,
        why: why.to_owned(),
    });
    let made = made.map(|path| Step::MakeAuthority { path });
    made.into_iter().chain(certify).collect()
}

/// Starts nodes that cluster.yaml does not name any more, where nobody leads: they may be members still, and
/// needed until they have left.
fn start_former(facts: &Facts, steps: &mut Vec<Step>) {
    let is_needed = |node: &&NodeFacts| node.has_data && node.state == ProcessState::Stopped;
    let former = facts.former.values().filter(is_needed);
    let nodes: Vec<NodeId> = former.map(|node| node.id).collect();
    if facts.leader.is_none() && !nodes.is_empty() {
        let why = "not in cluster.yaml any more, and may be members still".into();
        steps.push(Step::Start { nodes, why });
    }
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

/// Why nodes can't be started one by one: cluster.yaml has changed, or another cluster has run here, or may come
/// back. While some nodes keep one lease and some another, or count other members,
/// nothing that they promise holds.
///
/// # Errors
/// As said.
pub fn refuse_changed(target: &Target, facts: &Facts) -> Result<(), Obstacles> {
    let is_new = |id: &NodeId| {
        facts
            .node(*id)
            .is_some_and(|node| node.arguments.is_empty())
    };
    let new = target.nodes.iter().map(|node| node.layout.id);
    let new: Vec<NodeId> = new
        .filter(|id| target.founders.joins(*id) && is_new(id))
        .collect();
    if !new.is_empty() {
        return Err(Obstacles(vec![format!(
            "{} of cluster.yaml did not belong to the cluster yet when it was last started: `raftctl up` brings \
             in what is new",
            list(&new)
        )]));
    }
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

/// What stands in the way of a change of members before hosts are made for it; and of nodes that would begin with
/// nothing on `blank` disks, where the cluster would not let them in.
///
/// # Errors
/// As said.
pub fn refuse_members(target: &Target, facts: &Facts, blank: &[NodeId]) -> Result<(), Obstacles> {
    let mut obstacles = change::steps(target, facts).err().unwrap_or_default();
    obstacles.extend(blank.iter().filter_map(|id| facts.unwelcome(*id)));
    match obstacles.is_empty() {
        true => Ok(()),
        false => Err(Obstacles(obstacles)),
    }
}

#[cfg(test)]
mod tests;
