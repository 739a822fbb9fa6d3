//! Who belongs to the cluster, as `status` shows it, and whether that is enough.

use serde_json::{Value, json};

use crate::cluster::{Cluster, NodeId, list};
use crate::error::Error;
use crate::ops::status::Snapshot;
use crate::plan::membership::{Membership, tolerance};

/// What a node is to the others: `voter`, `learner`, `leaving`, or `none`.
pub(super) fn seat(known: &Membership, id: NodeId) -> &'static str {
    match known.members.get(&id) {
        Some(member) if member.voter => "voter",
        Some(member) if member.outgoing => "leaving",
        Some(_) => "learner",
        None => "none",
    }
}

/// The configuration for programs.
pub(super) fn to_json(known: &Membership) -> Value {
    json!({
        "index": known.index,
        "committed": known.is_committed,
        "joint": known.is_joint,
        "voters": known.voters(),
        "outgoing": known.outgoing(),
        "learners": known.learners(),
        "retired_ids": known.retired,
    })
}

/// The configuration for people, and where cluster.yaml wants another.
pub(super) fn lines(cluster: &Cluster, known: &Membership) -> Vec<String> {
    let mut parts = vec![match known.voters().as_slice() {
        [one] => format!("node {one} votes"),
        several => format!("{} vote", list(several)),
    }];
    for id in known.learners() {
        let behind = known.behind.get(&id);
        parts.push(match behind {
            Some(behind) => format!("node {id} learns, {behind} entries behind"),
            None => format!("node {id} learns"),
        });
    }
    parts.push(format!("configuration {}", known.index));
    if known.is_joint {
        let former = list(&known.outgoing());
        parts.push(format!(
            "voters change, and a majority of the former ones ({former}) is needed, too"
        ));
    } else if !known.is_committed {
        parts.push("not committed yet".into());
    }
    parts.extend(known.survives.map(survives));
    let mut lines = vec![parts.join("; ")];
    let (wanted, members) = (cluster.ids(), known.ids());
    let missing: Vec<NodeId> = without(&wanted, &known.voters());
    if !missing.is_empty() {
        let what = match missing.as_slice() {
            [_] => "is no voter yet",
            _ => "are no voters yet",
        };
        lines.push(format!(
            "{} in cluster.yaml {what}: `raftctl up` makes the change",
            list(&missing)
        ));
    }
    let surplus = without(&members, &wanted);
    if !surplus.is_empty() {
        let (are, them) = match surplus.as_slice() {
            [_] => ("is a member", "it"),
            _ => ("are members", "them"),
        };
        lines.push(format!(
            "{} {are}, and not in cluster.yaml: `raftctl up` removes {them}",
            list(&surplus)
        ));
    }
    lines
}

/// "survives 1 failure".
fn survives(count: u64) -> String {
    match count {
        0 => "survives no failure".into(),
        1 => "survives 1 failure".into(),
        more => format!("survives {more} failures"),
    }
}

fn without(ids: &[NodeId], others: &[NodeId]) -> Vec<NodeId> {
    let is_left = |id: &&NodeId| !others.contains(id);
    ids.iter().filter(is_left).copied().collect()
}

/// Why fewer nodes may fail than cluster.yaml wants; nothing where enough may.
pub(super) fn shortfall(cluster: &Cluster, snapshot: &Snapshot) -> Option<Error> {
    let wanted = tolerance(cluster.nodes.len());
    let known = snapshot.membership();
    let count = known.as_ref().and_then(|known| known.survives);
    if count.is_some_and(|count| count >= wanted) {
        return None;
    }
    let (count, name) = (count.map(survives), &cluster.name);
    let has = count.unwrap_or_else(|| match snapshot.leader {
        Some(id) => {
            format!("has a leader, node {id}, that does not say how many failures it survives")
        }
        None => "has no leader".into(),
    });
    let nodes = cluster.nodes.len();
    let mut text = format!(
        "cluster {name} {has}; with {nodes} nodes, as in cluster.yaml, it should survive {wanted}"
    );
    let silent = snapshot.nodes.iter().filter(|node| node.reply.is_err());
    let silent: Vec<NodeId> = silent.map(|node| node.id).collect();
    if !silent.is_empty() {
        text.push_str(&format!("; no answer from {}", list(&silent)));
    }
    text.push_str("; `raftctl doctor` says what to do");
    Some(Error::NoLeader(text))
}

