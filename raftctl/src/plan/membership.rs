//! Who belongs to a cluster, as its nodes say: the configuration in force.

use std::collections::{BTreeMap, BTreeSet};

use raftkv::admin::{self, StatusReply};

use crate::cluster::NodeId;

/// The configuration in force, and how its nodes do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Membership {
    /// The entry that made it. 0: what nodes were started with.
    pub index: u64,
    /// Whether that entry is committed.
    pub is_committed: bool,
    /// Whether voters change just now.
    pub is_joint: bool,
    /// Every node, as it is known to the others.
    pub members: BTreeMap<NodeId, admin::Member>,
    /// The ids of nodes that left, rising.
    pub retired: Vec<NodeId>,
    /// How many entries of the leader's log each other node lacks; empty where nobody leads.
    pub behind: BTreeMap<NodeId, u64>,
    /// As many more nodes may fail; nothing where nobody leads.
    pub survives: Option<u64>,
}

impl Membership {
    /// What a leader says; where there is none, what the node says that knows the latest configuration.
    /// Nothing where no node says anything of it: they are of an older release.
    #[must_use]
    pub fn of<'a>(
        leader: Option<NodeId>,
        replies: impl Iterator<Item = &'a StatusReply> + Clone,
    ) -> Option<Self> {
        let leads = |reply: &&StatusReply| Some(reply.node_id) == leader;
        let latest = |reply: &&StatusReply| reply.membership.as_ref().map(|it| it.index);
        let known = replies.clone().filter(|reply| reply.membership.is_some());
        let reply = replies.clone().find(leads);
        let reply = reply.or_else(|| known.max_by_key(latest))?;
        let said = reply.membership.as_ref()?;
        let peers = reply.peers.iter().map(|peer| {
            let lacks = reply.last_index.saturating_sub(peer.match_index);
            (peer.node_id, lacks)
        });
        Some(Membership {
            index: said.index,
            is_committed: said.committed,
            is_joint: said.joint,
            members: said
                .members
                .iter()
                .map(|it| (it.node_id, it.clone()))
                .collect(),
            retired: said.retired_ids.clone(),
            behind: peers.collect(),
            survives: reply.survives_failures,
        })
    }

    /// Every node, learners included, rising.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    /// The nodes that vote; while voters change those that are to vote from now on.
    #[must_use]
    pub fn voters(&self) -> Vec<NodeId> {
        self.those(|member| member.voter)
    }

    /// The nodes that only get the log.
    #[must_use]
    pub fn learners(&self) -> Vec<NodeId> {
        self.those(|member| !member.voter && !member.outgoing)
    }

    /// While voters change: those that voted before.
    #[must_use]
    pub fn outgoing(&self) -> Vec<NodeId> {
        self.those(|member| member.outgoing)
    }

    /// The voters that are known by their directories.
    #[must_use]
    pub fn named(&self) -> BTreeSet<NodeId> {
        let named = self.those(|member| member.voter && !member.directory_id.is_empty());
        named.into_iter().collect()
    }

    /// Those that run with another directory than the one they are known by.
    #[must_use]
    pub fn strangers<'a>(
        &self,
        replies: impl Iterator<Item = &'a StatusReply>,
    ) -> BTreeSet<NodeId> {
        let is_other = |reply: &&StatusReply| {
            let known = self.members.get(&reply.node_id);
            let known = known.map_or("", |member| &member.directory_id);
            let ids = [known, &reply.directory_id];
            ids.iter().all(|id| !id.is_empty()) && ids[0] != ids[1]
        };
        replies.filter(is_other).map(|it| it.node_id).collect()
    }

    /// Whether a leader says so, and nothing of it changes just now.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.survives.is_some() && self.is_committed && !self.is_joint
    }

    /// Whether a node is no member for certain: what it had may be deleted.
    #[must_use]
    pub fn has_left(&self, id: NodeId) -> bool {
        self.is_settled() && !self.members.contains_key(&id)
    }

    fn those(&self, fits: impl Fn(&admin::Member) -> bool) -> Vec<NodeId> {
        let members = self.members.iter().filter(|(_, member)| fits(member));
        members.map(|(id, _)| *id).collect()
    }
}

