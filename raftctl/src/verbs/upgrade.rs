//! `upgrade`: another binary under a cluster that goes on serving.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::control::{HostFacts, ProcessState};
use crate::local::binary::Binary;
use crate::local::folder_lock::FolderLock;
use crate::ops::{Context, rollback, run, target};
use crate::plan::{Facts, leader_last};
use crate::scripts::layout::release_name;
use crate::terminal::options::Options;
use crate::terminal::progress::Progress;
use crate::verbs::node_report::NodeReport;
use crate::verbs::status;

/// Which way the binary is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the one of cluster.yaml.
    Forward,
    /// To the release that was there before.
    Back,
}

impl Way {
    fn done(self) -> &'static str {
        match self {
            Way::Forward => "upgraded",
            Way::Back => "rolled back",
        }
    }

    /// What leads the other way.
    fn turn(self) -> &'static str {
        match self {
            Way::Forward => "`raftctl upgrade --rollback` goes back",
            Way::Back => "`raftctl upgrade` brings the binary of cluster.yaml again",
        }
    }
}

/// The nodes that do not serve, or can't be given the release.
type Away = BTreeMap<NodeId, Why>;

/// Why a node is away.
enum Why {
    Stopped,
    Paused,
    Failed(Error),
    /// It serves, but its host never had the release to go back to.
    Lacks(Error),
}

/// Gives every host that answers the binary, or the release that was there before, and restarts the
/// nodes that run another one: followers first, one at a time, each caught up before the next; the
/// leader last, after it handed over. Nodes that do not run are left so.
///
/// # Errors
/// The cluster has no leader to begin with, or too few nodes to go without one more; a host can't
/// take the binary; a node does not come back. What has been done stays done, and the same command goes on.
pub async fn run(context: &Context, options: &Options, way: Way) -> Result<()> {
    let progress = Progress::new();
    let _lock = FolderLock::take(&context.cluster, "upgrade").await?;
    let binary = target::obtain(context, &progress).await?;
    let facts = target::unchanged_facts(context, &binary).await?;
    if context.leader().await.is_none() {
        return Err(Error::NoLeader(
            "the cluster has no leader, so an upgrade would not go unnoticed; look at `raftctl \
             doctor`, or use `raftctl up`"
                .into(),
        ));
    }
    let ships = context.has_remote_hosts();
    if way == Way::Back && !ships {
        return Err(Error::Usage(
            "nodes on this machine run the binary where it lies: put the other one there, and run \
             `raftctl upgrade`"
                .into(),
        ));
    }
    if way == Way::Back {
        refuse_newer_format(context, &facts).await?;
    }
    let mut away = away(&facts);
    // A node may be away because of its release: the way back must be open to it first.
    if way == Way::Forward {
        refuse_interruption(context, &away)?;
    }
    if ships {
        switch(context, &facts, &binary, way, &mut away, &progress).await?;
    }
    let (mut outdated, silent) = outdated(context, &binary.sha256).await;
    for (id, error) in silent {
        away.entry(id).or_insert(Why::Failed(error));
    }
    refuse_interruption(context, &away)?;
    outdated.retain(|id| !away.contains_key(id));
    if outdated.is_empty() {
        progress.note("every node that runs has this release already");
    }
    let mut report = NodeReport::new(options);
    let timeout = options.timeout.unwrap_or(run::TIMEOUT);
    for (at, id) in outdated.iter().enumerate() {
        let step = progress.begin(&format!("restart node {id}"));
        if let Err(error) = one(context, *id, &binary, timeout).await {
            report.end()?;
            let turn = ships.then(|| way.turn());
            return Err(interrupted(error, &outdated[at..], way, turn));
        }
        step.done();
        report.node(*id, way.done())?;
    }
    report.end()?;
    if way == Way::Forward
        && let Some(note) = status::format_note(&context.status().await)
    {
        progress.note(&note);
    }
    left_out(away, way)
}

