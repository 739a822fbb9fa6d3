//! `down`: no process stays; data stays unless told otherwise.

use std::io::{BufRead, IsTerminal};

use serde_json::json;

use crate::cli::{Options, Output};
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::lock::{Lock, WAIT};
use crate::ops::wait::list;
use crate::ops::{Context, all_or_partial};
use crate::out;
use crate::progress::Progress;
use crate::run::STOP_GRACE;

/// Stops every node, kills those that do not stop, and with `purge` deletes all their files.
///
/// # Errors
/// A node is still there, or its files are; each is named. The operator did not confirm.
pub async fn run(context: &Context, options: &Options, purge: bool) -> Result<()> {
    let progress = Progress::new();
    if purge {
        confirm(&context.cluster.name, options)?;
    }
    let lock = Lock::take(&context.cluster, "down", WAIT).await?;
    let ids = context.cluster.ids();
    let step = progress.begin(&format!("stop {}", list(&ids)));
    let stopped = context.stop(&ids, STOP_GRACE).await;
    let stubborn: Vec<NodeId> = stopped
        .iter()
        .filter(|(_, outcome)| outcome.is_err())
        .map(|(id, _)| *id)
        .collect();
    if !stubborn.is_empty() {
        progress.note(&format!("{} did not stop: killing", list(&stubborn)));
        all_or_partial(context.kill(&stubborn).await, "killed")?;
    }
    all_or_partial(context.clean(&ids).await, "cleaned up")?;
    step.done();
    let folder = context.cluster.state_dir();
    if purge {
        all_or_partial(context.purge(&ids).await, "deleted")?;
        lock.remove()?;
    }
    let name = &context.cluster.name;
    match options.output {
        Output::Json => {
            let data = (!purge).then_some(&folder);
            out::json(&json!({ "cluster": name, "data": data }))
        }
        Output::Text if purge => {
            out::line(&format!("cluster {name} is down, and its data is deleted"))
        }
        Output::Text => out::line(&format!(
            "cluster {name} is down; its data is still in {} (`raftctl up` goes on with it, \
             `raftctl down --purge` deletes it)",
            folder.display()
        )),
    }
}

/// Asks for the cluster's name before anything is deleted.
///
/// # Errors
/// Nobody confirmed.
pub(super) fn confirm(name: &str, options: &Options) -> Result<()> {
    if options.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage(format!(
            "this deletes all data of cluster {name}; nobody is there to confirm it, so say --yes"
        )));
    }
    eprint!("This deletes all data of cluster {name}. Write its name to go on: ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Error::Other(format!("cannot read the answer: {error}")))?;
    if answer.trim() == name {
        return Ok(());
    }
    Err(Error::Usage("not confirmed; nothing was changed".into()))
}
