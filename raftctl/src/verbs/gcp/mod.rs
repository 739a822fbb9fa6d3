//! Verbs of the provider `gcp`, where they do more than with other hosts: machines are made before
//! nodes can run on them, and deleted when the cluster goes.

mod bars;
mod leaving;
mod machines;
mod plan;

pub use machines::{extend, restart_machines, stop_machines};
pub use plan::plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::cluster::outcomes::no_majority;
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};
use crate::hosts::inventory::Host;
use crate::local::folder_lock::FolderLock;
use crate::local::interrupt::Interruptions;
use crate::ops::Context;
use crate::providers::gcp::changes::Change;
use crate::providers::gcp::events::Action;
use crate::providers::gcp::host_keys::Asking;
use crate::providers::gcp::leaving::Former;
use crate::providers::gcp::{self, Infrastructure, Purpose};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::transport::Request;
use crate::verbs::{confirm, up};
use bars::Bars;

/// Makes what machines are missing, then brings the nodes up as on any hosts.
///
/// # Errors
/// The plan would lose data, Terraform or Google fails, a machine does not answer, or what `up`
/// fails with elsewhere.
pub async fn up(cluster: Cluster, options: &Options, allow_data_loss: bool) -> Result<()> {
    let nodes = async |context: &Context| {
        let left_behind = up::converge(context, options).await?;
        // Large: on the heap.
        Box::pin(leaving::delete_left(context, options, &Progress::new())).await?;
        up::tell(context, options, left_behind).await
    };
    up_with(cluster, options, allow_data_loss, nodes).await
}

/// Makes what is missing of the machines, then does `nodes` with what runs on them.
///
/// # Errors
/// As of [`up`].
pub async fn up_with(
    cluster: Cluster,
    options: &Options,
    allow_data_loss: bool,
    nodes: impl AsyncFnOnce(&Context) -> Result<()>,
) -> Result<()> {
    let progress = Progress::new();
    // From the beginning: also what comes between two steps ends the next one.
    let mut interruptions = Interruptions::new();
    let purpose = Purpose::Up { allow_data_loss };
    let lock = FolderLock::take(&cluster, "up").await?;
    // Before anything here logs in to them.
    let unseen = gcp::new_machines(&cluster)?;
    gcp::remember_named(&cluster)?;
    let leading = leaving::former(&cluster);
    let former = unless_interrupted("up", &mut interruptions, leading).await?;
    let infrastructure = planned(&cluster, purpose, &former, options, &progress).await?;
    let changes = &infrastructure.changes;
    // Told while they last only: these are no steps.
    let looking = progress.begin("look at the machines that are there");
    let refusing = plan::refuse_members(&cluster, &infrastructure);
    unless_interrupted("up", &mut interruptions, refusing).await?;
    drop(looking);
    if is_destructive(changes) {
        confirm_changes("up", &cluster, options, &infrastructure).await?;
    }
    let going_off = gcp::status::wait_until_off(&cluster, changes, &progress);
    unless_interrupted("up", &mut interruptions, going_off).await?;
    let has_new = !unseen.is_empty() || !infrastructure.renewed(&cluster).is_empty();
    let asking = Asking::begin(&cluster, has_new);
    let at_once = async { Ok(()) };
    let mut missing = applied(&cluster, &infrastructure, "up", &progress, at_once).await?;
    gcp::os_login::ensure(&cluster).await?;
    for id in missing.keys() {
        progress.note(&format!(
            "going on without the machine of node {id}; why is told at the end"
        ));
    }
    let step = progress.begin("wait until the machines answer");
    let returned = leaving::returned(&cluster, &former)?;
    let awaited = Awaited { unseen, returned };
    let waiting = wait(&cluster, awaited, options, &mut missing, asking);
    unless_interrupted("up", &mut interruptions, waiting).await?;
    step.done();
    let growing = grow(&cluster, changes, &progress);
    unless_interrupted("up", &mut interruptions, growing).await?;
    let looking = progress.begin("look at the machines");
    // The rest takes the lock itself, and another one on the machines.
    drop(lock);
    let reaching = Context::look(cluster, true);
    let mut context = unless_interrupted("up", &mut interruptions, reaching).await?;
    drop(looking);
    gcp::hosts::leave_out(Arc::make_mut(&mut context.inventory), &missing);
    let done = nodes(&context).await;
    if has_nodes(&done) {
        gcp::remember_members(&context.cluster)?;
    }
    done
}

