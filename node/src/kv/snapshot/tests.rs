//! The state goes out and comes back, while writes go on.

use super::*;
use crate::command::{Command, Format, Members, Operation, RequestId, Write};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// All that is told of the store now, in steps of so many records.
fn export(store: &mut Store, most: usize) -> (StateHead, Vec<Record>) {
    let head = store.begin_export();
    (head, rest(store, most))
}

fn rest(store: &mut Store, most: usize) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        match store.export_next(most) {
            ExportStep::Records(records) => all.extend(records),
            ExportStep::Done => return all,
            ExportStep::GivenUp => panic!("given up"),
        }
    }
}

fn import(head: StateHead, records: &[Record]) -> Result<Store, ImportError> {
    let mut import = Import::new(head)?;
    let mut records = records.iter().cloned();
    records.try_for_each(|record| import.take(record))?;
    import.finish()
}

fn set(key: &str, value: &str) -> Command {
    Command::Write(Write {
        request: None,
        operation: Operation::Set {
            key: key.into(),
            value: value.into(),
        },
    })
}

/// A log with everything that changes a state: all operations, on few keys; resends; clients that
/// crowd each other out; sequences beyond a window; requests from before an eviction.
fn any_log(random: &mut SmallRng, entries: usize) -> Vec<Command> {
    let many = random.random_ratio(1, 4);
    let clients = if many { SESSIONS_MAX as u64 + 50 } else { 3 };
    let mut log: Vec<Command> = Vec::new();
    for at in 0..entries {
        if at > 0 && random.random_ratio(1, 8) {
            log.push(log[random.random_range(0..at)].clone());
            continue;
        }
        let mut word = |most: u32| -> Arc<str> { random.random_range(0..most).to_string().into() };
        let (key, value, expected) = (word(40), word(1_000_000), word(4));
        let operation = match random.random_range(0..10) {
            0..6 => Operation::Set { key, value },
            6..8 => Operation::Delete { key },
            8 => Operation::CompareAndSet {
                key,
                expected: None,
                value,
            },
            _ => Operation::CompareAndSet {
                key,
                expected: Some(expected),
                value,
            },
        };
        let request = random.random_ratio(4, 5).then(|| RequestId {
            client_id: random.random_range(0..clients),
            sequence: at as u64 / 2,
            since_index: at as u64 - random.random_range(0..=at as u64 / 2),
        });
        log.push(match random.random_ratio(1, 50) {
            true if at % 2 == 0 => Command::NoOp,
            true => Command::Format(Format {
                version: at as u64 % 4,
                cluster: at as u128,
                voters: (1..=at as u64 % 5).collect(),
            }),
            false => Command::Write(Write { request, operation }),
        });
    }
    log
}

fn apply_all(store: &mut Store, log: &[Command]) -> Vec<super::super::Applied> {
    let next = store.applied_index() + 1;
    let apply = |(index, command): (Index, &Command)| store.apply(index, command);
    (next..).zip(log).map(apply).collect()
}

// Whatever the log: what is told at an index does not depend on how it is asked for, nor on what is
// applied meanwhile; and who is made from it answers every later entry as who was there all along,
// and is told in the same words.
#[test]
fn a_state_comes_back_as_it_was() {
    for seed in 0..24 {
        let mut random = SmallRng::seed_from_u64(seed);
        let length = random.random_range(1..12_000);
        let log = any_log(&mut random, length);
        let cut = random.random_range(0..=log.len());
        let (before, after) = log.split_at(cut);
        let mut store = Store::default();
        apply_all(&mut store, before);
        let (head, at_once) = export(&mut store, usize::MAX);

        // A few records at a time, while the rest of the log is applied.
        assert_eq!(store.begin_export(), head);
        let (mut told, mut answers) = (Vec::new(), Vec::new());
        let pace = random.random_range(1..200);
        for command in after {
            answers.extend(apply_all(&mut store, std::slice::from_ref(command)));
            if random.random_ratio(1, 8)
                && let ExportStep::Records(records) = store.export_next(pace)
            {
                told.extend(records);
            }
        }
        if store.export.is_some() {
            told.extend(rest(&mut store, pace));
        }
        assert!(told == at_once, "seed {seed}");

        let mut twin = import(head, &at_once).unwrap();
        let (head_again, told_again) = export(&mut twin, 7);
        assert!((head_again, told_again) == (head, at_once), "seed {seed}");
        assert_eq!(apply_all(&mut twin, after), answers, "seed {seed}");
        assert_eq!(twin.live_bytes(), store.live_bytes(), "seed {seed}");
        assert_eq!(twin.format(), store.format(), "seed {seed}");
        let last = export(&mut store, 1_000);
        assert!(export(&mut twin, 3) == last, "seed {seed}");
    }
}

