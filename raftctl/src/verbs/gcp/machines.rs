//! Verbs about the machines themselves: stop, restart, a longer life; and what can be checked
//! beforehand.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::{Options, Output};
use crate::cluster::gcp::LIFETIMES;
use crate::cluster::{Cluster, NodeId, Provider};
use crate::error::{Error, Result};
use crate::hosts::gcp::check::{self, Finding, Verdict};
use crate::hosts::gcp::gcloud::{Gcloud, MachineState};
use crate::hosts::gcp::machines::{Machine, Machines};
use crate::hosts::gcp::{self, allocation::Allocation, tfvars};
use crate::lock::Lock;
use crate::ops::{Context, Outcomes, all_or_partial};
use crate::out;
use crate::progress::Progress;
use crate::run;
use crate::verbs::{select, up};

/// Machines are changed this many at a time: gcloud takes a process of some 100 MB for each.
const AT_ONCE: usize = 8;

/// What can be known before anything is made; nothing where nothing has to be made.
///
/// # Errors
/// What is kept about the cluster is damaged.
pub async fn findings(cluster: &Cluster) -> Result<Vec<Finding>> {
    if cluster.provider != Provider::Gcp {
        return Ok(Vec::new());
    }
    let allocation = gcp::allocation(cluster)?;
    Ok(check::findings(cluster, &allocation).await)
}

/// Findings for people, a line each.
#[must_use]
pub fn findings_text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mark = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Doubtful => "note",
            Verdict::Wrong => "WRONG",
        };
        format!("{mark:5} {}: {}\n", finding.subject, finding.text)
    };
    findings.iter().map(line).collect()
}

/// Findings for programs.
#[must_use]
pub fn findings_json(findings: &[Finding]) -> Value {
    let one = |finding: &Finding| json!({"subject": finding.subject, "ok": finding.verdict != Verdict::Wrong, "text": finding.text});
    findings.iter().map(one).collect()
}

/// Whether anything can be made.
///
/// # Errors
/// Something is missing; it is named.
pub fn verdict(findings: &[Finding]) -> Result<()> {
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Wrong)
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let subjects: Vec<_> = wrong
        .iter()
        .map(|finding| finding.subject.as_str())
        .collect();
    Err(Error::Cloud(format!(
        "no machine can be made like this: see {} above, and run `raftctl check` again",
        subjects.join(", ")
    )))
}

/// The machine of a node.
fn machine_of<'a>(
    machines: &'a Machines,
    allocation: &Allocation,
    id: NodeId,
) -> Result<&'a Machine> {
    let name = allocation.nodes.get(&id).map(|placement| &placement.name);
    name.and_then(|name| machines.nodes.get(name))
        .ok_or_else(|| gcp::inventory::no_machine(id))
}

fn gcloud(cluster: &Cluster) -> Gcloud {
    Gcloud::new(cluster.gcp.project.as_deref().unwrap_or_default())
}

/// Switches the machines of nodes off, as a failure of the machine would.
///
/// # Errors
/// The selector names none; Google refuses.
pub async fn stop_machines(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let _lock = Lock::take(&context.cluster, "kill --vm").await?;
    let ids = select(context, selector).await?;
    let outcomes = context
        .locked(
            "kill --vm",
            context.cluster.limits.lock_wait,
            stop_all(context, &ids),
        )
        .await?;
    let mut told = Told::new(options);
    for (id, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
        let text = format!("machine of node {id} stopped; `raftctl restart {id} --vm` starts it");
        told.node(*id, "machine stopped", &text)?;
    }
    told.end()?;
    all_or_partial(outcomes, "stopped").map(drop)
}

/// Switches the machines of nodes off where they run, on again, and brings their nodes back: one
/// after the other, so that the cluster serves all the while.
///
/// # Errors
/// The selector names none; Google refuses; a machine or node does not come back; a machine is gone.
pub async fn restart_machines(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let _lock = Lock::take(&context.cluster, "restart --vm").await?;
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
    let _lock = Lock::take(&context.cluster, "extend").await?;
    let ids = context.cluster.ids();
    cycle_all(context, options, "extend", ids, Some(lifetime)).await
}

