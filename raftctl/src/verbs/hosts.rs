//! `ssh` and `exec`: commands on the hosts themselves.

use std::os::unix::process::CommandExt;

use serde_json::json;

use crate::cli::{Options, Output};
use crate::error::{Error, Result};
use crate::ops::{Context, Outcomes, all_or_partial};
use crate::out;
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
            "node {id} runs on this machine; its files are in {}",
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
/// prints what it says, each line with its node.
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
    match options.output {
        Output::Json => {
            let one = |id: &u64, outcome: &Result<crate::hosts::Output>| match outcome {
                Ok(output) => json!({
                    "node": id,
                    "status": output.status,
                    "stdout": output.stdout,
                    "stderr": output.stderr,
                    "error": null,
                }),
                Err(error) => json!({ "node": id, "error": error.to_string() }),
            };
            let list: Vec<_> = outcomes
                .iter()
                .map(|(id, outcome)| one(id, outcome))
                .collect();
            out::json(&json!({ "hosts": list }))?;
        }
        Output::Text => {
            for (id, output) in outcomes
                .iter()
                .filter_map(|(id, o)| Some((id, o.as_ref().ok()?)))
            {
                for line in output.stdout.lines() {
                    out::line(&format!("node {id}: {line}"))?;
                }
                for line in output.stderr.lines() {
                    eprintln!("node {id}: {line}");
                }
            }
        }
    }
    let failed = |(id, outcome): (u64, Result<crate::hosts::Output>)| {
        let outcome = outcome.and_then(|output| match output.status {
            0 => Ok(()),
            status => Err(Error::Host {
                host: context.inventory.host_of(id).name().to_owned(),
                purpose: "run the command".into(),
                detail: format!("exit status {status}"),
            }),
        });
        (id, outcome)
    };
    let outcomes: Outcomes<()> = outcomes.into_iter().map(failed).collect();
    all_or_partial(outcomes, "run").map(drop)
}
