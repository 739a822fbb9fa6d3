//! Requests that no service ever sees are refused by name all the same: a client that goes by the
//! reason alone knows that nothing was done.

use crate::clients::{Pipe, set};
use crate::cluster::{Cluster, SOON, reason};
use raftkv::VALUE_BYTES_MAX;
use raftkv::admin::{CutLinksRequest, TransferLeadershipRequest};
use raftkv::kv::{ErrorReason, ListRequest, PipelineReply, PipelineRequest, SetReply, outcome};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

/// A `SetRequest` whose text is whatever bytes a client sends.
#[derive(Clone, PartialEq, prost::Message)]
struct RawSet {
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawOperation {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "3")]
    set: Option<RawSet>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawPipelineRequest {
    #[prost(message, repeated, tag = "1")]
    operations: Vec<RawOperation>,
}

fn raw(key: &[u8], value: &[u8]) -> RawSet {
    RawSet {
        key: key.into(),
        value: value.into(),
    }
}

/// A call that the generated client would not make.
async fn call(cluster: &Cluster, path: &'static str, request: Request<RawSet>) -> Status {
    let mut grpc = Grpc::new(cluster.channel(1));
    grpc.ready().await.unwrap();
    let codec: ProstCodec<RawSet, SetReply> = ProstCodec::default();
    let path = PathAndQuery::from_static(path);
    grpc.unary(request, path, codec).await.unwrap_err()
}

fn assert_told(status: &Status, code: Code, name: &str, words: &str) {
    assert_eq!((status.code(), reason(status)), (code, name), "{status:?}");
    assert!(status.message().contains(words), "{}", status.message());
    let info = status.get_details_error_info().expect("typed details");
    assert_eq!(info.reason, name);
}

// Whatever the framework refuses before a service sees it, and whatever the node's flags do not
// allow, has a reason, in plain metadata and in the typed details.
#[tokio::test]
async fn every_refusal_has_a_reason() {
    const SET: &str = "/raftkv.v1.Kv/Set";
    let cluster = Cluster::start(1, &[]).await;
    let text = call(&cluster, SET, Request::new(raw(b"k\xff", b"v"))).await;
    assert_told(&text, Code::InvalidArgument, "INVALID", "SetRequest.key");
    assert!(text.message().contains("UTF-8"), "{}", text.message());

    let large = raw(b"k", &vec![b'x'; 5 * VALUE_BYTES_MAX]);
    let large = call(&cluster, SET, Request::new(large)).await;
    assert_told(&large, Code::InvalidArgument, "INVALID", "4194304");

    for path in ["/raftkv.v1.Kv/Nothing", "/raftkv.v9.Kv/Set"] {
        let unknown = call(&cluster, path, Request::new(raw(b"k", b"v"))).await;
        assert_told(&unknown, Code::Unimplemented, "UNSUPPORTED", "no such");
    }
    let mut packed = Request::new(raw(b"k", b"v"));
    let encoding = packed.metadata_mut();
    encoding.insert("grpc-encoding", "gzip".parse().unwrap());
    let packed = call(&cluster, SET, packed).await;
    assert_told(&packed, Code::Unimplemented, "UNSUPPORTED", "gzip");

    let cut = CutLinksRequest::default();
    let forbidden = cluster.admin(1).cut_links(cut).await.unwrap_err();
    let words = "--allow-fault-injection";
    assert_told(&forbidden, Code::PermissionDenied, "NOT_ALLOWED", words);
    assert_eq!(cluster.get("k").await, None);
}

// On a stream, an operation whose text is none is answered by its id; the others are done, those of its
// own message too, and the stream goes on.
#[tokio::test]
async fn an_operation_that_is_no_text_is_refused_by_name() {
    let cluster = Cluster::start(1, &[]).await;
    let operation = |id, key: &[u8]| RawOperation {
        id,
        set: Some(raw(key, b"v")),
    };
    let messages = [
        vec![operation(1, b"beside"), operation(2, b"\xff")],
        vec![operation(3, b"behind")],
    ];
    let messages = messages.map(|operations| RawPipelineRequest { operations });
    let mut grpc = Grpc::new(cluster.channel(1));
    grpc.ready().await.unwrap();
    let codec: ProstCodec<RawPipelineRequest, PipelineReply> = ProstCodec::default();
    let path = PathAndQuery::from_static("/raftkv.v1.Kv/Pipeline");
    let request = Request::new(tokio_stream::iter(messages));
    let replies = grpc.streaming(request, path, codec).await.unwrap();
    let mut replies = replies.into_inner();
    let mut outcomes = BTreeMap::new();
    while let Some(reply) = replies.message().await.unwrap() {
        let told = reply.outcomes.into_iter();
        outcomes.extend(told.map(|told| (told.id, told.outcome.unwrap())));
    }
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    let outcome::Outcome::Error(refused) = &outcomes[&2] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(refused.reason(), ErrorReason::Invalid);
    assert!(refused.message.contains("UTF-8"), "{}", refused.message);
    assert!(cluster.get("beside").await.is_some() && cluster.get("behind").await.is_some());
}

