//! `upgrade`: another binary under a cluster that goes on serving.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::Options;
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::control::{HostFacts, ProcessState};
use crate::hosts::layout::release_name;
use crate::lock::Lock;
use crate::ops::wait::list;
use crate::ops::{Context, all_or_partial};
use crate::progress::Progress;
use crate::run;
use crate::verbs::told::Told;
use crate::verbs::up;

/// Ships the binary to every host, and restarts the nodes that run another one: followers first,
/// one at a time, each caught up before the next; the leader last, after it handed over. With
/// `rollback` the release that was there before takes its place again.
///
/// # Errors
/// The cluster has no leader to begin with, or too few nodes to go without one more; a host can't
/// take the binary; a node does not come back. What has been done stays done, and the same command goes on.
pub async fn run(context: &Context, options: &Options, rollback: bool) -> Result<()> {
    let progress = Progress::new();
    let _lock = Lock::take(&context.cluster, "upgrade").await?;
    let ids = context.cluster.ids();
    let binary = up::obtain(context, &progress)?;
    up::unchanged_facts(context, &binary).await?;
    if context.leader().await.is_none() {
        return Err(Error::NoLeader(
            "the cluster has no leader, so an upgrade would not go unnoticed; look at `raftctl \
             doctor`, or use `raftctl up`"
                .into(),
        ));
    }
    let ships = context.has_remote_hosts();
    if rollback && !ships {
        return Err(Error::Usage(
            "nodes on this machine run the binary where it lies: put the other one there, and run \
             `raftctl upgrade`"
                .into(),
        ));
    }
    let away = away(context).await;
    refuse_interruption(context, &away)?;
    let ids: Vec<NodeId> = ids
        .into_iter()
        .filter(|id| !away.contains_key(id))
        .collect();
    if ships {
        let step = progress.begin(if rollback {
            "switch every host to its previous release"
        } else {
            "ship raft-node"
        });
        let outcomes = if rollback {
            context.roll_back(&ids).await
        } else {
            let hosts = progress.hosts(context.names(&ids));
            context.ship(&ids, &binary, hosts.watch()).await?
        };
        all_or_partial(outcomes, "shipped")?;
        step.done();
    }
    let outdated = outdated(context, &binary.sha256).await;
    let mut told = Told::new(options);
    if outdated.is_empty() {
        progress.note("every node that runs has this release already");
    }
    let timeout = options.timeout.unwrap_or(up::TIMEOUT);
    for (at, id) in outdated.iter().enumerate() {
        let step = progress.begin(&format!("restart node {id}"));
        if let Err(error) = one(context, *id, &binary, timeout).await {
            told.end()?;
            return Err(interrupted(error, &outdated[at..], rollback));
        }
        step.done();
        told.node(*id, if rollback { "rolled back" } else { "upgraded" })?;
    }
    told.end()?;
    let reason = |(id, why): (NodeId, Option<Error>)| match why {
        Some(error) => (id, error.to_string()),
        None => (
            id,
            format!("it does not run; `raftctl start {id}` starts it with this release"),
        ),
    };
    let failed: Vec<_> = away.into_iter().map(reason).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let done = "upgraded".into();
    Err(Error::Partial { done, failed })
}

/// The nodes that do not serve: those whose host does not answer, with the reason, and those that do
/// not run.
async fn away(context: &Context) -> BTreeMap<NodeId, Option<Error>> {
    let hosts = context.host_facts().await;
    let runs = |host: &HostFacts| {
        host.nodes
            .iter()
            .all(|node| node.state == ProcessState::Running)
    };
    let away = hosts.into_iter().filter_map(|(id, host)| match host {
        Ok(host) if runs(&host) => None,
        Ok(_) => Some((id, None)),
        Err(error) => Some((id, Some(error))),
    });
    away.collect()
}

/// While a node is restarted, the others must make a majority.
fn refuse_interruption(context: &Context, away: &BTreeMap<NodeId, Option<Error>>) -> Result<()> {
    let cluster = &context.cluster;
    if away.is_empty() || cluster.nodes.len() - away.len() > cluster.majority() {
        return Ok(());
    }
    let ids: Vec<NodeId> = away.keys().copied().collect();
    let mut text = format!(
        "one more node away would leave no majority, so an upgrade would not go unnoticed: bring \
         {} back first (`raftctl up`)",
        list(&ids)
    );
    for (id, error) in away {
        if let Some(error) = error {
            text.push_str(&format!("\n  node {id}: {error}"));
        }
    }
    Err(Error::NoLeader(text))
}

async fn one(
    context: &Context,
    id: NodeId,
    binary: &crate::binary::Binary,
    timeout: Duration,
) -> Result<()> {
    run::restart(context, id, binary, timeout).await?;
    context.wait_until_caught_up(id, timeout).await
}

/// The nodes that run another binary than the one that their host has now, the leader last.
async fn outdated(context: &Context, sha256: &str) -> Vec<NodeId> {
    let hosts = context.host_facts().await;
    let hosts = hosts
        .iter()
        .filter_map(|(id, host)| Some((id, host.as_ref().ok()?)));
    let runs_other = |id: &NodeId, host: &HostFacts| {
        let wanted = host.setting.release.as_deref();
        let wanted = wanted.unwrap_or_else(|| release_name(sha256));
        let node = host.nodes.iter().find(|node| node.id == *id);
        node.is_some_and(|node| {
            let runs = node.sha256.as_deref().unwrap_or_default();
            node.state != ProcessState::Stopped && !runs.starts_with(wanted)
        })
    };
    let others = hosts.filter(|(id, host)| runs_other(id, host));
    let mut others: Vec<NodeId> = others.map(|(id, _)| *id).collect();
    let leader = context.leader().await;
    others.sort_by_key(|id| (Some(*id) == leader, *id));
    others
}

fn interrupted(error: Error, left: &[NodeId], rollback: bool) -> Error {
    let back = if rollback {
        ""
    } else {
        "; `raftctl upgrade --rollback` goes back"
    };
    error.advise(format!(
        "not upgraded yet: {}; run this again to go on{back}",
        list(left)
    ))
}
