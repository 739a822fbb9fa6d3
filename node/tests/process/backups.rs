//! Backups of real processes, taken while clients write.

use crate::cluster::{Cluster, eventually, reason};
use raft_node::wal::{Restored, SnapshotReader};
use raftkv::admin::backup_piece::Piece;
use raftkv::admin::{BackupBegin, BackupRequest};
use raftkv::kv::{Consistency, GetRequest};
use std::collections::BTreeMap;
use tonic::Status;

/// A whole backup: its head, and the state that was read from its text.
async fn backup(
    cluster: &Cluster,
    id: u64,
    not_before_index: u64,
) -> Result<(BackupBegin, Restored), Status> {
    let request = BackupRequest { not_before_index };
    let mut pieces = cluster.admin(id).backup(request).await?.into_inner();
    let (mut begin, mut end) = (None, None);
    let mut reader = SnapshotReader::default();
    while let Some(piece) = pieces.message().await? {
        assert!(end.is_none(), "nothing stands behind the end");
        match piece.piece.expect("a piece") {
            Piece::Begin(head) => begin = Some(head),
            Piece::Text(text) => reader.feed(&text).expect("text of a snapshot"),
            Piece::End(told) => end = Some(told),
        }
    }
    let restored = reader.finish().expect("whole");
    let end = end.expect("an end");
    let (id, begin) = (restored.id, begin.expect("a beginning"));
    assert_eq!((end.hash, end.bytes), (id.hash, id.bytes));
    assert_eq!((begin.index, begin.term), (id.index, id.term));
    assert_eq!(begin.key_count, restored.head.state.keys);
    Ok((begin, restored))
}

/// What a state binds.
fn value(restored: &Restored, key: &str) -> Option<String> {
    let query = raft_node::engine::Query::Get { key: key.into() };
    match restored.store.read(&query) {
        raft_node::engine::Answer::Value(value) => value.map(|value| value.to_string()),
        other => panic!("{other:?}"),
    }
}

// Through every node, while writes go on: a backup holds each write that was acknowledged before it was
// asked for. A follower alone can't tell what that is, and says who can; it waits until it has come so far.
#[tokio::test]
async fn a_backup_holds_what_was_acknowledged() {
    let cluster = Cluster::start(3, &["--quiet"]).await;
    let leader = cluster.leader().await;
    let mut expected = BTreeMap::new();
    for round in 0..12 {
        for number in 0..20 {
            let (key, value) = (
                format!("k{number}"),
                format!("{round} {}", "é\n".repeat(500)),
            );
            cluster.set_among(&[leader], &key, &value).await;
            expected.insert(key, value);
        }
        let id = 1 + round % 3;
        let get = GetRequest {
            key: "k0".into(),
            consistency: Consistency::Quorum.into(),
        };
        let read = cluster.kv(leader).get(get).await.unwrap().into_inner();
        let not_before = if id == leader { 0 } else { read.applied_index };
        let (restored, ()) = tokio::join!(backup(&cluster, id, not_before), async {
            for number in 0..5 {
                cluster
                    .set_among(&[leader], &format!("later {round}/{number}"), "x")
                    .await;
            }
        });
        let (begin, restored) = restored.unwrap();
        assert!(begin.index >= read.applied_index && begin.node_id == id);
        for (key, expected) in &expected {
            assert_eq!(
                value(&restored, key).as_ref(),
                Some(expected),
                "{key} of node {id}"
            );
        }
    }
    let refused = backup(&cluster, cluster.others(leader)[0], 0)
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "NOT_LEADER", "{refused}");
}

// One backup at a time; one whose client went away makes room for the next.
#[tokio::test]
async fn backups_are_bounded() {
    let cluster = Cluster::start(1, &["--quiet"]).await;
    for number in 0..40 {
        cluster
            .set(None, &format!("k{number}"), &"x".repeat(1024 * 1024))
            .await;
    }
    let request = BackupRequest::default();
    let untaken = cluster.admin(1).backup(request).await.unwrap();
    let refused = cluster.admin(1).backup(request).await.unwrap_err();
    assert_eq!(reason(&refused), "OVERLOADED", "{refused}");
    drop(untaken);
    let taken = eventually("room for the next", async || {
        backup(&cluster, 1, 0).await.ok()
    })
    .await;
    assert_eq!(taken.0.key_count, 40);
}
