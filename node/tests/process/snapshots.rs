//! Snapshots of real processes, on real files.

use crate::cluster::{Cluster, eventually, reason};
use raft_node::command::{Command, Format, Operation, Write};
use raft_node::kv::{ExportStep, Store};
use raft_node::raft::HardState;
use raft_node::wal::{LogBase, Metadata, SnapshotHead, SnapshotReader, SnapshotWriter};
use raftkv::admin::{TakeSnapshotReply, TakeSnapshotRequest};
use raftkv::kv::Consistency;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A snapshot every few entries.
const MANY: &[&str] = &["--quiet", "--raise-format-from=0", "--snapshot-log-kib=1"];

// Whoever is killed, and whenever: every acknowledged SET is there afterwards, on every node, though
// logs are cut all the time and whoever comes back late gets a snapshot. The files stay small.
#[tokio::test]
async fn kills_between_snapshots_lose_nothing() {
    let mut cluster = Cluster::start(3, MANY).await;
    let mut expected = BTreeMap::new();
    let mut number = 0;
    for round in 0..12 {
        let id = 1 + round % 3;
        cluster.kill(id);
        // In the last third it stays away for so long that the logs of the others begin behind it.
        let writes = if round < 8 { 10 } else { 60 };
        let alive = cluster.others(id);
        for _ in 0..writes {
            number += 1;
            let (key, value) = (format!("k{}", number % 20), format!("{number:0100}"));
            cluster.set_among(&alive, &key, &value).await;
            expected.insert(key, value);
        }
        cluster.spawn(id);
    }
    let leader = cluster.leader().await;
    let ids = [vec![leader], cluster.others(leader)].concat();
    cluster.caught_up(&ids).await;
    for (key, value) in &expected {
        assert_eq!(cluster.get(key).await.as_ref(), Some(value));
        for id in &ids {
            let stale = cluster.try_get(*id, key, Consistency::Stale).await;
            assert_eq!(stale.unwrap().value, *value, "node {id}");
        }
    }
    let told = |words: &str| {
        let dumps = ids.iter().map(|id| cluster.text(*id, "dump.txt"));
        dumps.map(|dump| dump.matches(words).count()).sum::<usize>()
    };
    assert!(told("took a snapshot and cut its log") > 20);
    assert!(told("goes on from a snapshot of the leader") > 0);
    for id in &ids {
        let log = fs::metadata(cluster.data_dir(*id).join("logs.txt")).unwrap();
        assert!(log.len() < 64 * 1024, "node {id}: {} bytes", log.len());
    }
}

/// Changes a value in the snapshot of a node that does not run, and all checksums with it: nothing in its files
/// tells that any more.
fn change_consistently(folder: &Path) {
    let path = folder.join("snapshot.txt");
    let text = fs::read_to_string(&path).unwrap();
    let (mut crc, mut changed) = (0, String::new());
    for line in text.lines() {
        let covered = line.rsplit_once("crc=").unwrap().0.to_owned() + "crc=";
        let covered = covered.replacen("SET k1 x", "SET k1 y", 1);
        crc = crc32c::crc32c_append(crc, covered.as_bytes());
        changed += &format!("{covered}{crc:08x}\n");
    }
    assert_ne!(changed, text);
    let mut reader = SnapshotReader::default();
    reader.feed(changed.as_bytes()).unwrap();
    let restored = reader.finish().unwrap();
    let base = LogBase {
        snapshot: restored.id,
        log_crc: restored.head.log_crc,
    };
    let logs = fs::read(folder.join("logs.txt")).unwrap();
    let rest = logs.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(
        folder.join("logs.txt"),
        [&base.encode(), &logs[rest..]].concat(),
    )
    .unwrap();
    fs::write(&path, changed).unwrap();
}

