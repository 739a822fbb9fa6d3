//! What a node makes of its files.

use crate::cluster::{Cluster, eventually};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Changes one byte in the middle of a line (from 1) of a file.
fn flip(path: &Path, line: usize) {
    let text = fs::read_to_string(path).unwrap();
    let before: usize = text.lines().take(line - 1).map(|line| line.len() + 1).sum();
    let mut bytes = text.into_bytes();
    bytes[before + 2] ^= 1;
    fs::write(path, bytes).unwrap();
}

// A last line that a crash cut short is cut off; the node says so and goes on.
#[tokio::test]
async fn a_torn_tail_is_cut_off() {
    let mut cluster = Cluster::start(3, &[]).await;
    cluster.set(None, "k", "v").await;
    let leader = cluster.leader().await;
    let torn = cluster.others(leader)[0];
    cluster.kill(torn);
    let path = cluster.data_dir(torn).join("logs.txt");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("SET half a li");
    fs::write(&path, text).unwrap();
    cluster.spawn(torn);
    cluster.caught_up(&[leader, torn]).await;
    let said = format!("Node {torn} cut off a torn last write in logs.txt.");
    eventually("a line in dump.txt", async || {
        cluster.text(torn, "dump.txt").contains(&said).then_some(())
    })
    .await;
    assert!(!cluster.text(torn, "logs.txt").contains("half"));
}

// Damage before the end is named by its line; the node keeps what is before, does not vote, is
// refilled by the leader, and then is a node like any other.
#[tokio::test]
async fn a_damaged_log_is_refilled() {
    let mut cluster = Cluster::start(3, &[]).await;
    for key in ["a", "b", "c"] {
        cluster.set(None, key, "v").await;
    }
    let leader = cluster.leader().await;
    let [damaged, other] = cluster.others(leader)[..] else {
        panic!("three nodes");
    };
    cluster.caught_up(&[leader, damaged, other]).await;
    cluster.kill(damaged);
    let path = cluster.data_dir(damaged).join("logs.txt");
    flip(&path, 2);
    let found = fs::read(&path).unwrap();

    // Without the leader, the healthy node gets no vote from the damaged one.
    cluster.kill(leader);
    cluster.spawn(damaged);
    // Each attempt to get votes also goes, in vain, to the dead leader.
    let in_vain = format!("Error occurred while sending RPC to Node {leader}.");
    eventually("attempts to get votes", async || {
        let dump = cluster.text(other, "dump.txt");
        (dump.matches(&in_vain).count() >= 3).then_some(())
    })
    .await;
    for id in [damaged, other] {
        let status = cluster.told(id).await;
        assert_ne!(status.role(), raftkv::admin::Role::Leader, "node {id}");
    }
    let said = format!("Node {damaged} found logs.txt damaged at line 2.");
    assert!(cluster.text(damaged, "dump.txt").contains(&said));
    assert_eq!(
        fs::read(cluster.data_dir(damaged).join("logs.damaged.txt")).unwrap(),
        found
    );

    // With it back, the damaged one is refilled, and after a restart nothing is left of it.
    cluster.spawn(leader);
    let leader = cluster.leader().await;
    cluster.caught_up(&[leader, damaged]).await;
    eventually("the same log", async || {
        (cluster.text(damaged, "logs.txt") == cluster.text(leader, "logs.txt")).then_some(())
    })
    .await;
    eventually("the commit on record", async || {
        let metadata = cluster.text(damaged, "metadata.txt");
        let mut lines = metadata.lines();
        let commit = lines.find_map(|line| line.strip_prefix("commitLength "))?;
        (commit.parse::<u64>().unwrap() >= 4).then_some(())
    })
    .await;
    assert_eq!(cluster.terminate(damaged).await.code(), Some(0));
    cluster.spawn(damaged);
    eventually("the mark to be gone", async || {
        (!cluster.data_dir(damaged).join("damaged.txt").exists()).then_some(())
    })
    .await;
    cluster.caught_up(&[leader, damaged]).await;
}

