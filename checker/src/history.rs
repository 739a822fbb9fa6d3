//! What clients did and saw: [`Operation`]s, collected in a [`History`].

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One request of one client, from its first send to the final answer.
///
/// A request that the client sends again under the same request id is still one operation: its
/// call is the first send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Who asked. For the reader of a counter-example only: verdicts do not depend on it.
    pub client: u64,
    /// When the request was first sent, in microseconds on a clock shared by all clients of the
    /// history (one process's monotonic clock; never clocks of different hosts).
    pub call_us: u64,
    /// When the answer arrived, on the same clock. `None` only where the outcome is unknown or the
    /// operation was not applied.
    pub return_us: Option<u64>,
    /// The key it was about.
    pub key: String,
    /// What was asked.
    pub kind: Kind,
    /// What was answered.
    pub outcome: Outcome,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// Read the value.
    Get,
    /// Write a value, whatever was there.
    Set {
        /// The value to write.
        value: String,
    },
    /// Remove the key.
    Delete,
    /// Write a value if the present one is the expected one.
    CompareAndSet {
        /// The value that must be there; `None`: the key must not exist.
        expected: Option<String>,
        /// The value to write.
        value: String,
    },
}

/// What a client learnt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A set was acknowledged.
    Written,
    /// A get was answered: the value, or `None` where the key does not exist.
    Read(Option<String>),
    /// A delete was acknowledged; whether the key existed before it.
    Existed(bool),
    /// A compare-and-set was answered; whether it wrote.
    Swapped(bool),
    /// Nobody knows: a write may take effect at any time after its call, or never. A get with this
    /// outcome says nothing and is not checked.
    Unknown,
    /// The operation certainly never took effect and never will. When in doubt, use `Unknown`:
    /// a write that is wrongly called not applied makes a correct store look broken.
    NotApplied,
}

/// Why an operation cannot be part of a history. The recorder of the history has a bug or the file
/// was changed by hand: correct the operation, do not drop it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OperationError {
    /// The outcome answers another kind of request.
    #[error(
        "a {kind} cannot have the outcome {outcome}: give it one of its own, unknown or not applied"
    )]
    WrongOutcome {
        /// Name of the kind.
        kind: &'static str,
        /// Name of the outcome.
        outcome: &'static str,
    },
    /// An answered operation needs the time of the answer.
    #[error("the outcome {outcome} needs a return time: only unknown and not applied have none")]
    NoReturn {
        /// Name of the outcome.
        outcome: &'static str,
    },
    /// The answer came before the question.
    #[error(
        "returned at {return_us} us, before its call at {call_us} us: both must come from one \
         monotonic clock"
    )]
    ReturnBeforeCall {
        /// The call, in microseconds.
        call_us: u64,
        /// The return, in microseconds.
        return_us: u64,
    },
}

impl Operation {
    /// Whether this operation makes sense by itself; what [`History::push`] insists on.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub fn validate(&self) -> Result<(), OperationError> {
        if !self.kind.can_have(&self.outcome) {
            return Err(OperationError::WrongOutcome {
                kind: self.kind.name(),
                outcome: self.outcome.name(),
            });
        }
        match self.return_us {
            Some(return_us) if return_us < self.call_us => Err(OperationError::ReturnBeforeCall {
                call_us: self.call_us,
                return_us,
            }),
            None if self.outcome.is_answer() => Err(OperationError::NoReturn {
                outcome: self.outcome.name(),
            }),
            _ => Ok(()),
        }
    }
}

impl Kind {
    /// The name used in messages and in history files.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Set { .. } => "set",
            Kind::Delete => "delete",
            Kind::CompareAndSet { .. } => "compare_and_set",
        }
    }

    fn can_have(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Unknown | Outcome::NotApplied => true,
            Outcome::Written => matches!(self, Kind::Set { .. }),
            Outcome::Read(_) => matches!(self, Kind::Get),
            Outcome::Existed(_) => matches!(self, Kind::Delete),
            Outcome::Swapped(_) => matches!(self, Kind::CompareAndSet { .. }),
        }
    }
}

impl Outcome {
    /// The name used in messages and in history files.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Written => "written",
            Outcome::Read(_) => "read",
            Outcome::Existed(_) => "existed",
            Outcome::Swapped(_) => "swapped",
            Outcome::Unknown => "unknown",
            Outcome::NotApplied => "not_applied",
        }
    }

    /// Whether the store answered: the operation took effect between call and return.
    pub fn is_answer(&self) -> bool {
        !matches!(self, Outcome::Unknown | Outcome::NotApplied)
    }
}

/// Operations of any number of clients on any number of keys, in any order.
///
/// Every key is taken to be absent before the history begins: record on keys that nothing else
/// writes, or begin with a set of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// A history without operations.
    pub fn new() -> History {
        History::default()
    }

    /// Adds an operation. The order of calls to `push` does not matter; the times do.
    ///
    /// # Errors
    /// See [`OperationError`]; the history is then unchanged.
    pub fn push(&mut self, operation: Operation) -> Result<(), OperationError> {
        operation.validate()?;
        self.operations.push(operation);
        Ok(())
    }

    /// All operations, in the order in which they were pushed.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}
