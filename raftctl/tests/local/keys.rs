//! Reading, writing, the shell and the load generator from the command line.

use std::io::{BufRead as _, Read as _, Write};
use std::process::Stdio;

use crate::cluster::TestCluster;
use crate::support::{Ended, PATIENCE, command};
use rustix::process::{Pid, Signal, kill_process};

/// Runs raftctl with something on its standard input.
fn with_input(cluster: &TestCluster, arguments: &[&str], input: &[u8]) -> Ended {
    let started = std::time::Instant::now();
    let mut child = command(cluster.folder(), arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A reader that has seen enough closes its end early.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: started.elapsed(),
    }
}

// What is printed is the value and nothing else; a missing key is an empty line; any text goes in
// and comes out as it was; limits are told before anything is sent.
#[test]
fn keys_from_the_command_line() {
    let cluster = TestCluster::up(3);
    let run = |arguments: &[&str]| cluster.raftctl(arguments).ok();
    assert_eq!(run(&["set", "name1", "Jaggu"]).stdout, "SUCCESS\n");
    assert_eq!(run(&["get", "name1"]).stdout, "Jaggu\n");
    assert_eq!(run(&["get", "missing"]).stdout, "\n");
    let found = run(&["get", "missing", "--output", "json"]).json();
    assert_eq!(
        (found["found"].as_bool(), found["value"].is_null()),
        (Some(false), true)
    );
    for read in ["lease", "quorum", "stale"] {
        assert_eq!(run(&["get", "name1", "--read", read]).stdout, "Jaggu\n");
    }

    let odd = "two words\n\"quoted\" é \u{1f980}\n";
    with_input(&cluster, &["set", odd, "-"], odd.as_bytes()).ok();
    assert_eq!(run(&["get", odd]).stdout, format!("{odd}\n"));
    let listed = run(&["list"]).stdout;
    assert_eq!(
        listed,
        "name1 Jaggu\n\"two words\\n\\\"quoted\\\" é 🦀\\n\" \"two words\\n\\\"quoted\\\" é 🦀\\n\"\n"
    );

    assert_eq!(
        run(&["cas", "name1", "new", "--expect", "Jaggu"]).stdout,
        "SUCCESS\n"
    );
    // A script can tell "somebody else has it" from trouble by the exit code alone.
    for expectation in [&["--absent"][..], &["--expect", "old"]] {
        let cas = [&["cas", "name1", "x"][..], expectation].concat();
        let refused = cluster.raftctl(&cas).code(4).says("nothing was written");
        assert!(refused.stdout.starts_with("FAILED"), "{refused:?}");
        let refused = cluster
            .raftctl(&[&cas[..], &["-o", "json"]].concat())
            .code(4);
        assert_eq!(refused.json()["swapped"], false);
    }
    assert_eq!(run(&["get", "name1"]).stdout, "new\n");
    assert_eq!(run(&["del", "name1"]).stdout, "SUCCESS\n");
    assert_eq!(run(&["get", "name1"]).stdout, "\n");

    let most = vec![b'v'; 1 << 20];
    with_input(&cluster, &["set", "big", "-"], &most).ok();
    assert_eq!(run(&["get", "big"]).stdout.len(), most.len() + 1);
    let more = [&most[..], b"v"].concat();
    with_input(&cluster, &["set", "big", "-"], &more)
        .code(2)
        .says("1048576");
    with_input(&cluster, &["set", "big", "-"], b"\xff")
        .code(2)
        .says("UTF-8");
    cluster
        .raftctl(&["get", "big", "--node", "1"])
        .code(2)
        .says("--read stale");
    cluster
        .raftctl(&["get", "big", "--read", "stale", "--node", "9"])
        .code(2)
        .says("no node 9");
}