// Where no leader is left to refill it, an operator can give up what damage cost: said in a file, so
// that it works wherever the node runs, and only once.
#[tokio::test]
async fn damage_can_be_accepted() {
    let mut cluster = Cluster::start(1, &[]).await;
    for key in ["a", "b", "c"] {
        cluster.set(None, key, "v").await;
    }
    assert_eq!(cluster.terminate(1).await.code(), Some(0));
    let directory = cluster.data_dir(1);
    // Behind the NO-OP and a.
    flip(&directory.join("logs.txt"), 3);
    cluster.spawn(1);
    eventually("the way out to be told", async || {
        let told = cluster.stderr(1).contains("make a file accept-damage");
        told.then_some(())
    })
    .await;
    cluster.kill(1);
    let accept = directory.join("accept-damage");
    fs::write(&accept, "").unwrap();
    cluster.spawn(1);
    assert_eq!(cluster.get("a").await.as_deref(), Some("v"));
    assert_eq!(cluster.get("b").await, None);
    cluster.set(None, "b", "again").await;
    assert!(!accept.exists());
    cluster.kill(1);
    cluster.spawn(1);
    assert_eq!(cluster.get("b").await.as_deref(), Some("again"));
}

// The directory of a member is put back from an older copy while the only node that holds what was
// written since is down, and the two that are left go on without it. The third ends with words and
// an exit code that a supervisor heeds, its log as it was; when told to give it up, it follows.
#[tokio::test]
async fn a_member_put_back_from_an_older_copy() {
    let mut cluster = Cluster::start(3, &["--quiet"]).await;
    let whole = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != whole).collect();
    let (restored, absent) = (others[0], others[1]);
    cluster.set(None, "k", "old").await;
    cluster.caught_up(&[whole, restored, absent]).await;
    cluster.kill(restored);
    let files = ["logs.txt", "metadata.txt", "mark.txt"];
    let directory = cluster.data_dir(restored);
    let copy = files.map(|file| fs::read(directory.join(file)).unwrap());
    cluster.spawn(restored);
    cluster.kill(absent);
    cluster.caught_up(&[whole, restored]).await;
    cluster.set(None, "k", "new").await;
    let last = cluster.told(whole).await.last_index;
    eventually("the commit on record", async || {
        let mark = cluster.text(whole, "mark.txt");
        let commit = mark.lines().next()?.strip_prefix("commitLength ")?;
        (commit.parse::<u64>().ok()? >= last).then_some(())
    })
    .await;
    cluster.kill(restored);
    cluster.kill(whole);
    for (file, bytes) in files.iter().zip(copy) {
        fs::write(directory.join(file), bytes).unwrap();
    }
    cluster.spawn(restored);
    cluster.spawn(absent);
    assert_eq!(
        cluster.get("k").await.as_deref(),
        Some("old"),
        "lost for them"
    );

    let log = cluster.text(whole, "logs.txt");
    cluster.spawn(whole);
    assert_eq!(cluster.ended(whole).await.code(), Some(3));
    let stderr = cluster.stderr(whole);
    let words = "lacks entries that are committed here";
    assert!(stderr.lines().last().unwrap().contains(words), "{stderr}");
    assert_eq!(cluster.text(whole, "logs.txt"), log, "untouched");

    fs::write(cluster.data_dir(whole).join("accept-damage"), "").unwrap();
    cluster.spawn(whole);
    cluster.caught_up(&[whole, restored, absent]).await;
    assert_eq!(cluster.text(whole, "logs.damaged.txt"), log);
}

// Files without which a node could vote twice, or that a later version wrote: no start, exit code
// 3 (which a supervisor heeds), a reason, and not a byte changed.
#[tokio::test]
async fn unusable_files_stop_the_start() {
    let mut cluster = Cluster::start(1, &["--quiet"]).await;
    cluster.set(None, "k", "v").await;
    assert_eq!(cluster.terminate(1).await.code(), Some(0));
    let directory = cluster.data_dir(1);
    let (logs, metadata) = (directory.join("logs.txt"), directory.join("metadata.txt"));
    let (good_logs, good_metadata) = (fs::read(&logs).unwrap(), fs::read(&metadata).unwrap());
    type Break<'a> = &'a dyn Fn();
    let cases: [(&str, Break<'_>); 3] = [
        ("metadata.txt is missing", &|| {
            fs::remove_file(&metadata).unwrap()
        }),
        ("metadata.txt is damaged", &|| flip(&metadata, 1)),
        ("logs.txt is missing", &|| fs::remove_file(&logs).unwrap()),
    ];
    for (words, break_it) in cases {
        break_it();
        let before = (fs::read(&logs).ok(), fs::read(&metadata).ok());
        let output = Command::new(crate::cluster::BINARY)
            .args(cluster.arguments(1))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(words), "{words}: {stderr}");
        assert_eq!(before, (fs::read(&logs).ok(), fs::read(&metadata).ok()));
        fs::write(&logs, &good_logs).unwrap();
        fs::write(&metadata, &good_metadata).unwrap();
    }
    cluster.spawn(1);
    assert_eq!(cluster.get("k").await.as_deref(), Some("v"));
}
