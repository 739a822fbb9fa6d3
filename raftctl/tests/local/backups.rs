//! Backups, and clusters that are made of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::TestCluster;
use crate::support::{Ended, PATIENCE, command};

/// A value, by standard input, where it is too long for an argument.
fn set(cluster: &TestCluster, key: &str, value: &str) {
    let mut child = command(cluster.folder(), &["set", key, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(value.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

fn get(cluster: &TestCluster, key: &str) -> String {
    let value = cluster.raftctl(&["get", key]).ok().stdout;
    value.strip_suffix('\n').unwrap().to_owned()
}

fn json(cluster: &TestCluster, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--output", "json"]].concat();
    cluster.raftctl(&arguments).ok().json()
}

/// What is in a folder, hidden files as well.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn cluster_id(cluster: &TestCluster) -> String {
    cluster.node(1)["cluster_id"].as_str().unwrap().to_owned()
}

const ODD: [(&str, &str); 5] = [
    ("name1", "Jaggu"),
    (
        "two words\n\"quoted\" \u{e9} \u{1f980}",
        "line\nbreak\t\u{1}",
    ),
    ("", "the empty key"),
    ("empty", ""),
    ("SET END SNAPSHOT", "crc=00000000"),
];

// A backup goes out and comes back: into a throw-away cluster, and into a new one on the same hosts, which
// has another id and the same state on every node. Nothing is put over a file, over data, or beside a living
// member; damage in any class of line is found before anything is changed; whoever was a member before is
// refused by name.
#[test]
fn a_backup_comes_back() {
    let cluster = TestCluster::up(3);
    for (key, value) in ODD {
        set(&cluster, key, value);
    }
    set(&cluster, "large", &"\u{e9}\n".repeat(300_000));
    let before = cluster_id(&cluster);
    let taken = json(&cluster, &["backup", "a.backup"]);
    assert_eq!(
        (&taken["cluster"], &taken["keys"]),
        (&"test".into(), &6.into())
    );
    assert_eq!(taken["cluster_id"], before.as_str());
    cluster
        .raftctl(&["backup", "a.backup"])
        .code(2)
        .says("--overwrite");
    cluster.raftctl(&["backup", "--overwrite", "a.backup"]).ok();
    let piped = cluster.raftctl(&["backup", "-"]).ok();
    assert!(
        piped.stdout.starts_with("BACKUP 1 test "),
        "{}",
        &piped.stdout[..100]
    );
    assert!(piped.stdout.lines().last().unwrap().starts_with("END "));
    assert_eq!(
        names(cluster.folder()),
        [".raftctl", "a.backup", "cluster.yaml"]
    );
    cluster.raftctl(&["backup", "verify", "a.backup"]).ok();

    // Beside living members, and over what they left, nothing is done.
    cluster
        .raftctl(&["restore", "a.backup"])
        .code(2)
        .says("stop all");
    let old = cluster.path("old");
    cluster.raftctl(&["stop", "all"]).ok();
    let refused = cluster.raftctl(&["restore", "a.backup"]).code(2);
    let refused = refused.says("logs_node_1 on").says("logs_node_3 on");
    assert!(refused.stderr.contains("holds data"), "{refused:?}");
    copy(&cluster.state("logs_node_3"), &old);
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();

    damage_is_refused(&cluster, &cluster.path("a.backup"));
    let restored = json(&cluster, &["restore", "a.backup"]);
    let after = cluster_id(&cluster);
    assert_eq!(restored["cluster_id"], after.as_str());
    assert_ne!(after, before);
    for (key, value) in ODD {
        assert_eq!(get(&cluster, key), value, "{key:?}");
    }
    assert_eq!(get(&cluster, "large").len(), 900_000);
    for id in 1..=3 {
        let node = cluster.node(id);
        assert_eq!(node["cluster_id"], after.as_str(), "{node:#}");
    }
    cluster.raftctl(&["set", "name1", "later"]).ok();
    cluster.raftctl(&["restart", "all"]).ok();
    assert_eq!(get(&cluster, "name1"), "later");
    an_old_member_is_refused(&cluster, &old, &before);
}

/// Of each class of line a bit is flipped: nothing is made, and the line is named.
fn damage_is_refused(cluster: &TestCluster, backup: &Path) {
    let text = std::fs::read(backup).unwrap();
    let bad = cluster.path("bad.backup");
    let mut classes = std::collections::BTreeSet::new();
    let (mut start, mut number) = (0, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        number += 1;
        let class = line.split(|byte| *byte == b' ').next().unwrap().to_vec();
        if classes.insert(class) {
            // Within the line, in its checksum, and its end.
            for at in [line.len() / 3, line.len() - 4, line.len() - 1] {
                let mut flipped = text.clone();
                flipped[start + at] ^= 4;
                std::fs::write(&bad, flipped).unwrap();
                let refused = cluster.raftctl(&["restore", "bad.backup"]).code(40);
                refused.says(&format!("line {number}: "));
            }
        }
        start += line.len();
    }
    std::fs::write(&bad, &text[..text.len() - 10]).unwrap();
    cluster
        .raftctl(&["restore", "bad.backup"])
        .code(40)
        .says("it ends before its last line");
    cluster
        .raftctl(&["backup", "verify", "bad.backup"])
        .code(40);
    // BACKUP, SNAPSHOT, SESSION, DONE, SET, END.
    assert_eq!(classes.len(), 6, "{classes:?}");
    assert!(!cluster.state("logs_node_1").exists(), "something was made");
    std::fs::remove_file(&bad).unwrap();
}

/// The arguments that a node was started with last, but for its folder.
fn arguments(cluster: &TestCluster, id: u64, folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(cluster.state(&format!("run/node_{id}.args"))).unwrap();
    let mut words: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = words.iter().position(|word| word == "--data-dir").unwrap();
    words[at + 1] = folder.display().to_string();
    words
}

/// A node that is started by hand with a folder of the cluster that was: told the new id, it refuses that
/// itself; told none, the members of the new cluster refuse it.
fn an_old_member_is_refused(cluster: &TestCluster, old: &Path, id: &str) {
    cluster.raftctl(&["stop", "3"]).ok();
    let node = Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let mut words = arguments(cluster, 3, old);
    let told = Command::new(&node).args(&words).output().unwrap();
    let says = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.status.code() == Some(3) && says.contains(id),
        "{told:?}"
    );

    let at = words
        .iter()
        .position(|word| word == "--cluster-id")
        .unwrap();
    words.drain(at..at + 2);
    let output = cluster.path("old.txt");
    let mut by_hand = Command::new(&node)
        .args(&words)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&output).unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let refusal = loop {
        let text = std::fs::read_to_string(&output).unwrap();
        let line = text
            .lines()
            .find(|line| line.contains("cluster") && line.contains(id));
        if let Some(line) = line {
            break line.to_owned();
        }
        assert!(started.elapsed() < PATIENCE, "nobody refuses it: {text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    by_hand.kill().unwrap();
    by_hand.wait().unwrap();
    let new = cluster_id(cluster);
    assert!(refusal.contains(&new), "{refusal}");
    cluster.raftctl(&["start", "3"]).ok();
}

/// Whether a backup has a line that sets this key to this value.
fn holds(backup: &Path, key: &str, value: &str) -> bool {
    let text = std::fs::read_to_string(backup).unwrap();
    text.contains(&format!("\nSET {key} {value}\t"))
}

// While others write, through a follower, each SET that was acknowledged before is in the backup. A node that
// dies in the middle of it leaves no file, nor anything else.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_backup_is_whole_or_not_there() {
    let cluster = TestCluster::up(3);
    let load = &[
        "bench",
        "--duration",
        "300s",
        "--read-share",
        "0",
        "--in-flight",
        "4",
    ];
    let mut load = command(cluster.folder(), load)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for round in 0..6 {
        let value = format!("v{round}");
        cluster.raftctl(&["set", "mark", &value]).ok();
        cluster
            .raftctl(&["backup", "--from", "followers", "--overwrite", "b"])
            .ok();
        assert!(holds(&cluster.path("b"), "mark", &value), "round {round}");
    }
    let pid = Pid::from_raw(load.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    load.wait().unwrap();

    for number in 0..12 {
        set(
            &cluster,
            &format!("large{number}"),
            &"\u{1}".repeat(1 << 20),
        );
    }
    let leader = cluster.leader(|_| true);
    let follower = if leader == 1 { 2 } else { 1 };
    let ended = cut_short(&cluster, follower);
    ended.code(30).says(&format!("node {follower}"));
    assert_eq!(names(cluster.folder()), [".raftctl", "b", "cluster.yaml"]);
    cluster.raftctl(&["backup", "c"]).ok();
}

/// A backup from a node that is killed as soon as something of it has come.
fn cut_short(cluster: &TestCluster, id: u64) -> Ended {
    let from = id.to_string();
    let mut child = command(cluster.folder(), &["backup", "--from", &from, "cut"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = |folder: &Path| -> Option<PathBuf> {
        let name = names(folder)
            .into_iter()
            .find(|name| name.ends_with(".part"))?;
        Some(folder.join(name))
    };
    let started = Instant::now();
    loop {
        let begun = part(cluster.folder()).and_then(|part| std::fs::metadata(part).ok());
        if begun.is_some_and(|file| file.len() > 0) {
            break;
        }
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "it ended before anything came"
        );
        assert!(started.elapsed() < PATIENCE, "nothing comes");
    }
    let pid = Pid::from_raw(cluster.pid(id).unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: started.elapsed(),
    }
}

// A cluster that never needed snapshots takes them when it is asked to: all of the same entry, with one hash.
#[test]
fn snapshots_are_taken_at_once() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["set", "k", "v"]).ok();
    let taken = json(&cluster, &["snapshot"]);
    let all = taken["snapshots"].as_array().unwrap();
    assert_eq!(all.len(), 3, "{taken:#}");
    // The entry with the format may come between two of them.
    let again = json(&cluster, &["snapshot"]);
    let last = again["snapshots"].as_array().unwrap();
    let agree = |all: &[Value]| {
        all.iter()
            .all(|one| one["index"] == all[0]["index"] && one["hash"] == all[0]["hash"])
    };
    assert!(agree(last), "{again:#}");
    for id in 1..=3 {
        assert!(
            cluster
                .state(&format!("logs_node_{id}/snapshot.txt"))
                .exists()
        );
    }
}

// Two of three are dead, one of them with its disk, the other with an older copy: the one with the newest
// entry is shown, taken, and given to all, under another id. Nothing of it happens while there is a leader, while
// a majority could be started, or before the cluster's name was given; and what was there is kept.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_lost_majority_is_recovered_from() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["set", "early", "1"]).ok();
    let before = cluster_id(&cluster);
    let recover = |more: &[&str]| {
        let words = [&["recover", "--lose-majority"], more].concat();
        cluster.raftctl(&words)
    };
    recover(&["--yes-lose", "test"]).code(2).says("leads");
    cluster.raftctl(&["stop", "3"]).ok();
    copy(&cluster.state("logs_node_3"), &cluster.path("copy"));
    cluster.raftctl(&["start", "3"]).ok();
    cluster.raftctl(&["set", "late", "2"]).ok();
    let leader = cluster.leader(|_| true);
    let last = cluster.node(leader)["last_index"].as_u64().unwrap();
    cluster.raftctl(&["kill", "all"]).ok();
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let folder = |id: u64| cluster.state(&format!("logs_node_{id}"));
    std::fs::remove_dir_all(folder(others[0])).unwrap();
    std::fs::remove_dir_all(folder(others[1])).unwrap();
    copy(&cluster.path("copy"), &folder(others[1]));
    recover(&["--yes-lose", "test"])
        .code(2)
        .says("are a majority");
    recover(&["--force"]).code(2).says("--yes-lose test");
    recover(&["--force", "--yes"])
        .code(2)
        .says("--yes-lose test");
    recover(&["--force", "--yes-lose", "other"])
        .code(2)
        .says("is called test");
    assert!(!folder(others[0]).exists(), "nothing was changed");

    let done = recover(&["--force", "--yes-lose", "test", "--output", "json"]).ok();
    let newest = format!("node {leader} has the newest last entry: {last}, ");
    let done = done.says(&newest);
    let told = done.json();
    assert_eq!(
        (&told["from"], &told["index"]),
        (&leader.into(), &last.into())
    );
    assert_eq!(
        (get(&cluster, "early"), get(&cluster, "late")),
        ("1".into(), "2".into())
    );
    let after = cluster_id(&cluster);
    assert_ne!(after, before);
    assert_eq!(told["cluster_id"], after.as_str());
    for id in [leader, others[1]] {
        let kept = cluster.state(&format!("logs_node_{id}.before-{}", &after[..8]));
        assert!(kept.join("logs.txt").exists(), "{}", kept.display());
    }
    cluster
        .raftctl(&["backup", "verify", ".raftctl/test/recovery.backup"])
        .ok();
}

/// Runs a verb, and kills raftctl once its record says what `is_there` looks for. Returns the record of that
/// moment: as JSON, so that it can be compared with what comes of it.
fn killed_once(
    cluster: &TestCluster,
    (words, record): (&[&str], &str),
    is_there: fn(&Value) -> bool,
) -> Option<Value> {
    let mut child = command(cluster.folder(), words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let read = || {
        let text = std::fs::read_to_string(cluster.state(record)).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    };
    while child.try_wait().unwrap().is_none() {
        if let Some(found) = read().filter(is_there) {
            child.kill().unwrap();
            child.wait().unwrap();
            return read().is_some().then_some(found); // Not if it had just come to its end.
        }
        assert!(started.elapsed() < PATIENCE, "no {record}");
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

const BEGUN: fn(&Value) -> bool = |_| true;
const MADE: fn(&Value) -> bool = |record| !record["made"].is_null();

/// Kills the verb at that moment, runs it again, and checks that it went on: with the id that it had begun with.
fn goes_on(cluster: &TestCluster, (words, record): (&[&str], &str), at: fn(&Value) -> bool) {
    let killed = (0..5).find_map(|_| killed_once(cluster, (words, record), at));
    let killed = killed.expect("it is killed before it has come to its end");
    let json = [words, &["--output", "json"]].concat();
    let done = cluster.raftctl(&json).ok().json();
    assert_eq!(done["cluster_id"], killed["cluster_id"], "{killed}");
    assert_eq!(cluster_id(cluster), killed["cluster_id"].as_str().unwrap());
    assert_eq!(get(cluster, "name1"), "Jaggu");
    assert!(!cluster.state(record).exists(), "{record} is done with");
    let hashes: Vec<Value> = (1..=3)
        .map(|id| cluster.node(id)["last_index"].clone())
        .collect();
    assert!(hashes.iter().all(Value::is_u64), "{hashes:?}");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}

// raftctl is killed while it restores: before any node was made, and before all were started. The same command goes
// on, with the same id, and another backup is not mixed with what was begun.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_killed_restore_goes_on() {
    let cluster = TestCluster::up(3);
    set(&cluster, "name1", "Jaggu");
    set(&cluster, "large", &"v".repeat(1 << 20));
    cluster.raftctl(&["backup", "a"]).ok();
    set(&cluster, "name1", "later");
    cluster.raftctl(&["backup", "b"]).ok();
    for moment in [BEGUN, MADE] {
        cluster.raftctl(&["down", "--purge", "--yes"]).ok();
        goes_on(&cluster, (&["restore", "a"], "restore.json"), moment);
    }
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    let begun = killed_once(&cluster, (&["restore", "a"], "restore.json"), MADE);
    begun.expect("nodes were made");
    cluster.raftctl(&["stop", "all"]).ok();
    let refused = cluster.raftctl(&["restore", "b"]).code(2);
    refused.says("holds data");
    cluster.raftctl(&["restore", "a"]).ok();
    assert_eq!(get(&cluster, "name1"), "Jaggu");
}

// The same while it recovers a cluster whose majority is lost: what the nodes had is kept once, however often it is
// begun.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_killed_recovery_goes_on() {
    for moment in [BEGUN, MADE] {
        let cluster = TestCluster::up(3);
        set(&cluster, "name1", "Jaggu");
        cluster.raftctl(&["kill", "all"]).ok();
        for id in [1, 2] {
            std::fs::remove_dir_all(cluster.state(&format!("logs_node_{id}"))).unwrap();
        }
        let recover = ["recover", "--lose-majority", "--yes-lose", "test"];
        goes_on(&cluster, (&recover, "recover.json"), moment);
        let aside = names(&cluster.state("")).into_iter();
        let aside: Vec<String> = aside.filter(|name| name.contains(".before-")).collect();
        assert_eq!(aside.len(), 1, "{aside:?}");
        let kept = std::fs::read_to_string(cluster.state(&aside[0]).join("logs.txt")).unwrap();
        assert!(kept.contains("SET name1 Jaggu "), "{kept}");
    }
}
