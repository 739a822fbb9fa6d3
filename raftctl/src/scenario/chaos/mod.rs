//! Chaos: clients read and write while faults strike, and a checker judges what they saw.
//!
//! Which faults come when follows from the seed; what the cluster makes of them does not. So a
//! seed repeats the circumstances, and the history that was recorded is what can be judged again.

mod inject;
mod members;
mod plan;
mod report;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use checker::History;
use clap::ValueEnum;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::restore::after_interruption;
use super::restore::{self, Ending};
use super::seen;
use super::verdict::{self, CHECK_MAX, VerdictReport};
use crate::error::{Error, Result};
use crate::local::binary::Binary;
use crate::local::folder_lock::FolderLock;
use crate::local::interrupt::Interruptions;
use crate::ops::Context;
use crate::ops::guests::Guests;
use crate::ops::{store, timeline};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::text::words::counted;
use crate::workload::{self, Availability, Kind as Asked, Workload};
use inject::{Injected, Injector};
use members::{Changed, Changes};
use plan::{Kind, Planned};
use report::Report;

/// The flags of `scenario chaos`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Decides which faults come when, and what the clients do [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// For how long faults are injected
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = crate::text::times::parse)]
    duration: Duration,
    /// How many clients, each with one operation at a time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    clients: u64,
    /// How many keys they share: the fewer, the more often they meet
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    keys: u64,
    /// Kinds of faults, separated by commas, or none: kill, pause, partition, restart-all, and
    /// member: nodes join, are replaced and leave meanwhile (with provider ssh on hosts of `ssh.spare`)
    #[arg(
        long,
        value_name = "KINDS",
        default_value = "kill,pause,partition,restart-all"
    )]
    faults: String,
}

impl Arguments {
    fn kinds(&self, context: &Context) -> Result<Vec<Kind>> {
        if self.faults == "none" {
            return Ok(vec![]);
        }
        let kind = |word: &str| {
            Kind::from_str(word.trim(), true).map_err(|_| {
                Error::Usage(format!(
                    "--faults: {word:?} is none; there are kill, pause, partition, restart-all, \
                     member and none"
                ))
            })
        };
        let kinds = self
            .faults
            .split(',')
            .map(kind)
            .collect::<Result<Vec<Kind>>>()?;
        if kinds.contains(&Kind::Partition) && !context.cluster.fault_injection {
            return Err(Error::Usage(
                "--faults partition: cluster.yaml forbids it; write fault_injection: true there \
                 and run `raftctl up`, or name other faults"
                    .into(),
            ));
        }
        if kinds.contains(&Kind::Member) {
            Guests::room(context)?;
        }
        Ok(kinds)
    }

    /// The faults to come. A run in which nothing can happen would be judged well for nothing.
    fn plan(&self, seed: u64, kinds: &[Kind], context: &Context) -> Result<Vec<Planned>> {
        let length = humantime::format_duration(self.duration);
        if self.duration.is_zero() {
            return Err(Error::Usage(format!(
                "--duration {length}: nothing could happen; leave it out for a minute, or write \
                 another one, as in 30s"
            )));
        }
        let timing = &context.cluster.timing;
        // Members change beside all others.
        let strike = kinds.iter().copied().filter(|kind| *kind != Kind::Member);
        let kinds: &[Kind] = &strike.collect::<Vec<_>>();
        let planned = plan::plan(seed, self.duration, kinds, timing);
        if planned.is_empty() && !kinds.is_empty() {
            let enough = humantime::format_duration(plan::enough_for_one(timing));
            return Err(Error::Usage(format!(
                "--duration {length}: no fault of seed {seed} fits into that; {enough} are enough \
                 for one whatever the seed (or say --faults none)"
            )));
        }
        Ok(planned)
    }
}

