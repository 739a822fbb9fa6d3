//! How much work a check may do. The checker has no clock: time enters as a question it asks.

use std::fmt;

/// How often [`Budget::stop_when`] is asked: once in this many steps.
const STEPS_PER_QUESTION: u64 = 1024;

/// A bound on the work of one [`check`](crate::check()).
///
/// A step is one configuration visited or compared; an optimised build takes a few million a
/// second. Checking is linear in practice and exponential at worst: dozens of operations open at
/// once on one key, with values that are not unique, and many writes of unknown outcome.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    pub(crate) steps: u64,
    pub(crate) configurations_max: usize,
    stop: Option<&'a dyn Fn() -> bool>,
}

impl<'a> Budget<'a> {
    /// At most this many steps for the whole history, all keys and the minimising of a
    /// counter-example together.
    pub fn steps(steps: u64) -> Budget<'a> {
        Budget {
            steps,
            ..Budget::default()
        }
    }

    /// Gives up as soon as `stop` says so; it is asked every thousand steps, several times a
    /// millisecond. This is how a caller with a clock sets a deadline.
    pub fn stop_when(self, stop: &'a dyn Fn() -> bool) -> Budget<'a> {
        Budget {
            stop: Some(stop),
            ..self
        }
    }

    /// How many visited configurations may be remembered at a time, about 100 bytes each. Beyond
    /// it the check goes on without remembering more: as right, but slower.
    pub fn configurations_max(self, configurations_max: usize) -> Budget<'a> {
        Budget {
            configurations_max,
            ..self
        }
    }
}

impl Default for Budget<'_> {
    /// 50 million steps and 2 million configurations: half a minute and a few hundred megabytes at
    /// the very worst. A history of 100,000 operations takes some 200,000 steps.
    fn default() -> Self {
        Budget {
            steps: 50_000_000,
            configurations_max: 2_000_000,
            stop: None,
        }
    }
}

impl fmt::Debug for Budget<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Budget")
            .field("steps", &self.steps)
            .field("configurations_max", &self.configurations_max)
            .field("stop", &self.stop.map(|_| ".."))
            .finish()
    }
}

/// The budget is used up: the answer is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// What is left of a budget.
pub(crate) struct Meter<'a> {
    budget: Budget<'a>,
    spent: u64,
    /// `spend` fails beyond this; at most the whole budget.
    limit: u64,
    next_question: u64,
    stopped: bool,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(budget: Budget<'a>) -> Meter<'a> {
        Meter {
            budget,
            spent: 0,
            limit: budget.steps,
            next_question: 0,
            stopped: false,
        }
    }

    /// Takes steps off the budget. Where they are too many, what was left is spent.
    pub(crate) fn spend(&mut self, steps: u64) -> Result<(), Exhausted> {
        let is_enough = steps <= self.limit.saturating_sub(self.spent);
        self.spent = match is_enough {
            true => self.spent + steps,
            false => self.spent.max(self.limit),
        };
        if self.spent >= self.next_question && !self.stopped {
            self.next_question = self.spent.saturating_add(STEPS_PER_QUESTION);
            self.stopped = self.budget.stop.is_some_and(|stop| stop());
        }
        match is_enough && !self.stopped {
            true => Ok(()),
            false => Err(Exhausted),
        }
    }

    /// Does a piece of work that may spend at most `steps`.
    pub(crate) fn within<T>(&mut self, steps: u64, work: impl FnOnce(&mut Self) -> T) -> T {
        let outer_limit = self.limit;
        self.limit = outer_limit.min(self.spent.saturating_add(steps));
        let result = work(self);
        self.limit = outer_limit;
        result
    }

    pub(crate) fn spent(&self) -> u64 {
        self.spent
    }

    /// What the present piece of work may still spend.
    pub(crate) fn allowance(&self) -> u64 {
        self.limit.saturating_sub(self.spent)
    }

    /// What is left of the whole budget.
    pub(crate) fn left(&self) -> u64 {
        self.budget.steps.saturating_sub(self.spent)
    }

    /// Whether nothing more can be spent.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.stopped || self.left() == 0
    }

    pub(crate) fn configurations_max(&self) -> usize {
        self.budget.configurations_max
    }
}
