//! `kill`, `stop`, `start`, `restart`, `pause`, `resume`, `transfer`.

use std::time::Duration;

use crate::admin;
use crate::cli::Options;
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::control::{ProcessState, Signalled};
use crate::lock::{Lock, WAIT};
use crate::ops::wait::list;
use crate::ops::{Context, Outcomes, all_or_partial};
use crate::out;
use crate::progress::Progress;
use crate::run;
use crate::verbs::{select, up};

/// A verb that sends nodes a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
}

impl Signal {
    fn verb(self) -> &'static str {
        match self {
            Signal::Kill => "kill",
            Signal::Stop => "stop",
            Signal::Pause => "pause",
            Signal::Resume => "resume",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Signal::Kill => "killed",
            Signal::Stop => "stopped",
            Signal::Pause => "paused",
            Signal::Resume => "resumed",
        }
    }

    /// The state in which there is nothing to do.
    fn already(self) -> ProcessState {
        match self {
            Signal::Kill | Signal::Stop => ProcessState::Stopped,
            Signal::Pause => ProcessState::Paused,
            Signal::Resume => ProcessState::Running,
        }
    }
}

/// Sends a signal to the nodes of a selector, and says what became of each.
///
/// # Errors
/// The selector names none; a node does not obey.
pub async fn signal(context: &Context, signal: Signal, selector: &str) -> Result<()> {
    let _lock = Lock::take(&context.cluster, signal.verb(), WAIT).await?;
    let ids = select(context, selector).await?;
    let outcomes = match signal {
        Signal::Kill => context.kill(&ids).await,
        Signal::Stop => context.stop(&ids, run::STOP_GRACE).await,
        Signal::Pause => context.pause(&ids).await,
        Signal::Resume => context.resume(&ids).await,
    };
    tell(signal, &outcomes)?;
    all_or_partial(outcomes, signal.done()).map(drop)
}

fn tell(signal: Signal, outcomes: &Outcomes<Signalled>) -> Result<()> {
    for (id, outcome) in outcomes {
        let Ok(answer) = outcome else {
            continue; // Told as an error afterwards.
        };
        if answer.was == signal.already() {
            let state = match answer.was {
                ProcessState::Stopped => "was not running",
                ProcessState::Paused => "was paused already",
                ProcessState::Running => "was not paused",
            };
            out::line(&format!("node {id} {state}"))?;
        } else {
            out::line(&format!("node {id} {}", signal.done()))?;
        }
    }
    Ok(())
}

/// Starts the nodes of a selector that do not run, and waits until they are back.
///
/// # Errors
/// The selector names none; a node does not come up.
pub async fn start(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let progress = Progress::new();
    let _lock = Lock::take(&context.cluster, "start", WAIT).await?;
    let ids = select(context, selector).await?;
    let stopped = stopped(context, &ids).await?;
    for id in ids.iter().filter(|id| !stopped.contains(id)) {
        out::line(&format!("node {id} was running already"))?;
    }
    bring_back(context, options, &stopped, &progress).await
}

/// Stops the nodes of a selector in order, one after the other, and starts them again; nodes that
/// do not run are started.
///
/// # Errors
/// The selector names none; a node does not stop, or does not come back.
pub async fn restart(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let progress = Progress::new();
    let _lock = Lock::take(&context.cluster, "restart", WAIT).await?;
    let ids = select(context, selector).await?;
    let stopped = stopped(context, &ids).await?;
    bring_back(context, options, &stopped, &progress).await?;
    let binary = up::obtain(context, &progress)?;
    let mut running: Vec<NodeId> = ids.into_iter().filter(|id| !stopped.contains(id)).collect();
    // The leader last: each of the others would else be a likely next leader, and be moved again.
    let leader = context.leader().await;
    running.sort_by_key(|id| (Some(*id) == leader, *id));
    for id in running {
        let step = progress.begin(&format!("restart node {id}"));
        run::restart(context, id, &binary, options.timeout.unwrap_or(up::TIMEOUT)).await?;
        step.done();
        out::line(&format!("node {id} restarted"))?;
    }
    Ok(())
}

/// Of these nodes, those that do not run.
async fn stopped(context: &Context, ids: &[NodeId]) -> Result<Vec<NodeId>> {
    let facts = all_or_partial(context.node_facts(ids).await, "looked at")?;
    let is_stopped = |id: &NodeId| facts[id].state == ProcessState::Stopped;
    Ok(ids.iter().copied().filter(is_stopped).collect())
}

/// Starts nodes and waits until they are back.
async fn bring_back(
    context: &Context,
    options: &Options,
    ids: &[NodeId],
    progress: &Progress,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let binary = up::obtain(context, progress)?;
    let step = progress.begin(&format!("start {}", list(ids)));
    run::start(context, ids, &binary).await?;
    context
        .wait_until_back(ids, options.timeout.unwrap_or(up::TIMEOUT))
        .await?;
    step.done();
    for id in ids {
        out::line(&format!("node {id} started"))?;
    }
    Ok(())
}

/// Asks the leader to hand over to a node, or to the most up-to-date one.
///
/// # Errors
/// There is no leader, or the transfer failed.
pub async fn transfer(context: &Context, options: &Options, to: Option<&str>) -> Result<()> {
    let _lock = Lock::take(&context.cluster, "transfer", WAIT).await?;
    let leader = context.leader().await.ok_or_else(|| {
        Error::NoLeader("there is no leader to hand over; look at `raftctl status`".into())
    })?;
    let target = match to {
        None => None,
        Some(selector) => match select(context, selector).await?.as_slice() {
            [one] => Some(*one),
            several => {
                let message = format!("{} can't all lead; name one node", list(several));
                return Err(Error::Usage(message));
            }
        },
    };
    if target == Some(leader) {
        return out::line(&format!("node {leader} leads already"));
    }
    let address = &context.inventory.member(leader).admin_address;
    let timeout = options.timeout.unwrap_or(Duration::from_secs(10));
    match admin::transfer(address, target, timeout).await {
        Ok(new) => out::line(&format!("node {new} leads now, instead of node {leader}")),
        Err(error) => Err(Error::NoLeader(format!(
            "node {leader} did not hand over leadership: {error}"
        ))),
    }
}
