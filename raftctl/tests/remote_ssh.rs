//! A cluster on hosts of its own, over SSH, driven as an operator drives it.

#[path = "support/remote.rs"]
mod remote;
mod support;
// Each test file uses its own part of it.
#[allow(dead_code)]
#[path = "support/testhosts.rs"]
mod testhosts;

use remote::RemoteCluster;
use testhosts::{PLAIN, ROOT, WITH_SUDO};

// From bare hosts to a leader; again, and nothing is left to do; a killed node stays dead and comes
// back when told; files of dead nodes can be had; nothing runs after `down`, and nothing is there
// after `down --purge`.
fn life_of_a_cluster(user: &'static str, base: &str) {
    let Some(cluster) = RemoteCluster::new(3, user) else {
        return;
    };
    let plan = cluster.raftctl(&["plan"]).ok();
    assert!(
        plan.stdout.contains("ship raft-node to nodes 1, 2 and 3"),
        "{plan:?}"
    );
    assert!(
        !cluster.set.hosts[0]
            .run(&format!("ls {base}/test"))
            .status
            .success()
    );

    let up = cluster.raftctl(&["up"]).ok();
    assert!(up.stdout.contains("leader: node"), "{up:?}");
    let again = cluster.raftctl(&["up"]).ok().says("nothing to do");
    assert!(!again.stderr.contains("ship"), "{again:?}");
    cluster.raftctl(&["set", "name1", "Jaggu"]).ok();

    let leader = cluster.leader(|_| true);
    cluster.raftctl(&["kill", "leader"]).ok();
    let next = cluster.leader(|id| id != leader);
    assert_eq!(cluster.of_node(leader, "process"), "stopped");
    assert_eq!(cluster.raftctl(&["get", "name1"]).ok().stdout, "Jaggu\n");
    let logs = cluster.raftctl(&["logs", "--all"]).ok();
    assert!(
        logs.stdout
            .contains(&format!("logs_node_{leader}/logs.txt")),
        "{logs:?}"
    );
    cluster.raftctl(&["restart", &leader.to_string()]).ok();
    assert_eq!(cluster.of_node(leader, "role"), "follower");

    cluster.raftctl(&["pause", &next.to_string()]).ok();
    assert_eq!(cluster.of_node(next, "process"), "paused");
    cluster.raftctl(&["resume", "all"]).ok();
    cluster.leader(|_| true);

    cluster.raftctl(&["down"]).ok();
    for host in &cluster.set.hosts {
        assert!(
            !host
                .run("ps ax | grep -q '[r]aft-node --\\|[r]aft-node @'")
                .status
                .success()
        );
        host.must_run(&format!("ls {base}/test/logs_node_*/logs.txt"));
    }
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    for host in &cluster.set.hosts {
        assert!(
            !host
                .run(&format!("ls {base}/test/logs_node_*"))
                .status
                .success()
        );
    }
}

#[test]
fn a_cluster_lives_as_root() {
    life_of_a_cluster(ROOT, "/opt/raftkv");
}

#[test]
fn a_cluster_lives_with_sudo() {
    life_of_a_cluster(WITH_SUDO, "/opt/raftkv");
}

#[test]
fn a_cluster_lives_below_a_home() {
    life_of_a_cluster(PLAIN, "/home/plain/.raftkv");
}
