//! Clients that connect and do nothing: many of them, or such that say nothing at all.

use crate::cluster::{BINARY, Cluster, SOON, eventually};
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How every HTTP/2 connection begins: the preface, then the settings, here none.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One node that may have so many files open: the soft limit as it starts, and the hard one.
async fn node_with_files(soft: u32, hard: u32) -> Cluster {
    let mut cluster = Cluster::new(1, &["--quiet"]);
    let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\"");
    let child = Command::new("sh")
        .args(["-c", &limits, "sh", BINARY])
        .args(cluster.arguments(1))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cluster.adopt(1, child);
    cluster.leader().await;
    cluster
}

async fn connect(cluster: &Cluster, first_bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.client_address(1)).await.unwrap();
    stream.write_all(first_bytes).await.unwrap();
    stream
}

// More idle clients than the process may have files open: those for whom there is no place wait
// outside, and the disk has the files that it needs.
#[tokio::test]
async fn idle_clients_take_no_file_from_the_disk() {
    let mut cluster = node_with_files(64, 160).await;
    let mut early = cluster.kv(1);
    let set = |key: &str| raftkv::kv::SetRequest {
        key: key.into(),
        ..Default::default()
    };
    early.set(set("before")).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(connect(&cluster, HELLO).await);
    }
    for stream in &mut idle[..60] {
        let mut settings = [0; 9];
        let answer = timeout(SOON, stream.read_exact(&mut settings)).await;
        answer.expect("a place for this one").unwrap();
    }
    // metadata.txt is made anew for each of these, which takes a file.
    for key in ["during", "and", "again"] {
        let index = early
            .set(set(key))
            .await
            .unwrap()
            .into_inner()
            .applied_index;
        eventually("the new metadata.txt", async || {
            let text = cluster.text(1, "metadata.txt");
            text.contains(&format!("commitLength {index}\n"))
                .then_some(())
        })
        .await;
    }
    drop(idle);
    cluster.set(None, "afterwards", "v").await;
    assert_eq!(cluster.terminate(1).await.code(), Some(0));
}

// Whoever connects and says nothing, or only half of a hello, gives the place back soon.
#[tokio::test]
async fn silent_connections_lock_nobody_out() {
    let cluster = node_with_files(160, 160).await;
    let mut silent = Vec::new();
    for number in 0..160 {
        let first_bytes = &HELLO[..number % 20];
        silent.push(connect(&cluster, first_bytes).await);
    }
    let served = timeout(SOON, cluster.try_set(1, None, "k", "v")).await;
    served.expect("a place among the silent").unwrap();
    let mut stream = silent.pop().unwrap();
    let closed = timeout(SOON, stream.read(&mut [0])).await;
    assert!(!matches!(closed.expect("it is closed"), Ok(1..)));
}
