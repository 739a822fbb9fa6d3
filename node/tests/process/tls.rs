//! TLS and roles: who is let in, and to do what.

use crate::authority::{Authority, Wanted, of_node, write_folder};
use crate::cluster::{BINARY, Cluster, SOON, eventually, reason};
use crate::secured::{CLUSTER, Through};
use raftkv::admin::admin_client::AdminClient;
use raftkv::admin::{BackupRequest, CutLinksRequest, StatusRequest};
use raftkv::kv::classic_client::ClassicClient;
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::operation::Operation;
use raftkv::kv::outcome::Outcome;
use raftkv::kv::{self, GetRequest, ListRequest, ServeClientArgs, SetRequest};
use raftkv::raft::raft_client::RaftClient;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

fn get(key: &str) -> GetRequest {
    GetRequest {
        key: key.into(),
        ..GetRequest::default()
    }
}

fn set(key: &str) -> SetRequest {
    SetRequest {
        key: key.into(),
        value: "v".into(),
        ..SetRequest::default()
    }
}

// With TLS a cluster does all that it does without: it elects, replicates, survives its leader and takes
// it back.
#[tokio::test]
async fn a_secured_cluster_serves() {
    let mut cluster = Cluster::start_secured(3, &["--quiet"]).await;
    cluster.set(None, "k", "before").await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.leader_among(&cluster.others(leader)).await;
    cluster
        .set_among(&cluster.others(leader), "k", "after")
        .await;
    cluster.spawn(leader);
    let next = cluster.leader().await;
    cluster.connected(next, leader, true).await;
    assert_eq!(cluster.get("k").await.as_deref(), Some("after"));
}

// Without a certificate of a client of this cluster nobody gets in: not in clear text, not with none, not
// with a node's, not with that of another authority or cluster.
#[tokio::test]
async fn nobody_comes_in_uninvited() {
    let cluster = Cluster::start_secured(1, &["--quiet"]).await;
    let secured = cluster.secured.as_ref().unwrap();
    let own = &secured.authority;
    let other = Authority::new("other");
    let pairs = [
        own.node(CLUSTER, 2),
        own.role("prod", "bob", "admin"),
        own.role(CLUSTER, "bob", "root"),
        other.role(CLUSTER, "bob", "admin"),
        own.issue(&Wanted {
            ends_in: Some(-60),
            uris: vec![format!("raftkv://{CLUSTER}/role/admin")],
            ..Wanted::default()
        }),
    ];
    let mut ways = vec![None, Some(Through::new(&own.pem, None))];
    ways.extend(
        pairs
            .iter()
            .map(|pair| Some(Through::new(&own.pem, Some(pair)))),
    );
    for (number, way) in ways.into_iter().enumerate() {
        let mut kv = KvClient::new(cluster.channel_through(1, way));
        let refused = timeout(SOON, kv.get(get("k"))).await.expect("in time");
        let refused = refused.unwrap_err();
        // It comes from the connection: no node has said it.
        assert!(refused.details().is_empty(), "way {number}: {refused:?}");
    }
    for cause in [
        "clear_text",
        "no_certificate",
        "certificate_of_wrong_name",
        "certificate_of_unknown_authority",
        "certificate_expired",
    ] {
        let line = format!("reason={cause} ");
        eventually(cause, async || {
            cluster.text(1, "dump.txt").contains(&line).then_some(())
        })
        .await;
    }
    assert!(cluster.status(1).await.is_some());
}

async fn greet(cluster: &Cluster, through: Through, id: u64) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.peer_address(1)));
    let channel = endpoint.unwrap().connect_with_connector(through).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = tonic::Request::new(tokio_stream::pending());
    for (name, value) in [
        ("raft-cluster", CLUSTER.to_owned()),
        ("raft-node-id", id.to_string()),
        ("raft-target-node-id", "1".to_owned()),
        ("raft-members", "1,2,3".to_owned()),
        ("raft-lease-ms", "2000".to_owned()),
        ("raft-reads-format", "99".to_owned()),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    RaftClient::new(channel).exchange(request).await.map(drop)
}

