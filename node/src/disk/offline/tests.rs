//! A state goes through a backup into a directory, and comes back from there.

use super::*;
use crate::command::{Command, Operation, RequestId, Write as Change};
use crate::disk::Directory;
use crate::kv::Applied;
use crate::raft::Entry;
use crate::wal::LogWriter;
use std::sync::Arc;

const CLUSTER: (u128, &[u64]) = (7, &[1, 2, 3]);

fn entries() -> Vec<Entry> {
    let values = ["", "two words", "line\nbreak", "\u{1F980} é \"", "'"];
    let mut commands = vec![Command::NoOp];
    for (number, value) in values.into_iter().enumerate() {
        let request = Some(RequestId {
            client_id: 9 + number as u64 % 2,
            sequence: number as u64,
            since_index: 1,
        });
        let operation = Operation::Set {
            key: format!("\u{0} k{number}\n").into(),
            value: value.into(),
        };
        commands.push(Command::Write(Change { request, operation }));
    }
    let large = Operation::Set {
        key: "large".into(),
        value: "\u{1}x".repeat(512 * 1024).into(),
    };
    let request = None;
    commands.push(Command::Write(Change {
        request,
        operation: large,
    }));
    let entry = |(index, command)| Entry {
        index,
        term: 3,
        command: Arc::new(command),
    };
    (1..).zip(commands).map(entry).collect()
}

/// The directory of a node that has stopped.
fn stopped(path: &Path) {
    stopped_with(path, &entries());
}

fn stopped_with(path: &Path, entries: &[Entry]) {
    let (mut log, mut text) = (LogWriter::default(), Vec::new());
    for entry in entries {
        log.append(entry, &mut text);
    }
    let metadata = Metadata {
        hard_state: HardState {
            term: 3,
            voted_for: Some(1),
        },
        commit_index: 2,
        ..Metadata::default()
    };
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(path.join(LOGS), text).unwrap();
    std::fs::write(path.join(METADATA), metadata.encode()).unwrap();
}

fn exported(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    export(path, &mut text).unwrap().expect("a state");
    text
}

// What a directory holds is exported as it is, a directory is made of that, and a node recovers from it
// with all keys and sessions; what it is asked for a second time it answers, and what it does not know from
// before it refuses. To make it again changes nothing.
#[test]
fn a_state_goes_round() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    stopped(&old);
    let text = exported(&old);
    let made = restore(&new, CLUSTER, None, &mut &text[..]).unwrap();
    assert!(!made.was_there && made.source != made.snapshot);
    assert_eq!((made.keys, made.sessions), (6, 2));
    let again = restore(&new, CLUSTER, None, &mut &text[..]).unwrap();
    assert!(again.was_there && again.snapshot == made.snapshot);

    let look = inspect(&new).unwrap().recovery.unwrap().unwrap();
    assert_eq!(last_entry(&look), (3, 7));
    let directory = Directory::open(&new).unwrap();
    assert!(inspect(&new).unwrap().in_use);
    let mut recovery = directory.recover().unwrap();
    let recovered = &recovery.recovered;
    assert_eq!(recovered.snapshot, Some(made.snapshot));
    assert_eq!((recovered.former_lease_us, recovered.never_ran), (0, false));
    assert_eq!(recovered.ids.cluster, CLUSTER.0);
    assert!(recovered.ids.directory != 0 && recovery.damage.is_none());
    let mut write = |index, client_id, sequence| {
        let since_index = 1;
        let request = Some(RequestId {
            client_id,
            sequence,
            since_index,
        });
        let Command::Write(Change { operation, .. }) = &*entries()[1].command else {
            panic!("a write");
        };
        let operation = operation.clone();
        let write = Command::Write(Change { request, operation });
        recovery.store.apply(index, &write)
    };
    assert!(matches!(
        write(8, 9, 0),
        Applied::Written { resent: true, .. }
    ));
    assert_eq!(write(9, 9, 77), Applied::SessionExpired);
    assert_eq!(write(10, 1234, 1), Applied::SessionExpired);
}

