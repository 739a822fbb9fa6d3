//! Where hosts come from: cluster.yaml -> the hosts of a cluster, and which node is on which.
//!
//! A provider is a module that says so for one word after `provider:`, and a row in [`of`]. What is
//! done on a host, once there is one, is the same for all of them (see [`crate::hosts`]).

pub mod docker;
mod finding;
pub mod gcp;
mod local;
pub mod ssh;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, NodeId, Provider};
use crate::error::Result;
use crate::hosts::inventory::Inventory;
use crate::transport::BoxFuture;
pub use finding::{Finding, Verdict};

/// Something that is not as it should be, and what to do about it.
pub type Trouble = (String, String);

/// How the machines of a cluster are, beside what their nodes say.
pub struct MachineStates {
    /// For people: a line for each machine that ends soon, or is off, or gone.
    pub text: String,
    /// For programs, by node.
    pub json: Value,
    /// What the last change of the infrastructure has left in doubt.
    pub in_doubt: Option<String>,
}

/// What becomes of the host of a node that left its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// It stays, with the node's files: it is not raftctl's.
    Stays,
    /// It is deleted.
    Deleted,
    /// It is deleted when all that left are taken down.
    DeletedNext,
}

/// What a provider knows of its machines that those who log in to them can't see.
#[derive(Debug, Default)]
pub struct Overview {
    /// What a change that did not end well has left.
    pub remarks: Vec<Trouble>,
    /// The nodes whose machines do not run.
    pub not_running: BTreeMap<NodeId, Trouble>,
    /// Why it is not known which machines run.
    pub unseen: Option<String>,
}

/// A way to come by the hosts of a cluster. None of its functions makes a host.
trait Hosting: Sync {
    /// The hosts as they were found last. Connects to none.
    ///
    /// # Errors
    /// The provider can't tell.
    fn open<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Result<Inventory>>;

    /// The hosts after a look at those that are not known yet; with `again` at all of them. One that
    /// does not answer within `deadline` is no error: whoever runs a script there learns why. Where
    /// there is nothing to look for, they are as they are.
    ///
    /// # Errors
    /// The provider can't tell.
    fn look<'a>(
        &self,
        cluster: &'a Cluster,
        _again: bool,
        _deadline: Duration,
    ) -> BoxFuture<'a, Result<Inventory>> {
        self.open(cluster)
    }

    /// What an operator may not expect of the hosts, each with what to do about it. Hosts that raftctl
    /// makes are as it makes them.
    fn remarks(&self, _: &Cluster) -> Vec<(String, &'static str)> {
        Vec::new()
    }

    /// What can be known before any machine is made; nothing where raftctl makes none.
    ///
    /// # Errors
    /// What is kept about the cluster is damaged.
    fn findings<'a>(&self, _: &'a Cluster) -> BoxFuture<'a, Result<Vec<Finding>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// How the machines are; `None` where raftctl makes none.
    fn machine_states<'a>(&self, _: &'a Cluster) -> BoxFuture<'a, Option<MachineStates>> {
        Box::pin(async { None })
    }

    /// What is known of the machines beside that; nothing where raftctl makes none.
    fn overview<'a>(&self, _: &'a Cluster) -> BoxFuture<'a, Overview> {
        Box::pin(async { Overview::default() })
    }

    /// Makes what hosts are missing, where that is soon done and costs nothing.
    ///
    /// # Errors
    /// The provider refuses.
    fn make_hosts<'a>(&self, _: &'a Cluster) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Deletes the hosts of nodes that left the cluster, where raftctl made them, and that is soon done.
    ///
    /// # Errors
    /// The provider refuses.
    fn take_away(&self, _: &Cluster, _ids: &[NodeId]) -> Result<Aftermath> {
        Ok(Aftermath::Stays)
    }

    /// The nodes that can't stay what they are with cluster.yaml as it is, so that others have to come in their place.
    ///
    /// # Errors
    /// What is kept about the cluster is damaged.
    fn moved(&self, _: &Cluster) -> Result<Vec<NodeId>> {
        Ok(Vec::new())
    }

    /// Containers on this machine that raftctl made for a cluster whose folder is gone.
    fn orphans(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The one place that knows every provider.
fn of(cluster: &Cluster) -> &'static dyn Hosting {
    match cluster.provider {
        Provider::Local => &local::Local,
        Provider::Ssh => &ssh::Ssh,
        Provider::Docker => &docker::Docker,
        Provider::Gcp => &gcp::Gcp,
    }
}

/// The hosts of a cluster as they are now, without making any.
///
/// # Errors
/// The provider can't tell.
pub async fn open(cluster: &Cluster) -> Result<Inventory> {
    of(cluster).open(cluster).await
}

/// The hosts of a cluster after a look at those that are not known yet; with `again` at all of them.
///
/// # Errors
/// The provider can't tell.
pub async fn look(cluster: &Cluster, again: bool) -> Result<Inventory> {
    of(cluster)
        .look(cluster, again, cluster.limits.login())
        .await
}

/// The hosts of a cluster for whoever can do without those that have never been reached, and do not
/// answer at once.
///
/// # Errors
/// The provider can't tell.
pub async fn look_briefly(cluster: &Cluster) -> Result<Inventory> {
    const PATIENCE: Duration = Duration::from_millis(1300);
    let patience = PATIENCE.min(cluster.limits.connect);
    of(cluster).look(cluster, false, patience).await
}

/// Makes what hosts are missing, where that is soon done and costs nothing.
///
/// # Errors
/// The provider refuses.
pub async fn make_hosts(cluster: &Cluster) -> Result<()> {
    of(cluster).make_hosts(cluster).await
}

/// Deletes the hosts of nodes that left the cluster, where raftctl made them, and that is soon done.
///
/// # Errors
/// The provider refuses.
pub fn take_away(cluster: &Cluster, ids: &[NodeId]) -> Result<Aftermath> {
    of(cluster).take_away(cluster, ids)
}

/// The nodes that can't stay what they are with cluster.yaml as it is, so that others have to come in their place.
///
/// # Errors
/// What is kept about the cluster is damaged.
pub fn moved(cluster: &Cluster) -> Result<Vec<NodeId>> {
    of(cluster).moved(cluster)
}

/// What an operator may not expect of the hosts, each with what to do about it.
#[must_use]
pub fn remarks(cluster: &Cluster) -> Vec<(String, &'static str)> {
    of(cluster).remarks(cluster)
}

/// Containers on this machine that raftctl made for a cluster whose folder is gone.
#[must_use]
pub fn orphans(cluster: &Cluster) -> Vec<String> {
    of(cluster).orphans()
}

/// What can be known before any machine is made; nothing where raftctl makes none.
///
/// # Errors
/// What is kept about the cluster is damaged.
pub async fn findings(cluster: &Cluster) -> Result<Vec<Finding>> {
    of(cluster).findings(cluster).await
}

/// How the machines are; `None` where raftctl makes none.
pub async fn machine_states(cluster: &Cluster) -> Option<MachineStates> {
    of(cluster).machine_states(cluster).await
}

/// What is known of the machines that those who log in to them can't see; nothing where raftctl makes none.
pub async fn overview(cluster: &Cluster) -> Overview {
    of(cluster).overview(cluster).await
}
