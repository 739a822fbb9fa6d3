//! What a node makes of a disk without room. Needed is root, who may mount a small one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::{Need, Test, program_is_missing, tests};
use raftkv::kv::Consistency;
use tonic::Code;

use crate::cluster::{Cluster, eventually, reason};
use crate::on_a_runtime;

static SMALL_DISKS: Need = Need::new(|| {
    let absent = program_is_missing("mount", "install the package mount");
    absent.or_else(|| {
        let folder = tempfile::tempdir().unwrap();
        if !mount("64k", folder.path()) {
            return Some("no tmpfs can be mounted here, which takes root".into());
        }
        let unmounted = Command::new("umount").arg(folder.path()).status();
        assert!(unmounted.unwrap().success());
        None
    })
});

pub fn tests() -> Vec<Test> {
    tests!(
        [SMALL_DISKS],
        a_full_disk_stops_the_start,
        a_full_disk_ends_writes_alone,
        a_write_without_room_waits_for_it,
        a_snapshot_without_room_is_left_out,
        a_snapshot_of_the_leader_waits_for_room
    )
}

/// Mounts a tmpfs; whether that is allowed.
fn mount(size: &str, folder: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
    mount.arg(folder).output().unwrap().status.success()
}

// A disk without room: no start, exit code 1, and the message says what to do.
fn a_full_disk_stops_the_start() {
    let full = SmallDisk::mount("64k");
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

// A disk that fills up under a running node ends writes, in words, and nothing else: reads go on under
// the lease, also after a crash on a disk that something else has filled to the last byte, and
// writes come back by themselves with the room.
fn a_full_disk_ends_writes_alone() {
    on_a_runtime(async {
        let small = SmallDisk::mount("16m");
        let mut cluster = Cluster::new(1, &["--min-free-mib=4"]);
        let arguments = on_disk(&small, &cluster, 1);
        cluster.spawn_with(1, &arguments);
        cluster.leader().await;
        let value = "x".repeat(100_000);
        let mut acknowledged = 0;
        let refusal = loop {
            let key = format!("key{acknowledged}");
            match cluster.try_set(1, None, &key, &value).await {
                Ok(_) => acknowledged += 1,
                Err(refusal) => break refusal,
            }
        };
        assert!((50..130).contains(&acknowledged), "{acknowledged} fit");
        let said = (refusal.code(), reason(&refusal));
        assert_eq!(said, (Code::ResourceExhausted, "DISK_FULL"), "{refusal:?}");
        assert_eq!(cluster.get("key0").await.as_deref(), Some(&*value));
        let disk = cluster.status(1).await.unwrap().disk.unwrap();
        assert!(disk.refuses_writes && disk.free_bytes < disk.kept_bytes);

        let filler = small.directory.path().join("filler");
        fs::write(&filler, vec![b'x'; 16 << 20]).expect_err("it does not fit");
        cluster.kill(1);
        cluster.spawn_with(1, &arguments);
        cluster.leader().await;
        for number in [0, acknowledged - 1] {
            let read = cluster.get(&format!("key{number}")).await;
            assert_eq!(read.as_deref(), Some(&*value), "key{number}");
        }
        let refusal = cluster.try_set(1, None, "k", "v").await.unwrap_err();
        assert_eq!(reason(&refusal), "DISK_FULL");

        fs::remove_file(&filler).unwrap();
        small.resize("64m");
        cluster.set(None, "afterwards", "v").await;
        let dump = fs::read_to_string(small.directory.path().join("node/dump.txt")).unwrap();
        assert!(dump.contains("Node 1 takes writes again"), "{dump}");
    });
}

// Where nothing is kept free, a write that finds no room is waited for: the process stays, also where
// it starts on a full disk, and goes on when there is room, with all that it had acknowledged.
fn a_write_without_room_waits_for_it() {
    on_a_runtime(async {
        let small = SmallDisk::mount("1m");
        let mut cluster = Cluster::new(1, &["--min-free-mib=0"]);
        let arguments = on_disk(&small, &cluster, 1);
        cluster.spawn_with(1, &arguments);
        cluster.leader().await;
        let pid = cluster.status(1).await.unwrap().pid;
        let value = "x".repeat(10_000);
        let mut acknowledged = 0;
        loop {
            let key = format!("key{acknowledged}");
            let set = cluster.try_set(1, None, &key, &value);
            match tokio::time::timeout(Duration::from_secs(2), set).await {
                Ok(Ok(_)) => acknowledged += 1,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        assert!((1..100).contains(&acknowledged), "{acknowledged} fit");
        let read = cluster.try_get(1, "key0", Consistency::Stale).await;
        assert_eq!(read.unwrap().value, value);
        assert_eq!(cluster.status(1).await.unwrap().pid, pid, "it goes on");
        let metadata = small.directory.path().join("node/metadata.txt");
        eventually(
            "the commit on record, for which there is room",
            async || {
                let text = fs::read_to_string(&metadata).unwrap();
                let mut lines = text.lines();
                let commit = lines.find_map(|line| line.strip_prefix("commitLength "))?;
                (commit.parse::<u64>().unwrap() > acknowledged).then_some(())
            },
        )
        .await;
        // So does one that starts where the last byte is taken.
        cluster.kill(1);
        let filler = small.directory.path().join("filler");
        fs::write(&filler, vec![b'x'; 1 << 20]).expect_err("it does not fit");
        cluster.spawn_with(1, &arguments);
        let read = eventually("a read", async || {
            let read = cluster.try_get(1, "key0", Consistency::Stale).await;
            read.ok()
        });
        assert_eq!(read.await.value, value);
        let pid = cluster.status(1).await.unwrap().pid;
        small.resize("4m");
        cluster.set(None, "afterwards", "v").await;
        for number in 0..acknowledged {
            let read = cluster.get(&format!("key{number}")).await;
            assert_eq!(read.as_deref(), Some(&*value), "key{number}");
        }
        assert_eq!(
            cluster.status(1).await.unwrap().pid,
            pid,
            "the same process"
        );
        // What is in the file is what was acknowledged, without pieces of what had no room.
        cluster.kill(1);
        cluster.spawn_with(1, &arguments);
        assert_eq!(cluster.get("afterwards").await.as_deref(), Some("v"));
        assert!(
            !cluster.stderr(1).contains("damaged"),
            "{}",
            cluster.stderr(1)
        );
    });
}

/// Snapshots, and no room that is kept free.
const SNAPSHOTS: &[&str] = &[
    "--min-free-mib=0",
    "--raise-format-from=1",
    "--snapshot-log-kib=512",
];

/// So many values that make the state.
const VALUES: usize = 60;

/// Sets all of them once more; false: one was not acknowledged in time.
async fn set_all(cluster: &Cluster, ids: &[u64], round: usize) -> bool {
    for number in 0..VALUES {
        let value = value_of(round, number);
        let key = format!("key{number}");
        let set = cluster.set_among(ids, &key, &value);
        if tokio::time::timeout(Duration::from_secs(5), set)
            .await
            .is_err()
        {
            return false;
        }
    }
    true
}

fn value_of(round: usize, number: usize) -> String {
    format!("{round}-{number}-").repeat(50_000 / format!("{round}-{number}-").len())
}

// A disk on which the log has room, but not a second copy of the state: the snapshot is left out, in
// words, writes and reads go on, and with the room the next one is taken. Nothing that was
// acknowledged is lost, over a kill as well.
fn a_snapshot_without_room_is_left_out() {
    on_a_runtime(async {
        let small = SmallDisk::mount("64m");
        let mut cluster = Cluster::new(1, SNAPSHOTS);
        let arguments = on_disk(&small, &cluster, 1);
        cluster.spawn_with(1, &arguments);
        cluster.leader().await;
        let pid = cluster.status(1).await.unwrap().pid;
        let dump = || fs::read_to_string(small.directory.path().join("node/dump.txt")).unwrap();
        for round in 0..2 {
            assert!(set_all(&cluster, &[1], round).await);
        }
        // From the place of a snapshot on, the log grows by the state before the next place.
        let index = async || cluster.status(1).await.unwrap().snapshot_index;
        let before = index().await;
        while index().await == before {
            cluster.set(None, "filling", &value_of(0, 0)).await;
        }
        let filler = small.directory.path().join("filler");
        let state = (VALUES * 50_000) as u64;
        let used = fs::read_dir(small.directory.path().join("node")).unwrap();
        let used: u64 = used
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        let filled = (64 << 20) - used - state * 3 / 2;
        fs::write(&filler, vec![b'x'; filled as usize]).unwrap();
        let mut written = 0;
        let mut set_next = async || {
            written += 1;
            let (key, value) = (format!("key{}", written % VALUES), value_of(2, written));
            cluster.set(None, &key, &value).await;
            written
        };
        while !dump().contains("left a snapshot out") {
            assert!(set_next().await < 10 * VALUES, "a snapshot finds no room");
        }
        let said = cluster.stderr(1);
        assert!(said.contains("no room for a snapshot"), "{said}");
        assert!(cluster.get("key1").await.is_some());
        fs::remove_file(&filler).unwrap();
        let before = index().await;
        while index().await == before {
            assert!(set_next().await < 30 * VALUES, "a snapshot finds room");
        }
        let written = set_next().await;
        assert_eq!(
            cluster.status(1).await.unwrap().pid,
            pid,
            "the same process"
        );
        cluster.kill(1);
        cluster.spawn_with(1, &arguments);
        for number in written - VALUES + 1..=written {
            let read = cluster.get(&format!("key{}", number % VALUES)).await;
            assert_eq!(read, Some(value_of(2, number)), "write {number}");
        }
    });
}

// A follower whose disk has no room for the leader's snapshot says so, takes nothing for applied, and
// goes on by itself when there is room.
fn a_snapshot_of_the_leader_waits_for_room() {
    on_a_runtime(async {
        let small = SmallDisk::mount("2m");
        let mut cluster = Cluster::new(3, SNAPSHOTS);
        let late = on_disk(&small, &cluster, 3);
        for id in [1, 2] {
            cluster.spawn(id);
        }
        cluster.spawn_with(3, &late);
        cluster.leader().await;
        cluster.set(None, "k", "v").await;
        eventually("a format with snapshots", async || {
            let dump = fs::read_to_string(small.directory.path().join("node/logs.txt"));
            dump.unwrap().contains("FORMAT 3").then_some(())
        })
        .await;
        cluster.kill(3);
        let leader = cluster.leader_among(&[1, 2]).await;
        for round in 0..2 {
            assert!(set_all(&cluster, &[1, 2], round).await);
        }
        cluster.spawn_with(3, &late);
        eventually("words about the room", async || {
            let said = cluster.stderr(3);
            said.contains("no room for a snapshot").then_some(())
        })
        .await;
        let status = cluster.status(3).await.unwrap();
        let leads = cluster.status(leader).await.unwrap();
        assert!(status.applied_index < leads.snapshot_index, "{status:?}");
        let pid = status.pid;
        cluster.set_among(&[1, 2], "meanwhile", "v").await;
        small.resize("64m");
        cluster.caught_up(&[leader, 3]).await;
        assert_eq!(
            cluster.status(3).await.unwrap().pid,
            pid,
            "the same process"
        );
        for number in 0..VALUES {
            let key = format!("key{number}");
            let read = cluster.try_get(3, &key, Consistency::Stale).await.unwrap();
            assert_eq!(read.value, value_of(1, number), "{key}");
        }
    });
}

/// The arguments of a node, with its directory on a disk.
fn on_disk(disk: &SmallDisk, cluster: &Cluster, id: u64) -> Vec<String> {
    let mut arguments = cluster.arguments(id);
    let path = disk.directory.path().join("node");
    arguments[2] = format!("--data-dir={}", path.display());
    arguments
}

/// A tmpfs with little room.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = mount(size, directory.path());
        assert!(mounted, "no tmpfs of {size} can be mounted");
        SmallDisk { directory }
    }

    fn resize(&self, size: &str) {
        let resized = Command::new("mount")
            .args(["-o", &format!("remount,size={size}")])
            .arg(self.directory.path())
            .status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Left to the end of the machine where it fails: nothing is lost.
        let unmount = Command::new("umount").arg(self.directory.path()).output();
        unmount.ok();
    }
}
