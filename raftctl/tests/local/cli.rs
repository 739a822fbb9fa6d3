//! The command line where no node is needed: what is wrong is said, and nothing is changed.

use crate::cluster::TestCluster;
use crate::support::{command, raftctl};

// `init` writes a file that is right, and never overwrites one.
#[test]
fn init_writes_a_file_once() {
    let folder = tempfile::tempdir().unwrap();
    raftctl(folder.path(), &["init", "--name", "mine", "--nodes", "3"]).ok();
    let check = raftctl(folder.path(), &["check"]).ok();
    assert!(
        check
            .stdout
            .contains("cluster mine, provider local, 3 nodes"),
        "{check:?}"
    );
    let path = folder.path().join("cluster.yaml");
    let before = std::fs::read_to_string(&path).unwrap();
    raftctl(folder.path(), &["init"])
        .code(2)
        .says("nothing was changed");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    let init = raftctl(folder.path(), &["init", "--force", "-o", "json"]).ok();
    assert_eq!(init.json()["file"], "cluster.yaml");
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("name: demo")
    );
}

// Standard output is no file to begin with.
#[test]
fn init_needs_a_file() {
    let folder = tempfile::tempdir().unwrap();
    raftctl(folder.path(), &["init", "-c", "-"])
        .code(2)
        .says("-c cluster.yaml");
    assert!(!folder.path().join("-").exists());
}

// What can't be a cluster is refused before anything is written.
#[test]
fn init_refuses_wrong_values() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        ["init", "--name", "No Name"],
        ["init", "--provider", "aws"],
        ["init", "--nodes", "0"],
    ] {
        raftctl(folder.path(), &arguments).code(2);
        assert!(!folder.path().join("cluster.yaml").exists());
    }
}

// A wrong cluster.yaml stops every verb, with every error and its line, and nothing is made.
#[test]
fn a_wrong_file_stops_every_verb() {
    let cluster = TestCluster::with(5, "lease: 11s\nunknown: 1\nnodes: 3");
    for verb in [
        &["up"][..],
        &["status"],
        &["kill", "1"],
        &["get", "x"],
        &["down"],
    ] {
        let ended = cluster.raftctl(verb).code(2);
        for text in [
            "cluster.yaml:4: lease is 11s; it must be 2s to 10s",
            "cluster.yaml:5: unknown key unknown",
            "cluster.yaml:6: the key nodes is there twice",
        ] {
            assert!(ended.stderr.contains(text), "{verb:?}: {}", ended.stderr);
        }
        assert!(!cluster.path(".raftctl").exists(), "{verb:?}");
    }
    let check = cluster.raftctl(&["check", "--output", "json"]).code(2);
    assert_eq!(check.json()["problems"].as_array().unwrap().len(), 3);
}

// The file can come through a pipe.
#[test]
fn the_file_can_be_standard_input() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::support::command(folder.path(), &["check", "-c", "-"]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"name: piped\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("cluster piped"),
        "{output:?}"
    );
}

// A missing file says how to get one.
#[test]
fn a_missing_file_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    raftctl(folder.path(), &["status"])
        .code(2)
        .says("raftctl init");
}

// Where there is no terminal, the picture that lives says so, and what there is instead.
#[test]
fn a_picture_needs_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    raftctl(folder.path(), &["top"])
        .code(2)
        .says("`raftctl status` prints the same once");
}

// A missing binary says what to do, and nothing is started.
#[test]
fn a_missing_binary_says_what_to_do() {
    let cluster = TestCluster::with(3, "binary: not/there");
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("correct `binary` in cluster.yaml");
    assert!(!cluster.state("run").exists());
}