// Commands from a pipe: results only, a mistake is told with its line and stops nothing, and the
// exit code remembers it.
#[test]
fn a_script_for_the_shell() {
    let cluster = TestCluster::up(3);
    let script = "SET k \"two words\"\nGET k\nCREATE k other\nCAS k \"two words\" three\nGET k\n\
                  LIST k\nDEL k\nGET k QUORUM\n";
    let run = with_input(&cluster, &["shell"], script.as_bytes()).ok();
    let expected = "SUCCESS\ntwo words\nFAILED (holds something else)\nSUCCESS\nthree\nk three\n\
                    SUCCESS\n\n";
    assert_eq!(run.stdout, expected);
    let run = with_input(
        &cluster,
        &["shell"],
        b"FETCH k\nSTATUS\nQUIT\nSET never reached\n",
    );
    let run = run.code(2).says("line 1: FETCH is no command");
    assert!(run.stdout.contains("leader: node"), "{run:?}");
    assert_eq!(cluster.raftctl(&["get", "never"]).ok().stdout, "\n");
}

// The exit codes tell apart what a script has to tell apart: done, nothing done, nobody knows.
#[test]
fn exit_codes_tell_what_became_of_a_write() {
    let cluster = TestCluster::with(3, "lease: 10s");
    cluster.raftctl(&["up"]).ok();
    let leader = cluster.leader(|_| true);
    let followers: Vec<String> = (1..=3)
        .filter(|id| *id != leader)
        .map(|id: u64| id.to_string())
        .collect();
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.raftctl(&["kill", &followers.join(",")]).ok();
    // The leader takes the write, and can't tell yet whether it will ever commit.
    let run = cluster
        .raftctl(&["set", "k", "lost", "--timeout", "1s"])
        .code(31);
    run.says("outcome unknown").says("raftctl get");
    cluster.eventually("a leader that stepped down", |status| {
        status["leader"].is_null()
    });
    let run = cluster
        .raftctl(&["set", "k", "never", "--timeout", "1s"])
        .code(30);
    run.says("no leader answered within 1 s")
        .says(&format!("node {leader}"));
    cluster
        .raftctl(&["get", "k", "--timeout", "500ms"])
        .code(30);
    let stale = ["get", "k", "--read", "stale", "--node", &leader.to_string()];
    assert_eq!(cluster.raftctl(&stale).ok().stdout, "v\n");
}

// Where no node runs, nobody waits for the end of the timeout: it is said at once, with what to do.
#[test]
fn a_cluster_that_is_down_is_told_at_once() {
    let cluster = TestCluster::new(3);
    for arguments in [["get", "k"].as_slice(), &["set", "k", "v"], &["list"]] {
        let ended = cluster.raftctl(arguments).code(30);
        assert!(ended.took.as_secs() < 20, "{ended:?}");
        ended
            .says("no node of the cluster runs")
            .says("next: raftctl up");
    }
}

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

// The leader is killed twice: clients wait, nothing fails, and in the end every node runs and no key is left. A command
// that fails is told, and its figures with it. Interrupted, the bench leaves no node dead.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_benchmark_tells_what_clients_notice() {
    let cluster = TestCluster::up(3);
    let failover = ["bench", "failover", "--in-flight", "8", "--times"];
    let json = ["2", "--output", "json"];
    let report = cluster.raftctl(&[&failover[..], &json].concat()).ok();
    let report = report.json();
    for gap in ["read_gap", "write_gap"] {
        let each = report[gap]["each_ms"].as_array().unwrap();
        assert_eq!(each.len(), 2, "{report:#}");
        let is_positive = |ms: &serde_json::Value| ms.as_f64().unwrap() > 0.0;
        assert!(each.iter().all(is_positive), "{report:#}");
    }
    assert_eq!(report["failed"], serde_json::json!({}), "{report:#}");
    assert!(report["answered"].as_u64().unwrap() > 10, "{report:#}");
    interrupted(&cluster, &["bench", "failover"], "1 of 20", || {}).code(1);
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
