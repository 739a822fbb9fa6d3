//! The checker against an oracle that tries every order, on thousands of small histories.

mod support;

use checker::{Kind, Operation, Outcome};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::generate::{Profile, linearizable, mutate};
use support::{KEY, history, oracle, verdict_of};

/// Asks both. Returns the common answer.
fn agree(operations: &[Operation], story: &str) -> bool {
    let verdict = verdict_of(&history(operations.to_vec()));
    let expected = oracle::is_linearizable(operations, &vec![true; operations.len()]);
    assert_eq!(
        verdict.is_linearizable(),
        expected,
        "{story}: {verdict}\n{operations:#?}"
    );
    if let Some(counter_example) = verdict.counter_example() {
        let (proves, is_minimal) = oracle::proves_and_is_minimal(counter_example, operations);
        assert!(proves, "{story}: no proof: {verdict}\n{operations:#?}");
        assert!(is_minimal, "{story}: too long: {verdict}\n{operations:#?}");
    }
    expected
}

fn arbitrary_operation(client: u64, random: &mut StdRng) -> Operation {
    let value = |random: &mut StdRng| ["a", "b", "c"][random.random_range(0..3)].to_string();
    let maybe = |random: &mut StdRng| {
        let value = value(random);
        random.random_bool(0.7).then_some(value)
    };
    let (kind, outcome) = match random.random_range(0..7) {
        0 | 1 => (Kind::Get, Outcome::Read(maybe(random))),
        2 | 3 => (
            Kind::Set {
                value: value(random),
            },
            Outcome::Written,
        ),
        4 => (Kind::Delete, Outcome::Existed(random.random())),
        _ => (
            Kind::CompareAndSet {
                expected: maybe(random),
                value: value(random),
            },
            Outcome::Swapped(random.random()),
        ),
    };
    let call_us = random.random_range(0..12);
    let return_us = Some(call_us + random.random_range(0..8));
    let (outcome, return_us) = match random.random_range(0..10) {
        0 | 1 => (Outcome::Unknown, None),
        2 => (Outcome::NotApplied, return_us),
        _ => (outcome, return_us),
    };
    Operation {
        client,
        call_us,
        return_us,
        key: KEY.into(),
        kind,
        outcome,
    }
}

// Anything at all, on few values and few moments, so that many orders must be told apart.
#[test]
fn arbitrary_histories() {
    let mut random = StdRng::seed_from_u64(1);
    let mut right = 0;
    const ROUNDS: usize = 40_000;
    for round in 0..ROUNDS {
        let count = random.random_range(1..=7);
        let operations: Vec<Operation> = (0..count)
            .map(|client| arbitrary_operation(client, &mut random))
            .collect();
        right += usize::from(agree(&operations, &format!("round {round}")));
    }
    assert!((ROUNDS / 20..ROUNDS / 20 * 19).contains(&right), "{right}");
}

// Right histories, and right ones with one thing changed.
#[test]
fn mutated_histories() {
    let mut wrong = 0;
    const ROUNDS: u64 = 15_000;
    for seed in 0..ROUNDS {
        let profile = Profile {
            clients: 2 + seed % 3,
            keys: 1,
            operations: 7,
            values: [None, Some(2), Some(4)][seed as usize % 3],
            unknown_percent: 20,
            get_percent: 40,
        };
        let right = linearizable(profile, seed);
        assert!(agree(right.operations(), &format!("seed {seed}")));
        let mutated = mutate(&right, &mut StdRng::seed_from_u64(seed));
        let operations: Vec<Operation> = mutated.operations().to_vec();
        wrong += u64::from(!agree(&operations, &format!("seed {seed}, mutated")));
    }
    assert!(wrong > ROUNDS / 5, "{wrong}");
}
