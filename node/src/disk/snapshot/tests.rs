//! The files of a snapshot, at every moment at which a crash may leave them.

use super::*;
use crate::command::{Command, Operation, Write as KeyWrite};
use crate::disk::{DiskThread, LOGS_DAMAGED, METADATA};
use crate::engine::DiskWork;
use crate::kv::{ExportStep, Store};
use crate::raft::Entry;
use crate::wal::{LogWriter, Metadata, SnapshotHead, SnapshotWriter};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

fn entry(index: u64) -> Entry {
    let operation = Operation::Set {
        key: format!("k{}", index % 3).into(),
        value: format!("v{index}").into(),
    };
    Entry {
        index,
        term: 1,
        command: Arc::new(Command::Write(KeyWrite {
            request: None,
            operation,
        })),
    }
}

/// The snapshot after an entry.
fn snapshot(writer: &LogWriter, index: u64) -> (LogBase, Vec<u8>) {
    let mut store = Store::default();
    for entry in (1..=index).map(entry) {
        store.apply(entry.index, &entry.command);
    }
    let log_crc = writer.crc_at(index).unwrap();
    let head = SnapshotHead {
        state: store.begin_export(),
        term: 1,
        log_crc,
    };
    let mut text = Vec::new();
    let mut snapshot = SnapshotWriter::begin(head, &mut text);
    while let ExportStep::Records(records) = store.export_next(2) {
        records.iter().for_each(|r| snapshot.record(r, &mut text));
    }
    let snapshot = snapshot.end(&mut text);
    (LogBase { snapshot, log_crc }, text)
}

fn append(writer: &mut LogWriter, entries: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    entries.for_each(|index| writer.append(&entry(index), &mut bytes));
    bytes
}

