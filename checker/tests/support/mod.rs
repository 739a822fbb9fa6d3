//! Short ways to write operations on one key, for the stories told in the tests.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod generate;
pub mod oracle;

use checker::{Budget, History, Kind, Operation, Outcome, Verdict, check};

/// The key of all operations made here.
pub const KEY: &str = "k";

/// An answered operation.
pub fn operation(client: u64, from: u64, to: u64, kind: Kind, outcome: Outcome) -> Operation {
    Operation {
        client,
        call_us: from,
        return_us: Some(to),
        key: KEY.into(),
        kind,
        outcome,
    }
}

fn lost(client: u64, from: u64, kind: Kind) -> Operation {
    Operation {
        client,
        call_us: from,
        return_us: None,
        key: KEY.into(),
        kind,
        outcome: Outcome::Unknown,
    }
}

pub fn get(client: u64, from: u64, to: u64, value: Option<&str>) -> Operation {
    let outcome = Outcome::Read(value.map(String::from));
    operation(client, from, to, Kind::Get, outcome)
}

pub fn set(client: u64, from: u64, to: u64, value: &str) -> Operation {
    let value = value.into();
    operation(client, from, to, Kind::Set { value }, Outcome::Written)
}

pub fn delete(client: u64, from: u64, to: u64, existed: bool) -> Operation {
    operation(client, from, to, Kind::Delete, Outcome::Existed(existed))
}

pub fn cas(
    client: u64,
    from: u64,
    to: u64,
    expected: Option<&str>,
    value: &str,
    swapped: bool,
) -> Operation {
    operation(
        client,
        from,
        to,
        Kind::CompareAndSet {
            expected: expected.map(String::from),
            value: value.into(),
        },
        Outcome::Swapped(swapped),
    )
}

pub fn lost_set(client: u64, from: u64, value: &str) -> Operation {
    let value = value.into();
    lost(client, from, Kind::Set { value })
}

pub fn lost_delete(client: u64, from: u64) -> Operation {
    lost(client, from, Kind::Delete)
}

pub fn lost_cas(client: u64, from: u64, expected: Option<&str>, value: &str) -> Operation {
    let kind = Kind::CompareAndSet {
        expected: expected.map(String::from),
        value: value.into(),
    };
    lost(client, from, kind)
}

/// A history of these operations.
pub fn history(operations: Vec<Operation>) -> History {
    let mut history = History::new();
    for operation in operations {
        history.push(operation).unwrap();
    }
    history
}

/// Checks with the default budget.
pub fn verdict_of(history: &History) -> Verdict {
    check(history, &Budget::default())
}
