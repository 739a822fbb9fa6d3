//! Histories that are right by construction, of all sizes and shapes: they must always pass.

mod support;

use checker::{Budget, check};
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::generate::{Profile, inject_stale_read, linearizable};

fn profile(seed: u64) -> Profile {
    Profile {
        clients: [1, 2, 5, 20][seed as usize % 4],
        keys: [1, 2, 5][seed as usize % 3],
        operations: [30, 100, 400][seed as usize / 3 % 3],
        values: [None, Some(2), Some(10)][seed as usize / 7 % 3],
        unknown_percent: [0, 1, 10, 40][seed as usize / 5 % 4],
        get_percent: [0, 30, 50, 90][seed as usize / 11 % 4],
    }
}

// A linearizable history is never called anything else, short of the budget; and the budget is
// rarely short.
#[test]
fn right_histories_pass() {
    let mut undecided = 0;
    for seed in 0..3_000 {
        let verdict = check(&linearizable(profile(seed), seed), &Budget::steps(100_000));
        assert!(
            verdict.counter_example().is_none(),
            "seed {seed}: {verdict}"
        );
        undecided += u32::from(!verdict.is_linearizable());
    }
    assert!(undecided < 30, "{undecided} undecided");
}

// Where every write has a value of its own, a stale read is always found and told in a few lines.
#[test]
fn stale_reads_are_found() {
    for seed in 0..1_000 {
        let profile = Profile {
            operations: 400,
            values: None,
            unknown_percent: [0, 1, 10][seed as usize % 3],
            get_percent: 50,
            ..profile(seed)
        };
        let right = linearizable(profile, seed);
        let wrong = inject_stale_read(&right, &mut StdRng::seed_from_u64(seed));
        let verdict = check(&wrong, &Budget::steps(100_000));
        let counter_example = verdict.counter_example().expect("must be found");
        assert!(counter_example.is_minimal, "seed {seed}: {counter_example}");
        assert!(
            counter_example.claims.len() <= 3,
            "seed {seed}: {counter_example}"
        );
    }
}
