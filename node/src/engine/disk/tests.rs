//! What is written, what waits for it, and in which order.

use super::*;
use crate::command::{Command, Format};
use crate::raft::HardState;
use crate::wal::{Files, recover};
use std::sync::Arc;

fn entry(index: Index, term: Term) -> Entry {
    Entry {
        index,
        term,
        command: Arc::new(Command::NoOp),
    }
}

fn queue() -> DiskQueue {
    DiskQueue::new(LogWriter::default(), Metadata::default(), 0)
}

fn carry_out(file: &mut Vec<u8>, work: Option<DiskWork>) {
    let work = work.expect("something was asked for");
    if let Some(length) = work.truncate_to {
        file.truncate(length as usize);
    }
    file.extend(work.append);
}

fn terms(file: &[u8]) -> Vec<Term> {
    let metadata = Metadata::default().encode();
    let recovery = recover(Files {
        logs: Some(file),
        metadata: Some(&metadata),
        ..Files::default()
    });
    let entries = recovery.unwrap().recovered.entries;
    entries.iter().map(|entry| entry.term).collect()
}

/// Goal: whatever is appended and cut, within one batch or across several, the file holds just
/// the entries that are left.
#[test]
fn cuts_and_appends_in_any_order_leave_the_right_file() {
    // Each batch: steps of (keep up to this index, then append up to that one).
    let batches: [&[(Index, Index)]; 5] = [
        &[(0, 3)],
        &[(3, 6), (4, 7)],
        &[(2, 4), (1, 2), (2, 8)],
        &[(8, 9), (0, 1)],
        &[(1, 5), (5, 6), (3, 4)],
    ];
    let (mut queue, mut file, mut model) = (queue(), Vec::new(), Vec::new());
    let mut term = 0;
    for batch in batches {
        for (keep, last) in batch {
            term += 1;
            if (*keep as usize) < model.len() {
                queue.truncate_after(*keep);
                model.truncate(*keep as usize);
            }
            let entries: Vec<Entry> = (keep + 1..=*last).map(|i| entry(i, term)).collect();
            queue.append(&entries);
            model.extend(entries.iter().map(|entry| entry.term));
        }
        let (work, _) = queue.finish(Metadata::default(), 0, 0);
        carry_out(&mut file, work);
        assert_eq!(terms(&file), model);
    }
}

/// Goal: metadata.txt names a format before the log comes to it, with nothing else changed, and
/// no longer names it once the log was cut back: however the disk is left in between, a version
/// that does not read the format finds either its name or nothing of it.
#[test]
fn a_format_is_named_before_the_log_comes_to_it() {
    let named = |metadata: &Option<Vec<u8>>| {
        let metadata = metadata.as_deref().map(Metadata::decode);
        metadata.map(|it| it.unwrap().format)
    };
    let in_term = |format| Metadata {
        hard_state: HardState {
            term: 7,
            voted_for: None,
        },
        format,
        ..Metadata::default()
    };
    let mut queue = queue();
    let raise = Entry {
        command: Arc::new(Command::Format(Format {
            version: 2,
            ..Format::default()
        })),
        ..entry(1, 7)
    };
    queue.append(&[raise]);
    let work = queue.finish(in_term(2), 0, 0).0.unwrap();
    assert_eq!(named(&work.metadata_before), Some(2));
    let before = Metadata::decode(&work.metadata_before.unwrap()).unwrap();
    assert_eq!(before.hard_state.term, 0, "only the format is new");
    assert_eq!(named(&work.metadata), Some(2));

    queue.append(&[entry(2, 7)]);
    let work = queue.finish(in_term(2), 0, 0).0.unwrap();
    assert_eq!((work.metadata_before, work.metadata), (None, None));

    queue.truncate_after(0);
    queue.require_metadata();
    let work = queue.finish(in_term(0), 0, 0).0.unwrap();
    assert_eq!(work.metadata_before, None, "the log is cut first");
    assert_eq!(named(&work.metadata), Some(0));
}

/// Goal: a message that depends on the disk leaves after it, and nothing overtakes it.
#[test]
fn held_messages_leave_in_order_when_the_disk_has_answered() {
    let message = |sequence| {
        let outcome = crate::raft::AppendOutcome::Accepted { match_index: 0 };
        let term = 1;
        vec![(
            2,
            Message::AppendReply {
                term,
                sequence,
                outcome,
            },
        )]
    };
    let mut queue = queue();
    queue.hold(message(1));
    let (work, free) = queue.finish(Metadata::default(), 0, 0);
    assert_eq!((work, free), (None, message(1)), "nothing to wait for");

    queue.append(&[entry(1, 1)]);
    queue.hold(message(2));
    let (first, free) = queue.finish(Metadata::default(), 0, 0);
    assert_eq!(free, vec![]);
    queue.hold(message(3));
    let (none, free) = queue.finish(Metadata::default(), 0, 0);
    assert_eq!((none, free), (None, vec![]), "queued behind the held one");

    let durable = queue.on_durable(first.unwrap().ticket);
    assert_eq!(durable.messages, [message(2), message(3)].concat());
    assert_eq!(durable.last, Some((1, 1)));
    assert_eq!(durable.hard_state_term, None, "only entries were written");
}

