//! Who belongs to a cluster: its *configuration*, as the log holds it.
//!
//! A configuration names its nodes, and which of them vote. While voters change it has two sets, the
//! new one and the one that goes (`outgoing`), and nothing is decided without a majority of each: *joint
//! consensus* (Raft paper, section 6; dissertation 4.3). Nodes that are in neither set are *learners*: they get the log,
//! and count for nothing. Ids of nodes that were members once are never used again (`retired`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// Most nodes of one configuration, learners included.
pub const MEMBERS_MAX: usize = 32;

/// Most ids that are remembered of nodes that left: then no node can leave any more.
pub const RETIRED_MAX: usize = 4_096;

/// Longest address of a node.
const ADDRESS_BYTES_MAX: usize = 300;

/// Where nothing is known, or nothing stands.
const NOTHING: &str = "NULL";

/// A node, as the configuration knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Member {
    /// The id of its directory: a node that lost its disk is another one. 0: not known.
    pub directory: u128,
    /// `host:port` for other nodes. Empty: not known here.
    pub peer_address: Arc<str>,
    /// `host:port` for clients. Empty: not known here.
    pub client_address: Arc<str>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Members {
    /// All nodes by id, learners included.
    pub nodes: BTreeMap<u64, Member>,
    /// Those that vote; in a joint configuration those that are to vote from now on.
    pub voters: BTreeSet<u64>,
    /// The former voters, while their majority is needed as well. Empty: it is not joint.
    pub outgoing: BTreeSet<u64>,
    /// Ids that nobody gets again.
    pub retired: BTreeSet<u64>,
}

impl Members {
    /// Voters of which nothing but the ids is known: what nodes are started with.
    pub fn of_voters(voters: impl IntoIterator<Item = u64>) -> Self {
        let voters: BTreeSet<u64> = voters.into_iter().collect();
        let nodes = voters.iter().map(|id| (*id, Member::default()));
        Members {
            nodes: nodes.collect(),
            voters,
            ..Members::default()
        }
    }

