//! What became of each of several nodes, and the one result of it.

use std::collections::BTreeMap;

use super::NodeId;
use crate::error::{Error, Result};

/// What became of each node.
pub type Outcomes<T> = BTreeMap<NodeId, Result<T>>;

/// One result of many: success where all succeeded; where none did, the error itself if it is the
/// same everywhere, else [`Error::Several`]; else [`Error::Partial`]. Both name every node that
/// failed.
///
/// # Errors
/// As said.
pub fn all_or_partial<T>(outcomes: Outcomes<T>, done: &str) -> Result<BTreeMap<NodeId, T>> {
    let mut succeeded = BTreeMap::new();
    let mut failed: Vec<(NodeId, Error)> = Vec::new();
    for (id, outcome) in outcomes {
        match outcome {
            Ok(value) => drop(succeeded.insert(id, value)),
            Err(error) => failed.push((id, error)),
        }
    }
    let Some((_, first)) = failed.first() else {
        return Ok(succeeded);
    };
    let is_first = |(_, error): &(NodeId, Error)| error.to_string() == first.to_string();
    if !succeeded.is_empty() {
        let failed = failed
            .into_iter()
            .map(|(id, error)| (id, error.to_string()))
            .collect();
        let done = done.to_owned();
        Err(Error::Partial { done, failed })
    } else if failed.iter().all(is_first) {
        Err(first.clone())
    } else {
        let what = format!("not {done} on any of the nodes");
        Err(Error::Several { what, failed })
    }
}

/// The error of nodes without which the others are no majority.
///
/// # Panics
/// When none failed.
#[must_use]
pub fn no_majority<T>(outcomes: Outcomes<T>, done: &str) -> Error {
    let failed = outcomes.into_iter();
    let mut failed: Vec<(NodeId, Error)> = failed
        .filter_map(|(id, outcome)| Some((id, outcome.err()?)))
        .collect();
    assert!(!failed.is_empty(), "there is a majority where none failed");
    let is_first = |(_, error): &(NodeId, Error)| error.to_string() == failed[0].1.to_string();
    if failed.iter().all(is_first) {
        return failed.swap_remove(0).1;
    }
    let what = format!(
        "not {done} on {} of the nodes, and the others are no majority",
        failed.len()
    );
    Error::Several { what, failed }
}
