//! The machines of nodes that cluster.yaml does not name any more: what becomes of them before the nodes have left
//! the cluster, and after.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{applied, confirm_changes, planned, unless_interrupted};
use crate::cluster::{Cluster, Node, NodeId, list};
use crate::error::{Error, Result};
use crate::local::folder_lock::FolderLock;
use crate::local::interrupt::Interruptions;
use crate::ops::Context;
use crate::plan::membership::Membership;
use crate::providers::gcp::changes::Change;
use crate::providers::gcp::leaving::Former;
use crate::providers::gcp::{self, Infrastructure, Purpose};
use crate::terminal::options::Options;
use crate::terminal::progress::Progress;

/// How long to wait for a leader that says who has left: there was one just now.
const LEADER_WITHIN: Duration = Duration::from_secs(10);

/// How long nobody may lead before it counts as such.
const ELECTED_WITHIN: Duration = Duration::from_secs(3);

/// How long to wait before it is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// What becomes of them first: they stay as they are. Where nobody leads, it may take their machines to elect
/// somebody, and those whose disks are there get them back.
///
/// # Errors
/// What is kept about the cluster is damaged.
pub async fn former(cluster: &Cluster) -> Result<Former> {
    let allocation = gcp::allocation(cluster)?;
    if allocation.leaving.is_empty() || allocation.members.is_empty() {
        return Ok(Former::Stay);
    }
    let ids: Vec<NodeId> = allocation.leaving.keys().copied().collect();
    let leads = async {
        let context = Context::open(cluster.clone()).await.ok()?;
        let all = with(&context, &ids).await.ok()?;
        // Somebody may just be elected.
        known_within(&all, ELECTED_WITHIN, |_| true).await
    };
    Ok(match leads.await {
        Some(_) => Former::Stay,
        None => Former::Return,
    })
}

/// The nodes among them that have got their machines back.
///
/// # Errors
/// What is kept about the cluster is damaged.
pub fn returned(cluster: &Cluster, former: &Former) -> Result<Vec<NodeId>> {
    if *former != Former::Return {
        return Ok(Vec::new());
    }
    let machines = gcp::machines(cluster)?.nodes;
    let leaving = gcp::allocation(cluster)?.leaving.into_iter();
    let has_machine = leaving.filter(|(_, at)| machines.contains_key(&at.name));
    Ok(has_machine.map(|(id, _)| id).collect())
}

/// The same cluster with some nodes that cluster.yaml does not name any more.
///
/// # Errors
/// The provider can't tell where they are.
pub async fn with(context: &Context, ids: &[NodeId]) -> Result<Context> {
    let nodes = ids.iter().map(|id| Node {
        id: *id,
        ..Node::default()
    });
    context.with_nodes(nodes.collect()).await
}

/// Deletes what there is at Google of the nodes that have left the cluster, as its leader says.
///
/// # Errors
/// Terraform or Google fails: the next `up` goes on.
pub async fn delete_left(context: &Context, options: &Options, progress: &Progress) -> Result<()> {
    let cluster = &context.cluster;
    let leaving = gcp::allocation(cluster)?.leaving;
    if leaving.is_empty() {
        return Ok(());
    }
    let mut interruptions = Interruptions::new();
    let asking = async { Ok(settled(context).await) };
    let Some(known) = unless_interrupted("up", &mut interruptions, asking).await? else {
        let ids: Vec<NodeId> = leaving.into_keys().collect();
        progress.note(&format!(
            "what there is of the machines of {} is kept: no leader says that they have left; `raftctl up` goes on",
            list(&ids)
        ));
        return Ok(());
    };
    let gone = leaving.into_keys().filter(|id| known.has_left(*id));
    let gone: BTreeSet<NodeId> = gone.collect();
    if gone.is_empty() {
        return Ok(());
    }
    let _lock = FolderLock::take(cluster, "up").await?;
    let purpose = Purpose::Up {
        allow_data_loss: false,
    };
    let former = Former::Leave(gone.clone());
    let infrastructure = planned(cluster, purpose, &former, options, progress).await?;
    if is_more(&infrastructure) {
        confirm_changes("up", cluster, options, &infrastructure).await?;
    }
    // Under the lock: whoever held it before may have let one of them in.
    let still_gone = async {
        let known = settled(context).await.unwrap_or_default();
        match gone.iter().all(|id| known.has_left(*id)) {
            true => Ok(()),
            false => Err(Error::Usage(
                "nothing was deleted: somebody else has changed who belongs to the cluster; run `raftctl up` again"
                    .into(),
            )),
        }
    };
    applied(cluster, &infrastructure, "up", progress, still_gone).await?;
    let rest: Vec<NodeId> = infrastructure
        .forget_gone(cluster)
        .await?
        .into_iter()
        .collect();
    match rest.as_slice() {
        [] => Ok(()),
        rest => Err(Error::Cloud(format!(
            "{} left the cluster, and not all of their machines, disks and addresses could be deleted: they cost \
             money; run `raftctl up` again",
            list(rest)
        ))),
    }
}

/// Who belongs to the cluster, where that does not change just now.
async fn settled(context: &Context) -> Option<Membership> {
    known_within(context, LEADER_WITHIN, Membership::is_settled).await
}

async fn known_within(
    context: &Context,
    patience: Duration,
    fits: impl Fn(&Membership) -> bool,
) -> Option<Membership> {
    let give_up = Instant::now() + patience;
    loop {
        if let Some(known) = context.membership().await.filter(&fits) {
            return Some(known);
        }
        if Instant::now() >= give_up {
            return None;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether anything else goes, too: that they leave was asked for.
fn is_more(infrastructure: &Infrastructure) -> bool {
    let foreseen = infrastructure.of_gone();
    let destructive = |change: &&Change| change.is_destructive();
    let mut changes = infrastructure.changes.iter().filter(destructive);
    changes.any(|change| !foreseen(change))
}
