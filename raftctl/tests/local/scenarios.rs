//! The scenarios on clusters of real processes: the six pass, a wrong expectation does not, and
//! nothing is left changed.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use crate::cluster::TestCluster;
use crate::support::{PATIENCE, command, raftctl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn processes(cluster: &TestCluster) -> Vec<String> {
    let status = cluster.status();
    let nodes = status["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| node["process"].as_str().unwrap_or("null").to_owned())
        .collect()
}

// The six pass on a fresh cluster of five, each with its steps and times, well within 90 seconds;
// afterwards every node runs and no key of theirs is left.
#[test]
fn the_six_scenarios_pass() {
    let cluster = TestCluster::up(5);
    let run = cluster
        .raftctl(&["scenario", "run", "all", "--output", "json"])
        .ok();
    let report = run.json();
    assert_eq!(report["passed"], true);
    assert!(run.took < Duration::from_secs(90), "{:?}", run.took);
    let scenarios = report["scenarios"].as_array().unwrap();
    let names: Vec<&str> = scenarios
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    let expected = [
        "startup",
        "replication",
        "follower-failure",
        "leader-failure",
        "lease-timeout",
        "two-survivors",
    ];
    assert_eq!(names, expected);
    for scenario in scenarios {
        let steps = scenario["steps"].as_array().unwrap();
        assert!(steps.len() >= 5, "{scenario:#}");
        assert!(
            steps.iter().all(|step| step["passed"] == true),
            "{scenario:#}"
        );
        // Each ends with its timeline, clients included.
        let page = scenario["timeline"].as_str().unwrap();
        let page = std::fs::read_to_string(cluster.path(page)).unwrap();
        assert!(page.contains("clients read and write"), "{scenario:#}");
    }
    assert_eq!(processes(&cluster), ["running"; 5]);
    let left = cluster
        .raftctl(&["list", "scenario/", "--output", "json"])
        .ok()
        .json();
    assert_eq!(left["entries"], Value::Array(vec![]));
    // Nodes on this machine need no lock on hosts, and nothing of one is made.
    assert!(!cluster.state("operator").exists());
}

const THREE: &str = "scenario: three\ntitle: for three nodes\nnodes: 3\nsteps:\n\
                     - wait_for_leader: {as: chief}\n- choose: {as: victim, from: followers, count: 1}\n";

// An expectation that is not met shows both sides and ends with 40; the node that was killed runs
// again.
#[test]
fn a_wrong_expectation_fails_and_the_cluster_is_put_back() {
    let cluster = TestCluster::up(3);
    let wrong = format!(
        "{THREE}- set: {{values: {{a: right}}}}\n- kill: victim\n- get: {{values: {{a: wrong}}}}\n"
    );
    std::fs::write(cluster.path("wrong.yaml"), wrong).unwrap();
    let run = cluster.raftctl(&["scenario", "run", "wrong.yaml"]).code(40);
    assert!(run.stdout.contains("expected: a = wrong"), "{}", run.stdout);
    assert!(run.stdout.contains("seen:     right"), "{}", run.stdout);
    assert!(run.stdout.contains("wrong.yaml:9"), "{}", run.stdout);
    assert_eq!(processes(&cluster), ["running"; 3]);

    // What a scenario counts is really counted: a quorum read causes the round that it forbids.
    let rounds = format!(
        "{THREE}- set: {{values: {{a: right}}}}\n- mark: here\n- get: {{values: {{a: right}}, \
         read: quorum}}\n- expect_counters: {{nodes: chief, since: here, read_rounds: 0}}\n"
    );
    std::fs::write(cluster.path("rounds.yaml"), rounds).unwrap();
    let run = cluster
        .raftctl(&["scenario", "run", "./rounds.yaml"])
        .code(40);
    assert!(run.stdout.contains("read_rounds of node"), "{}", run.stdout);

    // Five nodes are needed for the six, and all of them running.
    cluster
        .raftctl(&["scenario", "run", "replication"])
        .code(2)
        .says("for 5 nodes");
    cluster.raftctl(&["kill", "2"]).ok();
    let run = cluster.raftctl(&["scenario", "run", "wrong.yaml"]).code(30);
    run.says("raftctl up").says("node 2");
}

// Ctrl-C in the middle: what the scenario had killed and paused runs again.
#[test]
fn an_interrupted_scenario_puts_the_cluster_back() {
    let cluster = TestCluster::up(3);
    let long = format!(
        "{THREE}- kill: victim\n- pause: chief\n- mark: here\n- expect_dump: {{nodes: all, since: \
         here, says: never, within: 5m}}\n"
    );
    std::fs::write(cluster.path("long.yaml"), long).unwrap();
    let mut running = command(cluster.folder(), &["scenario", "run", "long.yaml"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    cluster.eventually("a paused and a killed node", |status| {
        let is = |state: &str| {
            let mut nodes = status["nodes"].as_array().unwrap().iter();
            nodes.any(|node| node["process"] == state)
        };
        is("paused") && is("stopped")
    });
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = wait(&mut running);
    assert!(!ended.success());
    assert_eq!(processes(&cluster), ["running"; 3]);
}

// Ctrl-C that comes first when the cluster is being put back already does not end that.
#[test]
fn the_first_interruption_never_leaves_faults() {
    let cluster = TestCluster::up(3);
    let wrong = format!(
        "{THREE}- set: {{values: {{a: right}}}}\n- kill: victim\n- get: {{values: {{a: wrong}}}}\n"
    );
    std::fs::write(cluster.path("wrong.yaml"), wrong).unwrap();
    // The cluster is put back within part of a second: where this process had to wait for longer, the
    // interruption came too late, and that is no answer.
    let talk = (0..5)
        .map(|_| interrupted_while_putting_back(&cluster))
        .find(|talk| !talk.contains("failed: three"))
        .expect("it is interrupted in time");
    assert!(
        talk.contains("interrupted; the cluster is as it was before"),
        "{talk}"
    );
    assert_eq!(processes(&cluster), ["running"; 3]);
    let left = cluster.raftctl(&["list", "scenario/", "--output", "json"]);
    assert_eq!(left.ok().json()["entries"], Value::Array(vec![]));
}

/// What a scenario that fails says when it is interrupted after its last step.
fn interrupted_while_putting_back(cluster: &TestCluster) -> String {
    let mut running = command(cluster.folder(), &["scenario", "run", "wrong.yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(running.stdout.take().unwrap());
    let mut lines = stdout.lines().map(Result::unwrap);
    // The last step has failed: nothing is left to do but to put the cluster back.
    assert!(lines.any(|line| line.contains("seen:     right")));
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let talk = std::io::read_to_string(running.stderr.take().unwrap()).unwrap();
    assert!(!wait(&mut running).success());
    talk
}

fn wait(child: &mut std::process::Child) -> std::process::ExitStatus {
    let started = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(started.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// Files of scenarios can be listed, read and checked in any folder; only running them needs a
// cluster.
#[test]
fn scenarios_can_be_read_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let list = raftctl(folder.path(), &["scenario", "list", "--output", "json"])
        .ok()
        .json();
    assert_eq!(list.as_array().unwrap().len(), 8);
    let shown = raftctl(folder.path(), &["scenario", "show", "lease-timeout"]).ok();
    assert!(
        shown.stdout.starts_with("scenario: lease-timeout\n"),
        "{}",
        shown.stdout
    );
    raftctl(folder.path(), &["scenario", "show", "lease-timeuot"])
        .code(2)
        .says("lease-timeout?");
    raftctl(folder.path(), &["scenario", "run", "all"])
        .code(2)
        .says("raftctl init");
}

// Members that come, lead, are lost and go: each story passes, with a verdict on what clients saw meanwhile, and
// leaves the cluster as cluster.yaml has it, with no process and no file of a guest.
#[test]
fn members_come_and_go_for_a_scenario() {
    let cluster = TestCluster::with_room(5);
    let words = [
        "scenario",
        "run",
        "grow-and-shrink",
        "replace-the-lost",
        "--output",
        "json",
    ];
    let report = cluster.raftctl(&words).ok().json();
    assert_eq!(report["passed"], true, "{report:#}");
    for scenario in report["scenarios"].as_array().unwrap() {
        assert_eq!(
            scenario["workload"]["verdict"], "linearizable",
            "{scenario:#}"
        );
    }
    let status = cluster.status();
    assert_eq!(
        status["membership"]["voters"],
        serde_json::json!([1, 2, 3, 4, 5])
    );
    assert_eq!(
        status["membership"]["retired_ids"],
        serde_json::json!([6, 7, 8, 9, 10])
    );
    assert!(!cluster.state("logs_node_6").exists() && cluster.pid(6).is_none());
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}