// Leadership handed to the node that has it is handed over; one that has none says who does.
#[tokio::test]
async fn a_transfer_to_oneself_is_done() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let transfer = |target_id| TransferLeadershipRequest { target_id };
    let mut admin = cluster.admin(leader);
    let reply = admin.transfer_leadership(transfer(leader)).await;
    assert_eq!(reply.unwrap().into_inner().leader_id, leader);
    assert_eq!(cluster.leader().await, leader);
    let other = cluster.others(leader)[0];
    let mut admin = cluster.admin(other);
    let refused = admin.transfer_leadership(transfer(other)).await;
    assert_eq!(reason(&refused.unwrap_err()), "NOT_LEADER");
}

// More operations than a stream may have open wait their turn: none is refused.
#[tokio::test]
async fn a_stream_is_not_read_faster_than_it_is_served() {
    const MESSAGES: u64 = 3;
    const EACH: u64 = 4_000;
    let cluster = Cluster::start(3, &["--quiet"]).await;
    let mut stream = Pipe::open(&cluster, cluster.leader().await).await;
    for message in 0..MESSAGES {
        let ids = message * EACH..(message + 1) * EACH;
        stream.send(ids.map(|id| set(id, "k", "v")).collect()).await;
    }
    let outcomes = stream.outcomes((MESSAGES * EACH) as usize).await;
    let done = |outcome: &&outcome::Outcome| matches!(outcome, outcome::Outcome::Set(_));
    let refused = outcomes.values().find(|outcome| !done(outcome));
    assert_eq!(refused, None);
}

// A leader that is stopped tells every operation that it has begun, and how its stream ends: what
// has no outcome was not done.
#[tokio::test]
async fn a_stop_leaves_no_operation_in_doubt() {
    let mut cluster = Cluster::start(3, &["--quiet"]).await;
    let leader = cluster.leader().await;
    let Pipe {
        requests,
        mut replies,
        ..
    } = Pipe::open(&cluster, leader).await;
    let (mut sent, mut done, mut told_to_stop) = (0, Vec::new(), false);
    let end = loop {
        // A few hundred are on their way at any time.
        while sent < done.len() as u64 + 500 {
            let ids = sent..sent + 50;
            let operations = ids.map(|id| set(id, &format!("{id:08}"), "v")).collect();
            if requests.send(PipelineRequest { operations }).await.is_err() {
                break; // The stream has ended: it says below how.
            }
            sent += 50;
        }
        match tokio::time::timeout(SOON, replies.message()).await {
            Ok(Ok(Some(reply))) => done.extend(reply.outcomes),
            Ok(Ok(None)) => panic!("the stream ends with a status"),
            Ok(Err(status)) => break status,
            Err(_) => panic!("no end in time"),
        }
        if done.len() >= 2_000 && !told_to_stop {
            cluster.signal(leader, Signal::TERM);
            told_to_stop = true;
        }
    };
    assert_eq!(reason(&end), "STOPPING", "{end:?}");
    cluster.ended(leader).await;
    let mut kv = cluster.kv(cluster.leader_among(&cluster.others(leader)).await);
    let mut found = BTreeSet::new();
    let mut list = ListRequest::default();
    loop {
        let page = kv.list(list.clone()).await.unwrap().into_inner();
        list.after = page.entries.last().map(|entry| entry.key.clone());
        found.extend(page.entries.into_iter().map(|entry| entry.key));
        if !page.more {
            break;
        }
    }
    let mut told = BTreeSet::new();
    for outcome in done {
        assert!(told.insert(outcome.id), "{} is told twice", outcome.id);
        if let Some(outcome::Outcome::Set(_)) = outcome.outcome {
            assert!(found.contains(&format!("{:08}", outcome.id)));
        }
    }
    let untold = (0..sent).filter(|id| !told.contains(id));
    for id in untold {
        assert!(
            !found.contains(&format!("{id:08}")),
            "{id} was done, untold"
        );
    }
}
