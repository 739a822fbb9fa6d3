//! Histories of the size that a long run on a cluster leaves behind.

mod support;

use checker::{Budget, History, Operation, Outcome, Verdict, check};
use support::generate::{Profile, linearizable};
use support::{history, verdict_of};

const LARGE: Profile = Profile {
    clients: 20,
    keys: 10,
    operations: 100_000,
    values: None,
    unknown_percent: 0,
    get_percent: 50,
};

#[test]
fn timing() {
    for profile in [
        LARGE,
        Profile {
            unknown_percent: 1,
            ..LARGE
        },
        Profile {
            unknown_percent: 10,
            ..LARGE
        },
        Profile {
            values: Some(5),
            ..LARGE
        },
        Profile {
            values: Some(5),
            unknown_percent: 1,
            ..LARGE
        },
        Profile {
            values: Some(100),
            unknown_percent: 1,
            ..LARGE
        },
        Profile { keys: 1, ..LARGE },
        Profile {
            keys: 1,
            unknown_percent: 1,
            ..LARGE
        },
        Profile {
            keys: 1,
            values: Some(5),
            ..LARGE
        },
        Profile {
            keys: 1,
            values: Some(5),
            unknown_percent: 1,
            ..LARGE
        },
        Profile {
            keys: 1,
            get_percent: 0,
            ..LARGE
        },
        Profile {
            keys: 1,
            clients: 100,
            ..LARGE
        },
    ] {
        let history = linearizable(profile, 1);
        let start = std::time::Instant::now();
        let verdict = verdict_of(&history);
        eprintln!("{:?} {profile:?} {}", start.elapsed(), short(&verdict));
        let mut operations = history.operations().to_vec();
        let middle = operations.len() * 2 / 3;
        let index = (middle..)
            .find(|&i| {
                matches!(
                    operations[i].outcome,
                    Outcome::Read(Some(_)) | Outcome::Swapped(_)
                )
            })
            .unwrap();
        let stale = (0..index - 400)
            .rev()
            .find_map(|x| match &operations[x].kind {
                checker::Kind::Set { value } if operations[x].key == operations[index].key => {
                    Some(value.clone())
                }
                _ => None,
            });
        match &mut operations[index].outcome {
            Outcome::Read(value) => *value = stale,
            Outcome::Swapped(b) => *b = !*b,
            _ => {}
        }
        let bad = support::history(operations);
        let start = std::time::Instant::now();
        let verdict = verdict_of(&bad);
        eprintln!("   bad {:?} {}", start.elapsed(), short(&verdict));
    }
}

fn short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NotLinearizable(c) => format!(
            "BAD {} claims, {} {}",
            c.claims.len(),
            c.writers.len(),
            if c.is_minimal {
                "minimal"
            } else {
                "NOT MINIMAL"
            }
        ),
        other => other.to_string(),
    }
}
