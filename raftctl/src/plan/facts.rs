//! What a cluster is, and what stands in the way of its nodes.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{NodeId, list};
use crate::error::Error;
use crate::hosts::control::{HostFacts, NodeFacts, ProcessState, TakenPort};
use crate::plan::membership::Membership;

/// Less space than this, and a node is not started: it would stop at its first writes.
pub const DISK_FREE_KIB_MIN: u64 = 16 << 10;

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
    /// The nodes that had a log, and whose hosts can't be asked, where no host that answers has any.
    pub hidden: Vec<NodeId>,
    /// Who belongs to the cluster, where its leader says so.
    pub membership: Option<Membership>,
    /// The members of the latest configuration that any node tells of, with a leader or without one that is known
    /// here: cluster.yaml may not name the node that leads.
    pub told_members: BTreeSet<NodeId>,
    /// The voters whose directories the latest configuration names that any node tells of, with a leader or
    /// without one: with another directory each is another node, and not let in under its id.
    pub named: BTreeSet<NodeId>,
    /// Those of them that run with another directory.
    pub strangers: BTreeSet<NodeId>,
    /// The nodes whose logs are gone, where the operator accepts that.
    pub accepted: BTreeSet<NodeId>,
    /// The last entry of the leader's log.
    pub last_index: u64,
    /// The nodes that cluster.yaml does not name any more, where their hosts answer.
    pub former: BTreeMap<NodeId, NodeFacts>,
    /// Those of them whose hosts do not answer.
    pub former_silent: Vec<NodeId>,
    /// The nodes whose disks are there without a machine that could be asked which release is on them.
    pub unasked: Vec<NodeId>,
}

impl Facts {
    /// A node, where its host answers.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeFacts> {
        let nodes = &self.hosts.get(&id)?.nodes;
        nodes.iter().find(|node| node.id == id)
    }

    /// Whether any node of the cluster has a log.
    #[must_use]
    pub fn has_data(&self) -> bool {
        let nodes = self.hosts.values().flat_map(|host| &host.nodes);
        nodes.chain(self.former.values()).any(|node| node.has_data)
    }

    /// The nodes that were last started without TLS, rising.
    #[must_use]
    pub fn clear_text(&self) -> Vec<NodeId> {
        let nodes = self.hosts.values().flat_map(|host| &host.nodes);
        let clear: BTreeSet<NodeId> = nodes
            .filter(|node| node.speaks_clear_text())
            .map(|node| node.id)
            .collect();
        clear.into_iter().collect()
    }

    /// Whether any node was told whom to trust: then the cluster has an authority, wherever that is.
    #[must_use]
    pub fn knows_authority(&self) -> bool {
        self.told_trust().next().is_some()
    }

    /// Whom nodes were told to trust, where they were told.
    pub fn told_trust(&self) -> impl Iterator<Item = &str> {
        let nodes = self.hosts.values().flat_map(|host| &host.nodes);
        let nodes = nodes.chain(self.former.values());
        let trusted = nodes.map(|node| &*node.trusted);
        trusted.filter(|trusted| !trusted.is_empty())
    }

    /// Whether a node runs, in cluster.yaml or not.
    #[must_use]
    pub fn runs(&self, id: NodeId) -> bool {
        let node = self.node(id).or_else(|| self.former.get(&id));
        node.is_some_and(|node| node.state == ProcessState::Running)
    }

    /// A node that runs or is paused.
    #[must_use]
    pub fn alive(&self, id: NodeId) -> Option<&NodeFacts> {
        self.node(id)
            .filter(|node| node.state != ProcessState::Stopped)
    }

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

    /// Lets nodes begin with nothing whose logs are gone. Those which the cluster would refuse then have another
    /// obstacle.
    pub fn accept_lost_data(&mut self) {
        let nodes = self.hosts.values_mut().flat_map(|host| &mut host.nodes);
        for node in nodes.filter(|node| node.lost_data) {
            node.lost_data = false;
            self.accepted.insert(node.id);
        }
        self.hidden.clear();
    }

    /// The nodes that may begin with nothing, and yet don't before the others have said whether they would let
    /// them in: nobody could be asked so far, and the others make a majority.
    pub(super) fn await_others(&self, majority: usize) -> &BTreeSet<NodeId> {
        const NONE: &BTreeSet<NodeId> = &BTreeSet::new();
        let others = self.hosts.values().flat_map(|host| &host.nodes);
        let others = others.filter(|node| node.has_data && !self.accepted.contains(&node.id));
        let knows = self.membership.is_some() || !self.named.is_empty();
        if knows || others.count() < majority {
            return NONE;
        }
        &self.accepted
    }

    /// Why the nodes that answer can't begin without those whose logs can't be seen.
    pub(super) fn hidden_logs(&self) -> Option<String> {
        let (its, host) = match self.hidden.len() {
            0 => return None,
            1 => ("a log", "its host"),
            _ => ("logs", "their hosts"),
        };
        Some(format!(
            "{} had {its}, and {host} can't be asked, while no other host has any: beside an old \
             member that comes back, new ones could lose what they acknowledged; bring {host} back \
             (and run `raftctl down --purge` if the cluster is to be deleted), or accept that with \
             `raftctl up --allow-data-loss`",
            list(&self.hidden)
        ))
    }

    /// Why the cluster would not let a node in that begins with nothing, where it would not.
    pub(super) fn unwelcome(&self, id: NodeId) -> Option<String> {
        self.named.contains(&id).then(|| {
            format!(
                "the log of node {id} is gone, and the cluster's log names the directory that it was in: no other \
                 one is let in under that id. Put logs_node_{id} back, or put a new node in its place: \
                 `raftctl replace {id}`"
            )
        })
    }

    /// What a person must clear before a node can be started on its host.
    pub(super) fn obstacles(&self, id: NodeId, host: &HostFacts) -> Option<String> {
        let node = host.nodes.iter().find(|node| node.id == id)?;
        let at = self
            .names
            .get(&id)
            .map_or(String::new(), |name| format!("{name}: "));
        if self.strangers.contains(&id) {
            return Some(format!(
                "{at}node {id} runs with another directory than the one that the cluster's log names, so no other node \
                 lets it in. Put the former logs_node_{id} back, or put a new node in its place: `raftctl replace {id}`"
            ));
        }
        if node.state != ProcessState::Stopped {
            return None;
        }
        let port = |taken: &TakenPort| {
            let port = taken.port;
            format!(
                "{at}port {port} of node {id} is in use by {}; end that (see it with `raftctl exec \
                 {id} -- ss -ltnp sport = :{port}`), or move `ports` in cluster.yaml",
                taken.owner
            )
        };
        let mut obstacles: Vec<String> = node.taken_ports.iter().map(port).collect();
        if let (false, Some(unwelcome)) = (node.has_data, self.unwelcome(id)) {
            obstacles.push(format!("{at}{unwelcome}"));
        } else if node.lost_data {
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
