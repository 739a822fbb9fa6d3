//! Steps that change something, and those that give names.

use std::time::{Duration, Instant};

use raftkv::admin::{Role, StatusReply};

use super::notation::{Choose, Nodes, Partition, WaitForLeader};
use super::outcome::{Observed, Unmet};
use super::runner::{Mark, Runner, until};
use crate::cluster::outcomes::all_or_partial;
use crate::cluster::{NodeId, list};
use crate::ops::run;

/// What a scenario has frozen goes on after this time, should nobody be there to undo it.
const PAUSE_MAX: Duration = Duration::from_secs(600);

impl Runner<'_> {
    pub(super) async fn wait_for_leader(&mut self, step: &WaitForLeader) -> Observed {
        let not = match &step.not {
            Some(nodes) => self.resolve(nodes).await?,
            None => vec![],
        };
        let limit = self.limit(step.within);
        let mut found = None;
        let seen = until(limit, async || {
            let replies = self.replies().await;
            let leader = settled(&replies, &not)?;
            found = Some(leader.node_id);
            let lease_ms = leader.lease_remaining_ms.unwrap_or(0);
            let (id, term) = (leader.node_id, leader.term);
            Ok(format!("node {id} in term {term}, {lease_ms} ms of lease"))
        });
        let seen = seen.await?;
        if let (Some(name), Some(id)) = (&step.name, found) {
            self.names.insert(name.clone(), vec![id]);
        }
        Ok(seen)
    }

    pub(super) async fn choose(&mut self, step: &Choose) -> Observed {
        let mut ids = self.resolve(&step.from).await?;
        if let Some(except) = &step.except {
            let except = self.resolve(except).await?;
            ids.retain(|id| !except.contains(id));
        }
        let count = step.count.unwrap_or(ids.len());
        if count > ids.len() {
            return Err(Unmet::expected(format!("{count} nodes"), list(&ids)));
        }
        ids.truncate(count);
        let seen = list(&ids);
        self.names.insert(step.name.clone(), ids);
        Ok(seen)
    }

    pub(super) async fn kill(&mut self, nodes: &Nodes) -> Observed {
        let ids = self.resolve(nodes).await?;
        all_or_partial(self.context.kill(&ids).await, "killed")?;
        Ok(list(&ids))
    }

    pub(super) async fn stop(&mut self, nodes: &Nodes) -> Observed {
        let ids = self.resolve(nodes).await?;
        all_or_partial(self.context.stop(&ids, run::STOP_GRACE).await, "stopped")?;
        Ok(list(&ids))
    }

    pub(super) async fn start(&mut self, nodes: &Nodes) -> Observed {
        let ids = self.resolve(nodes).await?;
        run::start(&self.context, &ids, self.binary).await?;
        self.context.wait_until_back(&ids, self.limit(None)).await?;
        Ok(format!("{} answering", list(&ids)))
    }

    pub(super) async fn pause(&mut self, nodes: &Nodes) -> Observed {
        let ids = self.resolve(nodes).await?;
        let paused = self.context.pause(&ids, Some(PAUSE_MAX)).await;
        all_or_partial(paused, "paused")?;
        Ok(list(&ids))
    }

    pub(super) async fn resume(&mut self, nodes: &Nodes) -> Observed {
        let ids = self.resolve(nodes).await?;
        all_or_partial(self.context.resume(&ids).await, "resumed")?;
        Ok(list(&ids))
    }

    pub(super) async fn partition(&mut self, step: &Partition) -> Observed {
        let mut groups: Vec<Vec<NodeId>> = Vec::new();
        for nodes in &step.groups {
            groups.push(self.resolve(nodes).await?);
        }
        let length = step.length.resolve(&self.context.cluster.timing);
        all_or_partial(self.context.partition(&groups, length).await, "cut off")?;
        let groups: Vec<String> = groups.iter().map(|group| list(group)).collect();
        Ok(groups.join(" | "))
    }

    pub(super) async fn heal(&mut self, nodes: &Nodes) -> Observed {
        let ids = self.resolve(nodes).await?;
        all_or_partial(self.context.heal(&ids).await, "healed")?;
        Ok(list(&ids))
    }

    /// The files first: counters are compared over the time from the moment after.
    pub(super) async fn mark(&mut self, name: &str) -> Observed {
        let dump_ends = self.dump_ends(&self.context.cluster.ids()).await?;
        let at = Instant::now();
        let replies = self.replies().await;
        let seen = format!("{} answering", replies.len());
        let mark = Mark {
            at,
            replies,
            dump_ends,
        };
        self.marks.insert(name.to_owned(), mark);
        Ok(seen)
    }
}

