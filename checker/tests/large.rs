//! Histories of the size that a long run on a cluster leaves behind.

mod support;

use std::cell::Cell;

use checker::{Budget, Operation, Verdict, check};
use support::generate::{Profile, inject_stale_read, linearizable, mutate};
use support::{history, lost_set, verdict_of};

use rand::SeedableRng;
use rand::rngs::StdRng;

const LARGE: Profile = Profile {
    clients: 20,
    keys: 10,
    operations: 100_000,
    values: None,
    unknown_percent: 1,
    get_percent: 50,
};

/// Far more than these histories take, and far less than a search that went astray would.
fn small_budget() -> Budget<'static> {
    Budget::steps(3_000_000)
}

// 100,000 operations of 20 clients on 10 keys, for different workloads.
#[test]
fn large_histories_are_linearizable() {
    let workloads = [
        LARGE,
        Profile {
            unknown_percent: 0,
            ..LARGE
        },
        Profile {
            unknown_percent: 10,
            ..LARGE
        },
        Profile {
            get_percent: 95,
            ..LARGE
        },
        Profile {
            get_percent: 0,
            ..LARGE
        },
        Profile {
            values: Some(5),
            ..LARGE
        },
        // All clients on one key.
        Profile {
            keys: 1,
            get_percent: 0,
            unknown_percent: 0,
            ..LARGE
        },
        Profile { keys: 1, ..LARGE },
    ];
    for (seed, workload) in workloads.into_iter().enumerate() {
        let verdict = check(&linearizable(workload, seed as u64), &small_budget());
        assert!(verdict.is_linearizable(), "{workload:?}: {verdict}");
    }
}

// One stale read among 100,000 operations is found, and told by three operations at most.
#[test]
fn one_stale_read_is_found() {
    let workloads = [
        LARGE,
        Profile {
            unknown_percent: 10,
            ..LARGE
        },
        Profile { keys: 1, ..LARGE },
        Profile {
            keys: 1,
            clients: 100,
            ..LARGE
        },
    ];
    for (seed, workload) in workloads.into_iter().enumerate() {
        let right = linearizable(workload, seed as u64);
        let wrong = inject_stale_read(&right, &mut StdRng::seed_from_u64(seed as u64));
        let verdict = check(&wrong, &small_budget());
        let counter_example = verdict.counter_example().expect("must be found");
        assert!(counter_example.is_minimal, "{counter_example}");
        assert!(counter_example.claims.len() <= 3, "{counter_example}");
    }
}

// Where values repeat, the search has to find the contradiction.
#[test]
fn violations_among_few_values_are_found() {
    let workload = Profile {
        operations: 10_000,
        values: Some(20),
        ..LARGE
    };
    let mut found = 0;
    for seed in 0..20 {
        let right = linearizable(workload, seed);
        let changed = mutate(&right, &mut StdRng::seed_from_u64(seed));
        if let Some(counter_example) = verdict_of(&changed).counter_example() {
            assert!(counter_example.is_minimal, "seed {seed}: {counter_example}");
            assert!(
                counter_example.claims.len() <= 12,
                "seed {seed}: {counter_example}"
            );
            found += 1;
        }
    }
    assert!(found >= 3, "{found} found");
}

// A violation is found although there are too many ways to order what came before it.
#[test]
fn a_violation_after_hard_operations() {
    let before = Profile {
        keys: 1,
        operations: 2_000,
        values: Some(10),
        ..LARGE
    };
    let mut operations = linearizable(before, 3).operations().to_vec();
    for operation in &mut operations {
        operation.key = support::KEY.into();
    }
    // Each value is written twice, so that the search has to find it.
    for (number, value) in ["x", "y", "x", "y"].into_iter().enumerate() {
        let from = 1_000_000 + 10 * number as u64;
        operations.push(support::set(30, from, from + 1, value));
    }
    operations.push(support::get(31, 1_000_100, 1_000_101, Some("x")));
    let verdict = check(&history(operations), &small_budget());
    let counter_example = verdict.counter_example().expect("must be found");
    let clients: Vec<u64> = counter_example
        .claims
        .iter()
        .map(|claim| claim.client)
        .collect();
    assert_eq!(clients, [30, 31], "{counter_example}");
}

/// A key on which the search takes very long: many writes at once, of few values, none of which
/// is like another, and an ending that cannot be.
fn hard_key() -> Vec<Operation> {
    let mut operations = linearizable(
        Profile {
            clients: 40,
            keys: 1,
            operations: 4_000,
            values: Some(4),
            unknown_percent: 3,
            ..LARGE
        },
        7,
    )
    .operations()
    .to_vec();
    for operation in &mut operations {
        operation.key = "hard".into();
    }
    operations
}

// The budget ends a search that would take too long; the verdict names the key.
#[test]
fn a_budget_that_does_not_suffice() {
    let mut operations = hard_key();
    operations.push(support::set(1, 0, 1, "a"));
    let history = history(operations);
    let keys = vec!["hard".to_string()];
    assert_eq!(
        check(&history, &Budget::steps(2_000)),
        Verdict::Undecided { keys }
    );
}

// A hard key does not keep a violation on another one from being found.
#[test]
fn a_violation_beside_a_hard_key() {
    let mut operations = hard_key();
    operations.push(support::get(1, 0, 1, Some("ghost")));
    let verdict = check(&history(operations), &Budget::steps(10_000));
    assert_eq!(
        verdict.counter_example().expect("must be found").key,
        support::KEY
    );
}

// A caller with a clock can stop the check at any time.
#[test]
fn a_check_that_is_stopped() {
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let history = linearizable(LARGE, 1);
    let verdict = check(&history, &Budget::default().stop_when(&stop));
    assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict}");
    assert!(asked.get() < 20, "asked {} times", asked.get());
}

// A memory that is full makes the search slower, not wrong.
#[test]
fn a_small_memory_is_enough() {
    let workload = Profile {
        operations: 10_000,
        ..LARGE
    };
    let budget = Budget::default().configurations_max(10);
    for seed in 0..5 {
        let right = linearizable(workload, seed);
        assert!(check(&right, &budget).is_linearizable());
        let wrong = inject_stale_read(&right, &mut StdRng::seed_from_u64(seed));
        assert!(check(&wrong, &budget).counter_example().is_some());
    }
}

// Thousands of lost writes that nobody ever saw cost next to nothing.
#[test]
fn unseen_unknown_writes_are_cheap() {
    let mut operations: Vec<Operation> = (0..20_000)
        .map(|number| lost_set(number, number, &format!("lost{number}")))
        .collect();
    operations.push(support::set(1, 5, 30_000, "a"));
    operations.push(support::get(2, 40_000, 40_001, Some("a")));
    operations.push(support::cas(3, 40_002, 40_003, Some("a"), "b", false));
    operations.push(support::get(4, 40_004, 40_005, Some("lost7")));
    let verdict = check(&history(operations), &Budget::steps(200_000));
    assert!(verdict.is_linearizable(), "{verdict}");
}