// Files that are named and not there: `check` warns, and ssh is not even tried.
#[test]
fn missing_files_are_told_before_they_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    let text = "name: test\nprovider: ssh\nbinary: not/there\nnodes: [{id: 1, host: 127.0.0.1}]\n\
                ssh: {identity_file: no/key}\ntls: on\n";
    std::fs::write(folder.path().join("cluster.yaml"), text).unwrap();
    raftctl(folder.path(), &["check"])
        .ok()
        .says("cluster.yaml:3: binary names ")
        .says("cluster.yaml:5: ssh.identity_file names ");
    let check = raftctl(folder.path(), &["check", "-o", "json"]).ok().json();
    assert_eq!(check["warnings"].as_array().unwrap().len(), 2, "{check:#}");
    let reached = raftctl(folder.path(), &["exec", "1", "--", "true"]).code(2);
    let reached = reached.says("no/key, which is not there");
    assert!(!reached.stderr.contains("Permission denied"), "{reached:?}");
    // The agent may hold the key whose public half is named.
    std::fs::create_dir(folder.path().join("no")).unwrap();
    std::fs::write(folder.path().join("no/key.pub"), "").unwrap();
    let check = raftctl(folder.path(), &["check", "-o", "json"]).ok().json();
    assert_eq!(check["warnings"].as_array().unwrap().len(), 1, "{check:#}");
}

// A host that reads like an option of ssh never gets there.
#[test]
fn a_host_is_no_option_of_ssh() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "name: test\nprovider: ssh\nnodes:\n  - {id: 1, host: \"-oProxyCommand=touch ./made\"}\n";
    std::fs::write(folder.path().join("cluster.yaml"), text).unwrap();
    for verb in [&["check"][..], &["status"], &["ssh", "1"]] {
        raftctl(folder.path(), verb)
            .code(2)
            .says("cluster.yaml:4: nodes[].host can't be ");
    }
    assert!(!folder.path().join("made").exists());
}

// A length of time has a unit, whatever the number; the message says what would be right.
#[test]
fn a_time_has_a_unit() {
    let cluster = TestCluster::new(1);
    for wrong in [
        &["partition", "1", "--for", "5"][..],
        &["status", "--timeout", "5"],
        &["status", "--timeout", "0"],
        &["bench", "--duration", "5"],
        &["down", "--lock-wait", "5"],
    ] {
        cluster
            .raftctl(wrong)
            .code(2)
            .says("as in 500ms, 30s or 2m");
    }
}

// Someone who changes the cluster is waited for as long as is asked for, and named.
#[test]
fn a_lock_is_waited_for() {
    let cluster = TestCluster::new(1);
    let folder = cluster.state("");
    std::fs::create_dir_all(&folder).unwrap();
    let file = std::fs::File::create(folder.join("lock")).unwrap();
    file.lock().unwrap();
    let refused = cluster.raftctl(&["down", "--lock-wait", "0s"]).code(1);
    let refused = refused.says("--lock-wait");
    assert!(
        refused.took < std::time::Duration::from_secs(5),
        "{refused:?}"
    );
    let mut waiting = command(cluster.folder(), &["down", "--lock-wait", "1m"])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(waiting.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
    assert_eq!(said, "waiting until another raftctl is done\n");
    assert!(waiting.try_wait().unwrap().is_none(), "it has to wait");
    drop(file);
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(waiting.wait().unwrap().success(), "{said}");
}

// Scenarios can be read by programs, too: one as a list of one.
#[test]
fn scenarios_are_shown_to_programs() {
    let folder = tempfile::tempdir().unwrap();
    let show = |name: &str| {
        let shown = raftctl(folder.path(), &["scenario", "show", name, "-o", "json"]);
        shown.ok().json().as_array().unwrap().clone()
    };
    let one = show("startup");
    assert_eq!((one.len(), &one[0]["name"]), (1, &"startup".into()));
    assert!(
        one[0]["text"]
            .as_str()
            .unwrap()
            .contains("scenario: startup")
    );
    assert_eq!(one[0]["steps"][0], "stop all");
    assert_eq!(show("all").len(), 6);
}

// A history that is not there is a slip of the operator's.
#[test]
fn verify_names_a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    raftctl(folder.path(), &["scenario", "verify", "nope"])
        .code(2)
        .says("cannot open nope");
}

