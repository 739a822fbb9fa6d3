//! Reading, writing and the shell from the command line.

use std::io::Write as _;
use std::process::Stdio;

use crate::cluster::TestCluster;
use crate::support::{Ended, command};

/// Runs raftctl with something on its standard input.
pub fn with_input(cluster: &TestCluster, arguments: &[&str], input: &[u8]) -> Ended {
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
