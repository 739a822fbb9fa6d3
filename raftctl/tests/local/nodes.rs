//! A cluster of real processes on this machine, driven as an operator drives it.

use std::time::Duration;

use crate::cluster::TestCluster;
use crate::support::{PATIENCE, command, raftctl};
use serde_json::Value;

fn process(node: &Value) -> &str {
    node["process"].as_str().unwrap_or("null")
}

/// Whether a process is there, whoever's it is. A zombie is not.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

// `up` leads to five processes that outlive it, one leader, and a status as documented. A second
// one changes nothing. `down` ends all of them and keeps the data, with which `up` goes on.
#[test]
fn up_converges_and_down_leaves_nothing() {
    let cluster = TestCluster::new(5);
    let plan = cluster.raftctl(&["up", "--dry-run"]).ok();
    assert!(
        plan.stdout
            .contains("start nodes 1, 2, 3, 4 and 5 (new cluster)"),
        "{plan:?}"
    );
    assert!(!cluster.state("run").exists(), "a dry run starts nothing");

    let up = cluster.raftctl(&["up"]).ok();
    assert!(up.stdout.contains("leader: node"), "{up:?}");
    let status = cluster.status();
    let keys: Vec<&String> = status.as_object().unwrap().keys().collect();
    let expected = [
        "cluster",
        "cluster_ids",
        "provider",
        "tls",
        "leader",
        "term",
        "survives_failures",
        "survives_failures_wanted",
        "membership",
        "nodes",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        (status["cluster"].as_str(), status["provider"].as_str()),
        (Some("test"), Some("local"))
    );
    let nodes = status["nodes"].as_array().unwrap();
    let keys: Vec<&String> = nodes[0].as_object().unwrap().keys().collect();
    let expected = [
        "id",
        "address",
        "process",
        "role",
        "member",
        "behind",
        "term",
        "commit_index",
        "applied_index",
        "last_index",
        "lease_remaining_ms",
        "host_error",
        "cut_off_from",
        "packet_filter",
        "log",
        "log_damaged_until",
        "old_lease_remaining_ms",
        "unreachable",
        "disk_free_bytes",
        "refuses_writes",
        "format",
        "reads_format",
        "format_max",
        "format_due_bytes",
        "cluster_id",
        "directory_id",
        "metrics",
        "proof_of_death",
        "tls",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        nodes.iter().filter(|node| node["role"] == "leader").count(),
        1
    );
    assert_eq!(
        nodes
            .iter()
            .filter(|node| node["role"] == "follower")
            .count(),
        4
    );
    assert!(nodes.iter().all(|node| process(node) == "running"));
    let address = format!("127.0.0.1:{}", cluster.ports.base + 13);
    assert_eq!(nodes[2]["address"], address);

    let pids: Vec<u32> = (1..=5).map(|id| cluster.pid(id).unwrap()).collect();
    let again = cluster.raftctl(&["up"]).ok().says("nothing to do");
    assert!(again.took < Duration::from_secs(5), "{again:?}");
    assert_eq!(
        pids,
        (1..=5)
            .map(|id| cluster.pid(id).unwrap())
            .collect::<Vec<_>>()
    );
    let plan = cluster.raftctl(&["plan", "--output", "json"]).ok().json();
    assert_eq!(plan["steps"].as_array().unwrap().len(), 0);

    let down = cluster.raftctl(&["down"]).ok();
    assert!(down.stdout.contains("data is still in"), "{down:?}");
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    assert!(cluster.state("logs_node_1/logs.txt").exists());
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    assert!(!cluster.path(".raftctl/test").exists());
}