    /// Whether two majorities are needed.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the node's vote may be needed.
    pub fn votes(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// All whose vote may be needed.
    pub fn all_voters(&self) -> BTreeSet<u64> {
        self.voters.union(&self.outgoing).copied().collect()
    }

    /// The nodes that only get the log.
    pub fn learners(&self) -> impl Iterator<Item = u64> {
        let ids = self.nodes.keys().copied();
        ids.filter(|id| !self.votes(*id))
    }

    /// Whether those for which this holds are a majority: of both sets, where there are two. The one place
    /// where a quorum is counted. Without voters there is none.
    pub fn has_quorum(&self, mut holds: impl FnMut(u64) -> bool) -> bool {
        let mut majority = |voters: &BTreeSet<u64>| {
            voters.iter().filter(|id| holds(**id)).count() > voters.len() / 2
        };
        majority(&self.voters) && (self.outgoing.is_empty() || majority(&self.outgoing))
    }

    /// The highest value that a quorum has come to, where each node has come to one.
    pub fn reached_by_quorum<T: Ord + Copy>(&self, value: impl Fn(u64) -> T) -> Option<T> {
        let voters = self.voters.union(&self.outgoing);
        let mut values: Vec<T> = voters.map(|id| value(*id)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values
            .into_iter()
            .find(|least| self.has_quorum(|id| value(id) >= *least))
    }

    /// The configuration that leads from this one to another: both majorities count.
    pub fn joint_with(&self, target: &Members) -> Members {
        let mut nodes = self.nodes.clone();
        nodes.extend(target.nodes.clone());
        // Learners that are to go do so at once.
        nodes.retain(|id, _| target.nodes.contains_key(id) || self.voters.contains(id));
        let mut joint = Members {
            nodes,
            voters: target.voters.clone(),
            outgoing: self.voters.clone(),
            retired: self.retired.clone(),
        };
        joint.retire_from(self);
        joint
    }

    /// What a joint configuration leads to.
    pub fn after_joint(&self) -> Members {
        let leaves = |id: &u64| self.outgoing.contains(id) && !self.voters.contains(id);
        let mut after = Members {
            nodes: self.nodes.clone(),
            voters: self.voters.clone(),
            outgoing: BTreeSet::new(),
            retired: self.retired.clone(),
        };
        after.nodes.retain(|id, _| !leaves(id));
        after.retire_from(self);
        after
    }

    /// The way back out of a joint configuration: the former voters alone, those that were to become voters
    /// as learners.
    pub fn before_joint(&self) -> Members {
        Members {
            nodes: self.nodes.clone(),
            voters: self.outgoing.clone(),
            outgoing: BTreeSet::new(),
            retired: self.retired.clone(),
        }
    }

    /// Remembers the ids of those that were in `before` and are in this one no more.
    pub fn retire_from(&mut self, before: &Members) {
        let gone = before
            .nodes
            .keys()
            .filter(|id| !self.nodes.contains_key(id));
        self.retired.extend(gone.copied().collect::<Vec<_>>());
    }

    /// Why this can be no configuration of any log; nothing where it can.
    pub fn fault(&self) -> Option<&'static str> {
        let known = |ids: &BTreeSet<u64>| ids.iter().all(|id| self.nodes.contains_key(id));
        let address = |text: &Arc<str>| {
            text.len() <= ADDRESS_BYTES_MAX
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b',')
        };
        let addresses = |it: &Member| address(&it.peer_address) && address(&it.client_address);
        match () {
            () if self.voters.is_empty() => Some("it has no voters"),
            () if !known(&self.voters) || !known(&self.outgoing) => {
                Some("a voter is no node of it")
            }
            () if self.nodes.contains_key(&0) => Some("0 is no id of a node"),
            () if self.nodes.len() > MEMBERS_MAX => Some("it has too many nodes"),
            () if self.retired.len() > RETIRED_MAX => Some("it remembers too many ids"),
            () if self.retired.iter().any(|id| self.nodes.contains_key(id)) => {
                Some("an id is used again")
            }
            () if !self.nodes.values().all(addresses) => Some("an address is none"),
            () => None,
        }
    }

    /// As one line: `voters=1,2,3 outgoing=NULL retired=4 1=DIRECTORY,PEER,CLIENT ...`
    pub fn text(&self) -> String {
        let ids = |ids: &BTreeSet<u64>| match ids.is_empty() {
            true => NOTHING.to_owned(),
            false => super::voters_text(&ids.iter().copied().collect::<Vec<_>>()),
        };
        let mut text = format!(
            "voters={} outgoing={} retired={}",
            ids(&self.voters),
            ids(&self.outgoing),
            ids(&self.retired)
        );
        for (id, member) in &self.nodes {
            let directory = super::cluster_text(member.directory);
            let (peer, client) = (&member.peer_address, &member.client_address);
            // A `String` takes every text.
            write!(text, " {id}={directory},{peer},{client}").ok();
        }
        text
    }