/// Whom an `up` waits for beside the nodes of cluster.yaml.
struct Awaited {
    /// The machines whose host keys were not settled when this `up` began.
    unseen: BTreeSet<String>,
    /// The nodes that leave, and that have machines again because nobody leads.
    returned: Vec<NodeId>,
}

/// Waits for the machines that are there. Those that do not come up join the `missing` ones, as long
/// as the others make a majority.
async fn wait(
    cluster: &Cluster,
    Awaited { unseen, returned }: Awaited,
    options: &Options,
    missing: &mut BTreeMap<NodeId, Error>,
    asking: Asking,
) -> Result<()> {
    let context = Context::open(cluster.clone()).await?;
    let context = leaving::with(&context, &returned).await?;
    let hosts = context.inventory.hosts.iter();
    let hosts: Vec<Host> = hosts
        .filter(|host| !host.nodes.iter().any(|id| missing.contains_key(id)))
        .cloned()
        .collect();
    let new = &unseen | &gcp::new_machines(cluster)?;
    let (renewed, of) = (new.clone(), Arc::clone(&context.cluster));
    // Google's guest agent gives a new machine its keys when SSH may have answered with others.
    let forget = move |name: &str| {
        // Where that fails, the refusal stays, and is told.
        let name = BTreeSet::from([name.to_owned()]);
        renewed.is_superset(&name) && gcp::login::forget_host_keys(&of, &name).is_ok()
    };
    let timeout = options.timeout.unwrap_or(gcp::readiness::TIME_MAX);
    let waited = gcp::readiness::wait(&hosts, timeout, forget)
        .await
        .into_iter();
    let failed = waited.filter_map(|(id, outcome)| Some((id, outcome.err()?)));
    missing.extend(failed);
    settle_host_keys(cluster, &new, &hosts, missing, asking).await?;
    let ids = cluster.ids().into_iter();
    if ids.filter(|id| !missing.contains_key(id)).count() < cluster.majority() {
        let failed = std::mem::take(missing).into_iter();
        let failed = failed.map(|(id, error)| (id, Err::<(), _>(error)));
        return Err(no_majority(failed.collect(), "ready"));
    }
    Ok(())
}

