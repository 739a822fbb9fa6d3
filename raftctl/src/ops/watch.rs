//! Looking at a cluster again and again: each node is asked by itself, so that one that hangs holds up
//! nothing but what is known of it.
//!
//! A node that answers runs, and its host is left alone. Only hosts of silent nodes are asked what their
//! processes do, and less often: that starts a shell there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raftkv::admin::StatusReply;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Context;
use super::rates::{Looks, Rates};
use super::status::{ANSWER_DEADLINE, NodeStatus, Snapshot, own};
use crate::admin::{AdminError, Watch};
use crate::cluster::NodeId;
use crate::cluster::outcomes::Outcomes;
use crate::hosts::control::{NodeFacts, ProcessState};

/// Between two questions to a node.
pub const EVERY: Duration = Duration::from_millis(250);

/// Between two questions to the hosts of silent nodes.
const HOSTS_EVERY: Duration = Duration::from_secs(2);

/// What is known of a node.
#[derive(Debug)]
struct Seen {
    reply: Result<StatusReply, AdminError>,
    process: Option<ProcessState>,
    host_error: Option<String>,
    is_filtered: bool,
    looks: Looks,
}

type AllSeen = Arc<Mutex<BTreeMap<NodeId, Seen>>>;

/// Looks until it is dropped.
pub struct Watcher {
    context: Context,
    seen: AllSeen,
    _looking: JoinSet<()>,
}

impl Watcher {
    /// Begins to look.
    #[must_use]
    pub fn begin(context: &Context) -> Self {
        // Addresses of tunnels are made as they are needed.
        context.note_security();
        let seen: AllSeen = Arc::default();
        let mut looking = JoinSet::new();
        for member in &context.inventory.members {
            let cluster = context.cluster.name.clone();
            let (id, address) = (member.id, member.admin_address.clone());
            looking.spawn(watch_node(cluster, id, address, Arc::clone(&seen)));
        }
        looking.spawn(watch_hosts(context.clone(), Arc::clone(&seen)));
        Watcher {
            context: context.clone(),
            seen,
            _looking: looking,
        }
    }

    /// The cluster as it was seen last; `None` until each node has answered once, or has not.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let seen = lock(&self.seen);
        if seen.len() < self.context.inventory.members.len() {
            return None;
        }
        let members = self.context.inventory.members.iter();
        let nodes = members.filter_map(|member| {
            let seen = seen.get(&member.id)?;
            Some(NodeStatus {
                id: member.id,
                address: self.context.client_address(member),
                process: seen.process,
                host_error: seen.host_error.clone(),
                is_filtered: seen.is_filtered,
                reply: seen.reply.clone(),
            })
        });
        Some(Snapshot::new(nodes.collect()))
    }

    /// What each node does just now.
    #[must_use]
    pub fn rates(&self) -> BTreeMap<NodeId, Rates> {
        let seen = lock(&self.seen);
        let rates = seen.iter().filter(|(_, seen)| seen.reply.is_ok());
        rates.map(|(id, seen)| (*id, seen.looks.rates())).collect()
    }
}

fn lock(seen: &AllSeen) -> MutexGuard<'_, BTreeMap<NodeId, Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch_node(cluster: String, id: NodeId, address: String, seen: AllSeen) {
    let mut node = Watch::new(address.clone());
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let reply = node.status(ANSWER_DEADLINE).await;
        let reply = reply.and_then(|reply| own(&cluster, id, &address, reply));
        heard(&mut lock(&seen), id, reply);
    }
}

/// Takes in what a node said, or that it said nothing.
fn heard(seen: &mut BTreeMap<NodeId, Seen>, id: NodeId, reply: Result<StatusReply, AdminError>) {
    let known = seen.remove(&id);
    let mut looks = known
        .as_ref()
        .map_or_else(Looks::default, |it| it.looks.clone());
    if let Ok(reply) = &reply {
        looks.take(Instant::now(), reply);
    }
    let was_silent = known.as_ref().is_some_and(|it| it.reply.is_err());
    let (process, host_error, is_filtered) = match (&reply, known) {
        (Ok(_), known) => {
            let is_filtered = known.is_some_and(|it| it.is_filtered && !was_silent);
            (Some(ProcessState::Running), None, is_filtered)
        }
        // What its host said of it while it was silent holds until it says something else.
        (Err(_), Some(known)) if was_silent => (known.process, known.host_error, known.is_filtered),
        (Err(_), _) => (None, None, false),
    };
    let now = Seen {
        reply,
        process,
        host_error,
        is_filtered,
        looks,
    };
    seen.insert(id, now);
}

async fn watch_hosts(context: Context, seen: AllSeen) {
    let mut ticks = interval(HOSTS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let is_silent = |it: &(&NodeId, &Seen)| it.1.reply.is_err();
        let silent: Vec<NodeId> = lock(&seen)
            .iter()
            .filter(is_silent)
            .map(|it| *it.0)
            .collect();
        if silent.is_empty() {
            continue;
        }
        let facts = context.node_facts(&silent).await;
        told(&mut lock(&seen), facts);
    }
}

/// Takes in what hosts said of nodes that are silent still.
fn told(seen: &mut BTreeMap<NodeId, Seen>, facts: Outcomes<NodeFacts>) {
    for (id, facts) in facts {
        let Some(seen) = seen.get_mut(&id).filter(|seen| seen.reply.is_err()) else {
            continue;
        };
        match facts {
            Ok(facts) => {
                seen.process = Some(facts.state);
                seen.is_filtered = facts.is_filtered;
                seen.host_error = None;
            }
            Err(error) => {
                seen.process = None;
                seen.host_error = Some(error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::control::HostFacts;

    fn silent() -> Result<StatusReply, AdminError> {
        Err(AdminError::Silent {
            address: "n:1".into(),
            cause: "refused".into(),
        })
    }

    // What a host says of a silent node holds until the node is heard again; of one that answers it is
    // not asked, and a late word about it counts for nothing.
    #[test]
    fn silence_is_explained_by_the_host() {
        let mut seen = BTreeMap::new();
        let mut paused = HostFacts::blank(1).nodes.remove(0);
        paused.state = ProcessState::Paused;
        let facts = || Outcomes::from([(1, Ok(paused.clone()))]);
        heard(&mut seen, 1, Ok(StatusReply::default()));
        told(&mut seen, facts());
        assert_eq!(seen[&1].process, Some(ProcessState::Running));
        heard(&mut seen, 1, silent());
        assert_eq!(seen[&1].process, None);
        told(&mut seen, facts());
        heard(&mut seen, 1, silent());
        assert_eq!(seen[&1].process, Some(ProcessState::Paused));
        heard(&mut seen, 1, Ok(StatusReply::default()));
        assert_eq!(seen[&1].process, Some(ProcessState::Running));
    }
}
