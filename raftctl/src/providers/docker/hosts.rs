//! The containers of a cluster as hosts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engine::Engine;
use super::{container_name, containers, not_in_network};
use crate::cluster::{Cluster, NodeId};
use crate::error::{Result, TransportError};
use crate::hosts::inventory::Inventory;
use crate::providers::ssh::{self, ClientPorts};
use crate::providers::{Aftermath, Hosting};
use crate::transport::BoxFuture;
use crate::transport::ssh::key_pair;
use crate::transport::ssh::login::{self, Login};

/// Containers that raftctl has made.
pub struct Docker;

/// One at a time makes containers or takes them away: who gave up waiting for one has not kept it from being made.
static MAKING: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    // Nothing is kept under it.
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hosting for Docker {
    fn open<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Result<Inventory>> {
        Box::pin(async { open(cluster) })
    }

    fn look<'a>(
        &self,
        cluster: &'a Cluster,
        again: bool,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Inventory>> {
        Box::pin(look(cluster, again, deadline))
    }

    fn make_hosts<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Result<()>> {
        Box::pin(make(cluster))
    }

    fn take_away(&self, cluster: &Cluster, ids: &[NodeId]) -> Result<Aftermath> {
        let _turn = turn();
        super::remove_nodes(cluster, ids).map(|()| Aftermath::Deleted)
    }

    fn orphans(&self) -> Vec<String> {
        // An engine that does not answer is told of elsewhere: then no host answers.
        super::orphans().unwrap_or_default()
    }
}

/// Makes the containers that are missing. The engine is waited for on a thread of its own: others may be at work meanwhile.
async fn make(cluster: &Cluster) -> Result<()> {
    let (cluster, runtime) = (cluster.clone(), tokio::runtime::Handle::current());
    let making = tokio::task::spawn_blocking(move || {
        let _turn = turn();
        let changes = super::plan(&cluster)?;
        runtime.block_on(super::make(&cluster, &changes, |_| ()))
    });
    match making.await {
        Ok(made) => made,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The hosts of a cluster as they are now. Connects to none. A node whose container is not there, or
/// does not run, has a host that can't be talked to.
///
/// # Errors
/// The engine does not answer.
fn open(cluster: &Cluster) -> Result<Inventory> {
    let found = find(cluster)?;
    let inventory = ssh::from_logins(cluster, &found.logins, ClientPorts::AsHosts)?;
    Ok(named(
        cluster,
        with_unreachable(cluster, inventory, found.absent),
    ))
}

/// The hosts of a cluster after a look at them, as with any that are reached through SSH.
///
/// # Errors
/// As [`open`].
async fn look(cluster: &Cluster, again: bool, deadline: Duration) -> Result<Inventory> {
    let (found, ports) = (find(cluster)?, ClientPorts::AsHosts);
    let inventory = ssh::look(cluster, &found.logins, ports, again, deadline).await?;
    Ok(named(
        cluster,
        with_unreachable(cluster, inventory, found.absent),
    ))
}

/// The nodes of a cluster, by what their containers are like.
struct FoundContainers {
    /// How those are reached that run.
    logins: BTreeMap<NodeId, Login>,
    /// Why the others can't be.
    absent: BTreeMap<NodeId, String>,
}

fn find(cluster: &Cluster) -> Result<FoundContainers> {
    let containers = containers(cluster, &Engine::find()?)?;
    let mut found = FoundContainers {
        logins: BTreeMap::new(),
        absent: BTreeMap::new(),
    };
    for id in cluster.ids() {
        let container = containers.iter().find(|container| container.node == id);
        let why = match container.map(|container| (container, container.address.as_deref())) {
            Some((container, Some(address))) if container.is_running => {
                found
                    .logins
                    .insert(id, login(cluster, &container.name, address)?);
                continue;
            }
            Some((container, None)) if container.is_running => not_in_network(cluster, container),
            Some(_) => "the container does not run; `raftctl up` starts it".into(),
            None => "there is no such container; `raftctl up` makes one".into(),
        };
        found.absent.insert(id, why);
    }
    Ok(found)
}

fn with_unreachable(
    cluster: &Cluster,
    mut inventory: Inventory,
    absent: BTreeMap<NodeId, String>,
) -> Inventory {
    for (id, cause) in absent {
        let host = container_name(cluster, id);
        let why = TransportError::Unreachable {
            host: host.clone(),
            cause,
        };
        inventory.add_unreachable(cluster, id, host, why);
    }
    inventory
}

/// Nodes know each other by the names of their containers, which the engine resolves in the
/// cluster's network: a container has no address while it does not run, and another one when the
/// containers are started in another order. This machine knows no such names: raftctl goes by the
/// addresses of now.
fn named(cluster: &Cluster, mut inventory: Inventory) -> Inventory {
    for (member, node) in inventory.members.iter_mut().zip(&cluster.nodes) {
        let name = container_name(cluster, member.id);
        let at = |given: &Option<String>, port| {
            let given = given.clone();
            given.unwrap_or_else(|| format!("{name}:{port}"))
        };
        member.peer_address = at(&node.peer_address, cluster.ports.peer);
        member.client_address = at(&node.client_address, cluster.ports.client);
        // Whatever ssh goes through: the addresses of now are addresses of this machine.
        member.is_tunnelled = false;
        member.is_address_known = true;
    }
    inventory
}

fn login(cluster: &Cluster, name: &str, address: &str) -> Result<Login> {
    let state_dir = std::path::absolute(cluster.state_dir()).unwrap_or(cluster.state_dir());
    Ok(Login {
        host: name.to_owned(),
        destination: address.to_owned(),
        user: Some("root".into()),
        port: Some(22),
        identity_file: Some(state_dir.join(key_pair::FILE)),
        jump: None,
        config_file: login::write_config(&state_dir, None)?,
        key_checked_by: None,
    })
}
