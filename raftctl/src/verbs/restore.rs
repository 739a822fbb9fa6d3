//! `restore`: a backup becomes a new cluster, with another id, under the old name.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cluster::NodeId;
use crate::cluster::id::ClusterId;
use crate::cluster::outcomes::all_or_partial;
use crate::error::{Error, Result};
use crate::hosts::control::ProcessState;
use crate::hosts::directories::{Made, Text};
use crate::local::binary::Binary;
use crate::local::folder_lock::FolderLock;
use crate::local::state_files;
use crate::ops::run::LeftBehind;
use crate::ops::{Context, anew, target};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::text::backups::{Checked, Checker};

/// What `restore` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The backup; - reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// A backup that is whole.
pub struct Source {
    /// What it is of.
    pub checked: Checked,
    /// All of it.
    pub text: Text,
}

/// Reads a backup, and checks all of it.
///
/// # Errors
/// It can't be read, or is damaged.
pub fn read(file: &Path) -> Result<Source> {
    let failed = |error| Error::file("read", file, &error);
    let mut bytes = Vec::new();
    match file == Path::new("-") {
        true => std::io::stdin().lock().read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|mut open| open.read_to_end(&mut bytes)),
    }
    .map_err(failed)?;
    let mut checker = Checker::default();
    let checked = checker.feed(&bytes).and_then(|()| checker.finish());
    let checked = checked.map_err(|fault| {
        let file = file.display();
        Error::CheckFailed(format!(
            "{file} is no whole backup: {fault}; nothing was changed: use another one"
        ))
    })?;
    let text = anew::pack(bytes)?;
    Ok(Source { checked, text })
}

/// Makes the cluster out of a backup, and starts it.
///
/// # Errors
/// Something is there already; a host does not answer; a node does not come up, or has another state.
pub async fn run(context: &Context, options: &Options, source: &Source) -> Result<()> {
    let _folder = FolderLock::take(&context.cluster, "restore").await?;
    let progress = Progress::new();
    let binary = target::obtain(context, &progress).await?;
    // Large: on the heap.
    let working = Box::pin(restore(context, options, source, &binary, &progress));
    let (made, left_behind) = context.locked("restore", &progress, working).await?;
    tell(context, options, source, &made, left_behind)
}

async fn restore(
    context: &Context,
    options: &Options,
    source: &Source,
    binary: &Binary,
    progress: &Progress,
) -> Result<(Made, LeftBehind)> {
    let record = Record::of(context, "restore.json");
    let hash = format!("{:08x}", source.checked.head.hash);
    let begun = record.load().filter(|begun| begun.hash == hash);
    let mut begun = begun.unwrap_or_else(|| Begun {
        id: ClusterId::mint(),
        hash,
        made: None,
    });
    let stopped = unused(context, begun.id).await?;
    record.save(&begun)?;
    let state = anew::State {
        text: &source.text,
        id: begun.id,
        sets_aside: false,
    };
    if !stopped.is_empty() {
        begun.made = Some(anew::make(context, &stopped, binary, &state, progress).await?);
        record.save(&begun)?;
    }
    let made = begun.made.ok_or_else(|| {
        Error::Other("the nodes run already, and nothing is known of their state".into())
    })?;
    let timeout = options.timeout;
    let left_behind = anew::start(context, binary, begun.id, &made, timeout, progress).await?;
    record.forget()?;
    Ok((made, left_behind))
}