/// The one leader with a lease that every node that answers follows in its term.
pub(super) fn settled<'a>(
    replies: &'a std::collections::BTreeMap<NodeId, StatusReply>,
    not: &[NodeId],
) -> Result<&'a StatusReply, Unmet> {
    let expected = "one leader with a lease, followed by every node that runs";
    let follows = |leader: &StatusReply| {
        replies.values().all(|reply| {
            let says = reply.leader_id == leader.node_id || reply.node_id == leader.node_id;
            says && reply.term == leader.term
        })
    };
    let leads = |reply: &&StatusReply| reply.role() == Role::Leader;
    let leaders: Vec<&StatusReply> = replies.values().filter(leads).collect();
    match leaders[..] {
        [leader]
            if leader.lease_remaining_ms.is_some()
                && follows(leader)
                && !not.contains(&leader.node_id) =>
        {
            Ok(leader)
        }
        _ => Err(Unmet::expected(expected, roles(replies))),
    }
}

/// What each node says of itself, in a line.
pub(super) fn roles(replies: &std::collections::BTreeMap<NodeId, StatusReply>) -> String {
    if replies.is_empty() {
        return "no node answers".into();
    }
    let role = |reply: &StatusReply| {
        let role = match reply.role() {
            Role::Leader if reply.lease_remaining_ms.is_some() => "leads with a lease",
            Role::Leader => "leads without a lease",
            Role::Candidate => "stands for election",
            Role::Follower | Role::Unspecified if reply.leader_id == 0 => "follows nobody",
            Role::Follower | Role::Unspecified => "follows",
        };
        let whom = match (reply.role(), reply.leader_id) {
            (Role::Follower, leader) if leader != 0 => format!(" node {leader}"),
            _ => String::new(),
        };
        format!("node {} {role}{whom} in term {}", reply.node_id, reply.term)
    };
    let roles: Vec<String> = replies.values().map(role).collect();
    roles.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn reply(node_id: u64, role: Role, term: u64, leader_id: u64, lease: bool) -> StatusReply {
        StatusReply {
            node_id,
            role: role.into(),
            term,
            leader_id,
            lease_remaining_ms: lease.then_some(1500),
            ..StatusReply::default()
        }
    }

    fn replies(of: &[StatusReply]) -> BTreeMap<NodeId, StatusReply> {
        of.iter()
            .map(|reply| (reply.node_id, reply.clone()))
            .collect()
    }

    /// A cluster is settled when one node leads with a lease and all others know it.
    #[test]
    fn settled_means_one_leader_that_all_follow() {
        let leader = reply(1, Role::Leader, 3, 1, true);
        let follower = |id, term, of| reply(id, Role::Follower, term, of, false);
        let good = replies(&[leader.clone(), follower(2, 3, 1), follower(3, 3, 1)]);
        assert_eq!(settled(&good, &[]).unwrap().node_id, 1);
        assert!(settled(&good, &[1]).is_err(), "another one was asked for");
        for bad in [
            replies(&[reply(1, Role::Leader, 3, 1, false), follower(2, 3, 1)]),
            replies(&[leader.clone(), follower(2, 2, 4)]),
            replies(&[leader.clone(), reply(2, Role::Leader, 2, 2, true)]),
            replies(&[leader.clone(), reply(2, Role::Candidate, 4, 0, false)]),
            replies(&[follower(2, 3, 1)]),
            replies(&[]),
        ] {
            assert!(settled(&bad, &[]).is_err(), "{}", roles(&bad));
        }
    }

    /// What is seen instead names every node.
    #[test]
    fn roles_name_every_node() {
        let of = replies(&[
            reply(1, Role::Leader, 3, 1, true),
            reply(2, Role::Follower, 3, 1, false),
            reply(3, Role::Candidate, 4, 0, false),
        ]);
        assert_eq!(
            roles(&of),
            "node 1 leads with a lease in term 3, node 2 follows node 1 in term 3, node 3 stands \
             for election in term 4"
        );
    }
}
