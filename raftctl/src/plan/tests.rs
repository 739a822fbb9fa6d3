//! What is there, and the steps that follow: a story each.

use std::collections::BTreeMap;

use super::*;
use crate::hosts::control::{HostFacts, Setting, TakenPort};
use crate::plan::membership::Membership;
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
        addresses: BTreeMap::new(),
        founders: Founders::default(),
        format_max: None,
        guessed: vec![],
        build: None,
        release: None,
        reads_format: Some(2),
        certificates: Certificates::default(),
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
        certificate: String::new(),
        trusted: String::new(),
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

// Nodes that cluster.yaml names and the cluster does not have are not started as its founders are, and by `up`
// alone; those that it does not name any more are started where nobody leads, because they may be needed.
#[test]
fn members_come_and_go_by_the_log() {
    let mut target = target();
    target.nodes.remove(0);
    target.founders = Founders::of([stopped(1)].iter());
    let new = |id| NodeFacts {
        has_data: false,
        arguments: vec![],
        ..stopped(id)
    };
    let mut without_leader = facts(vec![stopped(2), stopped(3)], None);
    without_leader.former = BTreeMap::from([(1, stopped(1))]);
    assert_eq!(
        steps(&target, &without_leader),
        "start nodes 2 and 3 (not running)\n\
         start node 1 (not in cluster.yaml any more, and may be members still)\n\
         wait for a leader with a lease, and for nodes 2 and 3\n"
    );
    assert_eq!(refuse_changed(&target, &without_leader), Ok(()));
    target.nodes.push(StartNode {
        layout: HostLayout::new("/base").node(4),
        ..target.nodes[0].clone()
    });
    without_leader.hosts.extend(facts(vec![new(4)], None).hosts);
    let first = steps(&target, &without_leader);
    assert!(
        !first.contains("node 4") && !first.contains(" 4"),
        "{first}"
    );
    let refused = refuse_changed(&target, &without_leader).unwrap_err();
    assert!(
        refused.to_string().starts_with("node 4 of cluster.yaml"),
        "{refused}"
    );
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

// Once the log names the directories of its voters, a node that lost its own is another one to the cluster: it
// is not started anew under its id, whatever is accepted, and the way is told.
#[test]
fn a_voter_that_lost_its_disk_is_replaced() {
    let mut blank = stopped(1);
    (blank.lost_data, blank.has_data) = (true, false);
    let mut facts = facts(vec![blank, running(2), running(3)], Some(2));
    facts.named = [1, 2, 3].into();
    facts.accept_lost_data();
    let text = plan(&target(), &facts).unwrap_err().to_string();
    assert!(text.contains("`raftctl replace 1`"), "{text}");
    assert!(!text.contains("--allow-data-loss"), "{text}");
    // Nobody says who the voters are: where the others make a majority, they are asked first, once they run.
    let mut blank = stopped(1);
    (blank.lost_data, blank.has_data) = (true, false);
    let mut facts = self::facts(vec![blank.clone(), stopped(2), stopped(3)], None);
    facts.accept_lost_data();
    let first = steps(&target(), &facts);
    assert!(first.starts_with("start nodes 2 and 3"), "{first}");
    assert!(
        !first.contains("node 1") && !first.contains("nodes 1"),
        "{first}"
    );
    facts.hosts.remove(&3);
    let all = steps(&target(), &facts);
    assert!(all.starts_with("start nodes 1 and 2"), "{all}");
    // One that runs with another directory all the same is nobody to the others.
    let mut facts = self::facts(vec![running(1), running(2), running(3)], Some(2));
    (facts.named, facts.strangers) = ([1, 2, 3].into(), [1].into());
    let text = plan(&target(), &facts).unwrap_err().to_string();
    assert!(text.contains("`raftctl replace 1`"), "{text}");
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
    accepted.membership = Some(Membership {
        members: [1, 2, 3].map(|id| (id, Default::default())).into(),
        ..Membership::default()
    });
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

// Certificates come before whoever is started with them, by their reasons; and where only they are due, nobody is
// stopped for them.
#[test]
fn certificates_come_before_nodes_are_started() {
    let due = |due: &[(NodeId, &str)], makes: bool| Target {
        certificates: Certificates {
            makes_authority: makes.then(|| "/tls/ca.key".to_owned()),
            due: due
                .iter()
                .map(|(id, why)| (*id, (*why).to_owned()))
                .collect(),
        },
        ..target()
    };
    let told = |target: &Target, facts: &Facts| {
        let steps = plan(target, facts).unwrap();
        steps.iter().map(Step::to_string).collect::<Vec<_>>()
    };
    let new = facts(vec![stopped(1), stopped(2), stopped(3)], None);
    let all = due(&[(1, "none yet"), (2, "none yet"), (3, "none yet")], true);
    let steps = told(&all, &new);
    assert_eq!(
        steps[..2],
        [
            "make the authority that signs certificates (/tls/ca.key)",
            "give nodes 1, 2 and 3 certificates (none yet)"
        ]
    );
    assert!(steps[2].starts_with("start nodes 1, 2 and 3"), "{steps:?}");
    let up = facts(vec![running(1), running(2), running(3)], Some(2));
    let renewed = due(
        &[(2, "it ends in 5 days"), (9, "of a host that is silent")],
        false,
    );
    let steps = told(&renewed, &up);
    assert_eq!(steps[0], "give node 2 a certificate (it ends in 5 days)");
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(told(&target(), &up).is_empty());
}
