//! `kill`, `stop`, `start`, `restart`, `pause`, `resume`, `transfer`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::admin;
use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::control::{ProcessState, Signalled};
use crate::local::binary::Binary;
use crate::local::folder_lock::FolderLock;
use crate::ops::links::CUT_MAX;
use crate::ops::{Context, run, target};
use crate::plan::{DISK_FREE_KIB_MIN, leader_last};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::node_report::NodeReport;
use crate::verbs::select;

/// A verb that sends nodes a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
    /// SIGSTOP, for a time or until SIGCONT.
    Pause(Option<Duration>),
    /// SIGCONT.
    Resume,
}

impl Signal {
    fn verb(self) -> &'static str {
        match self {
            Signal::Kill => "kill",
            Signal::Stop => "stop",
            Signal::Pause(_) => "pause",
            Signal::Resume => "resume",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Signal::Kill => "killed",
            Signal::Stop => "stopped",
            Signal::Pause(_) => "paused",
            Signal::Resume => "resumed",
        }
    }

    /// The state in which there is nothing to do.
    fn already(self) -> ProcessState {
        match self {
            Signal::Kill | Signal::Stop => ProcessState::Stopped,
            Signal::Pause(_) => ProcessState::Paused,
            Signal::Resume => ProcessState::Running,
        }
    }
}

/// Sends a signal to the nodes of a selector, and says what became of each.
///
/// # Errors
/// The selector names none; a node does not obey.
pub async fn signal(
    context: &Context,
    options: &Options,
    signal: Signal,
    selector: &str,
) -> Result<()> {
    if let Signal::Pause(Some(length)) = signal
        && (length.is_zero() || length > CUT_MAX)
    {
        return Err(Error::Usage(format!(
            "a pause with an end lasts up to {}, and not {}",
            humantime::format_duration(CUT_MAX),
            humantime::format_duration(length)
        )));
    }
    let _lock = FolderLock::take(&context.cluster, signal.verb()).await?;
    let ids = select(context, selector).await?;
    let outcomes = match signal {
        Signal::Kill => context.kill(&ids).await,
        Signal::Stop => context.stop(&ids, run::STOP_GRACE).await,
        Signal::Pause(length) => context.pause(&ids, length).await,
        Signal::Resume => context.resume(&ids).await,
    };
    tell(signal, &outcomes, options)?;
    all_or_partial(outcomes, signal.done()).map(drop)
}

/// Says what became of each node that obeyed; the others are told as an error afterwards.
fn tell(signal: Signal, outcomes: &Outcomes<Signalled>, options: &Options) -> Result<()> {
    let answers = outcomes.values().flatten();
    if options.output == Output::Json {
        let one = |answer: &Signalled| {
            json!({
                "id": answer.id,
                "was": answer.was.name(),
                "process": answer.state.name(),
            })
        };
        return out::json(&json!({ "nodes": answers.map(one).collect::<Vec<_>>() }));
    }
    for answer in answers {
        let id = answer.id;
        if answer.was != signal.already() {
            out::line(&format!("node {id} {}", signal.done()))?;
            continue;
        }
        let state = match answer.was {
            ProcessState::Stopped => "was not running",
            ProcessState::Paused => "was paused already",
            ProcessState::Running => "was not paused",
        };
        out::line(&format!("node {id} {state}"))?;
    }
    Ok(())
}

/// Starts the nodes of a selector that do not run, and waits until they are back. A node that can't
/// be started does not hide the others.
///
/// # Errors
/// The selector names none; a node does not come up.
pub async fn start(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let progress = Progress::new();
    let _lock = FolderLock::take(&context.cluster, "start").await?;
    let ids = select(context, selector).await?;
    let binary = target::obtain(context, &progress).await?;
    let (stopped, mut outcomes) = look(context, &ids, &binary).await?;
    let mut report = NodeReport::new(options);
    for id in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
        report.node(*id.0, "was running already")?;
    }
    outcomes.extend(bring_back(context, options, &stopped, &binary, &progress, &mut report).await?);
    report.end()?;
    all_or_partial(outcomes, "started").map(drop)
}

/// Stops the nodes of a selector in order, one after the other, and starts them again; nodes that
/// do not run are started. Nodes whose host does not answer do not hide the others.
///
/// # Errors
/// The selector names none; a node does not stop, or does not come back: those after it are left
/// as they are then.
pub async fn restart(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let progress = Progress::new();
    let _lock = FolderLock::take(&context.cluster, "restart").await?;
    let ids = select(context, selector).await?;
    let binary = target::obtain(context, &progress).await?;
    let (stopped, mut outcomes) = look(context, &ids, &binary).await?;
    let mut report = NodeReport::new(options);
    let started = bring_back(context, options, &stopped, &binary, &progress, &mut report).await?;
    if started.values().any(Result::is_err) {
        // One that does not come back must not be followed by the next.
        report.end()?;
        outcomes.extend(started);
        return all_or_partial(outcomes, "restarted").map(drop);
    }
    let running = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
    let mut running: Vec<NodeId> = running.map(|(id, _)| *id).collect();
    outcomes.extend(started);
    leader_last(&mut running, context.leader().await);
    let timeout = options.timeout.unwrap_or(run::TIMEOUT);
    for (at, id) in running.iter().copied().enumerate() {
        let step = progress.begin(&format!("restart node {id}"));
        if let Err(error) = run::restart(context, id, &binary, timeout).await {
            report.end()?;
            return Err(not_restarted(error, &running[at + 1..]));
        }
        step.done();
        report.node(id, "restarted")?;
    }
    report.end()?;
    all_or_partial(outcomes, "restarted").map(drop)
}

