//! When a snapshot is taken, as far as it is a function of the log and of what is under way.

use super::*;
use crate::command::{Command, Format, Operation, Write};

/// A state in this format.
fn store(format: u64) -> Store {
    let mut store = Store::default();
    let begins = Format {
        version: format,
        ..Format::default()
    };
    store.apply(1, &Command::Format(begins));
    store
}

/// Goal: the format that snapshots need is asked for when the log has grown, behind what an older version
/// wrote, by as much as makes a place; once it is in force nothing is counted any more.
#[test]
fn growth_asks_for_the_format() {
    let older = store(1);
    let mut snapshots = Snapshots::new(Some(100), &older, 3);
    assert!(
        !snapshots.note_growth(&older, 3, 1_000),
        "of an older version"
    );
    assert_eq!(snapshots.growth_left(&older), Some(100));
    assert!(!snapshots.note_growth(&older, 4, 60));
    assert_eq!(snapshots.growth_left(&older), Some(40));
    let newer = store(2);
    assert!(!snapshots.note_growth(&newer, 5, 60), "it is in force");
    assert_eq!(snapshots.growth_left(&newer), None);
    assert_eq!(snapshots.grown_bytes, 60);
    assert!(snapshots.note_growth(&older, 5, 40));
    assert_eq!(snapshots.growth_left(&older), Some(0));
    assert!(snapshots.note_growth(&older, 6, 1));

    let never = Snapshots::new(None, &older, 0);
    assert_eq!(never.growth_left(&older), None);
    let mut larger = store(1);
    let operation = Operation::Set {
        key: "key".into(),
        value: "x".repeat(200).into(),
    };
    let request = None;
    larger.apply(2, &Command::Write(Write { request, operation }));
    let left = Snapshots::new(Some(100), &larger, 0).growth_left(&larger);
    assert_eq!(left, Some(larger.live_bytes()));
}

/// Goal: a snapshot begins in its format only, and for the sake of who receives the last one a few places
/// are left out, never all.
#[test]
fn who_receives_the_last_one_is_waited_for_a_while() {
    let mut snapshots = Snapshots::new(Some(100), &Store::default(), 0);
    assert!(!snapshots.may_begin(&store(1), false));
    for format in [2, 3] {
        assert!(snapshots.may_begin(&store(format), false));
    }
    for _ in 0..2 {
        let mut at_places = || snapshots.may_begin(&store(2), true);
        let begins: Vec<bool> = (0..4).map(|_| at_places()).collect();
        assert_eq!(begins, [false, false, false, true]);
    }
}

/// Goal: nothing else is begun while one is taken, received, or waits for the disk.
#[test]
fn one_at_a_time() {
    let mut state = store(2);
    let begun = || Snapshots::new(Some(100), &Store::default(), 0);
    assert!(begun().is_free());
    let mut taking = begun();
    taking.begin(&mut state, 1, 0);
    assert!(!taking.is_free() && !taking.may_begin(&state, false));
    let mut receiving = begun();
    receiving.receiving = Some(Receiving {
        snapshot: SnapshotId::default(),
        reader: SnapshotReader::default(),
    });
    assert!(!receiving.is_free());
    let mut received = begun();
    let head = SnapshotHead {
        state: state.begin_export(),
        ..SnapshotHead::default()
    };
    let restored = Restored {
        id: SnapshotId::default(),
        head,
        store: Store::default(),
    };
    received.received = Some((restored, 1));
    assert!(!received.is_free() && !received.may_begin(&state, false));
}

/// Goal: a quarter of what comes between two snapshots stays in memory, up to a bound.
#[test]
fn a_part_stays_in_memory() {
    let keep_bytes = |least| Snapshots::new(least, &Store::default(), 0).keep_bytes();
    assert_eq!(keep_bytes(None), 0);
    assert_eq!(keep_bytes(Some(4_000)), 1_000);
    assert_eq!(keep_bytes(Some(1 << 40)), 4 * 1024 * 1024);
}
