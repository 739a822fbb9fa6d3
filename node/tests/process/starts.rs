//! Starts that must fail, and how: one clear line, the right exit code, nothing changed.

use crate::cluster::{BINARY, Cluster, eventually};
use std::net::TcpListener;
use std::process::{Command, Output};

/// Runs the node to its end.
fn run(arguments: &[String]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

/// Exit code and the last line on standard error.
fn failure(output: &Output) -> (Option<i32>, String) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().last().unwrap_or_default();
    (output.status.code(), line.to_owned())
}

#[test]
fn the_version() {
    let output = run(&["--version".into()]);
    assert_eq!(output.status.code(), Some(0));
    // The second line is what raftctl looks for before it goes back to a release.
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("raft-node {version}\nreads formats up to 3\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

// Wrong usage ends with 2, says what would be right, and makes no directory.
#[test]
fn wrong_usage() {
    let cluster = Cluster::new(3, &[]);
    for (flag, words) in [
        ("--lease-ms=1000", "2000 to 10000"),
        ("--lease-ms=11000", "2000 to 10000"),
        (
            "--node=2,127.0.0.1:1,127.0.0.1:2",
            "the id 2 is given twice",
        ),
        ("--election-timeout-ms=7", "1000-2000"),
        ("--heartbeat-ms=9223372036854775808", "1..=30000"),
        ("--what", "unexpected argument"),
        ("@no-such-file", "no-such-file"),
    ] {
        let mut arguments = cluster.arguments(1);
        arguments.push(flag.into());
        let output = run(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag}: {stderr}");
        assert!(stderr.contains(words), "{flag}: {stderr}");
    }
    let output = run(&["--id=1".into()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!cluster.data_dir(1).exists());
}

// The same arguments from a file, one a line.
#[tokio::test]
async fn arguments_from_a_file() {
    let cluster = Cluster::new(1, &["--quiet"]);
    let file = cluster.directory.path().join("node.args");
    std::fs::write(&file, cluster.arguments(1).join("\n")).unwrap();
    let mut child = Command::new(BINARY)
        .arg(format!("@{}", file.display()))
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    cluster.leader().await;
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.stdout.is_empty(), "--quiet");
}

// A directory belongs to one process; the second is told whose it is, and the first goes on.
#[tokio::test]
async fn a_locked_directory() {
    let cluster = Cluster::start(1, &[]).await;
    let pid = cluster.told(1).await.pid;
    let (code, line) = failure(&run(&cluster.arguments(1)));
    assert_eq!(code, Some(1), "{line}");
    assert!(
        line.contains(&format!("is in use by process {pid}")),
        "{line}"
    );
    cluster.set(None, "k", "v").await;
}

#[test]
fn a_port_in_use() {
    let cluster = Cluster::new(1, &[]);
    for address in [cluster.peer_address(1), cluster.client_address(1)] {
        let taken = TcpListener::bind(&address).unwrap();
        let (code, line) = failure(&run(&cluster.arguments(1)));
        assert_eq!(code, Some(1), "{line}");
        assert!(
            line.contains(&address) && line.contains("another port"),
            "{line}"
        );
        assert!(
            !cluster.data_dir(1).join("logs.txt").exists(),
            "nothing was begun"
        );
        drop(taken);
    }
}

#[test]
fn a_directory_that_cannot_be_made() {
    let cluster = Cluster::new(1, &[]);
    std::fs::write(cluster.data_dir(1), "a file").unwrap();
    let (code, line) = failure(&run(&cluster.arguments(1)));
    assert_eq!(code, Some(1), "{line}");
    assert!(
        line.contains("cannot create") && line.contains("logs_node_1"),
        "{line}"
    );
}

// A supervisor that asks for it is told when the node is ready, not before.
#[tokio::test]
async fn the_supervisor_is_told() {
    let mut cluster = Cluster::new(1, &[]);
    let path = cluster.directory.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let child = Command::new(BINARY)
        .args(cluster.arguments(1))
        .env("NOTIFY_SOCKET", &path)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    cluster.adopt(1, child);
    let mut buffer = [0; 64];
    let told = tokio::time::timeout(crate::cluster::SOON, socket.recv(&mut buffer));
    let length = told.await.expect("told in time").unwrap();
    assert_eq!(&buffer[..length], b"READY=1\n");
    assert!(cluster.status(1).await.is_some(), "it answers now");
}

// raftctl has systemd watch a release that says in its help that it can be watched.
#[test]
fn the_help_says_that_it_can_be_watched() {
    let output = run(&["--help".into()]);
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("WatchdogSec="), "{help}");
}

// A node of another cluster, or one that was given the wrong address, gets no say.
#[tokio::test]
async fn strangers_are_refused() {
    let mut cluster = Cluster::new(2, &[]);
    cluster.spawn(1);
    let mut arguments = cluster.arguments(2);
    arguments[1] = "--cluster=another".into();
    cluster.spawn_with(2, &arguments);
    eventually("the refusal", async || {
        let refusal = "it refuses this node: this is a node of cluster 'test', not 'another'";
        cluster.stderr(2).contains(refusal).then_some(())
    })
    .await;
    let status = cluster.told(1).await;
    assert_eq!(
        (status.term, status.leader_id),
        (0, 0),
        "no vote came through"
    );
}
