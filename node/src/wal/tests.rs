//! Round trips, and every way in which a file can be cut or changed.

mod starts;
mod torn;

use super::*;
use crate::command::{Command, FORMAT_NEWEST, Format, Operation, RequestId, Write};
use crate::raft::{HardState, Ids, LEASE_US_MAX, Promise};
use proptest::prelude::*;
use std::sync::Arc;

fn entry(index: Index, term: u64, command: Command) -> Entry {
    Entry {
        index,
        term,
        command: Arc::new(command),
    }
}

fn set(index: Index, term: u64, key: &str, value: &str) -> Entry {
    let operation = Operation::Set {
        key: key.into(),
        value: value.into(),
    };
    let request = Some(RequestId {
        client_id: 0x3f9a_1c20,
        sequence: index,
        since_index: 0,
    });
    entry(index, term, Command::Write(Write { request, operation }))
}

fn log_of(entries: &[Entry]) -> Vec<u8> {
    let (mut log, mut out) = (LogWriter::default(), Vec::new());
    for entry in entries {
        log.append(entry, &mut out);
    }
    out
}

fn any_format() -> impl Strategy<Value = Command> {
    let voters = proptest::collection::vec(any::<u64>(), 0..4);
    (2..=FORMAT_NEWEST, any::<u128>(), voters).prop_map(|(version, cluster, voters)| {
        Command::Format(Format {
            version,
            cluster,
            voters,
        })
    })
}

fn metadata(term: u64, commit_index: Index) -> Vec<u8> {
    let hard_state = HardState {
        term,
        voted_for: Some(2),
    };
    let metadata = Metadata {
        hard_state,
        commit_index,
        applied_index: commit_index,
        ..Metadata::default()
    };
    metadata.encode()
}

fn recover_log(logs: &[u8]) -> Recovery {
    recover(Files {
        logs: Some(logs),
        metadata: Some(&metadata(1, 0)),
        ..Files::default()
    })
    .unwrap()
}

fn five() -> Vec<Entry> {
    let mut entries = vec![entry(1, 1, Command::NoOp)];
    for index in 2..=5 {
        entries.push(set(index, 1, &format!("key{index}"), "value"));
    }
    entries
}

fn at_line(line: u64, until: Index) -> Damage {
    Damage {
        line,
        until,
        snapshot: None,
    }
}

/// Where each line of a log begins, and its length at the end.
fn line_starts(logs: &[u8]) -> Vec<usize> {
    let ends = logs.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    std::iter::once(0)
        .chain(ends.map(|(at, _)| at + 1))
        .collect()
}

// The text that users rely on, byte for byte.
#[test]
fn the_log_reads_as_documented() {
    let write = |request, operation| Command::Write(Write { request, operation });
    let compare_and_set = |expected: Option<&str>| Operation::CompareAndSet {
        key: "k".into(),
        expected: expected.map(Arc::from),
        value: "new".into(),
    };
    let since = Some(RequestId {
        client_id: 1,
        sequence: 2,
        since_index: 3,
    });
    let log = log_of(&[
        entry(1, 1, Command::NoOp),
        set(2, 1, "name1", "Jaggu"),
        set(3, 1, "two words", "line\nbreak"),
        entry(4, 2, write(None, Operation::Delete { key: "é".into() })),
        entry(5, 2, write(since, compare_and_set(Some("\"")))),
        entry(6, 2, write(None, compare_and_set(None))),
        set(7, 2, "", "it's\\"),
        entry(
            8,
            3,
            Command::Format(Format {
                version: 2,
                cluster: 0xab,
                voters: vec![1, 2, 3],
            }),
        ),
    ]);
    let expected = "\
        NO-OP 1\tindex=1 crc=1f52bd4e\n\
        SET name1 Jaggu 1\tindex=2 request=3f9a1c20/2 crc=542e1355\n\
        SET \"two words\" \"line\\nbreak\" 1\tindex=3 request=3f9a1c20/3 crc=64741586\n\
        DEL \"é\" 2\tindex=4 crc=7391f044\n\
        CAS k \"\\\"\" new 2\tindex=5 request=1/2 since=3 crc=f79c1f78\n\
        CREATE k new 2\tindex=6 crc=480b17a2\n\
        SET \"\" \"it's\\\\\" 2\tindex=7 request=3f9a1c20/7 crc=330f3d92\n\
        FORMAT 2 000000000000000000000000000000ab 1,2,3 3\tindex=8 crc=77d6aac0\n";
    assert_eq!(String::from_utf8(log).unwrap(), expected);
    assert_eq!(
        String::from_utf8(metadata(3, 17)).unwrap(),
        "currentTerm 3\nvotedFor 2\ncommitLength 17\nappliedLength 17\ncrc db1ddfb0\n"
    );
}

