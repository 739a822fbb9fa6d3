//! The history of one key, boiled down to what the search needs.
//!
//! Values become small numbers. A value that no operation ever asks for (as the result of a get,
//! or as the expected value of a compare-and-set) cannot be told from any other such value, so all
//! of them share one number: that makes many configurations equal which otherwise would not be.

use std::collections::HashMap;

use crate::history::{Kind, Operation, Outcome};

/// A number that stands for what the key holds.
pub(crate) type State = u32;

/// The key does not exist. Every history begins here.
pub(crate) const ABSENT: State = 0;

/// Some value that no operation asks for.
pub(crate) const UNOBSERVED: State = 1;

/// What an operation needs to find, so that its outcome is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Need {
    Anything,
    Is(State),
    IsNot(State),
}

impl Need {
    pub(crate) fn is_met_by(self, state: State) -> bool {
        match self {
            Need::Anything => true,
            Need::Is(needed) => state == needed,
            Need::IsNot(refused) => state != refused,
        }
    }
}

/// What an operation means for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Action {
    pub(crate) need: Need,
    /// What the key holds afterwards; `None`: as before.
    pub(crate) becomes: Option<State>,
}

/// An operation that must take effect between its call and its return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Required {
    pub(crate) call_us: u64,
    pub(crate) return_us: u64,
    pub(crate) action: Action,
    /// Position in the list that the problem was made from.
    pub(crate) source: usize,
}

/// A write that may take effect at any time from its call on, or never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Optional {
    pub(crate) call_us: u64,
    /// It cannot take effect after a required write that was called later than this. `u64::MAX`
    /// for writes of unknown outcome.
    pub(crate) return_us: u64,
    pub(crate) need: Need,
    pub(crate) becomes: State,
    /// Position in the list that the problem was made from.
    pub(crate) source: usize,
}

/// How an operation takes part in a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its outcome must be explained.
    Claim,
    /// Its outcome need not be explained, but as a write it may explain others.
    Bystander,
}

/// Can these operations on one key be put in an order that explains all the claims?
#[derive(Debug)]
pub(crate) struct Problem {
    /// Sorted by return.
    pub(crate) required: Vec<Required>,
    pub(crate) optional: Vec<Optional>,
    /// All states are below this number.
    pub(crate) state_count: usize,
}

impl Problem {
    /// Boils down the operations of one key. An operation of unknown outcome is never more than a
    /// bystander.
    pub(crate) fn new(operations: &[(&Operation, Role)]) -> Problem {
        let mut problem = Problem {
            required: Vec::new(),
            optional: Vec::new(),
            state_count: 0,
        };
        let states = States::observed_by(operations);
        for (source, &(operation, role)) in operations.iter().enumerate() {
            let return_us = match operation.return_us {
                Some(return_us) if operation.outcome.is_answer() => return_us,
                _ => u64::MAX,
            };
            if role == Role::Claim && operation.outcome.is_answer() {
                problem.required.push(Required {
                    call_us: operation.call_us,
                    return_us,
                    action: states.action(operation),
                    source,
                });
            } else if let Some(Action {
                need,
                becomes: Some(becomes),
            }) = states.possible_effect(operation)
            {
                problem.optional.push(Optional {
                    call_us: operation.call_us,
                    return_us,
                    need,
                    becomes,
                    source,
                });
            }
        }
        problem.required.sort_by_key(|required| required.return_us);
        problem.state_count = states.count();
        problem
    }
}

/// The numbers of the observed values.
struct States<'a> {
    numbers: HashMap<&'a str, State>,
}

impl<'a> States<'a> {
    fn observed_by(operations: &[(&'a Operation, Role)]) -> States<'a> {
        let mut states = States {
            numbers: HashMap::new(),
        };
        for &(operation, role) in operations {
            let observed = match (&operation.kind, &operation.outcome) {
                (_, Outcome::NotApplied) => None,
                (_, Outcome::Read(value)) if role == Role::Claim => value.as_deref(),
                (Kind::CompareAndSet { expected, .. }, _) => expected.as_deref(),
                _ => None,
            };
            if let Some(value) = observed {
                let next = states.count() as State;
                states.numbers.entry(value).or_insert(next);
            }
        }
        states
    }

    fn count(&self) -> usize {
        // ABSENT and UNOBSERVED come first.
        self.numbers.len() + 2
    }

    fn of_value(&self, value: &str) -> State {
        self.numbers.get(value).copied().unwrap_or(UNOBSERVED)
    }

    fn of(&self, value: Option<&str>) -> State {
        value.map_or(ABSENT, |value| self.of_value(value))
    }

    /// What an answered operation claims.
    fn action(&self, operation: &Operation) -> Action {
        let read = |need| Action {
            need,
            becomes: None,
        };
        match (&operation.kind, &operation.outcome) {
            (Kind::Get, Outcome::Read(value)) => read(Need::Is(self.of(value.as_deref()))),
            (Kind::Delete, Outcome::Existed(false)) => read(Need::Is(ABSENT)),
            (Kind::CompareAndSet { expected, .. }, Outcome::Swapped(false)) => {
                read(Need::IsNot(self.of(expected.as_deref())))
            }
            (Kind::CompareAndSet { expected, value }, _) if expected.as_ref() == Some(value) => {
                read(Need::Is(self.of_value(value)))
            }
            _ => self
                .possible_effect(operation)
                .unwrap_or_else(|| unreachable!("not an answer: {operation:?}")),
        }
    }

    /// What a write does where it takes effect. `None`: it certainly changes nothing.
    fn possible_effect(&self, operation: &Operation) -> Option<Action> {
        match (&operation.kind, &operation.outcome) {
            (_, Outcome::NotApplied | Outcome::Existed(false) | Outcome::Swapped(false))
            | (Kind::Get, _) => None,
            (Kind::Set { value }, _) => Some(Action {
                need: Need::Anything,
                becomes: Some(self.of_value(value)),
            }),
            (Kind::Delete, _) => Some(Action {
                need: Need::IsNot(ABSENT),
                becomes: Some(ABSENT),
            }),
            (Kind::CompareAndSet { expected, value }, _) => Some(Action {
                need: Need::Is(self.of(expected.as_deref())),
                becomes: Some(self.of_value(value)),
            }),
        }
    }
}
