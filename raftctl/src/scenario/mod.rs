//! Scenarios: files of steps and expectations, played against a running cluster.
//!
//! ```text
//! file       the six built-in files, or one at a path -> Scenario, checked
//! notation   what a file may say                amounts    its times and counts
//! runner     plays it: acts, asks, expects      dumps      what dump.txt proves
//! restore    puts the cluster back as it was    outcome    what became of each step
//! ```
//! A scenario uses the cluster that runs, and its own keys (`scenario/...`), which it removes. At
//! the end, and when it is interrupted, every node runs again and every fault is healed.

mod acts;
mod amounts;
mod asks;
mod describe;
mod dumps;
mod expects;
mod fetch;
mod file;
mod notation;
mod outcome;
mod restore;
mod runner;

use std::time::Instant;

use clap::Subcommand;
use serde_json::json;

use crate::binary::Binary;
use crate::cli::{Options, Output};
use crate::error::{Error, Result};
use crate::lock::{Lock, WAIT};
use crate::ops::Context;
use crate::out;
use crate::progress::Progress;
use crate::verbs::up;
use file::Loaded;
use outcome::ScenarioReport;
use runner::Runner;

/// The flags of `scenario`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Run scenarios on the cluster, which must be up, and say whether all was as expected
    ///
    /// Nodes are killed and started; at the end, and after Ctrl-C, all run again. Exit code 40
    /// where something was not as expected.
    #[command(
        after_help = "Examples:\n  raftctl scenario run all\n  raftctl scenario run \
                            leader-failure\n  raftctl scenario run ./my-scenario.yaml"
    )]
    Run {
        /// `all`, a name, a number, or the path of a file
        #[arg(value_name = "SCENARIO", required = true)]
        scenarios: Vec<String>,
    },
    /// List the scenarios that are built in
    List,
    /// Print the file of a scenario: to read, or to begin one's own with
    Show {
        /// A name or a number
        #[arg(value_name = "SCENARIO")]
        scenario: String,
    },
}

/// Runs, lists or shows scenarios.
///
/// # Errors
/// A scenario failed, can't be read, or the cluster is not up.
pub async fn run(context: &Context, options: &Options, arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::List => list(options),
        Command::Show { scenario } => {
            let loaded = file::find(&scenario)?;
            let texts: Vec<&str> = loaded.iter().map(|loaded| loaded.text.as_str()).collect();
            out::print(&texts.join("\n---\n"))
        }
        Command::Run { scenarios } => {
            let mut loaded = Vec::new();
            for word in &scenarios {
                loaded.extend(file::find(word)?);
            }
            run_all(context, options, &loaded).await
        }
    }
}

fn list(options: &Options) -> Result<()> {
    let six = file::built_in();
    match options.output {
        Output::Json => {
            let entry = |loaded: &Loaded| {
                let scenario = &loaded.scenario;
                json!({"name": scenario.name, "number": scenario.number, "title": scenario.title})
            };
            out::json(&json!(six.iter().map(entry).collect::<Vec<_>>()))
        }
        Output::Text => {
            let row = |loaded: &Loaded| {
                let scenario = &loaded.scenario;
                let number = scenario
                    .number
                    .map_or(String::new(), |number| number.to_string());
                vec![number, scenario.name.clone(), scenario.title.clone()]
            };
            let rows: Vec<Vec<String>> = six.iter().map(row).collect();
            out::print(&out::table(&["NUMBER", "NAME", "WHAT IT SHOWS"], &rows))
        }
    }
}

async fn run_all(context: &Context, options: &Options, scenarios: &[Loaded]) -> Result<()> {
    let _lock = Lock::take(&context.cluster, "scenario", WAIT).await?;
    for loaded in scenarios {
        restore::check_running(context, loaded.scenario.nodes).await?;
    }
    let binary = up::obtain(context, &Progress::new())?;
    let started = Instant::now();
    let mut reports = Vec::new();
    for loaded in scenarios {
        let report = run_one(context, options, &binary, loaded).await?;
        let restored = report.not_restored.is_none();
        reports.push(report);
        if !restored {
            break; // The next one would begin on a cluster that is not well.
        }
    }
    let failed: Vec<&str> = reports
        .iter()
        .filter(|report| !report.passed)
        .map(|report| report.name.as_str())
        .collect();
    let seconds = started.elapsed().as_secs_f64();
    if options.output == Output::Json {
        let passed = failed.is_empty() && reports.len() == scenarios.len();
        out::json(&json!({
            "cluster": context.cluster.name, "passed": passed, "seconds": seconds,
            "scenarios": reports,
        }))?;
    }
    if failed.is_empty() {
        if options.output == Output::Text && reports.len() > 1 {
            out::line(&format!(
                "all {} scenarios passed in {seconds:.1} s",
                reports.len()
            ))?;
        }
        return Ok(());
    }
    let not_run = scenarios.len() - reports.len();
    let rest = if not_run > 0 {
        format!("; {not_run} not run")
    } else {
        String::new()
    };
    Err(Error::CheckFailed(format!(
        "failed: {}{rest}",
        failed.join(", ")
    )))
}

/// Plays one scenario and puts the cluster back, also after Ctrl-C.
async fn run_one(
    context: &Context,
    options: &Options,
    binary: &Binary,
    loaded: &Loaded,
) -> Result<ScenarioReport> {
    let scenario = &loaded.scenario;
    let is_text = options.output == Output::Text;
    if is_text {
        out::line(&format!("{}: {}", scenario.name, scenario.title))?;
    }
    let started = Instant::now();
    let run = format!("{:08x}", rand::random::<u32>());
    let mut runner = Runner::new(context, binary, loaded, &run);
    let mut steps = Vec::new();
    let mut printed = Ok(());
    let tell = |report: outcome::StepReport| {
        if is_text && printed.is_ok() {
            printed = out::print(&report.text(&loaded.source));
        }
        steps.push(report);
    };
    let interrupted = tokio::select! {
        _ = runner.play(loaded, tell) => false,
        () = interruption() => true,
    };
    if interrupted {
        eprintln!("interrupted: putting the cluster back (Ctrl-C again leaves it as it is)");
    }
    let restored = tokio::select! {
        restored = restore::restore(context, binary, &runner.touched) => restored,
        () = interruption() => Err(Error::Other("interrupted".into())),
    };
    printed?;
    if interrupted {
        return Err(after_interruption(restored));
    }
    let not_restored = restored.err().map(|error| error.to_string());
    let passed = not_restored.is_none() && steps.iter().all(|step| step.passed);
    let seconds = started.elapsed().as_secs_f64();
    if is_text {
        if let Some(cause) = &not_restored {
            out::line(&format!("  the cluster could not be put back: {cause}"))?;
        }
        let verdict = if passed { "passed" } else { "FAILED" };
        out::line(&format!("{verdict}: {} in {seconds:.1} s\n", scenario.name))?;
    }
    Ok(ScenarioReport {
        name: scenario.name.clone(),
        number: scenario.number,
        title: scenario.title.clone(),
        passed,
        seconds,
        steps,
        not_restored,
    })
}

fn after_interruption(restored: Result<()>) -> Error {
    match restored {
        Ok(()) => Error::Other("interrupted; the cluster is as it was before".into()),
        Err(error) => Error::Other(format!(
            "interrupted, and the cluster could not be put back: {error}\n  next: raftctl up"
        )),
    }
}

/// Ctrl-C, or SIGTERM. Where signals can't be had, never.
async fn interruption() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