// A conflicting suffix is cut and written anew; the file then reads like one that never held it.
#[test]
fn a_cut_suffix_leaves_no_trace() {
    let (mut log, mut file) = (LogWriter::default(), Vec::new());
    for entry in five() {
        log.append(&entry, &mut file);
    }
    file.truncate(log.truncate_after(3) as usize);
    let newer = [set(4, 2, "other", "x"), set(5, 2, "other", "y")];
    for entry in &newer {
        log.append(entry, &mut file);
    }
    let expected: Vec<Entry> = five().into_iter().take(3).chain(newer).collect();
    assert_eq!(file, log_of(&expected));
    let recovery = recover_log(&file);
    assert_eq!(recovery.recovered.entries, expected);
    assert_eq!((recovery.torn, recovery.damage), (None, None));
    assert_eq!(log.truncate_after(99), file.len() as u64);
    assert_eq!(log.truncate_after(0), 0);
}

// The recovered writer goes on as if the node had never stopped.
#[test]
fn a_recovered_log_goes_on() {
    let first = log_of(&five()[..3]);
    let mut recovery = recover_log(&first);
    let mut file = first;
    for entry in &five()[3..] {
        recovery.log.append(entry, &mut file);
    }
    assert_eq!(file, log_of(&five()));
}

// A file cut anywhere: every whole line is kept, also one that lacks no more than its newline; the rest
// is cut off as a torn write.
#[test]
fn every_truncation_recovers_a_prefix() {
    let entries = five();
    let file = log_of(&entries);
    let starts = line_starts(&file);
    for length in 0..=file.len() {
        let recovery = recover_log(&file[..length]);
        let whole = starts.iter().filter(|start| **start <= length + 1).count() - 1;
        assert_eq!(
            recovery.recovered.entries,
            entries[..whole],
            "cut at {length}"
        );
        assert_eq!(recovery.log_bytes, starts[whole] as u64);
        assert_eq!(recovery.recovered.damaged_until, 0);
        assert_eq!(recovery.torn.is_some(), length > starts[whole]);
        assert_eq!(recovery.mends.len(), usize::from(length < starts[whole]));
        // Blocks that were allocated and never filled read as zeros.
        let mut zeros = file[..length].to_vec();
        zeros.resize(length + 100, 0);
        let recovery = recover_log(&zeros);
        assert_eq!(recovery.recovered.entries, entries[..whole]);
        assert!(recovery.torn.is_some() && recovery.damage.is_none());
    }
}

// Any byte changed to any other: what is before the line is kept, nothing is made up, and with
// entries lost that were readable before, the node knows that it was damaged, and how far. Only where a
// newline was changed all is known, and it is written anew.
#[test]
fn every_changed_byte_is_noticed() {
    let entries = five();
    let file = log_of(&entries);
    let starts = line_starts(&file);
    for at in 0..file.len() {
        let line = starts.iter().filter(|start| **start <= at).count();
        for byte in 0..=u8::MAX {
            if byte == file[at] {
                continue;
            }
            let mut changed = file.clone();
            changed[at] = byte;
            let recovery = recover_log(&changed);
            if file[at] == b'\n' {
                let mend = Mend {
                    line: line as u64,
                    offset: at as u64,
                    bytes: b"\n".to_vec(),
                };
                assert_eq!(recovery.mends, [mend], "{at}: {byte}");
                assert_eq!(recovery.recovered.entries, entries, "{at}: {byte}");
                assert_eq!((recovery.torn, recovery.damage), (None, None));
                continue;
            }
            let kept = line - 1;
            assert_eq!(recovery.recovered.entries, entries[..kept], "{at}: {byte}");
            assert_eq!(recovery.log_bytes, starts[kept] as u64);
            assert_eq!(
                recovery.damage,
                Some(at_line(line as u64, 5)),
                "{at}: {byte}"
            );
            assert!(recovery.torn.is_none());
        }
    }
}