/// What is told at the end of those that were left out.
fn left_out(away: Away, way: Way) -> Result<()> {
    let reason = |(id, why)| match why {
        Why::Failed(error) | Why::Lacks(error) => (id, error.to_string()),
        Why::Stopped => (
            id,
            format!("it does not run; `raftctl start {id}` starts it with this release"),
        ),
        Why::Paused => (
            id,
            format!("it is paused; `raftctl resume {id}`, and run this again"),
        ),
    };
    let failed: Vec<_> = away.into_iter().map(reason).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let done = way.done().into();
    Err(Error::Partial { done, failed })
}

fn away(facts: &Facts) -> Away {
    let failed = facts.left_behind.iter();
    let failed = failed.map(|(id, error)| (*id, Why::Failed(error.clone())));
    let silent = facts.hosts.keys().filter_map(|id| {
        let why = match facts.node(*id)?.state {
            ProcessState::Running => return None,
            ProcessState::Paused => Why::Paused,
            ProcessState::Stopped => Why::Stopped,
        };
        Some((*id, why))
    });
    failed.chain(silent).collect()
}

/// Refuses to go back to a release that does not read what is on the disks. Nothing has been changed.
///
/// # Errors
/// As said.
async fn refuse_newer_format(context: &Context, facts: &Facts) -> Result<()> {
    let release = rollback::target(&facts.hosts)?;
    let ids: Vec<NodeId> = facts.hosts.keys().copied().collect();
    let mut refused = Vec::new();
    // Where it is not there, or a host does not answer any more, that is told when it is asked for.
    for (id, reads) in context.reads_format(&ids, &release).await {
        let format = facts.node(id).map_or(0, |node| node.format);
        if let Ok(Some(reads)) = reads
            && reads < format
        {
            refused.push((id, reads, format));
        }
    }
    let Some((_, reads, format)) = refused.first() else {
        return Ok(());
    };
    let nodes: Vec<NodeId> = refused.iter().map(|(id, _, _)| *id).collect();
    Err(Error::Usage(format!(
        "the cluster has gone over to format {format} (the files of {} name it), and release {release} \
         reads up to {reads}: it would refuse them, so there is no way back any more. Nothing was \
         changed; `raftctl upgrade` brings the next release, and `format_max` in cluster.yaml holds the \
         format before the next one",
        list(&nodes)
    )))
}

/// While a node is restarted, the others must make a majority.
fn refuse_interruption(context: &Context, away: &Away) -> Result<()> {
    let cluster = &context.cluster;
    let silent = away.iter().filter(|(_, why)| !matches!(why, Why::Lacks(_)));
    let ids: Vec<NodeId> = silent.map(|(id, _)| *id).collect();
    if ids.is_empty() || cluster.nodes.len() - ids.len() > cluster.majority() {
        return Ok(());
    }
    let mut text = format!(
        "one more node away would leave no majority, so an upgrade would not go unnoticed: bring \
         {} back first",
        list(&ids)
    );
    for (id, why) in away {
        text.push_str(&match why {
            Why::Failed(error) | Why::Lacks(error) => format!("\n  node {id}: {error}"),
            Why::Stopped => format!("\n  node {id}: it does not run; `raftctl start {id}`"),
            Why::Paused => format!("\n  node {id}: it is paused; `raftctl resume {id}`"),
        });
    }
    Err(Error::NoLeader(text))
}

/// Gives the release to every host that answers: a node that does not run is started with it later.
/// A host that fails is left out if its node is away anyway, or if it never had the release to go
/// back to.
///
/// # Errors
/// A host fails whose node runs. No node has been restarted.
async fn switch(
    context: &Context,
    facts: &Facts,
    binary: &Binary,
    way: Way,
    away: &mut Away,
    progress: &Progress,
) -> Result<()> {
    let ids: Vec<NodeId> = facts.hosts.keys().copied().collect();
    let (step, mut outcomes) = match way {
        Way::Forward => {
            let step = progress.begin("ship raft-node");
            let hosts = progress.hosts(context.names(&ids));
            (step, context.ship(&ids, binary, hosts.watch()).await?)
        }
        Way::Back => {
            let release = rollback::target(&facts.hosts)?;
            let step = progress.begin(&format!("go back to release {release}"));
            (step, go_back(context, &ids, &release, away).await)
        }
    };
    for (id, why) in away.iter_mut() {
        if let Some(Err(error)) = outcomes.remove(id) {
            *why = Why::Failed(error);
        }
    }
    all_or_partial(outcomes, "switched").map_err(|error| {
        let turn = way.turn();
        error.advise(format!(
            "no node was restarted; run this again to go on; {turn}"
        ))
    })?;
    step.done();
    Ok(())
}

