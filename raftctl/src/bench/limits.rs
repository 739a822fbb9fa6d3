//! What this machine gives, and how much of it the store reaches: `bench limits`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::arguments::Arguments;
use super::echo::Echo;
use super::flushes::Counter;
use super::flushing;
use super::folder;
use super::phases::Bench;
use super::report::grouped;
use super::tally::{Figures, Kind};
use super::{Load, Target};
use crate::client::Read;
use crate::error::{Error, Result};
use crate::local::interrupt::Interruptions;
use crate::ops::{Context, store};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;

/// How long a cluster may take to answer before the limits stand alone.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is flushed at once.
const FLUSHED_BYTES: [usize; 2] = [4 << 10, 16 << 10];

/// The flags of `bench limits`.
#[derive(Debug, Clone, clap::Args)]
pub struct Limits {
    /// How long each measurement lasts; there are 12 of calls, and 4 of the disk
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = crate::text::times::parse)]
    duration: Duration,
    /// How many operations are under way at a time, where there are many
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: usize,
    /// How long each value is
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// Where to write for the flushes [default: the cluster's own folder on this machine]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Write report.json into this folder, which is made
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
}

/// How calls are made.
#[derive(Debug, Clone, Copy)]
struct Shape {
    unary: bool,
    clients: usize,
    in_flight: usize,
    read_share: f64,
}

/// One kind of calls: the limit, and what the store reaches of it.
#[derive(Debug, Clone, Serialize)]
pub struct Calls {
    /// `SET` or `GET`.
    pub operation: &'static str,
    /// `stream` or `unary`.
    pub transport: &'static str,
    /// Operations on their way.
    pub in_flight: usize,
    /// A bare server of the same calls.
    pub bare: Option<Figures>,
    /// The cluster; null where there is none.
    pub store: Option<Figures>,
    /// What the store reaches of the limit, of 1.
    pub share: Option<f64>,
}

/// One kind of flushes.
#[derive(Debug, Clone, Serialize)]
pub struct Flushing {
    /// How much is flushed at once.
    pub bytes: usize,
    /// Whether the file had its length before.
    pub is_zero_filled: bool,
    /// What the disk gives.
    pub figures: Option<Figures>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The cluster's name; null where none answers.
    pub cluster: Option<String>,
    /// How many nodes it has.
    pub nodes: usize,
    /// Length of a value.
    pub value_bytes: usize,
    /// Where was flushed.
    pub folder: PathBuf,
    /// Calls.
    pub calls: Vec<Calls>,
    /// Flushes.
    pub flushes: Vec<Flushing>,
}

/// Measures, and prints.
///
/// # Errors
/// A figure without sense, a folder that takes no file, an interruption.
pub async fn run(context: &Context, options: &Options, limits: &Limits) -> Result<()> {
    let mut interruptions = Interruptions::new();
    let finding = store::client(context, Some(ANSWER_MAX)).find_leader().await;
    if let Err(error) = &finding {
        out::say(&format!("no cluster to compare with: {error}"));
    }
    let echo = Echo::start(limits.value_size)?;
    let stage = Stage {
        context,
        limits,
        echo,
        has_cluster: finding.is_ok(),
    };
    let flushed = stage.flushes().await?;
    let calls = stage.calls(&mut interruptions).await?;
    let report = Report {
        cluster: stage.has_cluster.then(|| context.cluster.name.clone()),
        nodes: context.cluster.nodes.len(),
        value_bytes: limits.value_size,
        folder: stage.folder(),
        calls,
        flushes: flushed,
    };
    if let Some(path) = &limits.report {
        folder::of_limits(path, &report)?;
    }
    match options.output {
        Output::Text => out::print(&report.text()),
        Output::Json => out::json(&serde_json::json!(report)),
    }
}

struct Stage<'a> {
    context: &'a Context,
    limits: &'a Limits,
    echo: Echo,
    has_cluster: bool,
}