// Lines that are lost, doubled or in the wrong order are damage, though each is well in itself.
#[test]
fn moved_lines_are_noticed() {
    let file = log_of(&five());
    let starts = line_starts(&file);
    let line = |number: usize| &file[starts[number - 1]..starts[number]];
    for order in [
        &[1, 2, 4, 5][..],
        &[1, 2, 2, 3, 4, 5],
        &[1, 2, 4, 3, 5],
        &[1, 2, 5, 4, 3],
    ] {
        let moved: Vec<u8> = order
            .iter()
            .flat_map(|&number| line(number))
            .copied()
            .collect();
        let recovery = recover_log(&moved);
        let damage = recovery
            .damage
            .unwrap_or_else(|| panic!("{order:?} went unnoticed"));
        assert_eq!(recovery.recovered.entries, five()[..2]);
        assert_eq!(damage.line, 3);
    }
}

// A log that ends before an entry that is on record as committed has lost it.
#[test]
fn a_log_shorter_than_its_commit_is_damaged() {
    let file = log_of(&five()[..3]);
    let commit = metadata(1, 5);
    let recovery = recover(Files {
        logs: Some(&file),
        metadata: Some(&commit),
        ..Files::default()
    })
    .unwrap();
    assert_eq!(recovery.damage, Some(at_line(4, 5)));
    assert_eq!(recovery.recovered.damaged_until, 5);
    assert_eq!(recovery.recovered.commit_index, 3);
}

// With two damaged places, entries behind the last readable line count too: also where the second
// place has hidden a newline, or ends with zeros.
#[test]
fn what_lies_behind_the_last_readable_line_counts() {
    let whole = log_of(&five());
    let starts = line_starts(&whole);
    let damaged_until = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut logs = whole.clone();
        logs[starts[0]] ^= 1;
        change(&mut logs);
        recover_log(&logs).recovered.damaged_until
    };
    assert_eq!(damaged_until(&|_| {}), 5);
    for second in 2..=4 {
        let until = damaged_until(&|logs| logs[starts[second]] ^= 1);
        assert_eq!(until, 5, "also line {}", second + 1);
    }
    assert_eq!(damaged_until(&|logs| logs.truncate(whole.len() - 12)), 5);
    assert_eq!(
        damaged_until(&|logs| {
            logs[starts[3]] ^= 1;
            logs[starts[4] - 1] ^= 1;
            logs[starts[4]] ^= 1;
            logs.extend([0; 9]);
        }),
        5
    );
}

