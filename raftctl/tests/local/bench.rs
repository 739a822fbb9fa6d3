//! The load generator from the command line: counts, and the shape of what it tells; never how fast anything was.

use std::io::{BufRead as _, Read as _};
use std::process::Stdio;

use crate::cluster::TestCluster;
use crate::keys::with_input;
use crate::support::{Ended, PATIENCE, command};
use rustix::process::{Pid, Signal, kill_process};

// A short run measures something, says against what, and cleans up after itself.
#[test]
fn a_benchmark_measures_and_cleans_up() {
    let cluster = TestCluster::up(3);
    let short = [
        "bench",
        "--duration",
        "500ms",
        "--warm-up",
        "100ms",
        "--keys",
        "50",
    ];
    let bench = |more: &[&str]| cluster.raftctl(&[&short[..], more].concat());
    let report = bench(&["--output", "json"]).ok().json();
    for kind in ["reads", "writes"] {
        let figures = &report[kind];
        assert!(figures["operations"].as_u64().unwrap() > 10, "{report:#}");
        assert!(
            figures["p50_us"].as_u64() <= figures["max_us"].as_u64(),
            "{report:#}"
        );
    }
    assert_eq!(
        (&report["nodes"], &report["value_bytes"]),
        (&3.into(), &256.into())
    );
    assert!(report["leader_fsyncs"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["errors"], serde_json::json!({}));
    let table = bench(&["--unary", "--read-share", "1", "--consistency", "stale"]).ok();
    assert!(
        table.stdout.contains("100 % reads (stale)"),
        "{}",
        table.stdout
    );
    assert!(!table.stdout.contains("\nwrites"), "{}", table.stdout);
    let left = cluster
        .raftctl(&["list", "bench/", "--output", "json"])
        .ok()
        .json();
    assert_eq!(left["entries"].as_array().unwrap().len(), 0);
    bench(&["--in-flight", "2"])
        .code(2)
        .says("at least one a client");
    cluster.raftctl(&["kill", "all"]).ok();
    bench(&["--timeout", "500ms"])
        .code(30)
        .says("no leader answered");
}

// At a rate as many operations are begun as are due, over streams and with a call each, and what they took counts from
// when they were due. A rate that nobody can keep is told, and so is one that makes no sense.
#[test]
fn an_open_loop_begins_what_is_due() {
    let cluster = TestCluster::up(3);
    let bench = |rate: &str, more: &[&str]| {
        let short = ["--duration", "500ms", "--warm-up", "0s", "--keys", "50"];
        let words = [&["bench", "--rate", rate][..], &short, more].concat();
        cluster.raftctl(&words)
    };
    for transport in [&[][..], &["--unary"]] {
        let json = [transport, &["--output", "json"]].concat();
        let report = bench("400", &json).ok().json();
        let rate = &report["rate"];
        let due = rate["due"].as_u64().unwrap();
        assert_eq!(rate["asked_per_second"], 400);
        assert!((200..=201).contains(&due), "{report:#}");
        let count = |kind: &str| report[kind]["operations"].as_u64().unwrap_or(0);
        let never_begun = rate["never_begun"].as_u64().unwrap();
        assert_eq!(
            count("reads") + count("writes") + never_begun,
            due,
            "{report:#}"
        );
        assert_eq!(report["errors"], serde_json::json!({}), "{report:#}");
    }
    let table = bench("9000000", &["--clients", "1", "--in-flight", "1"]).ok();
    let said = "9,000,000 operations begun a second, at most 1 in flight";
    assert!(table.stdout.contains(said), "{}", table.stdout);
    assert!(
        table.stdout.contains("THE RATE WAS NOT KEPT"),
        "{}",
        table.stdout
    );
    bench("0", &[]).code(2).says("--rate: 1 to");
}

// The leader is killed twice: clients wait, nothing fails, and in the end every node runs and no key is left. A command
// that fails is told, and its figures with it. Interrupted, the bench leaves no node dead.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_benchmark_tells_what_clients_notice() {
    let cluster = TestCluster::up(3);
    let failover = ["bench", "failover", "--in-flight", "8", "--kills", "2"];
    let json = ["--output", "json", "--report", "kills"];
    let report = cluster.raftctl(&[&failover[..], &json].concat()).ok();
    let report = report.json();
    let checked = &report["checked"];
    assert!(checked["keys"].as_u64().unwrap() > 4, "{report:#}");
    assert_eq!(
        (&checked["lost"], &checked["unread"]),
        (&serde_json::json!([]), &0.into())
    );
    assert_eq!(files(&cluster, "kills"), ["gaps.svg", "report.json"]);
    for gap in ["read_gap", "write_gap"] {
        let each = report[gap]["each_ms"].as_array().unwrap();
        assert_eq!(each.len(), 2, "{report:#}");
        let is_positive = |ms: &serde_json::Value| ms.as_f64().unwrap() > 0.0;
        assert!(each.iter().all(is_positive), "{report:#}");
    }
    assert_eq!(report["failed"], serde_json::json!({}), "{report:#}");
    assert!(report["answered"].as_u64().unwrap() > 10, "{report:#}");
    let ended = interrupted(&cluster, &["bench", "failover"], "1 of 20", || {}).code(1);
    assert!(ended.stdout.starts_with("PARTIAL: "), "{ended:?}");
    cluster.raftctl(&["up"]).ok().says("nothing to do");

    let during = |command: &[&str]| {
        let bench = ["bench", "during", "--in-flight", "8", "--"];
        cluster.raftctl(&[&bench[..], command].concat())
    };
    let raftctl = env!("CARGO_BIN_EXE_raftctl");
    let handed_over = during(&[raftctl, "transfer"]).ok();
    assert!(
        handed_over
            .stdout
            .contains(" 0 failed; 1 change of the leader"),
        "{handed_over:?}"
    );
    let failed = during(&["false"]).code(1).says("false: exit status: 1");
    assert!(failed.stdout.contains("run of the command"), "{failed:?}");
    during(&["./not-there"]).code(2).says("can't be run");
    let empty = cluster
        .raftctl(&["list", "bench/", "--output", "json"])
        .ok();
    assert_eq!(empty.json()["entries"].as_array().unwrap().len(), 0);
    cluster
        .raftctl(&["bench", "failover", "--read-share", "1"])
        .code(2)
        .says("both are measured");
    cluster
        .raftctl(&["bench", "failover", "--keys", "63"])
        .code(2)
        .says("keys of its own");
}

