//! Which nodes have had a log, as far as this machine knows.
//!
//! A host that lost its disk looks like one that is new. A node that begins with nothing under an
//! old id may vote twice and forget what it acknowledged, so `up` asks before it does that. The
//! file is a memory, not a source: without it, what the hosts themselves remember still counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::control::HostFacts;
use crate::keep;

const FILE: &str = "nodes_with_data.json";

/// The nodes that were seen with a log. None where the file is not there, or makes no sense.
#[must_use]
pub fn load(state_dir: &Path) -> BTreeSet<NodeId> {
    let text = std::fs::read_to_string(state_dir.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Misses logs that were seen before, by this machine or as any of the hosts was told; remembers
/// those that are there. Where no host has or knows of any log, and every host answers that had one,
/// the cluster is new, or was deleted, and what this machine remembers is of another one.
///
/// The answer: nodes that had a log, on hosts in `silent`, while no other host has any. Beside one
/// that is still there, a new cluster would be a second one under the same name.
///
/// # Errors
/// The file can't be written.
pub fn mark(
    state_dir: &Path,
    hosts: &mut BTreeMap<NodeId, HostFacts>,
    silent: &[NodeId],
) -> Result<Vec<NodeId>> {
    let told = hosts
        .values()
        .flat_map(|host| host.setting.seen.iter().copied());
    let mut seen: BTreeSet<NodeId> = told.collect();
    let remembered = load(state_dir);
    let is_known = |id: &NodeId| remembered.contains(id) || seen.contains(id);
    let mut hidden: Vec<NodeId> = silent.iter().copied().filter(is_known).collect();
    let nodes = hosts.values().flat_map(|host| &host.nodes);
    let with_data: Vec<NodeId> = nodes
        .filter(|node| node.has_data)
        .map(|node| node.id)
        .collect();
    if !seen.is_empty() || !with_data.is_empty() || !hidden.is_empty() {
        seen.extend(remembered);
    }
    if !with_data.is_empty() {
        // They can't win without one of a majority that has it all.
        hidden.clear();
    }
    for node in hosts.values_mut().flat_map(|host| &mut host.nodes) {
        node.lost_data |= !node.has_data && seen.contains(&node.id);
    }
    add(state_dir, with_data)?;
    Ok(hidden)
}

/// Remembers nodes, beside those that were seen before.
///
/// # Errors
/// The file can't be written.
pub fn add(state_dir: &Path, ids: impl IntoIterator<Item = NodeId>) -> Result<()> {
    let mut all = load(state_dir);
    let before = all.len();
    all.extend(ids);
    if all.len() == before {
        return Ok(());
    }
    write(state_dir, &all)
}

/// Forgets nodes whose files were deleted.
///
/// # Errors
/// The file can't be written.
pub fn remove(state_dir: &Path, ids: &[NodeId]) -> Result<()> {
    let mut all = load(state_dir);
    all.retain(|id| !ids.contains(id));
    if all.is_empty() {
        return forget(state_dir);
    }
    write(state_dir, &all)
}

fn write(state_dir: &Path, all: &BTreeSet<NodeId>) -> Result<()> {
    let path = state_dir.join(FILE);
    let text = format!("{}\n", serde_json::json!(all));
    std::fs::create_dir_all(state_dir)
        .map_err(|error| Error::file("make the folder", state_dir, &error))?;
    keep::replace(&path, &text)
}

/// Forgets them all, with the cluster.
///
/// # Errors
/// The file can't be deleted.
pub fn forget(state_dir: &Path) -> Result<()> {
    keep::forget(&state_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A member that has nothing is missed if any host or this machine has seen its log, and none is
    // where there is no cluster.
    #[test]
    fn a_lost_log_is_missed_by_whoever_looks() {
        let folder = tempfile::tempdir().unwrap();
        let lost = |seen: &[NodeId], with_data: &[NodeId]| {
            let host = |id| {
                let mut host = HostFacts::blank(id);
                host.nodes[0].has_data = with_data.contains(&id);
                host.setting.seen = seen.to_vec();
                (id, host)
            };
            let mut hosts: BTreeMap<NodeId, HostFacts> = (1..=3).map(host).collect();
            let hidden = mark(folder.path(), &mut hosts, &[]).unwrap();
            assert!(hidden.is_empty());
            let is_lost = |id: &NodeId| hosts[id].nodes[0].lost_data;
            (1..=3).filter(is_lost).collect::<Vec<_>>()
        };
        assert!(lost(&[], &[]).is_empty());
        assert!(lost(&[], &[1, 2]).is_empty(), "the third has never run");
        assert_eq!(
            lost(&[1, 2, 3], &[1, 2]),
            [3],
            "another operator has seen it"
        );
        assert_eq!(lost(&[], &[1]), [2], "this machine has");
        assert!(
            lost(&[], &[]).is_empty(),
            "a cluster that was deleted is not missed"
        );
    }

    // While a host that had a log can't be asked, the cluster may be there: only when all answer, and
    // none has anything, it was deleted.
    #[test]
    fn a_silent_host_may_have_the_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let look = |answering: &[NodeId], with_data: &[NodeId], silent: &[NodeId]| {
            let host = |id: &NodeId| {
                let mut host = HostFacts::blank(*id);
                host.nodes[0].has_data = with_data.contains(id);
                (*id, host)
            };
            let mut hosts: BTreeMap<NodeId, HostFacts> = answering.iter().map(host).collect();
            let hidden = mark(folder.path(), &mut hosts, silent).unwrap();
            let is_lost = |id: &&NodeId| hosts[id].nodes[0].lost_data;
            let lost: Vec<NodeId> = answering.iter().filter(is_lost).copied().collect();
            (hidden, lost)
        };
        assert_eq!(look(&[1, 2], &[], &[3]), (vec![], vec![]), "a new cluster");
        add(folder.path(), [3]).unwrap();
        assert_eq!(
            look(&[1, 2], &[], &[3]),
            (vec![3], vec![]),
            "3 was not deleted"
        );
        add(folder.path(), [1, 2]).unwrap();
        assert_eq!(
            look(&[1, 2], &[], &[3]),
            (vec![3], vec![1, 2]),
            "others lost theirs"
        );
        assert_eq!(
            look(&[1, 2], &[1], &[3]),
            (vec![], vec![2]),
            "1 has it all, or waits"
        );
        assert_eq!(look(&[1, 2, 3], &[], &[]), (vec![], vec![]), "deleted");
    }

    // What was seen stays known until the cluster goes.
    #[test]
    fn nodes_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert!(load(&state).is_empty());
        add(&state, [3, 1]).unwrap();
        add(&state, [2]).unwrap();
        assert_eq!(load(&state), BTreeSet::from([1, 2, 3]));
        remove(&state, &[2]).unwrap();
        assert_eq!(load(&state), BTreeSet::from([1, 3]));
        forget(&state).unwrap();
        forget(&state).unwrap();
        assert!(load(&state).is_empty());
    }
}
