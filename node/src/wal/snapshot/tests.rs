//! The text of a snapshot, the log behind it, and what becomes of both when bytes change.

use super::*;
use crate::command::{Command, Format, Members, Operation, RequestId, Write};
use crate::kv::ExportStep;
use crate::raft::{Entry, HardState};
use crate::wal::{
    Files, LogBase, LogWriter, Metadata, RecoverError, Recovery, SnapshotDamage, recover_behind,
};

fn entry(index: Index) -> Entry {
    let word = |text: &str| -> Arc<str> { text.into() };
    let operation = match index % 4 {
        0 => Operation::Delete { key: word("gone") },
        1 => Operation::Set {
            key: word("two words"),
            value: word("line\nbreak"),
        },
        2 => Operation::CompareAndSet {
            key: word("name1"),
            expected: None,
            value: word("Jaggu"),
        },
        _ => Operation::Set {
            key: format!("k{index}").into(),
            value: word(""),
        },
    };
    let request = Some(RequestId {
        client_id: 0x3f9a_1c20 + index % 2,
        sequence: index,
        since_index: 0,
    });
    Entry {
        index,
        term: 1 + index / 4,
        command: Arc::new(Command::Write(Write { request, operation })),
    }
}

/// A log of so many entries: its codec, its text, and the snapshot at `index`.
struct Node {
    writer: LogWriter,
    logs: Vec<u8>,
    base: LogBase,
    snapshot: Vec<u8>,
}

fn node(entries: Index, index: Index) -> Node {
    let (mut writer, mut logs, mut store) = (LogWriter::default(), Vec::new(), Store::default());
    for entry in (1..=entries).map(entry) {
        writer.append(&entry, &mut logs);
        if entry.index <= index {
            store.apply(entry.index, &entry.command);
        }
    }
    let log_crc = writer.crc_at(index).unwrap();
    let head = SnapshotHead {
        state: store.begin_export(),
        term: entry(index).term,
        log_crc,
    };
    let (id, text) = write(head, &mut store);
    assert_eq!(id.bytes, text.len() as u64);
    Node {
        writer,
        logs,
        base: LogBase {
            snapshot: id,
            log_crc,
        },
        snapshot: text,
    }
}

/// The text of the export that was begun with `head`.
fn write(head: SnapshotHead, store: &mut Store) -> (SnapshotId, Vec<u8>) {
    let mut text = Vec::new();
    let mut writer = SnapshotWriter::begin(head, &mut text);
    while let ExportStep::Records(records) = store.export_next(2) {
        records.iter().for_each(|r| writer.record(r, &mut text));
    }
    (writer.end(&mut text), text)
}

fn read(text: &[u8], piece: usize) -> Result<Restored, SnapshotError> {
    let mut reader = SnapshotReader::default();
    text.chunks(piece)
        .try_for_each(|piece| reader.feed(piece))?;
    reader.finish()
}

fn metadata_of(commit_index: Index) -> Vec<u8> {
    let metadata = Metadata {
        hard_state: HardState {
            term: 1,
            voted_for: None,
        },
        commit_index,
        ..Metadata::default()
    };
    metadata.encode()
}

impl Node {
    /// Cuts the log as the disk does.
    fn cut(&mut self, keeps_rest: bool) {
        let cut = self.writer.cut_before(&self.base, keeps_rest);
        let rest = match cut.rest_from {
            Some(from) => self.logs.split_off(from as usize),
            None => Vec::new(),
        };
        self.logs = [cut.first_line, rest].concat();
        assert_eq!(self.logs.len() as u64, self.writer.len_bytes());
    }

    fn recover(&self, commit_index: Index) -> Result<Recovery, RecoverError> {
        let files = Files {
            logs: Some(&self.logs),
            metadata: Some(&metadata_of(commit_index)),
            ..Files::default()
        };
        recover_behind(Some(read(&self.snapshot, 7)), files)
    }
}

