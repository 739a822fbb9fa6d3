//! The machines of a cluster as hosts, and those that are yet to be made as placeholders.
//!
//! Nodes know each other by internal addresses. raftctl reaches a node's client port through the
//! machine's SSH connection: that port is closed to the outside, unless `client_cidrs` opens it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::allocation::Allocation;
use super::login;
use crate::cluster::gcp::SshVia;
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result, TransportError};
use crate::hosts::inventory::{Host, Inventory, Member};
use crate::providers::ssh::{self, ClientPorts};
use crate::providers::{Aftermath, Finding, Hosting, MachineStates, Overview};
use crate::scripts::layout::HostLayout;
use crate::transport::ssh::Login;
use crate::transport::unreachable::Unreachable;
use crate::transport::{BoxFuture, Exit, Request, Transport};

/// Machines that Terraform has made.
pub struct Gcp;

impl Hosting for Gcp {
    fn open<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Result<Inventory>> {
        Box::pin(async { open(cluster) })
    }

    /// They are known by their addresses, and always looked at.
    fn look<'a>(
        &self,
        cluster: &'a Cluster,
        _: bool,
        _: Duration,
    ) -> BoxFuture<'a, Result<Inventory>> {
        Box::pin(look(cluster))
    }

    fn findings<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Result<Vec<Finding>>> {
        Box::pin(async {
            let allocation = super::allocation(cluster)?;
            Ok(super::check::findings(cluster, &allocation).await)
        })
    }

    /// Terraform deletes them, which takes its time: by whoever called for the change.
    fn take_away(&self, _: &Cluster, _ids: &[NodeId]) -> Result<Aftermath> {
        Ok(Aftermath::DeletedNext)
    }

    /// A disk can't move to another zone.
    fn moved(&self, cluster: &Cluster) -> Result<Vec<NodeId>> {
        super::moved(cluster)
    }

    fn machine_states<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Option<MachineStates>> {
        Box::pin(async { Some(super::status::machine_states(cluster).await) })
    }

    fn overview<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Overview> {
        Box::pin(super::status::overview(cluster))
    }
}

/// The machines as they were found last. Connects to none. Needs a runtime.
///
/// # Errors
/// No node has a machine yet.
fn open(cluster: &Cluster) -> Result<Inventory> {
    let made = Made::of(cluster)?;
    let mut inventory = ssh::from_logins(&made.cluster, &made.logins, ClientPorts::Closed)?;
    made.add_unaddressed(&mut inventory);
    Ok(inventory)
}

/// The machines as they are: logs in to each.
///
/// # Errors
/// As [`open`]. A machine that does not answer is no error here.
async fn look(cluster: &Cluster) -> Result<Inventory> {
    let made = Made::of(cluster)?;
    made.look(true).await
}

/// The machines of the nodes with these names in Terraform; `None` where there are none, or where
/// nothing is known of them. Logs in to those that are not known yet.
///
/// # Errors
/// A file of raftctl's own can't be read or written.
pub async fn of_names(cluster: &Cluster, names: &BTreeSet<String>) -> Result<Option<Inventory>> {
    let Ok(machines) = super::machines(cluster) else {
        return Ok(None);
    };
    let allocation = super::allocation(cluster)?;
    let has_machine = |id: &NodeId| {
        let placement = allocation.nodes.get(id);
        placement.is_some_and(|placement| {
            names.contains(&placement.name) && machines.nodes.contains_key(&placement.name)
        })
    };
    let mut made = cluster.clone();
    made.nodes.retain(|node| has_machine(&node.id));
    if made.nodes.is_empty() {
        return Ok(None);
    }
    let made = Made::of(&made)?;
    Ok(Some(made.look(false).await?))
}

/// The machines that are there, and a placeholder for each of the nodes in `new`, with its internal address
/// where that outlives the machine.
///
/// # Errors
/// A node that is not new has no machine.
pub async fn with_placeholders(
    cluster: &Cluster,
    allocation: &Allocation,
    new: &BTreeSet<NodeId>,
    addresses: &BTreeMap<NodeId, String>,
) -> Result<Inventory> {
    let mut old = cluster.clone();
    old.nodes.retain(|node| !new.contains(&node.id));
    let mut inventory = match old.nodes.is_empty() {
        true => Inventory {
            hosts: Vec::new(),
            members: Vec::new(),
        },
        false => look(&old).await?,
    };
    for (id, placement) in allocation.nodes.iter().filter(|(id, _)| new.contains(id)) {
        inventory.members.push(unmade_member(
            cluster,
            *id,
            addresses.get(id).unwrap_or(&placement.name),
        ));
        inventory.hosts.push(Host {
            transport: Arc::new(Unmade(placement.name.clone())),
            layout: HostLayout::system(&cluster.name),
            nodes: vec![*id],
        });
    }
    inventory.members.sort_by_key(|member| member.id);
    Ok(inventory)
}

/// What a connection through Identity-Aware Proxy may take at least: several gcloud start at a time,
/// and each takes a second or more of a processor before it sends anything.
const IAP_CONNECT_MIN: Duration = Duration::from_secs(20);

/// Machines that exist, ready to log in to.
struct Made {
    /// With the internal addresses of the nodes.
    cluster: Cluster,
    logins: BTreeMap<NodeId, Login>,
    /// The nodes whose machines have no external address where that is the way to them, each with its
    /// machine.
    unaddressed: BTreeMap<NodeId, String>,
    /// The nodes that have no machine, or none any more, each with what it would be called.
    unmade: BTreeMap<NodeId, String>,
}

