//! A small deterministic generator for timeouts. The seed comes from outside; equal seeds give
//! equal runs. Not for secrets.

use super::Micros;
use std::ops::RangeInclusive;

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A duration in the range, both ends included. The bias of the remainder is far below what
    /// a timeout could show.
    pub(super) fn within(&mut self, range: &RangeInclusive<Micros>) -> Micros {
        let span = range.end() - range.start() + 1;
        range.start() + self.next() % span
    }
}
