//! The services for clients.

use crate::cluster::{Cluster, eventually, reason, request};
use raftkv::admin::CutLinksRequest;
use raftkv::kv::classic_client::ClassicClient;
use raftkv::kv::{
    self, CompareAndSetRequest, Consistency, DeleteRequest, ErrorReason, ListRequest,
    OpenSessionRequest, Operation, PipelineReply, PipelineRequest, ReadPath, ServeClientArgs,
    operation, outcome,
};
use raftkv::{
    KEY_BYTES_MAX, LEADER_ADDRESS_METADATA, LEADER_ID_METADATA, PIPELINE_OPERATIONS_MAX,
    VALUE_BYTES_MAX,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

// Every operation of the typed API, over a real connection.
#[tokio::test]
async fn the_typed_api() {
    let cluster = Cluster::start(3, &[]).await;
    let mut kv = cluster.kv(cluster.leader().await);
    let session = kv
        .open_session(OpenSessionRequest {})
        .await
        .unwrap()
        .into_inner();
    // A number that every language can send back as it was.
    for _ in 0..8 {
        let other = kv.open_session(OpenSessionRequest {}).await.unwrap();
        let client_id = other.into_inner().client_id;
        assert!((1..1 << 53).contains(&client_id), "{client_id}");
        assert_ne!(client_id, session.client_id);
    }

    let swap = |expected: Option<&str>, value: &str| CompareAndSetRequest {
        request: None,
        key: "a/1".into(),
        expected: expected.map(str::to_owned),
        value: value.into(),
    };
    for (expected, value, swapped) in [
        (None, "", true),
        (None, "x", false),
        (Some("y"), "x", false),
        (Some(""), "x", true),
    ] {
        let reply = kv.compare_and_set(swap(expected, value)).await.unwrap();
        assert_eq!(reply.into_inner().swapped, swapped, "{expected:?} {value}");
    }
    for (key, sequence) in ["a/2", "a/3", "b"].into_iter().zip(1..) {
        let request = request(session.client_id, sequence);
        cluster.set(request, key, "v").await;
        cluster.set(None, key, "v").await;
    }
    let list = ListRequest {
        prefix: "a/".into(),
        limit: 2,
        ..Default::default()
    };
    let page = kv.list(list.clone()).await.unwrap().into_inner();
    let keys: Vec<_> = page.entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!((keys, page.more), (vec!["a/1", "a/2"], true));
    let after = Some("a/2".to_owned());
    let rest = kv
        .list(ListRequest { after, ..list })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((rest.entries.len(), rest.more), (1, false));

    // The empty key is a key: paging goes on behind it.
    cluster.set(None, "", "v").await;
    let first = ListRequest {
        limit: 1,
        ..Default::default()
    };
    let page = kv.list(first.clone()).await.unwrap().into_inner();
    assert_eq!((&*page.entries[0].key, page.more), ("", true));
    let after = Some(String::new());
    let page = kv.list(ListRequest { after, ..first }).await.unwrap();
    assert_eq!(page.into_inner().entries[0].key, "a/1");

    let delete = DeleteRequest {
        request: request(session.client_id, 100),
        key: "b".into(),
    };
    for _ in 0..2 {
        let reply = kv.delete(delete.clone()).await.unwrap().into_inner();
        assert!(reply.existed, "a resent request gets the first result");
    }
    assert_eq!(cluster.get("b").await, None);
}

// A lease read is answered from memory: no heartbeat round, no flush, and counted as what it is.
#[tokio::test]
async fn reads_take_their_paths() {
    // One heartbeat a second: none comes between the two looks at the counters by chance.
    let flags = [
        "--heartbeat-ms=1000",
        "--election-timeout-ms=3000-6000",
        "--lease-ms=5000",
    ];
    let cluster = Cluster::start(3, &flags).await;
    let leader = cluster.leader().await;
    cluster.set(None, "k", "v").await;
    let rounds = |status: &raftkv::admin::StatusReply| {
        let counters = status.counters.unwrap();
        (
            counters.heartbeat_rounds,
            counters.read_rounds,
            counters.fsyncs,
        )
    };
    let mut quiet = false;
    for _ in 0..10 {
        let before = cluster.told(leader).await;
        for _ in 0..20 {
            let reply = cluster
                .try_get(leader, "k", Consistency::Lease)
                .await
                .unwrap();
            assert_eq!((&*reply.value, reply.path()), ("v", ReadPath::Lease));
        }
        let after = cluster.told(leader).await;
        let reads = |status: &raftkv::admin::StatusReply| status.counters.unwrap().lease_reads;
        assert_eq!(reads(&after), reads(&before) + 20);
        quiet |= rounds(&after) == rounds(&before);
    }
    assert!(
        quiet,
        "20 lease reads without a heartbeat round or a flush, at least once"
    );

    let reply = cluster
        .try_get(leader, "k", Consistency::Quorum)
        .await
        .unwrap();
    assert_eq!((&*reply.value, reply.path()), ("v", ReadPath::Quorum));
    let counters = cluster.told(leader).await.counters.unwrap();
    assert!(counters.quorum_reads == 1 && counters.read_rounds >= 1);

    let follower = cluster.others(leader)[0];
    eventually("the follower's state", async || {
        let reply = cluster
            .try_get(follower, "k", Consistency::Stale)
            .await
            .unwrap();
        assert_eq!(reply.path(), ReadPath::Stale);
        reply.found.then_some(())
    })
    .await;
}

// A follower names the leader: in the typed details, in plain metadata, and on a stream.
#[tokio::test]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let address = cluster.client_address(leader);
    eventually("a follower that knows the leader", async || {
        (cluster.status(follower).await?.leader_id == leader).then_some(())
    })
    .await;
    let write = cluster.try_set(follower, None, "k", "v").await.unwrap_err();
    let read = cluster
        .try_get(follower, "k", Consistency::Lease)
        .await
        .unwrap_err();
    for status in [write, read] {
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::Unavailable, "NOT_LEADER")
        );
        let plain = |key| status.metadata().get(key).unwrap().to_str().unwrap();
        assert_eq!(plain(LEADER_ID_METADATA), leader.to_string());
        assert_eq!(plain(LEADER_ADDRESS_METADATA), address);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["leader_address"], address);
        assert!(status.message().contains(&address), "{}", status.message());
    }
    let mut stream = Pipe::open(&cluster, follower).await;
    stream.send(vec![set(1, "k", "v")]).await;
    match stream.outcomes(1).await.remove(&1).unwrap() {
        outcome::Outcome::Error(error) => {
            assert_eq!(error.reason(), ErrorReason::NotLeader);
            assert_eq!((error.leader_id, error.leader_address), (leader, address));
        }
        other => panic!("{other:?}"),
    }
}