/// Adds to an error the nodes whose turn did not come.
fn not_restarted(error: Error, left: &[NodeId]) -> Error {
    if left.is_empty() {
        return error;
    }
    error.advise(format!(
        "left as they are: {}; once it is mended, run this again",
        list(left)
    ))
}

/// Of these nodes, those that do not run; and what is known of the others: that they run, or why
/// nothing can be done with them.
///
/// # Errors
/// cluster.yaml has changed since the nodes were started.
async fn look(
    context: &Context,
    ids: &[NodeId],
    binary: &Binary,
) -> Result<(Vec<NodeId>, Outcomes<()>)> {
    let mut facts = target::unchanged_facts(context, binary).await?;
    let mut stopped = Vec::new();
    let mut others = Outcomes::new();
    for id in ids.iter().copied() {
        let (Some(host), Some(node)) = (facts.hosts.get(&id), facts.node(id)) else {
            let error = facts.left_behind.remove(&id);
            others.insert(id, error.map_or(Ok(()), Err));
            continue;
        };
        let free_kib = host.disk_free_kib;
        let obstacle = if node.lost_data {
            Some(format!(
                "the log of node {id} is gone; `raftctl plan` says more"
            ))
        } else if free_kib < DISK_FREE_KIB_MIN {
            Some(format!(
                "{free_kib} KiB of disk space are left, and node {id} needs {DISK_FREE_KIB_MIN} to \
                 start; free some (`raftctl exec {id} -- df -h`)"
            ))
        } else {
            None
        };
        match obstacle {
            Some(text) => drop(others.insert(id, Err(Error::Usage(text)))),
            None if node.state == ProcessState::Stopped => stopped.push(id),
            None => drop(others.insert(id, Ok(()))),
        }
    }
    Ok((stopped, others))
}

/// Starts nodes and waits until those that could be started are back.
async fn bring_back(
    context: &Context,
    options: &Options,
    ids: &[NodeId],
    binary: &Binary,
    progress: &Progress,
    report: &mut NodeReport<'_>,
) -> Result<Outcomes<()>> {
    if ids.is_empty() {
        return Ok(Outcomes::new());
    }
    let step = progress.begin(&format!("start {}", list(ids)));
    let mut outcomes = run::start_each(context, ids, binary).await;
    let started = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
    let started: Vec<NodeId> = started.map(|(id, _)| *id).collect();
    if started.is_empty() {
        return Ok(outcomes);
    }
    let timeout = options.timeout.unwrap_or(run::TIMEOUT);
    let lost = lost(context, &started, timeout).await;
    outcomes.extend(lost.into_iter().map(|(id, error)| (id, Err(error))));
    if outcomes.values().all(Result::is_ok) {
        step.done();
    }
    for id in started {
        if matches!(outcomes.get(&id), Some(Ok(()))) {
            report.node(id, "started")?;
        }
    }
    Ok(outcomes)
}

/// Waits until nodes are back; those that are not, each with its own reason.
async fn lost(context: &Context, started: &[NodeId], timeout: Duration) -> BTreeMap<NodeId, Error> {
    let mut lost = BTreeMap::new();
    let wait = async |nodes: &[NodeId], left| context.wait_until_back(nodes, left).await;
    let leave = |stragglers| {
        lost.extend(stragglers);
        Ok(())
    };
    let waited = context
        .wait_without_stragglers(started, timeout, wait, leave)
        .await;
    if let Err(error) = waited {
        for id in started {
            lost.entry(*id).or_insert_with(|| error.clone());
        }
    }
    lost
}

/// Asks the leader to hand over to a node, or to the most up-to-date one.
///
/// # Errors
/// There is no leader, or the transfer failed.
pub async fn transfer(context: &Context, options: &Options, to: Option<&str>) -> Result<()> {
    let _lock = FolderLock::take(&context.cluster, "transfer").await?;
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
    let tell = |new: NodeId, text: String| match options.output {
        Output::Text => out::line(&text),
        Output::Json => out::json(&json!({ "leader": new, "was": leader })),
    };
    if target == Some(leader) {
        return tell(leader, format!("node {leader} leads already"));
    }
    let address = &context.inventory.member(leader).admin_address;
    let timeout = options.timeout.unwrap_or(Duration::from_secs(10));
    match admin::transfer(address, target, timeout).await {
        Ok(new) => tell(
            new,
            format!("node {new} leads now, instead of node {leader}"),
        ),
        Err(error) => Err(Error::NoLeader(format!(
            "node {leader} did not hand over leadership: {error}"
        ))),
    }
}