// What an export keeps of the past is bounded: beyond it the export ends and says so, and the next
// one is whole.
#[test]
fn too_many_changes_end_an_export() {
    let mut store = Store::default();
    for number in 0..100 {
        apply_all(&mut store, &[set(&format!("k{number:03}"), "old")]);
    }
    store.begin_export();
    store.bound_export(20 * (SAVED_OVERHEAD_BYTES + "k000old".len()));
    for number in 0..20 {
        apply_all(&mut store, &[set(&format!("k{number:03}"), "new")]);
        apply_all(&mut store, &[set(&format!("k{number:03}"), "newer")]);
    }
    assert!(matches!(store.export_next(10), ExportStep::Records(_)));
    // What was told makes room for others, and changes of it cost nothing.
    for number in 0..30 {
        apply_all(&mut store, &[set(&format!("k{number:03}"), "newest")]);
    }
    assert!(matches!(store.export_next(1), ExportStep::Records(_)));
    for number in 30..40 {
        apply_all(&mut store, &[set(&format!("k{number:03}"), "newest")]);
    }
    assert_eq!(store.export_next(10), ExportStep::GivenUp);
    assert_eq!(store.export_next(10), ExportStep::GivenUp);
    let (head, records) = export(&mut store, 10);
    assert_eq!((head.keys, records.len()), (100, 100));
}

// An export outlives changes of up to 64 MiB of what it has not told yet, and no more.
#[test]
fn what_an_export_keeps_is_bounded() {
    let value: Arc<str> = "x".repeat(1024 * 1024).into();
    let set = |key: usize, value: &Arc<str>| {
        let operation = Operation::Set {
            key: format!("k{key}").into(),
            value: Arc::clone(value),
        };
        let request = None;
        Command::Write(Write { request, operation })
    };
    let mut store = Store::default();
    (0..70).for_each(|key| drop(apply_all(&mut store, &[set(key, &value)])));
    for (changed, goes_on) in [(63, true), (64, false)] {
        store.begin_export();
        (0..changed).for_each(|key| drop(apply_all(&mut store, &[set(key, &value)])));
        let step = store.export_next(1);
        assert_eq!(step != ExportStep::GivenUp, goes_on, "{changed} MiB");
    }
}

// Records that are lost, doubled, moved or made up are no state.
#[test]
fn what_is_no_state_is_refused() {
    let mut store = Store::default();
    let mut random = SmallRng::seed_from_u64(1);
    apply_all(&mut store, &any_log(&mut random, 40));
    let (head, records) = export(&mut store, 10);
    assert!(import(head, &records).is_ok());
    for at in 0..records.len() {
        let without = [&records[..at], &records[at + 1..]].concat();
        assert!(import(head, &without).is_err(), "without {at}");
        let twice = [&records[..=at], &records[at..]].concat();
        assert!(import(head, &twice).is_err(), "{at} twice");
        let mut moved = records.clone();
        let record = moved.remove(at);
        moved.insert((at + 5) % records.len(), record);
        assert!(import(head, &moved).is_err(), "{at} moved");
    }
    for wrong in [
        StateHead {
            keys: head.keys + 1,
            ..head
        },
        StateHead {
            sessions: head.sessions - 1,
            ..head
        },
        StateHead {
            sessions: SESSIONS_MAX as u64 + 1,
            ..head
        },
        StateHead {
            applied_index: 1,
            evicted_until: 0,
            ..head
        },
        StateHead {
            evicted_until: head.applied_index + 1,
            ..head
        },
    ] {
        assert!(import(wrong, &records).is_err(), "{wrong:?}");
    }
}

/// The rest of a backup, a few records at a time, with an entry applied between each.
fn backup_rest(store: &mut Store, walk: Walk, meanwhile: &[Command]) -> Vec<Record> {
    let mut all = Vec::new();
    let mut meanwhile = meanwhile.iter();
    loop {
        match store.backup_next(walk, 2) {
            ExportStep::Records(records) => all.extend(records),
            ExportStep::Done => return all,
            ExportStep::GivenUp => panic!("given up"),
        }
        if let Some(command) = meanwhile.next() {
            apply_all(store, std::slice::from_ref(command));
        }
    }
}

