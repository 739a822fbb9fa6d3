//! Runs the steps of a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::binary::Binary;
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::control::ProcessState;
use crate::ops::{Context, all_or_partial};
use crate::plan::Step;
use crate::progress::Progress;

/// How long a node may take to hand over leadership, flush and exit.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// The nodes that were left behind, each with the reason.
pub type LeftBehind = BTreeMap<NodeId, Error>;

/// Runs steps one after the other, and stops at the first that fails: what is done stays done, and
/// a new plan begins there. Hosts that can't take the binary are left behind, as long as the
/// others make a majority.
///
/// # Errors
/// Why a step failed.
pub async fn run(
    context: &Context,
    steps: &[Step],
    binary: &Binary,
    timeout: Duration,
    progress: &Progress,
) -> Result<LeftBehind> {
    let mut left_behind = LeftBehind::new();
    for step in steps {
        let step = step.clone().without(|id| left_behind.contains_key(id));
        match &step {
            // Done already: without the binary there is nothing to run.
            Step::Build { .. } => continue,
            Step::Ship { nodes, .. } => {
                left_behind.extend(ship(context, nodes, &step, binary, progress).await?);
                continue;
            }
            step if step.nodes().is_empty() => continue,
            _ => {}
        }
        let running = progress.begin(&step.to_string());
        one(context, &step, binary, timeout).await?;
        running.done();
    }
    Ok(left_behind)
}

/// Sends the binary; those hosts that can't take it.
async fn ship(
    context: &Context,
    nodes: &[NodeId],
    step: &Step,
    binary: &Binary,
    progress: &Progress,
) -> Result<LeftBehind> {
    let running = progress.begin(&step.to_string());
    let uploads = progress.uploads(nodes);
    let outcomes = context.ship(nodes, binary, uploads.watch()).await?;
    let failed = outcomes.values().filter(|outcome| outcome.is_err()).count();
    if context.cluster.nodes.len() - failed < context.cluster.majority() {
        all_or_partial(outcomes, "shipped")?;
        return Ok(LeftBehind::new());
    }
    running.done();
    let failed = outcomes
        .into_iter()
        .filter_map(|(id, outcome)| Some((id, outcome.err()?)));
    Ok(failed.collect())
}

async fn one(context: &Context, step: &Step, binary: &Binary, timeout: Duration) -> Result<()> {
    match step {
        Step::Build { .. } | Step::Ship { .. } => Ok(()),
        Step::Resume { nodes } => all_or_partial(context.resume(nodes).await, "resumed").map(drop),
        Step::Stop { nodes, .. } => {
            all_or_partial(context.stop(nodes, STOP_GRACE).await, "stopped").map(drop)
        }
        Step::Start { nodes, .. } => start(context, nodes, binary).await,
        Step::Restart { node, .. } => restart(context, *node, binary, timeout).await,
        Step::WaitForLeader { nodes } => context.wait_for_leader(nodes, timeout).await.map(drop),
    }
}

/// Starts nodes; one that ended right away is an error that shows what it printed.
///
/// # Errors
/// As said, or a host can't be reached.
pub async fn start(context: &Context, nodes: &[NodeId], binary: &Binary) -> Result<()> {
    let started = all_or_partial(context.start(nodes, binary).await, "started")?;
    let is_dead = |id: &&NodeId| started[*id].1.state == ProcessState::Stopped;
    let dead: Vec<NodeId> = started.keys().filter(is_dead).copied().collect();
    if dead.is_empty() {
        return Ok(());
    }
    Err(context.last_words(&dead).await)
}

/// Stops one node in order, starts it, and waits until it is back. A leader hands over first, at a
/// moment when its successor need not wait for an older lease.
///
/// # Errors
/// It does not stop, start or come back.
pub async fn restart(
    context: &Context,
    node: NodeId,
    binary: &Binary,
    timeout: Duration,
) -> Result<()> {
    if context.leader().await == Some(node) {
        context.wait_for_seasoned(node).await;
    }
    all_or_partial(context.stop(&[node], STOP_GRACE).await, "stopped")?;
    start(context, &[node], binary).await?;
    context.wait_until_back(&[node], timeout).await
}