// Whatever bit of a backup is flipped, and wherever it is cut: it is refused, and nothing is there
// afterwards.
#[test]
fn damage_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    stopped(&old);
    let text = exported(&old);
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let mut start = 0;
    for line in lines {
        // Of a long line its beginning and its end.
        let ends = (0..line.len()).filter(|at| *at < 120 || at + 60 > line.len());
        for at in ends {
            let mut flipped = text.clone();
            flipped[start + at] ^= 1 << (at % 8);
            let refused = restore(&new, CLUSTER, None, &mut &flipped[..]);
            assert!(refused.is_err(), "byte {at} of the line at {start}");
        }
        let short = restore(&new, CLUSTER, None, &mut &text[..start + line.len() / 2]);
        assert!(short.is_err(), "cut in the line at {start}");
        start += line.len();
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

// Nothing is put over what is there, be it another state or that of another cluster; where a place is
// named for it, it is moved there, whole, unless a process has it.
#[test]
fn what_is_there_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (old, aside) = (folder.path().join("old"), folder.path().join("aside"));
    stopped(&old);
    let text = exported(&old);
    let attempt = |aside: Option<&Path>| restore(&old, CLUSTER, aside, &mut &text[..]);
    assert!(matches!(attempt(None), Err(RestoreError::HoldsData(path)) if path == old));
    let running = Directory::open(&old).unwrap();
    let refused = attempt(Some(&aside));
    assert!(matches!(
        refused,
        Err(RestoreError::Disk(DiskError::Locked { .. }))
    ));
    assert!(export(&old, &mut io::sink()).is_err());
    drop(running);
    assert!(!attempt(Some(&aside)).unwrap().was_there);
    assert_eq!(exported(&aside), text);
    let other = restore(
        &old,
        (CLUSTER.0 + 1, CLUSTER.1),
        Some(&aside),
        &mut &text[..],
    );
    assert!(matches!(other, Err(RestoreError::HoldsData(path)) if path == aside));
    assert!(attempt(None).unwrap().was_there);
}

// What a majority called wrong is told as such, and is no state that anything is made of.
#[test]
fn a_wrong_state_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    stopped(folder.path());
    std::fs::write(folder.path().join(OTHER_STATE), "a majority has 1a2b").unwrap();
    let found = inspect(folder.path()).unwrap().recovery.unwrap();
    let refused = found.unwrap_err();
    assert!(refused.to_string().contains("1a2b"), "{refused}");
    let exported = export(folder.path(), &mut io::sink());
    assert!(matches!(exported, Err(DiskError::OtherState { .. })));
}

// In force is the configuration that was appended last, committed or not (Raft paper, section 6). A cluster that is
// made of a backup begins with the voters that it was given.
#[test]
fn the_configuration_that_was_appended_last_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    stopped(&path);
    let told = |path: &Path| {
        let recovery = inspect(path).unwrap().recovery.unwrap().unwrap();
        configuration(&recovery).map(|(index, members)| (index, members.clone()))
    };
    assert_eq!(told(&path), None);

    let joint = Members {
        voters: [1, 2, 4].into(),
        outgoing: [1, 2, 3].into(),
        ..Members::of_voters([1, 2, 3, 4])
    };
    let new = Members::of_voters([1, 2, 4]);
    let mut entries = entries();
    for command in [&joint, &new].map(|it| Command::Members(Arc::new(it.clone()))) {
        entries.push(Entry {
            index: entries.len() as u64 + 1,
            term: 3,
            command: Arc::new(command),
        });
    }
    stopped_with(&path, &entries[..entries.len() - 1]);
    assert_eq!(told(&path), Some((8, joint)));
    stopped_with(&path, &entries);
    assert_eq!(told(&path), Some((9, new)));

    let text = exported(&path);
    let made = folder.path().join("made");
    restore(&made, CLUSTER, None, &mut &text[..]).unwrap();
    assert_eq!(told(&made), None);
}
