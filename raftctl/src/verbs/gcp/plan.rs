//! `plan`: infrastructure, files and processes in one list.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Progress, planned};
use crate::binary;
use crate::cli::{Options, Output};
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result, exit};
use crate::hosts::control::{HostFacts, NodeFacts, ProcessState, Setting};
use crate::hosts::gcp::changes::Change;
use crate::hosts::gcp::events::Action;
use crate::hosts::gcp::{self, Purpose};
use crate::hosts::inventory::{Host, Inventory};
use crate::lock::Lock;
use crate::ops::Context;
use crate::out;
use crate::plan::{self as steps, Facts, Obstacles, Step};
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
    let (steps, obstacles) = match node_steps(&cluster, &infrastructure.changes).await? {
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

/// Refuses before any machine is made what would be refused once it is there.
///
/// # Errors
/// What stands in the way.
pub async fn refuse_obstacles(cluster: &Cluster, changes: &[Change]) -> Result<()> {
    if let Some(obstacle) = gcp::allocation(cluster)?.other_members(cluster) {
        return Err(Error::Usage(obstacle));
    }
    let has_been_up = !gcp::allocation(cluster)?.members.is_empty();
    if changes.is_empty() || !has_been_up || gcp::machines(cluster).is_err() {
        return Ok(()); // Nothing is made; or there are no nodes yet that could mind.
    }
    let steps = match node_steps(cluster, changes).await {
        Ok(steps) => steps,
        // Machines that do not answer tell of no obstacle, and may be what is to be mended.
        Err(error) if error.exit_code() == exit::REMOTE => return Ok(()),
        Err(error) => return Err(error),
    };
    steps
        .map(drop)
        .map_err(|obstacles| Error::Usage(obstacles.to_string()))
}

/// What is to be done on the machines once they are there. A machine that is yet to be made has
/// nothing on it.
async fn node_steps(
    cluster: &Cluster,
    changes: &[Change],
) -> Result<std::result::Result<Vec<Step>, Obstacles>> {
    let allocation = gcp::allocation(cluster)?;
    if let Some(obstacle) = allocation.other_members(cluster) {
        return Ok(Err(Obstacles(vec![obstacle])));
    }
    let made = gcp::machines(cluster).ok();
    let is_new = |name: &String| {
        let is_made = made
            .as_ref()
            .is_some_and(|machines| machines.nodes.contains_key(name));
        let is_renewed = changes.iter().any(|change| {
            change.resource_type == "google_compute_instance"
                && change.key.as_ref() == Some(name)
                && matches!(change.action, Action::Create | Action::Replace)
        });
        // Before the cluster was up there is nothing on any machine, and it may be booting.
        !is_made || is_renewed || allocation.members.is_empty()
    };
    let nodes = allocation.nodes.iter();
    let new: BTreeSet<NodeId> = nodes
        .filter(|(_, at)| is_new(&at.name))
        .map(|(id, _)| *id)
        .collect();
    let inventory = gcp::inventory::with_placeholders(cluster, &allocation, &new).await?;
    let origin = binary::locate(cluster)?;
    let whole = Context {
        cluster: Arc::new(cluster.clone()),
        inventory: Arc::new(inventory),
    };
    let mut facts = existing_facts(&whole, &new).await?;
    facts.hosts.extend(new.iter().map(|id| (*id, blank(*id))));
    let target = up::target(&whole, &origin)?;
    Ok(steps::plan(&target, &facts))
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

/// A machine with nothing on it.
fn blank(id: NodeId) -> HostFacts {
    HostFacts {
        system: "Linux".into(),
        machine: "x86_64".into(),
        disk_free_kib: u64::MAX,
        setting: Setting::default(),
        nodes: vec![NodeFacts {
            id,
            state: ProcessState::Stopped,
            has_record: false,
            has_data: false,
            lost_data: false,
            pid: None,
            executable: None,
            sha256: None,
            arguments: Vec::new(),
            taken_ports: Vec::new(),
            is_filtered: false,
        }],
    }
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
