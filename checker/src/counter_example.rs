//! A few operations that no order explains.

use serde::{Deserialize, Serialize};

use crate::anomaly::{Anomaly, saw};
use crate::history::{Kind, Operation, Outcome};

/// The most writers that a counter-example names.
const WRITERS_MAX: usize = 12;

/// Operations on one key whose outcomes cannot all be right.
///
/// It is shown as a table in the order of the calls, with how far an order of the operations gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterExample {
    /// The key they are about.
    pub key: String,
    /// What it looks like.
    pub anomaly: Anomaly,
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
        let mut is_claim = vec![false; operations.len()];
        for &claim in claims {
            is_claim[claim] = true;
        }
        let (mut claims, mut writers) = (Vec::new(), Vec::new());
        for (&operation, _) in operations.iter().zip(&is_claim).filter(|(_, is)| **is) {
            claims.push(operation.clone());
        }
        claims.sort_by_key(by_call);
        for (&operation, _) in operations.iter().zip(&is_claim).filter(|(_, is)| !**is) {
            if claims.iter().any(|claim| may_lead_to(operation, claim)) {
                writers.push(operation.clone());
            }
        }
        writers.sort_by_key(by_call);
        let anomaly = Anomaly::of(&claims, &writers);
        let writers_left_out = writers.len().saturating_sub(WRITERS_MAX);
        writers.drain(..writers_left_out);
        let key = operations.first().map(|operation| operation.key.clone());
        CounterExample {
            key: key.unwrap_or_default(),
            anomaly,
            claims,
            writers,
            writers_left_out,
            is_minimal,
        }
    }
}

/// Whether the write may have left the value that the claim saw.
fn may_lead_to(write: &Operation, claim: &Operation) -> bool {
    let Some(seen) = saw(claim) else {
        return false;
    };
    match (&write.kind, &write.outcome) {
        (Kind::Get, _)
        | (_, Outcome::NotApplied | Outcome::Existed(false) | Outcome::Swapped(false)) => false,
        (Kind::Delete, _) => seen.is_none(),
        (Kind::Set { value } | Kind::CompareAndSet { value, .. }, _) => {
            seen == Some(value.as_str())
        }
    }
}
