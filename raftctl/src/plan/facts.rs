//! What a cluster is, and what stands in the way of its nodes.

use std::collections::BTreeMap;

use crate::cluster::{NodeId, list};
use crate::error::Error;
use crate::hosts::control::{HostFacts, NodeFacts, ProcessState, TakenPort};

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

    /// Lets nodes begin with nothing whose logs are gone.
    pub fn accept_lost_data(&mut self) {
        let nodes = self.hosts.values_mut().flat_map(|host| &mut host.nodes);
        nodes.for_each(|node| node.lost_data = false);
        self.hidden.clear();
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

    /// What a person must clear before a node can be started on its host.
    pub(super) fn obstacles(&self, id: NodeId, host: &HostFacts) -> Option<String> {
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
