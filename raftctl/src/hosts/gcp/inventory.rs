//! The machines of a cluster as hosts, and those that are yet to be made as placeholders.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::io::AsyncWrite;

use super::allocation::{Allocation, Placement};
use super::machines::{Machine, Machines};
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};
use crate::hosts::inventory::{Host, Inventory, Member};
use crate::hosts::layout::HostLayout;
use crate::hosts::{BoxFuture, Exit, Request, Transport, TransportError};

/// Where the module mounts the data disk.
const DATA_MOUNT: &str = "/opt/raftkv";

/// The machines as they are. All of them must be there.
///
/// # Errors
/// A node has no machine yet.
pub fn open(cluster: &Cluster) -> Result<Inventory> {
    let machines = super::machines(cluster)?;
    let allocation = super::allocation(cluster)?;
    build(cluster, &allocation, Some(&machines), &BTreeSet::new())
}

/// The machines as they are, and a placeholder for each of the nodes in `new`.
///
/// # Errors
/// A node that is not new has no machine.
pub fn with_placeholders(
    cluster: &Cluster,
    allocation: &Allocation,
    new: &BTreeSet<NodeId>,
) -> Result<Inventory> {
    let machines = match new.len() == cluster.nodes.len() {
        true => None,
        false => Some(super::machines(cluster)?),
    };
    build(cluster, allocation, machines.as_ref(), new)
}

fn build(
    cluster: &Cluster,
    allocation: &Allocation,
    machines: Option<&Machines>,
    new: &BTreeSet<NodeId>,
) -> Result<Inventory> {
    let mut inventory = Inventory {
        hosts: Vec::new(),
        members: Vec::new(),
    };
    for (id, placement) in &allocation.nodes {
        let machine = machines
            .filter(|_| !new.contains(id))
            .and_then(|machines| machines.nodes.get(&placement.name));
        let transport: Arc<dyn Transport> = match machine {
            Some(machine) => transport(cluster, machine)?,
            None if new.contains(id) => Arc::new(Unmade(placement.name.clone())),
            None => {
                return Err(Error::Usage(format!(
                    "node {id} has no machine yet; run `raftctl up`"
                )));
            }
        };
        inventory
            .members
            .push(member(cluster, *id, placement, machine));
        inventory.hosts.push(Host {
            transport,
            layout: HostLayout::new(&format!("{DATA_MOUNT}/{}", cluster.name)),
            nodes: vec![*id],
        });
    }
    Ok(inventory)
}

fn member(
    cluster: &Cluster,
    id: NodeId,
    placement: &Placement,
    machine: Option<&Machine>,
) -> Member {
    // Nobody reaches a machine that is yet to be made; the name stands for its address in a plan.
    let internal = machine.map_or(placement.name.as_str(), |machine| {
        machine.internal_ip.as_str()
    });
    let external = machine
        .and_then(|machine| machine.external_ip.as_deref())
        .unwrap_or(internal);
    let (peer, client) = (cluster.ports.peer, cluster.ports.client);
    Member {
        id,
        listen_peers: format!("0.0.0.0:{peer}"),
        listen_clients: format!("0.0.0.0:{client}"),
        peer_address: format!("{internal}:{peer}"),
        client_address: format!("{internal}:{client}"),
        admin_address: format!("{external}:{client}"),
    }
}

fn transport(cluster: &Cluster, machine: &Machine) -> Result<Arc<dyn Transport>> {
    let _ = (cluster, machine);
    Err(Error::Usage(
        "provider gcp is not part of this build".into(),
    ))
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
