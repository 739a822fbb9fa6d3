//! `plan` and `up`: from what is to what should be.

use std::time::Duration;

use serde_json::json;

use crate::arguments;
use crate::binary::{self, Binary, Origin};
use crate::cli::{Options, Output};
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::inventory::Inventory;
use crate::hosts::layout::release_name;
use crate::lock::Lock;
use crate::ops::status::leader;
use crate::ops::{Context, no_majority, seen};
use crate::out;
use crate::plan::{self, Facts, Release, Step, Target};
use crate::progress::Progress;
use crate::run;
use crate::verbs::status;

/// How long `up` waits for a leader unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Prints the steps that `up` would take.
///
/// # Errors
/// Something stands in the way, or a host does not answer.
pub async fn plan(context: &Context, options: &Options) -> Result<()> {
    let origin = binary::locate(&context.cluster)?;
    let facts = workable_facts(context, options.allow_data_loss).await?;
    let steps = steps(context, &origin, &facts)?;
    tell_remarks(context, &Progress::new());
    tell_left_behind(&facts, &Progress::new());
    match options.output {
        Output::Text => out::print(&to_text(context, &steps)),
        Output::Json => out::json(&to_json(context, &steps, &facts)),
    }
}

/// Brings the cluster up, and prints its status.
///
/// # Errors
/// Something stands in the way, a host does not answer, or a node does not come up.
pub async fn up(context: &Context, options: &Options, dry_run: bool) -> Result<()> {
    if dry_run {
        return plan(context, options).await;
    }
    let progress = Progress::new();
    let _lock = Lock::take(&context.cluster, "up").await?;
    let binary = obtain(context, &progress).await?;
    let accept = options.allow_data_loss;
    // Told while it lasts only: it is no step.
    let looking = progress.begin("look at the hosts");
    let (mut facts, steps) = look(context, &binary, accept).await?;
    drop(looking);
    let mut left_behind = facts.left_behind.clone();
    if steps.is_empty() {
        tell_left_behind(&facts, &progress);
        progress.note(&format!(
            "cluster {} is up already: nothing to do",
            context.cluster.name
        ));
    } else {
        let timeout = options.timeout.unwrap_or(TIMEOUT);
        // Large: on the heap.
        let working = Box::pin(async {
            if context.has_remote_hosts() {
                // Before the lock was taken here, someone else may have had it.
                facts = look(context, &binary, accept).await?.0;
            }
            let steps = plan_of(context, &binary, &facts)?;
            if accept {
                context.accept_loss(&context.cluster.ids()).await;
            }
            tell_remarks(context, &progress);
            tell_left_behind(&facts, &progress);
            let left_behind = facts.left_behind;
            run::run(context, &steps, &binary, timeout, &progress, left_behind).await
        });
        left_behind = context
            .locked("up", context.cluster.limits.lock_wait, working)
            .await?;
        if context.has_remote_hosts() {
            // They follow a leader, and so have its first entry.
            let ids = context.cluster.ids().into_iter();
            let up = ids.filter(|id| !left_behind.contains_key(id));
            context.remember(up.collect()).await?;
        }
    }
    let failed = left_behind.into_iter();
    let failed: Vec<_> = failed.map(|(id, error)| (id, error.to_string())).collect();
    status::after_up(context, options, &failed).await?;
    if failed.is_empty() {
        return Ok(());
    }
    let done = "brought up".into();
    Err(Error::Partial { done, failed })
}

/// What is there, and what is to be done about it.
async fn look(
    context: &Context,
    binary: &Binary,
    accept_data_loss: bool,
) -> Result<(Facts, Vec<Step>)> {
    let facts = workable_facts(context, accept_data_loss).await?;
    let steps = plan_of(context, binary, &facts)?;
    Ok((facts, steps))
}

fn plan_of(context: &Context, binary: &Binary, facts: &Facts) -> Result<Vec<Step>> {
    let target = target_of(context, binary, None);
    plan::plan(&target, facts).map_err(|found| Error::Usage(found.to_string()))
}

fn tell_remarks(context: &Context, progress: &Progress) {
    for (remark, advice) in Inventory::remarks(&context.cluster) {
        progress.note(&format!("{remark}; {advice}"));
    }
}

fn tell_left_behind(facts: &Facts, progress: &Progress) {
    for (id, error) in &facts.left_behind {
        progress.note(&format!("going on without node {id}: {error}"));
    }
}

