//! Verbs of the provider `gcp`, where they do more than with other hosts: machines are made before
//! nodes can run on them, and deleted when the cluster goes.

mod bars;
mod machines;
mod plan;

pub use machines::{
    MachineStates, extend, findings, findings_json, findings_text, machine_states,
    restart_machines, stop_machines, verdict,
};
pub use plan::plan;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::cli::{Options, Output};
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};
use crate::hosts::Request;
use crate::hosts::gcp::changes::Change;
use crate::hosts::gcp::events::Action;
use crate::hosts::gcp::{self, Infrastructure, Purpose};
use crate::hosts::inventory::Host;
use crate::interrupt::{Interruptions, interruption};
use crate::lock::Lock;
use crate::ops::{Context, no_majority};
use crate::out;
use crate::progress::Progress;
use crate::verbs::up;
use bars::Bars;

/// Makes what machines are missing, then brings the nodes up as on any hosts.
///
/// # Errors
/// The plan would lose data, Terraform or Google fails, a machine does not answer, or what `up`
/// fails with elsewhere.
pub async fn up(cluster: Cluster, options: &Options, allow_data_loss: bool) -> Result<()> {
    let progress = Progress::new();
    // From the beginning: also what comes between two steps ends the next one.
    let mut interruptions = Interruptions::new();
    let purpose = Purpose::Up { allow_data_loss };
    let lock = Lock::take(&cluster, "up").await?;
    let infrastructure = planned(&cluster, purpose, options, &progress).await?;
    let changes = &infrastructure.changes;
    let refusing = plan::refuse_other_members(&cluster, changes);
    unless_interrupted("up", &mut interruptions, refusing).await?;
    if is_destructive(changes) {
        confirm("up", &cluster, options, changes).await?;
    }
    let mut missing = applied(&cluster, &infrastructure, "up", &progress).await?;
    for (id, error) in &missing {
        progress.note(&format!(
            "going on without the machine of node {id}: {error}"
        ));
    }
    let step = progress.begin("wait until the machines answer");
    let waiting = wait(&cluster, &infrastructure, options, &mut missing);
    unless_interrupted("up", &mut interruptions, waiting).await?;
    step.done();
    let growing = grow(&cluster, changes, &progress);
    unless_interrupted("up", &mut interruptions, growing).await?;
    // The rest takes the lock itself, and another one on the machines.
    drop(lock);
    let reaching = Context::reach(cluster, true);
    let mut context = unless_interrupted("up", &mut interruptions, reaching).await?;
    gcp::inventory::leave_out(Arc::make_mut(&mut context.inventory), &missing);
    let done = up::up(&context, options, false).await;
    if has_nodes(&done) {
        gcp::remember_members(&context.cluster)?;
    }
    done
}

/// Waits for the machines that are there. Those that do not come up join the `missing` ones, as long
/// as the others make a majority.
async fn wait(
    cluster: &Cluster,
    infrastructure: &Infrastructure,
    options: &Options,
    missing: &mut BTreeMap<NodeId, Error>,
) -> Result<()> {
    let context = Context::open(cluster.clone()).await?;
    let hosts = context.inventory.hosts.iter();
    let hosts: Vec<Host> = hosts
        .filter(|host| !host.nodes.iter().any(|id| missing.contains_key(id)))
        .cloned()
        .collect();
    let (new, of) = (
        infrastructure.renewed(cluster),
        Arc::clone(&context.cluster),
    );
    // Google's guest agent gives a new machine its keys when SSH may have answered with others.
    let forget = move |name: &str| {
        if new.contains(name) {
            // Where that fails, the refusal stays, and is told.
            let _ = gcp::login::forget_host_keys(&of, &BTreeSet::from([name.to_owned()]));
        }
    };
    let timeout = options.timeout.unwrap_or(gcp::reach::TIME_MAX);
    let waited = gcp::reach::wait(&hosts, timeout, forget).await.into_iter();
    let failed = waited.filter_map(|(id, outcome)| Some((id, outcome.err()?)));
    missing.extend(failed);
    if cluster.nodes.len() - missing.len() < cluster.majority() {
        let failed = std::mem::take(missing).into_iter();
        let failed = failed.map(|(id, error)| (id, Err::<(), _>(error)));
        return Err(no_majority(failed.collect(), "ready"));
    }
    Ok(())
}

