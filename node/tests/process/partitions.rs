//! Links cut and majorities lost.

use crate::cluster::{Cluster, eventually, reason, within};
use raftkv::admin::{CutLinksRequest, HealLinksRequest, Role, TransferLeadershipRequest};
use raftkv::kv::Consistency;
use std::time::{Duration, Instant};
use tonic::Code;

fn cut(peer_ids: Vec<u64>, for_ms: u64) -> CutLinksRequest {
    CutLinksRequest { peer_ids, for_ms }
}

// Nobody cuts links on a node that was not started for it; where it was, nonsense is refused.
#[tokio::test]
async fn cutting_links_needs_permission() {
    let cluster = Cluster::start(1, &[]).await;
    let refused = cluster
        .admin(1)
        .cut_links(cut(vec![2], 1_000))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("--allow-fault-injection"));
    let refused = cluster
        .admin(1)
        .heal_links(HealLinksRequest::default())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);

    let cluster = Cluster::start(2, &["--allow-fault-injection"]).await;
    for nonsense in [
        cut(vec![], 1_000),
        cut(vec![2], 0),
        cut(vec![2], 3_600_001),
        cut(vec![1], 1_000),
        cut(vec![9], 1_000),
    ] {
        let refused = cluster.admin(1).cut_links(nonsense).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::InvalidArgument, "INVALID")
        );
    }
}

// A leader cut off from the majority serves GETs while its lease lasts and none after it, never
// acknowledges a SET, and steps down; the majority goes on, and the cut heals by itself.
#[tokio::test]
async fn a_leader_that_is_cut_off() {
    let cluster = Cluster::start(3, &["--allow-fault-injection"]).await;
    let old = cluster.leader().await;
    cluster.set(None, "k", "before").await;
    let others = cluster.others(old);
    cluster
        .admin(old)
        .cut_links(cut(others.clone(), 6_000))
        .await
        .unwrap();
    let since = Instant::now();
    let status = cluster.told(old).await;
    assert_eq!(status.cut_links.len(), 2);

    let write = cluster.try_set(old, None, "k", "lost");
    let read = cluster.try_get(old, "k", Consistency::Lease).await.unwrap();
    assert_eq!(read.value, "before");
    let refused = write.await.expect_err("no majority holds it");
    assert_eq!(reason(&refused), "OUTCOME_UNKNOWN");
    let dump = cluster.text(old, "dump.txt");
    assert!(dump.contains(&format!(
        "Leader {old} lease renewal failed. Stepping Down."
    )));
    assert!(
        cluster.try_get(old, "k", Consistency::Lease).await.is_err(),
        "the lease is over"
    );
    assert_ne!(cluster.told(old).await.role(), Role::Leader);

    cluster.leader_among(&others).await;
    cluster.set_among(&others, "k", "after").await;
    eventually("the cut to heal by itself", async || {
        let status = cluster.status(old).await?;
        (status.cut_links.is_empty() && status.leader_id != 0).then_some(())
    })
    .await;
    assert!(since.elapsed() >= Duration::from_secs(6));
    assert_eq!(cluster.get("k").await.as_deref(), Some("after"));
}

// Three of five killed: the leader answers GETs until its lease is over and none after it, and no
// SET is acknowledged. With one back, everything goes on.
#[tokio::test]
async fn without_a_majority() {
    let mut cluster = Cluster::start(5, &[]).await;
    let leader = cluster.leader().await;
    cluster.set(None, "k", "v").await;
    let followers = cluster.others(leader);
    for id in &followers[..3] {
        cluster.kill(*id);
    }
    let killed = Instant::now();
    let read = cluster
        .try_get(leader, "k", Consistency::Lease)
        .await
        .unwrap();
    assert_eq!(read.value, "v");
    let write = cluster.try_set(leader, None, "k", "lost").await;
    assert_eq!(
        reason(&write.expect_err("no majority holds it")),
        "OUTCOME_UNKNOWN"
    );
    within(Duration::from_secs(4), "the end of the lease", async || {
        cluster
            .try_get(leader, "k", Consistency::Lease)
            .await
            .err()
            .map(drop)
    })
    .await;
    println!("the lease was over {:?} after the kill", killed.elapsed());
    for id in [leader, followers[3]] {
        for consistency in [Consistency::Lease, Consistency::Quorum] {
            assert!(
                cluster.try_get(id, "k", consistency).await.is_err(),
                "node {id}"
            );
        }
        assert!(
            cluster.try_set(id, None, "k", "lost").await.is_err(),
            "node {id}"
        );
        assert_ne!(cluster.told(id).await.role(), Role::Leader);
    }
    cluster.spawn(followers[0]);
    cluster.leader().await;
    cluster.set(None, "k", "again").await;
    assert_eq!(cluster.get("k").await.as_deref(), Some("again"));
}

// An operator moves the leadership where it should be; a target that is no peer is refused.
#[tokio::test]
async fn leadership_is_transferred() {
    let cluster = Cluster::start(3, &[]).await;
    let old = cluster.leader().await;
    let target_id = cluster.others(old)[1];
    let transfer = |target_id| TransferLeadershipRequest { target_id };
    let refused = cluster
        .admin(old)
        .transfer_leadership(transfer(9))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let reply = cluster
        .admin(old)
        .transfer_leadership(transfer(target_id))
        .await
        .unwrap();
    assert_eq!(reply.into_inner().leader_id, target_id);
    assert_eq!(cluster.leader().await, target_id);
    let follower = cluster.others(target_id)[0];
    let refused = cluster
        .admin(follower)
        .transfer_leadership(transfer(0))
        .await;
    assert_eq!(reason(&refused.unwrap_err()), "NOT_LEADER");
}