// The text that users rely on, byte for byte.
#[test]
fn the_snapshot_reads_as_documented() {
    let mut node = node(6, 4);
    let expected = "\
        SNAPSHOT 4 2\tindex=4 log=a6a7cd2a cluster=NULL members=0 sessions=2 keys=3 evicted=0 format=1 crc=X\n\
        SESSION 3f9a1c20\tused=4 dropped=0 since=0 results=2 crc=X\n\
        DONE CAS true\tsequence=2 digest=X crc=X\n\
        DONE DEL false\tsequence=4 digest=X crc=X\n\
        SESSION 3f9a1c21\tused=3 dropped=0 since=0 results=2 crc=X\n\
        DONE SET\tsequence=1 digest=X crc=X\n\
        DONE SET\tsequence=3 digest=X crc=X\n\
        SET k3 \"\"\tcrc=X\n\
        SET name1 Jaggu\tcrc=X\n\
        SET \"two words\" \"line\\nbreak\"\tcrc=X\n\
        END 4 2\tindex=4 crc=X\n";
    let text = String::from_utf8(node.snapshot.clone()).unwrap();
    let masked = |text: &str, mark: &str| {
        let mut pieces = text.split(mark);
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |text, piece| {
            let digits = piece.find(|c: char| !c.is_ascii_hexdigit());
            text + mark + "X" + &piece[digits.unwrap_or(piece.len())..]
        })
    };
    let log = format!("log={:08x}", node.base.log_crc);
    let told = masked(&masked(&text, "crc="), "digest=").replace(&log, "log=a6a7cd2a");
    assert_eq!(told, expected);
    assert!(text.ends_with(&format!("crc={:08x}\n", node.base.snapshot.hash)));

    let before = node.logs.clone();
    node.cut(true);
    let logs = String::from_utf8(node.logs.clone()).unwrap();
    let (first, rest) = logs.split_once('\n').unwrap();
    assert!(
        first.starts_with("SNAPSHOT 4 2\tindex=4 format=1 state="),
        "{first}"
    );
    assert!(first.ends_with(&format!(" crc={:08x}", node.base.log_crc)));
    assert!(before.ends_with(rest.as_bytes()), "the rest is what it was");
    assert_eq!(rest.lines().count(), 2);
}

// From the entry on that begins the format a snapshot says which cluster it is of, and who its members are
// since when; and they come back from its text.
#[test]
fn a_snapshot_names_cluster_and_members() {
    let begins = Command::Format(Format {
        version: 2,
        cluster: 0xab,
        voters: vec![1, 2, 13],
    });
    let mut store = Store::default();
    store.apply(1, &Command::NoOp);
    store.apply(2, &begins);
    let head = SnapshotHead {
        state: store.begin_export(),
        term: 1,
        log_crc: 0,
    };
    let (_, text) = write(head, &mut store);
    let told = String::from_utf8(text.clone()).unwrap();
    assert!(told.contains(" cluster=000000000000000000000000000000ab members=3 sessions=0 "));
    let members = told.lines().filter(|line| line.starts_with("MEMBER "));
    let members = members.map(|line| line.split(" crc").next().unwrap());
    assert_eq!(
        members.collect::<Vec<_>>(),
        [
            "MEMBER 1\tindex=2",
            "MEMBER 2\tindex=2",
            "MEMBER 13\tindex=2"
        ]
    );
    let restored = read(&text, 7).unwrap();
    assert_eq!(restored.head, head);
    let mut again = restored.store;
    assert_eq!(again.begin_export(), head.state);
}

