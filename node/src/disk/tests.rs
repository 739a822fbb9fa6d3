//! On real files.

use super::*;
use crate::command::Command;
use crate::engine::DiskWork;
use crate::raft::{Entry, HardState, Index};
use crate::wal::{LogWriter, Metadata};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

fn no_op(index: Index) -> Entry {
    Entry {
        index,
        term: 1,
        command: Arc::new(Command::NoOp),
    }
}

fn metadata(commit_index: Index) -> Vec<u8> {
    let hard_state = HardState {
        term: 1,
        voted_for: Some(1),
    };
    let metadata = Metadata {
        hard_state,
        commit_index,
        applied_index: commit_index,
    };
    metadata.encode()
}

fn start(path: &Path) -> (DiskThread, Receiver<DiskReport>) {
    let directory = Directory::open(path).unwrap();
    directory.recover().unwrap();
    let (sender, reports) = channel();
    let disk = DiskThread::start(directory, move |report| sender.send(report).unwrap()).unwrap();
    (disk, reports)
}

/// Waits until everything up to the ticket is durable.
fn await_ticket(reports: &Receiver<DiskReport>, ticket: u64) {
    loop {
        match reports.recv_timeout(Duration::from_secs(10)).unwrap() {
            DiskReport::Durable(durable) if durable >= ticket => return,
            DiskReport::Durable(_) => {}
            DiskReport::Failed(error) => panic!("{error}"),
        }
    }
}

/// The files of a node that has written five entries.
fn five_entries(path: &Path) {
    let (disk, reports) = start(path);
    let mut log = LogWriter::default();
    for index in 1..=5 {
        let mut append = Vec::new();
        log.append(&no_op(index), &mut append);
        let work = DiskWork {
            ticket: index,
            append,
            metadata: Some(metadata(index)),
            ..Default::default()
        };
        disk.submit(work).unwrap();
    }
    await_ticket(&reports, 5);
}

// A second process is told who has the directory, and changes nothing in it.
#[test]
fn a_directory_has_one_owner() {
    let directory = TempDir::new().unwrap();
    let first = Directory::open(directory.path()).unwrap();
    let second = Directory::open(directory.path()).unwrap_err().to_string();
    let holder = format!("process {}", std::process::id());
    assert!(second.contains(&holder), "{second}");
    drop(first);
    Directory::open(directory.path()).unwrap();
}

// The first start makes the files; what was written is there at the next.
#[test]
fn what_is_durable_is_recovered() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("logs_node_1");
    five_entries(&path);
    let recovery = Directory::open(&path).unwrap().recover().unwrap();
    assert_eq!(recovery.recovered.entries.len(), 5);
    assert_eq!(recovery.recovered.commit_index, 5);
    assert_eq!((recovery.torn, recovery.damage), (None, None));
}

// A suffix is cut and written anew, in the order of the works.
#[test]
fn a_suffix_is_replaced() {
    let directory = TempDir::new().unwrap();
    let (disk, reports) = start(directory.path());
    let mut log = LogWriter::default();
    let mut append = Vec::new();
    for index in 1..=5 {
        log.append(&no_op(index), &mut append);
    }
    let first = DiskWork {
        ticket: 1,
        append,
        ..Default::default()
    };
    let truncate_to = Some(log.truncate_after(2));
    let mut append = Vec::new();
    log.append(&no_op(3), &mut append);
    let second = DiskWork {
        ticket: 2,
        truncate_to,
        append,
        ..Default::default()
    };
    for work in [first, second] {
        disk.submit(work).unwrap();
    }
    await_ticket(&reports, 2);
    let length = std::fs::metadata(directory.path().join(LOGS))
        .unwrap()
        .len();
    assert_eq!(length, log.len_bytes());
}

