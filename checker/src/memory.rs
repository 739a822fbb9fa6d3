//! What the search has seen before: configurations from which no order is possible.
//!
//! Two configurations with the same placed operations and the same state differ only in the
//! optional writes used up so far. One that has used fewer can do all that the other can, so
//! where it has failed the other need not be tried (the memoisation of Wing and Gong's search by
//! Lowe, extended by this dominance).

use std::collections::HashMap;

use crate::budget::{Exhausted, Meter};

/// The part of a configuration in which less is better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    /// The latest call of a placed required operation that changed the state: optional writes that
    /// returned before it can no longer be used.
    pub(crate) latest_call_us: u64,
    /// A bit for each optional write that was used.
    pub(crate) used: Vec<u64>,
}

impl Spent {
    fn is_at_most(&self, other: &Spent) -> bool {
        self.latest_call_us <= other.latest_call_us
            && self
                .used
                .iter()
                .zip(&other.used)
                .all(|(mine, theirs)| mine & !theirs == 0)
    }
}

/// A bounded memory of configurations.
pub(crate) struct Memory {
    seen: HashMap<Box<[u64]>, Vec<Spent>>,
    count: usize,
    count_max: usize,
}

impl Memory {
    pub(crate) fn new(count_max: usize) -> Memory {
        Memory {
            seen: HashMap::new(),
            count: 0,
            count_max,
        }
    }

    /// Whether this configuration is worth a try; from now on it is not. A full memory forgets
    /// nothing and learns nothing: the search stays right and may repeat itself.
    pub(crate) fn is_new(
        &mut self,
        placed_and_state: &[u64],
        spent: &Spent,
        meter: &mut Meter,
    ) -> Result<bool, Exhausted> {
        let Some(known) = self.seen.get_mut(placed_and_state) else {
            if self.count < self.count_max {
                self.count += 1;
                self.seen
                    .insert(placed_and_state.into(), vec![spent.clone()]);
            }
            return Ok(true);
        };
        meter.spend(known.len() as u64)?;
        if known.iter().any(|earlier| earlier.is_at_most(spent)) {
            return Ok(false);
        }
        let before = known.len();
        known.retain(|earlier| !spent.is_at_most(earlier));
        self.count -= before - known.len();
        if self.count < self.count_max {
            self.count += 1;
            known.push(spent.clone());
        }
        Ok(true)
    }
}
