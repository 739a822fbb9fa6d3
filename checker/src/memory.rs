//! What the search has seen before: configurations from which no order is possible.
//!
//! Two configurations with the same placed operations and the same state differ only in the
//! optional writes used up so far. One that has used fewer can do all that the other can, so
//! where it has failed the other need not be tried (the memoisation of Wing and Gong's search by
//! Lowe, extended by this dominance).

use std::collections::HashMap;

use crate::budget::{Exhausted, Meter};

/// The optional writes that were used, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    words: Box<[u64]>,
}

impl Used {
    /// None of this many.
    pub(crate) fn none(count: usize) -> Used {
        Used {
            words: vec![0; count.div_ceil(64)].into(),
        }
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.words[index / 64] & (1 << (index % 64)) != 0
    }

    /// Marks an unused one as used, or a used one as unused.
    pub(crate) fn flip(&mut self, index: usize) {
        self.words[index / 64] ^= 1 << (index % 64);
    }

    fn is_subset_of(&self, other: &Used) -> bool {
        self.words
            .iter()
            .zip(&other.words)
            .all(|(mine, theirs)| mine & !theirs == 0)
    }
}

/// A bounded memory of configurations.
pub(crate) struct Memory {
    seen: HashMap<Box<[u64]>, Vec<Used>>,
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
        used: &Used,
        meter: &mut Meter,
    ) -> Result<bool, Exhausted> {
        let Some(known) = self.seen.get_mut(placed_and_state) else {
            if self.count < self.count_max {
                self.count += 1;
                self.seen
                    .insert(placed_and_state.into(), vec![used.clone()]);
            }
            return Ok(true);
        };
        meter.spend(known.len() as u64)?;
        if known.iter().any(|earlier| earlier.is_subset_of(used)) {
            return Ok(false);
        }
        let before = known.len();
        known.retain(|earlier| !used.is_subset_of(earlier));
        self.count -= before - known.len();
        if self.count < self.count_max {
            self.count += 1;
            known.push(used.clone());
        }
        Ok(true)
    }
}
