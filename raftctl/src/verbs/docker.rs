//! Verbs of the provider `docker`, where they do more than with other hosts: containers are made
//! before nodes can run in them, and removed when the cluster goes.

use std::sync::Arc;

use serde_json::json;

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::hosts::control::HostFacts;
use crate::hosts::inventory::{Host, Inventory};
use crate::local::binary;
use crate::local::folder_lock::FolderLock;
use crate::local::known_logs;
use crate::ops::{Context, facts, target};
use crate::plan::{self as steps, Step};
use crate::providers::docker::{self, Change};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::{confirm, up};

/// Prints what `up` would do. Nothing is made.
///
/// # Errors
/// The engine does not answer, or something stands in the way.
pub async fn plan(cluster: Cluster, options: &Options) -> Result<()> {
    let changes = docker::plan(&cluster)?;
    let name = cluster.name.clone();
    let steps = node_steps(cluster, &changes).await?;
    match options.output {
        Output::Json => {
            let change =
                |change: &Change| json!({ "action": "docker", "text": change.to_string() });
            let all = changes
                .iter()
                .map(change)
                .chain(steps.iter().map(up::step_to_json));
            out::json(&json!({
                "cluster": name,
                "provider": "docker",
                "steps": all.collect::<Vec<_>>(),
            }))
        }
        Output::Text if changes.is_empty() && steps.is_empty() => {
            out::line(&format!("cluster {name} is up: nothing to do"))
        }
        Output::Text => {
            out::line(&format!("cluster {name} (docker):"))?;
            let texts = changes.iter().map(Change::to_string);
            let texts = texts.chain(steps.iter().map(Step::to_string));
            for (count, text) in texts.enumerate() {
                out::line(&format!("  {}. {text}", count + 1))?;
            }
            Ok(())
        }
    }
}

/// What is to be done in the containers once they are there. One that is yet to be made has nothing
/// in it; of one that is yet to be started or put into the network nothing is known to run.
async fn node_steps(cluster: Cluster, changes: &[Change]) -> Result<Vec<Step>> {
    let context = Context::look(cluster, true).await?;
    let blank = |change: &Change| match change {
        Change::Create(id) => Some(HostFacts::blank(*id)),
        // One that is out of the network may have a node that runs; nobody can ask it now.
        Change::Start(id) | Change::Connect(id) => {
            let mut host = HostFacts::blank(*id);
            host.nodes[0].has_data = true;
            Some(host)
        }
        Change::Build { .. } | Change::Network(_) => None,
    };
    let mut blanks: Vec<HostFacts> = changes.iter().filter_map(blank).collect();
    // A container may have to be put into the network and started.
    blanks.sort_by_key(|blank| blank.nodes[0].id);
    blanks.dedup_by_key(|blank| blank.nodes[0].id);
    let is_there = |host: &&Host| {
        let id = host.nodes.first();
        !blanks.iter().any(|blank| id == Some(&blank.nodes[0].id))
    };
    let there = Inventory {
        hosts: context
            .inventory
            .hosts
            .iter()
            .filter(is_there)
            .cloned()
            .collect(),
        members: context.inventory.members.clone(),
    };
    let there = Context {
        cluster: Arc::clone(&context.cluster),
        inventory: Arc::new(there),
        identity: context.identity.clone(),
    };
    let mut facts = facts::gather(&there).await?;
    facts
        .hosts
        .extend(blanks.into_iter().map(|blank| (blank.nodes[0].id, blank)));
    facts::recall(&context, &mut facts)?;
    facts.leave_obstructed(context.cluster.majority());
    for (id, error) in &facts.left_behind {
        Progress::new().note(&format!("going on without node {id}: {error}"));
    }
    let target = target::target(&context, &binary::locate(&context.cluster)?, &facts)?;
    steps::plan(&target, &facts).map_err(|obstacles| Error::Usage(obstacles.to_string()))
}

/// Makes and starts what containers are missing.
///
/// # Errors
/// The engine refuses.
pub async fn make(cluster: &Cluster) -> Result<()> {
    let progress = Progress::new();
    let _lock = FolderLock::take(cluster, "up").await?;
    let changes = docker::plan(cluster)?;
    docker::make(cluster, &changes, |text| progress.note(text)).await
}

/// Removes every container and the network, with all data; with `purge` the image, too.
///
/// # Errors
/// The operator did not confirm, or the engine refuses.
pub async fn down(cluster: &Cluster, options: &Options, purge: bool) -> Result<()> {
    confirm::all_data("down", &cluster.name, options).await?;
    let progress = Progress::new();
    let lock = FolderLock::take(cluster, "down").await?;
    let removed = docker::remove(cluster, purge)?;
    for removed in &removed {
        progress.note(&format!("removed {removed}"));
    }
    for folder in docker::namesakes(cluster)? {
        progress.note(&format!(
            "another cluster of this name is left alone: that of {folder}; `raftctl down` there \
             removes it"
        ));
    }
    docker::forget(cluster)?;
    known_logs::forget(&cluster.state_dir())?;
    lock.remove()?;
    let name = &cluster.name;
    match options.output {
        Output::Json => out::json(&json!({ "cluster": name, "purged": true, "removed": removed })),
        Output::Text if removed.is_empty() => out::line(&format!(
            "cluster {name} is not there: no container of this folder's cluster.yaml"
        )),
        Output::Text => out::line(&format!(
            "cluster {name} is down, and nothing of it is left"
        )),
    }
}
