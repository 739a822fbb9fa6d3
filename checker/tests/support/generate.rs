//! Histories that are linearizable by construction: each operation takes effect on a simulated
//! store at one moment between its call and its return.

use std::collections::{BTreeMap, HashMap};

use checker::{History, Kind, Operation, Outcome};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What kind of history to make.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Clients that work at the same time, each with one operation after the other.
    pub clients: u64,
    pub keys: u64,
    pub operations: usize,
    /// How many values there are; `None`: each write has a value of its own.
    pub values: Option<u32>,
    /// Share of operations, in percent, whose answer is lost.
    pub unknown_percent: u32,
    /// Share of gets, in percent; the rest are writes, half of them sets.
    pub get_percent: u32,
}

/// An operation at work: when what will happen.
struct Plan {
    operation: Operation,
    effect_us: Option<u64>,
}

/// Makes a history that is linearizable.
pub fn linearizable(profile: Profile, seed: u64) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    let mut free_us: Vec<u64> = (0..profile.clients).collect();
    let mut plans = Vec::new();
    for number in 0..profile.operations {
        let client = (number as u64) % profile.clients;
        let call_us = free_us[client as usize] + random.random_range(0..20);
        let return_us = call_us + random.random_range(0..100);
        free_us[client as usize] = return_us + 1;
        let is_unknown = random.random_ratio(profile.unknown_percent, 100);
        let effect_us = match (is_unknown, random.random_range(0..3)) {
            (false, _) => Some(random.random_range(call_us..=return_us)),
            // Never, soon, or much later.
            (true, 0) => None,
            (true, 1) => Some(random.random_range(call_us..=return_us)),
            (true, _) => Some(call_us + random.random_range(0..10_000)),
        };
        plans.push(Plan {
            operation: Operation {
                client,
                call_us,
                return_us: (!is_unknown).then_some(return_us),
                key: format!("k{}", random.random_range(0..profile.keys)),
                kind: kind(profile, number, &mut random),
                outcome: Outcome::Unknown,
            },
            effect_us,
        });
    }
    run(plans, &mut random)
}

fn kind(profile: Profile, number: usize, random: &mut StdRng) -> Kind {
    let value = match profile.values {
        Some(values) => format!("v{}", random.random_range(0..values)),
        None => format!("v{number}"),
    };
    if random.random_ratio(profile.get_percent, 100) {
        return Kind::Get;
    }
    match random.random_range(0..4) {
        0 | 1 => Kind::Set { value },
        2 => Kind::Delete,
        // The expected value is chosen when it takes effect: most often it is the right one.
        _ => Kind::CompareAndSet {
            expected: None,
            value,
        },
    }
}

/// Lets the operations take effect in the order of their moments.
fn run(plans: Vec<Plan>, random: &mut StdRng) -> History {
    let mut moments: Vec<usize> = (0..plans.len()).collect();
    moments.sort_by_key(|&index| {
        (
            plans[index].effect_us.unwrap_or(u64::MAX),
            plans[index].operation.call_us,
        )
    });
    let mut store: HashMap<String, String> = HashMap::new();
    let mut done = BTreeMap::new();
    for index in moments {
        let Plan {
            operation,
            effect_us,
        } = &plans[index];
        let mut operation = operation.clone();
        let present = store.get(&operation.key).cloned();
        if let Kind::CompareAndSet { expected, .. } = &mut operation.kind {
            let is_right = random.random_ratio(3, 4);
            *expected = if is_right {
                present.clone()
            } else {
                Some("v0".into())
            };
        }
        if effect_us.is_some() {
            let outcome = apply(&operation, present, &mut store);
            if operation.return_us.is_some() {
                operation.outcome = outcome;
            }
        }
        done.insert(index, operation);
    }
    let mut history = History::new();
    for operation in done.into_values() {
        history.push(operation).unwrap();
    }
    history
}

fn apply(
    operation: &Operation,
    present: Option<String>,
    store: &mut HashMap<String, String>,
) -> Outcome {
    let key = operation.key.clone();
    match &operation.kind {
        Kind::Get => Outcome::Read(present),
        Kind::Set { value } => {
            store.insert(key, value.clone());
            Outcome::Written
        }
        Kind::Delete => Outcome::Existed(store.remove(&key).is_some()),
        Kind::CompareAndSet { expected, value } => {
            let swaps = present == *expected;
            if swaps {
                store.insert(key, value.clone());
            }
            Outcome::Swapped(swaps)
        }
    }
}

/// Changes what one answered operation saw, or when it happened. The result may be linearizable
/// or not.
pub fn mutate(history: &History, random: &mut StdRng) -> History {
    let mut operations = history.operations().to_vec();
    let values: Vec<Option<String>> = operations
        .iter()
        .filter_map(|operation| match &operation.kind {
            Kind::Set { value } | Kind::CompareAndSet { value, .. } => Some(Some(value.clone())),
            _ => None,
        })
        .chain([None])
        .collect();
    let index = random.random_range(0..operations.len());
    let operation = &mut operations[index];
    match &mut operation.outcome {
        Outcome::Read(value) => *value = values[random.random_range(0..values.len())].clone(),
        Outcome::Existed(truth) | Outcome::Swapped(truth) => *truth = !*truth,
        _ => {
            let shift_us = random.random_range(0..100);
            operation.call_us += shift_us;
            operation.return_us = operation.return_us.map(|time_us| time_us + shift_us);
        }
    }
    let mut mutated = History::new();
    for operation in operations {
        mutated.push(operation).unwrap();
    }
    mutated
}

/// Makes one get, somewhere in the second half, see a value that was overwritten long before by
/// acknowledged writes.
pub fn inject_stale_read(history: &History, random: &mut StdRng) -> History {
    let mut operations = history.operations().to_vec();
    let count = operations.len();
    let start = random.random_range(count / 2..count);
    let read = (start..count)
        .chain(count / 2..start)
        .find(|&index| matches!(operations[index].outcome, Outcome::Read(_)))
        .expect("a get in the second half");
    let (key, call_us) = (operations[read].key.clone(), operations[read].call_us);
    let acknowledged = |operation: &&Operation| {
        operation.key == key
            && operation.outcome == Outcome::Written
            && operation.return_us < Some(call_us)
    };
    let mut earlier: Vec<&Operation> = operations.iter().filter(acknowledged).collect();
    earlier.sort_by_key(|operation| operation.return_us);
    let stale = earlier[..earlier.len() / 2]
        .last()
        .expect("sets before the get");
    let overwritten = earlier
        .iter()
        .any(|operation| Some(operation.call_us) > stale.return_us);
    assert!(overwritten);
    let Kind::Set { value } = stale.kind.clone() else {
        unreachable!("only sets are written");
    };
    operations[read].outcome = Outcome::Read(Some(value));
    let mut wrong = History::new();
    for operation in operations {
        wrong.push(operation).unwrap();
    }
    wrong
}
