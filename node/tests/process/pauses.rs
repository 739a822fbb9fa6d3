//! A process that stands still, in the middle of whatever it was doing, and goes on as if nothing
//! had happened.

use crate::clients::{Pipe, get};
use crate::cluster::{Cluster, eventually};
use raftkv::kv::{Consistency, outcome};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// GETs in one message: a good deal of work, so that a pause falls into it.
const BATCH: u64 = 200;
/// Messages under way on a stream before the pause, and as many again during it.
const MESSAGES: u64 = 8;
/// Marks the ids of GETs that were sent after the newest value had been acknowledged.
const LATE: u64 = 1 << 32;

/// What the readers share.
#[derive(Default)]
struct Race {
    /// 0, or [`LATE`].
    mark: AtomicU64,
    late_sent: AtomicU64,
    late_answered: AtomicU64,
    stale: AtomicU64,
}

/// Keeps a stream full of GETs until enough late ones are answered.
async fn read(mut pipe: Pipe, race: Arc<Race>, newest: String) {
    let (mut sent, mut answered, mut late) = (0, 0, 0);
    while late < BATCH * MESSAGES {
        let mark = race.mark.load(Ordering::SeqCst);
        let room = if mark == LATE { 2 } else { 1 } * BATCH * MESSAGES;
        if sent - answered + BATCH <= room {
            let ids = sent..sent + BATCH;
            let reads = ids.map(|id| get(id | mark, "k", Consistency::Lease));
            pipe.send(reads.collect()).await;
            sent += BATCH;
            race.late_sent.fetch_add(mark / LATE, Ordering::SeqCst);
            continue;
        }
        // Looks at the mark again even while nobody answers.
        let outcomes = tokio::time::timeout(Duration::from_millis(5), pipe.outcomes(1));
        for (id, outcome) in outcomes.await.unwrap_or_default() {
            answered += 1;
            if id & LATE == 0 {
                continue;
            }
            late += 1;
            race.late_answered.fetch_add(1, Ordering::SeqCst);
            if matches!(outcome, outcome::Outcome::Get(reply) if reply.value != newest) {
                race.stale.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

// A leader that was frozen past its lease, in the middle of answering GETs, must not answer from
// what it remembers. Raced again and again: a GET that was sent after a newer value had been
// acknowledged by the next leader finds that value, or no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_serves_nothing_stale() {
    let mut cluster = Cluster::start(3, &[]).await;
    for round in 0..5 {
        let old = cluster.leader().await;
        let newest = format!("{round}");
        cluster.set(None, "k", "old").await;
        let race = Arc::new(Race::default());
        let mut readers: Vec<JoinHandle<()>> = Vec::new();
        for _ in 0..4 {
            let pipe = Pipe::open(&cluster, old).await;
            readers.push(tokio::spawn(read(pipe, Arc::clone(&race), newest.clone())));
        }
        let before = reads(&cluster, old).await;
        eventually("many GETs answered", async || {
            (reads(&cluster, old).await > before + 10_000).then_some(())
        })
        .await;

        cluster.signal(old, Signal::STOP);
        let others = cluster.others(old);
        cluster.leader_among(&others).await;
        cluster.set_among(&others, "k", &newest).await;
        race.mark.store(LATE, Ordering::SeqCst);
        eventually("late GETs on their way", async || {
            (race.late_sent.load(Ordering::SeqCst) >= 4 * MESSAGES).then_some(())
        })
        .await;
        // Nothing tells when they stand in the old leader's sockets; this is plenty.
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.signal(old, Signal::CONT);
        for reader in readers {
            reader.await.unwrap();
        }
        assert!(race.late_answered.load(Ordering::SeqCst) >= 4 * BATCH * MESSAGES);
        let stale = race.stale.load(Ordering::SeqCst);
        assert_eq!(stale, 0, "round {round}: stale reads of the paused leader");
    }
}

async fn reads(cluster: &Cluster, id: u64) -> u64 {
    let status = cluster.status(id).await;
    status.map_or(0, |status| status.counters.unwrap().lease_reads)
}