/// Takes machines off and on again, the leader's last, under the lock of their hosts. Those that are
/// gone don't keep the others from it.
async fn cycle_all(
    context: &Context,
    options: &Options,
    verb: &str,
    ids: Vec<NodeId>,
    lifetime: Option<Duration>,
) -> Result<()> {
    let ids = leader_last(context, ids).await;
    let limit = limit(context, &ids);
    let work = Box::pin(async {
        let works = works(context, &ids, lifetime).await?;
        let mut told = Told::new(options);
        for id in &ids {
            let Some(Ok(work)) = works.get(id) else {
                continue; // Told at the end.
            };
            cycle(context, options, *id, work).await?;
            let (done, text) = match lifetime.map(humantime::format_duration) {
                Some(length) => ("lifetime extended", format!("deletes itself in {length}")),
                None => ("machine restarted", "restarted".into()),
            };
            told.node(*id, done, &format!("machine of node {id} {text}"))?;
        }
        told.end()?;
        let done = match lifetime {
            Some(_) => "extended",
            None => "restarted",
        };
        all_or_partial(works, done).map(drop)
    });
    context
        .locked_within(verb, context.cluster.limits.lock_wait, limit, work)
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
    let states = gcloud(cluster).machines(&cluster.name).await?;
    let machine_type = tfvars::machine_type(cluster);
    let one = |id: &NodeId| {
        let machine = machine_of(&machines, &allocation, *id)?;
        let gone = || Error::Cloud("its machine is gone; `raftctl up` makes it again".into());
        let state = states.get(&machine.instance).ok_or_else(gone)?;
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

/// Says what was done with machines, as it is done; for programs in one piece at the end.
struct Told<'a> {
    options: &'a Options,
    nodes: Vec<Value>,
}

impl<'a> Told<'a> {
    fn new(options: &'a Options) -> Self {
        Told {
            options,
            nodes: Vec::new(),
        }
    }

    fn node(&mut self, id: NodeId, done: &str, text: &str) -> Result<()> {
        self.nodes.push(json!({"id": id, "done": done}));
        match self.options.output {
            Output::Text => out::line(text),
            Output::Json => Ok(()),
        }
    }

    fn end(self) -> Result<()> {
        match self.options.output {
            Output::Text => Ok(()),
            Output::Json => out::json(&json!({"nodes": self.nodes})),
        }
    }
}

async fn leader_last(context: &Context, mut ids: Vec<NodeId>) -> Vec<NodeId> {
    let leader = context.leader().await;
    ids.sort_by_key(|id| (Some(*id) == leader, *id));
    ids
}

/// Takes one machine off and on again, with its node.
async fn cycle(context: &Context, options: &Options, id: NodeId, work: &Work) -> Result<()> {
    let progress = Progress::new();
    let step = progress.begin(&format!("restart the machine of node {id}"));
    // What can fail before the machine is off must not find it off.
    let binary = up::obtain(context, &progress).await?;
    let gcloud = gcloud(&context.cluster);
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
        .wait_until_back(&[id], options.timeout.unwrap_or(up::TIMEOUT))
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
    gcp::reach::wait_for(&[host], gcp::reach::TIME_MAX).await?;
    Context::reach(cluster.clone(), true).await
}

async fn stop_all(context: &Context, ids: &[NodeId]) -> Result<Outcomes<()>> {
    let machines = gcp::machines(&context.cluster)?;
    let allocation = gcp::allocation(&context.cluster)?;
    let bound = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for id in ids.iter().copied() {
        let machine = machine_of(&machines, &allocation, id)?.clone();
        let (gcloud, bound) = (gcloud(&context.cluster), Arc::clone(&bound));
        running.spawn(async move {
            // The semaphore is never closed, so there is always a turn.
            let _turn = bound.acquire_owned().await;
            (id, gcloud.stop(&machine).await)
        });
    }
    Ok(running.join_all().await.into_iter().collect())
}

/// How the machines of a cluster are, beside what their nodes say.
pub struct MachineStates {
    /// For people: a line for each machine that ends soon, or is off, or gone.
    pub text: String,
    /// For programs, by node.
    pub json: Value,
}

/// How the machines are; `None` where raftctl makes none. When Google does not answer, that is said
/// and no error: a cluster can be looked at without it.
pub async fn machine_states(cluster: &Cluster) -> Option<MachineStates> {
    if cluster.provider != Provider::Gcp {
        return None;
    }
    Some(states(cluster).await.unwrap_or_else(|error| MachineStates {
        text: format!("machines unknown: {error}\n"),
        json: json!({"error": error.to_string()}),
    }))
}

async fn states(cluster: &Cluster) -> Result<MachineStates> {
    let (machines, allocation) = (gcp::machines(cluster)?, gcp::allocation(cluster)?);
    let states = gcloud(cluster).machines(&cluster.name).await?;
    let mut text = String::new();
    let mut values = serde_json::Map::new();
    for id in cluster.ids() {
        let machine = machine_of(&machines, &allocation, id).ok();
        let state = machine.and_then(|machine| states.get(&machine.instance));
        let (line, value) = describe(id, state, SystemTime::now());
        text.push_str(&line);
        values.insert(id.to_string(), value);
    }
    Ok(MachineStates {
        text,
        json: Value::Object(values),
    })
}

/// One machine, for people and for programs; nothing for people where all is well for ever.
fn describe(id: NodeId, state: Option<&MachineState>, now: SystemTime) -> (String, Value) {
    let Some(state) = state else {
        let line =
            format!("node {id}: its machine is gone; `raftctl up` makes it again, with its data\n");
        return (
            line,
            json!({"machine": "GONE", "lifetime_remaining_s": null}),
        );
    };
    let left = state.ends_at.and_then(|end| end.duration_since(now).ok());
    let left = left.map(|left| Duration::from_secs(left.as_secs()));
    let line = match left {
        Some(left) => {
            let length = humantime::format_duration(left);
            format!("node {id}: its machine deletes itself in {length} (`raftctl extend`)\n")
        }
        None if state.status != "RUNNING" => {
            format!(
                "node {id}: its machine is {} (`raftctl restart {id} --vm`)\n",
                state.status
            )
        }
        None => String::new(),
    };
    let left = left.map(|left| left.as_secs());
    (
        line,
        json!({"machine": state.status, "lifetime_remaining_s": left}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // What an operator has to know of a machine, and nothing where there is nothing.
    #[test]
    fn machines_in_words() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let state = |status: &str, left: Option<u64>| MachineState {
            status: status.into(),
            ends_at: left.map(|left| now + Duration::from_secs(left)),
            external_ip: None,
            machine_type: "e2-small".into(),
        };
        let (line, value) = describe(2, Some(&state("RUNNING", Some(7260))), now);
        assert_eq!(
            line,
            "node 2: its machine deletes itself in 2h 1m (`raftctl extend`)\n"
        );
        assert_eq!(
            value,
            json!({"machine": "RUNNING", "lifetime_remaining_s": 7260})
        );
        let (line, _) = describe(2, Some(&state("TERMINATED", None)), now);
        assert!(
            line.contains("TERMINATED") && line.contains("restart 2 --vm"),
            "{line}"
        );
        let (line, _) = describe(2, None, now);
        assert!(line.contains("gone"), "{line}");
        assert_eq!(describe(2, Some(&state("RUNNING", None)), now).0, "");
    }
}
