//! Chaos on a cluster of real processes: faults strike, the history is recorded and judged, and
//! the cluster is put back.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::cluster::TestCluster;
use crate::support::{PATIENCE, command};
use checker::{Kind, Operation, Outcome, read_history, write_history};
use rustix::process::{Pid, Signal, kill_process};

fn all_run(cluster: &TestCluster) -> bool {
    let status = cluster.status();
    let mut nodes = status["nodes"].as_array().unwrap().iter();
    nodes.all(|node| node["process"] == "running")
}

// A run with every kind of fault ends with a verdict, with faults that have times, and with a
// folder from which the same verdict can be had again. A history in which one read is stale is
// found out.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_run_is_judged_and_can_be_judged_again() {
    let cluster = TestCluster::up(3);
    let arguments = [
        "scenario",
        "chaos",
        "--seed",
        "3",
        "--duration",
        "15s",
        "--clients",
        "8",
    ];
    let run = cluster
        .raftctl(&[&arguments[..], &["--output", "json"]].concat())
        .ok();
    let report = run.json();
    assert_eq!(report["verdict"], "linearizable", "{report:#}");
    assert_eq!(
        (&report["seed"], &report["clients"]),
        (&3.into(), &8.into())
    );
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.len() >= 2, "{report:#}");
    for fault in faults {
        assert!(
            fault["until_ms"].as_u64() > fault["at_ms"].as_u64(),
            "{fault}"
        );
    }
    for kind in ["reads", "writes"] {
        assert!(
            report[kind]["succeeded"].as_u64().unwrap() > 50,
            "{report:#}"
        );
        let share = report[kind]["share"].as_f64().unwrap();
        assert!(share > 0.1 && share <= 1.0, "{report:#}");
    }
    assert!(all_run(&cluster));
    let left = cluster
        .raftctl(&["list", "chaos/", "--output", "json"])
        .ok()
        .json();
    assert_eq!(
        left["entries"].as_array().unwrap().len(),
        0,
        "its keys are gone"
    );

    let folder = cluster.state("chaos/seed-3");
    for file in [
        "report.json",
        "logs_node_1/dump.txt",
        "logs_node_3/logs.txt",
        "timeline.html",
    ] {
        assert!(folder.join(file).exists(), "{file}");
    }
    // What clients saw is in the picture, also when it is drawn again.
    let again = ["timeline", folder.to_str().unwrap(), "--format", "svg"];
    cluster.raftctl(&again).ok();
    for page in ["timeline.html", "timeline.svg"] {
        let page = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(page.contains("clients read and write"));
    }
    let path = folder.join("history.jsonl");
    cluster
        .raftctl(&["scenario", "verify", path.to_str().unwrap()])
        .ok();

    let verdict = cluster
        .raftctl(&["scenario", "verify", &with_a_stale_read(&path)])
        .code(40);
    assert!(verdict.stdout.contains("linearizable: NO"), "{verdict:?}");
}

/// The same history with one read more, which is stale; its path.
fn with_a_stale_read(path: &Path) -> String {
    let file = std::fs::File::open(path).unwrap();
    let mut history = read_history(std::io::BufReader::new(file)).unwrap();
    history.push(stale_read(history.operations())).unwrap();
    let doctored = path.with_file_name("doctored.jsonl");
    write_history(&history, std::fs::File::create(&doctored).unwrap()).unwrap();
    doctored.to_str().unwrap().to_owned()
}

/// A read, after everything else, of the first value of a key that holds another by then.
fn stale_read(operations: &[Operation]) -> Operation {
    let written = |operation: &&Operation| operation.outcome == Outcome::Written;
    let first = operations.iter().find(written).unwrap();
    let Kind::Set { value } = &first.kind else {
        panic!("{first:?}")
    };
    let later = |operation: &&Operation| {
        operation.key == first.key && operation.outcome == Outcome::Written
    };
    assert!(operations.iter().filter(later).count() > 1);
    let end_us = operations
        .iter()
        .filter_map(|operation| operation.return_us)
        .max()
        .unwrap();
    Operation {
        client: 99,
        call_us: end_us + 1,
        return_us: Some(end_us + 2),
        key: first.key.clone(),
        kind: Kind::Get,
        outcome: Outcome::Read(Some(value.clone())),
    }
}

// A second run of a seed leaves what the first one found; one fault is a fault.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn runs_of_one_seed_are_kept() {
    let cluster = TestCluster::up(3);
    let arguments = [
        "scenario",
        "chaos",
        "--seed",
        "1",
        "--duration",
        "7s",
        "--faults",
        "kill",
    ];
    let first = cluster.raftctl(&arguments).ok();
    assert!(
        first.stdout.contains(", 1 fault planned, seed 1\n"),
        "{first:?}"
    );
    let report = cluster.state("chaos/seed-1/report.json");
    let found = std::fs::read_to_string(&report).unwrap();
    let second = cluster.raftctl(&arguments).ok();
    assert!(second.stdout.contains("chaos/seed-1-2\n"), "{second:?}");
    assert!(cluster.state("chaos/seed-1-2/report.json").exists());
    assert_eq!(std::fs::read_to_string(&report).unwrap(), found);
}

