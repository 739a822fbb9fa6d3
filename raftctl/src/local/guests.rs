//! Which nodes trials have brought to the cluster, by their ids: what a trial takes away must be its own.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::local::state_files;

const FILE: &str = "guests.json";

/// The nodes that were brought, and not taken down since. None where the file is not there, or makes no sense.
#[must_use]
pub fn load(state_dir: &Path) -> BTreeSet<NodeId> {
    let text = std::fs::read_to_string(state_dir.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Remembers nodes that are about to be brought.
///
/// # Errors
/// The file can't be written.
pub fn add(state_dir: &Path, ids: &[NodeId]) -> Result<()> {
    let mut all = load(state_dir);
    all.extend(ids);
    write(state_dir, &all)
}

/// Forgets nodes that were taken down.
///
/// # Errors
/// The file can't be written.
pub fn remove(state_dir: &Path, ids: &[NodeId]) -> Result<()> {
    let mut all = load(state_dir);
    let before = all.len();
    all.retain(|id| !ids.contains(id));
    match (all.len() == before, all.is_empty()) {
        (true, _) => Ok(()),
        (_, true) => state_files::forget(&state_dir.join(FILE)),
        _ => write(state_dir, &all),
    }
}

fn write(state_dir: &Path, all: &BTreeSet<NodeId>) -> Result<()> {
    std::fs::create_dir_all(state_dir)
        .map_err(|error| Error::file("make the folder", state_dir, &error))?;
    let text = format!("{}\n", serde_json::json!(all));
    state_files::replace(&state_dir.join(FILE), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whoever was brought is known until it is taken down, and nothing is left of the last one.
    #[test]
    fn guests_are_known_until_they_go() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = folder.path().join("state");
        assert!(load(&state_dir).is_empty());
        remove(&state_dir, &[4]).unwrap();
        add(&state_dir, &[6]).unwrap();
        add(&state_dir, &[6, 7]).unwrap();
        assert_eq!(load(&state_dir), [6, 7].into());
        remove(&state_dir, &[6]).unwrap();
        assert_eq!(load(&state_dir), [7].into());
        remove(&state_dir, &[5, 7]).unwrap();
        assert!(!state_dir.join(FILE).exists());
    }
}
