//! Provider `local`: all nodes are processes on this machine, on 127.0.0.1.

use std::path::Path;
use std::sync::Arc;

use super::Hosting;
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};
use crate::hosts::inventory::{Host, Inventory, Member};
use crate::scripts::layout::HostLayout;
use crate::transport::BoxFuture;
use crate::transport::local::LocalTransport;

/// This machine, which needs no look.
pub struct Local;

impl Hosting for Local {
    fn open<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Result<Inventory>> {
        Box::pin(async { inventory(cluster) })
    }
}

/// This machine with all the nodes of the cluster.
///
/// # Errors
/// The folder of cluster.yaml has a name that a shell script can't carry.
fn inventory(cluster: &Cluster) -> Result<Inventory> {
    let base = utf8(&cluster.state_dir())?;
    let members = cluster.nodes.iter().map(|node| member(cluster, node.id));
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

fn member(cluster: &Cluster, id: NodeId) -> Member {
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
        is_tunnelled: false,
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
