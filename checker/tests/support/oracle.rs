//! The same question answered by trying everything: slow, and too simple to be wrong.

use checker::{CounterExample, Kind, Operation, Outcome};

/// Whether operations on one key are linearizable. `claims[i]` tells whether the outcome of
/// operation `i` must be explained; else it may as well not have happened, but if it is a write, it
/// may have happened from its call on until a claimed write that was called after its return.
pub fn is_linearizable(operations: &[Operation], claims: &[bool]) -> bool {
    search(operations, claims, &mut vec![false; operations.len()], None)
}

/// Whether the claims of the counter-example cannot be explained, and whether each is needed.
pub fn proves_and_is_minimal(
    counter_example: &CounterExample,
    operations: &[Operation],
) -> (bool, bool) {
    let claims: Vec<bool> = operations
        .iter()
        .map(|operation| counter_example.claims.contains(operation))
        .collect();
    let proves = !is_linearizable(operations, &claims);
    let is_minimal = (0..operations.len()).filter(|&one| claims[one]).all(|one| {
        let mut fewer = claims.clone();
        fewer[one] = false;
        is_linearizable(operations, &fewer)
    });
    (proves, is_minimal)
}

fn search(
    operations: &[Operation],
    claims: &[bool],
    placed: &mut Vec<bool>,
    state: Option<&str>,
) -> bool {
    let must = |index: usize| claims[index] && operations[index].outcome.is_answer();
    if (0..operations.len()).all(|index| placed[index] || !must(index)) {
        return true;
    }
    for next in 0..operations.len() {
        let operation = &operations[next];
        let is_early = (0..operations.len())
            .any(|other| must(other) && !placed[other] && precedes(&operations[other], operation));
        let is_late = (0..operations.len()).any(|other| {
            placed[other]
                && must(other)
                && (must(next) || writes(&operations[other]))
                && precedes(operation, &operations[other])
        });
        if placed[next] || is_early || is_late {
            continue;
        }
        if let Some(after) = step(operation, must(next), state) {
            placed[next] = true;
            if search(operations, claims, placed, after) {
                return true;
            }
            placed[next] = false;
        }
    }
    false
}

/// Whether an answered operation changed something.
fn writes(operation: &Operation) -> bool {
    match (&operation.kind, &operation.outcome) {
        (_, Outcome::Existed(done) | Outcome::Swapped(done)) if !done => false,
        (Kind::CompareAndSet { expected, value }, _) => expected.as_ref() != Some(value),
        (kind, _) => *kind != Kind::Get,
    }
}

fn precedes(first: &Operation, second: &Operation) -> bool {
    first.outcome.is_answer()
        && first
            .return_us
            .is_some_and(|time_us| time_us < second.call_us)
}

/// The state after the operation; `None` if it cannot happen here.
fn step<'a>(
    operation: &'a Operation,
    must: bool,
    state: Option<&'a str>,
) -> Option<Option<&'a str>> {
    if !must && matches!(operation.kind, Kind::Get) {
        return None;
    }
    let (after, outcome) = match &operation.kind {
        Kind::Get => (state, Outcome::Read(state.map(String::from))),
        Kind::Set { value } => (Some(value.as_str()), Outcome::Written),
        Kind::Delete => (None, Outcome::Existed(state.is_some())),
        Kind::CompareAndSet { expected, value } => {
            let swaps = expected.as_deref() == state;
            let after = if swaps { Some(value.as_str()) } else { state };
            (after, Outcome::Swapped(swaps))
        }
    };
    let is_right = match operation.outcome {
        Outcome::Unknown => true,
        Outcome::NotApplied => false,
        _ => outcome == operation.outcome,
    };
    is_right.then_some(after)
}
