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
        let status = cluster.status(id).await.unwrap();
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

// Files without which a node could vote twice, or that a later version wrote: no start, exit code
// 1, a reason, and not a byte changed.
#[tokio::test]
async fn unusable_files_stop_the_start() {
    let mut cluster = Cluster::start(1, &["--quiet"]).await;
    cluster.set(None, "k", "v").await;
    assert_eq!(cluster.terminate(1).await.code(), Some(0));
    let directory = cluster.data_dir(1);
    let (logs, metadata) = (directory.join("logs.txt"), directory.join("metadata.txt"));
    let (good_logs, good_metadata) = (fs::read(&logs).unwrap(), fs::read(&metadata).unwrap());
    let snapshot = b"SNAPSHOT 1200 3\tindex=1200 crc=00000000\n";
    type Break<'a> = &'a dyn Fn();
    let cases: [(&str, Break<'_>); 4] = [
        ("metadata.txt is missing", &|| {
            fs::remove_file(&metadata).unwrap()
        }),
        ("metadata.txt is damaged", &|| flip(&metadata, 1)),
        ("logs.txt is missing", &|| fs::remove_file(&logs).unwrap()),
        ("snapshot", &|| fs::write(&logs, snapshot).unwrap()),
    ];
    for (words, break_it) in cases {
        break_it();
        let before = (fs::read(&logs).ok(), fs::read(&metadata).ok());
        let output = Command::new(crate::cluster::BINARY)
            .args(cluster.arguments(1))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(words), "{words}: {stderr}");
        assert_eq!(before, (fs::read(&logs).ok(), fs::read(&metadata).ok()));
        fs::write(&logs, &good_logs).unwrap();
        fs::write(&metadata, &good_metadata).unwrap();
    }
    cluster.spawn(1);
    assert_eq!(cluster.get("k").await.as_deref(), Some("v"));
}

// A disk without room: no start, exit code 1, and the message says what to do.
#[test]
fn a_full_disk_stops_the_start() {
    let Some(full) = SmallDisk::mount_or_say("64k") else {
        return;
    };
    let cluster = Cluster::new(1, &[]);
    let mut arguments = cluster.arguments(1);
    arguments[2] = format!(
        "--data-dir={}",
        full.directory.path().join("node").display()
    );
    let output = Command::new(crate::cluster::BINARY)
        .args(&arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no space left"), "{stderr}");
    assert!(!full.directory.path().join("node/logs.txt").exists());
}

// A disk that fills up under a running node: the node stops with the reason rather than going on
// with what it could not write, and what it had acknowledged is there when there is room again.
#[tokio::test]
async fn a_disk_that_fills_up_stops_the_node() {
    let Some(small) = SmallDisk::mount_or_say("1m") else {
        return;
    };
    let mut cluster = Cluster::new(1, &[]);
    let data_dir = small.directory.path().join("node");
    let mut arguments = cluster.arguments(1);
    arguments[2] = format!("--data-dir={}", data_dir.display());
    cluster.spawn_with(1, &arguments);
    cluster.leader().await;
    let value = "x".repeat(10_000);
    let mut acknowledged = 0;
    while cluster
        .try_set(1, None, &format!("key{acknowledged}"), &value)
        .await
        .is_ok()
    {
        acknowledged += 1;
    }
    assert!(
        (1..100).contains(&acknowledged),
        "{acknowledged} writes fit"
    );
    assert_eq!(cluster.ended(1).await.code(), Some(1));
    let stderr = cluster.stderr(1);
    let reason = "the disk failed, so the node stops: no space left on the disk";
    assert!(stderr.lines().last().unwrap().contains(reason), "{stderr}");

    let resized = Command::new("mount")
        .args(["-o", "remount,size=4m"])
        .arg(small.directory.path())
        .status();
    assert!(resized.unwrap().success());
    cluster.spawn_with(1, &arguments);
    for number in 0..acknowledged {
        let read = cluster.get(&format!("key{number}")).await;
        assert_eq!(read.as_deref(), Some(&*value), "key{number}");
    }
}

/// A tmpfs with little room.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, said loudly, where it takes rights that the test does not have; CI must have them.
    fn mount_or_say(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { directory });
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must be able to mount a small tmpfs (root needed)"
        );
        eprintln!("LEFT OUT: no tmpfs can be mounted here, so no full disk was tried");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Left to the end of the machine where it fails: nothing is lost.
        let unmount = Command::new("umount").arg(self.directory.path()).output();
        unmount.ok();
    }
}
