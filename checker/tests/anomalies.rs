//! Small histories written by hand: what must be accepted, and each kind of anomaly.

mod support;

use checker::{Anomaly, Operation, Outcome};
use support::{cas, delete, get, history, lost_cas, lost_delete, lost_set, set, verdict_of};

fn must_pass(operations: Vec<Operation>) {
    let verdict = verdict_of(&history(operations));
    assert!(verdict.is_linearizable(), "{verdict}");
}

/// Checks the verdict, and that the claims of the counter-example are exactly these operations,
/// named by their clients.
fn must_fail(operations: Vec<Operation>, guilty: &[u64], anomaly: Anomaly) {
    let verdict = verdict_of(&history(operations));
    let counter_example = verdict.counter_example().expect("must not be linearizable");
    let clients: Vec<u64> = counter_example
        .claims
        .iter()
        .map(|operation| operation.client)
        .collect();
    assert_eq!(clients, guilty, "{counter_example}");
    assert_eq!(counter_example.anomaly, anomaly, "{counter_example}");
    assert!(counter_example.is_minimal);
}

// An empty history and one without answers have nothing to explain.
#[test]
fn nothing_is_linearizable() {
    must_pass(vec![]);
    must_pass(vec![lost_set(1, 0, "a"), lost_cas(2, 0, Some("x"), "y")]);
}

// One client after the other: every outcome follows from the one before.
#[test]
fn a_sequence_of_right_answers() {
    must_pass(vec![
        get(1, 0, 1, None),
        set(2, 2, 3, "a"),
        get(3, 4, 5, Some("a")),
        cas(4, 6, 7, Some("b"), "c", false),
        cas(5, 8, 9, Some("a"), "c", true),
        get(6, 10, 11, Some("c")),
        delete(7, 12, 13, true),
        delete(8, 14, 15, false),
        get(9, 16, 17, None),
        cas(10, 18, 19, None, "d", true),
        get(11, 20, 21, Some("d")),
    ]);
}

// While a set is under way, readers may see the old value or the new one, but not go back.
#[test]
fn concurrent_readers_see_old_then_new() {
    must_pass(vec![
        set(1, 0, 1, "old"),
        set(2, 10, 20, "new"),
        get(3, 11, 12, Some("old")),
        get(4, 11, 19, Some("new")),
        get(5, 18, 19, Some("new")),
    ]);
    must_fail(
        vec![
            set(1, 0, 1, "old"),
            set(2, 10, 20, "new"),
            get(3, 11, 12, Some("new")),
            get(4, 13, 14, Some("old")),
        ],
        &[1, 3, 4],
        Anomaly::StaleRead,
    );
}

// A read returns a value that had been overwritten before it began.
#[test]
fn stale_read() {
    must_fail(
        vec![
            set(1, 0, 1, "a"),
            set(2, 2, 3, "b"),
            get(3, 4, 5, Some("b")),
            get(4, 6, 7, Some("a")),
        ],
        &[2, 4],
        Anomaly::StaleRead,
    );
}

// Two swaps from the same value both succeed: one of them was lost.
#[test]
fn lost_update() {
    must_fail(
        vec![
            set(1, 0, 1, "0"),
            cas(2, 2, 10, Some("0"), "1", true),
            cas(3, 2, 10, Some("0"), "2", true),
        ],
        &[2, 3],
        Anomaly::LostUpdate,
    );
}

// An acknowledged write is not there.
#[test]
fn lost_write() {
    must_fail(
        vec![set(1, 0, 1, "a"), get(2, 2, 3, None)],
        &[1, 2],
        Anomaly::LostWrite,
    );
}

// A deleted value is back.
#[test]
fn resurrected_value() {
    must_fail(
        vec![
            set(1, 0, 1, "a"),
            delete(2, 2, 3, true),
            get(3, 4, 5, None),
            get(4, 6, 7, Some("a")),
        ],
        &[2, 4],
        Anomaly::ResurrectedValue,
    );
}

// A write that was sent twice took effect twice.
#[test]
fn duplicated_write() {
    must_fail(
        vec![
            set(1, 0, 30, "a"),
            get(2, 1, 2, Some("a")),
            set(3, 3, 4, "b"),
            get(4, 5, 6, Some("b")),
            get(5, 7, 8, Some("a")),
        ],
        &[2, 3, 5],
        Anomaly::StaleRead,
    );
}

// A value that nobody wrote.
#[test]
fn read_of_a_never_written_value() {
    must_fail(
        vec![set(1, 0, 1, "a"), get(2, 2, 3, Some("ghost"))],
        &[2],
        Anomaly::NeverWritten,
    );
}

// A value is read before anybody asked for it to be written.
#[test]
fn read_from_the_future() {
    must_fail(
        vec![get(1, 0, 1, Some("a")), set(2, 2, 3, "a")],
        &[1],
        Anomaly::ReadBeforeWrite,
    );
}

