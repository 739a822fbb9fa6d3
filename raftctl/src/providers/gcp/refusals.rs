//! Plans that are not carried out: what they would take from a cluster that serves, or from its
//! operator.

use std::collections::{BTreeMap, BTreeSet};

use super::allocation::{Allocation, Placement};
use super::changes::{self, Change};
use super::{Paths, Purpose, tfvars};
use crate::cluster::{Cluster, NodeId, list};
use crate::error::{Error, Result};
use crate::local::{known_logs, state_files};
use crate::transport::ssh::key_pair::{self, KeyPair};

/// A plan, and what it is judged by.
pub struct Judged<'a> {
    /// Whose it is.
    pub cluster: &'a Cluster,
    /// What is decided.
    pub allocation: &'a Allocation,
    /// The nodes that have left the cluster: nobody needs what is on their disks.
    pub gone: &'a BTreeMap<NodeId, Placement>,
    /// The plan as Terraform shows it.
    pub plan: &'a str,
    /// What it does.
    pub changes: &'a [Change],
}

impl Judged<'_> {
    /// The nodes whose data disks are made although they had one with data, by their names in Terraform.
    ///
    /// # Errors
    /// The plan can't be read.
    pub fn blank_disks(&self) -> Result<BTreeSet<String>> {
        let names = |ids: &BTreeSet<NodeId>| -> BTreeSet<String> {
            let placements = ids.iter().filter_map(|id| self.allocation.nodes.get(id));
            placements.map(|placement| placement.name.clone()).collect()
        };
        let seen = names(&known_logs::load(&self.cluster.state_dir()));
        let standing = changes::standing(self.plan)?;
        let members = names(&self.allocation.members);
        Ok(changes::blank_disks(
            self.changes,
            &standing,
            &members,
            &seen,
        ))
    }

    /// Refuses what it would take from a cluster.
    ///
    /// # Errors
    /// As said.
    pub fn refuse(
        &self,
        purpose: Purpose,
        blank: &BTreeSet<String>,
        unseen_disks: Option<&str>,
    ) -> Result<()> {
        let may_lose_data = match purpose {
            Purpose::Up { allow_data_loss } => allow_data_loss,
            Purpose::KeepData => false,
            Purpose::Down => true,
        };
        if !may_lose_data {
            let is_gone = |change: &Change| {
                let mut gone = self.gone.values();
                gone.any(|at| change.key.as_ref() == Some(&at.name))
            };
            let changes = self.changes.iter().filter(|change| !is_gone(change));
            let changes: Vec<Change> = changes.cloned().collect();
            changes::refuse_data_loss(&changes, blank, unseen_disks)?;
        }
        // Before the cluster was up nobody is served, and a first try may have had the wrong machines.
        if matches!(purpose, Purpose::Up { .. }) && !self.allocation.members.is_empty() {
            let retyped = changes::retyped(self.plan)?;
            stops(self.cluster, self.allocation, &retyped)?;
            let renewed = changes::renewed_around_disks(self.changes);
            renewal(self.cluster, self.allocation, &renewed)?;
        }
        Ok(())
    }
}

/// Refuses to give machines that another folder made a key of this one's own, which would shut that
/// one out; also while only their disks are there. A state that lies beside the key can't be another
/// folder's.
///
/// # Errors
/// As said; or the new key can't be deleted.
pub fn foreign(cluster: &Cluster, key: &KeyPair, is_there: bool) -> Result<()> {
    if cluster.gcp.state_bucket.is_none() || !is_there {
        return Ok(());
    }
    let folder = Paths::of(cluster).base;
    // Or the next try would find a key and go on.
    state_files::forget(&key.private)?;
    state_files::forget(&folder.join(key_pair::PUBLIC_FILE))?;
    Err(Error::Usage(format!(
        "refused, nothing was changed: the machines or disks of cluster {} were made from another folder, whose key this \
         one does not have; copy {} from there (gcp.json, {}, {}), or, if it is lost, make a key for the machines \
         to take instead: ssh-keygen -q -t ed25519 -N '' -f {}",
        cluster.name,
        folder.display(),
        key_pair::FILE,
        key_pair::PUBLIC_FILE,
        key.private.display()
    )))
}

/// The nodes with some names in Terraform.
pub fn ids_of(allocation: &Allocation, names: &BTreeSet<String>) -> Vec<NodeId> {
    let nodes = allocation.nodes.iter();
    let named = nodes.filter(|(_, placement)| names.contains(&placement.name));
    named.map(|(id, _)| *id).collect()
}

/// Refuses to delete so many machines at once, to make them anew around their disks, that the others
/// are no majority.
///
/// # Errors
/// As said.
fn renewal(cluster: &Cluster, allocation: &Allocation, renewed: &BTreeSet<String>) -> Result<()> {
    let ids = ids_of(allocation, renewed);
    if ids.is_empty() || cluster.nodes.len() - ids.len() >= cluster.majority() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "refused, nothing was changed: Terraform would delete the machines of {} all at once and make them anew, \
         because of what has changed in cluster.yaml (`spot`, say); no data would be lost, but the cluster would \
         not serve meanwhile: if that may be, run `raftctl down --keep-data`, then this again",
        list(&ids)
    )))
}

/// Refuses to stop machines that run, all at once, to give them another type.
///
/// # Errors
/// As said.
fn stops(cluster: &Cluster, allocation: &Allocation, retyped: &BTreeSet<String>) -> Result<()> {
    let ids = ids_of(allocation, retyped);
    if ids.is_empty() {
        return Ok(());
    }
    let selector = ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    Err(Error::Usage(format!(
        "refused, nothing was changed: Terraform would stop the machines of {} all at once to make them {}; run \
         `raftctl restart {} --vm`, which does so with one after the other while the cluster serves, then run \
         this again",
        list(&ids),
        tfvars::machine_type(cluster),
        selector.join(",")
    )))
}