/// Lets file systems follow the data disks that have grown. Where that fails they follow at the next boot.
async fn grow(cluster: &Cluster, changes: &[Change], progress: &Progress) -> Result<()> {
    const GROW: &str = "resize2fs /dev/disk/by-id/google-raft-data\n";
    /// A large disk that is in use.
    const DEADLINE: Duration = Duration::from_secs(60);
    let is_grown = |change: &&Change| {
        change.resource_type == "google_compute_disk" && change.action == Action::Update
    };
    let grown = changes.iter().filter(is_grown);
    let names: BTreeSet<String> = grown.filter_map(|change| change.key.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let Some(inventory) = gcp::inventory::of_names(cluster, &names).await? else {
        return Ok(());
    };
    let mut growing = JoinSet::new();
    for host in inventory.hosts {
        growing.spawn(async move {
            let request = Request::new("grow the file system", GROW, DEADLINE);
            let cause = match host.transport.run(request).await {
                Ok(output) if output.status == 0 => return None,
                Ok(output) => output.stderr.trim().to_owned(),
                Err(error) => error.to_string(),
            };
            Some(format!(
                "{}: the file system follows its data disk at the next boot (`raftctl restart {} --vm`): {cause}",
                host.name(),
                host.nodes.first().copied().unwrap_or_default()
            ))
        });
    }
    for trouble in growing.join_all().await.into_iter().flatten() {
        progress.note(&trouble);
    }
    Ok(())
}

/// Whether nodes were started, so that they may have data: also where some were not, or no leader
/// was elected in time.
fn has_nodes(done: &Result<()>) -> bool {
    matches!(
        done,
        Ok(()) | Err(Error::Partial { .. } | Error::NoLeader(_))
    )
}

/// Deletes every machine; the data disks as well, unless they are to be kept.
///
/// # Errors
/// The operator did not confirm; Terraform or Google fails.
pub async fn down(cluster: Cluster, options: &Options, keep_data: bool) -> Result<()> {
    let progress = Progress::new();
    let purpose = if keep_data {
        Purpose::KeepData
    } else {
        Purpose::Down
    };
    let lock = Lock::take(&cluster, "down").await?;
    let infrastructure = planned(&cluster, purpose, options, &progress).await?;
    if !infrastructure.changes.is_empty() {
        confirm("down", &cluster, options, &infrastructure.changes).await?;
    }
    applied(&cluster, &infrastructure, "down", &progress).await?;
    let mut is_seen = false;
    if !keep_data {
        is_seen = refuse_leftovers(&cluster, &progress).await?;
        gcp::forget_cluster(&cluster)?;
        crate::ops::seen::forget(&cluster.state_dir())?;
        lock.remove()?;
    }
    let name = &cluster.name;
    match options.output {
        Output::Json => {
            let disks = if keep_data { "kept" } else { "deleted" };
            out::json(&json!({"cluster": name, "data_disks": disks}))
        }
        Output::Text if keep_data => out::line(&format!(
            "cluster {name} is down; its data disks are kept, and cost money: `raftctl up` goes on with them, \
             `raftctl down` deletes them"
        )),
        Output::Text if is_seen => out::line(&format!(
            "cluster {name} is down, and nothing of it is left"
        )),
        Output::Text => out::line(&format!(
            "cluster {name} is down, as far as Terraform's state tells"
        )),
    }
}

/// Refuses to call a cluster gone while machines or disks of it cost money, of which Terraform knows
/// nothing. Whether that could be seen.
async fn refuse_leftovers(cluster: &Cluster, progress: &Progress) -> Result<bool> {
    let found = match gcp::leftovers(cluster).await {
        Ok(found) if found.is_empty() => return Ok(true),
        Ok(found) => found,
        Err(error) => {
            progress.note(&format!(
                "whether anything is left at Google is unknown: {error}"
            ));
            return Ok(false);
        }
    };
    let (name, project) = (
        &cluster.name,
        cluster.gcp.project.as_deref().unwrap_or_default(),
    );
    let mut text = format!(
        "machines or disks of cluster {name} are still at Google, and cost money, but Terraform's state, which may have \
         been lost, does not know them; if nobody else has it, delete them with"
    );
    for left in found {
        text.push_str(&format!(
            "\n  gcloud compute {} delete {} --zone={} --project={project}",
            left.kind, left.name, left.zone
        ));
    }
    Err(Error::Cloud(text))
}

async fn planned(
    cluster: &Cluster,
    purpose: Purpose,
    options: &Options,
    progress: &Progress,
) -> Result<Infrastructure> {
    let step = progress.begin("plan the infrastructure");
    let mut bars = Bars::new(progress);
    let mut watch = |event: &_| bars.see(event);
    let infrastructure =
        Infrastructure::plan(cluster, purpose, options.timeout, &mut watch).await?;
    step.done();
    Ok(infrastructure)
}

/// Does what was planned; the nodes whose machines could not be made, each with the reason. Where machines are there already, nodes may run on them: so their cluster
/// is locked meanwhile. Terraform must not be cut off, and bounds itself.
async fn applied(
    cluster: &Cluster,
    infrastructure: &Infrastructure,
    verb: &str,
    progress: &Progress,
) -> Result<BTreeMap<NodeId, Error>> {
    let changes = &infrastructure.changes;
    if !changes.is_empty() {
        progress.note(&format!("infrastructure: {}", summary(changes)));
    }
    let mut bars = Bars::new(progress);
    let mut watch = |event: &_| bars.see(event);
    let work = infrastructure.apply(cluster, &mut watch);
    let existing = match changes.is_empty() {
        true => None, // Some output alone is written anew.
        false => {
            let standing = gcp::inventory::of_names(cluster, &infrastructure.standing);
            unless_interrupted(verb, &mut Interruptions::new(), standing).await?
        }
    };
    match existing {
        None => work.await,
        Some(inventory) => {
            let context = Context {
                cluster: Arc::new(cluster.clone()),
                inventory: Arc::new(inventory),
            };
            let done = context.locked_to_the_end(verb, context.cluster.limits.lock_wait, work);
            done.await
        }
    }
}

/// How many resources are made, changed and deleted.
fn summary(changes: &[Change]) -> String {
    let count = |wanted: &[Action]| {
        changes
            .iter()
            .filter(|change| wanted.contains(&change.action))
            .count()
    };
    let create = count(&[Action::Create]);
    let update = count(&[Action::Update]);
    let replace = count(&[Action::Replace]);
    let delete = count(&[Action::Delete]);
    let parts = [
        (create, "create"),
        (update, "change"),
        (replace, "replace"),
        (delete, "delete"),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, verb)| format!("{verb} {count}"))
        .collect();
    parts.join(", ")
}

