//! Members that come, go and are replaced: what is there, and the steps that follow.

use std::collections::BTreeMap;

use raftkv::admin::Member;

use super::*;
use crate::error::Error;
use crate::hosts::control::{HostFacts, NodeFacts, ProcessState};
use crate::plan::arguments::Founders;
use crate::plan::plan;
use crate::scripts::StartNode;
use crate::scripts::layout::HostLayout;

fn node(id: NodeId, state: ProcessState) -> NodeFacts {
    let mut host = HostFacts::blank(id);
    let mut node = host.nodes.remove(0);
    node.state = state;
    node.sha256 = Some(String::new());
    node.has_data = state == ProcessState::Running;
    node
}

fn target(ids: &[NodeId]) -> Target {
    let start = |id: &NodeId| StartNode {
        layout: HostLayout::new("/base").node(*id),
        executable: "/bin/raft-node".into(),
        arguments: vec![],
        sha256: String::new(),
    };
    Target {
        nodes: ids.iter().map(start).collect(),
        addresses: ids
            .iter()
            .map(|id| (*id, (format!("h{id}:1"), format!("h{id}:2"))))
            .collect(),
        founders: Founders::default(),
        format_max: None,
        guessed: vec![],
        build: None,
        release: None,
        reads_format: None,
        certificates: crate::plan::Certificates::default(),
    }
}

/// A cluster of these voters and learners, led by the first; of `running` each node runs.
fn cluster(wanted: &[NodeId], voters: &[NodeId], learners: &[NodeId], running: &[NodeId]) -> Facts {
    let state = |id: &NodeId| match running.contains(id) {
        true => ProcessState::Running,
        false => ProcessState::Stopped,
    };
    let member = |voter: bool| {
        move |id: &NodeId| {
            let member = Member {
                node_id: *id,
                voter,
                peer_address: format!("h{id}:1"),
                client_address: format!("h{id}:2"),
                ..Member::default()
            };
            (*id, member)
        }
    };
    let host = |id: &NodeId| {
        let mut host = HostFacts::blank(*id);
        host.nodes = vec![node(*id, state(id))];
        (*id, host)
    };
    let members: BTreeMap<NodeId, Member> = voters
        .iter()
        .map(member(true))
        .chain(learners.iter().map(member(false)))
        .collect();
    let former = members.keys().filter(|id| !wanted.contains(id));
    Facts {
        former: former.map(|id| (*id, node(*id, state(id)))).collect(),
        hosts: wanted.iter().map(host).collect(),
        leader: voters.first().copied(),
        last_index: 70,
        membership: Some(Membership {
            index: 5,
            is_committed: true,
            members,
            ..Membership::default()
        }),
        ..Facts::default()
    }
}

fn told(wanted: &[NodeId], facts: &Facts) -> String {
    let steps = plan(&target(wanted), facts).unwrap();
    let lines = steps.iter().map(|step| format!("{step}\n"));
    lines.collect()
}

fn refused(wanted: &[NodeId], facts: &Facts) -> String {
    plan(&target(wanted), facts).unwrap_err().to_string()
}

// New nodes are started, learn, catch up, and vote by one change; only then others leave.
#[test]
fn a_cluster_grows_and_shrinks() {
    let wanted = [1, 2, 3, 4, 5];
    assert_eq!(
        told(&wanted, &cluster(&wanted, &[1, 2, 3], &[], &[1, 2, 3])),
        "start nodes 4 and 5 (new: to join the cluster)\n\
         add nodes 4 and 5 as learners\n\
         wait until nodes 4 and 5 have caught up with entry 70\n\
         make nodes 4 and 5 voters, in one change\n\
         wait for a leader with a lease, and for nodes 1, 2, 3, 4 and 5\n"
    );
    let wanted = [1, 2, 3];
    assert_eq!(
        told(
            &wanted,
            &cluster(&wanted, &[1, 2, 3, 4, 5], &[], &[1, 2, 3, 4, 5])
        ),
        "remove nodes 4 and 5, in one change\n\
         take down nodes 4 and 5 (no members any more)\n\
         wait for a leader with a lease, and for nodes 1, 2 and 3\n"
    );
    assert_eq!(told(&wanted, &cluster(&wanted, &wanted, &[], &wanted)), "");
}

// A replacement is one change, also of a node that is gone for good; a leader that leaves hands over before.
#[test]
fn a_replacement_is_one_change() {
    let wanted = [2, 3, 4];
    let swap = "start node 4 (new: to join the cluster)\n\
                add node 4 as a learner\n\
                wait until node 4 has caught up with entry 70\n";
    let leads = told(&wanted, &cluster(&wanted, &[1, 2, 3], &[], &[1, 2, 3]));
    assert!(leads.starts_with(swap), "{leads}");
    assert_eq!(
        &leads[swap.len()..],
        "hand leadership over from node 1, which leaves\n\
         make node 4 a voter and remove node 1, in one change\n\
         take down node 1 (no members any more)\n\
         wait for a leader with a lease, and for nodes 2, 3 and 4\n"
    );
    let mut lost = cluster(&wanted, &[1, 2, 3], &[], &[2, 3]);
    lost.leader = Some(2);
    lost.former.clear(); // Its host does not answer: that is told, and then it is forgotten.
    lost.former_silent = vec![1];
    assert_eq!(
        told(&wanted, &lost),
        format!(
            "{swap}make node 4 a voter and remove node 1, in one change\n\
             take down node 1 (no members any more)\n\
             wait for a leader with a lease, and for nodes 2, 3 and 4\n"
        )
    );
    // An old file, or another folder's, makes nobody leave whom it never had.
    lost.former_silent.clear();
    let text = refused(&wanted, &lost);
    assert!(
        text.starts_with("this cluster.yaml has never had node 1"),
        "{text}"
    );
    // Node 1 may be the one that leads: then nobody is known to lead, and what the others tell counts.
    (lost.leader, lost.membership) = (None, None);
    assert!(!told(&wanted, &lost).contains("remove"));
    lost.told_members = [1, 2, 3].into();
    assert_eq!(refused(&wanted, &lost), text);
    lost.former_silent = vec![1];
    assert!(!told(&wanted, &lost).contains("remove"), "it is waited for");
}

