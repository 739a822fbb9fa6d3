//! The files of a snapshot, at every moment at which a crash may leave them.

use super::*;
use crate::command::{Command, Operation, Write as KeyWrite};
use crate::disk::ahead::Ahead;
use crate::disk::{DiskThread, LOGS_DAMAGED, METADATA};
use crate::engine::{DiskWork, SnapshotTask, SnapshotWork};
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

/// Until the last of the works is reported, for the log or beside it.
fn wait(reports: &Receiver<DiskReport>, durable: u64, written: u64) {
    let (mut is_durable, mut is_written) = (durable == 0, written == 0);
    while !is_durable || !is_written {
        match reports.recv_timeout(Duration::from_secs(60)).unwrap() {
            DiskReport::Durable(ticket) => is_durable |= ticket == durable,
            DiskReport::SnapshotWritten(ticket) => is_written |= ticket == written,
            other => panic!("{other:?}"),
        }
    }
}

/// Ten entries, a snapshot after the seventh in two pieces, a copy of the eighth and ninth, the cut, three
/// more entries. Leaves the files as they were before the cut in `before`.
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
    wait(&reports, 1, 0);
    let (base, text) = snapshot(&writer, 7);
    let (head, rest) = text.split_at(text.len() / 2);
    let write = |begins, bytes: &[u8]| SnapshotTask::Write {
        begins,
        bytes: bytes.to_vec(),
    };
    let end = |index| writer.end_bytes(index).unwrap();
    let copy = |first_line, from, to| SnapshotTask::Copy {
        first_line,
        from: end(from),
        to: end(to),
    };
    let tasks = [
        write(true, head),
        write(false, rest),
        copy(Some(base.encode()), 7, 8),
        copy(None, 8, 9),
    ];
    for (ticket, task) in (1..).zip(tasks) {
        disk.submit_snapshot(SnapshotWork { ticket, task }).unwrap();
    }
    wait(&reports, 0, 4);
    let copied_to = end(9);
    for name in [LOGS, METADATA, SNAPSHOT_NEW, LOGS_NEW] {
        std::fs::copy(path.join(name), before.join(name)).unwrap();
    }
    // Appended in the very work that cuts, and behind it.
    let appended = append(&mut writer, 11..=12);
    let mut cut = writer.cut_before(&base, true);
    cut.copied_to = Some(copied_to);
    let cut = DiskWork {
        cut: Some(cut),
        ..work(2, appended)
    };
    disk.submit(cut).unwrap();
    disk.submit(work(3, append(&mut writer, 13..=13))).unwrap();
    wait(&reports, 3, 0);
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
    let copied = read(&before, LOGS_NEW);
    assert!(new_logs.starts_with(&copied) && copied.len() < new_logs.len());
    assert!(!after.path().join(SNAPSHOT_NEW).exists());

    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    type Files = Vec<(&'static str, Vec<u8>)>;
    let table: [(Files, u64, bool); 7] = [
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
                (LOGS, old_logs.clone()),
                (SNAPSHOT_NEW, text.clone()),
                (LOGS_NEW, copied),
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

// A piece for which there is no room, or a part of the log, costs the snapshot, and nothing else.
#[test]
fn no_room_costs_the_snapshot() {
    let place = TempDir::new().unwrap();
    std::fs::write(place.path().join(LOGS), "a line\n").unwrap();
    let mut ahead = Ahead::new(place.path().to_owned(), Arc::default(), Arc::default());
    let write = |begins| SnapshotTask::Write {
        begins,
        bytes: b"text".to_vec(),
    };
    let copy = |begins: bool| SnapshotTask::Copy {
        first_line: begins.then(|| b"first\n".to_vec()),
        from: 2,
        to: 7,
    };
    let is_there = |name| place.path().join(name).exists();
    for no_room in [write(false), copy(true), copy(false)] {
        let mut carry_out = |task, has_room| ahead.carry_out(&task, has_room).unwrap();
        assert!(carry_out(write(true), true));
        assert!(carry_out(copy(true), true));
        assert!(!carry_out(no_room, false));
        assert!(!is_there(SNAPSHOT_NEW) && !is_there(LOGS_NEW));
        assert!(!carry_out(write(false), true), "its beginning is gone");
        assert!(!carry_out(copy(false), true), "its beginning is gone");
    }
}

// The switch is tried again until there is room for the last of the log: what a try has left of it does not
// stand there twice.
#[test]
fn a_rest_is_written_once() {
    let place = TempDir::new().unwrap();
    std::fs::write(place.path().join(LOGS), "gone\nkept\nlast\n").unwrap();
    let new = place.path().join(LOGS_NEW);
    let (base, _) = snapshot(
        &{
            let mut writer = LogWriter::default();
            append(&mut writer, 1..=2);
            writer
        },
        1,
    );
    let cut = LogCut {
        snapshot: base.snapshot,
        first_line: b"first\n".to_vec(),
        rest_from: Some(5),
        copied_to: Some(10),
    };
    for before in ["first\nkept\n", "first\nkept\nla"] {
        std::fs::write(&new, before).unwrap();
        write_rest(place.path(), &new, &cut).unwrap();
        assert_eq!(std::fs::read(&new).unwrap(), b"first\nkept\nlast\n");
    }
    std::fs::write(&new, "first\nkep").unwrap();
    assert!(write_rest(place.path(), &new, &cut).is_err(), "too short");
    let all = LogCut {
        copied_to: None,
        ..cut
    };
    write_rest(place.path(), &new, &all).unwrap();
    assert_eq!(std::fs::read(&new).unwrap(), b"first\nkept\nlast\n");
}

// A snapshot that is in place and was changed since is known as damaged; one that is whole, or that was
// overtaken by another, is not.
#[test]
fn a_changed_snapshot_is_told_apart() {
    let (place, before) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let snapshot = a_node(place.path(), before.path()).snapshot;
    let path = place.path().join(SNAPSHOT);
    let text = std::fs::read(&path).unwrap();
    let damaged = |snapshot| crate::disk::ahead::is_damaged(place.path(), snapshot);
    assert!(!damaged(snapshot));
    for at in 0..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert!(damaged(snapshot), "byte {at}");
    }
    std::fs::write(&path, &text[..text.len() - 1]).unwrap();
    assert!(damaged(snapshot), "short");
    let index = snapshot.index + 1;
    assert!(!damaged(SnapshotId { index, ..snapshot }), "overtaken");
    std::fs::remove_file(&path).unwrap();
    assert!(damaged(snapshot), "gone");
}

// What nobody needs any more has its end on the thread of snapshots, behind the works before it.
#[test]
fn entries_end_beside_the_loop() {
    let place = TempDir::new().unwrap();
    let opened = Directory::open(place.path()).unwrap();
    drop(opened.recover().unwrap());
    let (sender, reports) = channel();
    let report = move |report| sender.send(report).unwrap();
    let disk = DiskThread::start(opened, &Arc::default(), &Arc::default(), report).unwrap();
    let entry = entry(1);
    let command = Arc::clone(&entry.command);
    disk.forget(vec![entry]);
    let look = SnapshotTask::Look(Default::default());
    let work = |ticket| SnapshotWork {
        ticket,
        task: look.clone(),
    };
    disk.submit_snapshot(work(1)).unwrap();
    wait(&reports, 0, 1);
    assert_eq!(Arc::strong_count(&command), 1);
}