/// Starts a run that freezes nodes, and waits until one is frozen.
fn freeze(cluster: &TestCluster) -> Child {
    let faults = ["--duration", "5m", "--faults", "pause"];
    let arguments = [&["scenario", "chaos", "--seed", "1"], &faults[..]].concat();
    let running = command(cluster.folder(), &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.eventually("a paused node", |status| {
        let mut nodes = status["nodes"].as_array().unwrap().iter();
        nodes.any(|node| node["process"] == "paused")
    });
    running
}

fn wait(mut running: Child) {
    let started = std::time::Instant::now();
    while running.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// Ctrl-C while nodes are frozen: they go on, and nothing of the run is left in the store. So it is
// when the terminal is closed, which is said twice, and nobody hears what is told of it.
#[test]
fn an_interrupted_run_heals() {
    let cluster = TestCluster::up(3);
    let running = freeze(&cluster);
    kill_process(Pid::from_child(&running), Signal::INT).unwrap();
    wait(running);
    assert!(all_run(&cluster));
    let mut running = freeze(&cluster);
    drop(running.stderr.take());
    kill_process(Pid::from_child(&running), Signal::HUP).unwrap();
    // Said again while everything is being undone, which nothing tells from outside.
    std::thread::sleep(Duration::from_millis(200));
    kill_process(Pid::from_child(&running), Signal::HUP).unwrap();
    wait(running);
    assert!(all_run(&cluster));
    let left = cluster
        .raftctl(&["list", "chaos/", "--output", "json"])
        .ok()
        .json();
    assert_eq!(left["entries"].as_array().unwrap().len(), 0);
}

// Frozen nodes go on by themselves where nobody is there any more to let them.
#[test]
fn a_run_that_is_killed_freezes_nobody_for_good() {
    let cluster = TestCluster::up(3);
    let mut running = freeze(&cluster);
    running.kill().unwrap();
    running.wait().unwrap();
    cluster.eventually("all nodes run", |status| {
        let mut nodes = status["nodes"].as_array().unwrap().iter();
        nodes.all(|node| node["process"] == "running")
    });
}

// What can't be done is refused before anything is touched.
#[test]
fn wrong_flags_touch_nothing() {
    let cluster = TestCluster::with(3, "fault_injection: false");
    cluster.raftctl(&["up"]).ok();
    let chaos = |faults: &str| cluster.raftctl(&["scenario", "chaos", "--faults", faults]);
    chaos("partition,kill")
        .code(2)
        .says("fault_injection: true");
    // A run in which nothing can happen shows nothing.
    let short = |more: &[&str]| {
        cluster.raftctl(&[&["scenario", "chaos", "--faults", "kill"][..], more].concat())
    };
    short(&["--duration", "0s"]).code(2).says("--duration 0s");
    short(&["--duration", "1s", "--seed", "5"])
        .code(2)
        .says("no fault of seed 5 fits into that; 7s are enough");
    chaos("kill,meteor").code(2).says("\"meteor\" is none");
    cluster
        .raftctl(&["scenario", "chaos", "--clients", "0"])
        .code(2);
    cluster.raftctl(&["kill", "1"]).ok();
    chaos("kill").code(30).says("raftctl up");
    assert!(!cluster.state("chaos").exists());
}

// Members change while other faults strike: what clients saw is linearizable, some changes completed, and the
// cluster is left as cluster.yaml has it. A run in which none could complete shows nothing, and fails.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn members_change_while_faults_strike() {
    let cluster = TestCluster::with_room(3);
    let chaos = |faults: &str, duration: &str, clients: &str| {
        let words = [
            "scenario",
            "chaos",
            "--seed",
            "5",
            "--duration",
            duration,
            "--clients",
            clients,
            "--faults",
            faults,
            "--output",
            "json",
        ];
        cluster.raftctl(&words)
    };
    let report = chaos("member,kill,pause", "15s", "8").ok().json();
    assert_eq!(report["verdict"], "linearizable", "{report:#}");
    assert!(
        !report["faults"].as_array().unwrap().is_empty(),
        "{report:#}"
    );
    let changes = report["changes"].as_array().unwrap();
    assert!(
        changes.iter().any(|change| change["given_up"].is_null()),
        "{report:#}"
    );
    let status = cluster.status();
    assert_eq!(status["membership"]["voters"], serde_json::json!([1, 2, 3]));
    assert!(all_run(&cluster));
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    // Too short for any.
    let failed = chaos("member", "20ms", "1").code(40);
    failed.says("no change of members completed");
}