/// The nodes that do not run. All of them are new, or were made by an earlier run of this one.
///
/// # Errors
/// A host does not answer; a node of the cluster does; a directory holds something else.
async fn unused(context: &Context, id: ClusterId) -> Result<Vec<NodeId>> {
    let ids = context.cluster.ids();
    let hosts = context.host_facts().await;
    let hosts = all_or_partial(hosts, "looked at").map_err(|error| {
        let advice = "a member that nobody sees could go on beside the restored cluster, so every \
                      host must answer; nothing was changed";
        error.advise(advice.into())
    })?;
    let replies = context.replies(&ids).await;
    let (mut obstacles, mut stopped) = (Vec::new(), Vec::new());
    for node in hosts.values().flat_map(|host| &host.nodes) {
        let host = context.inventory.host_of(node.id);
        let is_own = node.cluster_id == Some(id);
        let answers = match replies.get(&node.id) {
            Some(Ok(reply)) => reply.cluster_id != id.to_string(),
            _ => false,
        };
        let (node_id, name) = (node.id, host.name());
        if answers || node.state != ProcessState::Stopped && !is_own {
            let address = &context.inventory.member(node_id).admin_address;
            obstacles.push(format!(
                "node {node_id} is there, at {address} on {name}: clients would find two clusters; \
                 end it first (`raftctl stop all`)"
            ));
        }
        if node.has_data && !is_own {
            let folder = host.layout.node(node_id).data_dir;
            obstacles.push(format!(
                "{folder} on {name} holds data: restoring puts nothing over it; move it away, or \
                 delete the cluster with `raftctl down --purge`"
            ));
        }
        if node.state == ProcessState::Stopped {
            stopped.push(node_id);
        }
    }
    match obstacles.is_empty() {
        true => Ok(stopped),
        false => Err(Error::Usage(obstacles.join("\n"))),
    }
}

/// What was begun, so that it can be gone on with.
pub struct Begun {
    /// The new id.
    pub id: ClusterId,
    /// Of the backup.
    pub hash: String,
    /// What every node begins with, once one was made.
    pub made: Option<Made>,
}

/// Where that is written down.
pub struct Record(PathBuf);

impl Record {
    /// A file of the cluster's own.
    #[must_use]
    pub fn of(context: &Context, name: &str) -> Self {
        Record(context.cluster.state_dir().join(name))
    }

    /// What it says; nothing where it is not there, or makes no sense.
    #[must_use]
    pub fn load(&self) -> Option<Begun> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        Some(Begun {
            id: ClusterId::parse(value["cluster_id"].as_str()?)?,
            hash: value["hash"].as_str()?.to_owned(),
            made: serde_json::from_value(value["made"].clone()).ok(),
        })
    }

    /// Writes it down.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, begun: &Begun) -> Result<()> {
        let made = begun.made.as_ref().map(|made| {
            json!({
                "index": made.index,
                "hash": made.hash,
                "source_hash": made.source_hash,
                "keys": made.keys,
                "was_there": made.was_there,
            })
        });
        let id = begun.id.to_string();
        let value = json!({ "cluster_id": id, "hash": begun.hash, "made": made });
        state_files::replace(&self.0, &format!("{value}\n"))
    }

    /// It is done.
    ///
    /// # Errors
    /// The file can't be deleted.
    pub fn forget(&self) -> Result<()> {
        state_files::forget(&self.0)
    }
}

fn tell(
    context: &Context,
    options: &Options,
    source: &Source,
    made: &Made,
    left_behind: LeftBehind,
) -> Result<()> {
    let head = &source.checked.head;
    let name = &context.cluster.name;
    let id = context.identity.known();
    let id = id.map_or(String::new(), |id| id.to_string());
    match options.output {
        Output::Json => out::json(&json!({
            "cluster": name,
            "cluster_id": id,
            "from": from_json(head),
            "index": made.index,
            "hash": made.hash,
            "keys": made.keys,
            "left_behind": left_behind.keys().collect::<Vec<_>>(),
        }))?,
        Output::Text => out::line(&format!(
            "cluster {name} is up with the {} keys of the backup, after entry {} (hash {} on every \
             node); its id is {id} now",
            made.keys, made.index, made.hash
        ))?,
    }
    partial(left_behind, "restored")
}

/// What a backup is of, for programs.
#[must_use]
pub fn from_json(head: &crate::text::backups::Head) -> Value {
    json!({
        "cluster": head.cluster,
        "cluster_id": head.cluster_id,
        "time": head.time,
        "node": head.node,
        "index": head.index,
        "term": head.term,
        "keys": head.keys,
        "sessions": head.sessions,
        "hash": format!("{:08x}", head.hash),
    })
}

/// Done, or done but for these.
///
/// # Errors
/// Some were left behind.
pub fn partial(left_behind: LeftBehind, done: &str) -> Result<()> {
    if left_behind.is_empty() {
        return Ok(());
    }
    let failed = left_behind.into_iter();
    Err(Error::Partial {
        done: done.into(),
        failed: failed.map(|(id, error)| (id, error.to_string())).collect(),
    })
}
