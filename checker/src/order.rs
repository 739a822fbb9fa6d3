//! Replays an order that a search has found. A verdict of linearizable does not rest on the search,
//! which is clever, but on this, which is not.

use crate::history::{Kind, Operation, Outcome};

/// Asserts that the order explains all operations of one key: every answered one is in it, none
/// is twice, each sees what the one before it left, and none comes after one that was called after
/// its return.
pub(crate) fn assert_explains(operations: &[&Operation], order: &[usize]) {
    let mut is_placed = vec![false; operations.len()];
    let mut latest_call_us = 0;
    let mut state: Option<&str> = None;
    for &position in order {
        let operation = operations[position];
        assert!(!is_placed[position], "placed twice: {operation:?}");
        is_placed[position] = true;
        latest_call_us = latest_call_us.max(operation.call_us);
        if operation.outcome.is_answer() {
            let in_time = operation.return_us >= Some(latest_call_us);
            assert!(in_time, "placed too late: {operation:?}");
        }
        state = apply(operation, state);
    }
    for (operation, is_placed) in operations.iter().zip(is_placed) {
        let must = operation.outcome.is_answer();
        assert!(is_placed || !must, "left out: {operation:?}");
    }
}

/// The state after the operation.
fn apply<'h>(operation: &'h Operation, state: Option<&'h str>) -> Option<&'h str> {
    let (after, outcome) = match &operation.kind {
        Kind::Get => (state, Outcome::Read(state.map(String::from))),
        Kind::Set { value } => (Some(value.as_str()), Outcome::Written),
        Kind::Delete => (None, Outcome::Existed(state.is_some())),
        Kind::CompareAndSet { expected, value } if expected.as_deref() == state => {
            (Some(value.as_str()), Outcome::Swapped(true))
        }
        Kind::CompareAndSet { .. } => (state, Outcome::Swapped(false)),
    };
    let is_right = operation.outcome == outcome || operation.outcome == Outcome::Unknown;
    assert!(is_right, "the state is {state:?} at {operation:?}");
    after
}
