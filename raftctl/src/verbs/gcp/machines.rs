//! Verbs about the machines themselves: stop, restart, a longer life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cluster::gcp::LIFETIMES;
use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};
use crate::local::folder_lock::FolderLock;
use crate::ops::{Context, run, target};
use crate::plan::leader_last;
use crate::providers::gcp::gcloud::Gcloud;
use crate::providers::gcp::machines::Machine;
use crate::providers::gcp::{self, machine_status, tfvars};
use crate::terminal::options::Options;
use crate::terminal::progress::Progress;
use crate::verbs::node_report::NodeReport;
use crate::verbs::select;

/// Machines are changed this many at a time: gcloud takes a process of some 100 MB for each.
const AT_ONCE: usize = 8;

/// Switches the machines of nodes off, as a failure of the machine would.
///
/// # Errors
/// The selector names none; Google refuses.
pub async fn stop_machines(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let _lock = FolderLock::take(&context.cluster, "kill --vm").await?;
    let ids = select(context, selector).await?;
    let outcomes = context
        .locked("kill --vm", &Progress::new(), stop_all(context, &ids))
        .await?;
    let mut report = NodeReport::new(options);
    for (id, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
        let text = format!("machine of node {id} stopped; `raftctl restart {id} --vm` starts it");
        report.worded(*id, "machine stopped", &text)?;
    }
    report.end()?;
    all_or_partial(outcomes, "stopped").map(drop)
}

/// Switches the machines of nodes off where they run, on again, and brings their nodes back: one
/// after the other, so that the cluster serves all the while.
///
/// # Errors
/// The selector names none; Google refuses; a machine or node does not come back; a machine is gone.
pub async fn restart_machines(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let _lock = FolderLock::take(&context.cluster, "restart --vm").await?;
    let ids = select(context, selector).await?;
    cycle_all(context, options, "restart --vm", ids, None).await
}

/// Gives every machine a new lifetime that begins now. Google takes it only from a machine that is
/// switched off, so each is restarted, one after the other.
///
/// # Errors
/// No lifetime is given anywhere; Google refuses; a machine or node does not come back; a machine is
/// gone.
pub async fn extend(
    context: &Context,
    options: &Options,
    lifetime: Option<Duration>,
) -> Result<()> {
    let lifetime = lifetime.or(context.cluster.gcp.lifetime).ok_or_else(|| {
        Error::Usage(
            "no lifetime is set: say `raftctl extend 12h`, or set gcp.lifetime in cluster.yaml"
                .into(),
        )
    })?;
    if !LIFETIMES.contains(&lifetime) {
        let days = LIFETIMES.end().as_secs() / (24 * 3600);
        let seconds = LIFETIMES.start().as_secs();
        return Err(Error::Usage(format!(
            "a lifetime is {seconds} seconds to {days} days; nothing was changed"
        )));
    }
    let _lock = FolderLock::take(&context.cluster, "extend").await?;
    let ids = context.cluster.ids();
    cycle_all(context, options, "extend", ids, Some(lifetime)).await
}

/// Takes machines off and on again, the leader's last, under the lock of their hosts. Those that are
/// gone don't keep the others from it.
async fn cycle_all(
    context: &Context,
    options: &Options,
    verb: &str,
    mut ids: Vec<NodeId>,
    lifetime: Option<Duration>,
) -> Result<()> {
    leader_last(&mut ids, context.leader().await);
    let limit = limit(context, &ids);
    let work = Box::pin(async {
        let works = works(context, &ids, lifetime).await?;
        let mut report = NodeReport::new(options);
        for id in &ids {
            let Some(Ok(work)) = works.get(id) else {
                continue; // Told at the end.
            };
            cycle(context, options, *id, work).await?;
            let (done, text) = match lifetime.map(humantime::format_duration) {
                Some(length) => ("lifetime extended", format!("deletes itself in {length}")),
                None => ("machine restarted", "restarted".into()),
            };
            report.worded(*id, done, &format!("machine of node {id} {text}"))?;
        }
        report.end()?;
        let done = match lifetime {
            Some(_) => "extended",
            None => "restarted",
        };
        all_or_partial(works, done).map(drop)
    });
    context
        .locked_within(verb, &Progress::new(), limit, work)
        .await
}

/// What is done to a machine.
struct Work {
    machine: Machine,
    /// A new lifetime from its start on.
    lifetime: Option<Duration>,
    /// The machine type that cluster.yaml names, where it has another one.
    machine_type: Option<String>,
}

