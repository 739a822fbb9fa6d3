//! What is there: the facts that a plan is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use raftkv::admin::StatusReply;

use super::Context;
use super::status::leader;
use crate::cluster::NodeId;
use crate::cluster::outcomes::no_majority;
use crate::error::Result;
use crate::hosts::control::{HostFacts, ProcessState};
use crate::local::known_logs;
use crate::plan::Facts;
use crate::plan::membership::Membership;

/// What the hosts and nodes of a cluster are. Hosts that do not answer are left behind as long as
/// the others make a majority. Hosts that are yet to be made count among the others.
///
/// # Errors
/// Too few hosts answer.
pub async fn gather(context: &Context) -> Result<Facts> {
    let ids = context.cluster.ids();
    let all = context.with_former().await?;
    let former: Vec<NodeId> = context.former().iter().map(|node| node.id).collect();
    let (hosts, mut replies, gone, others) = tokio::join!(
        context.host_facts(),
        context.replies(&ids),
        all.node_facts(&former),
        all.replies(&former)
    );
    replies.extend(others);
    let missing = ids.len() - hosts.len();
    let needed = context.cluster.majority().saturating_sub(missing);
    let answering = hosts.values().filter(|outcome| outcome.is_ok()).count();
    if answering < needed {
        return Err(no_majority(hosts, "looked at"));
    }
    let silent = gone.iter().filter(|(_, node)| node.is_err());
    let former_silent = silent.map(|(id, _)| *id).collect();
    let seen = gone.into_iter();
    let mut facts = Facts {
        former_silent,
        former: seen
            .filter_map(|(id, node)| Some((id, node.ok()?)))
            .collect(),
        ..Facts::default()
    };
    for (id, outcome) in hosts {
        let name = context.inventory.host_of(id).name().to_owned();
        facts.names.insert(id, name);
        match outcome {
            Ok(host) => drop(facts.hosts.insert(id, host)),
            Err(error) => drop(facts.left_behind.insert(id, error)),
        }
    }
    recall(context, &mut facts)?;
    // What answers where no node of the cluster runs is another cluster's.
    let runs = |id: NodeId| {
        let node = facts.node(id).or_else(|| facts.former.get(&id));
        node.is_none_or(|node| node.state != ProcessState::Stopped)
    };
    let heard = replies.values().filter_map(|reply| reply.as_ref().ok());
    let heard: Vec<&StatusReply> = heard.filter(|reply| runs(reply.node_id)).collect();
    let with_lease = heard.iter().copied();
    let leader = leader(with_lease.filter(|reply| reply.lease_remaining_ms.is_some()));
    let leads = heard.iter().find(|reply| Some(reply.node_id) == leader);
    let last_index = leads.map_or(0, |reply| reply.last_index);
    let known = Membership::of(leader, heard.iter().copied());
    if let Some(known) = &known {
        facts.named = known.named();
        facts.told_members = known.ids().into_iter().collect();
        facts.strangers = known.strangers(heard.iter().copied());
    }
    // What others say may be old; and without a leader nothing can be changed.
    let membership = known.filter(|_| leader.is_some());
    facts.leader = leader;
    facts.last_index = last_index;
    facts.membership = membership;
    Ok(facts)
}

/// What the hosts and nodes of a cluster are, without the nodes on hosts of their own that
/// something stands in the way of, as long as the others make a majority.
///
/// # Errors
/// As [`gather`].
pub async fn gather_workable(context: &Context, accept_data_loss: bool) -> Result<Facts> {
    let mut facts = gather(context).await?;
    if accept_data_loss {
        facts.accept_lost_data();
    }
    // On one machine what stands in the way is as easily moved as found, and concerns them all.
    if context.has_remote_hosts() {
        facts.leave_obstructed(context.cluster.majority());
    }
    Ok(facts)
}

/// Compares what the hosts say with what was seen before. Nothing of this machine is ever out of sight.
/// Settles the id of the cluster.
///
/// # Errors
/// A file of raftctl's own can't be written; two clusters of one name are mixed up.
pub fn recall(context: &Context, facts: &mut Facts) -> Result<()> {
    if context.has_remote_hosts() {
        let silent: Vec<NodeId> = facts.left_behind.keys().copied().collect();
        facts.hidden = mark_lost_logs(&context.cluster.state_dir(), &mut facts.hosts, &silent)?;
    }
    context.identity.settle(facts)
}

