//! What is there, and the steps that follow: a story each.

use std::collections::BTreeMap;

use super::*;
use crate::hosts::control::{HostFacts, Setting, TakenPort};
use crate::scripts::layout::HostLayout;

const OLD: &str = "0000";
const NEW: &str = "1111";

fn arguments(id: NodeId, lease_ms: u64) -> Vec<String> {
    let text = format!(
        "--id {id} --node 1,a:1,a:2 --node 2,b:1,b:2 --node 3,c:1,c:2 --lease-ms {lease_ms}"
    );
    text.split(' ').map(str::to_owned).collect()
}

/// Three nodes with a lease of 2 s and the new binary.
fn target() -> Target {
    let node = |id| StartNode {
        layout: HostLayout::new("/base").node(id),
        executable: "/bin/raft-node".into(),
        arguments: arguments(id, 2000),
        sha256: NEW.into(),
    };
    Target {
        nodes: (1..=3).map(node).collect(),
        guessed: vec![],
        build: None,
        release: None,
        reads_format: Some(2),
    }
}

// A binary that does not read what is on the disks is started nowhere, also where it would be alone.
#[test]
fn an_older_binary_is_refused_before_anything_is_done() {
    let newer = |id, format| {
        let mut facts = facts(vec![stopped(1), running(2), running(3)], Some(2));
        let host = facts.hosts.get_mut(&id).unwrap();
        host.nodes[0].format = format;
        facts
    };
    let target = target();
    assert!(plan(&target, &newer(1, 2)).is_ok());
    let refused = plan(&target, &newer(1, 3)).unwrap_err();
    assert!(
        refused.to_string().contains("node 1 are of format 3"),
        "{refused}"
    );
    assert!(refuse_changed(&target, &newer(3, 3)).is_err());
    let unknown = Target {
        reads_format: None,
        ..target
    };
    assert!(plan(&unknown, &newer(1, 3)).is_ok());
}

// What a disk without a machine holds is not known: it is said that the binary may be there already.
#[test]
fn a_disk_that_can_t_be_asked_may_hold_the_binary() {
    let target = Target {
        release: Some(Release {
            name: Some("abc".into()),
            bytes: 2048,
        }),
        ..target()
    };
    let mut facts = facts(vec![stopped(1), stopped(2), stopped(3)], None);
    let ship = |facts: &Facts| plan(&target, facts).unwrap()[0].to_string();
    let all = "ship raft-node to nodes 1, 2 and 3 (abc, 2 KiB before compression";
    assert_eq!(ship(&facts), format!("{all})"));
    facts.unasked = vec![1, 2];
    let unseen = "what is on data disks already (nodes 1 and 2) can't be seen without a machine";
    assert_eq!(ship(&facts), format!("{all}; {unseen})"));
}

fn running(id: NodeId) -> NodeFacts {
    NodeFacts {
        id,
        state: ProcessState::Running,
        has_record: true,
        has_data: true,
        lost_data: false,
        cluster_id: None,
        format: 1,
        pid: Some(1000),
        executable: Some("/bin/raft-node".into()),
        sha256: Some(NEW.into()),
        arguments: arguments(id, 2000),
        taken_ports: vec![],
        is_filtered: false,
    }
}

fn stopped(id: NodeId) -> NodeFacts {
    NodeFacts {
        state: ProcessState::Stopped,
        pid: None,
        executable: None,
        sha256: None,
        ..running(id)
    }
}

fn facts(nodes: Vec<NodeFacts>, leader: Option<NodeId>) -> Facts {
    let host = |node: NodeFacts| HostFacts {
        system: "Linux".into(),
        machine: "x86_64".into(),
        disk_free_kib: 1 << 20,
        setting: Setting::default(),
        nodes: vec![node],
    };
    Facts {
        hosts: nodes
            .into_iter()
            .map(|node| (node.id, host(node)))
            .collect(),
        leader,
        ..Facts::default()
    }
}

fn steps(target: &Target, facts: &Facts) -> String {
    let steps = plan(target, facts).unwrap();
    steps.iter().map(|step| format!("{step}\n")).collect()
}

