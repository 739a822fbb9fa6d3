//! Who this node is, and who belongs to its cluster.

use crate::raft::{Ids, NodeId};
use std::collections::BTreeMap;

/// Fixed while the process runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This node.
    pub id: NodeId,
    /// Name of the cluster: nodes of another one are refused.
    pub cluster: String,
    /// What tells this cluster, directory and process from others of the same name.
    pub ids: Ids,
    /// Of this process: each run of a node has another. 0: not known.
    pub run_id: u64,
    /// The one lease of the whole cluster, in milliseconds.
    pub lease_ms: u64,
    /// All nodes, this one included.
    pub members: BTreeMap<NodeId, Member>,
}

/// An id as text: 32 hexadecimal digits; empty where there is none.
pub fn id_text(id: u128) -> String {
    match id {
        0 => String::new(),
        id => format!("{id:032x}"),
    }
}

/// An id from its text.
pub fn parse_id(text: &str) -> Result<u128, String> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok();
    let id = id.filter(|id| digits && *id > 0);
    id.ok_or_else(|| "expected 32 hexadecimal digits that are not all zero".into())
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