/// Goal: one flush may cover several works; the newest entry counts.
#[test]
fn one_flush_covers_all_earlier_works() {
    let mut queue = queue();
    queue.append(&[entry(1, 1)]);
    queue.finish(Metadata::default(), 0, 0);
    queue.append(&[entry(2, 1)]);
    queue.finish(Metadata::default(), 0, 0);
    queue.require_metadata();
    let (work, _) = queue.finish(Metadata::default(), 0, 0);
    let durable = queue.on_durable(work.unwrap().ticket);
    assert_eq!(durable.last, Some((2, 1)));
    assert_eq!(durable.hard_state_term, Some(0));
}

/// Ends a step; the work that it makes.
fn end(queue: &mut DiskQueue, metadata: Metadata, now: Micros) -> Option<DiskWork> {
    queue.finish(metadata, 0, now).0
}

/// Goal: a commit index that changes is on record within a second, and nothing else makes work;
/// a term or a vote is written at once.
#[test]
fn the_record_of_a_commit_may_lag() {
    let mut queue = queue();
    let committed = |commit_index| Metadata {
        commit_index,
        ..Metadata::default()
    };
    let lag_us = METADATA_LAG_US;
    assert_eq!(queue.wake_at(&committed(0)), None);
    assert_eq!(queue.wake_at(&committed(5)), Some(lag_us));
    assert_eq!(end(&mut queue, committed(0), 9 * lag_us), None, "as it was");
    assert_eq!(end(&mut queue, committed(5), lag_us - 1), None, "not yet");
    let work = end(&mut queue, committed(5), lag_us).expect("it is time");
    assert_eq!(work.metadata, Some(committed(5).encode()));
    assert_eq!(
        (work.ticket, work.truncate_to, &*work.append),
        (1, None, &[][..])
    );
    assert_eq!(queue.wake_at(&committed(5)), None, "written");
    assert_eq!(queue.wake_at(&committed(6)), Some(2 * lag_us));

    queue.append(&[entry(1, 1)]);
    let work = end(&mut queue, committed(6), lag_us + 1);
    let work = work.expect("entries are written at once");
    assert_eq!((work.ticket, work.metadata), (2, None));
    queue.require_metadata();
    let work = end(&mut queue, committed(6), lag_us + 2);
    let work = work.expect("so is a vote");
    assert_eq!(
        (work.ticket, work.metadata),
        (3, Some(committed(6).encode()))
    );
    queue.append(&[entry(2, 1)]);
    end(&mut queue, committed(6), lag_us + 3);
    queue.truncate_after(1);
    let work = end(&mut queue, committed(6), lag_us + 4);
    assert!(
        work.is_some_and(|work| work.truncate_to.is_some()),
        "a cut alone"
    );
}

/// Goal: the first entries of a term find a mark of that term on disk, so that a line which a
/// crash tears is known for what it is; the others need no flush of their own.
#[test]
fn a_term_begins_with_a_mark() {
    let mut queue = queue();
    let of = |term| Metadata {
        hard_state: crate::raft::HardState {
            term,
            voted_for: None,
        },
        ..Metadata::default()
    };
    for (index, term, flushed) in [(1, 1, true), (2, 1, false), (3, 2, true), (4, 2, false)] {
        queue.append(&[entry(index, term)]);
        let work = end(&mut queue, of(term), 0).expect("an entry");
        assert_eq!(work.flush_mark, flushed, "entry {index}");
        let mark = work.mark.as_deref().and_then(Mark::decode);
        assert_eq!(mark.map(|mark| mark.term), flushed.then_some(term));
    }
}

