//! How far an order of a few operations gets, and what stops it there.

use crate::anomaly::saw;
use crate::history::{Kind, Operation, Outcome};

/// Beyond so many operations nothing is explained: trying all orders would take too long, and
/// nobody would read the result.
const OPERATIONS_MAX: usize = 9;

/// The longest order that keeps to real time and to the outcomes, and what is wrong after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadEnd<'a> {
    /// Positions in the list of operations.
    pub(crate) order: Vec<usize>,
    /// What the key then holds.
    pub(crate) state: Option<&'a str>,
    /// The claims of which one would have to come next.
    pub(crate) stuck: Vec<usize>,
}

/// Finds the longest order. The first `claims` operations must be explained, the others may help.
/// `None`: there are too many of them.
pub(crate) fn dead_end<'a>(operations: &[&'a Operation], claims: usize) -> Option<DeadEnd<'a>> {
    if operations.len() > OPERATIONS_MAX {
        return None;
    }
    let mut walk = Walk {
        operations,
        claims,
        order: Vec::new(),
        best: None,
    };
    walk.go(None);
    walk.best.map(|(_, dead_end)| dead_end)
}

struct Walk<'w, 'a> {
    operations: &'w [&'a Operation],
    claims: usize,
    order: Vec<usize>,
    /// With the number of claims in it.
    best: Option<(usize, DeadEnd<'a>)>,
}

impl<'a> Walk<'_, 'a> {
    fn go(&mut self, state: Option<&'a str>) {
        let next: Vec<usize> = (0..self.operations.len())
            .filter(|&index| self.may_come_next(index))
            .collect();
        let placed = self.order.iter().filter(|&&one| one < self.claims).count();
        // Of the orders that get as far, the one that tells the most.
        let better = self.best.as_ref().is_none_or(|(best, dead_end)| {
            placed > *best || (placed == *best && self.order.len() > dead_end.order.len())
        });
        if better {
            let stuck = next.iter().copied().filter(|&one| one < self.claims);
            let dead_end = DeadEnd {
                order: self.order.clone(),
                state,
                stuck: stuck.collect(),
            };
            self.best = Some((placed, dead_end));
        }
        for index in next {
            if let Some(after) = apply(self.operations[index], index < self.claims, state) {
                self.order.push(index);
                self.go(after);
                self.order.pop();
            }
        }
    }

    fn may_come_next(&self, index: usize) -> bool {
        let operation = self.operations[index];
        let is_early = (0..self.claims).any(|claim| {
            !self.order.contains(&claim) && precedes(self.operations[claim], operation)
        });
        let is_late = self
            .order
            .iter()
            .any(|&placed| placed < self.claims && precedes(operation, self.operations[placed]));
        !self.order.contains(&index) && !is_early && !is_late
    }
}

fn precedes(first: &Operation, second: &Operation) -> bool {
    first.outcome.is_answer() && first.return_us < Some(second.call_us)
}

/// The state after the operation; `None`: it cannot happen here, or, if it need not happen, there
/// is no use in it.
fn apply<'a>(
    operation: &'a Operation,
    is_claim: bool,
    state: Option<&'a str>,
) -> Option<Option<&'a str>> {
    let (after, is_right) = match (&operation.kind, &operation.outcome) {
        (_, Outcome::NotApplied) => return None,
        (Kind::Get, _) => (state, saw(operation) == Some(state)),
        (Kind::Set { value }, _) => (Some(value.as_str()), true),
        (Kind::Delete, Outcome::Existed(false)) => (state, state.is_none()),
        (Kind::Delete, _) => (None, state.is_some()),
        (Kind::CompareAndSet { expected, .. }, Outcome::Swapped(false)) => {
            (state, expected.as_deref() != state)
        }
        (Kind::CompareAndSet { expected, value }, _) => {
            (Some(value.as_str()), expected.as_deref() == state)
        }
    };
    (is_right && (is_claim || after != state)).then_some(after)
}