/// What is in a folder beside cluster.yaml.
fn files(cluster: &TestCluster, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(cluster.path(folder)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

// What the machine gives is told beside what the store reaches of it, and without a cluster by itself; no file that was
// flushed is left.
#[test]
fn limits_are_told_beside_what_is_reached() {
    let cluster = TestCluster::up(1);
    let limits = || {
        let words = ["bench", "limits", "--duration", "200ms", "--in-flight", "8"];
        let json = ["--output", "json", "--report", "limits"];
        cluster.raftctl(&[&words[..], &json].concat()).ok().json()
    };
    let report = limits();
    let calls = report["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 6, "{report:#}");
    // On a busy machine a short phase may end before its first answer: then there is no figure, and no share.
    for side in ["bare", "store"] {
        let mut counts = calls.iter().map(|one| one[side]["operations"].as_u64());
        assert!(counts.any(|count| count > Some(0)), "{report:#}");
    }
    let has_share = |one: &serde_json::Value| one["share"].as_f64() > Some(0.0);
    let has_both = |one: &serde_json::Value| !one["bare"].is_null() && !one["store"].is_null();
    assert!(
        calls.iter().all(|one| has_share(one) == has_both(one)),
        "{report:#}"
    );
    let flushes = report["flushes"].as_array().unwrap();
    assert_eq!(flushes.len(), 4, "{report:#}");
    assert!(
        flushes
            .iter()
            .all(|one| one["figures"]["operations"].as_u64() > Some(0))
    );
    assert_eq!(files(&cluster, "limits"), ["report.json"]);
    let list = cluster
        .raftctl(&["list", "bench/", "-o", "json"])
        .ok()
        .json();
    assert_eq!(list["entries"].as_array().unwrap().len(), 0);
    cluster.raftctl(&["kill", "all"]).ok();
    let alone = limits();
    assert_eq!(alone["calls"][0]["store"], serde_json::Value::Null);
    let mut bare = alone["calls"].as_array().unwrap().iter();
    assert!(bare.any(|one| !one["bare"].is_null()), "{alone:#}");
    let left = files(&cluster, ".raftctl/test");
    assert!(!left.iter().any(|name| name.contains("limits")), "{left:?}");
    let nowhere = [
        "bench",
        "limits",
        "--duration",
        "1ms",
        "--folder",
        "nowhere",
    ];
    cluster.raftctl(&nowhere).code(2).says("takes no file");
}

// A report is a folder: all figures, over time too, and pictures that a browser shows. Keys that are there already are not
// written again.
#[test]
fn a_report_is_a_folder() {
    let cluster = TestCluster::up(1);
    let short = [
        "bench",
        "--duration",
        "500ms",
        "--warm-up",
        "0s",
        "--keys",
        "20",
    ];
    let bench = |more: &[&str]| cluster.raftctl(&[&short[..], more].concat()).ok();
    bench(&["--report", "out/first", "--keep"]);
    assert_eq!(
        files(&cluster, "out/first"),
        ["latency.svg", "percentiles.svg", "report.json"]
    );
    let text = std::fs::read_to_string(cluster.path("out/first/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    for kind in ["reads", "writes"] {
        let points = report[format!("{kind}_over_time")].as_array().unwrap();
        assert!(points.len() > 1 && points.len() <= 100, "{report:#}");
        assert_eq!(
            report[format!("{kind}_by_share")].as_array().unwrap().len(),
            12
        );
    }
    assert!(
        report["read_paths"]["lease"].as_u64().unwrap() > 0,
        "{report:#}"
    );
    for name in ["latency", "percentiles"] {
        let svg = std::fs::read_to_string(cluster.path(&format!("out/first/{name}.svg"))).unwrap();
        assert!(svg.contains("reads") && svg.contains("writes"), "{svg}");
    }
    let again = bench(&["--no-fill", "--read-share", "1"]);
    assert!(!again.stderr.contains("writing 20 keys"), "{again:?}");
}

// Figures of one's own become such a picture; what is none is told with the way to the notation.
#[test]
fn figures_become_a_picture() {
    let cluster = TestCluster::new(1);
    let plot = |text: &str| with_input(&cluster, &["bench", "plot"], text.as_bytes());
    let figures = r#"{"title": "mine", "x": {"is_logarithmic": true}, "lines": [{"name": "SET", "points": [[1, 2], [10, 3]]}]}"#;
    let svg = plot(figures).ok().stdout;
    assert!(
        svg.starts_with("<svg") && svg.contains("mine") && svg.contains("SET"),
        "{svg}"
    );
    for wrong in ["", "{\"lines\": 3}", "{\"colour\": 1}"] {
        plot(wrong).code(2).says("raftctl bench plot --help");
    }
    let help = cluster.raftctl(&["bench", "plot", "--help"]).ok();
    assert!(help.stdout.contains("is_logarithmic"), "{help:?}");
}

/// Runs `bench` until it says that it does `phase`, and interrupts it after `meanwhile`.
fn interrupted_bench(
    cluster: &TestCluster,
    more: &[&str],
    phase: &str,
    meanwhile: impl FnOnce(),
) -> Ended {
    let arguments = [&["bench", "--duration", "10m"][..], more].concat();
    interrupted(cluster, &arguments, phase, meanwhile)
}

fn interrupted(
    cluster: &TestCluster,
    arguments: &[&str],
    phase: &str,
    meanwhile: impl FnOnce(),
) -> Ended {
    let started = std::time::Instant::now();
    let mut child = command(cluster.folder(), arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(phase) {
        assert!(
            stderr.read_line(&mut said).unwrap() > 0,
            "never {phase}: {said}"
        );
    }
    meanwhile();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: said,
        took: started.elapsed(),
    }
}

/// Until some writes have been measured: more than are in flight at a time.
fn some_writes(cluster: &TestCluster) {
    let commit = |status: &serde_json::Value| status["nodes"][0]["commit_index"].as_u64();
    let before = commit(&cluster.status()).unwrap_or_default();
    cluster.eventually("some writes", |status| commit(status) > Some(before + 200));
}

// Ctrl-C ends a run early, whatever it is doing: what was measured is shown as a part, and no key
// is left in the store.
#[test]
fn an_interrupted_benchmark_cleans_up() {
    let cluster = TestCluster::up(3);
    let left = || {
        let list = cluster
            .raftctl(&["list", "bench/", "-o", "json"])
            .ok()
            .json();
        list["entries"].as_array().unwrap().len()
    };
    let small = ["--keys", "50", "--warm-up", "0s"];
    let writes = || some_writes(&cluster);
    let run = interrupted_bench(&cluster, &small, "measuring", writes).code(1);
    assert!(run.stdout.starts_with("PARTIAL: "), "{run:?}");
    assert!(run.stdout.contains("\nreads "), "{run:?}");
    assert_eq!(left(), 0);

    let unary = [&small[..], &["--unary", "-o", "json"]].concat();
    let run = interrupted_bench(&cluster, &unary, "measuring", writes).code(1);
    let report = run.json();
    assert_eq!(report["interrupted"], true);
    assert!(report["seconds"].as_f64().unwrap() < 60.0, "{report:#}");
    assert!(
        report["writes"]["operations"].as_u64().unwrap() > 0,
        "{report:#}"
    );
    assert_eq!(left(), 0);

    let run = interrupted_bench(
        &cluster,
        &["--keys", "50", "--warm-up", "10m"],
        "warming up",
        || (),
    );
    let run = run.code(1).says("before anything was measured");
    assert_eq!(run.stdout, "");
    assert_eq!(left(), 0);
}

// Nobody answers any more: Ctrl-C still ends it in bounded time, with the figures up to then, and
// says that keys are left.
#[test]
fn an_interrupted_benchmark_without_a_cluster_ends() {
    let cluster = TestCluster::up(3);
    let more = ["--keys", "50", "--warm-up", "0s", "-o", "json"];
    let run = interrupted_bench(&cluster, &more, "measuring", || {
        some_writes(&cluster);
        cluster.raftctl(&["pause", "all"]).ok();
    });
    cluster.raftctl(&["resume", "all"]).ok();
    assert!(run.took < PATIENCE, "{run:?}");
    assert_ne!(run.code, 0);
    let run = run.says("are left in the store");
    assert_eq!(run.json()["interrupted"], true);
}
