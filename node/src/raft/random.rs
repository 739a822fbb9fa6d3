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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the sequence is that of SplitMix64, so that it is as even as that is known to be.
    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..5).map(|_| random.next()).collect();
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(first, published);
    }

    /// Goal: a duration is in its range, and each in it comes, both ends included.
    #[test]
    fn both_ends_of_a_range_come() {
        let mut random = Random::new(1);
        let drawn: std::collections::BTreeSet<Micros> =
            (0..100).map(|_| random.within(&(7..=9))).collect();
        assert_eq!(drawn, [7, 8, 9].into());
    }
}
