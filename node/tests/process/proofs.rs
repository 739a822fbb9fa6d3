//! What the end of a process proves to the others, and what proves nothing.

use crate::cluster::{Cluster, SOON, eventually, within};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// With a lease so long, a wait for it can't be mistaken for a slow machine.
const LONG_LEASE: &[&str] = &["--lease-ms=10000"];
/// What comes within this time has not waited for it.
const PROMPT: Duration = Duration::from_secs(7);

impl Cluster {
    /// Whether a node has written down that a run of another has ended for certain.
    fn knows_end(&self, id: u64, of: u64) -> bool {
        let known = format!("Node {id} knows for certain that a run of Node {of} has ended.");
        self.text(id, "dump.txt").contains(&known)
    }

    /// The processes that a node has started.
    fn children(&self, id: u64) -> Vec<PathBuf> {
        let pid = self.pid(id);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let pids = children.split_whitespace();
        pids.map(|pid| Path::new("/proc").join(pid)).collect()
    }
}

/// The lines of a dump that hold these words, with their places.
fn lines_with(dump: &str, words: &str) -> Vec<usize> {
    let lines = dump.lines().enumerate();
    let found = lines.filter(|(_, line)| line.contains(words));
    found.map(|(place, _)| place).collect()
}

/// After the death of its leader a cluster acknowledges a SET long before the lease is over, and its dumps
/// tell that it was not the clock that ended the wait: somebody knew, before anything was committed, and
/// waived what was promised.
async fn no_wait_for(cluster: &Cluster, old: u64) {
    let others = cluster.others(old);
    let killed = Instant::now();
    within(PROMPT, "a SET that waits for no lease", async || {
        for id in &others {
            let set = tokio::time::timeout(SOON, cluster.try_set(*id, None, "after", "2"));
            if matches!(set.await, Ok(Ok(_))) {
                return Some(());
            }
        }
        None
    })
    .await;
    println!("a SET {:?} after the kill", killed.elapsed());
    let new = cluster.leader_among(&others).await;
    let term = cluster.told(new).await.term;
    let committed =
        format!("(leader) committed the entry NO-OP to the state machine.\tterm={term}");
    eventually("the commit in the dump", async || {
        let dump = cluster.text(new, "dump.txt");
        let commit = *lines_with(&dump, &committed).first()?;
        let knew = *lines_with(&dump, &format!("that a run of Node {old} has ended.")).first()?;
        assert!(knew < commit, "nothing is committed before the proof");
        let waived = |id: &u64| {
            let dump = cluster.text(*id, "dump.txt");
            dump.contains(&format!("owes nothing more to that run of Node {old}."))
                || dump.contains("need not wait for an older lease: who held it has ended.")
        };
        assert!(others.iter().any(waived), "a promise was waived");
        Some(())
    })
    .await;
}

// A leader that is killed, and is not started again, costs no wait: a process that watched it tells the
// others, and ends.
#[tokio::test]
async fn a_killed_leader_is_not_waited_for() {
    for secured in [false, true] {
        let mut cluster = match secured {
            false => Cluster::start(3, LONG_LEASE).await,
            true => Cluster::start_secured(3, LONG_LEASE).await,
        };
        let old = cluster.leader().await;
        cluster.set(None, "before", "1").await;
        cluster.caught_up(&cluster.ids()).await;
        let watching = cluster.children(old);
        assert_eq!(watching.len(), 1, "{watching:?}");
        cluster.kill(old);
        no_wait_for(&cluster, old).await;
        assert_eq!(cluster.get("before").await.as_deref(), Some("1"));
        eventually("the end of who watched it", async || {
            (!watching[0].exists()).then_some(())
        })
        .await;
        // All others know, and nothing else of each other.
        for id in cluster.others(old) {
            eventually("the news", async || {
                cluster.knows_end(id, old).then_some(())
            })
            .await;
            for other in cluster.others(id).into_iter().filter(|it| *it != old) {
                assert!(!cluster.knows_end(id, other), "node {other} lives");
            }
        }
    }
}

// All nodes are killed at once and started again: each says that its former run has ended, so nobody waits
// for a lease.
#[tokio::test]
async fn all_killed_and_started_again_wait_for_nobody() {
    let mut cluster = Cluster::start(3, LONG_LEASE).await;
    cluster.set(None, "before", "1").await;
    cluster.caught_up(&cluster.ids()).await;
    // What a leader is promised is on disk, but a former start may be too near.
    for id in cluster.ids() {
        eventually("names on record", async || {
            let metadata = cluster.text(id, "metadata.txt");
            metadata.contains("\npromisedTo ").then_some(())
        })
        .await;
    }
    for id in cluster.ids() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    within(PROMPT, "a SET that waits for no lease", async || {
        for id in cluster.ids() {
            if cluster.try_set(id, None, "after", "2").await.is_ok() {
                return Some(());
            }
        }
        None
    })
    .await;
    for id in cluster.ids() {
        assert!(cluster.knows_end(id, id), "node {id} knows of its own");
    }
    assert_eq!(cluster.get("before").await.as_deref(), Some("1"));
}

// A leader that stands still is alive: nothing is proved, and its lease is waited for. Nor is anything where
// operators don't want it.
#[tokio::test]
async fn who_stands_still_is_waited_for() {
    let mut cluster = Cluster::start(3, &[]).await;
    let old = cluster.leader().await;
    cluster.set(None, "before", "1").await;
    cluster.signal(old, Signal::STOP);
    let others = cluster.others(old);
    cluster.set_among(&others, "after", "2").await;
    for id in &others {
        assert!(!cluster.knows_end(*id, old), "node {old} lives");
    }
    cluster.signal(old, Signal::CONT);
    drop(cluster);

    let mut cluster = Cluster::start(3, &["--proof-of-death=false"]).await;
    let old = cluster.leader().await;
    assert_eq!(cluster.children(old), Vec::<PathBuf>::new());
    cluster.kill(old);
    let others = cluster.others(old);
    cluster.set_among(&others, "after", "2").await;
    cluster.spawn(old);
    cluster.set(None, "again", "3").await;
    for id in cluster.ids() {
        assert!(!cluster.knows_end(id, old), "node {id} takes no part");
    }
}

// A node that is started on a copy of a directory knows nothing of who runs in the original; one that is
// started in its place knows.
#[tokio::test]
async fn a_copied_directory_proves_nothing() {
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.set(None, "before", "1").await;
    let copy = Cluster::new(1, &[]);
    let (from, to) = (cluster.data_dir(1), copy.data_dir(1));
    std::fs::create_dir(&to).unwrap();
    for file in ["lock", "logs.txt", "metadata.txt", "mark.txt", "lease.txt"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let mut copy = copy;
    copy.spawn(1);
    copy.leader().await;
    assert!(!copy.knows_end(1, 1), "the original lives");
    copy.kill(1);
    copy.spawn(1);
    eventually("the end of the copy's run", async || {
        copy.knows_end(1, 1).then_some(())
    })
    .await;
    assert!(!cluster.knows_end(1, 1));
    cluster.kill(1);
    cluster.spawn(1);
    eventually("the end of the run before", async || {
        cluster.knows_end(1, 1).then_some(())
    })
    .await;
}