// A backup and a snapshot that are under way at once each tell the state of their own moment, whatever is
// applied meanwhile. A second backup ends the first, and not the snapshot.
#[test]
fn a_backup_is_no_matter_to_a_snapshot() {
    let mut random = SmallRng::seed_from_u64(1);
    let log = any_log(&mut random, 600);
    let mut store = Store::default();
    apply_all(&mut store, &log[..200]);
    let of_snapshot = export(&mut store, usize::MAX);
    assert_eq!(store.begin_export(), of_snapshot.0);
    apply_all(&mut store, &log[200..300]);
    let (first, head) = store.begin_backup();
    let (walk, again) = store.begin_backup();
    assert_eq!(head, again);
    assert_eq!(store.backup_next(first, 1), ExportStep::GivenUp);
    let told = backup_rest(&mut store, walk, &log[300..]);
    assert_eq!(rest(&mut store, 3), of_snapshot.1);

    let mut then = Store::default();
    apply_all(&mut then, &log[..300]);
    assert_eq!((head, told), export(&mut then, usize::MAX));
    store.end_backup(walk);
    assert_eq!(store.backup_next(walk, 1), ExportStep::GivenUp);
}

// Once sessions are closed, what was applied is still answered, and nothing that a client may have sent
// before is applied, whether it has a session or not. Who learns of the state now goes on.
#[test]
fn closed_sessions_apply_nothing_from_before() {
    use super::super::Applied;
    let write = |client_id, sequence, since_index| {
        let request = RequestId {
            client_id,
            sequence,
            since_index,
        };
        let operation = Operation::Set {
            key: "k".into(),
            value: "v".into(),
        };
        let request = Some(request);
        Command::Write(Write { request, operation })
    };
    let mut store = Store::default();
    let log = [write(1, 1, 0), Command::NoOp, Command::NoOp, write(1, 2, 0)];
    apply_all(&mut store, &log);
    let begin = Format {
        version: 2,
        cluster: 9,
        voters: vec![1, 4],
    };
    store.begin_anew(&begin);
    assert_eq!(store.format(), 2);
    let (head, records) = export(&mut store, usize::MAX);
    assert_eq!((head.cluster, head.members), (9, 2));
    let mut restored = import(head, &records).unwrap();
    let later = [
        write(1, 2, 0),
        write(1, 3, 0),
        write(2, 1, 3),
        write(1, 4, 4),
        write(2, 1, 4),
    ];
    let is_applied = |applied: &Applied| matches!(applied, Applied::Written { resent: false, .. });
    let answers = apply_all(&mut restored, &later);
    assert!(matches!(answers[0], Applied::Written { resent: true, .. }));
    assert_eq!(answers[1..3], [Applied::SessionExpired; 2]);
    assert!(answers[3..].iter().all(is_applied), "{answers:?}");
}

/// A state with three members by a configuration, and one session and key.
fn with_configuration() -> Store {
    let mut store = Store::default();
    let begins = Command::Format(Format {
        version: 3,
        cluster: 9,
        voters: vec![1, 2],
    });
    let members = Command::Members(Arc::new(Members::of_voters([1, 2, 3])));
    let operation = Operation::Set {
        key: "k".into(),
        value: "v".into(),
    };
    let request = Some(RequestId {
        client_id: 7,
        sequence: 1,
        since_index: 0,
    });
    let write = Command::Write(Write { request, operation });
    apply_all(&mut store, &[begins, write, members]);
    store
}

// The configuration goes with the state, whatever number of records is asked for, and no step is longer
// than that.
#[test]
fn the_configuration_goes_with_the_state() {
    let mut store = with_configuration();
    for most in 1..6 {
        let head = store.begin_export();
        let mut all = Vec::new();
        while let ExportStep::Records(records) = store.export_next(most) {
            // A session is told with its results.
            let asked_for = |record: &&Record| !matches!(record, Record::Result { .. });
            assert!(records.iter().filter(asked_for).count() <= most, "{most}");
            all.extend(records);
        }
        let restored = import(head, &all).unwrap();
        assert_eq!(restored.configuration(), store.configuration(), "{most}");
        assert!(restored.configuration().is_some());
    }
}