/// Runs it, and ends with a verdict.
///
/// # Errors
/// Not linearizable, undecided, or the cluster could not be put back; or it is not up.
pub async fn run(context: &Context, options: &Options, arguments: Arguments) -> Result<()> {
    let kinds = arguments.kinds(context)?;
    let seed = arguments
        .seed
        .unwrap_or_else(|| rand::random_range(0..1_000_000));
    let planned = arguments.plan(seed, &kinds, context)?;
    let mut interruptions = Interruptions::new();
    let _lock = FolderLock::take(&context.cluster, "scenario chaos").await?;
    let binary = restore::prepare(context, &mut interruptions).await?;
    let chaos = Chaos {
        context,
        options,
        binary: &binary,
        seed,
        folder: folder(context, seed)?,
        arguments: &arguments,
        planned,
        changes: kinds.contains(&Kind::Member).then(Changes::default),
        progress: Progress::new(),
    };
    let report = chaos.run(&mut interruptions).await?;
    match options.output {
        Output::Text => out::print(&report.text())?,
        Output::Json => out::json(&serde_json::json!(report))?,
    }
    if report.passed() {
        return Ok(());
    }
    if report.verdict.is_linearizable() && report.changed_nothing() {
        return Err(Error::CheckFailed(format!(
            "no change of members completed, so nothing is shown of them; a longer --duration, or fewer --faults, \
             leaves them time; all that is needed to look into it is in {}",
            report.folder.display()
        )));
    }
    Err(Error::CheckFailed(format!(
        "{}; all that is needed to look into it is in {}",
        report.verdict.verdict.replace('_', " "),
        report.folder.display()
    )))
}

/// A new folder for the report, `seed-7`; beside those of earlier runs of the same seed, `seed-7-2`.
fn folder(context: &Context, seed: u64) -> Result<PathBuf> {
    /// Each holds megabytes: somebody has to tidy up long before.
    const RUNS_MAX: u32 = 1000;
    let chaos = context.cluster.state_dir().join("chaos");
    std::fs::create_dir_all(&chaos)
        .map_err(|error| Error::file("make the folder", &chaos, &error))?;
    for run in 1..=RUNS_MAX {
        let folder = chaos.join(match run {
            1 => format!("seed-{seed}"),
            run => format!("seed-{seed}-{run}"),
        });
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file("make the folder", &folder, &error)),
        }
    }
    Err(Error::Usage(format!(
        "{RUNS_MAX} runs of seed {seed} are in {}; delete some, or take another seed",
        chaos.display()
    )))
}

/// One run.
struct Chaos<'a> {
    context: &'a Context,
    options: &'a Options,
    binary: &'a Binary,
    arguments: &'a Arguments,
    seed: u64,
    folder: PathBuf,
    planned: Vec<Planned>,
    /// Where members are to change meanwhile: those changes.
    changes: Option<Changes>,
    progress: Progress,
}

