//! Nodes that come, go and are replaced, on hosts of their own.

use harness::{Test, tests};
use serde_json::json;

use crate::cluster::RemoteCluster;
use crate::support::{Ended, replace_file};
use testhosts::{HOSTS, ROOT};

pub fn tests() -> Vec<Test> {
    tests!(
        [HOSTS],
        members_come_and_go_over_ssh,
        members_change_in_trials_on_spare_hosts
    )
}

/// A scenario in which a node joins, is lost and replaced, and all leave that came.
pub const GUESTS: &str = "\
scenario: guests
title: A node joins, is lost, and is replaced
nodes: 3
steps:
- wait_for_leader: {}
- add: {as: fourth}
- expect_members: {voters: all, survives: 1}
- set: {values: {name1: Jaggu}}
- kill: fourth
- replace: {node: fourth, as: fifth}
- expect_members: {voters: all, survives: 1}
- expect_state: {nodes: fifth}
- transfer: fifth
- set: {values: {name2: Shivam}}
- remove: fifth
- get: {values: {name1: Jaggu, name2: Shivam}}
- expect_one_leader: {}
";

/// Chaos that changes members beside kills.
pub const MEMBERS_AND_KILLS: &[&str] = &[
    "scenario",
    "chaos",
    "--seed",
    "5",
    "--duration",
    "40s",
    "--clients",
    "4",
    "--faults",
    "member,kill",
    "--output",
    "json",
];

/// What the clients of such a run saw is linearizable, faults struck, and some changes came to their end.
#[track_caller]
pub fn had_changes(ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = ended.json();
    assert_eq!(report["verdict"], "linearizable", "{report:#}");
    let faults = report["faults"].as_array().unwrap();
    assert!(!faults.is_empty(), "{report:#}");
    let mut changes = report["changes"].as_array().unwrap().iter();
    let completed = changes.any(|change| change["given_up"].is_null());
    assert!(completed, "{report:#}");
}

fn voters(cluster: &RemoteCluster) -> serde_json::Value {
    cluster.status()["membership"]["voters"].clone()
}

// A host is added; one is lost for good and replaced; one leaves, and nothing of it runs any more, though its files
// stay; then it is the host of another node. cluster.yaml says so each time, and every value is there.
fn members_come_and_go_over_ssh() {
    let mut cluster = RemoteCluster::new(5, ROOT);
    let text = std::fs::read_to_string(cluster.path("cluster.yaml")).unwrap();
    let is_first = |line: &&str| !line.contains("id: 4") && !line.contains("id: 5");
    let three: Vec<&str> = text.lines().filter(is_first).collect();
    replace_file(cluster.path("cluster.yaml"), three.join("\n"));
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();

    let address = |at: usize| cluster.set.hosts[at].address.to_string();
    let (first, fourth, fifth) = (address(0), address(3), address(4));
    cluster.raftctl(&["add", "--host", &fourth]).ok();
    assert_eq!(voters(&cluster), json!([1, 2, 3, 4]));
    cluster.raftctl(&["up"]).ok().says("nothing to do");

    cluster.set.hosts[1].die();
    cluster.leader(|id| id != 2);
    let refused = cluster.raftctl(&["remove", "3"]).code(2);
    refused.says("node 2 does not run");
    let replaced = cluster.raftctl(&["replace", "2", "--host", &fifth]).ok();
    let replaced = replaced.says("node 2 has left; it could not be taken down");
    assert!(
        replaced.stdout.contains("survives 1 failure"),
        "{replaced:?}"
    );
    assert_eq!(voters(&cluster), json!([1, 3, 4, 5]));

    cluster.raftctl(&["transfer", "1"]).ok();
    cluster
        .raftctl(&["remove", "1"])
        .ok()
        .says("node 1 has left; its files stay in");
    assert_eq!(voters(&cluster), json!([3, 4, 5]));
    let host = &cluster.set.hosts[0];
    assert!(
        host.must_run("ls /opt/raftkv/test/logs_node_1")
            .contains("logs.txt")
    );
    assert!(
        !host
            .run("ls /opt/raftkv/test/run/node_1.args")
            .status
            .success()
    );
    cluster.raftctl(&["add", "--host", &first]).ok();
    assert_eq!(voters(&cluster), json!([3, 4, 5, 6]));
    // What the one before has left there goes, and nothing else.
    cluster
        .raftctl(&["remove", "1", "--purge", "--yes"])
        .ok()
        .says("the files of node 1 are deleted");
    let host = &cluster.set.hosts[0];
    let folders = "ls -d /opt/raftkv/test/logs_node_* /opt/raftkv/test/bin";
    assert_eq!(
        host.must_run(folders),
        "/opt/raftkv/test/bin\n/opt/raftkv/test/logs_node_6"
    );
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["restart", "all"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    let text = std::fs::read_to_string(cluster.path("cluster.yaml")).unwrap();
    let line = format!("  - {{id: 6, host: {first}}}");
    assert!(text.ends_with(&format!("{line}\n")), "{text}");
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
}

// Trials bring nodes to hosts that are named for that, and take away what they brought: nothing runs there afterwards,
// and no files are left. Without such hosts they say what to write.
fn members_change_in_trials_on_spare_hosts() {
    let cluster = RemoteCluster::new(5, ROOT);
    let address = |at: usize| cluster.set.hosts[at].address.to_string();
    let text = std::fs::read_to_string(cluster.path("cluster.yaml")).unwrap();
    let is_first = |line: &&str| !line.contains("id: 4") && !line.contains("id: 5");
    let three: Vec<&str> = text.lines().filter(is_first).collect();
    let write = |text: &str| replace_file(cluster.path("cluster.yaml"), text);
    write(&three.join("\n"));
    cluster.raftctl(&["up"]).ok();
    let refused = cluster.raftctl(MEMBERS_AND_KILLS).code(2);
    refused.says("`ssh: {spare: [n6.example, n7.example]}`");

    let spare = |hosts: [String; 2]| {
        let spare = format!("ssh: {{spare: [{}], ", hosts.join(", "));
        three.join("\n").replace("ssh: {", &spare)
    };
    write(&spare([address(3), address(0)]));
    cluster
        .raftctl(&["check"])
        .code(2)
        .says("which has a node already");
    write(&spare([address(3), address(4)]));
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    std::fs::write(cluster.path("guests.yaml"), GUESTS).unwrap();
    cluster.raftctl(&["scenario", "run", "./guests.yaml"]).ok();
    had_changes(&cluster.raftctl(MEMBERS_AND_KILLS));
    assert_eq!(voters(&cluster), json!([1, 2, 3]));
    for host in &cluster.set.hosts[3..] {
        let left = "ps ax | grep -c '[r]aft-node' || :; ls -d /opt/raftkv/test/logs_node_* 2>/dev/null || :";
        assert_eq!(host.must_run(left), "0", "{}", host.name);
    }
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}
