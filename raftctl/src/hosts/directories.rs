//! The directories of nodes that do not run: made out of a backup, looked into, told as text.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWrite;

use super::control::{failed, run};
use super::inventory::Host;
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::scripts::directories::{self, Restore};
use crate::transport::Request;

/// A directory that was made of a backup, as its host tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Made {
    /// The state is that after this entry.
    pub index: u64,
    /// Its hash on every node: that of the backup with its sessions closed.
    pub hash: String,
    /// The hash that the backup has, as the node counted it.
    pub source_hash: String,
    /// How many keys there are.
    pub keys: u64,
    /// An earlier run had made it.
    pub was_there: bool,
}

/// What a directory holds, as its host tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Found {
    /// There is a log.
    pub data: bool,
    /// Why nothing can be made of it.
    pub error: Option<String>,
    /// Id of the cluster; empty where it has none.
    pub cluster_id: String,
    /// Highest term that it knows.
    pub term: u64,
    /// Entries up to here are known to be committed.
    pub commit_index: u64,
    /// The last entry.
    pub last_index: u64,
    /// And its term.
    pub last_term: u64,
    /// Damage cost entries up to this one; 0: none.
    pub lost_until: u64,
}

/// A backup on its way to hosts.
#[derive(Debug, Clone)]
pub struct Text {
    /// As it is.
    pub plain: Arc<[u8]>,
    /// Compressed, for those that are not this machine.
    pub packed: Arc<[u8]>,
}

/// Makes the directory of a node out of a backup.
///
/// # Errors
/// The host can't be reached; something is there already; the backup is damaged. Then nothing has changed.
pub async fn restore(
    host: &Host,
    id: NodeId,
    text: &Text,
    what: &Restore<'_>,
    deadline: Duration,
) -> Result<Made> {
    let script = directories::restore(&host.layout.node(id), what);
    let purpose = format!("make the directory of node {id}");
    let stdin = if what.is_packed {
        &text.packed
    } else {
        &text.plain
    };
    let request = Request::new(&purpose, &script, deadline).with_stdin(Arc::clone(stdin));
    let answer = run(host, request).await?;
    read(host, &purpose, answer.one(&id.to_string(), "made")?)
}

/// Looks into the directories of nodes.
///
/// # Errors
/// The host can't be reached, or can't run raft-node.
pub async fn inspect(
    host: &Host,
    ids: &[NodeId],
    executable: &str,
    deadline: Duration,
) -> Result<Vec<(NodeId, Found)>> {
    let purpose = "look into the directories of nodes";
    let script = directories::inspect(&host.layouts(ids), executable);
    let answer = run(host, Request::new(purpose, &script, deadline)).await?;
    let one = |id: &NodeId| {
        let name = id.to_string();
        let found = answer.one(&name, "found")?;
        Ok((*id, read(host, purpose, found)?))
    };
    ids.iter().map(one).collect()
}

/// Streams the state of a node that does not run into `sink`, in the notation of snapshots.
///
/// # Errors
/// The host can't be reached, or the directory holds nothing that can be told.
pub async fn export(
    host: &Host,
    id: NodeId,
    executable: &str,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
    deadline: Duration,
) -> Result<()> {
    let script = directories::export(&host.layout.node(id), executable);
    let purpose = format!("read the state of node {id}");
    let request = Request::new(&purpose, &script, deadline);
    let exit = host.transport.execute(request, sink).await?;
    match exit.status {
        0 => Ok(()),
        status => Err(failed(host, &purpose, status, &exit.stderr)),
    }
}

fn read<T: serde::de::DeserializeOwned>(host: &Host, purpose: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Host {
        host: host.name().to_owned(),
        purpose: purpose.to_owned(),
        detail: format!("its answer makes no sense ({error}): {text}"),
    })
}
