//! What a key asked for and a person confirmed, done as the verbs of the same names do it. Every fault
//! that can end by itself does, also where the operator's machine is gone by then.

use std::time::Duration;

use super::model::Act;
use crate::admin;
use crate::cluster::NodeId;
use crate::cluster::outcomes::Outcomes;
use crate::error::{Error, Result};
use crate::local::folder_lock::FolderLock;
use crate::ops::Context;

/// How long a node is paused or cut off, if nobody ends that before.
pub const FAULT_LENGTH: Duration = Duration::from_secs(60);

/// How long a leader may take to hand over.
const TRANSFER_TIME: Duration = Duration::from_secs(10);

/// Does it; what became of it, in words.
pub async fn act(context: Context, act: Act) -> String {
    match tried(&context, act).await {
        Ok(text) => text,
        Err(error) => format!("{}: {error}", act.words()),
    }
}

async fn tried(context: &Context, act: Act) -> Result<String> {
    let _lock = FolderLock::take(&context.cluster, "top").await?;
    match act {
        Act::Kill(id) => {
            one(context.kill(&[id]).await)?;
            Ok(format!(
                "node {id} was killed: `raftctl start {id}` starts it"
            ))
        }
        Act::Pause(id) => {
            one(context.pause(&[id], Some(FAULT_LENGTH)).await)?;
            Ok(format!("node {id} was paused"))
        }
        Act::Resume(id) => {
            one(context.resume(&[id]).await)?;
            Ok(format!("node {id} goes on"))
        }
        Act::CutOff(id) => cut_off(context, id).await,
        Act::Heal => heal(context).await,
        Act::Transfer(to) => transfer(context, to).await,
    }
}

/// The outcome at one node.
fn one<T>(outcomes: Outcomes<T>) -> Result<()> {
    outcomes
        .into_values()
        .try_for_each(|outcome| outcome.map(drop))
}

/// The node drops all messages to and from the others. That these do as well is needed only where it
/// does not obey, so those among them that are dead are no obstacle.
async fn cut_off(context: &Context, id: NodeId) -> Result<String> {
    let ids = context.cluster.ids().into_iter();
    let others: Vec<NodeId> = ids.filter(|other| *other != id).collect();
    let groups = [vec![id], others];
    let mut outcomes = context.partition(&groups, FAULT_LENGTH).await;
    match outcomes.remove(&id) {
        Some(Ok(())) => Ok(format!("node {id} was cut off from all others")),
        Some(Err(error)) => {
            let _undone = context.rejoin(&groups).await; // It ends by itself where that fails.
            Err(error)
        }
        None => unreachable!("node {id} was told"),
    }
}

async fn heal(context: &Context) -> Result<String> {
    let ids = context.cluster.ids();
    let (filters, links) = tokio::join!(context.unfilter(&ids), context.heal(&ids));
    // A node that does not answer has no cuts, or they end by themselves.
    let healed = links.values().filter(|healed| healed.is_ok()).count();
    one(filters)?;
    match (healed, links.into_values().find_map(Result::err)) {
        (0, Some(error)) => Err(error),
        _ => Ok(format!("the links of {healed} nodes are whole")),
    }
}

async fn transfer(context: &Context, to: NodeId) -> Result<String> {
    let no_leader = || Error::NoLeader("there is no leader that could hand over".into());
    let leader = context.leader().await.ok_or_else(no_leader)?;
    if leader == to {
        return Ok(format!("node {to} leads already"));
    }
    let address = &context.inventory.member(leader).admin_address;
    let new = admin::transfer(address, Some(to), TRANSFER_TIME).await;
    let new = new.map_err(|error| Error::NoLeader(error.to_string()))?;
    Ok(format!("node {leader} handed over to node {new}"))
}
