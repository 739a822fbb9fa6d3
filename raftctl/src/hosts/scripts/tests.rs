//! The scripts as text, and that shells take them.

use super::*;
use crate::hosts::layout::HostLayout;

fn node(id: u64) -> NodeLayout {
    HostLayout::new("/base").node(id)
}

fn look_at(ports: &[u16], filter: Option<&str>) -> LookAt {
    LookAt {
        layout: node(1),
        ports: ports.to_vec(),
        filter: filter.map(str::to_owned),
    }
}

/// A script without its functions: the calls alone.
fn calls(script: &str) -> String {
    let functions = [PRELUDE, START, PORTS].iter().flat_map(|part| part.lines());
    let functions: Vec<&str> = functions.collect();
    let is_call = |line: &&str| {
        !functions.contains(line) && line.starts_with(|c: char| c.is_ascii_lowercase())
    };
    let lines: Vec<&str> = script.lines().filter(is_call).collect();
    lines
        .iter()
        .filter(|line| !line.ends_with("() {"))
        .map(|line| format!("{line}\n"))
        .collect()
}

// Whatever is in a word, it stays one word, and nothing in it is run.
#[test]
fn words_are_quoted() {
    assert_eq!(quote("/a/b-1.x"), "/a/b-1.x");
    assert_eq!(quote(""), "''");
    assert_eq!(quote("a b"), "'a b'");
    assert_eq!(quote("$(reboot)`x`\\"), "'$(reboot)`x`\\'");
    assert_eq!(quote("it's"), r"'it'\''s'");
    assert_eq!(quote("a\nb"), "'a\nb'");
    assert_eq!(quote("~root"), "'~root'");
}

// Nodes are all started before any is waited for, each with its own arguments.
#[test]
fn start_is_one_call_a_node() {
    let start_node = |id| StartNode {
        layout: node(id),
        executable: "/my bin/raft-node".into(),
        arguments: vec!["--id".into(), id.to_string()],
        sha256: "abcd".into(),
    };
    assert_eq!(
        calls(&start(&[start_node(1), start_node(2)])),
        "alone /base/run\n\
         start 1 /base/run/node_1.pid /base/run/node_1.args /base/run/node_1.log \
         /base/logs_node_1 '/my bin/raft-node' abcd --id 1\n\
         start 2 /base/run/node_2.pid /base/run/node_2.args /base/run/node_2.log \
         /base/logs_node_2 '/my bin/raft-node' abcd --id 2\n\
         settle 1 /base/run/node_1.pid /base/run/node_1.args\n\
         settle 2 /base/run/node_2.pid /base/run/node_2.args\n\
         echo end=ok\n"
    );
}

// Every node gets its signal before any is waited for, and a paused one is woken to obey.
#[test]
fn signals_are_sent_to_all_first() {
    assert_eq!(
        calls(&signal(&[node(1), node(3)], NodeSignal::Stop, 2500)),
        "send 1 /base/run/node_1.pid TERM CONT\n\
         send 3 /base/run/node_3.pid TERM CONT\n\
         obey 1 /base/run/node_1.pid stopped 25\n\
         obey 3 /base/run/node_3.pid stopped 25\n\
         echo end=ok\n"
    );
    let kill = signal(&[node(1)], NodeSignal::Kill, 1);
    assert!(
        calls(&kill).contains("pid KILL\nobey 1 /base/run/node_1.pid stopped 1\n"),
        "{kill}"
    );
    let pause = signal(&[node(1)], NodeSignal::Pause, 1);
    assert!(
        calls(&pause).contains("pid STOP\nobey 1 /base/run/node_1.pid paused 1\n"),
        "{pause}"
    );
}

// Ports are looked for in the form that the kernel shows them.
#[test]
fn facts_ask_for_ports_in_hexadecimal() {
    assert_eq!(
        calls(&facts(
            "/base",
            &[look_at(&[7401, 7501], Some("raftkv_demo_1"))]
        )),
        "host /base\n\
         setting /base\n\
         report 1 /base/run/node_1.pid /base/run/node_1.args\n\
         data 1 /base/logs_node_1 /base/run/node_1.pid\n\
         ports 1 /base/run/node_1.pid '1CE9|1D4D'\n\
         filtered 1 raftkv_demo_1\n\
         echo end=ok\n"
    );
}

// No process is ever looked for by name.
#[test]
fn processes_are_never_matched_by_name() {
    for text in [PRELUDE, START, PORTS] {
        for tool in ["pkill", "killall", "pgrep", "pidof", "ps aux", "ps -e"] {
            assert!(!text.contains(tool), "{tool}");
        }
    }
}

// Every script is one that a POSIX shell can read, and says at its end that it came there.
#[test]
fn shells_read_every_script() {
    let nodes = [node(1), node(2)];
    let start_node = StartNode {
        layout: node(1),
        executable: "/x".into(),
        arguments: vec!["it's".into()],
        sha256: "a".into(),
    };
    let with_end = [
        start(&[start_node]),
        signal(&nodes, NodeSignal::Resume, 100),
        facts("/base", &[look_at(&[1], Some("t"))]),
        tail(&nodes),
        clean(&nodes),
        purge(&nodes, None),
        purge(&nodes, Some("/opt/raftkv/demo")),
    ];
    for script in &with_end {
        assert!(script.ends_with("echo end=ok\n"), "{script}");
    }
    for script in with_end.iter().chain([&fetch(&node(1), &["a b", "c"])]) {
        let status = std::process::Command::new("sh")
            .args(["-n", "-c", script])
            .status();
        assert!(status.unwrap().success(), "{script}");
    }
}
