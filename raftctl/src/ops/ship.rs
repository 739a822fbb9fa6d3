//! Sending the binary to hosts.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Context;
use crate::cluster::NodeId;
use crate::cluster::outcomes::Outcomes;
use crate::error::{Error, Result};
use crate::hosts::control::HostFacts;
use crate::hosts::ship::{self, Parcel};
use crate::local::binary::Binary;
use crate::terminal::progress::Upload;

/// Is told of a node's upload.
pub type Watch = Arc<dyn Fn(NodeId, Upload) + Send + Sync>;

impl Context {
    /// Makes a binary the current one on the hosts of nodes; sends it, at most `limits.uploads` at
    /// a time, where it is not there yet.
    ///
    /// # Errors
    /// The binary can't be read. What fails on a host is that node's outcome.
    pub async fn ship(
        &self,
        ids: &[NodeId],
        binary: &Binary,
        watch: Watch,
    ) -> Result<Outcomes<()>> {
        let deadline = self.cluster.limits.step;
        let active = self
            .on_hosts(ids, |host, here| {
                let sha256 = binary.sha256.clone();
                async move {
                    let active = ship::activate(&host, &sha256, deadline).await?;
                    Ok(here.iter().map(|id| (*id, active)).collect())
                }
            })
            .await;
        let mut outcomes = Outcomes::new();
        let mut missing = Vec::new();
        for (id, outcome) in active {
            match outcome {
                Ok(false) => missing.push(id),
                Ok(true) => drop(outcomes.insert(id, Ok(()))),
                Err(error) => drop(outcomes.insert(id, Err(error))),
            }
        }
        if !missing.is_empty() {
            outcomes.extend(self.send(&missing, binary, watch).await?);
        }
        Ok(outcomes)
    }

    async fn send(&self, ids: &[NodeId], binary: &Binary, watch: Watch) -> Result<Outcomes<()>> {
        let packing = binary.clone();
        let parcel = tokio::task::spawn_blocking(move || Parcel::pack(&packing)).await;
        let parcel =
            parcel.map_err(|error| Error::Other(format!("cannot compress: {error}")))??;
        let facts = self.host_facts().await;
        let bound = Arc::new(tokio::sync::Semaphore::new(self.cluster.limits.uploads));
        let mut running = JoinSet::new();
        for id in ids.iter().copied() {
            let host = self.inventory.host_of(id).clone();
            let fits = fits(&facts, id, host.name(), &parcel);
            let (parcel, bound, watch) = (parcel.clone(), Arc::clone(&bound), Arc::clone(&watch));
            let deadline = self.cluster.limits.total;
            running.spawn(async move {
                // The semaphore is never closed, so there is always a turn.
                let _turn = bound.acquire_owned().await;
                let size_bytes = parcel.size_bytes();
                let tell = |sent| watch(id, Upload::Sent(sent, size_bytes));
                let sent = match fits {
                    Ok(()) => ship::send(&host, &parcel, deadline, &tell).await,
                    Err(error) => Err(error),
                };
                watch(id, Upload::Ended(sent.is_ok()));
                (id, sent)
            });
        }
        Ok(running.join_all().await.into_iter().collect())
    }

    /// Makes an older release, by its name, the current one on the hosts of nodes; `false` where it
    /// is not there.
    pub async fn go_back(&self, ids: &[NodeId], release: &str) -> Outcomes<bool> {
        let deadline = self.cluster.limits.step;
        self.on_hosts(ids, |host, here| {
            let release = release.to_owned();
            async move {
                let is_there = ship::go_back(&host, &release, deadline).await?;
                Ok(here.iter().map(|id| (*id, is_there)).collect())
            }
        })
        .await
    }

    /// Up to which format an older release, by its name, reads on the hosts of nodes.
    pub async fn reads_format(&self, ids: &[NodeId], release: &str) -> Outcomes<Option<u64>> {
        let deadline = self.cluster.limits.step;
        self.on_hosts(ids, |host, here| {
            let release = release.to_owned();
            async move {
                let reads = ship::reads_format(&host, &release, deadline).await?;
                Ok(here.iter().map(|id| (*id, reads)).collect())
            }
        })
        .await
    }
}

fn fits(facts: &Outcomes<HostFacts>, id: NodeId, host: &str, parcel: &Parcel) -> Result<()> {
    match facts.get(&id) {
        Some(Ok(facts)) => ship::check_machine(host, &facts.machine, parcel),
        // The upload itself tells what is wrong.
        Some(Err(_)) | None => Ok(()),
    }
}