// What is too large or makes no sense is refused by name, and changes nothing.
#[tokio::test]
async fn bad_requests_are_refused_by_name() {
    let cluster = Cluster::start(1, &[]).await;
    let largest = ("k".repeat(KEY_BYTES_MAX), "v".repeat(VALUE_BYTES_MAX));
    cluster
        .try_set(1, None, &largest.0, &largest.1)
        .await
        .unwrap();
    let reply = cluster
        .try_get(1, &largest.0, Consistency::Lease)
        .await
        .unwrap();
    assert_eq!(reply.value, largest.1);
    let before = cluster.told(1).await.last_index;
    let key = cluster
        .try_set(1, None, &"k".repeat(KEY_BYTES_MAX + 1), "")
        .await;
    let value = cluster
        .try_set(1, None, "k", &"v".repeat(VALUE_BYTES_MAX + 1))
        .await;
    let id = cluster.try_set(1, request(0, 0), "k", "v").await;
    for (refused, word) in [
        (key, "key is 65537"),
        (value, "value is 1048577"),
        (id, "client id"),
    ] {
        let status = refused.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::InvalidArgument, "INVALID")
        );
        assert!(status.message().contains(word), "{}", status.message());
    }
    assert_eq!(cluster.told(1).await.last_index, before);
}