/// Compares the host keys of `new` machines that are ready with what Google knows. Those that have shown
/// another one join the `missing` ones; whatever a machine is known by from then on, it keeps.
async fn settle_host_keys(
    cluster: &Cluster,
    new: &BTreeSet<String>,
    hosts: &[Host],
    missing: &mut BTreeMap<NodeId, Error>,
    asking: Asking,
) -> Result<()> {
    let is_ready = |host: &&Host| !host.nodes.iter().any(|id| missing.contains_key(id));
    let ready: Vec<&Host> = hosts.iter().filter(is_ready).collect();
    let names: BTreeSet<String> = ready.iter().map(|host| host.name().to_owned()).collect();
    let strangers = gcp::host_keys::strangers(cluster, &(new & &names), asking).await?;
    for host in ready {
        if let (Some(id), Some(error)) = (host.nodes.first(), strangers.get(host.name())) {
            missing.insert(*id, error.clone());
        }
    }
    gcp::remember_host_keys(cluster, &names)
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
    let Some(inventory) = gcp::hosts::of_names(cluster, &names).await? else {
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
    let lock = FolderLock::take(&cluster, "down").await?;
    let infrastructure = planned(&cluster, purpose, &Former::Stay, options, &progress).await?;
    if !infrastructure.changes.is_empty() || !infrastructure.strays.is_empty() {
        confirm_changes("down", &cluster, options, &infrastructure).await?;
    }
    let mut interruptions = Interruptions::new();
    let mut tell = |text: String| progress.note(&text);
    let strays = async {
        infrastructure.delete_strays(&mut tell).await;
        Ok(())
    };
    unless_interrupted("down", &mut interruptions, strays).await?;
    let at_once = async { Ok(()) };
    applied(&cluster, &infrastructure, "down", &progress, at_once).await?;
    let mut tell = |text: String| progress.note(&text);
    let looking = progress.begin("look whether anything is left");
    let confirming = infrastructure.confirm_gone(&cluster, &mut tell);
    let others = unless_interrupted("down", &mut Interruptions::new(), confirming).await?;
    drop(looking);
    if !keep_data {
        if let Err(error) = gcp::os_login::forget(&cluster).await {
            progress.note(&error.to_string());
        }
        gcp::forget_cluster(&cluster)?;
        crate::local::known_logs::forget(&cluster.state_dir())?;
        crate::local::known_nodes::forget(&cluster.state_dir())?;
        lock.remove()?;
    }
    let name = &cluster.name;
    match options.output {
        Output::Json => {
            let disks = if keep_data { "kept" } else { "deleted" };
            let mut value = json!({"cluster": name, "data_disks": disks});
            if let Some(others) = others {
                value["others"] = json!(others);
            }
            out::json(&value)
        }
        Output::Text if keep_data => out::line(&format!(
            "cluster {name} is down; its data disks are kept, and cost money: `raftctl up` goes on with them, \
             `raftctl down` deletes them"
        )),
        Output::Text => out::line(&match others {
            None => format!("cluster {name} is down, and nothing of it is left"),
            Some(others) => format!("cluster {name} is down: {others}"),
        }),
    }
}

async fn planned(
    cluster: &Cluster,
    purpose: Purpose,
    former: &Former,
    options: &Options,
    progress: &Progress,
) -> Result<Infrastructure> {
    let step = progress.begin("plan the infrastructure");
    let mut bars = Bars::new(progress);
    let mut watch = |event: &_| bars.see(event);
    let infrastructure =
        Infrastructure::plan(cluster, purpose, former, options.timeout, &mut watch).await?;
    step.done();
    Ok(infrastructure)
}

/// Does what was planned; the nodes whose machines could not be made, each with the reason. Where machines are there already, nodes may run on them: so their cluster
/// is locked meanwhile, also while `before` is done. Terraform must not be cut off, and bounds itself.
async fn applied(
    cluster: &Cluster,
    infrastructure: &Infrastructure,
    verb: &str,
    progress: &Progress,
    before: impl Future<Output = Result<()>>,
) -> Result<BTreeMap<NodeId, Error>> {
    let changes = &infrastructure.changes;
    if !changes.is_empty() {
        progress.note(&format!("infrastructure: {}", summary(changes)));
    }
    // What is made has lines of its own; what comes before and after has this one.
    let _changing = progress.begin("change the infrastructure");
    let mut bars = Bars::new(progress);
    let mut watch = |event: &_| bars.see(event);
    // All that is asked of Google is a lot to carry about.
    let work = Box::pin(async {
        before.await?;
        infrastructure.apply(cluster, &mut watch).await
    });
    let existing = match changes.is_empty() {
        true => None, // Some output alone is written anew.
        false => {
            let standing = gcp::hosts::of_names(cluster, &infrastructure.standing);
            unless_interrupted(verb, &mut Interruptions::new(), standing).await?
        }
    };
    match existing {
        None => work.await,
        Some(inventory) => {
            let context = Context {
                cluster: Arc::new(cluster.clone()),
                inventory: Arc::new(inventory),
                identity: Default::default(),
            };
            let done = context.locked_to_the_end(verb, progress, work);
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
    let import = count(&[Action::Import]);
    let parts = [
        (import, "take in"),
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

/// What is to be done, a line each.
fn lines(infrastructure: &Infrastructure) -> Vec<String> {
    let strays = infrastructure.strays.iter();
    let strays = strays.map(|stray| {
        format!(
            "delete {}, which Terraform's state does not know",
            stray.describe()
        )
    });
    let changes = infrastructure.changes.iter().map(Change::describe);
    strays.chain(changes).collect()
}

fn is_destructive(changes: &[Change]) -> bool {
    changes.iter().any(Change::is_destructive)
}

/// Asks before anything is deleted.
async fn confirm_changes(
    verb: &str,
    cluster: &Cluster,
    options: &Options,
    infrastructure: &Infrastructure,
) -> Result<()> {
    let name = &cluster.name;
    let lines = lines(infrastructure);
    let deletes = format!(
        "resources of cluster {name} ({})",
        match infrastructure.changes.is_empty() {
            true => lines.join(", "),
            false => summary(&infrastructure.changes),
        }
    );
    let list: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    let question = format!("{list}Write the cluster's name to go on: ");
    confirm::ask(verb, name, options, &deletes, &question).await
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