// A killed leader stays dead and is replaced; the status says so in about a second; started again
// it is a follower.
#[test]
fn a_killed_leader_stays_dead_until_it_is_started() {
    let cluster = TestCluster::up(3);
    let old = cluster.leader(|_| true);
    let pid = cluster.pid(old).unwrap();
    let kill = cluster.raftctl(&["kill", "leader"]).ok();
    assert_eq!(kill.stdout, format!("node {old} killed\n"));
    assert!(!is_alive(pid));
    let new = cluster.leader(|id| id != old);
    let status = cluster.raftctl(&["status", "--output", "json"]).ok();
    assert!(status.took < Duration::from_secs(3), "{status:?}");
    let dead = cluster.node(old);
    assert_eq!(
        (process(&dead), dead["role"].as_str()),
        ("stopped", Some("unreachable"))
    );
    assert_eq!(dead["term"], Value::Null);
    let again = cluster.raftctl(&["kill", &old.to_string()]).ok();
    assert_eq!(again.stdout, format!("node {old} was not running\n"));
    let again = cluster
        .raftctl(&["kill", &old.to_string(), "--output", "json"])
        .ok()
        .json();
    assert_eq!(again["nodes"][0]["was"], "stopped");
    assert_eq!(again["nodes"][0]["process"], "stopped");

    cluster.raftctl(&["restart", &old.to_string()]).ok();
    let back = cluster.node(old);
    assert_eq!(
        (process(&back), back["role"].as_str()),
        ("running", Some("follower"))
    );
    assert_eq!(
        cluster.leader(|_| true),
        new,
        "a node that comes back deposes nobody"
    );
}

// A paused node is told from a dead one, and costs the status no more than its deadline.
#[test]
fn paused_nodes_are_seen_and_resumed() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["pause", "followers"]).ok();
    let status = cluster.raftctl(&["status", "--output", "json"]).ok();
    assert!(status.took < Duration::from_secs(3), "{status:?}");
    let status = status.json();
    let paused = status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|n| process(n) == "paused");
    assert_eq!(paused.count(), 2, "{status:#}");
    cluster.raftctl(&["resume", "all"]).ok();
    cluster.leader(|_| true);
    let status = cluster.status();
    assert!(
        status["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|n| process(n) == "running")
    );
    // A pause may have an end of its own.
    cluster.raftctl(&["pause", "1", "--for", "1s"]).ok();
    cluster.eventually("node 1 goes on", |status| {
        status["nodes"][0]["process"] == "running"
    });
    for length in ["0s", "2h"] {
        let pause = cluster.raftctl(&["pause", "1", "--for", length]).code(2);
        assert!(pause.stderr.contains("lasts up to 1h"), "{pause:?}");
    }
    // What is paused is stopped, too.
    cluster.raftctl(&["pause", "1"]).ok();
    cluster.raftctl(&["stop", "1"]).ok();
    assert_eq!(process(&cluster.node(1)), "stopped");
    cluster
        .raftctl(&["resume", "1"])
        .code(20)
        .says("raftctl start 1");
}

// A leader that is cut off is replaced, knows nothing of it until it is healed, and follows then.
#[test]
fn a_partition_cuts_and_heals() {
    let cluster = TestCluster::up(5);
    let old = cluster.leader(|_| true);
    let cut = cluster
        .raftctl(&["partition", "leader", "--for", "50s"])
        .ok();
    assert!(
        cut.stdout
            .contains(&format!("between node {old} and nodes")),
        "{cut:?}"
    );
    let new = cluster.leader(|id| id != old);
    assert_ne!(old, new);
    let shown = cluster.raftctl(&["status"]).ok();
    assert!(
        shown.stdout.contains(&format!("node {old}: cut off from")),
        "{shown:?}"
    );
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(doctor.stdout.contains("raftctl heal"), "{doctor:?}");
    cluster.raftctl(&["heal"]).ok();
    cluster.eventually("the old leader follows", |status| {
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().all(|node| {
            node["term"] == status["term"]
                && (node["role"] == "follower") == (node["id"] != status["leader"])
        })
    });
}

// Where a node can't be told, no link stays cut, and nothing else is said: not for a moment, and not
// to someone who waits. An earlier partition is none of its business.
#[test]
fn a_partition_is_whole_or_not_at_all() {
    let cluster = TestCluster::up(5);
    let is_cut = || cluster.raftctl(&["status"]).ok().stdout.contains("cut off");
    cluster.raftctl(&["partition", "1|2", "--for", "1h"]).ok();
    cluster.raftctl(&["kill", "5"]).ok();
    for wait in [&["--for", "1m"][..], &["--for", "1m", "--wait"]] {
        let partition = [&["partition", "1,5|3,4"][..], wait].concat();
        let failed = cluster.raftctl(&partition).code(30);
        let failed = failed.says("no link stays cut").says("node 5: no answer");
        assert_eq!(failed.stdout, "");
        assert!(!failed.stderr.contains("node 1:"), "{failed:?}");
        let status = cluster.raftctl(&["status"]).ok().stdout;
        assert!(status.contains("node 1: cut off from node 2,"), "{status}");
        assert!(!status.contains("node 3: cut off"), "{status}");
    }
    cluster.raftctl(&["heal"]).ok();
    assert!(!is_cut());
    let partition = cluster
        .raftctl(&["partition", "1|2", "-o", "json"])
        .ok()
        .json();
    assert_eq!(partition["for_ms"], 600_000);
    let said = cluster.raftctl(&["partition", "1|2"]).ok().stdout;
    assert!(said.contains(" for 10m, until 20"), "{said}");

    cluster.raftctl(&["kill", "all"]).ok();
    cluster.raftctl(&["partition", "1"]).code(30);
    assert_eq!(
        cluster.raftctl(&["heal"]).ok().stdout,
        "no node runs, so no link is cut\n"
    );
    let healed = cluster.raftctl(&["heal", "-o", "json"]).ok().json();
    assert_eq!(healed["nodes"].as_array().unwrap().len(), 0);
}

