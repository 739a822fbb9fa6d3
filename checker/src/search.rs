//! The search for an order that explains every claim of a [`Problem`].
//!
//! Depth first over configurations (operations placed, state of the key), after Wing and Gong,
//! with Lowe's memory of configurations seen before. What makes it fast:
//!
//! - A read (a get, and a write that was answered with no) that may come next and is right is
//!   placed at once, without an alternative: wherever it stands in some order, it can stand here
//!   as well.
//! - A state that is still asked for and that nobody can bring back is not left.
//! - A write of unknown outcome is placed only together with the operation that needs it.
//! - Operations with the same effect are not tried one after the other.

use std::cmp::Reverse;

use crate::budget::{Exhausted, Meter};
use crate::makers::{Makers, Start};
use crate::memory::{Memory, Used};
use crate::pending::Pending;
use crate::problem::{ABSENT, Need, Problem, Required, State};

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) answer: Answer,
    /// How many claims, in the order of their returns, were all placed at the best moment. Where
    /// there is a violation, it is most often near.
    pub(crate) furthest: usize,
}

/// Whether there is an order that explains all claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This one: positions in the list that the problem was made from.
    Explained(Vec<usize>),
    /// There is none.
    Unexplained,
    /// The budget did not suffice to tell.
    Undecided,
}

/// How many steps the first, narrow search may take, beside its share for the number of claims.
const NARROW_STEPS: u64 = 100_000;

/// What the narrow search may take in addition for each claim.
const NARROW_STEPS_PER_CLAIM: u64 = 50;

/// Finds an order that explains all claims, or shows that there is none.
///
/// A narrow search comes first: where an operation needs any change of the state, it tries only the
/// one unknown write that is missed the least. A right history is nearly always explained by it,
/// while the full search may lose itself among all the unknown writes.
pub(crate) fn find_order(problem: &Problem, meter: &mut Meter) -> Finding {
    let steps = NARROW_STEPS + NARROW_STEPS_PER_CLAIM * problem.required.len() as u64;
    let mut narrow = Search::new(problem, 1, meter.configurations_max());
    let result = meter.within(steps, |meter| narrow.run(meter));
    if result == Ok(true) || result == Ok(false) && !narrow.is_cut {
        return narrow.finding(result);
    }
    drop(narrow);
    let mut full = Search::new(problem, usize::MAX, meter.configurations_max());
    let result = full.run(meter);
    full.finding(result)
}

/// One step forward: optional writes that make it possible, then a required operation.
struct Move {
    /// Positions in `problem.optional`.
    makers: Vec<usize>,
    /// Position in `problem.required`.
    required: usize,
}

impl Move {
    /// A required operation that needs no help.
    fn alone(required: usize) -> Move {
        Move {
            makers: Vec::new(),
            required,
        }
    }
}

/// Something to try.
enum Try {
    Move(Move),
    /// All moves that begin with a chain of so many optional writes: worked out only when the
    /// shorter ones have failed.
    Chains {
        length: usize,
        /// Position in `problem.required`.
        required: usize,
    },
}

/// A move that was made, with what is needed to take it back.
struct Step {
    made: Move,
    state_before: State,
    latest_write_call_us_before: u64,
    /// What to try from here, best last.
    tries: Vec<Try>,
}

struct Search<'p> {
    problem: &'p Problem,
    pending: Pending<'p>,
    makers: Makers<'p>,
    memory: Memory,
    state: State,
    used: Used,
    /// The latest call of a placed required write.
    latest_write_call_us: u64,
    /// For each state, the unplaced required operations that need exactly it.
    observers: Vec<u32>,
    /// For each state, the unplaced required and unused optional operations that lead to it.
    producers: Vec<u32>,
    steps: Vec<Step>,
    furthest: usize,
    /// How many alternatives are tried where any change of the state will do.
    breadth: usize,
    /// Whether some were not tried: then a failure proves nothing.
    is_cut: bool,
    fingerprint: Vec<u64>,
}

