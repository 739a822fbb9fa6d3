//! A counter-example as text: who did and saw what when, and why it is impossible.

use std::fmt;

use crate::counter_example::CounterExample;
use crate::explain::{DeadEnd, dead_end};
use crate::history::{Kind, Operation, Outcome};

/// Longer values are cut: a counter-example is about which value it is, not what it holds.
const VALUE_CHARS_MAX: usize = 40;

/// In one line: who asked what of which key, and what was answered.
impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, key) = (self.client, quoted(&self.key));
        let (asked, answered) = (asked(&self.kind), answered(self));
        write!(
            formatter,
            "client {client} at key {key}: {asked}: {answered}"
        )
    }
}

impl fmt::Display for CounterExample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "key {}: {}", quoted(&self.key), self.anomaly)?;
        let operations: Vec<&Operation> = self.claims.iter().chain(&self.writers).collect();
        let mut by_call: Vec<usize> = (0..operations.len()).collect();
        by_call.sort_by_key(|&index| (operations[index].call_us, operations[index].return_us));
        let mut number = vec![0; operations.len()];
        for (position, &index) in by_call.iter().enumerate() {
            number[index] = position + 1;
        }
        let rows = by_call
            .iter()
            .map(|&index| row(number[index], operations[index], index < self.claims.len()));
        write_table(formatter, rows.collect())?;
        if self.writers_left_out > 0 {
            let count = self.writers_left_out;
            writeln!(
                formatter,
                "and {count} earlier writes that may have led to what was seen"
            )?;
        }
        if !self.writers.is_empty() {
            writeln!(
                formatter,
                "(*) tells where a value may have come from; its own outcome does not matter"
            )?;
        }
        if !self.is_minimal {
            writeln!(
                formatter,
                "The budget ended before all that is not needed was left out."
            )?;
        }
        match dead_end(&operations, self.claims.len()) {
            Some(dead_end) => write_dead_end(formatter, &operations, &number, &dead_end),
            None => write!(
                formatter,
                "No order of these operations explains their outcomes."
            ),
        }
    }
}

const COLUMNS: [&str; 6] = ["#", "client", "called", "returned", "operation", "outcome"];

fn row(number: usize, operation: &Operation, is_claim: bool) -> [String; 6] {
    let returned = match operation.return_us {
        Some(return_us) => milliseconds(return_us),
        None => "never".into(),
    };
    let mark = if is_claim { "" } else { " (*)" };
    [
        number.to_string(),
        operation.client.to_string(),
        milliseconds(operation.call_us),
        returned,
        asked(&operation.kind),
        format!("{}{mark}", answered(operation)),
    ]
}

fn write_table(formatter: &mut fmt::Formatter<'_>, rows: Vec<[String; 6]>) -> fmt::Result {
    let mut widths = COLUMNS.map(|name| name.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&COLUMNS.map(String::from)).chain(&rows) {
        let mut line = String::from(" ");
        for (column, (width, cell)) in widths.iter().zip(row).enumerate() {
            // Numbers to the right, words to the left.
            line += &match column {
                0..4 => format!(" {cell:>width$} "),
                _ => format!(" {cell:<width$} "),
            };
        }
        writeln!(formatter, "{}", line.trim_end())?;
    }
    Ok(())
}

fn write_dead_end(
    formatter: &mut fmt::Formatter<'_>,
    operations: &[&Operation],
    number: &[usize],
    dead_end: &DeadEnd,
) -> fmt::Result {
    let steps: Vec<String> = dead_end
        .order
        .iter()
        .map(|&index| number[index].to_string())
        .collect();
    let state = match dead_end.state {
        Some(value) => format!("the key holds {}", quoted(value)),
        None => "the key is absent".into(),
    };
    match steps.is_empty() {
        true => write!(formatter, "At the beginning {state}")?,
        false => write!(
            formatter,
            "The best order is {}: then {state}",
            steps.join(", ")
        )?,
    }
    for (position, &index) in dead_end.stuck.iter().enumerate() {
        let joint = if position == 0 { ", but" } else { ", and" };
        let operation = operations[index];
        write!(formatter, "{joint} {} {}", number[index], found(operation))?;
    }
    write!(formatter, ".")
}

fn milliseconds(time_us: u64) -> String {
    format!("{}.{:03} ms", time_us / 1000, time_us % 1000)
}

fn asked(kind: &Kind) -> String {
    match kind {
        Kind::Get => "get".into(),
        Kind::Set { value } => format!("set {}", quoted(value)),
        Kind::Delete => "delete".into(),
        Kind::CompareAndSet { expected, value } => {
            format!(
                "swap {} for {}",
                holding(expected.as_deref()),
                quoted(value)
            )
        }
    }
}

fn answered(operation: &Operation) -> String {
    match &operation.outcome {
        Outcome::Written => "written".into(),
        Outcome::Read(value) => holding(value.as_deref()),
        Outcome::Existed(true) => "deleted".into(),
        Outcome::Existed(false) => "was absent".into(),
        Outcome::Swapped(true) => "swapped".into(),
        Outcome::Swapped(false) => "not swapped".into(),
        Outcome::Unknown => "unknown".into(),
        Outcome::NotApplied => "not applied".into(),
    }
}

/// What a claim says about the state that it met.
fn found(operation: &Operation) -> String {
    match (&operation.kind, &operation.outcome) {
        (_, Outcome::Read(None)) => "saw no value".into(),
        (_, Outcome::Read(Some(value))) => format!("saw {}", quoted(value)),
        (_, Outcome::Existed(true)) => "found something to delete".into(),
        (_, Outcome::Existed(false)) => "found nothing to delete".into(),
        (Kind::CompareAndSet { expected, .. }, Outcome::Swapped(true)) => {
            format!("found {}", holding(expected.as_deref()))
        }
        (Kind::CompareAndSet { expected, .. }, Outcome::Swapped(false)) => {
            format!("did not find {}", holding(expected.as_deref()))
        }
        _ => "comes next".into(),
    }
}

fn holding(value: Option<&str>) -> String {
    value.map_or("no value".into(), quoted)
}

/// A value on one line and of bounded length, told from every word by its quotes.
fn quoted(value: &str) -> String {
    let length = value.chars().count();
    if length <= VALUE_CHARS_MAX {
        return format!("{value:?}");
    }
    let start: String = value.chars().take(VALUE_CHARS_MAX).collect();
    format!("{start:?}.. ({length} characters)")
}
