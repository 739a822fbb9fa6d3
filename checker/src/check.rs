//! Checks a history key by key.

use std::collections::BTreeMap;
use std::fmt;

use crate::budget::{Budget, Exhausted, Meter};
use crate::conflict::find_conflict;
use crate::counter_example::CounterExample;
use crate::history::{History, Operation};
use crate::order::assert_explains;
use crate::problem::{Problem, Role};
use crate::search::{Answer, Finding, find_order};
use crate::shrink::{Failure, find_near, shrink};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For every key there is an order of the operations that explains all outcomes and keeps to
    /// real time.
    Linearizable,
    /// For this key there is none.
    NotLinearizable(Box<CounterExample>),
    /// No violation was found within the budget, but some keys could not be decided. Check again
    /// with a larger budget.
    Undecided {
        /// The keys in question, sorted.
        keys: Vec<String>,
    },
}

impl Verdict {
    /// Whether the history was shown to be linearizable.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Verdict::Linearizable)
    }

    /// The counter-example, if the history was shown not to be linearizable.
    pub fn counter_example(&self) -> Option<&CounterExample> {
        match self {
            Verdict::NotLinearizable(counter_example) => Some(counter_example),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable => write!(formatter, "linearizable"),
            Verdict::NotLinearizable(counter_example) => {
                write!(formatter, "not linearizable: {counter_example}")
            }
            Verdict::Undecided { keys } => {
                let named: Vec<String> =
                    keys.iter().take(5).map(|key| format!("{key:?}")).collect();
                let more = keys.len().saturating_sub(named.len());
                write!(formatter, "undecided within the budget: ")?;
                write!(formatter, "{}", named.join(", "))?;
                match more {
                    0 => Ok(()),
                    more => write!(formatter, " and {more} more keys"),
                }
            }
        }
    }
}

/// Is this history linearizable, each key for itself?
///
/// Linearizability is local (Herlihy and Wing 1990, theorem 1): the whole is linearizable exactly
/// if each key is, as long as no operation touches two keys.
pub fn check(history: &History, budget: &Budget) -> Verdict {
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations() {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    let mut meter = Meter::new(*budget);
    let mut open: Vec<(&str, Vec<&Operation>)> = by_key.into_iter().collect();
    // Each round shares out what the easy keys of the round before have left over, so that a hard
    // key does not keep a violation on another key from being found.
    loop {
        let before = open.len();
        let mut undecided = Vec::new();
        for (position, (key, operations)) in open.into_iter().enumerate() {
            let share = meter.left() / (before - position) as u64;
            match meter.within(share, |meter| check_key(&operations, meter)) {
                Ok(None) => {}
                Ok(Some(failure)) => {
                    let counter_example = shrink(&operations, failure, &mut meter);
                    return Verdict::NotLinearizable(Box::new(counter_example));
                }
                Err(Exhausted) => undecided.push((key, operations)),
            }
        }
        if undecided.is_empty() {
            return Verdict::Linearizable;
        }
        if undecided.len() == before || meter.is_exhausted() {
            return Verdict::Undecided {
                keys: undecided.iter().map(|(key, _)| key.to_string()).collect(),
            };
        }
        open = undecided;
    }
}

/// Looks for a failure on one key.
fn check_key(operations: &[&Operation], meter: &mut Meter) -> Result<Option<Failure>, Exhausted> {
    let claims: Vec<(&Operation, Role)> = operations
        .iter()
        .map(|&operation| (operation, Role::Claim))
        .collect();
    let problem = Problem::new(&claims);
    if let Some(claims) = find_conflict(&problem) {
        return Ok(Some(Failure { claims, steps: 0 }));
    }
    let spent_before = meter.spent();
    // Some is kept for looking near the place where the search gets stuck.
    let search_steps = meter.allowance() / 4 * 3;
    let Finding { answer, furthest } =
        meter.within(search_steps, |meter| find_order(&problem, meter));
    let steps = meter.spent() - spent_before;
    let by_return: Vec<usize> = problem.required.iter().map(|claim| claim.source).collect();
    match answer {
        Answer::Explained(order) => {
            assert_explains(operations, &order);
            Ok(None)
        }
        Answer::Unexplained | Answer::Undecided => {
            if let Some(claims) = find_near(operations, &by_return, furthest, meter) {
                return Ok(Some(Failure { claims, steps: 0 }));
            }
            if answer == Answer::Undecided {
                return Err(Exhausted);
            }
            let claims = by_return;
            Ok(Some(Failure { claims, steps }))
        }
    }
}
