//! What the store promises, on real processes: acknowledged writes stay, a resent write applies
//! once, and no read is stale. Each test puts its promise to the worst moment on purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::TestCluster;
use crate::support::PATIENCE;
use raftctl::client::{Client, ClientError, Member, Read};
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::{
    CompareAndSetRequest, Consistency, GetRequest, OpenSessionRequest, Operation, Outcome,
    PipelineReply, PipelineRequest, RequestId, SetRequest, operation, outcome,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tonic::transport::Channel;

fn members(cluster: &TestCluster) -> Vec<Member> {
    let member = |id| Member {
        id,
        address: format!("127.0.0.1:{}", u64::from(cluster.ports.base) + 10 + id),
    };
    (1..=u64::from(cluster.nodes)).map(member).collect()
}

fn client(cluster: &TestCluster) -> Client {
    Client::new(&members(cluster)).with_timeout(PATIENCE)
}

/// A client that knows this node only.
fn client_of(cluster: &TestCluster, id: u64, timeout: Duration) -> Client {
    let members: Vec<Member> = members(cluster)
        .into_iter()
        .filter(|m| m.id == id)
        .collect();
    Client::new(&members).with_timeout(timeout)
}

/// A bare connection to one node, without anything that retries.
fn bare(cluster: &TestCluster, id: u64) -> KvClient<Channel> {
    let address = members(cluster)
        .into_iter()
        .find(|m| m.id == id)
        .unwrap()
        .address;
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    KvClient::new(endpoint.tcp_nodelay(true).connect_lazy())
}

fn signal(cluster: &TestCluster, id: u64, signal: Signal) {
    let pid = i32::try_from(cluster.pid(id).unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

// A write was applied, and its answer got lost with the leader. Sent again, to the next leader and
// after a restart of all, it is answered as the first time and changes nothing: neither itself nor
// what was written since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resent_write_applies_once_across_leaders_and_restarts() {
    let cluster = TestCluster::up(3);
    let leader = cluster.leader(|_| true);
    let mut node = bare(&cluster, leader);
    let session = node
        .open_session(OpenSessionRequest {})
        .await
        .unwrap()
        .into_inner();
    let create = CompareAndSetRequest {
        request: Some(RequestId {
            client_id: session.client_id,
            sequence: 1,
            since_index: session.since_index,
        }),
        key: "k".into(),
        expected: None,
        value: "first".into(),
    };
    let first = node
        .compare_and_set(create.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(first.swapped);
    client(&cluster).set("k", "second").await.unwrap();

    cluster.raftctl(&["kill", &leader.to_string()]).ok();
    let next = cluster.leader(|id| id != leader);
    resend(&cluster, next, &create).await;

    cluster.raftctl(&["kill", "all"]).ok();
    cluster.raftctl(&["up"]).ok();
    let next = cluster.leader(|_| true);
    resend(&cluster, next, &create).await;
}

async fn resend(cluster: &TestCluster, leader: u64, create: &CompareAndSetRequest) {
    let mut node = bare(cluster, leader);
    let started = Instant::now();
    let again = loop {
        match node.compare_and_set(create.clone()).await {
            Ok(reply) => break reply.into_inner(),
            // A new leader may wait for the lease of the old one.
            Err(status) => assert!(started.elapsed() < PATIENCE, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(
        again.swapped,
        "answered as if it were a new one: the key exists"
    );
    let reply = client(cluster).get("k", Read::Lease).await.unwrap();
    assert_eq!(reply.value, "second", "applied a second time");
}

// A client counts up with compare-and-set while leaders are killed under it. It is the only
// writer, so each of its writes must find what the one before wrote: a resent one that applied
// twice, or an acknowledged one that got lost, would break the chain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_writer_never_meets_itself() {
    let cluster = TestCluster::up(3);
    let (counted, mut count) = tokio::sync::watch::channel(0u64);
    let counting = tokio::spawn(count_up(client(&cluster), counted));
    for _ in 0..3 {
        // In the middle of its work, each time.
        let so_far = *count.borrow();
        let goes_on = count.wait_for(|count| *count >= so_far + 10);
        tokio::time::timeout(PATIENCE, goes_on)
            .await
            .unwrap()
            .unwrap();
        let leader = cluster.leader(|_| true);
        cluster.raftctl(&["kill", &leader.to_string()]).ok();
        cluster.leader(|id| id != leader);
        cluster.raftctl(&["start", &leader.to_string()]).ok();
    }
    drop(count); // Tells it to stop.
    let count = counting.await.unwrap();
    let reply = client(&cluster).get("count", Read::Lease).await.unwrap();
    assert_eq!(reply.value, count.to_string());
}

/// Counts up as long as somebody watches; the last number.
async fn count_up(mut client: Client, counted: tokio::sync::watch::Sender<u64>) -> u64 {
    let mut count = 0u64;
    loop {
        let expected = (count > 0).then(|| count.to_string());
        let next = (count + 1).to_string();
        let reply = client
            .compare_and_set("count", expected.as_deref(), &next)
            .await;
        assert!(
            reply.unwrap().swapped,
            "{next} does not follow {expected:?}"
        );
        count += 1;
        if counted.send(count).is_err() {
            return count;
        }
    }
}

// All nodes are killed at once, in the middle of writing. Every write that was acknowledged is
// there after the restart, and holds the value of its last acknowledgement or a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_the_death_of_all_nodes() {
    const WRITERS: u64 = 4;
    let cluster = TestCluster::up(5);
    for round in 0..3u64 {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let client = Client::new(&members(&cluster)).with_timeout(Duration::from_secs(1));
            writers.spawn(write_until_it_fails(client, round, writer));
        }
        // Let each of them get going, then end everything under them.
        let mut watcher = client(&cluster);
        for writer in 0..WRITERS {
            let key = format!("{round}/{writer}/20");
            while !watcher.get(&key, Read::Lease).await.unwrap().found {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        cluster.raftctl(&["kill", "all"]).ok();
        let acknowledged = writers.join_all().await;
        cluster.raftctl(&["up"]).ok();
        let mut reader = client(&cluster);
        for (writer, count) in acknowledged {
            assert!(count > 20, "writer {writer} wrote {count}");
            for number in 0..count {
                let key = format!("{round}/{writer}/{number}");
                let reply = reader.get(&key, Read::Lease).await.unwrap();
                assert_eq!(
                    (reply.found, reply.value),
                    (true, key.clone()),
                    "lost {key}"
                );
            }
        }
    }
}

/// Writes key after key, each with its own name as value; how many were acknowledged.
async fn write_until_it_fails(mut client: Client, round: u64, writer: u64) -> (u64, u64) {
    let mut number = 0;
    loop {
        let key = format!("{round}/{writer}/{number}");
        match client.set(&key, &key).await {
            Ok(_) => number += 1,
            Err(ClientError::NoLeader { .. } | ClientError::OutcomeUnknown { .. }) => {
                return (writer, number);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

// The leader is frozen in the middle of serving reads, another takes over and changes a value.
// Reads that were sent to the frozen one after that change wait in its sockets, more keep coming,
// and it wakes up into them. It may refuse them, or give the new value; the old one would be a
// stale read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_that_wakes_up_serves_nothing_stale() {
    const ROUNDS: u64 = 6;
    const STREAMS: usize = 4;
    let cluster = TestCluster::up(3);
    let mut answers = BTreeMap::<&str, u64>::new();
    for round in 0..ROUNDS {
        let old = cluster.leader(|_| true);
        let before = format!("before {round}");
        client(&cluster).set("k", &before).await.unwrap();
        let changed = Arc::new(AtomicBool::new(false));
        let mut streams = JoinSet::new();
        let (started, mut running) = tokio::sync::mpsc::channel(STREAMS);
        for _ in 0..STREAMS {
            let stream = ReadStream::open(bare(&cluster, old)).await;
            streams.spawn(stream.keep_reading(Arc::clone(&changed), started.clone()));
        }
        for _ in 0..STREAMS {
            running.recv().await.unwrap();
        }
        signal(&cluster, old, Signal::STOP);
        let members = members(&cluster).into_iter();
        let others: Vec<Member> = members.filter(|member| member.id != old).collect();
        let mut writer = Client::new(&others).with_timeout(PATIENCE);
        let value = format!("after {round}");
        writer.set("k", &value).await.unwrap();

        changed.store(true, Ordering::SeqCst);
        // Time for the reads to reach the sockets; nobody can answer them yet.
        tokio::time::sleep(Duration::from_millis(50)).await;
        signal(&cluster, old, Signal::CONT);
        for answer in streams.join_all().await.into_iter().flatten() {
            match answer {
                Some(seen) => {
                    assert_eq!(seen, value, "a stale read by node {old} in round {round}");
                    *answers.entry("served").or_default() += 1;
                }
                None => *answers.entry("refused").or_default() += 1,
            }
        }
        cluster.leader(|_| true);
    }
    // It is the refusals that show that the old leader was asked while it believed in itself.
    assert!(answers["refused"] >= ROUNDS, "{answers:?}");
}

fn get(key: &str) -> GetRequest {
    GetRequest {
        key: key.into(),
        consistency: Consistency::Lease.into(),
    }
}

/// Lease reads of one key on one stream.
struct ReadStream {
    requests: tokio::sync::mpsc::Sender<PipelineRequest>,
    replies: tonic::Streaming<PipelineReply>,
}

impl ReadStream {
    /// Reads on their way at any time: enough to keep the node busy without a pause.
    const WINDOW: usize = 64;
    /// Sent before the value changed: the old value and the new one are right.
    const EARLY: u64 = 0;
    /// Sent after the change was acknowledged.
    const LATE: u64 = 1;

    async fn open(mut node: KvClient<Channel>) -> ReadStream {
        let (requests, queue) = tokio::sync::mpsc::channel(4 * Self::WINDOW);
        let queue = tokio_stream::wrappers::ReceiverStream::new(queue);
        let replies = node.pipeline(queue).await.unwrap().into_inner();
        ReadStream { requests, replies }
    }

    /// Sends reads, a message each.
    async fn ask(&self, id: u64, count: usize) {
        for _ in 0..count {
            let operation = Some(operation::Operation::Get(get("k")));
            let operations = vec![Operation { id, operation }];
            let request = PipelineRequest { operations };
            self.requests.send(request).await.unwrap();
        }
    }

    async fn outcomes(&mut self) -> Vec<Outcome> {
        let reply = tokio::time::timeout(PATIENCE, self.replies.message()).await;
        reply.expect("it answers").unwrap().unwrap().outcomes
    }

    /// Keeps the node busy with reads; once the value has changed, sends a window more, and reads
    /// on for some time. Gives the answers to the late ones; a refusal is `None`.
    async fn keep_reading(
        mut self,
        changed: Arc<AtomicBool>,
        started: tokio::sync::mpsc::Sender<()>,
    ) -> Vec<Option<String>> {
        const LATE_READS: usize = 20 * ReadStream::WINDOW;
        self.ask(Self::EARLY, Self::WINDOW).await;
        let first = self.outcomes().await.len();
        self.ask(Self::EARLY, first).await;
        started.send(()).await.unwrap();
        let mut sent_late = 0;
        let mut late = Vec::new();
        while late.len() < LATE_READS {
            let has_changed = changed.load(Ordering::SeqCst);
            if has_changed && sent_late == 0 {
                self.ask(Self::LATE, Self::WINDOW).await;
                sent_late = Self::WINDOW;
            }
            let wait = Duration::from_millis(1);
            let Ok(reply) = tokio::time::timeout(wait, self.replies.message()).await else {
                continue;
            };
            let outcomes = reply.unwrap().unwrap().outcomes;
            let more = outcomes.len();
            for outcome in outcomes
                .into_iter()
                .filter(|outcome| outcome.id == Self::LATE)
            {
                late.push(match outcome.outcome {
                    Some(outcome::Outcome::Get(reply)) => Some(reply.value),
                    _ => None,
                });
            }
            if !has_changed {
                self.ask(Self::EARLY, more).await;
            } else if sent_late < LATE_READS {
                self.ask(Self::LATE, more).await;
                sent_late += more;
            }
        }
        late
    }
}

// Three of five nodes die. The leader serves reads as long as its lease lasts and not a moment
// longer, and acknowledges no write at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged_and_reads_end_with_the_lease() {
    const LEASE: Duration = Duration::from_secs(2);
    let cluster = TestCluster::up(5);
    let leader = cluster.leader(|_| true);
    client(&cluster).set("k", "v").await.unwrap();
    let victims: Vec<u64> = (1..=5).filter(|id| *id != leader).take(3).collect();
    for id in &victims {
        signal(&cluster, *id, Signal::KILL);
    }
    let killed = Instant::now();

    let mut writers = JoinSet::new();
    for number in 0..4 {
        let mut client = client_of(&cluster, leader, Duration::from_secs(4));
        writers.spawn(async move { client.set("k", &format!("lost {number}")).await });
    }
    let mut node = bare(&cluster, leader);
    let (mut served_within, mut served_after, mut refused_after) = (0, 0, 0);
    while killed.elapsed() < LEASE * 2 {
        let asked = killed.elapsed();
        match node.get(get("k")).await {
            Ok(reply) => {
                assert_eq!(reply.into_inner().value, "v");
                if asked < LEASE {
                    served_within += 1;
                } else {
                    served_after += 1;
                }
            }
            Err(_) if asked >= LEASE => refused_after += 1,
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(served_within > 0, "the lease was given up at once");
    assert_eq!(served_after, 0, "served without a lease");
    assert!(refused_after > 0);
    for outcome in writers.join_all().await {
        let error = outcome.expect_err("acknowledged by two nodes of five");
        assert!(
            matches!(
                error,
                ClientError::NoLeader { .. } | ClientError::OutcomeUnknown { .. }
            ),
            "{error}"
        );
    }
    let unsent = SetRequest {
        request: None,
        key: "k".into(),
        value: "lost too".into(),
    };
    node.set(unsent)
        .await
        .expect_err("acknowledged by two nodes of five");
}
