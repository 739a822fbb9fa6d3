//! A report as a folder: report.json, and pictures that need nothing else.

use std::path::Path;

use serde_json::{Value, json};

use super::comparison::{Comparison, Side};
use super::limits;
use super::plot::{Axis, Line, Plot};
use super::report::Report;
use super::series::Point;
use super::spread::Moments;
use super::tally::{Kind, Tally};
use crate::error::{Error, Result};
use crate::terminal::out;

const KINDS: [(&str, Kind); 2] = [("reads", Kind::Read), ("writes", Kind::Write)];

/// Of a run: its figures, latency over time, latency by share.
///
/// # Errors
/// The folder can't be written.
pub fn of_run(folder: &Path, report: &Report, tally: &Tally) -> Result<()> {
    let note = format!(
        "{}, {} nodes, {} clients, {} in flight ({}), {} B values",
        report.cluster,
        report.nodes,
        report.clients,
        report.in_flight,
        report.transport,
        report.value_bytes
    );
    let mut json = json!(report);
    let mut over_time = Vec::new();
    let mut by_share = Vec::new();
    for (name, kind) in KINDS {
        let points = tally
            .series()
            .map(|series| series.points(kind))
            .unwrap_or_default();
        let percentiles = tally.percentiles(kind);
        if let Some(object) = json.as_object_mut() {
            object.insert(format!("{name}_over_time"), json!(points));
            let shares = percentiles
                .iter()
                .map(|(share, us)| json!({"share": share, "us": us}));
            object.insert(format!("{name}_by_share"), Value::from_iter(shares));
        }
        if points.is_empty() {
            continue;
        }
        over_time.extend(lines_over_time(name, &points));
        by_share.push(Line {
            name: name.into(),
            points: percentiles
                .iter()
                .map(|(share, us)| (rarity(*share), *us as f64 / 1000.0))
                .collect(),
            is_dots: false,
        });
    }
    let latency = Plot {
        title: "Latency over time".into(),
        note: note.clone(),
        x: axis("seconds", false),
        y: axis("milliseconds", true),
        lines: over_time,
    };
    let shares = Plot {
        title: "Latency by share of the operations".into(),
        note,
        x: Axis {
            name: "share of the operations that took no longer".into(),
            is_logarithmic: true,
            ticks: SHARES
                .iter()
                .map(|(share, name)| (rarity(*share), (*name).to_owned()))
                .collect(),
        },
        y: axis("milliseconds", true),
        lines: by_share,
    };
    write(
        folder,
        &json,
        &[("latency.svg", latency), ("percentiles.svg", shares)],
    )
}

/// Marks of the axis of shares.
const SHARES: [(f64, &str); 6] = [
    (0.1, "10 %"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
];

/// One in so many takes longer: what makes room for the slow ones on an axis. The slowest of all has no such figure.
fn rarity(share: f64) -> f64 {
    (1.0 / (1.0 - share).max(1e-5)).max(1.0)
}

fn axis(name: &str, is_logarithmic: bool) -> Axis {
    Axis {
        name: name.into(),
        is_logarithmic,
        ticks: Vec::new(),
    }
}

fn lines_over_time(name: &str, points: &[Point]) -> [Line; 3] {
    let line = |what: &str, figure: &dyn Fn(&Point) -> f64| Line {
        name: format!("{name}, {what}"),
        points: points
            .iter()
            .map(|point| (point.at_seconds, figure(point)))
            .collect(),
        is_dots: false,
    };
    [
        line("p50", &|point| point.p50_ms),
        line("p99", &|point| point.p99_ms),
        line("slowest", &|point| point.max_ms),
    ]
}

/// Of moments: how long clients waited in each.
///
/// # Errors
/// The folder can't be written.
pub fn of_moments(folder: &Path, report: &Moments) -> Result<()> {
    let lines =
        [("reads", &report.read_gap), ("writes", &report.write_gap)].map(|(name, spread)| Line {
            name: format!(
                "{name}: median {:.0} ms, worst {:.0} ms",
                spread.median_ms, spread.worst_ms
            ),
            points: (1..)
                .map(f64::from)
                .zip(spread.each_ms.iter().copied())
                .collect(),
            is_dots: true,
        });
    let count = report.read_gap.each_ms.len();
    let numbers = (1..=count).step_by(count.div_ceil(20).max(1));
    let gaps = Plot {
        title: format!("Longest time without an answer, {}", report.what),
        note: format!("{}, {} nodes", report.subject.cluster, report.subject.nodes),
        x: Axis {
            name: "which one".into(),
            is_logarithmic: false,
            ticks: numbers
                .map(|number| (number as f64, number.to_string()))
                .collect(),
        },
        y: axis("milliseconds", true),
        lines: lines.into(),
    };
    write(folder, &json!(report), &[("gaps.svg", gaps)])
}

/// Of two stores: the rate of each turn.
///
/// # Errors
/// The folder can't be written.
pub fn of_comparison(folder: &Path, report: &Comparison) -> Result<()> {
    let line = |side: &Side, kind: &str, each: &[f64]| Line {
        name: format!("{}, {kind}", side.store),
        points: (1..).map(f64::from).zip(each.iter().copied()).collect(),
        is_dots: true,
    };
    let mut lines = Vec::new();
    for side in &report.sides {
        let kinds = [("reads", &side.reads), ("writes", &side.writes)];
        lines.extend(kinds.iter().filter_map(|(kind, medians)| {
            Some(line(side, kind, &medians.as_ref()?.each_per_second))
        }));
    }
    let rates = Plot {
        title: "Operations a second, turn by turn".into(),
        note: report.load.clone(),
        x: Axis {
            name: "turn".into(),
            is_logarithmic: false,
            ticks: (1..=report.rounds)
                .map(|number| (number as f64, number.to_string()))
                .collect(),
        },
        y: axis("a second", false),
        lines,
    };
    write(folder, &json!(report), &[("rates.svg", rates)])
}

/// Of limits: the figures alone.
///
/// # Errors
/// The folder can't be written.
pub fn of_limits(folder: &Path, report: &limits::Report) -> Result<()> {
    write(folder, &json!(report), &[])
}

fn write(folder: &Path, json: &Value, pictures: &[(&str, Plot)]) -> Result<()> {
    let refused = |path: &Path, error: &dyn std::fmt::Display| {
        Error::Other(format!(
            "--report: {} can't be written: {error}",
            path.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(|error| refused(folder, &error))?;
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| refused(&path, &error))
    };
    put("report.json", format!("{json:#}\n"))?;
    for (name, plot) in pictures {
        put(name, plot.svg())?;
    }
    out::say(&format!("the report is in {}", folder.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The rarer, the further to the right, without an end for the slowest of all.
    #[test]
    fn slow_operations_have_room() {
        let places: Vec<f64> = [0.0, 0.5, 0.9, 0.99, 1.0].map(rarity).to_vec();
        let expected = [1.0, 2.0, 10.0, 100.0, 1e5];
        assert!(
            places
                .iter()
                .zip(expected)
                .all(|(is, to)| (is / to - 1.0).abs() < 1e-6),
            "{places:?}"
        );
    }
}