// The mark outlives restarts until the log has been refilled that far, committed or not.
#[test]
fn damage_is_remembered_until_it_is_refilled() {
    let mut damaged = log_of(&five());
    let third = line_starts(&damaged)[2];
    damaged[third] ^= 1;
    let DamageMark::Write(mark) = recover_log(&damaged).damage_mark else {
        panic!("damage leaves a mark");
    };
    let restart_with = |tail: &[u8], entries: &[Entry], commit| {
        let (mut logs, metadata) = (log_of(entries), metadata(1, commit));
        logs.extend(tail);
        let recovery = recover(Files {
            logs: Some(&logs),
            metadata: Some(&metadata),
            damaged: Some(&mark),
            mark: None,
        })
        .unwrap();
        assert_eq!(recovery.damage, None, "told once");
        // What was durable is not called torn, whatever it looks like.
        let is_torn = !tail.is_empty() && entries.len() as Index >= commit;
        assert_eq!(recovery.torn.is_some(), is_torn);
        (recovery.recovered.damaged_until, recovery.damage_mark)
    };
    // Between two writes, and where the write that refills the log was cut short.
    for tail in ["", "SET torn"] {
        let restart = |entries: &[Entry], commit| restart_with(tail.as_bytes(), entries, commit);
        assert_eq!(restart(&five()[..2], 2), (5, DamageMark::Keep));
        assert_eq!(restart(&five()[..2], 5), (5, DamageMark::Keep));
        assert_eq!(restart(&five()[..4], 5), (5, DamageMark::Keep));
        assert_eq!(restart(&five(), 0), (0, DamageMark::Remove));
        assert_eq!(restart(&five(), 5), (0, DamageMark::Remove));
    }
}

// Files that do not belong together, or that can't be read, are refused, each with its reason.
#[test]
fn unusable_files_are_refused() {
    let logs = log_of(&five());
    let good = metadata(1, 5);
    let bad = b"currentTerm 1\n".to_vec();
    let recover = |logs: Option<&[u8]>, metadata: Option<&[u8]>, damaged: Option<&[u8]>| {
        let files = Files {
            logs,
            metadata,
            damaged,
            mark: None,
        };
        recover(files).unwrap_err()
    };
    assert_eq!(
        recover(Some(&logs), None, None),
        RecoverError::MetadataMissing
    );
    assert_eq!(
        recover(Some(&logs), Some(&bad), None),
        RecoverError::MetadataDamaged(MetadataError::Checksum)
    );
    assert_eq!(
        recover(None, Some(&good), None),
        RecoverError::LogsMissing { term: 1 }
    );
    assert_eq!(
        recover(Some(&logs), Some(&good), Some(&bad)),
        RecoverError::DamageMarkDamaged(MetadataError::Checksum)
    );
}

// An empty directory, and one whose first start was cut short, have never run.
#[test]
fn a_node_that_never_ran() {
    let fresh = Metadata::default().encode();
    for (metadata, logs) in [
        (None, None),
        (Some(&fresh), None),
        (Some(&fresh), Some(&b""[..])),
    ] {
        let recovery = recover(Files {
            logs,
            metadata: metadata.map(Vec::as_slice),
            ..Files::default()
        })
        .unwrap();
        assert!(recovery.recovered.never_ran);
    }
    assert!(!recover_log(b"").recovered.never_ran);
}

// A crash between the flush of the log and the record of its term: the term is taken from the
// log, and no vote is made up for it.
#[test]
fn the_term_never_lags_behind_the_log() {
    let logs = log_of(&[set(1, 7, "k", "v")]);
    let recovered = recover_log(&logs).recovered;
    let expected = HardState {
        term: 7,
        voted_for: None,
    };
    assert_eq!(recovered.hard_state, expected);
}

// Any byte of metadata.txt changed to any other is noticed, as is any cut.
#[test]
fn changed_metadata_is_noticed() {
    let file = metadata(3, 17);
    for at in 0..file.len() {
        assert!(Metadata::decode(&file[..at]).is_err(), "cut at {at}");
        for byte in 0..=u8::MAX {
            let mut changed = file.clone();
            changed[at] = byte;
            let decoded = Metadata::decode(&changed);
            assert_eq!(decoded.is_ok(), byte == file[at], "{at}: {byte}");
        }
    }
}

fn any_command() -> impl Strategy<Value = Command> {
    let text = || prop_oneof![any::<String>(), "[ -~]{0,12}", ".{0,8}"].prop_map(Arc::<str>::from);
    let operation = prop_oneof![
        (text(), text()).prop_map(|(key, value)| Operation::Set { key, value }),
        text().prop_map(|key| Operation::Delete { key }),
        (text(), proptest::option::of(text()), text()).prop_map(|(key, expected, value)| {
            Operation::CompareAndSet {
                key,
                expected,
                value,
            }
        }),
    ];
    let request = proptest::option::of(any::<(u64, u64, u64)>().prop_map(|numbers| RequestId {
        client_id: numbers.0,
        sequence: numbers.1,
        since_index: numbers.2,
    }));
    prop_oneof![
        1 => Just(Command::NoOp),
        1 => any_format(),
        8 => (request, operation)
            .prop_map(|(request, operation)| Command::Write(Write { request, operation })),
    ]
}

