//! `down`: no process stays; data stays unless told otherwise.

use serde_json::json;

use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{NodeId, list};
use crate::error::Result;
use crate::local::folder_lock::FolderLock;
use crate::local::{known_logs, known_nodes};
use crate::ops::{Context, run};
use crate::providers::ssh::login_facts;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::confirm;

/// Stops every node, kills those that do not stop, and with `purge` deletes all their files. A host
/// that does not answer does not hide the others.
///
/// # Errors
/// A node is still there, or its files are; each is named. The operator did not confirm.
pub async fn run(context: &Context, options: &Options, purge: bool) -> Result<()> {
    let progress = Progress::new();
    if purge {
        confirm::all_data("down", &context.cluster.name, options).await?;
    }
    let lock = FolderLock::take(&context.cluster, "down").await?;
    // Also those that cluster.yaml does not name any more.
    let context = &match purge {
        true => context.with_all_left().await?,
        false => context.with_former().await?,
    };
    let ids = context.cluster.ids();
    let step = progress.begin(&format!("stop {}", list(&ids)));
    let mut outcomes = run::end(context, &ids, &progress).await;
    then(&mut outcomes, async |ids| context.clean(ids).await).await;
    step.done();
    if purge {
        then(&mut outcomes, async |ids| context.purge(ids).await).await;
        let purged = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
        let purged: Vec<NodeId> = purged.map(|(id, _)| *id).collect();
        known_logs::remove(&context.cluster.state_dir(), &purged)?;
        known_nodes::remove(&context.cluster.state_dir(), &purged)?;
        known_nodes::forget_left(&context.cluster.state_dir(), &purged)?;
        forget_left(context, &progress)?;
    }
    all_or_partial(outcomes, if purge { "deleted" } else { "stopped" })?;
    if purge {
        login_facts::forget(&context.cluster.state_dir())?;
        lock.remove()?;
    }
    tell(context, options, purge).await
}

/// Whoever left before may have been on a host that is not there any more: nobody waits for it. Where its files may be is told
/// once more.
fn forget_left(context: &Context, progress: &Progress) -> Result<()> {
    let state_dir = context.cluster.state_dir();
    let left = known_nodes::left(&state_dir);
    for (id, node) in &left {
        let host = node.host.as_deref().unwrap_or("its host");
        progress.note(&format!(
            "the files of node {id}, which left before, stay on {host}"
        ));
    }
    known_nodes::forget_left(&state_dir, &left.into_keys().collect::<Vec<_>>())
}

/// Does the next thing with those nodes with which all went well so far.
async fn then<T>(outcomes: &mut Outcomes<()>, next: impl AsyncFnOnce(&[NodeId]) -> Outcomes<T>) {
    let well = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
    let well: Vec<NodeId> = well.map(|(id, _)| *id).collect();
    let done = next(&well).await.into_iter();
    outcomes.extend(done.map(|(id, outcome)| (id, outcome.map(drop))));
}

async fn tell(context: &Context, options: &Options, purge: bool) -> Result<()> {
    let has_data = !purge && may_have_data(context).await;
    let name = &context.cluster.name;
    let hosts = context.inventory.hosts.iter();
    let mut folders: Vec<&str> = hosts.map(|host| host.layout.base.as_str()).collect();
    folders.dedup();
    let at = match context.has_remote_hosts() {
        true => format!("{} on its hosts", folders.join(", ")),
        false => folders.join(", "),
    };
    match options.output {
        Output::Json => {
            let data = has_data.then_some(folders);
            out::json(&json!({ "cluster": name, "data": data }))
        }
        Output::Text if purge => {
            out::line(&format!("cluster {name} is down, and its data is deleted"))
        }
        Output::Text if !has_data => out::line(&format!(
            "cluster {name} is not there: no process, and no data in {at}"
        )),
        Output::Text => out::line(&format!(
            "cluster {name} is down; its data is still in {at} (`raftctl up` goes on with it, \
             `raftctl down --purge` deletes it)"
        )),
    }
}

/// Whether there is anything to go on with. Where that can't be seen, there may be.
async fn may_have_data(context: &Context) -> bool {
    let facts = context.node_facts(&context.cluster.ids()).await;
    let mut nodes = facts.values();
    nodes.any(|node| node.as_ref().map_or(true, |node| node.has_data))
}