async fn go_back(
    context: &Context,
    ids: &[NodeId],
    release: &str,
    away: &mut Away,
) -> Outcomes<()> {
    let mut outcomes = Outcomes::new();
    for (id, outcome) in context.go_back(ids, release).await {
        if matches!(outcome, Ok(false)) {
            let error = Error::Host {
                host: context.inventory.host_of(id).name().to_owned(),
                purpose: format!("go back to release {release}"),
                detail:
                    "it is not there; that binary in cluster.yaml (`binary: PATH`) and `raftctl \
                         upgrade` bring it"
                        .into(),
            };
            match away.entry(id) {
                Entry::Vacant(place) => drop(place.insert(Why::Lacks(error))),
                Entry::Occupied(mut why) => *why.get_mut() = Why::Failed(error),
            }
        }
        outcomes.insert(id, outcome.map(drop));
    }
    outcomes
}

async fn one(context: &Context, id: NodeId, binary: &Binary, timeout: Duration) -> Result<()> {
    refuse_last_of_majority(context, id).await?;
    run::restart(context, id, binary, timeout).await?;
    context.wait_until_caught_up(id, timeout).await
}

/// A node may have died since the upgrade began: the others must still be a majority.
async fn refuse_last_of_majority(context: &Context, id: NodeId) -> Result<()> {
    let others: Vec<NodeId> = context
        .cluster
        .ids()
        .into_iter()
        .filter(|other| *other != id)
        .collect();
    let replies = context.replies(&others).await;
    let silent = replies.iter().filter(|(_, reply)| reply.is_err());
    let silent: Vec<NodeId> = silent.map(|(id, _)| *id).collect();
    // Where all answer, a small cluster may be away for as long as it takes.
    if silent.is_empty() || others.len() - silent.len() >= context.cluster.majority() {
        return Ok(());
    }
    Err(Error::NoLeader(format!(
        "{} {} not answer now, so without node {id} there would be no majority; look at `raftctl \
         status`",
        list(&silent),
        if silent.len() == 1 { "does" } else { "do" }
    )))
}

/// The nodes that run another binary than the one that their host has now, the leader last; and those
/// whose hosts do not answer.
async fn outdated(context: &Context, sha256: &str) -> (Vec<NodeId>, BTreeMap<NodeId, Error>) {
    let mut silent = BTreeMap::new();
    let mut hosts = BTreeMap::new();
    for (id, host) in context.host_facts().await {
        match host {
            Ok(host) => drop(hosts.insert(id, host)),
            Err(error) => drop(silent.insert(id, error)),
        }
    }
    let runs_other = |id: &NodeId, host: &HostFacts| {
        let wanted = host.setting.release.as_deref();
        let wanted = wanted.unwrap_or_else(|| release_name(sha256));
        let node = host.nodes.iter().find(|node| node.id == *id);
        node.is_some_and(|node| {
            let runs = node.sha256.as_deref().unwrap_or_default();
            node.state != ProcessState::Stopped && !runs.starts_with(wanted)
        })
    };
    let others = hosts.iter().filter(|(id, host)| runs_other(id, host));
    let mut others: Vec<NodeId> = others.map(|(id, _)| *id).collect();
    leader_last(&mut others, context.leader().await);
    (others, silent)
}

fn interrupted(error: Error, left: &[NodeId], way: Way, turn: Option<&str>) -> Error {
    let turn = turn.map_or(String::new(), |turn| format!("; {turn}"));
    error.advise(format!(
        "not {} yet: {}; run this again to go on{turn}",
        way.done(),
        list(left)
    ))
}