fn wait(reports: &Receiver<DiskReport>, ticket: u64) {
    loop {
        match reports.recv_timeout(Duration::from_secs(10)).unwrap() {
            DiskReport::Durable(durable) if durable >= ticket => return,
            DiskReport::Durable(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Ten entries, a snapshot after the seventh in two pieces, the cut, three more entries. Leaves the
/// files as they were before the cut in `before`.
fn a_node(path: &Path, before: &Path) -> LogBase {
    let opened = Directory::open(path).unwrap();
    drop(opened.recover().unwrap());
    let (sender, reports) = channel();
    let report = move |report| sender.send(report).unwrap();
    let disk = DiskThread::start(opened, &Arc::default(), &Arc::default(), report).unwrap();
    let mut writer = LogWriter::default();
    let work = |ticket, append| DiskWork {
        ticket,
        append,
        ..DiskWork::default()
    };
    let metadata = Metadata {
        commit_index: 10,
        applied_index: 10,
        ..Metadata::default()
    };
    let first = DiskWork {
        metadata: Some(metadata.encode()),
        ..work(1, append(&mut writer, 1..=10))
    };
    disk.submit(first).unwrap();
    let (base, text) = snapshot(&writer, 7);
    let (head, rest) = text.split_at(text.len() / 2);
    for (ticket, begins, piece) in [(2, true, head), (3, false, rest)] {
        let piece = SnapshotWrite {
            begins,
            bytes: piece.to_vec(),
        };
        let written = DiskWork {
            snapshot: Some(piece),
            ..work(ticket, Vec::new())
        };
        disk.submit(written).unwrap();
    }
    wait(&reports, 3);
    for name in [LOGS, METADATA, SNAPSHOT_NEW] {
        std::fs::copy(path.join(name), before.join(name)).unwrap();
    }
    // Appended in the very work that cuts, and behind it.
    let appended = append(&mut writer, 11..=12);
    let cut = DiskWork {
        cut: Some(writer.cut_before(&base, true)),
        ..work(4, appended)
    };
    disk.submit(cut).unwrap();
    disk.submit(work(5, append(&mut writer, 13..=13))).unwrap();
    wait(&reports, 5);
    disk.read(ChunkWanted {
        peer: 2,
        snapshot: base.snapshot,
        offset: 3,
        bytes: 5,
    });
    match reports.recv_timeout(Duration::from_secs(10)).unwrap() {
        DiskReport::Chunk { data, .. } => assert_eq!(*data, text[3..8]),
        other => panic!("{other:?}"),
    }
    base
}

fn recover(path: &Path) -> crate::wal::Recovery {
    Directory::open(path).unwrap().recover().unwrap()
}

// Whatever a crash leaves of the switch, the node starts with every entry, and from one of the two
// logs; what nobody names is gone then.
#[test]
fn a_crash_at_any_step_of_the_switch_loses_nothing() {
    let (after, before) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let base = a_node(after.path(), before.path());
    let read = |directory: &TempDir, name| std::fs::read(directory.path().join(name)).unwrap();
    let (old_logs, new_logs) = (read(&before, LOGS), read(&after, LOGS));
    let text = read(&after, SNAPSHOT);
    assert_eq!(text, read(&before, SNAPSHOT_NEW));
    assert!(!after.path().join(SNAPSHOT_NEW).exists());

    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    type Files = Vec<(&'static str, Vec<u8>)>;
    let table: [(Files, u64, bool); 6] = [
        (
            vec![(LOGS, old_logs.clone()), (SNAPSHOT_NEW, half(&text))],
            10,
            false,
        ),
        (
            vec![(LOGS, old_logs.clone()), (SNAPSHOT_NEW, text.clone())],
            10,
            false,
        ),
        (
            vec![
                (LOGS, old_logs.clone()),
                (SNAPSHOT_NEW, text.clone()),
                (LOGS_NEW, half(&new_logs)),
            ],
            10,
            false,
        ),
        (
            vec![
                (LOGS, old_logs),
                (SNAPSHOT_NEW, text.clone()),
                (LOGS_NEW, new_logs.clone()),
            ],
            10,
            false,
        ),
        (
            vec![(LOGS, new_logs.clone()), (SNAPSHOT_NEW, text.clone())],
            13,
            true,
        ),
        (vec![(LOGS, new_logs), (SNAPSHOT, text)], 13, true),
    ];
    for (files, last, is_cut) in table {
        let place = TempDir::new().unwrap();
        std::fs::write(place.path().join(METADATA), read(&after, METADATA)).unwrap();
        for (name, bytes) in &files {
            std::fs::write(place.path().join(name), bytes).unwrap();
        }
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        for _ in 0..2 {
            let recovery = recover(place.path());
            let recovered = &recovery.recovered;
            assert_eq!(recovered.last_index(), last, "{names:?}");
            assert_eq!(recovered.commit_index, 10, "{names:?}");
            let snapshot = is_cut.then_some(base.snapshot);
            assert_eq!(recovered.snapshot, snapshot, "{names:?}");
            assert_eq!(recovery.store.applied_index(), if is_cut { 7 } else { 0 });
            assert!(recovery.damage.is_none() && recovery.torn.is_none());
            assert!(!place.path().join(SNAPSHOT_NEW).exists(), "{names:?}");
            assert!(!place.path().join(LOGS_NEW).exists(), "{names:?}");
        }
    }
}

// A snapshot that is missing or damaged is named, kept aside, and costs the node its vote until it
// has been refilled, over every start.
#[test]
fn a_damaged_snapshot_is_kept_aside() {
    for damage in ["missing", "flipped", "short"] {
        let (place, before) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        a_node(place.path(), before.path());
        let path = place.path().join(SNAPSHOT);
        let mut bytes = std::fs::read(&path).unwrap();
        match damage {
            "missing" => std::fs::remove_file(&path).unwrap(),
            "flipped" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&path, &bytes).unwrap();
            }
            _ => std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap(),
        }
        let first = recover(place.path());
        assert!(first.damage.is_some_and(|found| found.snapshot.is_some()));
        assert_eq!(first.recovered.damaged_until, 13, "{damage}");
        assert_eq!(first.recovered.last_index(), 0);
        assert!(place.path().join(LOGS_DAMAGED).exists());
        assert!(!path.exists());
        let aside = place.path().join(SNAPSHOT_DAMAGED);
        assert_eq!(aside.exists(), damage != "missing");
        let again = recover(place.path());
        assert!(again.damage.is_none(), "it is known");
        assert_eq!(again.recovered.damaged_until, 13, "{damage}");
    }
}

// A piece for which there is no room costs the snapshot, and nothing else.
#[test]
fn no_room_costs_the_snapshot() {
    let place = TempDir::new().unwrap();
    let directory = Directory::open(place.path()).unwrap();
    drop(directory.recover().unwrap());
    let mut files = SnapshotFiles::open(&directory).unwrap();
    let piece = |begins| SnapshotWrite {
        begins,
        bytes: b"text".to_vec(),
    };
    let mut write = |begins, has_room| files.write(&directory, &piece(begins), has_room).unwrap();
    assert!(write(true, true));
    assert!(!write(false, false));
    assert!(!place.path().join(SNAPSHOT_NEW).exists());
    assert!(!write(false, true), "its beginning is gone");
    assert!(write(true, true));
}
