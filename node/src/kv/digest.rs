//! What a write is, in a number: so that a session can tell a write that is sent again from another
//! one that came under the same request id.
//!
//! A function of the operation alone, the same on every machine and in every later version: nodes
//! of different builds answer from it. Made for accidents, not against forgers: who chooses the
//! operations so that two of them meet spoils only a session of its own.

use crate::command::Operation;

/// Odd, its bits spread evenly: the fractional part of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// The two lowest bits name the kind as it is, so that no two kinds ever meet.
const KIND_BITS: u32 = 2;

/// The digest of an operation.
pub(super) fn digest(operation: &Operation) -> u64 {
    let kind = operation.parts().0 as u64;
    // Verbs beyond those that the lowest bits tell apart begin elsewhere.
    let begin = kind >> KIND_BITS;
    let hash = operation.words().fold(begin, |hash, word| text(hash, word));
    (hash << KIND_BITS) | (kind & ((1 << KIND_BITS) - 1))
}

/// Takes in a text and its length, so that it matters where one ends and the next begins.
fn text(hash: u64, text: &str) -> u64 {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut hash = mix(hash, text.len() as u64);
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}

/// One to one for each word, and each of its bits reaches all bits above it; the shift brings them
/// down again.
fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    product ^ (product >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Arc;

    fn all_kinds(key: &str, value: &str) -> [Operation; 5] {
        let swap = |expected: Option<&str>| Operation::CompareAndSet {
            key: key.into(),
            expected: expected.map(Arc::from),
            value: value.into(),
        };
        [
            Operation::Set {
                key: key.into(),
                value: value.into(),
            },
            Operation::Delete {
                key: format!("{key}{value}").into(),
            },
            swap(None),
            swap(Some("")),
            swap(Some(value)),
        ]
    }

    // Operations that differ anywhere have digests that differ: in kind, in where a key ends, in a
    // single character, in an expectation that is absent or empty.
    #[test]
    fn what_differs_differs() {
        let mut texts = vec![String::new()];
        for length in [1, 2, 7, 8, 9, 16, 31] {
            let text = "a".repeat(length);
            for place in 0..length {
                let mut other = text.clone();
                other.replace_range(place..=place, "b");
                texts.push(other);
            }
            texts.push(text);
        }
        let (mut operations, mut digests) = (HashSet::new(), HashSet::new());
        for key in &texts {
            for value in &texts {
                for operation in all_kinds(key, value) {
                    digests.insert(digest(&operation));
                    operations.insert(operation);
                }
            }
        }
        assert_eq!(digests.len(), operations.len());
    }

    // Nodes of different builds must agree: these numbers never change.
    #[test]
    fn digests_stay_what_they_are() {
        let [set, delete, create, swap, _] = all_kinds("name1", "Jaggu Jaggu");
        let digests = [set, delete, create, swap].map(|operation| digest(&operation));
        assert_eq!(digests.map(|digest| digest & 3), [0, 1, 3, 2]);
        let before = [
            17_128_325_832_468_770_740,
            4_225_198_930_204_403_233,
            17_128_325_832_468_770_743,
            5_325_190_504_545_337_610,
        ];
        assert_eq!(digests, before);
    }
}