// Whoever goes on does only what is left.
#[test]
fn an_interrupted_change_goes_on() {
    let wanted = [2, 3, 4];
    let learns = told(&wanted, &cluster(&wanted, &[2, 1, 3], &[4], &[1, 2, 3, 4]));
    assert!(
        learns.starts_with("wait until node 4 has caught up with entry 70\nmake node 4 a voter"),
        "{learns}"
    );
    let mut changed = cluster(&wanted, &wanted, &[], &wanted);
    changed.former = BTreeMap::from([(1, node(1, ProcessState::Stopped))]);
    assert_eq!(
        told(&wanted, &changed),
        "take down node 1 (no members any more)\n\
         wait for a leader with a lease, and for nodes 2, 3 and 4\n"
    );
}

// Where nobody stays who votes, the new ones vote before the last one goes: somebody has to lead.
#[test]
fn all_are_replaced_in_two_changes() {
    let wanted = [4, 5, 6];
    let steps = told(&wanted, &cluster(&wanted, &[1, 2, 3], &[], &[1, 2, 3]));
    let changes: Vec<&str> = steps
        .lines()
        .filter(|line| line.contains("change") || line.starts_with("hand"))
        .collect();
    assert_eq!(
        changes,
        [
            "make nodes 4, 5 and 6 voters and remove nodes 2 and 3, in one change",
            "hand leadership over from node 1, which leaves",
            "remove node 1, in one change",
        ]
    );
}

// Ids, addresses and formats that can't be: refused with what to do, before anything is done.
#[test]
fn wrong_wishes_are_refused() {
    let wanted = [1, 2, 4];
    let mut facts = cluster(&wanted, &[1, 2], &[], &[1, 2]);
    facts.membership.as_mut().unwrap().retired = vec![3, 4, 6];
    assert_eq!(
        refused(&wanted, &facts),
        "node 4 was the id of a node that left, and nobody gets it again: write another id, as in \
         nodes: [{id: 1}, {id: 2}, {id: 7}]"
    );
    let facts = cluster(&wanted, &[1, 2, 3], &[], &[1, 2, 3]);
    let mut same_host = target(&wanted);
    same_host
        .addresses
        .insert(4, ("h3:1".into(), "h4:2".into()));
    let text = plan(&same_host, &facts).unwrap_err().to_string();
    assert!(
        text.starts_with("node 4 is to have the address of node 3, h3:1"),
        "{text}"
    );
    let mut held = target(&wanted);
    held.format_max = Some(2);
    let text = plan(&held, &facts).unwrap_err().to_string();
    assert!(text.starts_with("`format_max` in cluster.yaml"), "{text}");
    let mut away = cluster(&wanted, &[1, 2], &[], &[1, 2]);
    away.hosts.remove(&4);
    away.left_behind
        .insert(4, Error::Other("h4: no route".into()));
    assert_eq!(refused(&wanted, &away), "node 4 can't join: h4: no route");
}

// What would leave no majority, or less to spare while nodes are dead, or takes most of the voters at once.
#[test]
fn nodes_that_are_needed_stay() {
    let of = |wanted: &[NodeId], voters: &[NodeId], live: &[NodeId]| {
        let facts = cluster(wanted, voters, &[], live);
        too_few(&facts.membership.unwrap(), wanted, |id| live.contains(&id))
    };
    let five = [1, 2, 3, 4, 5];
    assert_eq!(of(&[1, 2, 3], &five, &five), None);
    assert_eq!(of(&[1, 2, 3, 6], &[1, 2, 3], &[1, 2, 3, 6]), None);
    let text = of(&[1, 2], &five, &five).unwrap();
    assert!(
        text.starts_with("most of the nodes that vote now"),
        "{text}"
    );
    assert_eq!(of(&[1], &[1, 2], &[1, 2]), None);
    let text = of(&[1, 2, 3, 4], &five, &[1, 2, 3, 5]).unwrap();
    assert!(
        text.starts_with(
            "node 4 does not run: to remove node 5, which does, would leave the cluster with less"
        ),
        "{text}"
    );
    // Of four, one may fail, as of three: but a dead one is no reason to let a healthy one go.
    let text = of(&[1, 2, 4], &[1, 2, 3, 4], &[1, 3, 4]).unwrap();
    assert!(
        text.starts_with("node 2 does not run: to remove node 3"),
        "{text}"
    );
    assert_eq!(of(&[1, 2, 4, 5], &[1, 2, 3, 4], &[1, 3, 4, 5]), None);
    // The dead one is the one that goes; or is replaced.
    assert_eq!(of(&[1, 2, 3, 4], &five, &[1, 2, 3, 4]), None);
    assert_eq!(of(&[1, 2, 6], &[1, 2, 3], &[1, 2, 6]), None);
    let text = of(&[1, 3, 4], &five, &[1, 2, 5]).unwrap();
    assert!(
        text.starts_with("nodes 3 and 4 do not run, and the others"),
        "{text}"
    );
    // Dead ones that stay as they are hinder nobody who comes.
    assert_eq!(of(&[1, 2, 3, 4, 5, 6, 7], &five, &[1, 2, 3, 6, 7]), None);
}