#[cfg(test)]
mod tests {
    use raftkv::admin::{self, StatusReply};

    use super::*;
    use crate::ops::status::NodeStatus;

    fn cluster(nodes: u64) -> Cluster {
        let text = format!("name: test\nnodes: {nodes}\n");
        crate::cluster::parse(&text, "x", ".".into(), &|_| None).unwrap()
    }

    fn known(voters: &[NodeId], learners: &[NodeId], survives: u64) -> Membership {
        let member = |voter| {
            move |id: &NodeId| {
                let member = admin::Member {
                    node_id: *id,
                    voter,
                    ..admin::Member::default()
                };
                (*id, member)
            }
        };
        let voters = voters.iter().map(member(true));
        Membership {
            index: 17,
            is_committed: true,
            members: voters.chain(learners.iter().map(member(false))).collect(),
            behind: learners.iter().map(|id| (*id, 1200)).collect(),
            survives: Some(survives),
            ..Membership::default()
        }
    }

    // What is voted by whom, who learns and how far behind, and what cluster.yaml wants beside.
    #[test]
    fn members_are_told() {
        let as_wanted = lines(&cluster(3), &known(&[1, 2, 3], &[], 1));
        let expected = "nodes 1, 2 and 3 vote; configuration 17; survives 1 failure";
        assert_eq!(as_wanted, [expected]);
        let growing = lines(&cluster(4), &known(&[1, 2, 3], &[4], 0));
        let expected = [
            "nodes 1, 2 and 3 vote; node 4 learns, 1200 entries behind; configuration 17; survives no failure",
            "node 4 in cluster.yaml is no voter yet: `raftctl up` makes the change",
        ];
        assert_eq!(growing, expected);
        let shrinking = lines(&cluster(1), &known(&[1, 2, 3], &[], 1));
        let expected =
            "nodes 2 and 3 are members, and not in cluster.yaml: `raftctl up` removes them";
        assert_eq!(shrinking[1], expected);
        let mut joint = known(&[1], &[], 0);
        joint.is_joint = true;
        joint.members.get_mut(&1).unwrap().outgoing = true;
        let told = lines(&cluster(1), &joint).concat();
        assert!(
            told.contains("a majority of the former ones (node 1) is needed"),
            "{told}"
        );
        assert_eq!(
            ["voter", "learner", "none"],
            [1, 4, 5].map(|id| seat(&known(&[1], &[4], 0), id))
        );
    }

    fn snapshot(survives: Option<u64>) -> Snapshot {
        let reply = StatusReply {
            node_id: 1,
            survives_failures: survives,
            membership: Some(admin::Membership::default()),
            ..StatusReply::default()
        };
        Snapshot {
            leader: survives.map(|_| 1),
            term: None,
            nodes: vec![NodeStatus {
                id: 1,
                address: String::new(),
                process: None,
                host_error: None,
                is_filtered: false,
                reply: Ok(reply),
            }],
        }
    }

    // As many may fail as an odd number of nodes allows; fewer is exit code 30, and so is no leader.
    #[test]
    fn fewer_than_wanted_is_a_failure() {
        assert!(shortfall(&cluster(3), &snapshot(Some(1))).is_none());
        assert!(shortfall(&cluster(4), &snapshot(Some(1))).is_none());
        for (nodes, survives) in [(5, Some(1)), (3, Some(0)), (1, None)] {
            let error = shortfall(&cluster(nodes), &snapshot(survives)).unwrap();
            assert_eq!(error.exit_code(), 30, "{error}");
        }
        let told = shortfall(&cluster(5), &snapshot(Some(1)))
            .unwrap()
            .to_string();
        assert!(
            told.contains("survives 1 failure; with 5 nodes") && told.contains("survive 2"),
            "{told}"
        );
    }
}