    /// The configuration of [`Members::text`]: only in the one way in which it is written, and only one that
    /// can be.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut ids = |name: &str| -> Option<BTreeSet<u64>> {
            let list = words.next()?.strip_prefix(name)?.strip_prefix('=')?;
            match list {
                NOTHING => Some(BTreeSet::new()),
                list => Some(super::parse_voters(list)?.into_iter().collect()),
            }
        };
        let (voters, outgoing, retired) = (ids("voters")?, ids("outgoing")?, ids("retired")?);
        let mut nodes = BTreeMap::new();
        for word in words {
            let (id, rest) = word.split_once('=')?;
            let mut parts = rest.splitn(3, ',');
            let member = Member {
                directory: super::parse_cluster(parts.next()?)?,
                peer_address: parts.next()?.into(),
                client_address: parts.next()?.into(),
            };
            nodes.insert(id.parse().ok()?, member);
        }
        let members = Members {
            nodes,
            voters,
            outgoing,
            retired,
        };
        (members.fault().is_none() && members.text() == text).then_some(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64) -> Member {
        Member {
            directory: u128::from(id) << 64 | 7,
            peer_address: format!("host{id}:7400").into(),
            client_address: format!("host{id}:7500").into(),
        }
    }

    fn members(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Members {
        let all = voters.iter().chain(outgoing).chain(learners);
        Members {
            nodes: all.map(|id| (*id, member(*id))).collect(),
            voters: voters.iter().copied().collect(),
            outgoing: outgoing.iter().copied().collect(),
            retired: BTreeSet::new(),
        }
    }

    // A majority of each set is needed, learners count for nothing, and nobody is a quorum of no voters.
    #[test]
    fn a_quorum_is_one_of_both_sets() {
        let quorum = |members: &Members, ids: &[u64]| members.has_quorum(|id| ids.contains(&id));
        let single = members(&[1, 2, 3], &[], &[4, 5]);
        assert!(quorum(&single, &[1, 3]) && !quorum(&single, &[1, 4, 5]));
        let joint = members(&[3, 4, 5], &[1, 2, 3], &[]);
        assert!(quorum(&joint, &[1, 3, 4]) && !quorum(&joint, &[3, 4, 5]));
        assert!(!quorum(&joint, &[1, 2, 3]) && !quorum(&joint, &[1, 4]));
        assert!(!quorum(&Members::default(), &[1]));
        let even = members(&[1, 2, 3, 4], &[], &[]);
        assert!(quorum(&even, &[1, 2, 3]) && !quorum(&even, &[1, 2]));
    }

    // The value that a quorum has come to is the smallest of both sets' majorities.
    #[test]
    fn what_a_quorum_has_come_to() {
        let value = |id: u64| [0, 10, 20, 30, 4, 5][id as usize];
        let single = members(&[1, 2, 3], &[], &[5]);
        assert_eq!(single.reached_by_quorum(value), Some(20));
        let joint = members(&[3, 4, 5], &[1, 2, 3], &[]);
        assert_eq!(joint.reached_by_quorum(value), Some(5));
        assert_eq!(Members::default().reached_by_quorum(value), None);
    }

    // From one set of voters to another and back; who left is remembered, who was to come stays a learner on
    // the way back.
    #[test]
    fn through_joint_and_back() {
        let old = members(&[1, 2, 3], &[], &[4, 6]);
        let target = members(&[2, 3, 4], &[], &[]);
        let joint = old.joint_with(&target);
        assert_eq!(joint.all_voters(), [1, 2, 3, 4].into());
        assert_eq!(joint.retired, [6].into(), "a learner that goes, at once");
        assert_eq!(joint.fault(), None);
        let after = joint.after_joint();
        assert_eq!(
            (after.voters.clone(), after.is_joint()),
            ([2, 3, 4].into(), false)
        );
        assert_eq!(after.retired, [1, 6].into());
        let back = joint.before_joint();
        assert_eq!(back.voters, old.voters);
        assert_eq!(back.learners().collect::<Vec<_>>(), [4]);
        assert_eq!(back.fault(), None);
    }

    // Each configuration comes back from its text, and nothing else is taken for one.
    #[test]
    fn the_text_is_read_in_one_way() {
        let mut joint = members(&[3, 4], &[1, 3], &[7]);
        joint.retired = [2, 9].into();
        let text = joint.text();
        assert_eq!(Members::parse(&text), Some(joint));
        let plain = Members::of_voters([1, 2]);
        assert_eq!(Members::parse(&plain.text()), Some(plain));
        for (from, to) in [
            ("voters=3,4", "voters=3,04"),
            ("voters=3,4", "voters=NULL"),
            ("outgoing=1,3", "outgoing=1,5"),
            ("retired=2,9", "retired=2,3"),
            ("retired=2,9", "retired="),
            ("host7:7400", "host7:7400,x"),
            (" 7=", "  7="),
            (" 7=", " 0="),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert_eq!(Members::parse(&changed), None, "{changed}");
        }
    }
}