// In a checkout without a raft-node `plan` says that it would be built, and `up` builds it.
#[test]
fn a_missing_binary_is_built_in_a_checkout() {
    let checkout = tempfile::tempdir().unwrap();
    let path = |name: &str| checkout.path().join(name);
    for folder in ["target/debug", "node/src"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    // By a program of its own: a process that another test starts meanwhile must not hold it open.
    let copied = std::process::Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_raftctl"))
        .arg(path("target/debug/raftctl"))
        .status();
    assert!(copied.unwrap().success());
    std::fs::write(path("Cargo.toml"), "[workspace]\nmembers = [\"node\"]\n").unwrap();
    let package = "[package]\nname = \"raft-node\"\nversion = \"0.1.0\"\n";
    std::fs::write(path("node/Cargo.toml"), package).unwrap();
    let source = "fn main() { eprintln!(\"built just now\"); std::process::exit(1) }";
    std::fs::write(path("node/src/main.rs"), source).unwrap();

    let cluster = TestCluster::new(1);
    let run = |verb: &str| {
        let mut command = std::process::Command::new(path("target/debug/raftctl"));
        command
            .arg(verb)
            .current_dir(cluster.folder())
            .env("CARGO_TARGET_DIR", path("other"));
        command.output().unwrap()
    };
    let plan = String::from_utf8(run("plan").stdout).unwrap();
    assert!(
        plan.contains("1. build raft-node: cargo build --package raft-node"),
        "{plan}"
    );
    assert!(
        !path("target/debug/raft-node").exists(),
        "a plan builds nothing"
    );
    let up = run("up");
    let said = String::from_utf8(up.stderr).unwrap();
    assert!(
        said.contains("raft-node is not there yet: cargo build"),
        "{said}"
    );
    assert!(
        said.contains("it printed last:\n  built just now"),
        "{said}"
    );
    assert_eq!(up.status.code(), Some(30));
}

// A program that is not raft-node does not come up; the message is its own, not a timeout.
#[test]
fn a_wrong_binary_shows_its_own_words() {
    let cluster = TestCluster::with(3, "binary: /bin/ls");
    let up = cluster.raftctl(&["up"]).code(30);
    assert!(up.stderr.contains("it printed last:"), "{}", up.stderr);
    assert!(
        up.stderr.contains("No such file or directory"),
        "{}",
        up.stderr
    );
    assert!(up.took < crate::support::PATIENCE / 4, "{up:?}");
}

// A wrong selector says what is possible.
#[test]
fn a_wrong_selector_says_what_is_possible() {
    let cluster = TestCluster::new(5);
    for verb in [
        "kill",
        "stop",
        "start",
        "restart",
        "pause",
        "resume",
        "partition",
        "logs",
    ] {
        let ended = cluster.raftctl(&[verb, "6"]).code(2);
        assert!(
            ended.stderr.contains("an id (1, 2, 3, 4, 5)"),
            "{verb}: {}",
            ended.stderr
        );
    }
    cluster
        .raftctl(&["kill", "folowers"])
        .code(2)
        .says("did you mean followers?");
    // Nothing is wrong with the word: there is no leader, as for `transfer`.
    for verb in [
        &["kill", "leader"][..],
        &["partition", "followers"],
        &["transfer"],
    ] {
        cluster.raftctl(verb).code(30).says("leader");
    }
    cluster
        .raftctl(&["kill", "1,,2"])
        .code(2)
        .says("\"1,,2\" has nothing on one side of a comma");
    cluster
        .raftctl(&["partition", "1,2|2,3"])
        .code(2)
        .says("node 2 is on two sides");
    cluster
        .raftctl(&["partition", "all"])
        .code(2)
        .says("nobody on the other side");
    cluster
        .raftctl(&["partition", "1", "--for", "2h"])
        .code(2)
        .says("1h");
}

// There is nothing to log in to on this machine.
#[test]
fn ssh_is_not_for_local() {
    TestCluster::new(1)
        .raftctl(&["ssh", "1"])
        .code(2)
        .says("runs on this machine")
        .says("raftctl exec 1 -- COMMAND");
}

// A command runs once on a machine, however many nodes are there; one that ran is not said to have
// been impossible.
#[test]
fn a_command_runs_once_a_machine() {
    let cluster = TestCluster::new(3);
    let count = format!("echo x >> {}; echo hi", cluster.path("ran").display());
    let ran = cluster.raftctl(&["exec", "all", "--", &count]).ok();
    let ran = ran.says("nodes 1, 2 and 3 share this machine");
    assert_eq!(ran.stdout, "nodes 1, 2 and 3: hi\n");
    assert_eq!(std::fs::read_to_string(cluster.path("ran")).unwrap(), "x\n");
    let one = cluster.raftctl(&["exec", "2", "--", "echo hi"]).ok();
    assert_eq!((&*one.stdout, &*one.stderr), ("node 2: hi\n", ""));
    let failed = cluster.raftctl(&["exec", "1", "--", "false"]).code(20);
    assert_eq!(
        failed.stderr,
        "error: this machine: the command ended with exit status 1\n"
    );
    let failed = cluster
        .raftctl(&["exec", "1-2", "-o", "json", "--", "exit 3"])
        .code(20);
    let hosts = failed.json()["hosts"].clone();
    assert_eq!(hosts.as_array().unwrap().len(), 1, "{hosts:#}");
    assert_eq!(
        (&hosts[0]["status"], &hosts[0]["nodes"]),
        (&3.into(), &serde_json::json!([1, 2]))
    );
}

// A port that another program listens on is named, with the program, and nothing is started.
#[test]
fn a_port_in_use_is_named_and_nothing_is_started() {
    let cluster = TestCluster::new(3);
    let port = cluster.ports.base + 12;
    let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    for verb in ["plan", "up"] {
        let ended = cluster.raftctl(&[verb]).code(2);
        assert!(
            ended
                .stderr
                .contains(&format!("port {port} of node 2 is in use")),
            "{ended:?}"
        );
        if cfg!(target_os = "linux") {
            let own = format!("process {}", std::process::id());
            assert!(ended.stderr.contains(&own), "{ended:?}");
        }
        assert!(!cluster.state("run").exists(), "{verb}");
    }
}

// Every shell gets its completions, and they know the verbs.
#[test]
fn completions_know_the_verbs() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ended = raftctl(folder.path(), &["completions", shell]).ok();
        for verb in ["partition", "scenario", "doctor"] {
            assert!(ended.stdout.contains(verb), "{shell}: {verb}");
        }
    }
}

