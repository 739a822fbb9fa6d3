//! Nodes that are killed all the time, under load, while they take snapshots all the time.

use crate::cluster::{Cluster, SOON, eventually, request};
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::{Consistency, SetRequest};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tonic::transport::Channel;

/// Under this load a snapshot is taken every second and more often.
const MANY: &[&str] = &["--quiet", "--raise-format-from=1", "--snapshot-log-kib=64"];

/// As many kills unless `KILLS` says otherwise.
const KILLS: u64 = 10;
const WRITERS: u64 = 4;
const KEYS: u64 = 50;

/// What a node may take more in the second half than in the first: its buffers as they happen to be.
const SLACK_BYTES: u64 = 16 << 20;

/// Writes that are acknowledged between a kill and the node's start, and after it.
const BETWEEN: u64 = 150;

/// What a process holds in memory; 0 where that can't be known.
fn resident_bytes(pid: u64) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.map_or("0", |kib| kib.trim().trim_end_matches(" kB"));
    kib.parse::<u64>().unwrap() * 1024
}

/// Sets its keys, one after the other, each until it is acknowledged; returns what it was told is there.
async fn write(
    number: u64,
    channels: Vec<Channel>,
    acknowledged: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    let (mut sequence, mut at) = (0, 0);
    while !ends.load(Ordering::Relaxed) {
        sequence += 1;
        let set = SetRequest {
            request: request(100 + number, sequence),
            key: format!("w{number}-{}", sequence % KEYS),
            value: format!("{sequence:0200}"),
        };
        let begun = Instant::now();
        loop {
            let mut kv = KvClient::new(channels[at].clone());
            match tokio::time::timeout(SOON / 10, kv.set(set.clone())).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) | Err(_) => at = (at + 1) % channels.len(),
            }
            assert!(begun.elapsed() < 2 * SOON, "nobody takes {set:?}");
            // A node that is down refuses at once.
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        told.insert(set.key, set.value);
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    told
}

// Whoever is killed, and whenever: every acknowledged SET is there afterwards, on every node, and no
// node takes more memory than it did at first. Ten kills, or as many as KILLS says.
#[tokio::test]
async fn kills_under_load_lose_nothing() {
    let kills = std::env::var("KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut cluster = Cluster::start(3, MANY).await;
    let (acknowledged, ends) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let channels: Vec<_> = cluster
        .ids()
        .iter()
        .map(|id| cluster.channel(*id))
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (acknowledged, ends) = (Arc::clone(&acknowledged), Arc::clone(&ends));
            tokio::spawn(write(number, channels.clone(), acknowledged, ends))
        })
        .collect();
    let more = async || {
        let target = acknowledged.load(Ordering::Relaxed) + BETWEEN;
        eventually("more acknowledged SETs", async || {
            (acknowledged.load(Ordering::Relaxed) >= target).then_some(())
        })
        .await;
    };
    let mut largest = [0; 2];
    for kill in 0..kills {
        let id = rand::random_range(1..=3);
        cluster.kill(id);
        more().await;
        cluster.spawn(id);
        more().await;
        for other in cluster.others(id) {
            if let Some(status) = cluster.status(other).await {
                let half = &mut largest[usize::from(kill >= kills / 2)];
                *half = resident_bytes(status.pid).max(*half);
            }
        }
    }
    ends.store(true, Ordering::Relaxed);
    let mut expected = BTreeMap::new();
    for writer in writers {
        expected.extend(writer.await.unwrap());
    }
    let leader = cluster.leader().await;
    let ids = [vec![leader], cluster.others(leader)].concat();
    cluster.caught_up(&ids).await;
    for (key, value) in &expected {
        for id in &ids {
            let stale = cluster.try_get(*id, key, Consistency::Stale).await;
            assert_eq!(stale.unwrap().value, *value, "{key} at node {id}");
        }
    }
    let told = |words: &str| {
        let dumps = ids.iter().map(|id| cluster.text(*id, "dump.txt"));
        dumps.map(|dump| dump.matches(words).count()).sum::<usize>()
    };
    let snapshots = told("took a snapshot and cut its log");
    let [first, second] = largest.map(|bytes| bytes >> 20);
    println!(
        "{kills} kills, {} SETs, {snapshots} snapshots and {} installs in the last dump.txt; at most \
         {first} MiB, then {second} MiB",
        acknowledged.load(Ordering::Relaxed),
        told("goes on from a snapshot of the leader"),
    );
    assert!(snapshots as u64 > kills, "{snapshots} snapshots");
    assert!(
        largest[1] < largest[0] + SLACK_BYTES,
        "{first} MiB, then {second} MiB"
    );
}