// All runs as it should, with a leader: nothing to do.
#[test]
fn a_cluster_as_it_should_be_needs_nothing() {
    let facts = facts(vec![running(1), running(2), running(3)], Some(2));
    assert_eq!(steps(&target(), &facts), "");
}

// Nothing is there yet.
#[test]
fn a_new_cluster_is_started() {
    let new = |id| NodeFacts {
        has_data: false,
        has_record: false,
        ..stopped(id)
    };
    assert_eq!(
        steps(&target(), &facts(vec![new(1), new(2), new(3)], None)),
        "start nodes 1, 2 and 3 (new cluster)\n\
         wait for a leader with a lease, and for nodes 1, 2 and 3\n"
    );
}

// Some nodes are dead, one is paused: only those are touched.
#[test]
fn only_what_is_missing_is_done() {
    let paused = NodeFacts {
        state: ProcessState::Paused,
        ..running(1)
    };
    assert_eq!(
        steps(
            &target(),
            &facts(vec![paused, stopped(2), running(3)], None)
        ),
        "resume node 1 (paused)\n\
         start node 2 (not running)\n\
         wait for a leader with a lease, and for nodes 1, 2 and 3\n"
    );
}

// All run, but nobody leads: there is only something to wait for.
#[test]
fn a_missing_leader_is_waited_for() {
    let facts = facts(vec![running(1), running(2), running(3)], None);
    assert_eq!(
        steps(&target(), &facts),
        "wait for a leader with a lease, and for nodes 1, 2 and 3\n"
    );
}

// The lease was changed in cluster.yaml. Nodes with two different leases must not run together, so
// all stop before any starts.
#[test]
fn another_lease_restarts_all_together() {
    let mut nodes = vec![running(1), running(2), running(3)];
    for node in &mut nodes {
        node.arguments = arguments(node.id, 3000);
    }
    assert_eq!(
        steps(&target(), &facts(nodes, Some(1))),
        "stop nodes 1, 2 and 3 (--lease-ms 3000 -> 2000)\n\
         start nodes 1, 2 and 3 (with the new arguments)\n\
         wait for a leader with a lease, and for nodes 1, 2 and 3\n"
    );
}

// The address of a host that can't be reached is only guessed: nobody is stopped for it.
#[test]
fn a_guess_is_no_change() {
    let mut target = target();
    for node in &mut target.nodes {
        let at = node.arguments.iter().position(|word| word == "3,c:1,c:2");
        node.arguments[at.unwrap()] = "3,n3:1,n3:2".into();
    }
    let facts = facts(vec![running(1), running(2)], Some(1));
    assert!(refuse_changed(&target, &facts).is_err());
    assert!(steps(&target, &facts).starts_with("stop nodes 1 and 2 (--node"));
    target.guessed = vec![3];
    assert_eq!(refuse_changed(&target, &facts), Ok(()));
    assert_eq!(steps(&target, &facts), "");
}

// Another binary replaces the old one a node at a time, the leader last.
#[test]
fn another_binary_is_rolled_out() {
    let mut nodes = vec![running(1), running(2), running(3)];
    for node in &mut nodes {
        node.sha256 = Some(OLD.into());
    }
    assert_eq!(
        steps(&target(), &facts(nodes, Some(1))),
        "restart node 2 (another binary)\n\
         restart node 3 (another binary)\n\
         restart node 1 (another binary)\n\
         wait for a leader with a lease, and for nodes 1, 2 and 3\n"
    );
}

// A node that gets new arguments gets the new binary with them, and is not restarted twice.
#[test]
fn nothing_is_restarted_twice() {
    let mut old = running(1);
    old.sha256 = Some(OLD.into());
    old.arguments = arguments(1, 5000);
    assert_eq!(
        steps(
            &target(),
            &facts(vec![old, running(2), running(3)], Some(1))
        ),
        "stop node 1 (--lease-ms 5000 -> 2000)\n\
         start node 1 (with the new arguments)\n\
         wait for a leader with a lease, and for nodes 1, 2 and 3\n"
    );
}

