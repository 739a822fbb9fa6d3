//! What the verbs do to a cluster, as a library: nothing here asks, exits or prints a result. What is being
//! done is told through a `Progress` that is handed in.
//!
//! Everything starts from a [`Context`]. Functions that act on several nodes do so in parallel and
//! answer for each node by itself: a host that fails never hides the others.

pub mod alarms;
pub mod anew;
pub mod backup;
pub mod certificates;
pub mod exec;
pub mod facts;
pub mod files;
pub mod guests;
pub mod identity;
pub mod links;
pub mod lock;
pub mod members;
pub mod nodes;
pub mod rates;
pub mod rollback;
pub mod run;
pub mod ship;
pub mod snapshots;
pub mod status;
pub mod store;
pub mod target;
pub mod timeline;
pub mod wait;
pub mod watch;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::client::ways;
use crate::cluster::outcomes::Outcomes;
use crate::cluster::{Cluster, NodeId};
use crate::error::Result;
use crate::hosts::inventory::{Host, Inventory};
use crate::providers;
use identity::Identity;

/// A cluster to work on. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// What it is to be.
    pub cluster: Arc<Cluster>,
    /// Where its nodes are.
    pub inventory: Arc<Inventory>,
    /// Its id, as far as its hosts were asked for it.
    pub identity: Identity,
}

impl Context {
    /// A cluster on the hosts that it has now.
    ///
    /// # Errors
    /// The provider can't tell where they are.
    pub async fn open(cluster: Cluster) -> Result<Self> {
        let inventory = providers::open(&cluster).await?;
        Ok(Context::of(cluster, inventory))
    }

    /// A cluster on the hosts that it has now, after a look at those that are not known yet; with
    /// `again` at all of them. Hosts that do not answer are no error here.
    ///
    /// # Errors
    /// The provider can't tell where they are.
    pub async fn look(cluster: Cluster, again: bool) -> Result<Self> {
        let inventory = providers::look(&cluster, again).await?;
        Ok(Context::of(cluster, inventory))
    }

    /// A cluster on the hosts that answer at once, for whoever only wants to see what there is to see.
    ///
    /// # Errors
    /// The provider can't tell where they are.
    pub async fn look_briefly(cluster: Cluster) -> Result<Self> {
        let inventory = providers::look_briefly(&cluster).await?;
        Ok(Context::of(cluster, inventory))
    }

    fn of(cluster: Cluster, inventory: Inventory) -> Self {
        let context = Context {
            cluster: Arc::new(cluster),
            inventory: Arc::new(inventory),
            identity: Identity::default(),
        };
        context.note_security();
        let members = context.inventory.members.iter();
        ways::note(members.map(|member| (&*member.client_address, &*member.admin_address)));
        context.keep_own_certificate();
        context
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
