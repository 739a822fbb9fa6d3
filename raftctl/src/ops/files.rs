//! Fetching and deleting the files of nodes, dead or alive.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::{Context, timeline};
use crate::cluster::outcomes::Outcomes;
use crate::cluster::{NodeId, Provider};
use crate::error::{Error, Result};
use crate::hosts::control;
use crate::hosts::inventory::Host;
use crate::local::known_logs;
use crate::timeline::Machines;

/// A file of a node, and the parts it may be in, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFile {
    /// What it is called.
    pub name: &'static str,
    /// The files that hold it, in order; those that do not exist are skipped.
    pub parts: &'static [&'static str],
}

/// What happened at the node, in the words of the specification.
pub const DUMP: NodeFile = NodeFile {
    name: "dump.txt",
    parts: &["dump.2.txt", "dump.1.txt", "dump.txt"],
};

/// The node's log.
pub const LOGS: NodeFile = NodeFile {
    name: "logs.txt",
    parts: &["logs.txt"],
};

/// The node's term, vote and indexes.
pub const METADATA: NodeFile = NodeFile {
    name: "metadata.txt",
    parts: &["metadata.txt"],
};

impl Context {
    /// Fetches files of nodes into `<folder>/logs_node_<id>/`; what was written for each node.
    /// Works for nodes that do not run. A file that a node does not have is left out. Beside them it is noted whether
    /// all nodes have one clock.
    pub async fn fetch(
        &self,
        ids: &[NodeId],
        files: &'static [NodeFile],
        folder: &Path,
    ) -> Outcomes<Vec<PathBuf>> {
        let bound = Arc::new(tokio::sync::Semaphore::new(self.cluster.limits.hosts));
        let mut running = JoinSet::new();
        for id in ids.iter().copied() {
            let (context, bound) = (self.clone(), Arc::clone(&bound));
            let into = folder.join(format!("logs_node_{id}"));
            running.spawn(async move {
                // The semaphore is never closed, so there is always a turn.
                let _turn = bound.acquire_owned().await;
                (id, context.fetch_one(id, files, &into).await)
            });
        }
        let outcomes: Outcomes<Vec<PathBuf>> = running.join_all().await.into_iter().collect();
        if outcomes.values().any(Result::is_ok) {
            // Without the note a timeline is only less sure.
            drop(timeline::note_machines(folder, self.machines()));
        }
        outcomes
    }

    /// Whether all nodes run on one machine: as processes, or in containers of one engine.
    fn machines(&self) -> Machines {
        match self.cluster.provider {
            Provider::Local | Provider::Docker => Machines::One,
            Provider::Ssh | Provider::Gcp => Machines::Several,
        }
    }

    async fn fetch_one(&self, id: NodeId, files: &[NodeFile], into: &Path) -> Result<Vec<PathBuf>> {
        tokio::fs::create_dir_all(into)
            .await
            .map_err(|error| Error::file("make the folder", into, &error))?;
        let host = self.inventory.host_of(id);
        let mut written = Vec::new();
        for file in files {
            if let Some(path) = self.fetch_file(host, id, *file, into).await? {
                written.push(path);
            }
        }
        if written.is_empty() {
            return Err(Error::Host {
                host: host.name().to_owned(),
                purpose: format!("fetch the files of node {id}"),
                detail: "there are none; has the node ever run?".into(),
            });
        }
        Ok(written)
    }

    /// Through a temporary file: a file under its name is whole.
    async fn fetch_file(
        &self,
        host: &Host,
        id: NodeId,
        file: NodeFile,
        into: &Path,
    ) -> Result<Option<PathBuf>> {
        let path = into.join(file.name);
        let partial = into.join(format!("{}.part", file.name));
        let local = |error: std::io::Error| Error::file("write", &partial, &error);
        let mut sink = tokio::fs::File::create(&partial).await.map_err(local)?;
        let deadline = self.cluster.limits.total;
        let fetched = control::fetch(host, id, file.parts, &mut sink, deadline).await;
        let flushed = sink.flush().await.map_err(local);
        match fetched.and_then(|found| flushed.map(|()| found)) {
            Ok(true) => {
                tokio::fs::rename(&partial, &path).await.map_err(local)?;
                Ok(Some(path))
            }
            Ok(false) => {
                tokio::fs::remove_file(&partial).await.map_err(local)?;
                Ok(None)
            }
            Err(error) => {
                // The first error is the one to tell; the rest of a file is named as such.
                let _ = tokio::fs::remove_file(&partial).await;
                Err(error)
            }
        }
    }

    /// Removes pid files that crashes left; whether each node had one.
    pub async fn clean(&self, ids: &[NodeId]) -> Outcomes<bool> {
        let deadline = self.cluster.limits.step;
        self.on_hosts(ids, |host, here| async move {
            let cleaned = control::clean(&host, &here, deadline).await?;
            Ok(here.iter().map(|id| (*id, cleaned.contains(id))).collect())
        })
        .await
    }

    /// Remembers nodes that have a log: on this machine, and on every host that answers.
    ///
    /// # Errors
    /// A local file can't be written.
    pub async fn remember(&self, ids: Vec<NodeId>) -> Result<()> {
        known_logs::add(&self.cluster.state_dir(), ids)?;
        let members = self.cluster.ids();
        let known: Vec<NodeId> = known_logs::load(&self.cluster.state_dir())
            .into_iter()
            .filter(|id| members.contains(id))
            .collect();
        let deadline = self.cluster.limits.step;
        // A host that does not answer now is told by the next `up` that changes something.
        drop(
            self.on_hosts(&members, |host, here| {
                let known = known.clone();
                async move {
                    control::remember(&host, &known, deadline).await?;
                    Ok(here.into_iter().map(|id| (id, ())).collect())
                }
            })
            .await,
        );
        Ok(())
    }

    /// Lets nodes begin with nothing whose logs are gone. A host that does not answer is told of when
    /// its node is started.
    pub async fn accept_loss(&self, ids: &[NodeId]) {
        let deadline = self.cluster.limits.step;
        let accepted = self.on_hosts(ids, |host, here| async move {
            control::accept_loss(&host, &here, deadline).await?;
            Ok(here.into_iter().map(|id| (id, ())).collect())
        });
        drop(accepted.await);
    }

    /// Deletes all files of nodes that do not run. A node that runs is an error.
    pub async fn purge(&self, ids: &[NodeId]) -> Outcomes<()> {
        let deadline = self.cluster.limits.step;
        let outcomes = self
            .on_hosts(ids, |host, here| async move {
                let purged = control::purge(&host, &here, deadline).await?;
                Ok(here.iter().map(|id| (*id, purged.contains(id))).collect())
            })
            .await;
        let check = |(id, outcome): (NodeId, Result<bool>)| {
            let outcome = outcome.and_then(|purged| {
                purged.then_some(()).ok_or_else(|| Error::Host {
                    host: self.inventory.host_of(id).name().to_owned(),
                    purpose: format!("delete the files of node {id}"),
                    detail: "it runs, or its folder has another name".into(),
                })
            });
            (id, outcome)
        };
        outcomes.into_iter().map(check).collect()
    }
}