impl Made {
    fn of(cluster: &Cluster) -> Result<Self> {
        let machines = super::machines(cluster)?;
        let allocation = super::allocation(cluster)?;
        let mut by_name: BTreeMap<String, Login> =
            login::logins(cluster, &machines, &super::key_file(cluster))?
                .into_iter()
                .collect();
        let mut made = Made {
            cluster: cluster.clone(),
            logins: BTreeMap::new(),
            unaddressed: BTreeMap::new(),
            unmade: BTreeMap::new(),
        };
        let needs_address = cluster.gcp.ssh_via() == SshVia::External;
        if !needs_address {
            let connect = &mut made.cluster.limits.connect;
            *connect = IAP_CONNECT_MIN.max(*connect);
        }
        let ports = cluster.ports;
        for node in &mut made.cluster.nodes {
            let name = allocation
                .nodes
                .get(&node.id)
                .map(|placement| placement.name.as_str());
            let found =
                name.and_then(|name| Some((machines.nodes.get(name)?, by_name.remove(name)?)));
            let Some((machine, login)) = found else {
                let name = super::instance_name(cluster, name.unwrap_or_default());
                made.unmade.insert(node.id, name);
                continue;
            };
            node.peer_address = Some(format!("{}:{}", machine.internal_ip, ports.peer));
            node.client_address = Some(format!("{}:{}", machine.internal_ip, ports.client));
            if needs_address && machine.external_ip.is_none() {
                made.unaddressed.insert(node.id, machine.instance.clone());
            } else {
                made.logins.insert(node.id, login);
            }
        }
        match made.unmade.first_key_value() {
            // Nobody is there who could be asked.
            Some((id, _)) if made.unmade.len() == cluster.nodes.len() => Err(no_machine(*id)),
            _ => Ok(made),
        }
    }

    /// Logs in to the machines; with `again` also to those that were logged in to a while ago.
    async fn look(&self, again: bool) -> Result<Inventory> {
        let (cluster, ports) = (&self.cluster, ClientPorts::Closed);
        // ssh itself is to give up first: it tells the cause.
        let patience = cluster.limits.login();
        let mut inventory = ssh::look(cluster, &self.logins, ports, again, patience).await?;
        self.add_unaddressed(&mut inventory);
        Ok(inventory)
    }

    /// Adds the machines that there is no way to now. The nodes know each other by other addresses.
    fn add_unaddressed(&self, inventory: &mut Inventory) {
        for (id, instance) in &self.unaddressed {
            let why = TransportError::Unreachable {
                host: instance.clone(),
                cause: format!(
                    "it has no external address: it is off, or gone (`raftctl status`); `raftctl restart {id} --vm` \
                     switches it on, `raftctl up` makes it again"
                ),
            };
            inventory.add_unreachable(&self.cluster, *id, instance.clone(), why);
            let node = self.cluster.nodes.iter().find(|node| node.id == *id);
            let member = inventory.members.iter_mut().find(|member| member.id == *id);
            if let (Some(node), Some(member)) = (node, member) {
                let address = |known: &Option<String>| known.clone().unwrap_or_default();
                member.peer_address = address(&node.peer_address);
                member.client_address = address(&node.client_address);
                member.is_tunnelled = true;
            }
        }
        for (id, instance) in &self.unmade {
            let why = TransportError::Unreachable {
                host: instance.clone(),
                cause: "it has no machine; `raftctl up` makes one where cluster.yaml names it"
                    .into(),
            };
            inventory.add_unreachable(&self.cluster, *id, instance.clone(), why);
            let member = inventory.members.iter_mut().find(|member| member.id == *id);
            if let Some(member) = member {
                member.is_address_known = false;
            }
        }
        // Everyone locks them in the same order.
        inventory
            .hosts
            .sort_by_key(|host| host.nodes.first().copied());
    }
}

/// A node that has no machine.
#[must_use]
pub fn no_machine(id: NodeId) -> Error {
    Error::Usage(format!("node {id} has no machine yet; run `raftctl up`"))
}

/// Replaces the way to the machines of some nodes by the reason why there is none.
pub fn leave_out(inventory: &mut Inventory, reasons: &BTreeMap<NodeId, Error>) {
    for host in &mut inventory.hosts {
        let Some(reason) = host.nodes.first().and_then(|id| reasons.get(id)) else {
            continue;
        };
        let name = host.name().to_owned();
        let why = TransportError::Refused {
            host: name.clone(),
            cause: reason.to_string(),
        };
        host.transport = Arc::new(Unreachable::new(name, None, why));
    }
}

/// Nobody reaches a machine that is yet to be made; its name stands for an address that is not known yet.
fn unmade_member(cluster: &Cluster, id: NodeId, name: &str) -> Member {
    let (peer, client) = (cluster.ports.peer, cluster.ports.client);
    Member {
        id,
        listen_peers: format!("0.0.0.0:{peer}"),
        listen_clients: format!("0.0.0.0:{client}"),
        peer_address: format!("{name}:{peer}"),
        client_address: format!("{name}:{client}"),
        admin_address: format!("{name}:{client}"),
        is_tunnelled: false,
        is_address_known: true,
    }
}

/// A machine that is yet to be made.
struct Unmade(String);

impl Transport for Unmade {
    fn host(&self) -> &str {
        &self.0
    }

    fn execute<'a>(
        &'a self,
        _: Request<'a>,
        _: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<Exit, TransportError>> {
        Box::pin(async {
            Err(TransportError::Unreachable {
                host: self.0.clone(),
                cause: "it has not been made yet".into(),
            })
        })
    }
}
