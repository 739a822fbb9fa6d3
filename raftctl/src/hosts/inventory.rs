//! The hosts of a cluster, and which nodes live on them.

use std::sync::Arc;

use crate::cluster::{Cluster, NodeId};
use crate::error::TransportError;
use crate::scripts::layout::{HostLayout, NodeLayout};
use crate::transport::Transport;
use crate::transport::unreachable::Unreachable;

/// One node and where it is reached. All addresses are `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node's id.
    pub id: NodeId,
    /// Where the node listens for other nodes.
    pub listen_peers: String,
    /// Where the node listens for clients and operators.
    pub listen_clients: String,
    /// Where the other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where raftctl reaches it: the client address, or another way there.
    pub admin_address: String,
    /// Whether raftctl reaches it through ssh, and not at its client address.
    pub is_tunnelled: bool,
    /// Whether its addresses are its own. Those of a host of which nothing can be learnt are
    /// guessed, and tell no difference.
    pub is_address_known: bool,
}

/// One host: a way to run scripts there, where things are, and its nodes.
#[derive(Clone)]
pub struct Host {
    /// How scripts get there.
    pub transport: Arc<dyn Transport>,
    /// Where things are.
    pub layout: HostLayout,
    /// Its nodes; on a host of its own just one.
    pub nodes: Vec<NodeId>,
}

impl Host {
    /// The host's name, as the operator knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.transport.host()
    }

    /// The paths of those of its nodes that `ids` names.
    #[must_use]
    pub fn layouts(&self, ids: &[NodeId]) -> Vec<NodeLayout> {
        let here = self.nodes.iter().filter(|id| ids.contains(id));
        here.map(|id| self.layout.node(*id)).collect()
    }
}

/// All hosts and nodes of a cluster.
#[derive(Clone)]
pub struct Inventory {
    /// Every host.
    pub hosts: Vec<Host>,
    /// Every node, by rising id.
    pub members: Vec<Member>,
}

impl Inventory {
    /// Adds the host of a node that can't be talked to, and that others reach by its name.
    pub fn add_unreachable(
        &mut self,
        cluster: &Cluster,
        id: NodeId,
        name: String,
        why: TransportError,
    ) {
        let (peer, client) = (cluster.ports.peer, cluster.ports.client);
        let client_address = format!("{name}:{client}");
        let node = cluster.nodes.iter().find(|node| node.id == id);
        let listens_on =
            |port| node.map_or_else(|| format!("[::]:{port}"), |node| node.listens_on(port));
        self.members.push(Member {
            id,
            listen_peers: listens_on(peer),
            listen_clients: listens_on(client),
            peer_address: format!("{name}:{peer}"),
            admin_address: client_address.clone(),
            client_address,
            is_tunnelled: false,
            is_address_known: true,
        });
        self.members.sort_by_key(|member| member.id);
        self.hosts.push(Host {
            layout: HostLayout::system(&cluster.name),
            nodes: vec![id],
            transport: Arc::new(Unreachable::new(name, None, why)),
        });
    }

    /// A node by its id.
    ///
    /// # Panics
    /// When the cluster has no such node: ids are checked where they come in.
    #[must_use]
    pub fn member(&self, id: NodeId) -> &Member {
        let found = self.members.iter().find(|member| member.id == id);
        found.unwrap_or_else(|| panic!("no node {id}"))
    }

    /// The host of a node.
    ///
    /// # Panics
    /// When the cluster has no such node.
    #[must_use]
    pub fn host_of(&self, id: NodeId) -> &Host {
        let found = self.hosts.iter().find(|host| host.nodes.contains(&id));
        found.unwrap_or_else(|| panic!("no host for node {id}"))
    }
}
