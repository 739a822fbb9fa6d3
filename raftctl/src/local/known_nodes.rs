//! Where the nodes of a cluster are, as far as this machine knows: those of cluster.yaml when it was last brought
//! up, and those that it does not name any more until they are taken down.
//!
//! The file is a memory, not a source: without it, a node that has left still ends by itself, wherever it runs.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Node, NodeId};
use crate::error::{Error, Result};
use crate::local::state_files;

const FILE: &str = "nodes.json";

/// Where the files of nodes are that have left, until those are deleted.
const LEFT: &str = "left.json";

/// The nodes, by id. None where the file is not there, or makes no sense.
#[must_use]
pub fn load(state_dir: &Path) -> BTreeMap<NodeId, Node> {
    read(state_dir, FILE)
}

/// The nodes that have left, and whose files may still be where they ran.
#[must_use]
pub fn left(state_dir: &Path) -> BTreeMap<NodeId, Node> {
    read(state_dir, LEFT)
}

/// Remembers where nodes have run that were taken down.
///
/// # Errors
/// The file can't be written.
pub fn note_left(state_dir: &Path, nodes: &[Node]) -> Result<()> {
    let mut all = left(state_dir);
    all.extend(nodes.iter().map(|node| (node.id, node.clone())));
    write(state_dir, LEFT, &all)
}

/// Forgets nodes that have left, with their files.
///
/// # Errors
/// The file can't be written.
pub fn forget_left(state_dir: &Path, ids: &[NodeId]) -> Result<()> {
    let before = left(state_dir);
    let mut all = before.clone();
    all.retain(|id, _| !ids.contains(id));
    match (all == before, all.is_empty()) {
        (true, _) => Ok(()),
        (_, true) => state_files::forget(&state_dir.join(LEFT)),
        _ => write(state_dir, LEFT, &all),
    }
}

fn read(state_dir: &Path, file: &str) -> BTreeMap<NodeId, Node> {
    let text = std::fs::read_to_string(state_dir.join(file)).unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let nodes = value.as_array().into_iter().flatten();
    let nodes = nodes.filter_map(from_json);
    nodes.map(|node| (node.id, node)).collect()
}

/// Those that have been started on this machine, by what is left of it in the folder of pid files.
#[must_use]
pub fn started_here(state_dir: &Path) -> Vec<NodeId> {
    ids_in(&state_dir.join("run"), "node_", ".args")
}

/// Those whose files lie on this machine.
#[must_use]
pub fn with_files_here(state_dir: &Path) -> Vec<NodeId> {
    ids_in(state_dir, "logs_node_", "")
}

/// The ids in names of a folder.
fn ids_in(folder: &Path, before: &str, behind: &str) -> Vec<NodeId> {
    let Ok(files) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let id = |name: String| {
        let id = name.strip_prefix(before)?.strip_suffix(behind)?;
        id.parse().ok()
    };
    names.filter_map(id).collect()
}

/// Remembers nodes as they are now, beside the others that are known.
///
/// # Errors
/// The file can't be written.
pub fn add(state_dir: &Path, nodes: &[Node]) -> Result<()> {
    let before = load(state_dir);
    let mut all = before.clone();
    all.extend(nodes.iter().map(|node| (node.id, node.clone())));
    match all == before {
        true => Ok(()),
        false => write(state_dir, FILE, &all),
    }
}

/// Forgets nodes that were taken down.
///
/// # Errors
/// The file can't be written.
pub fn remove(state_dir: &Path, ids: &[NodeId]) -> Result<()> {
    let mut all = load(state_dir);
    all.retain(|id, _| !ids.contains(id));
    match all.is_empty() {
        true => forget(state_dir),
        false => write(state_dir, FILE, &all),
    }
}

/// Forgets them all, with the cluster.
///
/// # Errors
/// The file can't be deleted.
pub fn forget(state_dir: &Path) -> Result<()> {
    state_files::forget(&state_dir.join(FILE))
}

fn write(state_dir: &Path, file: &str, all: &BTreeMap<NodeId, Node>) -> Result<()> {
    let path = state_dir.join(file);
    let all: Vec<Value> = all.values().map(to_json).collect();
    std::fs::create_dir_all(state_dir)
        .map_err(|error| Error::file("make the folder", state_dir, &error))?;
    state_files::replace(&path, &format!("{}\n", Value::from(all)))
}

fn to_json(node: &Node) -> Value {
    json!({
        "id": node.id,
        "host": node.host,
        "ssh_port": node.ssh_port,
        "ssh_user": node.ssh_user,
        "zone": node.zone,
        "peer_address": node.peer_address,
        "client_address": node.client_address,
        "listen": node.listen.map(|address| address.to_string()),
    })
}

fn from_json(value: &Value) -> Option<Node> {
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    let port = value.get("ssh_port").and_then(Value::as_u64);
    Some(Node {
        id: value.get("id")?.as_u64()?,
        host: text("host"),
        ssh_port: port.and_then(|port| port.try_into().ok()),
        ssh_user: text("ssh_user"),
        zone: text("zone"),
        peer_address: text("peer_address"),
        client_address: text("client_address"),
        listen: text("listen").and_then(|address| address.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // What was known comes back, the latest of each node, until it is forgotten.
    #[test]
    fn nodes_are_remembered_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let node = |id, host: &str| Node {
            id,
            host: Some(host.into()),
            ssh_port: Some(2222),
            listen: "10.0.0.1".parse().ok(),
            ..Node::default()
        };
        add(&state, &[node(1, "a"), node(2, "b")]).unwrap();
        add(&state, &[node(2, "c")]).unwrap();
        let known: Vec<Node> = load(&state).into_values().collect();
        assert_eq!(known, [node(1, "a"), node(2, "c")]);
        remove(&state, &[1, 2]).unwrap();
        assert!(load(&state).is_empty() && !state.join(FILE).exists());
    }

    // What ran here is known by its arguments, whatever else lies there.
    #[test]
    fn what_was_started_here_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        assert!(started_here(folder.path()).is_empty());
        let run = folder.path().join("run");
        std::fs::create_dir(&run).unwrap();
        for name in [
            "node_4.args",
            "node_5.pid",
            "node_x.args",
            "node_6.args.new",
        ] {
            std::fs::write(run.join(name), "").unwrap();
        }
        assert_eq!(started_here(folder.path()), [4]);
        for name in ["logs_node_3", "logs_node_3.old"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(with_files_here(folder.path()), [3]);
    }
}