/// What is to be done to each machine. One that is gone is found out before anything is done to the
/// others.
async fn works(
    context: &Context,
    ids: &[NodeId],
    lifetime: Option<Duration>,
) -> Result<Outcomes<Work>> {
    let cluster = &context.cluster;
    let (machines, allocation) = (gcp::machines(cluster)?, gcp::allocation(cluster)?);
    let states = Gcloud::of(cluster).machines(&cluster.name).await?;
    let machine_type = tfvars::machine_type(cluster);
    let one = |id: &NodeId| {
        let machine = machines.of_node(&allocation, *id)?;
        let gone = || Error::Cloud(machine_status::GONE.into());
        let state = states.get(&machine.at()).ok_or_else(gone)?;
        let is_other = state.machine_type != machine_type;
        Ok(Work {
            machine: machine.clone(),
            lifetime,
            machine_type: is_other.then(|| machine_type.to_owned()),
        })
    };
    Ok(ids.iter().map(|id| (*id, one(id))).collect())
}

/// A machine takes minutes to go off and come back, and they go one after the other.
fn limit(context: &Context, ids: &[NodeId]) -> Duration {
    let machines = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    context.cluster.limits.total.saturating_mul(machines)
}

/// Takes one machine off and on again, with its node.
async fn cycle(context: &Context, options: &Options, id: NodeId, work: &Work) -> Result<()> {
    let progress = Progress::new();
    let step = progress.begin(&format!("restart the machine of node {id}"));
    // What can fail before the machine is off must not find it off.
    let binary = target::obtain(context, &progress).await?;
    let noting = progress.clone();
    let gcloud = Gcloud::of(&context.cluster).reporting_to(move |text| noting.note(text));
    // In order where it answers, so that a leader hands over; a dead node has nothing to hand over.
    if let Some(Err(error)) = context.stop(&[id], run::STOP_GRACE).await.remove(&id) {
        progress.note(&format!("node {id} could not be stopped first: {error}"));
    }
    let left = |state: &str, next: &str| {
        let advice = format!("{state}: `raftctl {next}` goes on from there");
        |error: Error| error.advise(advice)
    };
    let again = format!("restart {id} --vm");
    let is_stopped = left(&format!("node {id} is stopped"), &again);
    gcloud.stop(&work.machine).await.map_err(is_stopped)?;
    let is_off = left(&format!("the machine of node {id} is off now"), &again);
    switch_on(&gcloud, work).await.map_err(is_off)?;
    let is_on = left(
        &format!("the machine of node {id} is on, and its node is stopped"),
        &format!("start {id}"),
    );
    let context = answering(&context.cluster, id).await.map_err(is_on)?;
    run::start(&context, &[id], &binary).await?;
    context
        .wait_until_back(&[id], options.timeout.unwrap_or(run::TIMEOUT))
        .await?;
    step.done();
    Ok(())
}

/// Google changes a machine that is off only.
async fn switch_on(gcloud: &Gcloud, work: &Work) -> Result<()> {
    if let Some(machine_type) = &work.machine_type {
        gcloud.set_machine_type(&work.machine, machine_type).await?;
    }
    if let Some(lifetime) = work.lifetime {
        gcloud.set_lifetime(&work.machine, lifetime).await?;
    }
    gcloud.start(&work.machine).await
}

/// The cluster once the machine of a node, which was just switched on, can be worked on. Only then
/// is it logged in to for good: one that does not let anybody in yet would count as absent.
async fn answering(cluster: &Cluster, id: NodeId) -> Result<Context> {
    gcp::refresh_addresses(cluster).await?;
    let opened = Context::open(cluster.clone()).await?;
    let host = opened.inventory.host_of(id).clone();
    gcp::readiness::wait_for(&[host], gcp::readiness::TIME_MAX).await?;
    Context::look(cluster.clone(), true).await
}

async fn stop_all(context: &Context, ids: &[NodeId]) -> Result<Outcomes<()>> {
    let machines = gcp::machines(&context.cluster)?;
    let allocation = gcp::allocation(&context.cluster)?;
    let bound = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for id in ids.iter().copied() {
        let machine = machines.of_node(&allocation, id)?.clone();
        let (gcloud, bound) = (Gcloud::of(&context.cluster), Arc::clone(&bound));
        running.spawn(async move {
            // The semaphore is never closed, so there is always a turn.
            let _turn = bound.acquire_owned().await;
            (id, gcloud.stop(&machine).await)
        });
    }
    Ok(running.join_all().await.into_iter().collect())
}