// The port for peers takes nodes of this cluster, each for itself alone; no client, not even an
// administrator, speaks for a node.
#[tokio::test]
async fn peers_speak_for_themselves() {
    let mut cluster = Cluster::new(3, &["--quiet"]);
    cluster.secure();
    cluster.spawn(1);
    eventually("the node", async || cluster.status(1).await).await;
    let secured = cluster.secured.as_ref().unwrap();
    let own = &secured.authority;
    let node = |id| Through::new(&own.pem, Some(&own.node(CLUSTER, id)));
    assert!(greet(&cluster, node(2), 2).await.is_ok());
    let posing = greet(&cluster, node(2), 3).await.unwrap_err();
    assert_eq!(posing.code(), Code::PermissionDenied, "{posing:?}");
    let words = "its certificate is that of node 2, and it says that it is node 3";
    assert_eq!(posing.message(), words);
    for stranger in [secured.admin(), secured.role("bob", "writer"), node(1)] {
        let refused = greet(&cluster, stranger, 2).await.unwrap_err();
        assert_ne!(refused.code(), Code::PermissionDenied, "{refused:?}");
    }
}

/// The outcome of one operation of a stream.
async fn piped(channel: &Channel, operation: Operation) -> Result<(), String> {
    let operation = kv::Operation {
        id: 1,
        operation: Some(operation),
    };
    let request = kv::PipelineRequest {
        operations: vec![operation],
    };
    let mut kv = KvClient::new(channel.clone());
    let replies = kv.pipeline(tokio_stream::iter([request])).await;
    let mut replies = replies.map_err(|status| status.message().to_owned())?;
    let reply = replies.get_mut().message().await.unwrap().unwrap();
    match reply.outcomes.into_iter().next().unwrap().outcome {
        Some(Outcome::Error(error)) => {
            assert_eq!(error.reason(), kv::ErrorReason::NotAllowed);
            Err(error.message)
        }
        _ => Ok(()),
    }
}