// A partition heals itself after its time, without raftctl.
#[test]
fn a_partition_heals_itself() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["partition", "1|2,3", "--for", "1s"]).ok();
    cluster.eventually("the links are whole", |_| {
        !cluster.raftctl(&["status"]).ok().stdout.contains("cut off")
    });
}

// Ctrl-C during a partition that is waited for heals it.
#[test]
fn an_interrupted_partition_is_healed() {
    let cluster = TestCluster::up(3);
    let mut partition = command(
        cluster.folder(),
        &["partition", "1", "--for", "10m", "--wait"],
    );
    let mut child = partition
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    cluster.eventually("the partition is there", |_| {
        cluster
            .raftctl(&["status"])
            .ok()
            .stdout
            .contains("node 1: cut off")
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    child.wait().unwrap();
    assert!(!cluster.raftctl(&["status"]).ok().stdout.contains("cut off"));
}

// A changed lease is planned, told, and done.
#[test]
fn a_changed_lease_restarts_the_nodes() {
    let cluster = TestCluster::up(3);
    let before: Vec<u32> = (1..=3).map(|id| cluster.pid(id).unwrap()).collect();
    cluster.configure("lease: 3s");
    let plan = cluster.raftctl(&["plan"]).ok();
    assert!(
        plan.stdout
            .contains("stop nodes 1, 2 and 3 (--lease-ms 2000 -> 3000)"),
        "{plan:?}"
    );
    cluster.raftctl(&["up"]).ok();
    assert!((1..=3).all(|id| cluster.pid(id).unwrap() != before[id as usize - 1]));
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}

// A cluster goes on from whatever an interrupted `up` left.
#[test]
fn an_interrupted_up_is_run_again() {
    let cluster = TestCluster::new(5);
    for pause_ms in [5, 20, 40, 60] {
        let mut up = command(cluster.folder(), &["up", "--lock-wait", "1m"]);
        up.stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = up.spawn().unwrap();
        // Any moment will do: the later ones are after the start of the first nodes.
        std::thread::sleep(Duration::from_millis(pause_ms));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    cluster.raftctl(&["up"]).ok();
    cluster.leader(|_| true);
    let status = cluster.status();
    assert!(
        status["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|n| process(n) == "running")
    );
}

// Two operators at once: one waits for the other, and both find the cluster up.
#[test]
fn two_ups_at_once_are_one_after_the_other() {
    let cluster = TestCluster::new(3);
    let spawn = || {
        let mut up = command(cluster.folder(), &["up"]);
        up.stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        up.spawn().unwrap()
    };
    let (one, two) = (spawn(), spawn());
    let (one, two) = (
        one.wait_with_output().unwrap(),
        two.wait_with_output().unwrap(),
    );
    assert!(
        one.status.success() && two.status.success(),
        "{one:?} {two:?}"
    );
    let said = [one.stderr, two.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let idle = said
        .iter()
        .filter(|text| text.contains("nothing to do"))
        .count();
    assert_eq!(idle, 1, "{said:?}");
}

// The files of dead nodes are fetched, too; a node that has none is named, and does not hide the
// others. Merged, the dumps are one story, in order.
#[test]
fn logs_come_from_dead_nodes_too() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["kill", "2"]).ok();
    let logs = cluster.raftctl(&["logs", "--all", "--into", "got"]).ok();
    assert_eq!(logs.stdout.lines().count(), 9, "{logs:?}");
    let dump = std::fs::read_to_string(cluster.path("got/logs_node_2/dump.txt")).unwrap();
    assert!(!dump.is_empty());
    assert!(
        std::fs::read_to_string(cluster.path("got/logs_node_2/logs.txt"))
            .unwrap()
            .starts_with("NO-OP 1")
    );

    let merged = ["logs", "--merge", "--into", "got", "-o", "json"];
    let merged = cluster.raftctl(&merged).ok().stdout;
    let lines = merged.lines().map(serde_json::from_str::<Value>);
    let lines: Vec<Value> = lines.collect::<Result<_, _>>().unwrap();
    let is_election = |line: &&Value| line["text"] == "Node 2 became the leader for term 1.";
    assert!(lines.len() > 20, "{merged}");
    assert!(
        lines.iter().all(|line| line["time"].is_string()),
        "{merged}"
    );
    let elections = lines.iter().filter(is_election);
    assert!(elections.clone().count() <= 1, "{merged}");
    assert!(
        elections.into_iter().all(|line| line["node"] == 2),
        "{merged}"
    );

    let merged = cluster.raftctl(&["logs", "--merge", "--into", "got"]).ok();
    let leader = cluster.leader(|_| true);
    assert!(
        merged.stdout.contains(" became the leader for term "),
        "{merged:?}"
    );
    assert!(
        (1..=3).all(|id| merged.stdout.contains(&format!("\nnode {id}  "))),
        "{leader}"
    );

    std::fs::remove_dir_all(cluster.state("logs_node_2")).unwrap();
    let partial = cluster
        .raftctl(&["logs", "--into", "again"])
        .code(3)
        .says("node 2: ");
    assert_eq!(partial.stdout.lines().count(), 2, "{partial:?}");
    let left: Vec<_> = std::fs::read_dir(cluster.path("again/logs_node_2"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "no half file is left: {left:?}");
}

// Restarting all nodes goes one at a time, and ends with all of them running.
#[test]
fn restart_all_goes_one_at_a_time() {
    let cluster = TestCluster::up(3);
    let before: Vec<u32> = (1..=3).map(|id| cluster.pid(id).unwrap()).collect();
    let leader = cluster.leader(|_| true);
    let restart = cluster.raftctl(&["restart", "all"]).ok();
    let last = restart.stdout.lines().last().unwrap().to_owned();
    assert_eq!(
        last,
        format!("node {leader} restarted"),
        "the leader last: {restart:?}"
    );
    assert!((1..=3).all(|id| cluster.pid(id).unwrap() != before[id as usize - 1]));
    let status = cluster.raftctl(&["status"]).ok().stdout;
    assert!(
        !status.contains("older lease"),
        "the lease was handed over: {status}"
    );
}

// What answers on the ports of a cluster need not be that cluster.
#[test]
fn another_cluster_on_the_same_ports_is_told_apart() {
    let cluster = TestCluster::up(3);
    for name in ["other", "test"] {
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(cluster.path("cluster.yaml")).unwrap();
        let text = text.replace("name: test", &format!("name: {name}"));
        std::fs::write(folder.path().join("cluster.yaml"), text).unwrap();
        let status = raftctl(folder.path(), &["status", "--output", "json"])
            .ok()
            .json();
        assert_eq!(status["leader"], Value::Null);
        assert_eq!(status["nodes"][0]["role"], "unreachable");
        raftctl(folder.path(), &["up"])
            .code(2)
            .says("is in use by process");
        raftctl(folder.path(), &["kill", "all"]).ok();
        if name == "other" {
            raftctl(folder.path(), &["kill", "leader"])
                .code(30)
                .says("there is none now");
        }
    }
    cluster.leader(|_| true);
}

// Leadership goes where it is asked to go.
#[test]
fn leadership_is_handed_over() {
    let cluster = TestCluster::up(3);
    let old = cluster.leader(|_| true);
    let target = if old == 3 { 1 } else { 3 };
    let told = cluster.raftctl(&["transfer", &target.to_string()]).ok();
    assert_eq!(
        told.stdout,
        format!("node {target} leads now, instead of node {old}\n")
    );
    cluster.leader(|id| id == target);
    cluster
        .raftctl(&["transfer", "all"])
        .code(2)
        .says("name one node");
}

// A cluster of one can't serve while its node is restarted, and is upgraded all the same.
#[test]
fn a_cluster_of_one_is_upgraded() {
    let cluster = TestCluster::with(1, "binary: ./raft-node");
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let put = |more: &[u8]| {
        let mut binary = std::fs::read(&own).unwrap();
        binary.extend(more);
        std::fs::write(cluster.path("new"), binary).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(cluster.path("new"), executable).unwrap();
        std::fs::rename(cluster.path("new"), cluster.path("raft-node")).unwrap();
    };
    put(b"");
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    put(b"another");
    let upgrade = cluster.raftctl(&["upgrade"]).ok();
    assert_eq!(upgrade.stdout, "node 1 upgraded\n");
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}

// With a majority dead a node can still be started, without waiting for a leader that can't be.
#[test]
fn a_node_starts_without_a_majority() {
    let cluster = TestCluster::up(5);
    cluster.raftctl(&["kill", "1-4"]).ok();
    let start = cluster.raftctl(&["start", "1"]).ok();
    assert!(start.took < PATIENCE / 4, "{start:?}");
    cluster.raftctl(&["start", "all"]).ok();
    cluster.leader(|_| true);
}

// A node that can't start says why in its own words, and the others are not concerned.
#[test]
fn a_node_that_cannot_start_shows_why() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["kill", "3"]).ok();
    let metadata = cluster.state("logs_node_3/metadata.txt");
    let whole = std::fs::read_to_string(&metadata).unwrap();
    std::fs::write(&metadata, "nonsense\n").unwrap();
    let up = cluster
        .raftctl(&["up"])
        .code(3)
        .says("node 3 on this machine ended");
    assert!(up.stderr.contains("metadata.txt"), "{up:?}");
    let doctor = cluster.raftctl(&["doctor"]).code(40);
    assert!(doctor.stdout.contains("node 3 crashed"), "{doctor:?}");
    std::fs::write(&metadata, whole).unwrap();
    cluster.raftctl(&["up"]).ok();
    let doctor = cluster.raftctl(&["doctor"]).ok();
    assert_eq!(doctor.stdout, "all is well\n");
}

// One that can't start is told by itself; those that were started with it are not called failed.
#[test]
fn a_node_that_cannot_start_hides_no_other() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["stop", "all"]).ok();
    // It starts, and ends when it is to write that there is a new term.
    let taken = cluster.state("logs_node_3/metadata.txt.tmp");
    std::fs::create_dir(&taken).unwrap();
    let start = cluster.raftctl(&["start", "all"]).code(3).says("node 3");
    assert!(!start.stderr.contains("node 1"), "{start:?}");
    assert_eq!(start.stdout, "node 1 started\nnode 2 started\n");
    cluster.leader(|id| id != 3);
    std::fs::remove_dir(&taken).unwrap();
    cluster.raftctl(&["start", "3"]).ok();
}

