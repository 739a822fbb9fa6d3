//! Clients that connect and do nothing: many of them, or such that say nothing at all.

use crate::clients::Pipe;
use crate::cluster::{BINARY, Cluster, SOON, eventually, reason};
use raftkv::kv::ErrorReason;
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

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
        let set = async || cluster.try_set(1, None, key, "v").await.ok();
        let index = eventually("a place", set).await.applied_index;
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

/// Connections of a library, which answers pings, on which nothing is ever called.
async fn idle(address: &str, count: usize) -> Vec<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(endpoint.connect().await.unwrap());
    }
    idle
}

// Connections on which nothing is called keep nobody out, however many they are and however well
// they answer pings: whoever has been idle for longest makes way.
#[tokio::test]
async fn idle_connections_make_way() {
    let cluster = node_with_files(160, 160).await;
    let _idle = idle(&cluster.client_address(1), 160).await;
    for number in 0..3 {
        let key = format!("key{number}");
        let served = timeout(SOON, cluster.set(None, &key, "v")).await;
        served.expect("a place among the idle");
    }
    assert!(cluster.status(1).await.is_some());
}

// Where all places are taken by clients that are busy, operators still get in, and nobody else.
#[tokio::test]
async fn operators_have_places_of_their_own() {
    let cluster = node_with_files(160, 160).await;
    let overloaded = ErrorReason::Overloaded.as_str_name();
    let (mut busy, mut others) = (Vec::new(), 0);
    let refusal = loop {
        match Pipe::try_open(&cluster, 1).await {
            Ok(pipe) => busy.push(pipe),
            Err(refusal) if reason(&refusal) == overloaded => break refusal,
            // A leader that lost its lease for a moment, say.
            Err(_) if others < 100 => others += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert!(busy.len() < 160, "more streams than places");
    };
    assert!(!busy.is_empty(), "{refusal:?}");
    eventually("an operator's place", async || cluster.status(1).await).await;
    let refused = cluster.try_set(1, None, "k", "v").await.unwrap_err();
    assert!(refused.message().contains("operators"), "{refused:?}");
    drop(busy);
    cluster.set(None, "k", "v").await;
}

// Strangers on the peers' port who say nothing there go within seconds, and a peer that comes back
// finds a place.
#[tokio::test]
async fn idle_strangers_keep_no_peer_out() {
    let mut cluster = Cluster::start(3, &["--quiet"]).await;
    cluster.kill(3);
    let leader = cluster.leader_among(&[1, 2]).await;
    let mut strangers = Vec::new();
    for id in [1, 2] {
        let address = cluster.peer_address(id);
        strangers.push(timeout(SOON, idle(&address, 40)).await);
    }
    cluster.spawn(3);
    cluster.connected(leader, 3, true).await;
    cluster.caught_up(&[leader, 3]).await;
}

// Why a peer can't be reached is told once in dump.txt and on standard error, and by the status for
// as long as it lasts.
#[tokio::test]
async fn why_a_peer_cannot_be_reached_is_told() {
    let mut cluster = Cluster::new(3, &[]);
    let mut arguments = cluster.arguments(1);
    let (second, client) = (cluster.peer_address(2), cluster.client_address(2));
    // No name has a part so long, so nobody is asked for it.
    let name = format!("{}.invalid:7400", "x".repeat(64));
    let named = format!("--node=2,{name},{client}");
    for argument in &mut arguments {
        if argument.starts_with(&format!("--node=2,{second}")) {
            argument.clone_from(&named);
        }
    }
    cluster.spawn_with(1, &arguments);
    let reasons = eventually("both reasons", async || {
        let status = cluster.status(1).await?;
        let peers = status.unreachable_peers.into_iter();
        let reasons: Vec<_> = peers.map(|peer| (peer.peer_id, peer.reason)).collect();
        (reasons.len() == 2).then_some(reasons)
    })
    .await;
    let expected = [(2, "name_not_resolved"), (3, "refused")];
    assert_eq!(reasons, expected.map(|(id, why)| (id, why.to_owned())));
    let told = |why: &str| {
        let dump = cluster.text(1, "dump.txt");
        let line = |line: &&str| line.ends_with(&format!("reason={why}"));
        dump.lines().filter(line).count()
    };
    eventually("the lines", async || {
        (told("name_not_resolved") > 0 && told("refused") > 0).then_some(())
    })
    .await;
    let dump = cluster.text(1, "dump.txt");
    let sentence = format!(
        "Error occurred while sending RPC to Node 2.\tpeer=2 address={name} \
         reason=name_not_resolved"
    );
    assert!(dump.contains(&sentence), "{dump}");
    assert!(cluster.stderr(1).contains("does not resolve"));
    assert_eq!((told("name_not_resolved"), told("refused")), (1, 1));
}
