//! Who this node is, and who belongs to its cluster.

use crate::raft::{Ids, NodeId};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Longest address of a node: the log takes no longer one.
const ADDRESS_BYTES_MAX: usize = 300;

/// Fixed while the process runs, but for what a node takes over that joins.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This node.
    pub id: NodeId,
    /// Name of the cluster: nodes of another one are refused.
    pub cluster: String,
    /// What tells this cluster, directory and process from others of the same name.
    pub ids: Ids,
    /// The cluster's id, where this node had none and took over that of the cluster that it joins.
    pub taken_over: OnceLock<u128>,
    /// Of this process: each run of a node has another. 0: not known.
    pub run_id: u64,
    /// Former runs of the directory that have ended for certain, the newest last.
    pub ended_runs: Vec<u64>,
    /// The one lease of the whole cluster, in milliseconds.
    pub lease_ms: u64,
    /// It joins a cluster that runs: who belongs to that is told by its log alone.
    pub joins: bool,
    /// The nodes that it was started with, this one included.
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
    /// For tests: node `id` of a cluster called "demo", started with these nodes and without ids.
    #[cfg(test)]
    pub fn of_test(id: NodeId, members: impl IntoIterator<Item = (NodeId, Member)>) -> Self {
        Identity {
            id,
            cluster: "demo".into(),
            ids: Default::default(),
            taken_over: Default::default(),
            run_id: 0,
            ended_runs: Vec::new(),
            lease_ms: 2_000,
            joins: false,
            members: members.into_iter().collect(),
        }
    }

    /// The id of the cluster. 0: it has none, or this node has not heard it yet.
    pub fn cluster_id(&self) -> u128 {
        match self.ids.cluster {
            0 => self.taken_over.get().copied().unwrap_or(0),
            id => id,
        }
    }

    /// Takes over the id of the cluster that this node joins. Returns whether it had none before.
    pub fn take_over(&self, cluster: u128) -> bool {
        let may = self.joins && self.ids.cluster == 0 && cluster != 0;
        may && self.taken_over.set(cluster).is_ok()
    }
}

/// A `host:port`, as it stands in flags and in the log.
pub fn address(text: &str) -> Result<String, String> {
    let plain = text.len() <= ADDRESS_BYTES_MAX
        && text.bytes().all(|it| it.is_ascii_graphic() && it != b',');
    let parts = text.rsplit_once(':').filter(|_| plain);
    match parts.map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(_))) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT, such as 127.0.0.1:7401 or [::1]:7401".into()),
    }
}