// An id stands for one write. Another one under it is refused by name, as a call and on a stream,
// whatever kind it is; it does nothing, and the node lives on. So it is after a restart.
#[tokio::test]
async fn an_id_used_again_is_refused() {
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.set(request(7, 1), "k", "mine").await;
    for round in 0..2 {
        let mut kv = cluster.kv(1);
        let delete = DeleteRequest {
            request: request(7, 1),
            key: "k".into(),
        };
        let swap = CompareAndSetRequest {
            request: request(7, 1),
            key: "k".into(),
            expected: None,
            value: "mine".into(),
        };
        let refused = [
            kv.delete(delete.clone()).await.map(drop),
            kv.compare_and_set(swap).await.map(drop),
            cluster
                .try_set(1, request(7, 1), "k", "another")
                .await
                .map(drop),
        ];
        for status in refused.map(Result::unwrap_err) {
            let told = (status.code(), reason(&status));
            assert_eq!(told, (Code::InvalidArgument, "REQUEST_ID_REUSED"));
        }
        let mut stream = Pipe::open(&cluster, 1).await;
        let delete = operation::Operation::Delete(delete);
        let operation = Some(delete);
        stream.send(vec![Operation { id: 5, operation }]).await;
        match stream.outcomes(1).await.remove(&5).unwrap() {
            outcome::Outcome::Error(error) => {
                assert_eq!(error.reason(), ErrorReason::RequestIdReused);
            }
            other => panic!("{other:?}"),
        }
        cluster.set(request(7, 1), "k", "mine").await;
        assert_eq!(cluster.get("k").await.as_deref(), Some("mine"));
        if round == 0 {
            cluster.kill(1);
            cluster.spawn(1);
            cluster.leader().await;
        }
    }
}

