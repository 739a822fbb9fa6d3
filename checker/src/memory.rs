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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn used(indices: &[usize]) -> Used {
        let mut used = Used::none(100);
        for &index in indices {
            used.flip(index);
        }
        used
    }

    // Where fewer writes did not suffice, more will not either; others may.
    #[test]
    fn less_is_remembered_better() {
        let mut meter = Meter::new(Budget::default());
        let mut memory = Memory::new(10);
        let mut is_new = |words: &[u64], indices: &[usize]| {
            memory.is_new(words, &used(indices), &mut meter).unwrap()
        };
        assert!(is_new(&[1, 2], &[3, 70]));
        assert!(!is_new(&[1, 2], &[3, 70]));
        assert!(!is_new(&[1, 2], &[3, 4, 70]));
        assert!(is_new(&[1, 3], &[3, 70]));
        assert!(is_new(&[1, 2], &[3, 4]));
        assert!(is_new(&[1, 2], &[70]));
        assert!(is_new(&[1, 2], &[]));
        assert!(!is_new(&[1, 2], &[5]));
    }

    // The memory is bounded, and goes on working when it is full.
    #[test]
    fn a_full_memory_learns_nothing_more() {
        let mut meter = Meter::new(Budget::default());
        let mut memory = Memory::new(2);
        for word in 0..5 {
            for index in 0..5 {
                memory.is_new(&[word], &used(&[index]), &mut meter).unwrap();
            }
        }
        let kept: usize = memory.seen.values().map(Vec::len).sum();
        assert_eq!((kept, memory.count), (2, 2));
        assert!(!memory.is_new(&[0], &used(&[0]), &mut meter).unwrap());
        assert!(memory.is_new(&[4], &used(&[4]), &mut meter).unwrap());
        // Something better takes the place of what it makes superfluous.
        assert!(memory.is_new(&[0], &used(&[]), &mut meter).unwrap());
        assert!(!memory.is_new(&[0], &used(&[9]), &mut meter).unwrap());
    }
}
