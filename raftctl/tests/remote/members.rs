//! Nodes that come, go and are replaced, on hosts of their own.

use harness::{Test, tests};
use serde_json::json;

use crate::cluster::RemoteCluster;
use testhosts::{HOSTS, ROOT};

pub fn tests() -> Vec<Test> {
    tests!([HOSTS], members_come_and_go_over_ssh)
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
    std::fs::write(cluster.path("cluster.yaml"), three.join("\n")).unwrap();
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
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["restart", "all"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    let text = std::fs::read_to_string(cluster.path("cluster.yaml")).unwrap();
    let line = format!("  - {{id: 6, host: {first}}}");
    assert!(text.ends_with(&format!("{line}\n")), "{text}");
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
}
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
