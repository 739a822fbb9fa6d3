//! The life of a cluster over SSH, for each kind of login: each story on one cluster, which it leaves as
//! it found it, up and with a leader.

use harness::{Shared, Test, stories};
use serde_json::Value;
use testhosts::{HOSTS, PLAIN, ROOT, WITH_SUDO};

use crate::cluster::RemoteCluster;

/// The cluster of each kind of login.
pub static CLUSTERS: [(&str, Shared<RemoteCluster>); 3] = [
    ("as_root", Shared::new(|| up(ROOT))),
    ("with_sudo", Shared::new(|| up(WITH_SUDO))),
    ("below_a_home", Shared::new(|| up(PLAIN))),
];

fn up(user: &'static str) -> RemoteCluster {
    let cluster = RemoteCluster::new(3, user);
    cluster.raftctl(&["up"]).ok();
    cluster
}

pub fn tests() -> Vec<Test> {
    CLUSTERS
        .iter()
        .flat_map(|(login, cluster)| of(login, cluster))
        .collect()
}

fn of(login: &str, cluster: &'static Shared<RemoteCluster>) -> Vec<Test> {
    let tests = stories!(
        [HOSTS],
        cluster,
        up_leads_from_bare_hosts_to_a_leader,
        up_again_has_nothing_to_do,
        a_killed_node_stays_dead_until_it_is_told,
        a_dead_node_s_files_can_be_had,
        commands_run_with_the_rights_of_nodes,
        a_freeze_is_undone,
        the_lead_moves_and_stopped_nodes_start,
        every_verb_speaks_json,
        down_keeps_the_logs_and_purge_keeps_nothing
    );
    tests.into_iter().map(|test| test.of(login)).collect()
}

/// Where the cluster lives on its hosts.
fn base(cluster: &RemoteCluster) -> &'static str {
    if cluster.user == PLAIN {
        "/home/plain/.raftkv"
    } else {
        "/opt/raftkv"
    }
}

/// Nothing of the cluster runs on its hosts, and nothing is there.
#[track_caller]
fn purge(cluster: &RemoteCluster) {
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    for host in &cluster.set.hosts {
        let folder = format!("ls -d {}", base(cluster));
        assert!(!host.run(&folder).status.success());
    }
}

// From bare hosts to a leader, and a plan before it that only tells.
fn up_leads_from_bare_hosts_to_a_leader(cluster: &RemoteCluster) {
    purge(cluster);
    let plan = cluster.raftctl(&["plan"]).ok();
    assert!(
        plan.stdout.contains("ship raft-node to nodes 1, 2 and 3"),
        "{plan:?}"
    );
    let folder = format!("ls {}/test", base(cluster));
    assert!(!cluster.set.hosts[0].run(&folder).status.success());
    let up = cluster.raftctl(&["up"]).ok();
    assert!(up.stdout.contains("leader: node"), "{up:?}");
}

// Again, and nothing is left to do.
fn up_again_has_nothing_to_do(cluster: &RemoteCluster) {
    let again = cluster.raftctl(&["up"]).ok().says("nothing to do");
    assert!(!again.stderr.contains("ship"), "{again:?}");
}

// A killed node stays dead, nobody misses what it had acknowledged, and it comes back when told.
fn a_killed_node_stays_dead_until_it_is_told(cluster: &RemoteCluster) {
    cluster.raftctl(&["set", "name1", "Jaggu"]).ok();
    let leader = cluster.leader(|_| true);
    cluster.raftctl(&["kill", "leader"]).ok();
    cluster.leader(|id| id != leader);
    cluster.until(leader, "process", "stopped");
    assert_eq!(cluster.raftctl(&["get", "name1"]).ok().stdout, "Jaggu\n");
    cluster.raftctl(&["restart", &leader.to_string()]).ok();
    cluster.until(leader, "role", "follower");
}

// The files of a node can be had while it is dead.
fn a_dead_node_s_files_can_be_had(cluster: &RemoteCluster) {
    cluster.raftctl(&["kill", "2"]).ok();
    cluster.until(2, "process", "stopped");
    let logs = cluster.raftctl(&["logs", "--all"]).ok();
    assert!(logs.stdout.contains("logs_node_2/logs.txt"), "{logs:?}");
    cluster.raftctl(&["start", "2"]).ok();
}

// `exec` does what it is told with the rights that nodes have there, `ssh` with those of the login.
fn commands_run_with_the_rights_of_nodes(cluster: &RemoteCluster) {
    let said = cluster
        .raftctl(&["exec", "1,3", "--", "hostname; id -un >&2"])
        .ok();
    assert_eq!(said.stdout, "node 1: n1\nnode 3: n3\n");
    let rights = if cluster.user == PLAIN { PLAIN } else { ROOT };
    let who = format!("node 1: {rights}\n");
    assert!(said.stderr.contains(&who), "{said:?}");
    let shell = cluster
        .raftctl(&["ssh", "2", "hostname; id -un; exit 7"])
        .code(7);
    assert_eq!(shell.stdout, format!("n2\n{}\n", cluster.user));
}

// A frozen leader is seen, and goes on when told.
fn a_freeze_is_undone(cluster: &RemoteCluster) {
    let leader = cluster.leader(|_| true);
    cluster.raftctl(&["pause", &leader.to_string()]).ok();
    cluster.until(leader, "process", "paused");
    cluster.raftctl(&["resume", "all"]).ok();
    cluster.leader(|_| true);
    cluster.until(leader, "process", "running");
}

// The lead is handed over; the leader is stopped, and started with all the others.
fn the_lead_moves_and_stopped_nodes_start(cluster: &RemoteCluster) {
    let leader = cluster.leader(|_| true);
    let other = (leader % 3) + 1;
    let moved = cluster.raftctl(&["transfer", &other.to_string()]).ok();
    assert_eq!(
        moved.stdout,
        format!("node {other} leads now, instead of node {leader}\n")
    );
    cluster.raftctl(&["stop", "leader"]).ok();
    cluster.leader(|id| id != other);
    let start = cluster
        .raftctl(&["start", "all", "--output", "json"])
        .ok()
        .json();
    let mut nodes = start["nodes"].as_array().unwrap().iter();
    let is_started = |node: &Value| node["id"] == other && node["done"] == "started";
    assert!(nodes.any(is_started), "{start:#}");
    cluster.raftctl(&["restart", "all"]).ok();
}

// Programs get an object from every verb.
fn every_verb_speaks_json(cluster: &RemoteCluster) {
    for verb in [
        &["status"][..],
        &["plan"],
        &["logs"],
        &["doctor"],
        &["exec", "all", "--", "true"],
        &["kill", "2"],
        &["start", "2"],
        &["upgrade"],
        &["up"],
    ] {
        let json = cluster
            .raftctl(&[&["--output", "json"], verb].concat())
            .ok()
            .json();
        assert!(json.is_object(), "{verb:?}: {json}");
    }
}

// Nothing runs after `down`, but the logs are there; nothing is there after `down --purge`.
fn down_keeps_the_logs_and_purge_keeps_nothing(cluster: &RemoteCluster) {
    cluster.raftctl(&["down"]).ok();
    for host in &cluster.set.hosts {
        let runs = "ps ax | grep -q '[r]aft-node --\\|[r]aft-node @'";
        assert!(!host.run(runs).status.success());
        host.must_run(&format!("ls {}/test/logs_node_*/logs.txt", base(cluster)));
    }
    purge(cluster);
    cluster.raftctl(&["up"]).ok();
}