// The interface that old clients know: plain text in, the leader's id or NULL out.
#[tokio::test]
async fn the_classic_api() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let ask = async |id: u64, words: &str| {
        let request = words.to_owned();
        let mut client = ClassicClient::new(cluster.channel(id));
        let reply = client.serve_client(ServeClientArgs { request }).await?;
        let reply = reply.into_inner();
        Ok::<_, tonic::Status>((reply.data, reply.leader_id, reply.success))
    };
    let own = leader.to_string();
    let ok = |data: &str| (data.to_owned(), own.clone(), true);
    assert_eq!(ask(leader, "SET name1 Jaggu").await.unwrap(), ok(""));
    assert_eq!(ask(leader, "GET name1").await.unwrap(), ok("Jaggu"));
    assert_eq!(ask(leader, "GET name2").await.unwrap(), ok(""));
    assert_eq!(
        ask(leader, r#"SET "two words" "a\nb""#).await.unwrap(),
        ok("")
    );
    assert_eq!(ask(leader, r#"GET "two words""#).await.unwrap(), ok("a\nb"));
    // The largest value, of characters that are six bytes long as JSON.
    let largest = format!("SET large \"{}\"", "\\u0001".repeat(VALUE_BYTES_MAX));
    assert_eq!(ask(leader, &largest).await.unwrap(), ok(""));
    let reply = ask(leader, "GET large").await.unwrap();
    assert_eq!(reply, ok(&"\u{1}".repeat(VALUE_BYTES_MAX)));
    eventually("a follower that knows the leader", async || {
        (cluster.status(follower).await?.leader_id == leader).then_some(())
    })
    .await;
    for words in ["SET name1 x", "GET name1"] {
        let reply = ask(follower, words).await.unwrap();
        assert_eq!(reply, (String::new(), own.clone(), false));
    }
    for nonsense in ["", "GET", "SET a", "SET a b c", "PUT a b", "GET \"a"] {
        let status = ask(leader, nonsense).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{nonsense}");
        assert!(status.message().contains("SET key value"), "{nonsense}");
    }
    for id in cluster.others(follower) {
        cluster.kill(id);
    }
    let mut client = ClassicClient::new(cluster.channel(follower));
    eventually("a node that knows no leader", async || {
        let request = "GET name1".to_owned();
        let reply = client.serve_client(ServeClientArgs { request }).await;
        let reply = reply.unwrap().into_inner();
        assert!(!reply.success);
        (reply.leader_id == "NULL").then_some(())
    })
    .await;
}

// An old client sends again what failed. A SET that may have happened is no such failure.
#[tokio::test]
async fn an_unknown_outcome_is_no_failure_of_the_classic_api() {
    let cluster = Cluster::start(3, &["--allow-fault-injection"]).await;
    let leader = cluster.leader().await;
    let cut = CutLinksRequest {
        peer_ids: cluster.others(leader),
        for_ms: 60_000,
    };
    cluster.admin(leader).cut_links(cut).await.unwrap();
    let request = "SET name1 Jaggu".to_owned();
    let mut client = ClassicClient::new(cluster.channel(leader));
    let reply = client.serve_client(ServeClientArgs { request }).await;
    let status = reply.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(reason(&status), "OUTCOME_UNKNOWN");
}

// Many operations on one stream: each is answered, by its id, in few messages.
#[tokio::test]
async fn a_stream_carries_many_operations() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let mut stream = Pipe::open(&cluster, leader).await;
    let writes = (0..1_000).map(|id| set(id, &format!("key{id}"), &format!("value{id}")));
    stream.send(writes.collect()).await;
    let outcomes = stream.outcomes(1_000).await;
    assert!(
        outcomes
            .values()
            .all(|outcome| matches!(outcome, outcome::Outcome::Set(_)))
    );
    assert!(
        stream.messages < 500,
        "{} messages for 1000 writes",
        stream.messages
    );

    let reads = (0..1_000).map(|id| get(id, &format!("key{id}"), Consistency::Lease));
    let other_ways = [Consistency::Quorum, Consistency::Stale];
    let others = other_ways
        .iter()
        .zip(1_000..)
        .map(|(way, id)| get(id, "key7", *way));
    stream.send(reads.chain(others).collect()).await;
    for (id, outcome) in stream.outcomes(1_002).await {
        let key = if id < 1_000 { id } else { 7 };
        match outcome {
            outcome::Outcome::Get(reply) => assert_eq!(reply.value, format!("value{key}")),
            other => panic!("{other:?}"),
        }
    }
    stream
        .send(vec![Operation {
            id: 5,
            operation: None,
        }])
        .await;
    match stream.outcomes(1).await.remove(&5).unwrap() {
        outcome::Outcome::Error(error) => assert_eq!(error.reason(), ErrorReason::Invalid),
        other => panic!("{other:?}"),
    }
}

// A client that asks for much and takes nothing costs the node little: others go on being served,
// and when it does take its replies, they are all there.
#[tokio::test]
async fn a_client_that_takes_nothing_harms_nobody() {
    let cluster = Cluster::start(1, &[]).await;
    let large = "x".repeat(VALUE_BYTES_MAX);
    cluster.set(None, "large", &large).await;
    let mut stream = Pipe::open(&cluster, 1).await;
    const READS: u64 = 200;
    stream
        .send(
            (0..READS)
                .map(|id| get(id, "large", Consistency::Lease))
                .collect(),
        )
        .await;
    let start = Instant::now();
    for _ in 0..20 {
        assert!(cluster.get("small").await.is_none());
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    let outcomes = stream.outcomes(READS as usize).await;
    for outcome in outcomes.values() {
        assert!(matches!(outcome, outcome::Outcome::Get(get) if get.value.len() == large.len()));
    }
}

// A message of far too many operations, or of too many bytes, ends its stream with words that say
// what is allowed; what came before it is answered, and nothing of it is done.
#[tokio::test]
async fn a_message_too_large_is_refused_by_name() {
    let cluster = Cluster::start(1, &[]).await;
    let nothing = |id| Operation {
        id,
        operation: None,
    };
    let many = (1..=PIPELINE_OPERATIONS_MAX as u64 + 1).map(nothing);
    let large = "x".repeat(VALUE_BYTES_MAX);
    let bytes = (1..=4).map(|id| set(id, "never", &large));
    for (operations, words) in [
        (many.collect::<Vec<_>>(), "4096 operations"),
        (bytes.collect(), "4194304 bytes"),
    ] {
        let mut stream = Pipe::open(&cluster, 1).await;
        stream.send(vec![set(7, "before", "v")]).await;
        stream.send(operations).await;
        let before = stream.outcomes(1).await.remove(&7).unwrap();
        assert!(matches!(before, outcome::Outcome::Set(_)), "{before:?}");
        let end = tokio::time::timeout(Duration::from_secs(20), stream.replies.message()).await;
        let status = end.unwrap().expect_err("the stream ends with a refusal");
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::InvalidArgument, "INVALID")
        );
        assert!(status.message().contains(words), "{}", status.message());
    }
    assert_eq!(cluster.get("never").await, None);
    let mut stream = Pipe::open(&cluster, 1).await;
    let many = (1..=PIPELINE_OPERATIONS_MAX as u64).map(nothing);
    stream.send(many.collect()).await;
    stream.outcomes(PIPELINE_OPERATIONS_MAX).await;
}