// Members and their configuration come first, in order, once, and are what the head tells of.
#[test]
fn members_out_of_place_are_refused() {
    let mut store = with_configuration();
    let (head, records) = export(&mut store, 10);
    let [one, two, three, configuration, session, result, key] = &records[..] else {
        panic!("{records:?}");
    };
    let refused = |records: &[&Record]| {
        let records: Vec<_> = records.iter().map(|it| (*it).clone()).collect();
        import(head, &records).unwrap_err()
    };
    let order = ImportError::Order;
    assert_eq!(refused(&[one, one, two]), order("members"));
    assert_eq!(refused(&[two, one, three]), order("members"));
    let after = [one, two, three, session, result, key];
    assert_eq!(refused(&[&after[..4], &[three]].concat()), order("members"));
    let another = &Record::Member { id: 4, since: 1 };
    for place in [4, 6] {
        let late = |record| refused(&[&after[..place], &[record]].concat());
        assert_eq!(late(another), order("members"), "{place}");
        assert_eq!(late(configuration), order("the configuration"), "{place}");
    }
    let twice = [one, two, three, configuration, configuration];
    assert_eq!(refused(&twice), order("the configuration"));
    for too_early in [configuration, session, key] {
        assert_eq!(
            refused(&[one, two, too_early]),
            ImportError::Count("members")
        );
    }
    let none = StateHead { members: 2, ..head };
    let refused = import(none, &records).unwrap_err();
    assert_eq!(refused, ImportError::Count("members"));

    let since = head.applied_index + 1;
    let Record::Members { members, .. } = configuration else {
        panic!("{configuration:?}");
    };
    let late = Record::Members {
        members: Arc::clone(members),
        since,
    };
    let of_others = Record::Members {
        members: Arc::new(Members::of_voters([1, 2, 4])),
        since: 1,
    };
    for wrong in [late, of_others] {
        let mut import = Import::new(head).unwrap();
        for record in [one, two, three] {
            import.take(record.clone()).unwrap();
        }
        let refused = import.take(wrong).unwrap_err();
        assert_eq!(refused, ImportError::Bounds("the configuration"));
    }
}

// Sessions are told in the order of their clients, each with a last use of its own; results in the order
// of their sequences, above all that were dropped.
#[test]
fn sessions_out_of_order_are_refused() {
    let session = |client_id, last_used, dropped_until, results| {
        Record::Session(SessionRecord {
            client_id,
            last_used,
            dropped_until,
            not_before: 0,
            results,
        })
    };
    let result = |sequence| Record::Result {
        sequence,
        digest: 1,
        result: crate::kv::WriteResult::Set,
    };
    let told = |sessions, records: &[Record]| {
        let head = StateHead {
            applied_index: 9,
            sessions,
            ..StateHead::default()
        };
        import(head, records).map(|store| store.session_count())
    };
    let order = ImportError::Order;
    assert_eq!(told(2, &[session(1, 4, 0, 0), session(2, 3, 0, 0)]), Ok(2));
    for (client, last_used) in [(1, 5), (0, 5), (2, 4)] {
        let sessions = [session(1, 4, 0, 0), session(client, last_used, 0, 0)];
        let refused = told(2, &sessions).unwrap_err();
        assert_eq!(refused, order("sessions"), "{client} {last_used}");
    }
    let results = |dropped, sequences: [u64; 2]| {
        let [first, second] = sequences.map(result);
        told(1, &[session(1, 4, dropped, 2), first, second])
    };
    assert_eq!(results(2, [3, 4]), Ok(1));
    assert_eq!(results(0, [0, 1]), Ok(1), "nothing was dropped");
    for (dropped, sequences) in [(2, [3, 3]), (0, [4, 3]), (3, [3, 4])] {
        let refused = results(dropped, sequences).unwrap_err();
        assert_eq!(refused, order("results"), "{dropped} {sequences:?}");
    }
}

// Whoever ends a walk ends that one: its records are not asked for any more, and a newer one goes on.
#[test]
fn a_walk_is_given_up_by_name() {
    let mut store = with_configuration();
    store.begin_export();
    let (first, _) = store.begin_backup();
    store.end_backup(first);
    assert_eq!(store.backup_next(first, 1), ExportStep::GivenUp);
    let (second, _) = store.begin_backup();
    store.end_backup(first);
    let goes_on = |step| matches!(step, ExportStep::Records(_));
    assert!(goes_on(store.backup_next(second, 1)));
    assert!(goes_on(store.export_next(1)), "the snapshot goes on");
    store.end_export();
    assert_eq!(store.export_next(1), ExportStep::GivenUp);
}
