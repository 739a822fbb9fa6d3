//! What is asked: a seeded mix of reads and writes over a fixed set of keys. Pure.

use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::tally::Kind;

/// The mix, the same for all connections.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Share of reads, 0 to 1.
    pub read_share: f64,
    /// How many different keys.
    pub keys: u64,
    /// The number of the first one.
    pub first: u64,
    /// Length of a value in bytes.
    pub value_bytes: usize,
    /// Before the number of each key: what tells them from the user's own.
    pub key_prefix: String,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Read this key.
    Read(String),
    /// Write this value to this key.
    Write(String, String),
    /// Remove this key.
    Remove(String),
}

/// Where the operations of one connection come from.
#[derive(Debug)]
pub enum Source {
    /// The mix that is measured: endless.
    Mix(Mix),
    /// Each of these keys written once, so that reads find something.
    Fill(Mix, Range<u64>),
    /// Each of these keys removed once.
    Clear(Workload, Range<u64>),
}

impl Ask {
    /// Whether it reads or writes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Ask::Read(_) => Kind::Read,
            Ask::Write(..) | Ask::Remove(_) => Kind::Write,
        }
    }
}

impl Source {
    /// The next operation, as long as there is one.
    pub fn next_ask(&mut self) -> Option<Ask> {
        match self {
            Source::Mix(mix) => Some(mix.next_ask()),
            Source::Fill(mix, numbers) => {
                let number = numbers.next()?;
                Some(Ask::Write(mix.workload.key(number), mix.next_value()))
            }
            Source::Clear(workload, numbers) => {
                let number = numbers.next()?;
                Some(Ask::Remove(workload.key(number)))
            }
        }
    }
}

impl Workload {
    /// The name of a key.
    #[must_use]
    pub fn key(&self, number: u64) -> String {
        format!("{}{number:08}", self.key_prefix)
    }
}

/// The operations of one connection, in order; the same seed gives the same ones.
#[derive(Debug)]
pub struct Mix {
    workload: Workload,
    random: SmallRng,
    filler: String,
    written: u64,
}

impl Mix {
    /// A mix that begins with `seed`.
    #[must_use]
    pub fn new(workload: &Workload, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let filler = (0..workload.value_bytes)
            .map(|_| char::from(random.random_range(b'a'..=b'z')))
            .collect();
        Mix {
            workload: workload.clone(),
            random,
            filler,
            written: 0,
        }
    }

    /// The next operation, on a key chosen uniformly.
    pub fn next_ask(&mut self) -> Ask {
        let key = self.random.random_range(0..self.workload.keys);
        let key = self.workload.key(self.workload.first + key);
        if self.random.random_bool(self.workload.read_share) {
            Ask::Read(key)
        } else {
            Ask::Write(key, self.next_value())
        }
    }

    /// A value of the right length that differs from the one before, as long as there is room for
    /// a number in it.
    pub fn next_value(&mut self) -> String {
        self.written += 1;
        self.value(self.written)
    }

    /// How many values there were so far: the number of the last one.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The value that was written as this number.
    #[must_use]
    pub fn value(&self, number: u64) -> String {
        let mut value = number.to_string();
        value.truncate(self.workload.value_bytes);
        value.push_str(&self.filler[value.len()..]);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(read_share: f64, value_bytes: usize) -> Workload {
        Workload {
            read_share,
            keys: 10,
            first: 0,
            value_bytes,
            key_prefix: "bench/".into(),
        }
    }

    /// The share of reads is what was asked for, and keys and values are within their bounds.
    #[test]
    fn the_mix_keeps_its_shares() {
        for share in [0.0, 0.3, 1.0] {
            let mut mix = Mix::new(&workload(share, 16), 7);
            let mut reads = 0;
            for _ in 0..10_000 {
                match mix.next_ask() {
                    Ask::Read(key) => {
                        reads += 1;
                        assert!(
                            *"bench/00000000" <= *key && *key <= *"bench/00000009",
                            "{key}"
                        );
                    }
                    Ask::Write(_, value) => assert_eq!(value.len(), 16),
                    Ask::Remove(key) => panic!("removes {key}"),
                }
            }
            let seen = f64::from(reads) / 10_000.0;
            assert!((seen - share).abs() < 0.03, "{seen} instead of {share}");
        }
    }

    /// Those who begin at different numbers have no key in common.
    #[test]
    fn keys_begin_where_they_are_to() {
        let later = Workload {
            first: 10,
            ..workload(0.5, 8)
        };
        let mut mix = Mix::new(&later, 1);
        let keys = (0..100).map(|_| match mix.next_ask() {
            Ask::Read(key) | Ask::Write(key, _) | Ask::Remove(key) => key,
        });
        let keys: std::collections::BTreeSet<String> = keys.collect();
        assert_eq!(keys.first().map(String::as_str), Some("bench/00000010"));
        assert_eq!(keys.last().map(String::as_str), Some("bench/00000019"));
    }

    /// A run can be repeated, and two connections of one run differ.
    #[test]
    fn a_seed_decides_everything() {
        let asks = |seed| {
            let mut mix = Mix::new(&workload(0.5, 8), seed);
            (0..100).map(|_| mix.next_ask()).collect::<Vec<_>>()
        };
        assert_eq!(asks(1), asks(1));
        assert_ne!(asks(1), asks(2));
    }

    /// Lengths that are shorter than the number inside still hold.
    #[test]
    fn values_have_the_length_asked_for() {
        for bytes in [0, 1, 2, 1000] {
            let mut mix = Mix::new(&workload(0.0, bytes), 1);
            assert!((0..200).all(|_| mix.next_value().len() == bytes));
            assert_eq!(mix.next_value(), mix.value(mix.written()));
        }
    }

    /// Filling and clearing touch each key once and end.
    #[test]
    fn filling_and_clearing_end() {
        let mix = Mix::new(&workload(0.0, 4), 1);
        let mut fill = Source::Fill(mix, 3..6);
        let filled: Vec<_> = std::iter::from_fn(|| fill.next_ask()).collect();
        assert_eq!(filled.len(), 3);
        assert!(matches!(&filled[2], Ask::Write(key, _) if key == "bench/00000005"));
        let mut clear = Source::Clear(workload(0.0, 4), 3..6);
        let cleared: Vec<_> = std::iter::from_fn(|| clear.next_ask()).collect();
        assert_eq!(cleared[0], Ask::Remove("bench/00000003".into()));
        assert_eq!(cleared.len(), 3);
    }
}
