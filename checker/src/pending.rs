//! Which required operations are still to be placed, and which of them may come next.
//!
//! An operation may come next if no unplaced operation returned before it was called. So all that
//! is placed lies below the first unplaced return, or spans it: the set of placed operations is
//! told apart by that return's rank (`base`) and by a few bits for the operations that span it.
//! The bits are numbered by slot: operations that are open at the same time have different slots,
//! so there are no more slots than there were clients at work at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::problem::Required;

/// The required operations of a search, as a list in the order of calls from which operations are
/// taken and to which they go back, last out first in.
pub(crate) struct Pending<'p> {
    /// Sorted by return: the index of an operation is its rank.
    required: &'p [Required],
    /// Links in the order of calls; the index `required.len()` is the head.
    next: Vec<u32>,
    previous: Vec<u32>,
    placed: Vec<bool>,
    slot: Vec<u32>,
    /// The first rank that is not placed.
    base: usize,
    /// A bit for each slot that holds a placed operation of a rank above `base`.
    window: Vec<u64>,
}

impl<'p> Pending<'p> {
    pub(crate) fn new(required: &'p [Required]) -> Pending<'p> {
        let count = required.len();
        let mut by_call: Vec<u32> = (0..count as u32).collect();
        by_call.sort_by_key(|&index| required[index as usize].call_us);
        let (slot, slot_count) = assign_slots(required, &by_call);
        let mut pending = Pending {
            required,
            next: vec![0; count + 1],
            previous: vec![0; count + 1],
            placed: vec![false; count],
            slot,
            base: 0,
            window: vec![0; slot_count.div_ceil(64)],
        };
        let mut last = count;
        for &index in &by_call {
            pending.link(last, index as usize);
            last = index as usize;
        }
        pending.link(last, count);
        pending
    }

    fn link(&mut self, left: usize, right: usize) {
        self.next[left] = right as u32;
        self.previous[right] = left as u32;
    }

    /// The rank of the first return that is not placed.
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// Whether everything is placed.
    pub(crate) fn is_empty(&self) -> bool {
        self.base == self.required.len()
    }

    /// The earliest return of an unplaced operation: what comes next was called no later than
    /// this. `u64::MAX` when everything is placed.
    pub(crate) fn first_return_us(&self) -> u64 {
        self.required
            .get(self.base)
            .map_or(u64::MAX, |required| required.return_us)
    }

    /// The operations that may come next, in the order of their calls. Equal times count as
    /// concurrent.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = usize> + '_ {
        let head = self.required.len();
        let last_call_us = self.first_return_us();
        std::iter::successors(Some(self.next[head] as usize), |&index| {
            self.next.get(index).map(|&next| next as usize)
        })
        .take_while(move |&index| index != head && self.required[index].call_us <= last_call_us)
    }

    /// Takes an operation out of the list.
    pub(crate) fn place(&mut self, index: usize) {
        let (left, right) = (self.previous[index], self.next[index]);
        self.next[left as usize] = right;
        self.previous[right as usize] = left;
        self.placed[index] = true;
        if index != self.base {
            self.flip_slot(index);
            return;
        }
        self.base += 1;
        while self.placed.get(self.base) == Some(&true) {
            self.flip_slot(self.base);
            self.base += 1;
        }
    }

    /// Puts the operation back that was taken out last.
    pub(crate) fn put_back(&mut self, index: usize) {
        if index < self.base {
            for rank in index + 1..self.base {
                self.flip_slot(rank);
            }
            self.base = index;
        } else {
            self.flip_slot(index);
        }
        self.placed[index] = false;
        // Its neighbours are still known: nothing around it has changed since.
        let (left, right) = (self.previous[index], self.next[index]);
        self.next[left as usize] = index as u32;
        self.previous[right as usize] = index as u32;
    }

    fn flip_slot(&mut self, index: usize) {
        let slot = self.slot[index];
        self.window[slot as usize / 64] ^= 1 << (slot % 64);
    }

    /// Appends words that are equal for two moments of the same search exactly if the same
    /// operations are placed.
    pub(crate) fn fingerprint(&self, words: &mut Vec<u64>) {
        words.push(self.base as u64);
        words.extend_from_slice(&self.window);
    }
}

/// Numbers operations so that no two that are open at the same time have the same number.
fn assign_slots(required: &[Required], by_call: &[u32]) -> (Vec<u32>, usize) {
    let mut slots = vec![0; required.len()];
    let mut slot_count = 0;
    let mut free: Vec<u32> = Vec::new();
    let mut open: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
    for &index in by_call {
        let operation = &required[index as usize];
        while let Some(&Reverse((return_us, slot))) = open.peek() {
            if return_us >= operation.call_us {
                break;
            }
            open.pop();
            free.push(slot);
        }
        let slot = free.pop().unwrap_or_else(|| {
            slot_count += 1;
            slot_count - 1
        });
        slots[index as usize] = slot;
        open.push(Reverse((operation.return_us, slot)));
    }
    (slots, slot_count as usize)
}