fn is_destructive(changes: &[Change]) -> bool {
    changes
        .iter()
        .any(|change| matches!(change.action, Action::Delete | Action::Replace))
}

/// Asks for the cluster's name before anything is deleted.
async fn confirm(
    verb: &str,
    cluster: &Cluster,
    options: &Options,
    changes: &[Change],
) -> Result<()> {
    let name = &cluster.name;
    if options.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage(format!(
            "this deletes resources of cluster {name} ({}); nobody is there to confirm it, so say --yes",
            summary(changes)
        )));
    }
    for change in changes {
        eprintln!("  {}", change.describe());
    }
    // Whoever sees the question may answer it in this way at once.
    let interrupted = interruption();
    eprint!("Write the cluster's name to go on: ");
    // On a thread of its own, which nobody waits for when Ctrl-C comes instead of an answer.
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map(|_| answer)
    });
    let answer = async {
        let answer = reading.await.map_err(std::io::Error::other).flatten();
        answer.map_err(|error| Error::Other(format!("cannot read the answer: {error}")))
    };
    let answer = tokio::select! {
        answer = answer => answer?,
        () = interrupted => return Err(Error::interrupted(verb)),
    };
    if answer.trim() == name {
        return Ok(());
    }
    Err(Error::Usage("not confirmed; nothing was changed".into()))
}

/// Does something that Ctrl-C may end. It has to be said wherever Terraform has run before: from then
/// on this process hears the signal, which does not end it by itself any more.
async fn unless_interrupted<T>(
    verb: &str,
    interruptions: &mut Interruptions,
    doing: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        // What came before this began counts as well, however soon this is done.
        biased;
        () = interruptions.next() => Err(Error::interrupted(verb)),
        done = doing => done,
    }
}