// A state that was changed so that no checksum tells it is noticed by its hash: the node ends and says what
// to do, the leader names it, and it does not start again with that state. Without it, it gets the right
// one from the leader.
#[tokio::test]
async fn another_state_is_noticed_by_its_hash() {
    let mut cluster = Cluster::start(3, MANY).await;
    let value = "x".repeat(100);
    for number in 0..40 {
        cluster.set(None, &format!("k{}", number % 8), &value).await;
    }
    // A node that still writes its last snapshot at the next place leaves that one out: more places follow.
    eventually("the same snapshot", async || {
        cluster.set(None, "k0", &value).await;
        let (mut indexes, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for id in cluster.ids() {
            let status = cluster.status(id).await?;
            indexes.insert(status.snapshot_index);
            hashes.insert(status.snapshot_hash);
        }
        (indexes.len() == 1 && hashes.len() == 1 && !indexes.contains(&0)).then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    let id = cluster.others(leader)[0];
    let folder = cluster.data_dir(id);
    cluster.kill(id);
    change_consistently(&folder);
    cluster.spawn(id);
    assert_eq!(cluster.ended(id).await.code(), Some(3));
    let told = cluster.stderr(id);
    assert!(told.contains("and a majority has"), "{told}");
    assert!(cluster.text(id, "dump.txt").contains("and a majority has"));
    let named = format!("Node {id} has come to another state than Leader {leader}");
    assert!(cluster.text(leader, "dump.txt").contains(&named));
    let status = cluster.told(leader).await;
    let peer = status.peers.iter().find(|peer| peer.node_id == id);
    assert!(peer.unwrap().state_differs_at > 0);

    cluster.spawn(id);
    assert_eq!(cluster.ended(id).await.code(), Some(3));
    let told = cluster.stderr(id);
    assert!(
        told.contains("move snapshot.txt and other-state.txt away"),
        "{told}"
    );

    for name in ["snapshot.txt", "other-state.txt"] {
        fs::rename(folder.join(name), folder.with_extension(name)).unwrap();
    }
    cluster.spawn(id);
    cluster.caught_up(&[leader, id]).await;
    let stale = cluster.try_get(id, "k1", Consistency::Stale).await;
    assert_eq!(stale.unwrap().value, value);
}

// With no word from an operator, a cluster goes over to the format that snapshots need when the first is
// due, and takes it; where an operator holds the format, it does neither.
#[tokio::test]
async fn snapshots_begin_by_themselves_unless_the_format_is_held() {
    let small = "--snapshot-log-kib=1";
    let free = Cluster::start(3, &["--quiet", small]).await;
    let held = Cluster::start(3, &["--quiet", small, "--format-max=1"]).await;
    for number in 0..20 {
        for cluster in [&free, &held] {
            cluster.set(None, "k", &format!("{number:0100}")).await;
        }
    }
    eventually("a snapshot", async || {
        free.set(None, "k", "one more").await;
        let status = free.status(free.leader().await).await?;
        (status.format == 3 && status.snapshot_index > 0).then_some(())
    })
    .await;
    let status = held.status(held.leader().await).await.unwrap();
    assert_eq!((status.format, status.format_max), (1, 1));
    assert_eq!(status.format_due_bytes, Some(0), "it is due, and held");
    for id in held.ids() {
        assert!(!held.text(id, "logs.txt").contains("FORMAT"), "node {id}");
    }
}

// A snapshot that was damaged while the node was down: it starts without, says so, and is refilled
// from the leader. Where nodes have the same snapshot, it has the same hash.
#[tokio::test]
async fn a_damaged_snapshot_is_refilled() {
    let mut cluster = Cluster::start(3, MANY).await;
    let value = "x".repeat(100);
    for number in 0..40 {
        cluster.set(None, &format!("k{number}"), &value).await;
    }
    let leader = cluster.leader().await;
    let id = cluster.others(leader)[0];
    let path = cluster.data_dir(id).join("snapshot.txt");
    eventually("a snapshot", async || path.exists().then_some(())).await;
    cluster.kill(id);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    cluster.spawn(id);
    let leader = cluster.leader().await;
    cluster.caught_up(&[leader, id]).await;
    let dump = cluster.text(id, "dump.txt");
    assert!(
        dump.contains("has no state: snapshot.txt is damaged"),
        "{dump}"
    );
    assert!(cluster.data_dir(id).join("snapshot.damaged.txt").exists());
    for number in 0..200 {
        cluster.set(None, &format!("after {number}"), &value).await;
    }
    eventually("the same snapshot", async || {
        cluster.set(None, "one more", &value).await;
        let (one, other) = (cluster.status(leader).await?, cluster.status(id).await?);
        let same = one.snapshot_index == other.snapshot_index && one.snapshot_index > 40;
        assert!(!same || one.snapshot_hash == other.snapshot_hash);
        same.then_some(())
    })
    .await;
}

/// The files of a node that has so many keys, all in its snapshot.
fn write_keys(directory: &std::path::Path, keys: u64) {
    let mut store = Store::default();
    let begins = Format {
        version: 2,
        ..Format::default()
    };
    store.apply(1, &Command::Format(begins));
    let value: std::sync::Arc<str> = "x".repeat(100).into();
    for number in 0..keys {
        let operation = Operation::Set {
            key: format!("key{number:07}").into(),
            value: std::sync::Arc::clone(&value),
        };
        let request = None;
        store.apply(number + 2, &Command::Write(Write { request, operation }));
    }
    let head = SnapshotHead {
        state: store.begin_export(),
        term: 1,
        log_crc: 7,
    };
    let mut text = Vec::new();
    let mut writer = SnapshotWriter::begin(head, &mut text);
    while let ExportStep::Records(records) = store.export_next(1_000) {
        records
            .iter()
            .for_each(|record| writer.record(record, &mut text));
    }
    let snapshot = writer.end(&mut text);
    let metadata = Metadata {
        hard_state: HardState {
            term: 1,
            voted_for: Some(1),
        },
        commit_index: snapshot.index,
        applied_index: snapshot.index,
        format: 2,
        ..Metadata::default()
    };
    let base = LogBase {
        snapshot,
        log_crc: 7,
    };
    fs::create_dir(directory).unwrap();
    fs::write(directory.join("snapshot.txt"), text).unwrap();
    fs::write(directory.join("logs.txt"), base.encode()).unwrap();
    fs::write(directory.join("metadata.txt"), metadata.encode()).unwrap();
}

// A node with a million keys starts, serves them, and goes on.
#[tokio::test]
async fn a_million_keys_are_there_after_a_start() {
    const KEYS: u64 = 1_000_000;
    let mut cluster = Cluster::new(1, MANY);
    write_keys(&cluster.data_dir(1), KEYS);
    cluster.spawn(1);
    cluster.leader().await;
    assert_eq!(cluster.told(1).await.key_count, KEYS);
    for number in [0, KEYS / 2, KEYS - 1] {
        let value = cluster.get(&format!("key{number:07}")).await;
        assert_eq!(value, Some("x".repeat(100)), "{number}");
    }
    cluster.set(None, "key0000000", "another").await;
    cluster.kill(1);
    cluster.spawn(1);
    assert_eq!(cluster.get("key0000000").await.as_deref(), Some("another"));
}

/// What came of asking a node for a snapshot.
async fn take(cluster: &Cluster, id: u64) -> Result<TakeSnapshotReply, tonic::Status> {
    let taken = cluster
        .admin(id)
        .take_snapshot(TakeSnapshotRequest {})
        .await;
    taken.map(tonic::Response::into_inner)
}

// A snapshot on demand: a cluster that has no format with snapshots goes over to it first, which takes the leader
// and every node; until then it is refused, and says why. After the same entry all nodes have the same hash,
// asked twice they write nothing, and the next place is for all of them where it would have been.
#[tokio::test]
async fn a_snapshot_is_taken_on_demand() {
    let mut cluster = Cluster::start(3, &["--quiet", "--snapshot-log-kib=16"]).await;
    let leader = cluster.leader().await;
    let others = cluster.others(leader);
    let refused = take(&cluster, others[0]).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_LEADER", "{refused}");
    cluster.kill(others[0]);
    cluster.connected(leader, others[0], false).await;
    let refused = take(&cluster, leader).await.unwrap_err();
    assert!(refused.message().contains("not all are"), "{refused}");
    cluster.spawn(others[0]);
    for number in 0..10 {
        cluster.set(None, &format!("k{number}"), "x").await;
    }
    let leader = cluster.leader().await;
    let ids = [vec![leader], cluster.others(leader)].concat();
    let all = eventually("a snapshot of each", async || {
        let mut taken = Vec::new();
        for id in &ids {
            taken.push(take(&cluster, *id).await.ok()?);
        }
        Some(taken)
    })
    .await;
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    for id in &ids {
        let path = cluster.data_dir(*id).join("snapshot.txt");
        let text = fs::read(&path).unwrap();
        assert_eq!(text.len() as u64, all[0].bytes);
        assert!(cluster.text(*id, "logs.txt").starts_with("SNAPSHOT "));
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(take(&cluster, *id).await.unwrap(), all[0]);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    }
    cluster.set(None, "one", "more").await;
    let odd = take(&cluster, leader).await.unwrap();
    assert!(odd.index > all[0].index);
    let value = "x".repeat(1_000);
    eventually("the next place", async || {
        cluster.set(None, "k", &value).await;
        let mut places = Vec::new();
        for id in &ids {
            let status = cluster.status(*id).await?;
            places.push((status.snapshot_index, status.snapshot_hash));
        }
        let is_next = places[0].0 > odd.index && places.iter().all(|place| *place == places[0]);
        is_next.then_some(())
    })
    .await;
}

/// Changes a bit of the leader's snapshot while a node is away that will need it, and brings that node back.
/// Returns the leader and the last entry of the snapshot.
async fn damage_the_leaders_snapshot(cluster: &mut Cluster) -> (u64, u64) {
    let leader = cluster.leader().await;
    let late = cluster.others(leader)[0];
    let last = cluster.told(late).await.last_index;
    cluster.kill(late);
    let path = cluster.data_dir(leader).join("snapshot.txt");
    let mut number = 0;
    let damaged = eventually("a snapshot that the other lacks", async || {
        number += 1;
        cluster.set(None, "k1", &format!("{number:0100}")).await;
        let status = cluster.status(leader).await?;
        let is_behind = status.snapshot_index < status.applied_index;
        (status.snapshot_index > last + 20 && is_behind).then_some(status.snapshot_index)
    })
    .await;
    let mut text = fs::read(&path).unwrap();
    let middle = text.len() / 2;
    text[middle] ^= 1;
    fs::write(&path, text).unwrap();
    cluster.spawn(late);
    let leads = cluster.leader().await;
    cluster.caught_up(&[leads, late]).await;
    (leader, damaged)
}

// A leader whose snapshot was changed while it runs says so when a follower needs it, takes another, and
// brings the follower up.
#[tokio::test]
async fn a_leader_with_a_damaged_snapshot_tells() {
    let mut cluster = Cluster::start(3, MANY).await;
    let value = "x".repeat(100);
    for number in 0..40 {
        cluster.set(None, &format!("k{}", number % 8), &value).await;
    }
    // Where another node came to lead, or the next snapshot came in place of the damaged one, nobody met it.
    let mut met = None;
    for _ in 0..5 {
        let (leader, damaged) = damage_the_leaders_snapshot(&mut cluster).await;
        let told = format!("Node {leader} finds its snapshot.txt damaged");
        let is_told = async || {
            while !cluster.text(leader, "dump.txt").contains(&told) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(2), is_told())
            .await
            .is_ok()
        {
            met = Some((leader, damaged));
            break;
        }
    }
    let (leader, damaged) = met.expect("a leader that says that its snapshot is damaged");
    let status = cluster.told(leader).await;
    assert!(!status.snapshot_damaged, "another one is there");
    assert!(status.snapshot_index > damaged);
}
