//! What the verbs do to a cluster, as a library: nothing here prints, asks or exits, but for a note
//! about a host that can't be locked.
//!
//! Everything starts from a [`Context`]. Functions that act on several nodes do so in parallel and
//! answer for each node by itself: a host that fails never hides the others.

pub mod exec;
pub mod files;
pub mod filter;
pub mod guard;
pub mod links;
pub mod nodes;
pub mod rollback;
pub mod seen;
pub mod ship;
pub mod status;
pub mod wait;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};
use crate::hosts::inventory::{Host, Inventory};

/// What became of each node.
pub type Outcomes<T> = BTreeMap<NodeId, Result<T>>;

/// A cluster to work on. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// What it is to be.
    pub cluster: Arc<Cluster>,
    /// Where its nodes are.
    pub inventory: Arc<Inventory>,
}

impl Context {
    /// A cluster on the hosts that it has now.
    ///
    /// # Errors
    /// The provider can't tell where they are.
    pub async fn open(cluster: Cluster) -> Result<Self> {
        let inventory = Inventory::open(&cluster).await?;
        Ok(Context {
            cluster: Arc::new(cluster),
            inventory: Arc::new(inventory),
        })
    }

    /// A cluster on the hosts that it has now, after a look at those that are not known yet; with
    /// `again` at all of them. Hosts that do not answer are no error here.
    ///
    /// # Errors
    /// The provider can't tell where they are.
    pub async fn reach(cluster: Cluster, again: bool) -> Result<Self> {
        let inventory = Inventory::reach(&cluster, again).await?;
        Ok(Context {
            cluster: Arc::new(cluster),
            inventory: Arc::new(inventory),
        })
    }

    /// The same for whoever only wants to see what is there to be seen at once.
    ///
    /// # Errors
    /// The provider can't tell where they are.
    pub async fn glance(cluster: Cluster) -> Result<Self> {
        let inventory = Inventory::glance(&cluster).await?;
        Ok(Context {
            cluster: Arc::new(cluster),
            inventory: Arc::new(inventory),
        })
    }

    /// Nodes with what the operator calls their hosts.
    #[must_use]
    pub fn names(&self, ids: &[NodeId]) -> Vec<(NodeId, String)> {
        let name = |id: &NodeId| (*id, self.inventory.host_of(*id).name().to_owned());
        ids.iter().map(name).collect()
    }

    /// Whether nodes live on hosts of their own, and not on this machine.
    #[must_use]
    pub fn has_remote_hosts(&self) -> bool {
        self.inventory
            .hosts
            .iter()
            .any(|host| host.layout.is_remote)
    }

    /// Runs `act` on each host that has some of the nodes, at most `limits.hosts` at a time, and
    /// gives each node its own part of the answer. An error of the host is one of all its nodes.
    async fn on_hosts<T, Act, Acting>(&self, ids: &[NodeId], act: Act) -> Outcomes<T>
    where
        T: Send + 'static,
        Act: Fn(Host, Vec<NodeId>) -> Acting,
        Acting: Future<Output = Result<Vec<(NodeId, T)>>> + Send + 'static,
    {
        let bound = Arc::new(tokio::sync::Semaphore::new(self.cluster.limits.hosts));
        let mut running = JoinSet::new();
        for host in &self.inventory.hosts {
            let here: Vec<NodeId> = ids
                .iter()
                .copied()
                .filter(|id| host.nodes.contains(id))
                .collect();
            if here.is_empty() {
                continue;
            }
            let bound = Arc::clone(&bound);
            let acting = act(host.clone(), here.clone());
            running.spawn(async move {
                // The semaphore is never closed, so there is always a turn.
                let _turn = bound.acquire_owned().await;
                (here, acting.await)
            });
        }
        let mut outcomes = Outcomes::new();
        while let Some(joined) = running.join_next().await {
            let (here, answers) = match joined {
                Ok(done) => done,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            match answers {
                Ok(answers) => {
                    outcomes.extend(answers.into_iter().map(|(id, value)| (id, Ok(value))))
                }
                Err(error) => {
                    let copies = here.iter().map(|id| (*id, Err(error.clone())));
                    outcomes.extend(copies);
                }
            }
        }
        outcomes
    }
}

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