/// Something like a line of the log, without its checksum.
fn any_line() -> impl Strategy<Value = String> {
    let word = || prop_oneof!["[a-z]{0,4}", "\"[ -~]{0,6}\"", "\"é\\\\n\""];
    let verb = prop_oneof![
        "SET",
        "DEL",
        "CAS",
        "CREATE",
        "NO-OP",
        "FORMAT",
        "SNAPSHOT",
        "[A-Z]{0,3}"
    ];
    let fields = prop_oneof![
        Just(String::new()),
        "( request=[0-9a-f]{1,16}/[0-9]{1,3})?( since=[0-9]{1,3})?",
    ];
    (
        verb,
        proptest::collection::vec(word(), 0..4),
        0..4_u64,
        0..5_u64,
        fields,
    )
        .prop_map(|(verb, words, term, index, fields)| {
            let words: String = words.iter().map(|word| format!(" {word}")).collect();
            format!("{verb}{words} {term}\tindex={index}{fields}")
        })
}

proptest! {
    // Whatever a client writes comes back as it was, one line an entry.
    #[test]
    fn any_log_round_trips(commands in proptest::collection::vec((0_u64..3, any_command()), 0..8)) {
        let mut term = 1;
        let mut entries = Vec::new();
        for (step, command) in commands {
            term += step;
            entries.push(entry(entries.len() as Index + 1, term, command));
        }
        let file = log_of(&entries);
        prop_assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), entries.len());
        let recovery = recover_log(&file);
        prop_assert_eq!(recovery.recovered.entries, entries);
        prop_assert_eq!(recovery.log_bytes, file.len() as u64);
    }

    // Lines of any words under a checksum that fits, some in a spelling that no node writes: what is
    // recovered once is recovered again, from the file as it is then and from what is written anew, and
    // nothing is cut off in silence.
    #[test]
    fn any_sealed_lines_are_read_as_they_are(
        lines in proptest::collection::vec(any_line(), 0..8),
        changed in proptest::option::of(any::<(usize, u8)>()),
    ) {
        let (mut text, mut crc) = (Vec::new(), 0);
        for line in lines {
            let covered = format!("{line} crc=");
            crc = crc32c::crc32c_append(crc, covered.as_bytes());
            text.extend(format!("{covered}{crc:08x}\n").bytes());
        }
        if let Some((at, byte)) = changed.filter(|_| !text.is_empty()) {
            let length = text.len();
            text[at % length] = byte;
        }
        let recovery = recover_log(&text);
        let mut after = text.clone();
        after.resize(recovery.log_bytes as usize, 0);
        for mend in &recovery.mends {
            let begin = mend.offset as usize;
            after[begin..begin + mend.bytes.len()].copy_from_slice(&mend.bytes);
        }
        let entries = &recovery.recovered.entries;
        let again = recover_log(&after);
        prop_assert_eq!((&again.recovered.entries, again.log_bytes), (entries, recovery.log_bytes));
        prop_assert!(again.mends.is_empty() && again.torn.is_none() && again.damage.is_none());
        prop_assert_eq!(&recover_log(&log_of(entries)).recovered.entries, entries);
        let told = recovery.torn.is_some() || recovery.damage.is_some();
        prop_assert!(text.len() <= after.len() || told);
    }

    // The small files: what is read is read again from what is written, and nothing crashes.
    #[test]
    fn any_sealed_text_is_read_as_it_is(text in "(clock c|promise|[a-zA-Z]{1,16}|[0-9 \n]|-|NULL){0,12}") {
        let sealed = format!("{text}crc {:08x}\n", crc32c::crc32c(text.as_bytes())).into_bytes();
        if let Ok(metadata) = Metadata::decode(&sealed) {
            let again = Metadata::decode(&metadata.encode()).unwrap();
            prop_assert_eq!(again.encode(), metadata.encode());
        }
        if let Some(promises) = decode_promises("c", &sealed) {
            prop_assert_eq!(decode_promises("c", &encode_promises("c", &promises)), Some(promises));
        }
        if let Some(lease_us) = decode_lease(&sealed) {
            prop_assert_eq!(decode_lease(&encode_lease(lease_us)), Some(lease_us));
        }
        if let Some(mark) = Mark::decode(&sealed) {
            prop_assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }
    }

    // Bytes that were never a log are refused or cut, and never crash.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(recover_log(&bytes).recovered.entries.is_empty());
        prop_assert!(Metadata::decode(&bytes).is_err());
    }

    #[test]
    fn any_metadata_round_trips(numbers in any::<(u64, Option<u64>, u64, u64)>()) {
        let hard_state = HardState { term: numbers.0, voted_for: numbers.1 };
        let metadata = Metadata {
            hard_state,
            commit_index: numbers.2,
            applied_index: numbers.3,
            accepted_until: numbers.0 % 3,
            voters: numbers.2 % 3,
            format: numbers.3 % 2 * FORMAT_NEWEST,
            ids: Ids {
                cluster: u128::from(numbers.0) << 64 | u128::from(numbers.2),
                directory: u128::from(numbers.3),
            },
            reads: crate::raft::ReadsSince { format: 1 + numbers.0 % 2, index: numbers.2 },
            names: Default::default(),
        };
        prop_assert_eq!(Metadata::decode(&metadata.encode()), Ok(metadata));
    }
}

