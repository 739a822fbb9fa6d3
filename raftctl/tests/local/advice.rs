//! What `doctor` advises is true: each state is set up for real, the words are looked for, the command
//! that they name is run as it stands there, and the finding is gone.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use crate::cluster::TestCluster;
use crate::support::PATIENCE;

/// A state, what is said of it, and what is done about it.
struct Case {
    /// Brings about the state. What it returns lives until the advice has been followed.
    arrange: fn(&TestCluster) -> Option<TcpListener>,
    /// The beginning of the line; also how it is told that the state is over.
    finding: &'static str,
    /// The command that the line names.
    advice: &'static str,
    /// What the person does before, where the line says so.
    by_hand: fn(&TestCluster),
}

fn nothing(_: &TestCluster) {}

/// Follows the advice of each case on a cluster that is up and well again after it.
fn follow(cluster: &TestCluster, case: &Case) {
    let held = (case.arrange)(cluster);
    let line = found(cluster, case.finding);
    let command = format!("`raftctl {}`", case.advice);
    assert!(line.contains(&command), "{command} is not in {line}");
    (case.by_hand)(cluster);
    drop(held);
    let words: Vec<&str> = case.advice.split(' ').collect();
    cluster.raftctl(&words).ok();
    let started = Instant::now();
    loop {
        let doctor = cluster.raftctl(&["doctor"]);
        if !doctor.stdout.contains(case.finding) {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{command} was run, and still: {}",
            doctor.stdout
        );
    }
}

/// The line of `doctor` that begins in this way, as soon as it is there.
#[track_caller]
fn found(cluster: &TestCluster, finding: &str) -> String {
    let started = Instant::now();
    loop {
        let doctor = cluster.raftctl(&["doctor"]);
        if let Some(line) = doctor.stdout.lines().find(|line| line.contains(finding)) {
            return line.to_owned();
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{finding:?} is not in:\n{}{}",
            doctor.stdout,
            doctor.stderr
        );
    }
}

fn signal(cluster: &TestCluster, id: u64, name: &str) {
    let pid = cluster.pid(id).unwrap().to_string();
    let kill = std::process::Command::new("kill")
        .args([name, &pid])
        .status();
    assert!(kill.unwrap().success());
}

/// The states of single nodes. One after the other on one cluster: each advice leads back to health.
const NODES: &[Case] = &[
    Case {
        arrange: |cluster| {
            cluster.raftctl(&["kill", "1"]).ok();
            None
        },
        finding: "node 1 does not run",
        advice: "start 1",
        by_hand: nothing,
    },
    Case {
        arrange: |cluster| {
            signal(cluster, 2, "-KILL");
            None
        },
        finding: "node 2 crashed, or its machine did",
        advice: "start 2",
        by_hand: nothing,
    },
    Case {
        arrange: |cluster| {
            cluster.raftctl(&["pause", "3"]).ok();
            None
        },
        finding: "node 3 is paused",
        advice: "resume 3",
        by_hand: nothing,
    },
    Case {
        arrange: |cluster| {
            cluster.raftctl(&["partition", "3"]).ok();
            None
        },
        finding: "is cut off from",
        advice: "heal",
        by_hand: nothing,
    },
    // A log that was moved away is put back, as the line says.
    Case {
        arrange: |cluster| {
            cluster.raftctl(&["stop", "3"]).ok();
            std::fs::rename(cluster.state("logs_node_3"), cluster.state("aside")).unwrap();
            None
        },
        finding: "the log of node 3 is gone",
        advice: "start 3",
        by_hand: |cluster| {
            std::fs::rename(cluster.state("aside"), cluster.state("logs_node_3")).unwrap();
        },
    },
    // Somebody else has a node's port. Once that is over, the node is started.
    Case {
        arrange: |cluster| {
            cluster.raftctl(&["stop", "2"]).ok();
            let port = cluster.ports.base + 12;
            Some(TcpListener::bind(("127.0.0.1", port)).unwrap())
        },
        finding: "of node 2 is in use by",
        advice: "start 2",
        by_hand: nothing,
    },
    Case {
        arrange: |cluster| {
            cluster.raftctl(&["kill", "majority"]).ok();
            None
        },
        finding: "the cluster has no leader",
        advice: "start all",
        by_hand: nothing,
    },
    Case {
        arrange: |cluster| {
            cluster.raftctl(&["pause", "majority"]).ok();
            None
        },
        finding: "the cluster has no leader",
        advice: "resume all",
        by_hand: nothing,
    },
    // A program that was built anew runs nowhere yet.
    Case {
        arrange: |cluster| {
            let own = std::path::Path::new(env!("CARGO_BIN_EXE_raftctl"));
            let mut other = std::fs::read(own.with_file_name("raft-node")).unwrap();
            other.extend(b"another");
            let path = cluster.path("raft-node");
            std::fs::write(&path, other).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            cluster.configure("binary: ./raft-node");
            None
        },
        finding: "another raft-node than",
        advice: "up",
        by_hand: nothing,
    },
    // Other members or another lease are no cluster until all nodes run with them.
    Case {
        arrange: |cluster| {
            cluster.configure("binary: ./raft-node\ntiming: {lease: 3s}");
            None
        },
        finding: "cluster.yaml has changed",
        advice: "up",
        by_hand: nothing,
    },
];

