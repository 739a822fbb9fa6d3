//! `ssh` and `exec`: commands on the hosts themselves.

use std::os::unix::process::CommandExt;

use serde_json::{Value, json};

use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::inventory::Host;
use crate::ops::Context;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::transport;
use crate::verbs::select;

/// Becomes `ssh` on a node's host: a shell, or a command with this terminal.
///
/// # Errors
/// The selector names several nodes, there is no host to log in to, or ssh can't be started.
pub async fn ssh(context: &Context, selector: &str, command: &[String]) -> Result<()> {
    let ids = select(context, selector).await?;
    let [id] = ids.as_slice() else {
        return Err(Error::Usage(
            "a shell is opened on one host; name one node, or use `raftctl exec`".into(),
        ));
    };
    let host = context.inventory.host_of(*id);
    let Some(words) = host.transport.shell_command() else {
        return Err(Error::Usage(format!(
            "node {id} runs on this machine, where you are already: its files are in {}, and \
             `raftctl exec {id} -- COMMAND` runs a command",
            host.layout.base
        )));
    };
    let error = std::process::Command::new(&words[0])
        .args(&words[1..])
        .args((!command.is_empty()).then_some("--"))
        .args(command)
        .exec();
    Err(Error::Other(format!("cannot start {}: {error}", words[0])))
}

/// Runs a command on the hosts of nodes, all at once, with root's rights where there are any, and
/// prints what it says, each line with its node. A host of several nodes runs it once.
///
/// # Errors
/// A host can't be reached, or the command fails there; the others' output is printed all the
/// same.
pub async fn exec(
    context: &Context,
    options: &Options,
    selector: &str,
    command: &[String],
) -> Result<()> {
    let ids = select(context, selector).await?;
    let deadline = options.timeout.unwrap_or(context.cluster.limits.step);
    let outcomes = context.exec(&ids, &command.join(" "), deadline).await;
    let ran = by_host(context, &outcomes);
    match options.output {
        Output::Json => {
            let list: Vec<Value> = ran.iter().map(Ran::to_json).collect();
            out::json(&json!({ "hosts": list }))?;
        }
        Output::Text => ran.iter().try_for_each(Ran::print)?,
    }
    let judged = outcomes.into_iter().map(|(id, outcome)| {
        let host = context.inventory.host_of(id).name();
        (id, outcome.and_then(|output| judge(host, &output)))
    });
    all_or_partial(judged.collect::<Outcomes<()>>(), "successful").map(drop)
}

fn judge(host: &str, output: &transport::Output) -> Result<()> {
    match output.status {
        0 => Ok(()),
        status => Err(Error::Command {
            host: host.to_owned(),
            status,
        }),
    }
}

/// What a command did on one host.
struct Ran<'a> {
    host: &'a str,
    /// The nodes there that were asked for.
    nodes: Vec<NodeId>,
    outcome: &'a Result<transport::Output>,
}

fn by_host<'a>(context: &'a Context, outcomes: &'a Outcomes<transport::Output>) -> Vec<Ran<'a>> {
    let ran = |host: &'a Host| {
        let here = host.nodes.iter().copied();
        let nodes: Vec<NodeId> = here.filter(|id| outcomes.contains_key(id)).collect();
        Some(Ran {
            host: host.name(),
            outcome: outcomes.get(nodes.first()?)?,
            nodes,
        })
    };
    context.inventory.hosts.iter().filter_map(ran).collect()
}

impl Ran<'_> {
    fn to_json(&self) -> Value {
        let (host, nodes) = (self.host, &self.nodes);
        match self.outcome {
            Ok(output) => json!({
                "host": host,
                "nodes": nodes,
                "status": output.status,
                "stdout": output.stdout,
                "stderr": output.stderr,
                "error": null,
            }),
            Err(error) => json!({
                "host": host,
                "nodes": nodes,
                "status": null,
                "stdout": null,
                "stderr": null,
                "error": error.to_string(),
            }),
        }
    }

    /// Each line with its node; failures are told as an error afterwards.
    fn print(&self) -> Result<()> {
        let Ok(output) = self.outcome else {
            return Ok(());
        };
        let nodes = list(&self.nodes);
        if self.nodes.len() > 1 {
            eprintln!("{nodes} share {}: the command ran there once", self.host);
        }
        for line in output.stdout.lines() {
            out::line(&format!("{nodes}: {line}"))?;
        }
        for line in output.stderr.lines() {
            eprintln!("{nodes}: {line}");
        }
        Ok(())
    }
}