// All that waits shares a flush, and the report names the last of them.
#[test]
fn a_flush_is_shared() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let locked = Directory::open(path).unwrap();
    locked.recover().unwrap();
    let (sender, reports) = channel();
    let (go, gate) = channel::<()>();
    // The report of the first work holds the thread until all others wait.
    let disk = DiskThread::start(locked, move |report| {
        sender.send(report).unwrap();
        gate.recv().ok();
    })
    .unwrap();
    let mut log = LogWriter::default();
    let mut submit = |index| {
        let mut append = Vec::new();
        log.append(&no_op(index), &mut append);
        let work = DiskWork {
            ticket: index,
            append,
            ..Default::default()
        };
        disk.submit(work).unwrap();
    };
    submit(1);
    await_ticket(&reports, 1);
    (2..=100).for_each(&mut submit);
    go.send(()).unwrap();
    match reports.recv_timeout(Duration::from_secs(10)).unwrap() {
        DiskReport::Durable(ticket) => assert_eq!(ticket, 100),
        DiskReport::Failed(error) => panic!("{error}"),
    }
    assert_eq!(disk.fsyncs(), 2);
    drop(go);
}

// A torn tail is gone after the start that found it.
#[test]
fn a_torn_tail_is_cut() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    five_entries(path);
    let log = path.join(LOGS);
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, [&whole, &b"SET half a li"[..]].concat()).unwrap();
    let recovery = Directory::open(path).unwrap().recover().unwrap();
    assert_eq!(recovery.torn.map(|torn| torn.bytes), Some(13));
    assert_eq!(std::fs::read(&log).unwrap(), whole);
}

// A damaged log is kept aside, and the damage is remembered over restarts.
#[test]
fn damage_is_kept_and_remembered() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    five_entries(path);
    let log = path.join(LOGS);
    let mut damaged = std::fs::read(&log).unwrap();
    let second_line = damaged.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    damaged[second_line] ^= 1;
    std::fs::write(&log, &damaged).unwrap();
    for restart in 0..3 {
        let recovery = Directory::open(path).unwrap().recover().unwrap();
        assert_eq!(recovery.recovered.entries.len(), 1);
        assert_eq!(recovery.recovered.damaged_until, 5);
        assert_eq!(recovery.damage.is_some(), restart == 0);
        // As the running node does at once.
        let directory = Directory::open(path).unwrap();
        directory.replace(METADATA, &metadata(1)).unwrap();
        assert_eq!(std::fs::read(path.join(LOGS_DAMAGED)).unwrap(), damaged);
    }
}

// A disk that fails ends the thread with the reason, and reports nothing as durable.
#[test]
fn a_failed_write_is_final() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("node");
    let (disk, reports) = start(&path);
    std::fs::remove_dir_all(&path).unwrap();
    let work = DiskWork {
        ticket: 1,
        metadata: Some(metadata(0)),
        ..Default::default()
    };
    disk.submit(work).unwrap();
    match reports.recv_timeout(Duration::from_secs(10)).unwrap() {
        DiskReport::Failed(error) => assert!(error.to_string().contains(METADATA), "{error}"),
        DiskReport::Durable(ticket) => panic!("{ticket} can't be durable"),
    }
    assert!(
        reports.recv_timeout(Duration::from_secs(10)).is_err(),
        "ended"
    );
}

// Old lines are set aside whole, and only so many of them.
#[test]
fn a_large_dump_rotates() {
    let directory = TempDir::new().unwrap();
    let locked = Directory::open(directory.path()).unwrap();
    let mut file = RotatingFile::open(&locked, "dump", 11).unwrap();
    for line in [
        "one\n",
        "two\n",
        "three\n",
        "four\n",
        "five is long\n",
        "six\n",
    ] {
        file.write(line.as_bytes()).unwrap();
    }
    let read = |name| std::fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    assert_eq!(read("dump.txt"), "six\n");
    assert_eq!(read("dump.1.txt"), "five is long\n");
    assert_eq!(read("dump.2.txt"), "three\nfour\n");
    assert_eq!(read("dump.3.txt"), "");
}