/// Goal: the mark is flushed where nothing else shows that the disk is there, before a log is cut, and
/// where a commit is written down by itself; elsewhere it rides along, now and then.
#[test]
fn a_mark_is_flushed_where_it_is_needed() {
    let mut queue = queue();
    let of = |commit_index| Metadata {
        commit_index,
        ..Metadata::default()
    };
    queue.append(&[entry(1, 0), entry(2, 0), entry(3, 0), entry(4, 0)]);
    assert!(end(&mut queue, of(0), 0).is_some_and(|work| work.flush_mark));
    queue.require_flush();
    let alone = end(&mut queue, of(0), 1).expect("a flush was asked for");
    assert!(alone.flush_mark && alone.mark.is_some() && alone.metadata.is_none());
    queue.truncate_after(3);
    assert!(end(&mut queue, of(0), 2).is_some_and(|work| work.flush_mark));
    queue.require_metadata();
    assert!(end(&mut queue, of(0), 3).is_some_and(|work| !work.flush_mark));
    let lags = end(&mut queue, of(1), 2 * METADATA_LAG_US);
    assert!(lags.is_some_and(|work| work.flush_mark));
    queue.require_metadata();
    let due = end(&mut queue, of(2), 4 * METADATA_LAG_US);
    assert!(due.is_some_and(|work| !work.flush_mark), "a vote is enough");
    let snapshot = SnapshotId {
        index: 2,
        ..SnapshotId::default()
    };
    let log_crc = queue.log_crc(2).expect("it was written");
    queue.cut_log(&LogBase { snapshot, log_crc }, true, None);
    let cut = end(&mut queue, of(2), 4 * METADATA_LAG_US + 1);
    assert!(cut.is_some_and(|work| work.flush_mark));

    let marked_at = 4 * METADATA_LAG_US + 1;
    for (index, now, rides_along) in [
        (4, marked_at + MARK_LAG_US - 1, false),
        (5, marked_at + MARK_LAG_US, true),
    ] {
        queue.append(&[entry(index, 0)]);
        let work = end(&mut queue, of(2), now).expect("an entry");
        assert!(!work.flush_mark);
        assert_eq!(work.mark.is_some(), rides_along, "at {now}");
    }
}

/// Goal: the word on a piece of a snapshot leaves when that piece is written, not before, and is held up
/// by none that is written already.
#[test]
fn messages_wait_for_the_piece_they_are_about() {
    let message = |offset| {
        let reply = Message::InstallReply {
            term: 1,
            sequence: 1,
            index: 9,
            offset,
        };
        vec![(2, reply)]
    };
    let mut queue = queue();
    let free = |queue: &mut DiskQueue| queue.finish(Metadata::default(), 0, 0).1;
    for (offset, ticket) in [(10, 1), (20, 2)] {
        assert_eq!(queue.write_snapshot(offset == 10, vec![b'x']), ticket);
        queue.hold_for_snapshot(message(offset));
    }
    assert_eq!(free(&mut queue), []);
    queue.on_snapshot_written(1);
    assert_eq!((queue.written_ticket(), free(&mut queue)), (1, message(10)));
    queue.on_snapshot_written(2);
    assert_eq!((queue.written_ticket(), free(&mut queue)), (2, message(20)));
    queue.hold_for_snapshot(message(30));
    assert_eq!(free(&mut queue), message(30), "nothing is under way");
}

/// Goal: works on files of the next snapshot begin in their order, and none while the last one is put in
/// place: its files have the same names.
#[test]
fn the_next_snapshot_waits_for_the_last() {
    let mut queue = queue();
    queue.append(&[entry(1, 0), entry(2, 0)]);
    end(&mut queue, Metadata::default(), 0);
    let log_crc = queue.log_crc(1).expect("it was written");
    let snapshot = SnapshotId {
        index: 1,
        ..SnapshotId::default()
    };
    let base = LogBase { snapshot, log_crc };
    let first = queue.write_snapshot(true, vec![b'x']);
    let from = queue.end_bytes(1).expect("it was written");
    let to = queue.end_bytes(2).expect("so was this");
    let second = queue.copy_log(Some(&base), from, to);
    let works = queue.take_snapshot_works();
    let tickets: Vec<u64> = works.iter().map(|work| work.ticket).collect();
    assert_eq!(tickets, [first, second]);
    let first_line = Some(base.encode());
    let copy = SnapshotTask::Copy {
        first_line,
        from,
        to,
    };
    assert_eq!(works[1].task, copy);

    queue.cut_log(&base, true, Some(to));
    let cut = end(&mut queue, Metadata::default(), 0).expect("a cut");
    queue.look_at(snapshot);
    assert_eq!(queue.take_snapshot_works(), []);
    queue.on_durable(cut.ticket);
    assert_eq!(queue.durable_ticket(), cut.ticket);
    let tasks = queue.take_snapshot_works().into_iter();
    let tasks: Vec<SnapshotTask> = tasks.map(|work| work.task).collect();
    assert_eq!(tasks, [SnapshotTask::Look(snapshot)]);
    assert_eq!(queue.take_snapshot_works(), [], "once");
}

/// Goal: what is durable says nothing about later works, and each is told of once.
#[test]
fn later_works_are_not_durable_yet() {
    let mut queue = queue();
    for index in 1..=2 {
        queue.append(&[entry(index, 1)]);
        end(&mut queue, Metadata::default(), 0);
    }
    queue.require_metadata();
    end(&mut queue, Metadata::default(), 0);
    assert_eq!(queue.on_durable(0).last, None);
    let first = queue.on_durable(1);
    assert_eq!((first.last, first.hard_state_term), (Some((1, 1)), None));
    let rest = queue.on_durable(3);
    assert_eq!((rest.last, rest.hard_state_term), (Some((2, 1)), Some(0)));
    assert_eq!(queue.on_durable(3).last, None);
}