// Every state that a node can be found in leads back to a cluster that is well, by the command that
// the line itself names.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn the_advice_on_nodes_leads_on() {
    let cluster = TestCluster::up(3);
    for case in NODES {
        follow(&cluster, case);
        cluster.leader(|_| true);
    }
    assert_eq!(cluster.raftctl(&["doctor"]).ok().stdout, "all is well\n");
}

// A cluster that was never up has nothing that could be started one by one.
#[test]
fn the_advice_on_a_new_cluster_leads_on() {
    let cluster = TestCluster::new(3);
    let line = found(&cluster, "the cluster has no leader");
    assert!(line.contains("`raftctl up`"), "{line}");
    cluster.raftctl(&["up"]).ok();
    assert_eq!(cluster.raftctl(&["doctor"]).ok().stdout, "all is well\n");
}

/// The commands of raftctl in backticks, without its name, in their order.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let quoted = text.split('`').skip(1).step_by(2);
    let commands = quoted.filter_map(|command| command.strip_prefix("raftctl "));
    commands
        .map(|command| command.split(' ').collect())
        .collect()
}

// All nodes answer and none leads: the look that is advised shows what cuts them off, and how that ends.
#[test]
fn a_cluster_in_pieces_is_healed_as_it_is_told() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["partition", "1|2|3"]).ok();
    let line = found(&cluster, "which is enough for an election");
    let look = cluster.raftctl(&commands(&line)[0]).ok();
    let heal = commands(&look.stdout);
    assert_eq!(heal[0], ["heal"], "{look:?}");
    cluster.raftctl(&heal[0]).ok();
    cluster.leader(|_| true);
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(!doctor.stdout.contains("has no leader"), "{doctor:?}");
}

// Of a crash three things are advised: to read of it, to start the node, or to forget it.
#[test]
fn a_crash_is_read_of_and_forgotten() {
    let cluster = TestCluster::up(3);
    signal(&cluster, 2, "-KILL");
    let line = found(&cluster, "node 2 crashed, or its machine did");
    let advised = commands(&line);
    assert_eq!(advised[0], ["logs", "2"]);
    let logs = cluster.raftctl(&advised[0]).ok();
    let dump = cluster.path(logs.stdout.trim());
    let dump = std::fs::read_to_string(dump).unwrap();
    assert!(dump.contains("Node 2"), "{dump}");
    assert_eq!(advised[2], ["doctor", "--fix"]);
    let forgotten = cluster.raftctl(&advised[2]);
    assert!(!forgotten.stdout.contains("crashed"), "{forgotten:?}");
    assert_eq!(advised[1], ["start", "2"]);
    cluster.raftctl(&advised[1]).ok();
    cluster.leader(|_| true);
    assert_eq!(cluster.raftctl(&["doctor"]).ok().stdout, "all is well\n");
}

// Nodes that may not be cut off say what allows it, and then they may.
#[test]
fn faults_are_allowed_as_it_is_told() {
    let cluster = TestCluster::with(3, "fault_injection: false");
    cluster.raftctl(&["up"]).ok();
    let refused = cluster.raftctl(&["partition", "1|2,3"]);
    assert_ne!(refused.code, 0);
    let told = refused.says("write fault_injection: true in").stderr;
    cluster.configure("fault_injection: true");
    cluster.raftctl(&commands(&told)[0]).ok();
    cluster.raftctl(&["partition", "1|2,3"]).ok();
    cluster.raftctl(&["heal"]).ok();
}

// What can't be done to a node that does not run names what starts it.
#[test]
fn a_stopped_node_is_started_as_it_is_told() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["stop", "2"]).ok();
    let refused = cluster.raftctl(&["pause", "2"]);
    assert_ne!(refused.code, 0);
    let told = refused.says("it does not run").stderr;
    assert_eq!(commands(&told), [["start", "2"]]);
    cluster.raftctl(&["start", "2"]).ok();
    cluster.raftctl(&["pause", "2"]).ok();
    cluster.raftctl(&["resume", "2"]).ok();
}

// Without a leader no upgrade begins; the look that is advised leads to one, and so does `up`.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn an_upgrade_waits_for_a_leader_as_it_is_told() {
    for way in 0..2 {
        let cluster = TestCluster::up(3);
        cluster.raftctl(&["kill", "majority"]).ok();
        let started = Instant::now();
        let told = loop {
            let refused = cluster.raftctl(&["upgrade"]);
            assert_ne!(refused.code, 0);
            if refused.stderr.contains("the cluster has no leader") {
                break refused.stderr;
            }
            assert!(started.elapsed() < PATIENCE, "{refused:?}");
        };
        let advised = commands(&told);
        assert_eq!(advised, [["doctor"], ["up"]], "{told}");
        let looked = cluster.raftctl(&advised[way]);
        if way == 0 {
            let line = looked
                .stdout
                .lines()
                .find(|line| line.contains("has no leader"));
            cluster.raftctl(&commands(line.unwrap())[0]).ok();
        }
        cluster.leader(|_| true);
        cluster.raftctl(&["upgrade"]).ok();
    }
}