impl<'p> Search<'p> {
    fn new(problem: &'p Problem, breadth: usize, configurations_max: usize) -> Search<'p> {
        let mut observers = vec![0; problem.state_count];
        let mut producers = vec![0; problem.state_count];
        for required in &problem.required {
            if let Need::Is(state) = required.action.need {
                observers[state as usize] += 1;
            }
            if let Some(state) = required.action.becomes {
                producers[state as usize] += 1;
            }
        }
        for optional in &problem.optional {
            producers[optional.becomes as usize] += 1;
        }
        Search {
            problem,
            pending: Pending::new(&problem.required),
            makers: Makers::new(&problem.optional, &observers),
            memory: Memory::new(configurations_max),
            state: ABSENT,
            used: Used::none(problem.optional.len()),
            latest_write_call_us: 0,
            observers,
            producers,
            steps: Vec::new(),
            furthest: 0,
            breadth,
            is_cut: false,
            fingerprint: Vec::new(),
        }
    }

    fn finding(&self, result: Result<bool, Exhausted>) -> Finding {
        let answer = match result {
            Ok(true) => Answer::Explained(self.order()),
            Ok(false) => Answer::Unexplained,
            Err(Exhausted) => Answer::Undecided,
        };
        Finding {
            answer,
            furthest: self.furthest,
        }
    }

    fn run(&mut self, meter: &mut Meter) -> Result<bool, Exhausted> {
        let mut first_tries = self.tries(meter)?;
        while !self.pending.is_empty() {
            let tries = match self.steps.last_mut() {
                Some(step) => &mut step.tries,
                None => &mut first_tries,
            };
            let next = match tries.pop() {
                Some(Try::Move(next)) => next,
                Some(Try::Chains { length, required }) => {
                    let more = self.chains(required, length, meter)?;
                    match self.steps.last_mut() {
                        Some(step) => step.tries.extend(more),
                        None => first_tries.extend(more),
                    }
                    continue;
                }
                None if self.steps.is_empty() => return Ok(false),
                None => {
                    self.take_back();
                    continue;
                }
            };
            meter.spend(1)?;
            self.make(next);
            self.furthest = self.furthest.max(self.pending.base());
            if self.is_dead_end() || !self.is_new(meter)? {
                self.take_back();
                continue;
            }
            let tries = self.tries(meter)?;
            if let Some(step) = self.steps.last_mut() {
                step.tries = tries;
            }
        }
        Ok(true)
    }

    /// All that is worth a try, best last.
    fn tries(&self, meter: &mut Meter) -> Result<Vec<Try>, Exhausted> {
        let mut writes = Vec::new();
        let mut tries = Vec::new();
        for index in self.pending.candidates() {
            let action = self.required(index).action;
            if !action.need.is_met_by(self.state) {
                tries.push(Try::Chains {
                    length: 1,
                    required: index,
                });
            } else if action.becomes.is_none() {
                return Ok(vec![Try::Move(Move::alone(index))]);
            } else {
                writes.push(index);
            }
        }
        meter.spend(tries.len() as u64)?;
        // A write whose value nobody waits for locks nothing; then the most urgent one.
        writes.sort_by_key(|&index| {
            let becomes = self.required(index).action.becomes;
            let observers = becomes.map_or(0, |state| self.observers[state as usize]);
            Reverse((observers > 0, index))
        });
        let writes = writes.into_iter().map(Move::alone);
        tries.extend(writes.map(Try::Move));
        Ok(tries)
    }

    /// Moves that begin with this many optional writes, best last.
    fn chains(
        &mut self,
        required: usize,
        length: usize,
        meter: &mut Meter,
    ) -> Result<Vec<Try>, Exhausted> {
        let start = Start {
            state: self.state,
            first_return_us: self.pending.first_return_us(),
            latest_write_call_us: self.latest_write_call_us,
            used: &self.used,
            breadth: self.breadth,
        };
        let need = self.required(required).action.need;
        let found = self.makers.chains(start, need, length, meter)?;
        self.is_cut |= found.is_cut;
        let longer = found.has_longer.then_some(Try::Chains {
            length: length + 1,
            required,
        });
        let chains = found.chains.into_iter();
        let moves = chains.map(|makers| Try::Move(Move { makers, required }));
        Ok(longer.into_iter().chain(moves).collect())
    }

    fn required(&self, index: usize) -> &'p Required {
        &self.problem.required[index]
    }

    fn make(&mut self, made: Move) {
        let state_before = self.state;
        let latest_write_call_us_before = self.latest_write_call_us;
        for &maker in &made.makers {
            let optional = &self.problem.optional[maker];
            self.used.flip(maker);
            self.producers[optional.becomes as usize] -= 1;
            self.state = optional.becomes;
        }
        let required = self.required(made.required);
        self.pending.place(made.required);
        if let Need::Is(state) = required.action.need {
            self.observers[state as usize] -= 1;
        }
        if let Some(state) = required.action.becomes {
            self.producers[state as usize] -= 1;
            self.state = state;
            self.latest_write_call_us = self.latest_write_call_us.max(required.call_us);
        }
        self.steps.push(Step {
            made,
            state_before,
            latest_write_call_us_before,
            tries: Vec::new(),
        });
    }

    fn take_back(&mut self) {
        let Some(step) = self.steps.pop() else {
            return;
        };
        let required = self.required(step.made.required);
        self.pending.put_back(step.made.required);
        if let Need::Is(state) = required.action.need {
            self.observers[state as usize] += 1;
        }
        if let Some(state) = required.action.becomes {
            self.producers[state as usize] += 1;
        }
        for &maker in &step.made.makers {
            self.used.flip(maker);
            self.producers[self.problem.optional[maker].becomes as usize] += 1;
        }
        self.state = step.state_before;
        self.latest_write_call_us = step.latest_write_call_us_before;
    }

    /// Whether the last move left a state that is still asked for and that cannot come back.
    fn is_dead_end(&self) -> bool {
        let Some(step) = self.steps.last() else {
            return false;
        };
        let passed = step
            .made
            .makers
            .iter()
            .map(|&maker| self.problem.optional[maker].becomes);
        std::iter::once(step.state_before)
            .chain(passed)
            .filter(|&state| state != self.state)
            .any(|state| self.observers[state as usize] > 0 && self.producers[state as usize] == 0)
    }

    fn is_new(&mut self, meter: &mut Meter) -> Result<bool, Exhausted> {
        self.fingerprint.clear();
        self.fingerprint.push(u64::from(self.state));
        self.pending.fingerprint(&mut self.fingerprint);
        self.memory.is_new(&self.fingerprint, &self.used, meter)
    }

    fn order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        for step in &self.steps {
            let makers = step.made.makers.iter();
            order.extend(makers.map(|&maker| self.problem.optional[maker].source));
            order.push(self.required(step.made.required).source);
        }
        order
    }
}
