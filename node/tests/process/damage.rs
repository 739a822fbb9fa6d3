//! What a node answers to damage: of each file, in words on its output, and none of it a guess.

use crate::cluster::{BINARY, Cluster, eventually};
use raftkv::admin::LogState;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A snapshot every few entries, so that there is one of each file.
const MANY: &[&str] = &["--raise-format-from=0", "--snapshot-log-kib=1"];

/// What is done to a file while its node is down.
enum Change {
    /// One bit of this line (from 0; `None`: the last), so many bytes from its start, or from its end.
    Flip(Option<usize>, isize),
    Remove,
    /// Other text.
    Text(&'static str),
}
use Change::*;

/// What the node does then.
enum Answer {
    /// It goes on as it was, and says so.
    GoesOn,
    /// It has lost entries: it does not vote before the leader has refilled it.
    IsRefilled,
    /// It does not start, and touches nothing.
    Refuses,
}
use Answer::*;

/// File, change, whether the node was stopped in good order before, answer, words.
const TABLE: &[(&str, Change, bool, Answer, &str)] = &[
    (
        "logs.txt",
        Flip(None, -1),
        false,
        GoesOn,
        "where all is known: mended",
    ),
    (
        "logs.txt",
        Flip(Some(0), 9),
        false,
        GoesOn,
        "logs.txt was damaged at line 1, where all is known",
    ),
    (
        "logs.txt",
        Flip(Some(1), 2),
        false,
        IsRefilled,
        "logs.txt is damaged at line 2",
    ),
    (
        "logs.txt",
        Flip(None, 2),
        false,
        IsRefilled,
        "logs.txt is damaged at line",
    ),
    (
        "logs.txt",
        Remove,
        false,
        Refuses,
        "logs.txt is missing but metadata.txt says that this node has run",
    ),
    (
        "snapshot.txt",
        Flip(Some(1), 2),
        false,
        IsRefilled,
        "snapshot.txt is damaged at line 2: its checksum does not fit",
    ),
    (
        "snapshot.txt",
        Remove,
        false,
        IsRefilled,
        "snapshot.txt is missing",
    ),
    (
        "metadata.txt",
        Flip(Some(1), 14),
        false,
        Refuses,
        "metadata.txt is damaged (its checksum does not fit its text)",
    ),
    (
        "metadata.txt",
        Remove,
        false,
        Refuses,
        "metadata.txt is missing but logs.txt is there",
    ),
    (
        "lease.txt",
        Flip(Some(0), 16),
        false,
        GoesOn,
        "lease.txt is missing or damaged: for the longest lease",
    ),
    (
        "lease.txt",
        Remove,
        false,
        GoesOn,
        "lease.txt is missing or damaged: for the longest lease",
    ),
    (
        "promises.txt",
        Flip(Some(0), 7),
        true,
        GoesOn,
        "promises.txt is damaged: the promises of the former run count as forgotten",
    ),
    (
        "mark.txt",
        Flip(Some(0), 20),
        false,
        GoesOn,
        "mark.txt is damaged: a last line of logs.txt",
    ),
    (
        "damaged.txt",
        Text("damagedUntil 4\n"),
        false,
        Refuses,
        "damaged.txt is itself damaged",
    ),
    (
        "refused.txt",
        Text("refusedAfter 4\n"),
        false,
        GoesOn,
        "refused.txt is damaged, and says nothing",
    ),
];

fn change(path: &Path, change: &Change) {
    match change {
        Remove => fs::remove_file(path).unwrap(),
        Text(text) => fs::write(path, text).unwrap(),
        Flip(line, from) => {
            let mut bytes = fs::read(path).unwrap();
            let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
            let number = line.unwrap_or(lines.len() - 1);
            let begin: usize = lines[..number].iter().map(|line| line.len()).sum();
            let length = lines[number].len() as isize;
            let at = begin + from.rem_euclid(length) as usize;
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    }
}

/// Each file of the directory, but those that a start writes in any case.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let kept = named.filter(|(name, _)| !["lock", "reserve"].contains(&name.as_str()));
    let mut files: Vec<_> = kept
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

// Of each file: what was changed, what the node does, and what it says. After each, nothing that was
// acknowledged is lost, and the node counts again.
#[tokio::test]
async fn each_damage_has_one_answer() {
    let mut cluster = Cluster::start(3, MANY).await;
    let mut written = 0;
    for (file, damage, in_order, answer, words) in TABLE {
        for _ in 0..20 {
            written += 1;
            let value = format!("{written:0100}");
            cluster
                .set(None, &format!("k{}", written % 10), &value)
                .await;
        }
        let leader = cluster.leader().await;
        let id = cluster.others(leader)[0];
        cluster.caught_up(&[leader, id]).await;
        match in_order {
            true => assert!(cluster.terminate(id).await.success()),
            false => cluster.kill(id),
        }
        let path = cluster.data_dir(id).join(file);
        let before = fs::read(&path).ok();
        change(&path, damage);
        let told = cluster.stderr(id).len();
        if let Refuses = answer {
            let found = files(&cluster.data_dir(id));
            let output = Command::new(BINARY).args(cluster.arguments(id)).output();
            let output = output.unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{file}: {stderr}");
            assert!(stderr.contains(words), "{file}: {stderr}");
            assert_eq!(found, files(&cluster.data_dir(id)), "{file}: untouched");
            match before {
                Some(before) => fs::write(&path, before).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
        }
        cluster.spawn(id);
        let leader = cluster.leader().await;
        cluster.caught_up(&[leader, id]).await;
        let said = cluster.stderr(id)[told..].to_owned();
        match answer {
            Refuses => {}
            GoesOn | IsRefilled => assert!(said.contains(words), "{file}: {said}"),
        }
        let refills = said.contains("does not vote until it has been refilled");
        assert_eq!(refills, matches!(answer, IsRefilled), "{file}: {said}");
        eventually("a whole log", async || {
            let status = cluster.status(id).await?;
            (status.log_state() == LogState::Whole).then_some(())
        })
        .await;
        // It counts: without it there is no majority.
        let third = cluster
            .others(leader)
            .into_iter()
            .find(|other| *other != id);
        let third = third.unwrap();
        cluster.kill(third);
        cluster.set_among(&[leader, id], "counted", file).await;
        cluster.spawn(third);
    }
    for number in written - 9..=written {
        let value = cluster.get(&format!("k{}", number % 10)).await;
        assert_eq!(value, Some(format!("{number:0100}")));
    }
}