/// Goal: kept promises are read back on the same clock only, and only undamaged.
#[test]
fn kept_promises_are_believed_only_where_they_can_be() {
    let promises = [(1, 4, 2_000_000), (0, 0, 7)].map(|(leader, term, until_us)| Promise {
        leader,
        incarnation: 0,
        term,
        until_us,
    });
    let text = encode_promises("boot/time", &promises);
    assert_eq!(decode_promises("boot/time", &text), Some(promises.to_vec()));
    assert_eq!(decode_promises("other/time", &text), None);
    let nothing = encode_promises("boot/time", &[]);
    assert_eq!(decode_promises("boot/time", &nothing), Some(vec![]));
    for at in 0..text.len() {
        let mut damaged = text.clone();
        damaged[at] ^= 1;
        assert_eq!(decode_promises("boot/time", &damaged), None, "byte {at}");
        assert_eq!(
            decode_promises("boot/time", &text[..at]),
            None,
            "cut at {at}"
        );
    }
}

/// Goal: a node that ran before may have promised the longest lease that there is, one that never
/// ran none; and a record is believed only undamaged.
#[test]
fn forgotten_promises_count_as_the_longest_lease() {
    assert_eq!(recover_log(b"").recovered.former_lease_us, LEASE_US_MAX);
    let never_ran = recover(Files::default()).unwrap().recovered;
    assert_eq!(never_ran.former_lease_us, 0);
    let text = encode_lease(3_000_000);
    assert_eq!(decode_lease(&text), Some(3_000_000));
    for at in 0..text.len() {
        let mut damaged = text.clone();
        damaged[at] ^= 1;
        assert_eq!(decode_lease(&damaged), None, "byte {at}");
    }
}

// No more words are made of a text than may be in it, however long it is.
#[test]
fn words_are_counted_before_they_are_made() {
    let split = |text: &str| split_words(text, 3).map(|words| words.len());
    assert_eq!(split("SET \"two words\" v"), Some(3));
    assert_eq!(split("SET k v more"), None);
    // A fourth word that is none is not even looked at.
    let many = format!("SET k v {}", "x ".repeat(1_000_000));
    assert_eq!(split(&many), None);
    assert_eq!(split(""), Some(0));
}