// Log and snapshot give what the whole log gave, wherever it is cut, and go on as it would; cut
// once more, too.
#[test]
fn a_cut_log_goes_on() {
    for cut in 1..=9 {
        let mut node = node(9, cut);
        let mut whole = node.logs.clone();
        node.cut(true);
        for recovery in [node.recover(0), node.recover(9)] {
            let recovery = recovery.unwrap();
            let recovered = &recovery.recovered;
            let rest: Vec<Entry> = (cut + 1..=9).map(entry).collect();
            assert_eq!(recovered.entries, rest);
            assert_eq!(recovered.snapshot, Some(node.base.snapshot));
            assert_eq!(recovery.store.applied_index(), cut);
            assert!((cut..=9).contains(&recovered.commit_index));
            assert_eq!(recovered.hard_state.term, entry(9).term);
            assert_eq!((recovery.torn, recovery.damage), (None, None));
            assert_eq!(recovery.log.len_bytes(), node.logs.len() as u64);
        }
        let mut writer = node.recover(0).unwrap().log;
        assert_eq!(writer.truncate_after(9), node.logs.len() as u64);
        let (mut line, mut whole_line) = (Vec::new(), Vec::new());
        writer.append(&entry(10), &mut line);
        self::node(9, 1).writer.append(&entry(10), &mut whole_line);
        assert_eq!(line, whole_line);
        whole.extend(whole_line);
        node.logs.extend(line);
        assert!(whole.ends_with(&node.logs[node.base.encode().len()..]));
        let later = self::node(10, 10);
        (node.writer, node.base, node.snapshot) = (writer, later.base, later.snapshot);
        node.cut(true);
        assert_eq!(node.recover(3).unwrap().recovered.last_index(), 10);
        node.cut(false);
        assert_eq!(node.recover(3).unwrap().recovered.last_index(), 10);
    }
}

// No bit of a snapshot can change, and no byte be missing, unnoticed; and it does not matter in
// which pieces the text comes.
#[test]
fn every_byte_of_a_snapshot_counts() {
    let node = node(9, 9);
    for piece in [1, 5, 64, usize::MAX] {
        let found = read(&node.snapshot, piece).unwrap();
        assert_eq!(found.id, node.base.snapshot);
    }
    for at in 0..node.snapshot.len() {
        for bit in 0..8 {
            let mut bad = node.snapshot.clone();
            bad[at] ^= 1 << bit;
            assert!(read(&bad, 64).is_err(), "byte {at}, bit {bit}");
        }
        assert!(read(&node.snapshot[..at], 64).is_err(), "cut at {at}");
    }
    let behind = [&node.snapshot[..], b"x"].concat();
    assert!(read(&behind, 64).is_err());
}

// A snapshot that is missing, damaged, or another one costs the node all that it had, and its vote
// until that is back; nothing of it passes for a state.
#[test]
fn a_lost_snapshot_is_damage() {
    let mut cut = node(9, 6);
    cut.cut(true);
    let other = node(9, 5).snapshot;
    let damaged = cut.snapshot[..cut.snapshot.len() - 3].to_vec();
    for (snapshot, commit_index, until) in [(other, 3, 9), (damaged, 12, 12)] {
        let lost = Node {
            snapshot,
            writer: LogWriter::default(),
            logs: cut.logs.clone(),
            base: cut.base,
        };
        let recovery = lost.recover(commit_index).unwrap();
        let damage = recovery.damage.unwrap();
        assert_eq!((damage.line, damage.until), (1, until));
        assert!(damage.snapshot.is_some());
        assert_eq!((recovery.store.applied_index(), recovery.log_bytes), (0, 0));
        assert_eq!(recovery.recovered.damaged_until, until);
        assert_eq!(recovery.recovered.last_index(), 0);
        assert!(!recovery.recovered.never_ran);
    }
    let metadata = Metadata::default().encode();
    let files = Files {
        logs: Some(&cut.logs),
        metadata: Some(&metadata),
        ..Files::default()
    };
    let missing = recover_behind(None, files).unwrap().damage.unwrap();
    assert_eq!(missing.snapshot, Some(SnapshotDamage::Missing));
}

