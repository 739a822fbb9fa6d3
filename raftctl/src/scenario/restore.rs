//! Puts a cluster back as it was: whatever a scenario did to it, and wherever it was interrupted.

use std::time::Duration;

use crate::binary::Binary;
use crate::client::Client;
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::control::ProcessState;
use crate::keys;
use crate::ops::wait::list;
use crate::ops::{Context, all_or_partial};
use crate::run;

/// What a machine under load may add to what the cluster's timing makes reasonable.
const SLACK: Duration = Duration::from_secs(20);

/// Makes sure that a cluster has as many nodes as a scenario is for.
///
/// # Errors
/// It has not.
pub fn check_size(context: &Context, nodes: usize) -> Result<()> {
    let cluster = &context.cluster;
    if cluster.nodes.len() == nodes {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "this scenario is for {nodes} nodes, and cluster {} has {}; change `nodes` in a \
         cluster.yaml of its own, and run it there",
        cluster.name,
        cluster.nodes.len()
    )))
}

/// Makes sure that a run can begin: every node runs, and one leads.
///
/// # Errors
/// What is missing, and what to do.
pub async fn check_running(context: &Context) -> Result<()> {
    let ids = context.cluster.ids();
    let facts = all_or_partial(context.node_facts(&ids).await, "looked at")?;
    let idle = |id: &NodeId| facts[id].state != ProcessState::Running;
    let idle: Vec<NodeId> = ids.iter().copied().filter(idle).collect();
    if idle.is_empty() {
        let limit = context.cluster.timing.recovery() + SLACK;
        return context.wait_for_leader(&ids, limit).await.map(drop);
    }
    Err(Error::NoLeader(format!(
        "scenarios need every node running, and {} of cluster {} {} not; bring it up first: \
         raftctl up",
        list(&idle),
        context.cluster.name,
        if idle.len() == 1 { "is" } else { "are" }
    )))
}

/// Heals, resumes and starts what a scenario left, and waits until the cluster is well.
///
/// # Errors
/// What could not be put back.
pub async fn restore(context: &Context, binary: &Binary) -> Result<()> {
    let ids = context.cluster.ids();
    let facts = all_or_partial(context.node_facts(&ids).await, "looked at")?;
    let in_state = |state| -> Vec<NodeId> {
        ids.iter()
            .copied()
            .filter(|id| facts[id].state == state)
            .collect()
    };
    let paused = in_state(ProcessState::Paused);
    if !paused.is_empty() {
        all_or_partial(context.resume(&paused).await, "resumed")?;
    }
    let stopped = in_state(ProcessState::Stopped);
    if !stopped.is_empty() {
        run::start(context, &stopped, binary).await?;
    }
    heal(context).await?;
    let limit = context.cluster.timing.recovery() + SLACK;
    context.wait_for_leader(&ids, limit).await.map(drop)
}

/// Removes keys that a run has written.
///
/// # Errors
/// No leader within reasonable time.
pub async fn remove(context: &Context, keys: impl IntoIterator<Item = &String>) -> Result<()> {
    let limit = context.cluster.timing.recovery() + SLACK;
    let mut client = Client::new(&keys::members(context)).with_timeout(limit);
    for key in keys {
        client.delete(key).await?;
    }
    Ok(())
}

/// Undoes the cuts that are there. Most scenarios make none, and nodes that do not allow them have
/// none.
async fn heal(context: &Context) -> Result<()> {
    let replies = context.replies(&context.cluster.ids()).await;
    let is_cut = |reply: &raftkv::admin::StatusReply| !reply.cut_links.is_empty();
    let cut = replies
        .into_iter()
        .filter(|(_, reply)| reply.as_ref().is_ok_and(is_cut));
    let cut: Vec<NodeId> = cut.map(|(id, _)| id).collect();
    if cut.is_empty() {
        return Ok(());
    }
    all_or_partial(context.heal(&cut).await, "healed").map(drop)
}