// A pid file that names a process of someone else is not believed: nobody else is killed.
#[test]
fn a_foreign_process_is_never_killed() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["kill", "1"]).ok();
    let mut bystander = std::process::Command::new("sleep")
        .arg("300")
        .spawn()
        .unwrap();
    let other = std::fs::read_to_string(cluster.state("run/node_2.pid")).unwrap();
    // All is as in a real record but the number: as if it had been given to another process.
    let text: String = other
        .lines()
        .map(|line| match line.strip_prefix("pid=") {
            Some(_) => format!("pid={}\n", bystander.id()),
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(cluster.state("run/node_1.pid"), text).unwrap();
    assert_eq!(process(&cluster.node(1)), "stopped");
    cluster.raftctl(&["kill", "1"]).ok();
    let alive = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(alive, "the bystander was killed");
}

// A node whose log is gone is not started with nothing behind the operator's back: it could forget
// a vote. Whoever accepts it says so.
#[test]
fn a_lost_log_is_missed() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.raftctl(&["kill", "2"]).ok();
    std::fs::remove_dir_all(cluster.state("logs_node_2")).unwrap();
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("the log of node 2 is gone");
    cluster
        .raftctl(&["start", "2"])
        .code(2)
        .says("the log of node 2 is gone");
    cluster.raftctl(&["doctor"]).code(40);
    assert!(!cluster.state("logs_node_2").exists());
    cluster.raftctl(&["up", "--allow-data-loss"]).ok();
    cluster.eventually("node 2 has it all", |status| {
        status["nodes"][1]["applied_index"] == status["nodes"][0]["applied_index"]
    });
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}