/// The verbs that `raftctl --help` lists.
fn verbs() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let help = raftctl(folder.path(), &["--help"]).ok().stdout;
    let (verbs, _) = help.split_once("\nGlobal options:\n").unwrap();
    let (_, verbs) = verbs.split_once("Usage: ").unwrap();
    let lines = verbs.lines().filter(|line| line.starts_with("  "));
    let verbs = lines.map(|line| line.split_whitespace().next().unwrap().to_owned());
    verbs.collect()
}

// The README tells all verbs that there are, and no other.
#[test]
fn the_readme_knows_the_verbs() {
    let readme = include_str!("../../../README.md");
    let section = readme.split("\n## Verbs\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let mut told: Vec<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let mut there = verbs();
    told.sort_unstable();
    there.sort_unstable();
    assert_eq!(told, there);
}

// Every verb explains itself.
#[test]
fn every_verb_has_help() {
    let folder = tempfile::tempdir().unwrap();
    let verbs = verbs();
    assert!(verbs.len() > 25, "{verbs:?}");
    for verb in verbs {
        let help = raftctl(folder.path(), &[&verb, "--help"]).ok().stdout;
        assert!(help.contains("Usage: raftctl"), "{verb}: {help}");
    }
}

// A cluster that was never up can be looked at, planned and taken down.
#[test]
fn a_cluster_that_never_was_is_no_trouble() {
    let cluster = TestCluster::new(3);
    let status = cluster.status();
    assert_eq!(status["leader"], serde_json::Value::Null);
    assert_eq!(status["nodes"][2]["process"], "stopped");
    assert_eq!(status["nodes"][2]["role"], "unreachable");
    let down = cluster.raftctl(&["down"]).ok();
    assert!(down.stdout.contains("no process, and no data"), "{down:?}");
    let down = cluster.raftctl(&["down", "-o", "json"]).ok().json();
    assert!(down["data"].is_null(), "{down:#}");
    cluster.raftctl(&["down", "--purge"]).code(2).says("--yes");
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    assert!(!cluster.path(".raftctl/test").exists());
}