impl Chaos<'_> {
    async fn run(&self, interruptions: &mut Interruptions) -> Result<Report> {
        let keys = self.keys();
        let began = SystemTime::now();
        let workload = Workload::start(store::members(self.context), self.settings(&keys));
        self.say(&format!(
            "{} on {}, {} planned, seed {}\n",
            counted(self.arguments.clients, "client"),
            counted(keys.len() as u64, "key"),
            counted(self.planned.len() as u64, "fault"),
            self.seed
        ))?;
        let mut faults = Vec::new();
        let struck = tokio::select! {
            struck = self.strike_all(&workload, &mut faults) => Some(struck),
            failed = self.change_members(&workload) => Some(failed),
            () = interruptions.next() => None,
        };
        let mut interrupted = struck.is_none();
        if interrupted {
            Ending::PuttingBack.tell_interruption();
        }
        let restoring = restore::restore(self.context, self.binary);
        let restored = restore::despite_interruption(
            Ending::PuttingBack,
            restoring,
            interruptions,
            &mut interrupted,
        )
        .await;
        let history = match restored {
            Ok(()) if !interrupted => workload.finish().await,
            _ => workload.cut_off(),
        };
        report::write_history(&history, &self.folder)?;
        let removing = self.remove(&keys, restored);
        let restored = restore::despite_interruption(
            Ending::RemovingKeys,
            removing,
            interruptions,
            &mut interrupted,
        )
        .await;
        let Some(struck) = struck.filter(|_| !interrupted) else {
            return Err(after_interruption(restored));
        };
        // Only the verdict is lost from here on.
        let left = restored.clone();
        tokio::select! {
            report = self.conclude(struck, (began, history), faults, restored) => report,
            () = interruptions.next() => Err(after_interruption(left)),
        }
    }

    /// Fetches what the nodes say, and judges what the clients saw.
    async fn conclude(
        &self,
        struck: Result<()>,
        history: (SystemTime, History),
        faults: Vec<Injected>,
        restored: Result<()>,
    ) -> Result<Report> {
        report::fetch(self.context, &self.folder).await;
        struck?;
        self.judge(history, faults, restored).await
    }

    /// Changes members for as long as the run lasts, if that was asked for.
    async fn change_members(&self, workload: &Workload) -> Result<()> {
        let Some(changes) = &self.changes else {
            return std::future::pending().await;
        };
        let guests = Guests {
            home: self.context,
            binary: self.binary,
            patience: members::PATIENCE,
            progress: &self.progress,
        };
        let tell = |changed: &Changed| self.say(&changed.text());
        members::go_on(&guests, self.seed, workload.started(), changes, tell).await
    }

    /// Every fault in its time, and each undone; returns when the time is over.
    async fn strike_all(&self, workload: &Workload, faults: &mut Vec<Injected>) -> Result<()> {
        let injector = Injector {
            context: self.context,
            binary: self.binary,
            started: workload.started(),
        };
        let mut random = SmallRng::seed_from_u64(self.seed);
        let ids = self.context.cluster.ids();
        for fault in &self.planned {
            tokio::time::sleep_until(workload.started() + fault.at).await;
            let leader = self.context.leader().await;
            let nodes = plan::victims(fault.target, &ids, leader, &mut random);
            if nodes.is_empty() {
                continue; // A cluster of one has no followers.
            }
            faults.push(injector.strike(fault, nodes, leader).await?);
            tokio::time::sleep(fault.length).await;
            if let Some(injected) = faults.last_mut() {
                injector.undo(fault, injected).await?;
                self.say(&injected.text())?;
            }
        }
        tokio::time::sleep_until(workload.started() + self.arguments.duration).await;
        Ok(())
    }

    /// Removes the keys of the run, if the cluster is well again.
    async fn remove(&self, keys: &[String], restored: Result<()>) -> Result<()> {
        restored?;
        restore::remove(self.context, keys).await
    }

    /// `history` with the moment at which its clients began.
    async fn judge(
        &self,
        (began, history): (SystemTime, History),
        faults: Vec<Injected>,
        restored: Result<()>,
    ) -> Result<Report> {
        self.say(&format!(
            "checking {}\n",
            counted(history.len() as u64, "operation")
        ))?;
        let (history, verdict) = workload::verdict(history, CHECK_MAX).await;
        let length = self.arguments.duration;
        let cluster = &self.context.cluster;
        let clients = seen::clients(began, length, &history, &verdict);
        let title = format!("{}: chaos, seed {}", cluster.name, self.seed);
        let fetched = timeline::nodes_in(&self.folder)?;
        let report = Report {
            cluster: cluster.name.clone(),
            provider: cluster.provider.name(),
            nodes: cluster.nodes.len(),
            seed: self.seed,
            seconds: length.as_secs_f64(),
            clients: self.arguments.clients,
            verdict: VerdictReport::new(&history, &verdict),
            reads: Availability::of(history.operations(), Asked::Reads, length),
            writes: Availability::of(history.operations(), Asked::Writes, length),
            faults,
            changes: self.changes.as_ref().map(Changes::list),
            not_restored: restored.err().map(|error| error.to_string()),
            timeline: seen::draw(&self.folder, &fetched, &title, &clients),
            folder: self.folder.clone(),
        };
        report::write(&report, &self.folder)?;
        Ok(report)
    }

    fn keys(&self) -> Vec<String> {
        let run = format!("{:08x}", rand::random::<u32>());
        let key = |number: u64| format!("chaos/{run}/{number}");
        (0..self.arguments.keys).map(key).collect()
    }

    fn settings(&self, keys: &[String]) -> workload::Settings {
        workload::Settings {
            clients: self.arguments.clients,
            keys: keys.to_vec(),
            seed: self.seed,
            pause_max: Duration::from_millis(20),
            timeout: verdict::client_timeout(&self.context.cluster.timing),
            read_timeout: verdict::read_timeout(&self.context.cluster.timing),
        }
    }

    fn say(&self, text: &str) -> Result<()> {
        match self.options.output {
            Output::Text => out::print(text),
            Output::Json => Ok(()),
        }
    }
}
