//! Names for what went wrong.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::{Kind, Operation, Outcome};

/// What kind of violation a counter-example looks like.
///
/// The name is a hint for the reader, from the shape of the minimal counter-example; the proof is
/// the counter-example itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anomaly {
    /// A value was seen that no operation ever wrote.
    NeverWritten,
    /// A value was seen before any write of it was called.
    ReadBeforeWrite,
    /// Two swaps from one and the same value succeeded: one of them is lost.
    LostUpdate,
    /// The key was absent though a write had been acknowledged.
    LostWrite,
    /// A value was seen after its deletion.
    ResurrectedValue,
    /// A value was seen again after it had been overwritten: a stale read, or a write that took
    /// effect twice.
    StaleRead,
    /// A compare-and-set was answered wrongly.
    WrongSwap,
    /// A delete was answered wrongly.
    WrongDelete,
    /// None of the above.
    Other,
}

impl Anomaly {
    /// Names the violation. `claims` are in the order of their calls; `writers` are the other
    /// writes that may have led to what the claims saw.
    pub(crate) fn of(claims: &[Operation], writers: &[Operation]) -> Anomaly {
        let Some(last) = claims.iter().max_by_key(|claim| claim.return_us) else {
            return Anomaly::Other;
        };
        let sees_a_value = claims
            .iter()
            .any(|claim| matches!(saw(claim), Some(Some(_))));
        if claims.len() == 1 && sees_a_value {
            if writers.is_empty() {
                return Anomaly::NeverWritten;
            }
            if writers
                .iter()
                .all(|write| Some(write.call_us) > last.return_us)
            {
                return Anomaly::ReadBeforeWrite;
            }
        }
        if is_swapped_twice(claims) {
            return Anomaly::LostUpdate;
        }
        match (&last.kind, saw(last)) {
            (Kind::Get, Some(Some(_))) if is_deleted_before(last, claims) => {
                Anomaly::ResurrectedValue
            }
            (Kind::Get, Some(Some(_))) if claims.len() > 1 => Anomaly::StaleRead,
            (Kind::Get, Some(None)) => Anomaly::LostWrite,
            (Kind::CompareAndSet { .. }, _) => Anomaly::WrongSwap,
            (Kind::Delete, _) => Anomaly::WrongDelete,
            _ => Anomaly::Other,
        }
    }
}

/// What an operation found; the outer `None`: it does not tell.
pub(crate) fn saw(operation: &Operation) -> Option<Option<&str>> {
    match (&operation.kind, &operation.outcome) {
        (_, Outcome::Read(value)) => Some(value.as_deref()),
        (_, Outcome::Existed(false)) => Some(None),
        (Kind::CompareAndSet { expected, .. }, Outcome::Swapped(true)) => Some(expected.as_deref()),
        _ => None,
    }
}

fn is_swapped_twice(claims: &[Operation]) -> bool {
    let mut swaps = claims
        .iter()
        .filter(|claim| claim.outcome == Outcome::Swapped(true))
        .map(saw);
    match (swaps.next(), swaps.next(), swaps.next()) {
        (Some(first), Some(second), None) => first == second && claims.len() == 2,
        _ => false,
    }
}

fn is_deleted_before(read: &Operation, claims: &[Operation]) -> bool {
    claims.iter().any(|claim| {
        claim.outcome == Outcome::Existed(true) && claim.return_us < Some(read.call_us)
    })
}

impl fmt::Display for Anomaly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Anomaly::NeverWritten => "never written: a value was seen that no operation wrote",
            Anomaly::ReadBeforeWrite => {
                "read before write: a value was seen before any write of it was called"
            }
            Anomaly::LostUpdate => "lost update: two swaps from the same value both succeeded",
            Anomaly::LostWrite => "lost write: the key was absent after an acknowledged write",
            Anomaly::ResurrectedValue => "resurrected value: a value was seen after its deletion",
            Anomaly::StaleRead => {
                "stale read: a value was seen after it had been overwritten (or its write took \
                 effect twice)"
            }
            Anomaly::WrongSwap => "wrong swap: a compare-and-set was answered wrongly",
            Anomaly::WrongDelete => "wrong delete: a delete was answered wrongly",
            Anomaly::Other => "no order explains these outcomes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap(call_us: u64, expected: &str) -> Operation {
        Operation {
            client: 1,
            call_us,
            return_us: Some(call_us + 1),
            key: "k".into(),
            kind: Kind::CompareAndSet {
                expected: Some(expected.into()),
                value: "new".into(),
            },
            outcome: Outcome::Swapped(true),
        }
    }

    // Only swaps from the same value lose an update.
    #[test]
    fn a_lost_update_begins_with_one_value() {
        let name = |claims: &[Operation]| Anomaly::of(claims, &[]);
        assert_eq!(name(&[swap(0, "a"), swap(2, "a")]), Anomaly::LostUpdate);
        assert_eq!(name(&[swap(0, "a"), swap(2, "b")]), Anomaly::WrongSwap);
    }
}