// A role is enough for its calls and its keys, by whichever way they come; the refusal names what is
// missing, and dump.txt tells of it.
#[tokio::test]
async fn roles_bound_calls_and_keys() {
    let cluster = Cluster::start_secured(1, &["--quiet", "--allow-fault-injection"]).await;
    cluster.set(None, "app/x", "v").await;
    cluster.set(None, "other", "v").await;
    let secured = cluster.secured.as_ref().unwrap();
    let come = |role| cluster.channel_through(1, Some(secured.role("bob", role)));
    let bob = come("writer?prefix=app/");
    let mut kv = KvClient::new(bob.clone());
    assert!(kv.get(get("app/x")).await.unwrap().into_inner().found);
    kv.set(set("app/y")).await.unwrap();
    let list = |prefix: &str| ListRequest {
        prefix: prefix.into(),
        ..ListRequest::default()
    };
    let listed = kv.list(list("app/")).await.unwrap().into_inner();
    assert_eq!(listed.entries.len(), 2);
    let refusals = [
        kv.get(get("other")).await.map(drop),
        kv.set(set("other")).await.map(drop),
        kv.list(list("")).await.map(drop),
        kv.list(list("ap")).await.map(drop),
        kv.list(ListRequest {
            after: Some("app/".into()),
            ..list("")
        })
        .await
        .map(drop),
    ];
    for refused in refusals {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(reason(&refused), "NOT_ALLOWED");
        let words = "the certificate of 'bob' gives writer for 'app/'";
        assert!(refused.message().ends_with(words), "{refused:?}");
    }
    assert_eq!(piped(&bob, Operation::Get(get("app/x"))).await, Ok(()));
    assert_eq!(piped(&bob, Operation::Set(set("app/z"))).await, Ok(()));
    let refused = piped(&bob, Operation::Get(get("other"))).await.unwrap_err();
    assert!(refused.contains("'reader' for 'other'"), "{refused}");
    for operation in [Operation::Set(set("b")), Operation::List(list(""))] {
        assert!(piped(&bob, operation).await.is_err());
    }
    let classic = async |words: &str| {
        let request = words.to_owned();
        let mut client = ClassicClient::new(bob.clone());
        let asked = client.serve_client(ServeClientArgs { request });
        asked.await.map(|reply| reply.into_inner().success)
    };
    assert!(classic("GET app/x").await.unwrap());
    for words in ["GET other", "SET other v"] {
        let refused = classic(words).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let reader = come("reader");
    assert!(piped(&reader, Operation::Get(get("other"))).await.is_ok());
    let refused = piped(&reader, Operation::Set(set("k"))).await.unwrap_err();
    assert!(refused.contains("'writer'"), "{refused}");
    eventually("a line in dump.txt", async || {
        let dump = cluster.text(1, "dump.txt");
        dump.contains("refused a call of 'bob', who lacks a role.")
            .then_some(())
    })
    .await;
}

// Faults are for operators, keys are not; a backup, which holds all keys, is for administrators.
#[tokio::test]
async fn operators_look_after_nodes() {
    let cluster = Cluster::start_secured(1, &["--quiet", "--allow-fault-injection"]).await;
    let secured = cluster.secured.as_ref().unwrap();
    let come = |role| cluster.channel_through(1, Some(secured.role("al", role)));
    let status = async |role| AdminClient::new(come(role)).status(StatusRequest {}).await;
    let cut = async |role| {
        let request = CutLinksRequest::default();
        AdminClient::new(come(role)).cut_links(request).await
    };
    let backup = async |role| {
        let request = BackupRequest::default();
        AdminClient::new(come(role)).backup(request).await
    };
    assert!(status("operator").await.is_ok());
    for role in ["reader", "writer"] {
        let refused = status(role).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("the role 'operator'"));
        assert_eq!(cut(role).await.unwrap_err().code(), Code::PermissionDenied);
    }
    // It gets as far as what is wrong with the request.
    assert_eq!(
        cut("operator").await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let refused = backup("operator").await.unwrap_err();
    assert!(
        refused.message().contains("the role 'admin'"),
        "{refused:?}"
    );
    assert!(backup("admin").await.is_ok());
    let refused = KvClient::new(come("operator")).get(get("k")).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

// A node does not start with a key that others may read, and says which.
#[tokio::test]
async fn a_key_that_others_may_read_is_refused() {
    let mut cluster = Cluster::new(1, &["--quiet"]);
    cluster.secure();
    let key = cluster.secured.as_ref().unwrap().folder(1).join("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    cluster.spawn(1);
    assert_eq!(cluster.ended(1).await.code(), Some(1));
    let words = format!("cannot speak TLS: {} may be read by others", key.display());
    assert!(cluster.stderr(1).contains(&words), "{}", cluster.stderr(1));
    assert!(
        cluster
            .text(1, "dump.txt")
            .contains("may be read by others")
    );
}

// Why a peer can't be reached is told by name, in the status and in dump.txt, on both sides: it is of
// another authority, its certificate has ended, or it speaks without TLS.
#[tokio::test]
async fn what_keeps_nodes_apart_is_told() {
    let mut cluster = Cluster::new(3, &["--quiet"]);
    cluster.secure();
    let secured = cluster.secured.as_ref().unwrap();
    let other = Authority::new("other");
    write_folder(&secured.folder(2), &other.pem, &other.node(CLUSTER, 2));
    let mut plain = cluster.arguments(3);
    plain.retain(|argument| !argument.starts_with("--tls="));
    let admin = Through::new(&other.pem, Some(&other.role(CLUSTER, "al", "admin")));
    let own_admin = secured.admin();
    cluster.spawn(1);
    cluster.spawn(2);
    cluster.spawn_with(3, &plain);
    let told = async |id: u64, peer: u64, through: Option<Through>| {
        let channel = cluster.channel_through(id, through);
        eventually("a reason", async || {
            let mut admin = AdminClient::new(channel.clone());
            let status = admin.status(StatusRequest {}).await.ok()?.into_inner();
            let mut peers = status.unreachable_peers.into_iter();
            let found = peers.find(|found| found.peer_id == peer)?;
            // Before it listens, nothing does.
            (found.reason != "refused").then_some(found.reason)
        })
        .await
    };
    let unknown = "certificate_of_unknown_authority";
    assert_eq!(told(1, 2, Some(own_admin)).await, unknown);
    assert_eq!(told(2, 1, Some(admin)).await, unknown);
    let dump = async |id: u64, words: &str| {
        eventually(words, async || {
            cluster.text(id, "dump.txt").contains(words).then_some(())
        })
        .await;
    };
    dump(1, &format!("reason={unknown}")).await;
    dump(1, "refused a connection to its port for peers.\t").await;
    dump(1, "reason=clear_text").await;
}

// A certificate that ends while a connection lives ends the connection.
#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let cluster = Cluster::start_secured(1, &["--quiet"]).await;
    let secured = cluster.secured.as_ref().unwrap();
    let short = secured.authority.issue(&Wanted {
        who: "bob",
        uris: vec![format!("raftkv://{CLUSTER}/role/reader")],
        ends_in: Some(4),
        ..Wanted::default()
    });
    let bob = Through::new(&secured.authority.pem, Some(&short));
    let mut kv = KvClient::new(cluster.channel_through(1, Some(bob)));
    let begin = Instant::now();
    while kv.get(get("k")).await.is_ok() {
        assert!(begin.elapsed() < SOON, "it still reads");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(begin.elapsed().as_secs() >= 1, "it could read before");
    assert!(cluster.status(1).await.is_some());
}

// Handshakes that are begun and left, by the thousand, lock nobody out, and cost a bounded memory.
#[tokio::test]
async fn half_open_handshakes_lock_nobody_out() {
    let mut cluster = Cluster::new(1, &["--quiet"]);
    cluster.secure();
    let limits = "ulimit -n 400 && exec \"$@\"";
    let child = Command::new("sh")
        .args(["-c", limits, "sh", BINARY])
        .args(cluster.arguments(1))
        .spawn()
        .unwrap();
    let pid = child.id();
    cluster.adopt(1, child);
    cluster.leader().await;
    let before = resident_kib(pid);
    let mut half_open = Vec::new();
    for number in 0..1500 {
        let address = cluster.client_address(1);
        let Ok(connected) = timeout(SOON, TcpStream::connect(address)).await else {
            break; // The kernel's queue is full of them.
        };
        let mut stream = connected.unwrap();
        // The begin of a record that holds a handshake, which never comes.
        let begin = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        // It may have been closed already, to make way.
        stream.write_all(&begin[..number % begin.len()]).await.ok();
        half_open.push(stream);
        if number % 300 == 299 {
            let served = timeout(SOON, cluster.set(None, "k", "v")).await;
            served.expect("a place among the half-open");
        }
    }
    assert!(half_open.len() >= 1000, "{}", half_open.len());
    let grown = resident_kib(pid).saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    let stream = half_open.first_mut().unwrap();
    let closed = timeout(SOON, stream.read(&mut [0])).await;
    assert!(!matches!(closed.expect("it is closed"), Ok(1..)));
    cluster.signal(1, Signal::TERM);
    assert_eq!(cluster.ended(1).await.code(), Some(0));
}

pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.unwrap().split_whitespace().nth(1);
    words.unwrap().parse().unwrap()
}

// A certificate that is of use for a client alone can't be shown by who is dialed.
#[tokio::test]
async fn a_client_can_not_pose_as_a_node() {
    let mut cluster = Cluster::new(1, &["--quiet"]);
    cluster.secure();
    let secured = cluster.secured.as_ref().unwrap();
    let client = secured.authority.issue(&Wanted {
        is_client: true,
        ..of_node(CLUSTER, 1)
    });
    write_folder(&secured.folder(1), &secured.authority.pem, &client);
    cluster.spawn(1);
    assert_eq!(cluster.ended(1).await.code(), Some(1));
    let error = cluster.stderr(1);
    assert!(error.contains("can't be used by a node"), "{error}");
}
