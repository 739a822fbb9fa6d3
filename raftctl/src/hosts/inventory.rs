//! The hosts of a cluster, and which nodes live on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::absent::Absent;
use super::layout::{HostLayout, NodeLayout};
use super::local::LocalTransport;
use super::{Transport, TransportError};
use crate::cluster::{Cluster, NodeId, Provider};
use crate::error::{Error, Result};

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
    /// The hosts of a cluster with the provider `local`.
    ///
    /// # Errors
    /// The folder of cluster.yaml has a name that a shell script can't carry.
    pub fn local(cluster: &Cluster) -> Result<Self> {
        let base = utf8(&cluster.state_dir())?;
        let members = cluster
            .nodes
            .iter()
            .map(|node| local_member(cluster, node.id));
        let host = Host {
            transport: Arc::new(LocalTransport),
            layout: HostLayout::new(&base),
            nodes: cluster.ids(),
        };
        Ok(Inventory {
            hosts: vec![host],
            members: members.collect(),
        })
    }

    /// The hosts of a cluster as they are now, without making any.
    ///
    /// # Errors
    /// The provider can't tell.
    pub async fn open(cluster: &Cluster) -> Result<Self> {
        match cluster.provider {
            Provider::Local => Inventory::local(cluster),
            Provider::Gcp => super::gcp::inventory::open(cluster),
            Provider::Ssh => super::ssh::inventory::open(cluster).await,
            Provider::Docker => super::docker::open(cluster),
        }
    }

    /// The same after a look at those that are not known yet; with `again` at all of them.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn reach(cluster: &Cluster, again: bool) -> Result<Self> {
        // ssh itself is to give up first: it tells the cause.
        let deadline = cluster.limits.connect + super::ssh::inventory::LOGIN_TIME;
        Inventory::reach_within(cluster, again, deadline).await
    }

    /// The same for whoever can do without the hosts that have never been reached, and do not
    /// answer at once.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn glance(cluster: &Cluster) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_millis(1300);
        let patience = PATIENCE.min(cluster.limits.connect);
        Inventory::reach_within(cluster, false, patience).await
    }

    async fn reach_within(cluster: &Cluster, again: bool, deadline: Duration) -> Result<Self> {
        let logins = match cluster.provider {
            Provider::Ssh => super::ssh::inventory::logins(cluster)?,
            Provider::Docker => return super::docker::reach(cluster, again, deadline).await,
            Provider::Gcp => return super::gcp::inventory::reach(cluster).await,
            Provider::Local => return Inventory::local(cluster),
        };
        let client_ports = super::ssh::inventory::ClientPorts::AsHosts;
        super::ssh::inventory::reach(cluster, &logins, client_ports, again, deadline).await
    }

    /// What an operator may not expect of the hosts, each with what to do about it.
    #[must_use]
    pub fn remarks(cluster: &Cluster) -> Vec<(String, &'static str)> {
        match cluster.provider {
            Provider::Ssh => {
                let remarks = super::ssh::inventory::remarks(cluster).into_iter();
                remarks
                    .map(|remark| (remark, super::ssh::place::ADVICE))
                    .collect()
            }
            // Hosts that raftctl makes are as it makes them.
            Provider::Local | Provider::Docker | Provider::Gcp => Vec::new(),
        }
    }

    /// Adds the host of a node that can't be talked to, and that others reach by its name.
    pub fn add_absent(&mut self, cluster: &Cluster, id: NodeId, name: String, why: TransportError) {
        let (peer, client) = (cluster.ports.peer, cluster.ports.client);
        let client_address = format!("{name}:{client}");
        self.members.push(Member {
            id,
            listen_peers: format!("0.0.0.0:{peer}"),
            listen_clients: format!("0.0.0.0:{client}"),
            peer_address: format!("{name}:{peer}"),
            admin_address: client_address.clone(),
            client_address,
            is_address_known: true,
        });
        self.members.sort_by_key(|member| member.id);
        self.hosts.push(Host {
            layout: HostLayout::remote(&format!("/opt/raftkv/{}", cluster.name)),
            nodes: vec![id],
            transport: Arc::new(Absent::new(name, None, why)),
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

fn local_member(cluster: &Cluster, id: NodeId) -> Member {
    // Checked with the file: base and id together stay below 65536.
    let peers = format!("127.0.0.1:{}", u64::from(cluster.ports.peer) + id);
    let clients = format!("127.0.0.1:{}", u64::from(cluster.ports.client) + id);
    Member {
        id,
        listen_peers: peers.clone(),
        listen_clients: clients.clone(),
        peer_address: peers,
        client_address: clients.clone(),
        admin_address: clients,
        is_address_known: true,
    }
}

/// A path as text, and without line breaks: paths travel in files with a line each.
fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains('\n'));
    text.map(str::to_owned).ok_or_else(|| {
        Error::Usage(format!(
            "the path {} is not plain text; move the cluster to another folder",
            path.display()
        ))
    })
}
