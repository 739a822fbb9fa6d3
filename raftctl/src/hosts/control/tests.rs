//! Answers of hosts, right and wrong, from a transport that only plays them back.

use std::sync::Arc;

use super::*;
use crate::scripts::layout::HostLayout;
use crate::transport::fake::{Answer, Fake};

const DEADLINE: Duration = Duration::from_secs(1);

/// A host that answers every script in the same way.
fn host(stdout: &'static str, stderr: &'static str, status: i32) -> Host {
    let answer = move |_: &Request<'_>| {
        Ok(Answer::Ran {
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
            status,
        })
    };
    Host {
        transport: Arc::new(Fake("n1", answer)),
        layout: HostLayout::new("/base"),
        nodes: vec![1, 2],
    }
}

// All that a host tells is understood: nodes that live and that don't, and ports that are taken.
#[tokio::test]
async fn facts_are_read() {
    let host = host(
        "host.system=Linux\nhost.machine=aarch64\nhost.disk_free_kb=4096\n\
         1.state=running\n1.record=present\n1.pid=77\n1.executable=/a=b/raft-node\n1.sha256=ab\n\
         1.argument=--id\n1.argument=1\n1.data=present\n\
         2.state=stopped\n2.record=absent\n2.data=absent\n\
         2.port_taken=7402 12 /usr/bin/my server\n2.port_taken=7502 ? ?\n2.filtered=yes\nend=ok\n",
        "",
        0,
    );
    let look_at = |id| LookAt {
        layout: host.layout.node(id),
        ports: Vec::new(),
        filter: None,
    };
    let nodes = [look_at(1), look_at(2)];
    let facts = facts(&host, &nodes, DEADLINE).await.unwrap();
    assert_eq!(
        (&*facts.system, &*facts.machine, facts.disk_free_kib),
        ("Linux", "aarch64", 4096)
    );
    let [one, two] = facts.nodes.as_slice() else {
        panic!("{facts:?}")
    };
    assert_eq!((one.is_filtered, two.is_filtered), (false, true));
    assert_eq!(
        (one.state, one.pid, one.has_data),
        (ProcessState::Running, Some(77), true)
    );
    assert_eq!(one.executable.as_deref(), Some("/a=b/raft-node"));
    assert_eq!(one.arguments, ["--id", "1"]);
    assert_eq!((two.state, two.has_record), (ProcessState::Stopped, false));
    let taken: Vec<String> = two
        .taken_ports
        .iter()
        .map(|taken| format!("{} {}", taken.port, taken.owner))
        .collect();
    assert_eq!(
        taken,
        [
            "7402 process 12 (/usr/bin/my server)",
            "7502 another user's process"
        ]
    );
}

// An answer that breaks off is a lost connection, never a success.
#[tokio::test]
async fn an_answer_that_breaks_off_is_lost() {
    let host = host("1.was=running\n1.state=stopped\n", "", 0);
    let error = signal(&host, &[1], NodeSignal::Kill, None, DEADLINE, DEADLINE)
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 10, "{error}");
}

// A script that fails tells why, and where.
#[tokio::test]
async fn a_failing_script_tells_why() {
    let broken = host("", "sh: disk on fire\n", 1);
    let error = clean(&broken, &[1], DEADLINE).await.unwrap_err();
    assert_eq!(error.exit_code(), 20);
    assert_eq!(
        error.to_string(),
        "n1: cannot remove stale pid files: sh: disk on fire (exit status 1)"
    );
    // A node that the script could not even try says nothing; its error output does.
    let full = host("end=ok\n", "mkdir: No space left on device\n", 0);
    let error = start(&full, &[start_node()], DEADLINE).await.unwrap_err();
    assert!(
        error.to_string().contains("No space left on device"),
        "{error}"
    );
}

// A file that does not exist is not the same as one that can't be read.
#[tokio::test]
async fn a_missing_file_is_no_failure() {
    let mut sink = Vec::new();
    let missing = host("", "", scripts::NO_SUCH_FILE);
    assert!(
        !fetch(&missing, 1, &["a"], &mut sink, DEADLINE)
            .await
            .unwrap()
    );
    let unreadable = host("half", "cat: Input/output error", 1);
    fetch(&unreadable, 1, &["a"], &mut sink, DEADLINE)
        .await
        .unwrap_err();
}

fn start_node() -> StartNode {
    StartNode {
        layout: HostLayout::new("/base").node(1),
        executable: "/x".into(),
        arguments: vec![],
        sha256: "a".into(),
    }
}