// Other members than a cluster was made of are refused, also while none of it runs.
#[test]
fn members_are_not_changed_by_editing_a_file() {
    let mut target = target();
    target.nodes.pop();
    for node in &mut target.nodes {
        node.arguments.drain(6..8);
    }
    let error = plan(&target, &facts(vec![stopped(1), stopped(2)], None)).unwrap_err();
    let text = error.to_string();
    let expected = "the cluster was made of nodes 1, 2 and 3, and cluster.yaml has nodes 1 and 2;";
    assert!(text.starts_with(expected), "{text}");
    // Without data there is nothing to lose.
    let empty = |id| NodeFacts {
        has_data: false,
        ..stopped(id)
    };
    plan(&target, &facts(vec![empty(1), empty(2)], None)).unwrap();
}

// A binary that is not built yet is built first; what runs can't be compared with it.
#[test]
fn a_missing_binary_is_built_first() {
    let mut target = target();
    target.build = Some("cargo build".into());
    for node in &mut target.nodes {
        node.sha256 = String::new();
    }
    assert_eq!(
        steps(
            &target,
            &facts(vec![running(1), running(2), stopped(3)], Some(1))
        ),
        "build raft-node: cargo build\n\
         start node 3 (not running)\n\
         wait for a leader with a lease, and for nodes 1, 2 and 3\n"
    );
}

// Ports in use and a full disk stop everything before anything is changed, all of them at once.
#[test]
fn obstacles_stop_everything() {
    let mut blocked = stopped(1);
    blocked.taken_ports = vec![TakenPort {
        port: 7401,
        owner: "process 12 (/usr/bin/other)".into(),
    }];
    let mut facts = facts(vec![blocked, stopped(2), running(3)], None);
    facts.hosts.get_mut(&2).unwrap().disk_free_kib = 100;
    facts.hosts.get_mut(&3).unwrap().disk_free_kib = 100; // Runs already: its own affair.
    facts.names = BTreeMap::from([(1, "a".into()), (2, "b".into())]);
    let error = plan(&target(), &facts).unwrap_err().to_string();
    assert_eq!(
        error,
        "a: port 7401 of node 1 is in use by process 12 (/usr/bin/other); end that (see it with \
         `raftctl exec 1 -- ss -ltnp sport = :7401`), or move `ports` in cluster.yaml\n\
         b: node 2 has 100 KiB of disk space left, and needs 16384 to start; free some (`raftctl \
         exec 2 -- df -h`)"
    );
}

// An old member whose host can't be asked may still have what was acknowledged: no other cluster
// begins beside it, unless that is accepted.
#[test]
fn nothing_begins_beside_a_log_that_is_out_of_sight() {
    let new = |id| NodeFacts {
        has_data: false,
        ..stopped(id)
    };
    let mut facts = facts(vec![new(1), new(2)], None);
    facts.hidden = vec![3];
    let text = plan(&target(), &facts).unwrap_err().to_string();
    assert!(
        text.starts_with("node 3 had a log, and its host can't be asked"),
        "{text}"
    );
    assert!(refuse_changed(&target(), &facts).is_err());
    facts.accept_lost_data();
    assert!(steps(&target(), &facts).starts_with("start nodes 1 and 2 (new, never ran)"));
}

// Where the others make a majority, what stands in the way of one node is no obstacle to them.
#[test]
fn an_obstructed_node_is_left_behind() {
    let mut blocked = stopped(1);
    blocked.lost_data = true;
    let mut facts = facts(vec![blocked, stopped(2), running(3)], None);
    assert!(plan(&target(), &facts).is_err());
    let mut accepted = facts.clone();
    accepted.accept_lost_data();
    assert!(steps(&target(), &accepted).starts_with("start nodes 1 and 2"));
    facts.leave_obstructed(3);
    assert!(
        plan(&target(), &facts).is_err(),
        "two are no majority of five"
    );
    facts.leave_obstructed(2);
    assert_eq!(
        steps(&target(), &facts),
        "start node 2 (not running)\n\
         wait for a leader with a lease, and for nodes 2 and 3\n"
    );
    let why = facts.left_behind[&1].to_string();
    assert!(why.contains("the log of node 1 is gone"), "{why}");
}
