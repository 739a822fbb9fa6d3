//! More than a node can take.

use crate::clients::{Pipe, set};
use crate::cluster::{Cluster, eventually, reason};
use raftkv::admin::CutLinksRequest;
use raftkv::kv::{ErrorReason, outcome};
use std::time::{Duration, Instant};
use tonic::Code;

// A leader that can't commit takes a bounded number of writes; the others are refused at once with
// RESOURCE_EXHAUSTED, reads go on, and once it can commit again, so do writes.
#[tokio::test]
async fn overload_is_refused_at_once() {
    let flags = ["--allow-fault-injection", "--lease-ms=10000"];
    let cluster = Cluster::start(3, &flags).await;
    let leader = cluster.leader().await;
    cluster.set(None, "k", "v").await;
    let peer_ids = cluster.others(leader);
    let cut = CutLinksRequest {
        peer_ids,
        for_ms: 60_000,
    };
    cluster.admin(leader).cut_links(cut).await.unwrap();

    let mut pipes = Vec::new();
    for _ in 0..10 {
        let pipe = Pipe::open(&cluster, leader).await;
        let writes = (0..4_000).map(|id| set(id, &format!("key{id}"), "value"));
        pipe.send(writes.collect()).await;
        pipes.push(pipe);
    }
    // Of 40,000 writes, some wait; those that are refused are told now, not after a timeout.
    let start = Instant::now();
    let (code, why) = eventually("a refusal", async || {
        let refusal = tokio::time::timeout(
            Duration::from_secs(1),
            cluster.try_set(leader, None, "one more", "v"),
        );
        let status = refusal.await.ok()?.err()?;
        Some((status.code(), reason(&status).to_owned()))
    })
    .await;
    assert_eq!((code, &*why), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    let refused = pipes.last_mut().unwrap().outcomes(1).await;
    for outcome in refused.values() {
        match outcome {
            outcome::Outcome::Error(error) => assert_eq!(error.reason(), ErrorReason::Overloaded),
            other => panic!("{other:?}"),
        }
    }
    let read = cluster
        .try_get(leader, "k", raftkv::kv::Consistency::Lease)
        .await;
    assert_eq!(read.unwrap().value, "v", "reads go on under the lease");
    let counters = cluster.told(leader).await.counters.unwrap();
    assert!(counters.refused_overload > 0);

    let heal = raftkv::admin::HealLinksRequest::default();
    cluster.admin(leader).heal_links(heal).await.unwrap();
    cluster.set(None, "afterwards", "v").await;
}

// One stream has at most 4,096 operations that wait (rpc/pipeline.rs): the others are not begun, and are neither lost
// nor refused. Somebody else is served meanwhile.
#[tokio::test]
async fn one_stream_waits_within_its_bound() {
    const OPEN_MAX: u64 = 4_096;
    let flags = ["--allow-fault-injection", "--lease-ms=10000"];
    let cluster = Cluster::start(3, &flags).await;
    let leader = cluster.leader().await;
    cluster.set(None, "k", "v").await;
    let cut = CutLinksRequest {
        peer_ids: cluster.others(leader),
        for_ms: 60_000,
    };
    cluster.admin(leader).cut_links(cut).await.unwrap();
    let last_index = async || cluster.told(leader).await.last_index;
    let before = last_index().await;

    let mut pipe = Pipe::open(&cluster, leader).await;
    for message in 0..2 {
        let writes = (0..3_000).map(|id| set(message * 3_000 + id, "key", "value"));
        pipe.send(writes.collect()).await;
    }
    let reaches = async |index: u64| {
        let is_there = async || (last_index().await >= index).then_some(());
        eventually("the log grows", is_there).await;
    };
    reaches(before + OPEN_MAX).await;
    // What came before it is begun before it.
    let other = cluster.try_set(leader, None, "other", "value");
    let looks = async {
        reaches(before + OPEN_MAX + 1).await;
        assert_eq!(last_index().await, before + OPEN_MAX + 1);
        let heal = raftkv::admin::HealLinksRequest::default();
        cluster.admin(leader).heal_links(heal).await.unwrap();
    };
    let (other, ()) = tokio::join!(other, looks);
    other.unwrap();
    let outcomes = pipe.outcomes(6_000).await;
    let is_done = |outcome: &outcome::Outcome| !matches!(outcome, outcome::Outcome::Error(_));
    assert!(outcomes.values().all(is_done));
}