/// As many nodes of so many voters may fail.
#[must_use]
pub fn tolerance(voters: usize) -> u64 {
    (voters.saturating_sub(1) / 2) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(node_id: NodeId, index: u64, voters: &[NodeId], learners: &[NodeId]) -> StatusReply {
        let member = |voter| {
            move |id: &NodeId| admin::Member {
                node_id: *id,
                voter,
                ..admin::Member::default()
            }
        };
        let voters = voters.iter().map(member(true));
        StatusReply {
            node_id,
            last_index: 100,
            membership: Some(admin::Membership {
                index,
                members: voters.chain(learners.iter().map(member(false))).collect(),
                ..admin::Membership::default()
            }),
            ..StatusReply::default()
        }
    }

    // The leader decides; without one, whoever knows the latest. Releases that say nothing are no members
    // of nothing.
    #[test]
    fn the_leader_is_believed() {
        let mut leader = reply(1, 5, &[1, 2, 3], &[4]);
        leader.peers = vec![admin::PeerProgress {
            node_id: 4,
            match_index: 40,
            ..admin::PeerProgress::default()
        }];
        let replies = [leader, reply(2, 9, &[2], &[])];
        let known = Membership::of(Some(1), replies.iter()).unwrap();
        assert_eq!((known.index, known.voters()), (5, vec![1, 2, 3]));
        assert_eq!((known.learners(), known.behind[&4]), (vec![4], 60));
        let known = Membership::of(None, replies.iter()).unwrap();
        assert_eq!((known.index, known.ids()), (9, vec![2]));
        let older = [StatusReply::default()];
        assert_eq!(Membership::of(None, older.iter()), None);
    }

    // What a node had is deleted once a leader does not count it, by a change that can't be undone any more; whoever
    // is still a member, or may be one again, keeps it.
    #[test]
    fn who_has_left_is_known_for_certain() {
        let mut leader = reply(1, 5, &[1, 2, 3], &[4]);
        leader.survives_failures = Some(1);
        leader.membership.as_mut().unwrap().committed = true;
        let known = Membership::of(Some(1), [&leader].into_iter()).unwrap();
        let left = |known: &Membership| [1, 4, 5].map(|id| known.has_left(id));
        assert_eq!(left(&known), [false, false, true]);
        let doubtful = [
            Membership {
                is_committed: false,
                ..known.clone()
            },
            Membership {
                is_joint: true,
                ..known.clone()
            },
            Membership {
                survives: None,
                ..known
            },
        ];
        for known in doubtful {
            assert_eq!(left(&known), [false; 3], "{known:?}");
        }
    }

    #[test]
    fn so_many_may_fail() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(tolerance), [0, 0, 0, 1, 1, 2]);
    }

    // A node is known by its directory once the log names it; of one that says nothing, nothing is known.
    #[test]
    fn another_directory_is_another_node() {
        let directory = |id: NodeId, directory: &str| StatusReply {
            directory_id: directory.into(),
            ..reply(id, 5, &[1, 2, 3], &[])
        };
        let replies = [directory(1, "a"), directory(2, "x"), directory(3, "")];
        let mut known = Membership::of(Some(1), replies.iter()).unwrap();
        assert!(known.named().is_empty());
        assert!(known.strangers(replies.iter()).is_empty());
        for (id, directory) in [(1, "a"), (2, "b"), (3, "c")] {
            known.members.get_mut(&id).unwrap().directory_id = directory.into();
        }
        assert_eq!(known.named(), [1, 2, 3].into());
        assert_eq!(known.strangers(replies.iter()), [2].into());
    }
}