impl Stage<'_> {
    fn folder(&self) -> PathBuf {
        let own = self.context.cluster.state_dir();
        let is_there = own.is_dir();
        self.limits
            .folder
            .clone()
            .unwrap_or_else(|| match is_there {
                true => own,
                false => self.context.cluster.directory.clone(),
            })
    }

    async fn flushes(&self) -> Result<Vec<Flushing>> {
        let (folder, length) = (self.folder(), self.limits.duration);
        let measuring = tokio::task::spawn_blocking(move || {
            let kinds = FLUSHED_BYTES
                .iter()
                .flat_map(|bytes| [(*bytes, false), (*bytes, true)]);
            kinds
                .map(|(bytes, is_zero_filled)| {
                    let figures = flushing::measure(&folder, bytes, is_zero_filled, length);
                    let figures = figures.map_err(|error| {
                        let folder = folder.display();
                        Error::Usage(format!(
                            "--folder: {folder} takes no file to flush: {error}"
                        ))
                    })?;
                    Ok(Flushing {
                        bytes,
                        is_zero_filled,
                        figures,
                    })
                })
                .collect::<Result<Vec<_>>>()
        });
        match measuring.await {
            Ok(flushed) => flushed,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn calls(&self, interruptions: &mut Interruptions) -> Result<Vec<Calls>> {
        let many = self.limits.in_flight;
        let mut calls = Vec::new();
        for (unary, in_flight) in [(true, 1), (true, many), (false, many)] {
            for read_share in [0.0, 1.0] {
                let shape = Shape {
                    unary,
                    clients: in_flight.min(4),
                    in_flight,
                    read_share,
                };
                calls.push(self.one(shape, interruptions).await?);
            }
        }
        Ok(calls)
    }

    /// The bare server, then the cluster.
    async fn one(&self, shape: Shape, interruptions: &mut Interruptions) -> Result<Calls> {
        let arguments = Arguments {
            clients: shape.clients,
            in_flight: shape.in_flight,
            duration: self.limits.duration,
            warm_up: WARM_UP,
            value_size: self.limits.value_size,
            read_share: shape.read_share,
            keys: 1_000,
            unary: shape.unary,
            ..Arguments::default()
        };
        arguments.check()?;
        let bench = |counter, target| Bench {
            counter,
            arguments: &arguments,
            workload: arguments.workload(),
            load: Load {
                target,
                connections: shape.clients,
                in_flight: shape.in_flight,
                unary: shape.unary,
                read: Read::Lease,
                any_node: false,
                over_time: None,
            },
        };
        let kind = match shape.read_share > 0.5 {
            true => Kind::Read,
            false => Kind::Write,
        };
        let bare = bench(Counter::Nothing, Target::Nodes(self.echo.members()));
        let bare = figures(&bare, kind, interruptions).await?;
        let store = match self.has_cluster {
            false => None,
            true => {
                let target = Target::Nodes(store::members(self.context));
                let bench = bench(Counter::Nothing, target);
                let measured = figures(&bench, kind, interruptions).await;
                bench.clear(interruptions, measured.is_err()).await?;
                measured?
            }
        };
        let share = match (&store, &bare) {
            (Some(store), Some(bare)) => Some(store.per_second / bare.per_second.max(1.0)),
            _ => None,
        };
        Ok(Calls {
            operation: if kind == Kind::Read { "GET" } else { "SET" },
            transport: if shape.unary { "unary" } else { "stream" },
            in_flight: shape.in_flight,
            bare,
            store,
            share,
        })
    }
}

async fn figures(
    bench: &Bench<'_>,
    kind: Kind,
    interruptions: &mut Interruptions,
) -> Result<Option<Figures>> {
    let measured = bench.measure(interruptions).await?;
    match measured {
        Some(measured) if !measured.interrupted => {
            Ok(measured.tally.figures(kind, measured.length))
        }
        _ => Err(Error::Other("interrupted".into())),
    }
}

impl Report {
    /// Two tables, and what a SET by itself is made of.
    #[must_use]
    pub fn text(&self) -> String {
        let store = self.cluster.clone().unwrap_or("no cluster".into());
        let mut text = format!(
            "{:<34}{:>14}{:>10}{:>14}{:>10}{:>8}\n",
            format!("{} B values", self.value_bytes),
            "bare gRPC",
            "p50 ms",
            store,
            "p50 ms",
            "share"
        );
        for calls in &self.calls {
            let [bare, store] = [&calls.bare, &calls.store].map(|it| cells(it.as_ref()));
            let share = calls
                .share
                .map_or("-".into(), |share| format!("{:.0} %", share * 100.0));
            let name = format!(
                "{}, {}, {} in flight",
                calls.operation, calls.transport, calls.in_flight
            );
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "{name:<34}{:>14}{:>10}{:>14}{:>10}{share:>8}",
                bare[0], bare[1], store[0], store[1]
            );
        }
        let _ = writeln!(
            text,
            "\n{:<34}{:>14}{:>10}{:>10}",
            "fdatasync", "per second", "p50 ms", "p99 ms"
        );
        for flushing in &self.flushes {
            let kind = if flushing.is_zero_filled {
                "zero-filled"
            } else {
                "growing"
            };
            let name = format!("{} KiB, {kind} file", flushing.bytes >> 10);
            let [rate, p50] = cells(flushing.figures.as_ref());
            let p99 = flushing
                .figures
                .as_ref()
                .map_or("-".into(), |it| ms(it.p99_us));
            let _ = writeln!(text, "{name:<34}{rate:>14}{p50:>10}{p99:>10}");
        }
        if let Some((least_ms, reached_ms)) = self.one_set_ms() {
            let _ = writeln!(
                text,
                "\none SET at a time takes {reached_ms:.2} ms (p50); one bare call and one flush of 4 KiB take \
                 {least_ms:.2} ms, {:.0} % of it",
                least_ms / reached_ms * 100.0
            );
        }
        let _ = writeln!(text, "flushed in {}", self.folder.display());
        text
    }

    /// What a call and a flush take, and what a SET takes that waits for both.
    #[must_use]
    pub fn one_set_ms(&self) -> Option<(f64, f64)> {
        let one = self
            .calls
            .iter()
            .find(|it| it.operation == "SET" && it.in_flight == 1)?;
        let flush = self.flushes.first()?.figures.as_ref()?;
        let least_us = one.bare.as_ref()?.p50_us + flush.p50_us;
        Some((
            least_us as f64 / 1000.0,
            one.store.as_ref()?.p50_us as f64 / 1000.0,
        ))
    }
}

