//! A few operations that no order explains, and their telling.

use std::fmt;

use crate::history::{Kind, Operation, Outcome};

/// The most writers that a counter-example names.
const WRITERS_MAX: usize = 12;

/// Operations on one key whose outcomes cannot all be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterExample {
    /// The key they are about.
    pub key: String,
    /// Operations whose outcomes cannot all be right, whatever the other operations on the key
    /// did; in the order of their calls.
    pub claims: Vec<Operation>,
    /// The other writes that may have led to a value that a claim is about, in the order of their
    /// calls; the latest twelve of them. They explain where a value came from. It does not matter
    /// what was answered to them.
    pub writers: Vec<Operation>,
    /// How many such writes there are beyond those in `writers`.
    pub writers_left_out: usize,
    /// Whether each of the claims is needed: false if the budget ended before this was shown.
    pub is_minimal: bool,
}

impl CounterExample {
    /// `claims` are positions in `operations`, which are all operations on the key.
    pub(crate) fn new(
        operations: &[&Operation],
        claims: &[usize],
        is_minimal: bool,
    ) -> CounterExample {
        let by_call = |operation: &Operation| (operation.call_us, operation.return_us);
        let mut claimed: Vec<Operation> = claims
            .iter()
            .map(|&index| operations[index].clone())
            .collect();
        claimed.sort_by_key(by_call);
        let mut writers: Vec<Operation> = operations
            .iter()
            .enumerate()
            .filter(|(index, operation)| {
                !claims.contains(index) && claimed.iter().any(|claim| leads_to(operation, claim))
            })
            .map(|(_, &operation)| operation.clone())
            .collect();
        writers.sort_by_key(by_call);
        let writers_left_out = writers.len().saturating_sub(WRITERS_MAX);
        writers.drain(..writers_left_out);
        CounterExample {
            key: operations
                .first()
                .map(|operation| operation.key.clone())
                .unwrap_or_default(),
            claims: claimed,
            writers,
            writers_left_out,
            is_minimal,
        }
    }
}

/// Whether the write may have left the value that the claim saw.
fn leads_to(write: &Operation, claim: &Operation) -> bool {
    let seen = match (&claim.kind, &claim.outcome) {
        (_, Outcome::Read(value)) => value.as_deref(),
        (Kind::CompareAndSet { expected, .. }, Outcome::Swapped(true)) => expected.as_deref(),
        (_, Outcome::Existed(false)) => None,
        _ => return false,
    };
    match (&write.kind, &write.outcome) {
        (_, Outcome::NotApplied | Outcome::Existed(false) | Outcome::Swapped(false)) => false,
        (Kind::Get, _) => false,
        (Kind::Delete, _) => seen.is_none(),
        (Kind::Set { value } | Kind::CompareAndSet { value, .. }, _) => {
            seen == Some(value.as_str())
        }
    }
}

impl fmt::Display for CounterExample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "key {:?}", self.key)?;
        for operation in &self.claims {
            write!(formatter, "\n  {operation:?}")?;
        }
        Ok(())
    }
}
