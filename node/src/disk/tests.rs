//! On real files.

use super::*;
use crate::command::Command;
use crate::engine::DiskWork;
use crate::raft::{Entry, HardState, Index};
use crate::wal::{LogWriter, Mark, Metadata, RefusedLeader};
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
        ..Metadata::default()
    };
    metadata.encode()
}

fn start(path: &Path) -> (DiskThread, Receiver<DiskReport>) {
    let directory = Directory::open(path).unwrap();
    directory.recover().unwrap();
    let (sender, reports) = channel();
    let disk = DiskThread::start(directory, &Arc::default(), &Arc::default(), move |report| {
        sender.send(report).unwrap()
    })
    .unwrap();
    (disk, reports)
}

/// Waits until everything up to the ticket is durable.
fn await_ticket(reports: &Receiver<DiskReport>, ticket: u64) {
    loop {
        match reports.recv_timeout(Duration::from_secs(10)).unwrap() {
            DiskReport::Durable(durable) if durable >= ticket => return,
            DiskReport::Durable(_) => {}
            other => panic!("{other:?}"),
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

// That the process before is dead is known only of the very file that it had locked in this very run
// of the kernel: not of a copy, nor of a disk that another machine had.
#[test]
fn the_death_of_the_process_before_is_proved_or_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let ended = |path: &Path| Directory::open(path).unwrap().lock.former_run_ended;
    assert!(!ended(path), "nobody had it");
    assert!(ended(path));
    let lock = path.join(LOCK);
    let text = std::fs::read_to_string(&lock).unwrap();
    let elsewhere = text.replace("boot=", "boot=0");
    std::fs::write(&lock, elsewhere).unwrap();
    assert!(!ended(path), "another machine");
    assert!(ended(path));
    let copy = TempDir::new().unwrap();
    std::fs::copy(&lock, copy.path().join(LOCK)).unwrap();
    assert!(!ended(copy.path()), "a copy");
    std::fs::write(&lock, "123\n").unwrap();
    assert!(!ended(path), "an older version");
}

// Each run signs the lock with a name of its own, and names the runs before it that have ended for
// certain; of a copy nothing is proved, nor where a version was between that knows no names.
#[test]
fn a_run_knows_which_runs_have_ended() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let open = |path: &Path| {
        let directory = Directory::open(path).unwrap();
        let recovered = directory.recover().unwrap().recovered;
        assert_ne!(recovered.incarnation, 0);
        recovered
    };
    let first = open(path);
    assert_eq!((first.former_run, first.ended), (0, vec![]));
    let second = open(path);
    assert_eq!(second.former_run, first.incarnation);
    assert_eq!(second.ended, [first.incarnation]);
    let copy = TempDir::new().unwrap();
    std::fs::copy(path.join(LOCK), copy.path().join(LOCK)).unwrap();
    let elsewhere = open(copy.path());
    assert_eq!(elsewhere.former_run, second.incarnation);
    assert_eq!(elsewhere.ended, [first.incarnation], "a fact stays one");
    assert!(!elsewhere.former_run_ended);
    let lock = path.join(LOCK);
    let text = std::fs::read_to_string(&lock).unwrap();
    let older: Vec<_> = text.lines().take(2).collect();
    std::fs::write(&lock, older.join("\n")).unwrap();
    let after = open(path);
    assert_eq!((after.former_run, after.ended), (0, vec![]));
}

// A lock that is kept outlives the value that has it.
#[test]
fn a_kept_lock_is_held_to_the_end_of_the_process() {
    let directory = TempDir::new().unwrap();
    let kept = Directory::open(directory.path()).unwrap();
    kept.keep_locked().unwrap();
    drop(kept);
    let refused = Directory::open(directory.path()).unwrap_err();
    assert!(matches!(refused, DiskError::Locked { .. }), "{refused}");
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
    let gate = Arc::new(std::sync::Mutex::new(gate));
    // The report of the first work holds the thread until all others wait.
    let disk = DiskThread::start(locked, &Arc::default(), &Arc::default(), move |report| {
        sender.send(report).unwrap();
        gate.lock().unwrap().recv().ok();
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
        other => panic!("{other:?}"),
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
        other => panic!("{other:?} can't be"),
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

// The flush of an idle leader goes to the disk, and fails with it.
#[test]
fn an_idle_flush_is_a_flush() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let (disk, reports) = start(path);
    let mark = |ticket| {
        let mark = Mark {
            ticket,
            ..Mark::default()
        };
        mark.encode()
    };
    for ticket in 1..=3 {
        let work = DiskWork {
            ticket,
            mark: Some(mark(ticket)),
            flush_mark: true,
            ..Default::default()
        };
        disk.submit(work).unwrap();
        await_ticket(&reports, ticket);
        assert_eq!(disk.fsyncs(), ticket);
        assert_eq!(std::fs::read(path.join(MARK)).unwrap(), mark(ticket));
    }
}

// A node that refused a leader gives in only when an operator says so, and keeps its log aside.
#[test]
fn a_refusal_is_remembered() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    five_entries(path);
    let log = std::fs::read(path.join(LOGS)).unwrap();
    let refused = RefusedLeader {
        keep: 2,
        term: 1,
        committed: 5,
    };
    let directory_of = |path| Directory::open(path).unwrap();
    directory_of(path).note_refusal(refused).unwrap();
    let commit = |path| {
        let recovery = Directory::open(path).unwrap().recover().unwrap();
        assert_eq!(recovery.recovered.entries.len(), 5);
        recovery.recovered.commit_index
    };
    assert_eq!(commit(path), 5);
    std::fs::write(path.join(ACCEPT_DAMAGE), "").unwrap();
    // It can't be completed: nothing of what asks for it is gone, so the next start does it all.
    let in_the_way = path.join(format!("{METADATA}.tmp"));
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::write(path.join(MARK), Mark::default().encode()).unwrap();
    directory_of(path).recover().unwrap_err();
    for name in [MARK, REFUSED, ACCEPT_DAMAGE] {
        assert!(path.join(name).exists(), "{name}");
    }
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(commit(path), 2);
    assert_eq!(std::fs::read(path.join(LOGS_DAMAGED)).unwrap(), log);
    assert!(!path.join(REFUSED).exists() && !path.join(ACCEPT_DAMAGE).exists());
    assert_eq!(commit(path), 2);
}

// A refusal that the node has outlived, by a later term or commit, is forgotten: it gives up nothing
// when an operator accepts something else.
#[test]
fn a_refusal_is_forgotten_with_its_cause() {
    for (term, committed) in [(2, 5), (1, 4)] {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        five_entries(path);
        let refused = RefusedLeader {
            keep: 2,
            term,
            committed,
        };
        let opened = Directory::open(path).unwrap();
        opened.note_refusal(refused).unwrap();
        std::fs::write(path.join(ACCEPT_DAMAGE), "").unwrap();
        assert_eq!(opened.recover().unwrap().recovered.commit_index, 5);
        assert!(!path.join(REFUSED).exists() && !path.join(ACCEPT_DAMAGE).exists());
    }
}
