//! `partition` and `heal`.

use std::time::Duration;

use serde_json::json;

use crate::cli::{Options, Output};
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::control::ProcessState;
use crate::lock::Lock;
use crate::ops::links::CUT_MAX;
use crate::ops::status::NodeStatus;
use crate::ops::wait::list;
use crate::ops::{Context, all_or_partial};
use crate::out;
use crate::progress::Progress;
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
/// The groups make no sense; a node does not obey.
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
    let lock = Lock::take(&context.cluster, "partition").await?;
    let groups = read_groups(context, groups).await?;
    let cutting = async {
        match means {
            Means::Nodes => context.partition(&groups, length).await,
            Means::PacketFilter => context.filter(&groups, length).await,
        }
    };
    let outcomes = tokio::select! {
        outcomes = cutting => outcomes,
        () = interrupted() => return heal_after_interrupt(context).await,
    };
    tell_cut(&groups, length, options)?;
    all_or_partial(outcomes, "cut off")?;
    if wait {
        drop(lock); // Other verbs are what one wants to try meanwhile.
        tokio::select! {
            () = tokio::time::sleep(length) => Progress::new().note("the partition is over"),
            () = interrupted() => return heal_after_interrupt(context).await,
        }
    }
    Ok(())
}

fn tell_cut(groups: &[Vec<NodeId>], length: Duration, options: &Options) -> Result<()> {
    if options.output == Output::Json {
        let for_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        return out::json(&json!({ "groups": groups, "for_ms": for_ms }));
    }
    let texts: Vec<String> = groups.iter().map(|group| list(group)).collect();
    out::line(&format!(
        "no message passes between {} for {}",
        texts.join(" and "),
        humantime::format_duration(length)
    ))
}

async fn interrupted() {
    // Where the signal can't be listened to, it ends raftctl in its own way, and the nodes heal
    // themselves in time.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

async fn heal_after_interrupt(context: &Context) -> Result<()> {
    Progress::new().note("interrupted: healing the partition");
    let ids = context.cluster.ids();
    let filters = context.unfilter(&ids).await;
    let outcomes = context.heal(&ids).await;
    all_or_partial(filters, "healed")?;
    all_or_partial(outcomes, "healed")?;
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
    let _lock = Lock::take(&context.cluster, "heal").await?;
    let snapshot = context.status().await;
    // A node that does not run has no cut links, and starts without any.
    let may_run = |node: &&NodeStatus| node.process != Some(ProcessState::Stopped);
    let running = snapshot.nodes.iter().filter(may_run);
    let running: Vec<NodeId> = running.map(|node| node.id).collect();
    let filters = context.unfilter(&context.cluster.ids()).await;
    let healed = all_or_partial(context.heal(&running).await, "healed")?;
    all_or_partial(filters, "healed")?;
    let healed: Vec<NodeId> = healed.into_keys().collect();
    match options.output {
        Output::Text => out::line(&format!("all links of {} are whole", list(&healed))),
        Output::Json => out::json(&json!({ "nodes": healed })),
    }
}
