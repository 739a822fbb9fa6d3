//! Scenarios: files of steps and expectations, played against a running cluster.
//!
//! ```text
//! file       the built-in files, or one at a path -> Scenario, checked
//! notation   what a file may say                amounts    its times and counts
//! runner     plays it: acts, asks, expects      dumps      what dump.txt proves
//! play       one after the other, with a workload beside it whose history is checked
//! restore    puts the cluster back as it was    outcome    what became of each step
//! chaos      seeded faults instead of a file    verdict    of the checker; seen: what a timeline shows of it
//! ```
//! A scenario uses the cluster that runs, and its own keys (`scenario/...`), which it removes. At
//! the end, and when it is interrupted, every node runs again and every fault is healed.

mod acts;
mod amounts;
mod asks;
mod chaos;
mod describe;
mod dumps;
mod expects;
mod fetch;
mod file;
mod guests;
mod notation;
mod outcome;
mod play;
mod restore;
mod runner;
mod seen;
mod verdict;

use clap::Subcommand;
use serde_json::json;

use crate::error::{Error, Result};
use crate::ops::Context;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use file::Loaded;

/// The flags of `scenario`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Play scenarios on a cluster that is up; say whether all was as expected
    ///
    /// Nodes are killed and started again. At the end, and after Ctrl-C, all of them run. Ends
    /// with exit code 40 if something was not as expected.
    #[command(after_help = "Examples:
  raftctl scenario run all
  raftctl scenario run leader-failure
  raftctl scenario run grow-and-shrink
  raftctl scenario run ./my-scenario.yaml")]
    Run {
        /// A name, a number, the path of a file, or all: those with a number
        #[arg(value_name = "SCENARIO", required = true)]
        scenarios: Vec<String>,
        /// How many clients read and write meanwhile; what they see is checked, too
        #[arg(long, value_name = "N", default_value_t = 4)]
        #[arg(value_parser = clap::value_parser!(u64).range(0..=100))]
        clients: u64,
    },
    /// Inject random faults while clients read and write, and judge what they saw
    ///
    /// Prints whether the history is linearizable and how available reads and writes were. Each
    /// run writes a folder of its own, with the history, the nodes' files and a report. Ends with
    /// exit code 40 unless the history is linearizable. At the end, and after Ctrl-C, every fault
    /// is undone.
    #[command(after_help = "Examples:
  raftctl scenario chaos
  raftctl scenario chaos --seed 7 --duration 60s --clients 20
  raftctl scenario chaos --faults pause,partition --clients 50")]
    Chaos(chaos::Arguments),
    /// Judge once more a history that a chaos run has recorded
    #[command(after_help = "Example:
  raftctl scenario verify .raftctl/demo/chaos/seed-7/history.jsonl")]
    Verify {
        /// The file history.jsonl in the folder of the run
        #[arg(value_name = "FILE")]
        history: std::path::PathBuf,
    },
    /// List the built-in scenarios
    #[command(after_help = "Example:
  raftctl scenario list")]
    List,
    /// Print a scenario's file, to read or to start your own from
    ///
    /// A file is a list of steps. Some do something: wait_for_leader, choose, kill, stop, start,
    /// pause, resume, partition, heal, add, remove, replace, transfer, mark, set, get. Others expect
    /// something: expect_one_leader, expect_no_leader, expect_members, expect_role, expect_log, expect_state, expect_counters, expect_dump,
    /// expect_lease_expiry. The project's page docs/scenarios.md explains each.
    #[command(after_help = "Examples:
  raftctl scenario show lease-timeout
  raftctl scenario show 4 > my-scenario.yaml")]
    Show {
        /// A name, a number, or all
        #[arg(value_name = "SCENARIO")]
        scenario: String,
    },
}

impl Arguments {
    /// Whether there has to be a cluster: not to list or show files, or to judge a history.
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        matches!(self.command, Command::Run { .. } | Command::Chaos(_))
    }
}

/// Runs scenarios on a cluster.
///
/// # Errors
/// A scenario failed, can't be read, or the cluster is not up.
pub async fn run(context: &Context, options: &Options, arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Run { scenarios, clients } => {
            let mut loaded = Vec::new();
            for word in &scenarios {
                loaded.extend(file::find(word)?);
            }
            play::all(context, options, &loaded, clients).await
        }
        Command::Chaos(arguments) => chaos::run(context, options, arguments).await,
        _ => without_cluster(options, arguments).await,
    }
}

/// Lists or shows scenarios, or judges a history.
///
/// # Errors
/// There is no such scenario or file; a history is not linearizable.
pub async fn without_cluster(options: &Options, arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::List => list(options),
        Command::Show { scenario } => {
            let loaded = file::find(&scenario)?;
            show(options, &loaded)
        }
        Command::Verify { history } => verdict::verify(options, &history).await,
        Command::Run { .. } | Command::Chaos(_) => Err(Error::Usage(
            "this needs a cluster.yaml: raftctl init writes one".into(),
        )),
    }
}

fn show(options: &Options, scenarios: &[Loaded]) -> Result<()> {
    if options.output == Output::Json {
        let one = |loaded: &Loaded| {
            let scenario = &loaded.scenario;
            let steps = scenario.steps.iter().map(|step| step.value.to_string());
            json!({
                "name": scenario.name,
                "number": scenario.number,
                "title": scenario.title,
                "nodes": scenario.nodes,
                "steps": steps.collect::<Vec<_>>(),
                "text": loaded.text,
            })
        };
        return out::json(&scenarios.iter().map(one).collect());
    }
    let texts: Vec<&str> = scenarios
        .iter()
        .map(|loaded| loaded.text.as_str())
        .collect();
    out::print(&texts.join("\n---\n"))
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