// No bit of a cut log can change unnoticed. What the first line was the snapshot tells, and where a
// newline was everybody knows: nothing is lost by those.
#[test]
fn every_byte_of_a_cut_log_counts() {
    for last in [9, 6] {
        let mut cut = node(last, 6);
        cut.cut(true);
        let good = cut.logs.clone();
        let first_line = cut.base.encode().len();
        for at in 0..good.len() {
            cut.logs = good.clone();
            cut.logs[at] ^= 1 << (at % 7);
            let recovery = cut.recover(last).unwrap();
            let line = good[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            if at < first_line || good[at] == b'\n' {
                assert_eq!(recovery.damage, None, "byte {at}");
                assert_eq!(recovery.recovered.last_index(), last, "byte {at}");
                let mended: Vec<_> = recovery.mends.iter().map(|mend| mend.line).collect();
                assert_eq!(mended, [line as u64], "byte {at}");
                for mend in &recovery.mends {
                    let begin = mend.offset as usize;
                    cut.logs[begin..begin + mend.bytes.len()].copy_from_slice(&mend.bytes);
                }
                assert_eq!(cut.logs, good, "byte {at}");
            } else {
                let damage = recovery.damage.unwrap();
                assert_eq!(
                    (damage.line, damage.until),
                    (line as u64, last),
                    "byte {at}"
                );
            }
        }
    }
}

// A first line that can't be read is taken from a snapshot only where it must be that one: else the
// state is lost, and the node knows how far it had come.
#[test]
fn a_first_line_is_not_guessed() {
    let mut cut = node(9, 6);
    cut.cut(true);
    let first_line = cut.base.encode().len();
    cut.logs[12] ^= 1;
    let damaged = cut.logs.clone();
    let other = node(9, 5).snapshot;
    let whole = cut.snapshot.clone();
    let mut next_line_too = damaged.clone();
    next_line_too[10] ^= 1;
    next_line_too[first_line + 3] ^= 1;
    for (logs, snapshot) in [(&damaged, &other), (&next_line_too, &whole)] {
        let lost = Node {
            snapshot: snapshot.clone(),
            writer: LogWriter::default(),
            logs: logs.clone(),
            base: cut.base,
        };
        let recovery = lost.recover(0).unwrap();
        let damage = recovery.damage.unwrap();
        assert_eq!(damage.snapshot, Some(SnapshotDamage::FirstLine));
        assert_eq!((damage.until, recovery.log_bytes), (9, 0));
    }
}

// However much of a first line is unreadable: where the line behind it goes on from the snapshot, it must
// be that one, and nothing is lost.
#[test]
fn the_next_line_tells_of_the_first() {
    let mut cut = node(9, 6);
    cut.cut(true);
    let good = cut.logs.clone();
    let first_line = cut.base.encode().len();
    cut.logs[10..first_line - 1].fill(b'x');
    let recovery = cut.recover(0).unwrap();
    assert_eq!(recovery.damage, None);
    assert_eq!(recovery.recovered.last_index(), 9);
    let mended: Vec<_> = recovery.mends.iter().map(|mend| &mend.bytes[..]).collect();
    assert_eq!(mended, [&good[..first_line]]);
}

// A log that ends within its first line has lost what it was cut behind, not only a line that was torn; and
// without the snapshot the node knows that it had something.
#[test]
fn a_first_line_that_is_cut_short_is_damage() {
    let mut cut = node(9, 6);
    cut.cut(true);
    let logs = &cut.logs[..20];
    let metadata = metadata_of(0);
    let files = Files {
        logs: Some(logs),
        metadata: Some(&metadata),
        ..Files::default()
    };
    let other = read(&node(9, 5).snapshot, 7);
    for (snapshot, until) in [(Some(other), 5), (None, 1)] {
        let recovery = recover_behind(snapshot, files).unwrap();
        let damage = recovery.damage.unwrap();
        assert_eq!(damage.snapshot, Some(SnapshotDamage::FirstLine));
        assert_eq!((damage.until, recovery.torn), (until, None));
        assert_eq!(recovery.recovered.damaged_until, until);
    }
}

// What is in files by now stays readable: the line that begins a log behind a snapshot, checksums included.
#[test]
fn the_first_line_stays_what_it_is() {
    let base = LogBase {
        snapshot: SnapshotId {
            index: 1200,
            term: 3,
            format: 2,
            hash: 0x9f8e_7d6c,
            bytes: 48_213,
        },
        log_crc: 0x5f1c_0a77,
    };
    let line = "SNAPSHOT 1200 3\tindex=1200 format=2 state=9f8e7d6c bytes=48213 check=fa19c994 crc=5f1c0a77\n";
    assert_eq!(String::from_utf8(base.encode()).unwrap(), line);
}

// How long a line is, and how long the log that ends with it, is known before and behind a cut; of
// entries that are not there, nothing.
#[test]
fn lines_keep_their_lengths_behind_a_snapshot() {
    for is_cut in [false, true] {
        let mut node = node(9, 4);
        if is_cut {
            node.cut(true);
            let first_line = node.base.encode().len();
            assert_eq!(LogBase::read(&node.logs), Some((node.base, first_line)));
        }
        let first = if is_cut { 5 } else { 1 };
        let mut begin = if is_cut { node.base.encode().len() } else { 0 };
        let mut ends = Vec::new();
        for index in first..=9 {
            let line = node.logs[begin..]
                .split_inclusive(|byte| *byte == b'\n')
                .next();
            let bytes = line.unwrap().len();
            assert_eq!(node.writer.line_bytes(index), bytes as u64, "{index}");
            begin += bytes;
            assert_eq!(node.writer.end_bytes(index), Some(begin as u64), "{index}");
            ends.push((index, begin as u64));
        }
        for index in [0, 10, first - 1] {
            assert_eq!(node.writer.line_bytes(index), 0, "{index}");
        }
        assert_eq!(node.writer.end_bytes(10), None);
        for (index, end) in ends.into_iter().rev() {
            assert_eq!(node.writer.truncate_after(index), end, "{index}");
            assert_eq!(node.writer.last_index(), index);
        }
    }
}

// The configuration and each kind of result come back from the text.
#[test]
fn a_snapshot_keeps_configuration_and_results() {
    let key: Arc<str> = "k".into();
    let value = || key.clone();
    let delete = Operation::Delete { key: value() };
    let compare_and_set = |expected| Operation::CompareAndSet {
        key: value(),
        expected,
        value: value(),
    };
    let operations = [
        compare_and_set(Some(value())),
        compare_and_set(None),
        delete.clone(),
        delete,
        Operation::Set {
            key: value(),
            value: value(),
        },
    ];
    let mut store = Store::default();
    let members = Members::of_voters([1, 2, 3]);
    store.apply(1, &Command::Members(Arc::new(members)));
    for (index, operation) in (2..).zip(operations) {
        let request = Some(RequestId {
            client_id: 7,
            sequence: index,
            since_index: 0,
        });
        store.apply(index, &Command::Write(Write { request, operation }));
    }
    let head = SnapshotHead {
        state: store.begin_export(),
        term: 1,
        log_crc: 0,
    };
    let (id, text) = write(head, &mut store);
    let restored = read(&text, 7).unwrap();
    assert_eq!(restored.id, id);
    let mut again = restored.store;
    assert_eq!(again.configuration(), store.configuration());
    let head = SnapshotHead {
        state: again.begin_export(),
        ..head
    };
    assert_eq!(write(head, &mut again), (id, text));
}

// A text that can't be read is refused with the number of its line; what was taken in so far is known.
#[test]
fn a_bad_line_is_named() {
    let node = node(9, 9);
    let lines: Vec<_> = node
        .snapshot
        .split_inclusive(|byte| *byte == b'\n')
        .collect();
    let first = lines[0].len();
    let mut reader = SnapshotReader::default();
    reader.feed(&node.snapshot[..first - 1]).unwrap();
    assert_eq!((reader.head(), reader.bytes()), (None, first as u64 - 1));
    reader.feed(&node.snapshot[first - 1..first + 3]).unwrap();
    assert_eq!(reader.bytes(), first as u64 + 3);
    assert_eq!(reader.head().unwrap().state.applied_index, 9);
    for (number, _) in (1..).zip(&lines) {
        let mut bad = node.snapshot.clone();
        bad[lines[..number].concat().len() - 2] ^= 1;
        let error = read(&bad, 64).unwrap_err();
        assert_eq!(error.line, number as u64);
        let short = read(&lines[..number - 1].concat(), 64).unwrap_err();
        let what = SnapshotFault::Short;
        let line = number as u64;
        assert_eq!(short, SnapshotError { line, what });
    }
}

// A last line is that of its first: another index or term ends nothing, whatever the checksum says.
#[test]
fn the_end_is_that_of_the_beginning() {
    let node = node(9, 9);
    let end = node.snapshot.len() - 1;
    let last = node.snapshot[..end].iter().rposition(|byte| *byte == b'\n');
    let before = &node.snapshot[..last.unwrap() + 1];
    let (_, crc) = split(&before[..before.len() - 1]).unwrap();
    let term = node.base.snapshot.term;
    let ended = |index: Index, term: Term| {
        let mut text = before.to_vec();
        let line = format!("END {index} {term}\tindex={index} crc=");
        let crc = crc32c::crc32c_append(crc, line.as_bytes());
        text.extend(format!("{line}{crc:08x}\n").bytes());
        read(&text, 64)
    };
    assert!(ended(9, term).is_ok());
    for (index, term) in [(8, term), (9, term + 1)] {
        let error = ended(index, term).unwrap_err();
        assert_eq!(error.what, SnapshotFault::Line, "{index} {term}");
    }
}

fn looks_like(pieces: &[&[u8]], snapshot: SnapshotId) -> bool {
    let mut look = SnapshotLook::default();
    pieces.iter().for_each(|piece| look.feed(piece));
    look.is(snapshot)
}

// Whoever only looks at a text knows it as that snapshot in whatever pieces it comes, and sees every
// changed bit, all that is missing and all that is too much.
#[test]
fn a_look_sees_what_reading_would() {
    let node = node(9, 9);
    let (text, id) = (&node.snapshot, node.base.snapshot);
    for piece in [1, 5, 64, usize::MAX] {
        assert!(looks_like(&text.chunks(piece).collect::<Vec<_>>(), id));
    }
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bad = text.clone();
            bad[at] ^= 1 << bit;
            assert!(!looks_like(&[&bad], id), "byte {at}, bit {bit}");
        }
        assert!(!looks_like(&[&text[..at]], id), "cut at {at}");
    }
    assert!(!looks_like(&[text, b"\n"], id));
    let (hash, bytes) = (id.hash ^ 1, id.bytes + 1);
    assert!(!looks_like(&[text], SnapshotId { hash, ..id }));
    assert!(!looks_like(&[text], SnapshotId { bytes, ..id }));
    // What was begun is not the end, though all lines before it and the length fit.
    assert!(!looks_like(&[text, b"x"], SnapshotId { bytes, ..id }));
}