/// A stream of operations and its outcomes.
pub struct Pipe {
    pub requests: mpsc::Sender<PipelineRequest>,
    pub replies: Streaming<PipelineReply>,
    messages: usize,
}

impl Pipe {
    pub async fn open(cluster: &Cluster, id: u64) -> Self {
        Pipe::try_open(cluster, id).await.unwrap()
    }

    pub async fn try_open(cluster: &Cluster, id: u64) -> Result<Self, Status> {
        let (requests, stream) = mpsc::channel(16);
        let mut kv = cluster.kv(id);
        let replies = kv.pipeline(ReceiverStream::new(stream)).await?;
        Ok(Pipe {
            requests,
            replies: replies.into_inner(),
            messages: 0,
        })
    }

    pub async fn send(&self, operations: Vec<Operation>) {
        self.requests
            .send(PipelineRequest { operations })
            .await
            .unwrap();
    }

    /// The next so many outcomes, by id.
    pub async fn outcomes(&mut self, count: usize) -> BTreeMap<u64, outcome::Outcome> {
        let mut outcomes = BTreeMap::new();
        while outcomes.len() < count {
            let reply = tokio::time::timeout(Duration::from_secs(20), self.replies.message());
            let reply = reply.await.expect("an answer in time").unwrap().unwrap();
            self.messages += 1;
            for outcome in reply.outcomes {
                let before = outcomes.insert(outcome.id, outcome.outcome.unwrap());
                assert!(before.is_none(), "{} is answered twice", outcome.id);
            }
        }
        outcomes
    }
}

pub fn set(id: u64, key: &str, value: &str) -> Operation {
    let set = kv::SetRequest {
        request: None,
        key: key.into(),
        value: value.into(),
    };
    Operation {
        id,
        operation: Some(operation::Operation::Set(set)),
    }
}

pub fn get(id: u64, key: &str, consistency: Consistency) -> Operation {
    let get = kv::GetRequest {
        key: key.into(),
        consistency: consistency.into(),
    };
    Operation {
        id,
        operation: Some(operation::Operation::Get(get)),
    }
}
