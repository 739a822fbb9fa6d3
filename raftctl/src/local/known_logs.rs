//! Which nodes have had a log, as far as this machine knows.
//!
//! A host that lost its disk looks like one that is new. A node that begins with nothing under an
//! old id may vote twice and forget what it acknowledged, so `up` asks before it does that. The
//! file is a memory, not a source: without it, what the hosts themselves remember still counts.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::local::state_files;

const FILE: &str = "nodes_with_data.json";

/// The nodes that were seen with a log. None where the file is not there, or makes no sense.
#[must_use]
pub fn load(state_dir: &Path) -> BTreeSet<NodeId> {
    let text = std::fs::read_to_string(state_dir.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
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
    state_files::replace(&path, &text)
}

/// Forgets them all, with the cluster.
///
/// # Errors
/// The file can't be deleted.
pub fn forget(state_dir: &Path) -> Result<()> {
    state_files::forget(&state_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

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
