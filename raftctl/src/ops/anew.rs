//! A cluster that begins anew with a state that is given: as `restore`, `recover` and the trial of a
//! backup have it.
//!
//! All nodes get the same state and the same new cluster id, then they are started as ever, and each is
//! asked what state it has. Everything can be done again: a directory that was made is left as it is.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::task::JoinSet;

use super::run::{self, LeftBehind};
use super::{Context, facts, target};
use crate::cluster::id::ClusterId;
use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::directories::{self, Found, Made, Text};
use crate::local::binary::Binary;
use crate::scripts::directories::Restore;
use crate::terminal::progress::Progress;

/// What the nodes of a cluster are made of.
pub struct State<'a> {
    /// The backup.
    pub text: &'a Text,
    /// The new id.
    pub id: ClusterId,
    /// Whether what is there is moved aside.
    pub sets_aside: bool,
}

/// A text as it is sent to hosts.
///
/// # Errors
/// It can't be compressed.
pub fn pack(plain: Vec<u8>) -> Result<Text> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(2));
    let packed = encoder.write_all(&plain).and_then(|()| encoder.finish());
    let packed = packed.map_err(|error| Error::Other(format!("cannot compress: {error}")))?;
    Ok(Text {
        plain: plain.into(),
        packed: packed.into(),
    })
}

impl Context {
    /// Looks into the directories of nodes, whether those run or not.
    pub async fn inspect(&self, ids: &[NodeId], binary: &Binary) -> Outcomes<Found> {
        let deadline = self.cluster.limits.total;
        self.on_hosts(ids, |host, here| {
            let executable = host.layout.executable(&binary.path);
            async move { directories::inspect(&host, &here, &executable, deadline).await }
        })
        .await
    }

    /// The state of a node that does not run, in the notation of snapshots.
    ///
    /// # Errors
    /// Its host can't be reached, or it has none.
    pub async fn export(&self, id: NodeId, binary: &Binary) -> Result<Vec<u8>> {
        let host = self.inventory.host_of(id);
        let executable = host.layout.executable(&binary.path);
        let mut text = Vec::new();
        let deadline = self.cluster.limits.total;
        directories::export(host, id, &executable, &mut text, deadline).await?;
        Ok(text)
    }

    /// Makes the directories of nodes that do not run.
    pub async fn make_directories(
        &self,
        ids: &[NodeId],
        binary: &Binary,
        state: &State<'_>,
    ) -> Outcomes<Made> {
        let bound = Arc::new(tokio::sync::Semaphore::new(self.cluster.limits.uploads));
        let voters: Vec<String> = self.cluster.ids().iter().map(NodeId::to_string).collect();
        let voters = voters.join(",");
        let mut running = JoinSet::new();
        for id in ids.iter().copied() {
            let (host, bound) = (self.inventory.host_of(id).clone(), Arc::clone(&bound));
            let (text, cluster_id) = (state.text.clone(), state.id.to_string());
            let voters = voters.clone();
            let executable = host.layout.executable(&binary.path);
            let data_dir = host.layout.node(id).data_dir;
            let aside = format!("{data_dir}.before-{}", state.id.short());
            let aside = state.sets_aside.then_some(aside);
            let deadline = self.cluster.limits.total;
            running.spawn(async move {
                // The semaphore is never closed, so there is always a turn.
                let _turn = bound.acquire_owned().await;
                let what = Restore {
                    executable: &executable,
                    cluster_id: &cluster_id,
                    voters: &voters,
                    is_packed: host.layout.is_remote,
                    aside: aside.as_deref(),
                };
                (
                    id,
                    directories::restore(&host, id, &text, &what, deadline).await,
                )
            });
        }
        running.join_all().await.into_iter().collect()
    }

    /// Whether nodes that run began with a state that was made.
    pub async fn began_with(&self, ids: &[NodeId], made: &Made) -> Outcomes<()> {
        let compare = |(id, reply): (NodeId, Result<raftkv::admin::StatusReply, _>)| {
            let told = match reply {
                Ok(reply) => (reply.snapshot_index, format!("{:08x}", reply.snapshot_hash)),
                Err(error) => {
                    let error: crate::admin::AdminError = error;
                    return (id, Err(Error::NoLeader(error.to_string())));
                }
            };
            let is_same = told == (made.index, made.hash.clone());
            let differs = || {
                let (index, hash) = told;
                let (wanted, at) = (&made.hash, made.index);
                Error::CheckFailed(format!(
                    "its state after entry {index} has the hash {hash}, and should have {wanted} \
                     after entry {at}"
                ))
            };
            (id, is_same.then_some(()).ok_or_else(differs))
        };
        self.replies(ids).await.into_iter().map(compare).collect()
    }
}

/// Makes the directories of nodes, all or it is an error. What was made, the same everywhere.
///
/// # Errors
/// A host can't be reached, or has something there already; each node is named.
pub async fn make(
    context: &Context,
    ids: &[NodeId],
    binary: &Binary,
    state: &State<'_>,
    progress: &Progress,
) -> Result<Made> {
    if context.has_remote_hosts() {
        let step = progress.begin(&format!("send raft-node to {}", list(ids)));
        let hosts = progress.hosts(context.names(ids));
        let shipped = context.ship(ids, binary, hosts.watch()).await?;
        all_or_partial(shipped, "shipped")?;
        step.done();
    }
    let step = progress.begin(&format!("make the directories of {}", list(ids)));
    let made = context.make_directories(ids, binary, state).await;
    let made: BTreeMap<NodeId, Made> = all_or_partial(made, "made")?;
    step.done();
    let mut all = made.into_values();
    let Some(first) = all.next() else {
        return Err(Error::Other("there is no node to make".into()));
    };
    match all.find(|other| (other.index, &other.hash) != (first.index, &first.hash)) {
        None => Ok(first),
        Some(other) => Err(Error::CheckFailed(format!(
            "hosts made different states of one backup: {} and {}",
            first.hash, other.hash
        ))),
    }
}

/// Starts the nodes, and waits for a leader; then asks each for the state that it began with.
///
/// # Errors
/// No majority comes up; a node has another state.
pub async fn start(
    context: &Context,
    binary: &Binary,
    id: ClusterId,
    made: &Made,
    timeout: Option<Duration>,
    progress: &Progress,
) -> Result<LeftBehind> {
    let facts = facts::gather_workable(context, false).await?;
    if context.identity.known() != Some(id) {
        let text = format!("the hosts do not say that the cluster has the id {id} now");
        return Err(Error::CheckFailed(text));
    }
    let steps = target::steps_with(context, binary, &facts)?;
    let timeout = timeout.unwrap_or(run::TIMEOUT);
    let left_behind = facts.left_behind;
    let left_behind = run::run(context, &steps, binary, timeout, progress, left_behind).await?;
    let ids = context.cluster.ids().into_iter();
    let up: Vec<NodeId> = ids.filter(|id| !left_behind.contains_key(id)).collect();
    if context.has_remote_hosts() {
        context.remember(up.clone()).await?;
    }
    let step = progress.begin("compare the state of every node");
    all_or_partial(
        context.began_with(&up, made).await,
        "found as it was restored",
    )?;
    step.done();
    Ok(left_behind)
}
