//! Who this node is, and who belongs to its cluster.

use crate::raft::NodeId;
use std::collections::BTreeMap;

/// Fixed while the process runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This node.
    pub id: NodeId,
    /// Name of the cluster: nodes of another one are refused.
    pub cluster: String,
    /// The one lease of the whole cluster, in milliseconds.
    pub lease_ms: u64,
    /// All nodes, this one included.
    pub members: BTreeMap<NodeId, Member>,
}

/// Where a node can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `host:port` for other nodes.
    pub peer_address: String,
    /// `host:port` for clients.
    pub client_address: String,
}

impl Identity {
    /// All nodes but this one.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        let others = self.members.iter().filter(|(id, _)| **id != self.id);
        others.map(|(id, member)| (*id, member))
    }

    /// Where clients reach a node; empty for a stranger.
    pub fn client_address(&self, id: NodeId) -> &str {
        let member = self.members.get(&id);
        member.map_or("", |member| &member.client_address)
    }
}
