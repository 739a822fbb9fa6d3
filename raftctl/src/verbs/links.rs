//! `partition` and `heal`.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::control::ProcessState;
use crate::local::folder_lock::FolderLock;
use crate::local::interrupt::interruption;
use crate::ops::Context;
use crate::ops::links::CUT_MAX;
use crate::ops::status::NodeStatus;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::select;

/// What cuts links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// The nodes themselves.
    Nodes,
    /// A packet filter on their hosts.
    PacketFilter,
}

/// Cuts groups of nodes off from each other. `groups` is `A|B|...`, each a selector; a single
/// selector is cut off from all the others. With `wait`, stays until the time is over, and heals
/// when interrupted.
///
/// # Errors
/// The groups make no sense; a node does not obey: then no link stays cut.
pub async fn partition(
    context: &Context,
    options: &Options,
    groups: &str,
    length: Duration,
    means: Means,
    wait: bool,
) -> Result<()> {
    if means == Means::PacketFilter && !context.inventory.hosts.iter().all(|h| h.layout.is_remote) {
        return Err(Error::Usage(
            "a packet filter needs hosts of their own; leave --packet-filter out: then the nodes \
             drop each other's messages themselves"
                .into(),
        ));
    }
    if length.is_zero() || length > CUT_MAX {
        return Err(Error::Usage(format!(
            "a partition lasts up to {}, and not {}",
            humantime::format_duration(CUT_MAX),
            humantime::format_duration(length)
        )));
    }
    let lock = FolderLock::take(&context.cluster, "partition").await?;
    let groups = read_groups(context, groups).await?;
    let until = humantime::format_rfc3339_seconds(SystemTime::now() + length).to_string();
    tokio::select! {
        done = cut(context, &groups, length, means) => done?,
        () = interruption() => return heal_after_interrupt(context).await,
    }
    tell_cut(&groups, length, &until, options)?;
    if wait {
        drop(lock); // Other verbs are what one wants to try meanwhile.
        tokio::select! {
            () = tokio::time::sleep(length) => Progress::new().note("the partition is over"),
            () = interruption() => return heal_after_interrupt(context).await,
        }
    }
    Ok(())
}

/// Cuts the groups off from each other at every node, or undoes what was cut.
async fn cut(
    context: &Context,
    groups: &[Vec<NodeId>],
    length: Duration,
    means: Means,
) -> Result<()> {
    let outcomes = match means {
        Means::Nodes => context.partition(groups, length).await,
        Means::PacketFilter => context.filter(groups, length).await,
    };
    if outcomes.values().all(Result::is_ok) {
        return Ok(());
    }
    // Also where a node did not answer: it may have heard all the same.
    let undone: Outcomes<()> = match means {
        Means::Nodes => context.rejoin(groups).await,
        Means::PacketFilter => {
            let ids: Vec<NodeId> = outcomes.keys().copied().collect();
            let healed = context.unfilter(&ids).await.into_iter();
            healed.map(|(id, had)| (id, had.map(drop))).collect()
        }
    };
    Err(not_cut(outcomes, &undone))
}

/// The error of a cut that not every node made, with those that did not, and why.
fn not_cut(outcomes: Outcomes<()>, undone: &Outcomes<()>) -> Error {
    let stays = |id: &NodeId| undone.get(id).is_some_and(Result::is_err);
    let still_cut = outcomes.iter().filter(|(id, cut)| cut.is_ok() && stays(id));
    let still_cut: Vec<NodeId> = still_cut.map(|(id, _)| *id).collect();
    let what = match still_cut.as_slice() {
        [] => "no link stays cut, because some nodes did not obey".to_owned(),
        ids => format!(
            "some nodes did not obey, and {} could not be healed: `raftctl heal` tries again",
            list(ids)
        ),
    };
    let failed = outcomes.into_iter();
    let failed = failed.filter_map(|(id, cut)| Some((id, cut.err()?)));
    let failed = failed.collect();
    Error::Several { what, failed }
}