// A compare-and-set says no though the expected value was there, or yes though it was not.
#[test]
fn compare_and_set_that_lies() {
    must_fail(
        vec![set(1, 0, 1, "a"), cas(2, 2, 3, Some("a"), "b", false)],
        &[1, 2],
        Anomaly::WrongSwap,
    );
    must_fail(
        vec![set(1, 0, 1, "a"), cas(2, 2, 3, Some("b"), "c", true)],
        &[2],
        Anomaly::NeverWritten,
    );
    must_fail(
        vec![
            set(1, 0, 1, "a"),
            cas(2, 2, 3, Some("a"), "b", true),
            get(3, 4, 5, Some("a")),
        ],
        &[2, 3],
        Anomaly::StaleRead,
    );
    must_fail(
        vec![cas(1, 0, 1, None, "a", false)],
        &[1],
        Anomaly::WrongSwap,
    );
}

// A delete is wrong about whether there was something to delete.
#[test]
fn delete_that_lies() {
    must_fail(vec![delete(1, 0, 1, true)], &[1], Anomaly::WrongDelete);
    must_fail(
        vec![set(1, 0, 1, "a"), delete(2, 2, 3, false)],
        &[1, 2],
        Anomaly::WrongDelete,
    );
}

// A write of unknown outcome may have taken effect at once, late, or never.
#[test]
fn unknown_writes_are_accepted_either_way() {
    must_pass(vec![lost_set(1, 0, "a"), get(2, 2, 3, Some("a"))]);
    must_pass(vec![lost_set(1, 0, "a"), get(2, 2, 3, None)]);
    must_pass(vec![
        lost_set(1, 0, "a"),
        get(2, 2, 3, None),
        set(3, 4, 5, "b"),
        get(4, 6, 7, Some("b")),
        get(5, 8, 9, Some("a")),
    ]);
    must_pass(vec![
        set(1, 0, 1, "a"),
        lost_delete(2, 2),
        get(3, 4, 5, Some("a")),
        get(4, 6, 7, None),
    ]);
    must_pass(vec![
        set(1, 0, 1, "a"),
        lost_cas(2, 2, Some("a"), "b"),
        get(3, 4, 5, Some("a")),
        get(4, 6, 7, Some("b")),
    ]);
    must_pass(vec![
        set(1, 0, 1, "a"),
        lost_set(2, 2, "b"),
        cas(3, 4, 5, Some("a"), "c", false),
    ]);
}

// That a client gave up on a write does not end it; and the value may be anything but the old one.
#[test]
fn unknown_writes_outlive_their_client() {
    let mut given_up = lost_set(1, 0, "a");
    given_up.return_us = Some(2);
    must_pass(vec![
        given_up,
        set(2, 3, 4, "b"),
        get(3, 5, 6, Some("b")),
        get(4, 7, 8, Some("a")),
    ]);
    must_pass(vec![lost_set(1, 0, "a"), delete(2, 2, 3, true)]);
    must_pass(vec![lost_set(1, 0, "a"), cas(2, 2, 3, None, "b", false)]);
}

// Unknown compare-and-sets may have built on one another.
#[test]
fn unknown_swaps_form_chains() {
    must_pass(vec![
        lost_cas(1, 0, Some("c"), "d"),
        lost_cas(2, 0, Some("b"), "c"),
        lost_cas(3, 0, None, "b"),
        get(4, 1, 2, None),
        get(5, 3, 4, Some("d")),
    ]);
    must_fail(
        vec![
            lost_cas(1, 0, Some("c"), "d"),
            lost_cas(3, 0, None, "b"),
            get(5, 3, 4, Some("d")),
        ],
        &[5],
        Anomaly::Other,
    );
}

// A write of unknown outcome takes effect at most once, and not before it was sent.
#[test]
fn unknown_writes_have_limits() {
    must_fail(
        vec![
            lost_set(1, 0, "a"),
            get(2, 1, 2, Some("a")),
            set(3, 3, 4, "b"),
            get(4, 5, 6, Some("a")),
        ],
        &[2, 3, 4],
        Anomaly::StaleRead,
    );
    must_fail(
        vec![get(1, 0, 1, Some("a")), lost_set(2, 2, "a")],
        &[1],
        Anomaly::ReadBeforeWrite,
    );
}

// What certainly did not happen explains nothing.
#[test]
fn not_applied_has_no_effect() {
    let mut refused = set(1, 0, 1, "a");
    refused.outcome = Outcome::NotApplied;
    must_pass(vec![refused.clone(), get(2, 2, 3, None)]);
    must_fail(
        vec![refused, get(2, 2, 3, Some("a"))],
        &[2],
        Anomaly::NeverWritten,
    );
}

// Equal times count as concurrent: a clock's resolution must not cause a false alarm.
#[test]
fn touching_operations_are_concurrent() {
    must_pass(vec![set(1, 0, 5, "a"), get(2, 5, 6, None)]);
    must_fail(
        vec![set(1, 0, 5, "a"), get(2, 6, 7, None)],
        &[1, 2],
        Anomaly::LostWrite,
    );
}

// A violation on one key is found among many healthy ones, and told for that key alone.
#[test]
fn keys_are_independent() {
    let mut operations = Vec::new();
    for number in 0..20 {
        let key = format!("k{number}");
        for mut operation in [set(1, 0, 1, "a"), get(2, 2, 3, Some("a"))] {
            operation.key = key.clone();
            operations.push(operation);
        }
    }
    must_pass(operations.clone());
    operations[21].outcome = Outcome::Read(None);
    let verdict = verdict_of(&history(operations));
    assert_eq!(verdict.counter_example().unwrap().key, "k10");
}
