//! How this machine reaches addresses by which nodes know each other.
//!
//! Whom a client was not given it learns of from the nodes, by an address that may mean something among them alone: the
//! name of a container, a host behind another one. Whoever opens a cluster notes here what this machine has to
//! ask instead.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

static BY_ADDRESS: RwLock<BTreeMap<String, String>> = RwLock::new(BTreeMap::new());

/// Notes ways: from the address that nodes tell to the one that is asked.
pub fn note<'a>(ways: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut noted = BY_ADDRESS.write().unwrap_or_else(PoisonError::into_inner);
    for (told, asked) in ways {
        if told == asked {
            noted.remove(told);
        } else {
            noted.insert(told.to_owned(), asked.to_owned());
        }
    }
}

/// What is asked for an address that a node told.
#[must_use]
pub fn to(told: &str) -> String {
    let noted = BY_ADDRESS.read().unwrap_or_else(PoisonError::into_inner);
    noted.get(told).map_or(told, String::as_str).to_owned()
}