/// The binary of a cluster; says so when it has to be built.
///
/// # Errors
/// It is not there and can't be built.
pub async fn obtain(context: &Context, progress: &Progress) -> Result<Binary> {
    let origin = binary::locate(&context.cluster)?;
    let progress = progress.clone();
    // A build takes minutes, in which the lock on hosts has to be renewed.
    let obtaining =
        tokio::task::spawn_blocking(move || binary::obtain(&origin, |text| progress.note(text)));
    match obtaining.await {
        Ok(binary) => binary,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The steps from what is to what should be.
fn steps(context: &Context, origin: &Origin, facts: &Facts) -> Result<Vec<Step>> {
    let target = target(context, origin)?;
    plan::plan(&target, facts).map_err(|obstacles| Error::Usage(obstacles.to_string()))
}

/// The steps that `up` would take now.
///
/// # Errors
/// Something stands in the way, or too few hosts answer.
pub async fn steps_now(context: &Context) -> Result<Vec<Step>> {
    let origin = binary::locate(&context.cluster)?;
    steps(context, &origin, &workable_facts(context, false).await?)
}

/// What the nodes of a cluster are to be.
///
/// # Errors
/// The binary can't be read.
pub fn target(context: &Context, origin: &Origin) -> Result<Target> {
    let (binary, build) = match origin {
        Origin::Present(_) => (binary::obtain(origin, |_| ())?, None),
        Origin::Build { path, .. } => {
            let binary = Binary {
                path: path.clone(),
                sha256: String::new(),
            };
            (binary, origin.command())
        }
    };
    Ok(target_of(context, &binary, build))
}

fn target_of(context: &Context, binary: &Binary, build: Option<String>) -> Target {
    let node = |id| {
        let (path, sha256) = (&binary.path, &binary.sha256);
        arguments::start_node(&context.cluster, &context.inventory, id, path, sha256)
    };
    let ships = context.has_remote_hosts();
    let members = context.inventory.members.iter();
    let guessed = members.filter(|member| !member.is_address_known);
    Target {
        nodes: context.cluster.ids().into_iter().map(node).collect(),
        guessed: guessed.map(|member| member.id).collect(),
        build,
        release: ships.then(|| release(binary)),
    }
}

/// The binary as it is to lie on hosts.
fn release(binary: &Binary) -> Release {
    let is_built = !binary.sha256.is_empty();
    Release {
        name: is_built.then(|| release_name(&binary.sha256).to_owned()),
        // Only told; a file that went away fails when it is sent.
        bytes: std::fs::metadata(&binary.path).map_or(0, |file| file.len()),
    }
}

/// What the hosts and nodes of a cluster are, without the nodes on hosts of their own that
/// something stands in the way of, as long as the others make a majority.
async fn workable_facts(context: &Context, accept_data_loss: bool) -> Result<Facts> {
    let mut facts = facts(context).await?;
    if accept_data_loss {
        facts.accept_lost_data();
    }
    // On one machine what stands in the way is as easily moved as found, and concerns them all.
    if context.has_remote_hosts() {
        facts.leave_obstructed(context.cluster.majority());
    }
    Ok(facts)
}

/// What the hosts and nodes of a cluster are. Hosts that do not answer are left behind as long as
/// the others make a majority. Hosts that are yet to be made count among the others.
///
/// # Errors
/// Too few hosts answer.
pub async fn facts(context: &Context) -> Result<Facts> {
    let ids = context.cluster.ids();
    let (hosts, replies) = tokio::join!(context.host_facts(), context.replies(&ids));
    let missing = ids.len() - hosts.len();
    let needed = context.cluster.majority().saturating_sub(missing);
    let answering = hosts.values().filter(|outcome| outcome.is_ok()).count();
    if answering < needed {
        return Err(no_majority(hosts, "looked at"));
    }
    let mut facts = Facts::default();
    for (id, outcome) in hosts {
        let name = context.inventory.host_of(id).name().to_owned();
        facts.names.insert(id, name);
        match outcome {
            Ok(host) => drop(facts.hosts.insert(id, host)),
            Err(error) => drop(facts.left_behind.insert(id, error)),
        }
    }
    recall(context, &mut facts)?;
    let heard = replies.values().filter_map(|reply| reply.as_ref().ok());
    facts.leader = leader(heard.filter(|reply| reply.lease_remaining_ms.is_some()));
    Ok(facts)
}

/// Compares what the hosts say with what was seen before. Nothing of this machine is ever out of sight.
///
/// # Errors
/// A file of raftctl's own can't be written.
pub fn recall(context: &Context, facts: &mut Facts) -> Result<()> {
    if context.has_remote_hosts() {
        let silent: Vec<NodeId> = facts.left_behind.keys().copied().collect();
        facts.hidden = seen::mark(&context.cluster.state_dir(), &mut facts.hosts, &silent)?;
    }
    Ok(())
}

/// What the hosts and nodes of a cluster are, before nodes are started one by one. Hosts that do not
/// answer are left behind.
///
/// # Errors
/// cluster.yaml has changed since the nodes were started.
pub async fn unchanged_facts(context: &Context, binary: &Binary) -> Result<Facts> {
    let mut facts = Facts::default();
    for (id, outcome) in context.host_facts().await {
        match outcome {
            Ok(host) => drop(facts.hosts.insert(id, host)),
            Err(error) => drop(facts.left_behind.insert(id, error)),
        }
    }
    recall(context, &mut facts)?;
    let target = target_of(context, binary, None);
    plan::refuse_changed(&target, &facts).map_err(|found| Error::Usage(found.to_string()))?;
    Ok(facts)
}

fn to_text(context: &Context, steps: &[Step]) -> String {
    let name = &context.cluster.name;
    if steps.is_empty() {
        return format!("cluster {name} is up: nothing to do\n");
    }
    let mut text = format!("cluster {name} ({}):\n", context.cluster.provider.name());
    for (count, step) in steps.iter().enumerate() {
        text.push_str(&format!("  {}. {step}\n", count + 1));
    }
    text
}

fn to_json(context: &Context, steps: &[Step], facts: &Facts) -> serde_json::Value {
    let left_behind = facts.left_behind.iter();
    let left_behind = left_behind.map(|(id, error)| json!({"id": id, "error": error.to_string()}));
    json!({
        "cluster": context.cluster.name,
        "provider": context.cluster.provider.name(),
        "steps": steps.iter().map(step_to_json).collect::<Vec<_>>(),
        "left_behind": left_behind.collect::<Vec<_>>(),
    })
}

/// A step for programs.
#[must_use]
pub fn step_to_json(step: &Step) -> serde_json::Value {
    json!({
        "action": step.action(),
        "nodes": step.nodes(),
        "why": step.why(),
        "text": step.to_string(),
    })
}