// The longest value comes back, also where each of its bytes takes six in the text.
#[test]
fn the_longest_value_comes_back() {
    let value: Arc<str> = "\u{1}".repeat(1024 * 1024).into();
    let key: Arc<str> = "k".into();
    let operation = Operation::Set {
        key: key.clone(),
        value: value.clone(),
    };
    let mut store = Store::default();
    let request = None;
    store.apply(1, &Command::Write(Write { request, operation }));
    let head = SnapshotHead {
        state: store.begin_export(),
        term: 1,
        log_crc: 0,
    };
    let (id, text) = write(head, &mut store);
    assert!(text.len() > 6 * value.len());
    let restored = read(&text, 1024 * 1024).unwrap();
    assert_eq!(restored.id, id);
    let query = crate::kv::Query::Get { key };
    let answer = crate::kv::Answer::Value(Some(value));
    assert_eq!(restored.store.read(&query), answer);
}

// No line is longer than any that is written, so whoever sends one takes no more memory than that. The
// longest may come.
#[test]
fn longer_lines_are_no_snapshot() {
    let long = vec![b'x'; LINE_BYTES_MAX];
    let mut reader = SnapshotReader::default();
    reader.feed(&long).unwrap();
    let error = reader.feed(b"x").unwrap_err();
    assert_eq!(error.what, SnapshotFault::Line);
    let at_once = SnapshotReader::default().feed(&[&long[..], b"x"].concat());
    assert_eq!(at_once, Err(error));

    for (longer, same) in [(0, true), (1, false)] {
        let covered = &long[..LINE_BYTES_MAX - CRC_DIGITS - 1 + longer];
        let hash = crc32c::crc32c(covered);
        let line = [covered, format!("{hash:08x}\n").as_bytes()].concat();
        let snapshot = SnapshotId {
            hash,
            bytes: line.len() as u64,
            ..SnapshotId::default()
        };
        assert_eq!(looks_like(&[&line], snapshot), same, "{longer} longer");
    }
}