fn ms(us: u64) -> String {
    format!("{:.2}", us as f64 / 1000.0)
}

/// A rate and a median, or that there are none.
fn cells(figures: Option<&Figures>) -> [String; 2] {
    figures.map_or(["-", "-"].map(str::to_owned), |it| {
        [grouped(it.per_second as u64), ms(it.p50_us)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(per_second: f64, p50_us: u64) -> Figures {
        Figures {
            operations: 1,
            per_second,
            p50_us,
            p99_us: 2 * p50_us,
            p999_us: p50_us,
            max_us: p50_us,
        }
    }

    // The share of the limit is told, and what a SET by itself must take; without a cluster the limits stand alone.
    #[test]
    fn limits_and_what_is_reached_stand_side_by_side() {
        let calls = Calls {
            operation: "SET",
            transport: "unary",
            in_flight: 1,
            bare: Some(figures(5_000.0, 150)),
            store: Some(figures(1_250.0, 700)),
            share: Some(0.25),
        };
        let flushing = Flushing {
            bytes: 4 << 10,
            is_zero_filled: false,
            figures: Some(figures(4_000.0, 200)),
        };
        let mut report = Report {
            cluster: Some("demo".into()),
            nodes: 3,
            value_bytes: 256,
            folder: "/data".into(),
            calls: vec![calls],
            flushes: vec![flushing],
        };
        let text = report.text();
        assert!(text.contains("SET, unary, 1 in flight                    5,000      0.15         1,250      0.70    25 %\n"), "{text}");
        assert!(
            text.contains("4 KiB, growing file                        4,000      0.20      0.40\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "takes 0.70 ms (p50); one bare call and one flush of 4 KiB take 0.35 ms, 50 % of it"
            ),
            "{text}"
        );
        report.calls[0].store = None;
        report.calls[0].share = None;
        assert!(!report.text().contains("at a time takes"));
    }
}