fn tell_cut(
    groups: &[Vec<NodeId>],
    length: Duration,
    until: &str,
    options: &Options,
) -> Result<()> {
    if options.output == Output::Json {
        let for_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        return out::json(&json!({ "groups": groups, "for_ms": for_ms, "until": until }));
    }
    let texts: Vec<String> = groups.iter().map(|group| list(group)).collect();
    out::line(&format!(
        "no message passes between {} for {}, until {until} (`raftctl heal` ends it before)",
        texts.join(" and "),
        humantime::format_duration(length)
    ))
}

async fn heal_after_interrupt(context: &Context) -> Result<()> {
    Progress::new().note("interrupted: healing the partition");
    undo_all(context).await?;
    Err(Error::Other("interrupted; the partition is healed".into()))
}

/// `A|B`, or one selector against the rest.
async fn read_groups(context: &Context, text: &str) -> Result<Vec<Vec<NodeId>>> {
    let mut groups = Vec::new();
    for selector in text.split('|') {
        groups.push(select(context, selector).await?);
    }
    if let [only] = groups.as_slice() {
        let ids = context.cluster.ids();
        let rest: Vec<NodeId> = ids.into_iter().filter(|id| !only.contains(id)).collect();
        groups.push(rest);
    }
    let mut seen = Vec::new();
    for id in groups.iter().flatten() {
        if seen.contains(id) {
            return Err(Error::Usage(format!(
                "node {id} is on two sides of {text:?}; write groups without a common node, as in \
                 \"1,2|3,4,5\""
            )));
        }
        seen.push(*id);
    }
    if groups.iter().any(Vec::is_empty) {
        return Err(Error::Usage(format!(
            "{text:?} leaves nobody on the other side; write two groups, as in \"1,2|3,4,5\", or \
             one that is not the whole cluster"
        )));
    }
    Ok(groups)
}

/// Undoes every cut at every node that runs.
///
/// # Errors
/// A node does not obey.
pub async fn heal(context: &Context, options: &Options) -> Result<()> {
    let _lock = FolderLock::take(&context.cluster, "heal").await?;
    let healed = undo_all(context).await?;
    match options.output {
        Output::Text if healed.is_empty() => out::line("no node runs, so no link is cut"),
        Output::Text => out::line(&format!("all links of {} are whole", list(&healed))),
        Output::Json => out::json(&json!({ "nodes": healed })),
    }
}

/// Undoes every cut, of whatever kind; the nodes that said so.
async fn undo_all(context: &Context) -> Result<Vec<NodeId>> {
    let snapshot = context.status().await;
    // A node that does not run has no cut links, and starts without any.
    let may_run = |node: &&NodeStatus| node.process != Some(ProcessState::Stopped);
    let running = snapshot.nodes.iter().filter(may_run);
    let running: Vec<NodeId> = running.map(|node| node.id).collect();
    let all = context.cluster.ids();
    let (filters, healed) = tokio::join!(context.unfilter(&all), context.heal(&running));
    let healed = all_or_partial(healed, "healed")?;
    all_or_partial(filters, "healed")?;
    Ok(healed.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    // A cut that not every node made names those that did not, never those that did; and what could
    // not be undone is not said to be whole.
    #[test]
    fn a_cut_in_part_says_what_is_true() {
        let silent = || Err(Error::NoLeader("no answer".into()));
        let outcomes = || Outcomes::from([(1, Ok(())), (2, silent()), (3, Ok(()))]);
        let undone = Outcomes::from([(1, Ok(())), (2, silent()), (3, Ok(()))]);
        let error = not_cut(outcomes(), &undone);
        let text = "no link stays cut, because some nodes did not obey:\n  node 2: no answer";
        assert_eq!((error.to_string().as_str(), error.exit_code()), (text, 30));
        let undone = Outcomes::from([(1, Ok(())), (3, silent())]);
        let text = not_cut(outcomes(), &undone).to_string();
        assert!(text.contains("node 3 could not be healed"), "{text}");
        assert!(!text.contains("no link stays cut"), "{text}");
    }
}
