//! `plan`: infrastructure, files and processes in one list.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Progress, planned};
use crate::binary;
use crate::cli::{Options, Output};
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result, exit};
use crate::hosts::control::HostFacts;
use crate::hosts::gcp::allocation::Allocation;
use crate::hosts::gcp::changes::Change;
use crate::hosts::gcp::events::Action;
use crate::hosts::gcp::{self, Purpose};
use crate::hosts::inventory::{Host, Inventory};
use crate::lock::Lock;
use crate::ops::Context;
use crate::out;
use crate::plan::{self as steps, Facts, Obstacles, Step, Target};
use crate::verbs::up;

/// Prints what `up` would do. Nothing is made.
///
/// # Errors
/// The plan would lose data, or something stands in the way.
pub async fn plan(cluster: Cluster, options: &Options, allow_data_loss: bool) -> Result<()> {
    let progress = Progress::new();
    // Terraform's folder is written to, also by a plan.
    let _lock = Lock::take(&cluster, "plan").await?;
    let purpose = Purpose::Up { allow_data_loss };
    let infrastructure = planned(&cluster, purpose, options, &progress).await?;
    let steps = node_steps(
        &cluster,
        &infrastructure.changes,
        allow_data_loss,
        &progress,
    );
    let (steps, obstacles) = match steps.await? {
        Ok(steps) => (steps, Vec::new()),
        Err(Obstacles(obstacles)) => (Vec::new(), obstacles),
    };
    match options.output {
        Output::Text => out::print(&text(&cluster, &infrastructure.changes, &steps))?,
        Output::Json => out::json(&as_json(
            &cluster,
            &infrastructure.changes,
            &steps,
            &obstacles,
        ))?,
    }
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(obstacles.join("\n")))
}

/// Refuses before any machine is made to give the cluster other members. All else that may stand in
/// the way of a node is looked at once the machines are as they should be: they may be what mends it.
///
/// # Errors
/// The cluster was made of other members.
pub async fn refuse_other_members(cluster: &Cluster, changes: &[Change]) -> Result<()> {
    let allocation = gcp::allocation(cluster)?;
    if let Some(obstacle) = allocation.other_members(cluster) {
        return Err(Error::Usage(obstacle));
    }
    if changes.is_empty() || allocation.members.is_empty() || gcp::machines(cluster).is_err() {
        return Ok(()); // Nothing is made; or there are no nodes yet that could mind.
    }
    let (target, facts) = match look(cluster, &allocation, changes).await {
        Ok(seen) => seen,
        // Machines that do not answer tell of nothing, and may be what is to be mended.
        Err(error) if error.exit_code() == exit::REMOTE => return Ok(()),
        Err(error) => return Err(error),
    };
    steps::refuse_other_members(&target, &facts)
        .map_err(|obstacles| Error::Usage(obstacles.to_string()))
}

/// What is to be done on the machines once they are there.
async fn node_steps(
    cluster: &Cluster,
    changes: &[Change],
    allow_data_loss: bool,
    progress: &Progress,
) -> Result<std::result::Result<Vec<Step>, Obstacles>> {
    let allocation = gcp::allocation(cluster)?;
    if let Some(obstacle) = allocation.other_members(cluster) {
        return Ok(Err(Obstacles(vec![obstacle])));
    }
    let (target, mut facts) = look(cluster, &allocation, changes).await?;
    if allow_data_loss {
        facts.accept_lost_data();
    }
    facts.leave_obstructed(cluster.majority());
    for (id, error) in &facts.left_behind {
        progress.note(&format!("going on without node {id}: {error}"));
    }
    Ok(steps::plan(&target, &facts))
}

/// The nodes as they are to be, and what is known of them. A machine that is yet to be made has
/// nothing on it; a data disk that is to grow has space.
async fn look(
    cluster: &Cluster,
    allocation: &Allocation,
    changes: &[Change],
) -> Result<(Target, Facts)> {
    let of = |name: &String, resource_type: &str, actions: &[Action]| {
        changes.iter().any(|change| {
            change.resource_type == resource_type
                && change.key.as_ref() == Some(name)
                && actions.contains(&change.action)
        })
    };
    let made = gcp::machines(cluster).ok();
    let is_new = |name: &String| {
        let is_made = made
            .as_ref()
            .is_some_and(|machines| machines.nodes.contains_key(name));
        let renewing = [Action::Create, Action::Replace];
        let is_renewed = of(name, "google_compute_instance", &renewing);
        // Before the cluster was up there is nothing on any machine, and it may be booting.
        !is_made || is_renewed || allocation.members.is_empty()
    };
    let nodes = allocation.nodes.iter();
    let new: BTreeSet<NodeId> = nodes
        .clone()
        .filter(|(_, at)| is_new(&at.name))
        .map(|(id, _)| *id)
        .collect();
    let inventory = gcp::inventory::with_placeholders(cluster, allocation, &new).await?;
    let whole = Context {
        cluster: Arc::new(cluster.clone()),
        inventory: Arc::new(inventory),
    };
    let mut facts = existing_facts(&whole, &new).await?;
    let data_disk = "google_compute_disk";
    let keeps_disk = |name| !of(name, data_disk, &[Action::Create, Action::Replace]);
    if nodes
        .clone()
        .any(|(id, at)| new.contains(id) && keeps_disk(&at.name))
    {
        // Its log may be on the disk that a new machine will find.
        facts.hidden.clear();
    }
    facts
        .hosts
        .extend(new.iter().map(|id| (*id, HostFacts::blank(*id))));
    for (id, at) in nodes {
        if let Some(host) = facts.hosts.get_mut(id)
            && of(&at.name, data_disk, &[Action::Update])
        {
            host.disk_free_kib = u64::MAX;
        }
    }
    Ok((up::target(&whole, &binary::locate(cluster)?)?, facts))
}

/// What the machines say that are there.
async fn existing_facts(whole: &Context, new: &BTreeSet<NodeId>) -> Result<Facts> {
    let is_made = |host: &&Host| !host.nodes.iter().any(|id| new.contains(id));
    let hosts: Vec<Host> = whole
        .inventory
        .hosts
        .iter()
        .filter(is_made)
        .cloned()
        .collect();
    if hosts.is_empty() {
        return Ok(Facts::default());
    }
    let inventory = Inventory {
        hosts,
        members: whole.inventory.members.clone(),
    };
    let made = Context {
        cluster: Arc::clone(&whole.cluster),
        inventory: Arc::new(inventory),
    };
    up::facts(&made).await
}

fn text(cluster: &Cluster, changes: &[Change], steps: &[Step]) -> String {
    let name = &cluster.name;
    if changes.is_empty() && steps.is_empty() {
        return format!("cluster {name} is up: nothing to do\n");
    }
    let lines = changes
        .iter()
        .map(Change::describe)
        .chain(steps.iter().map(Step::to_string));
    let mut text = format!("cluster {name} ({}):\n", cluster.provider.name());
    for (count, line) in lines.enumerate() {
        text.push_str(&format!("  {}. {line}\n", count + 1));
    }
    text
}

fn as_json(cluster: &Cluster, changes: &[Change], steps: &[Step], obstacles: &[String]) -> Value {
    let change = |change: &Change| json!({"text": change.describe(), "resource": change.address});
    json!({
        "cluster": cluster.name,
        "provider": cluster.provider.name(),
        "infrastructure": changes.iter().map(change).collect::<Vec<_>>(),
        "steps": steps.iter().map(up::step_to_json).collect::<Vec<_>>(),
        "obstacles": obstacles,
    })
}