/// Marks the logs that are gone: this machine has seen them before, or one of the hosts was told of them.
/// Remembers those that are there. Where no host has or knows of any log, and every host answers that had one,
/// the cluster is new, or was deleted, and what this machine remembers is of another one.
///
/// The answer: nodes that had a log, on hosts in `silent`, while no other host has any. Beside one
/// that is still there, a new cluster would be a second one under the same name.
///
/// # Errors
/// The file can't be written.
fn mark_lost_logs(
    state_dir: &Path,
    hosts: &mut BTreeMap<NodeId, HostFacts>,
    silent: &[NodeId],
) -> Result<Vec<NodeId>> {
    let told = hosts
        .values()
        .flat_map(|host| host.setting.seen.iter().copied());
    let mut seen: BTreeSet<NodeId> = told.collect();
    let remembered = known_logs::load(state_dir);
    let is_known = |id: &NodeId| remembered.contains(id) || seen.contains(id);
    let mut hidden: Vec<NodeId> = silent.iter().copied().filter(is_known).collect();
    let nodes = hosts.values().flat_map(|host| &host.nodes);
    let with_data: Vec<NodeId> = nodes
        .filter(|node| node.has_data)
        .map(|node| node.id)
        .collect();
    if !seen.is_empty() || !with_data.is_empty() || !hidden.is_empty() {
        seen.extend(remembered);
    }
    if !with_data.is_empty() {
        // They can't win without one of a majority that has it all.
        hidden.clear();
    }
    for node in hosts.values_mut().flat_map(|host| &mut host.nodes) {
        node.lost_data |= !node.has_data && seen.contains(&node.id);
    }
    known_logs::add(state_dir, with_data)?;
    Ok(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A member that has nothing is missed if any host or this machine has seen its log, and none is
    // where there is no cluster.
    #[test]
    fn a_lost_log_is_missed_by_whoever_looks() {
        let folder = tempfile::tempdir().unwrap();
        let lost = |seen: &[NodeId], with_data: &[NodeId]| {
            let host = |id| {
                let mut host = HostFacts::blank(id);
                host.nodes[0].has_data = with_data.contains(&id);
                host.setting.seen = seen.to_vec();
                (id, host)
            };
            let mut hosts: BTreeMap<NodeId, HostFacts> = (1..=3).map(host).collect();
            let hidden = mark_lost_logs(folder.path(), &mut hosts, &[]).unwrap();
            assert!(hidden.is_empty());
            let is_lost = |id: &NodeId| hosts[id].nodes[0].lost_data;
            (1..=3).filter(is_lost).collect::<Vec<_>>()
        };
        assert!(lost(&[], &[]).is_empty());
        assert!(lost(&[], &[1, 2]).is_empty(), "the third has never run");
        assert_eq!(
            lost(&[1, 2, 3], &[1, 2]),
            [3],
            "another operator has seen it"
        );
        assert_eq!(lost(&[], &[1]), [2], "this machine has");
        assert!(
            lost(&[], &[]).is_empty(),
            "a cluster that was deleted is not missed"
        );
    }

    // While a host that had a log can't be asked, the cluster may be there: only when all answer, and
    // none has anything, it was deleted.
    #[test]
    fn a_silent_host_may_have_the_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let look = |answering: &[NodeId], with_data: &[NodeId], silent: &[NodeId]| {
            let host = |id: &NodeId| {
                let mut host = HostFacts::blank(*id);
                host.nodes[0].has_data = with_data.contains(id);
                (*id, host)
            };
            let mut hosts: BTreeMap<NodeId, HostFacts> = answering.iter().map(host).collect();
            let hidden = mark_lost_logs(folder.path(), &mut hosts, silent).unwrap();
            let is_lost = |id: &&NodeId| hosts[id].nodes[0].lost_data;
            let lost: Vec<NodeId> = answering.iter().filter(is_lost).copied().collect();
            (hidden, lost)
        };
        assert_eq!(look(&[1, 2], &[], &[3]), (vec![], vec![]), "a new cluster");
        known_logs::add(folder.path(), [3]).unwrap();
        assert_eq!(
            look(&[1, 2], &[], &[3]),
            (vec![3], vec![]),
            "3 was not deleted"
        );
        known_logs::add(folder.path(), [1, 2]).unwrap();
        assert_eq!(
            look(&[1, 2], &[], &[3]),
            (vec![3], vec![1, 2]),
            "others lost theirs"
        );
        assert_eq!(
            look(&[1, 2], &[1], &[3]),
            (vec![], vec![2]),
            "1 has it all, or waits"
        );
        assert_eq!(look(&[1, 2, 3], &[], &[]), (vec![], vec![]), "deleted");
    }
}
