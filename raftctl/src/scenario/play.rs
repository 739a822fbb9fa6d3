//! Plays scenarios one after the other. Beside each, clients read and write keys of their own, and
//! what they saw is checked: a fault that a scenario injects must not make anybody else read
//! something wrong.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::file::Loaded;
use super::outcome::{ScenarioReport, StepReport, WorkloadReport};
use super::restore::after_interruption;
use super::restore::{self, Ending};
use super::runner::Runner;
use super::seen;
use super::verdict::{self, CHECK_MAX, VerdictReport};
use crate::error::{Error, Result};
use crate::local::binary::Binary;
use crate::local::folder_lock::FolderLock;
use crate::local::interrupt::Interruptions;
use crate::ops::Context;
use crate::ops::files::DUMP;
use crate::ops::store;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::timeline::Clients;
use crate::workload::{self, Availability, Kind, Workload};
use checker::History;

/// Keys that the clients beside a scenario share.
const KEYS: u64 = 5;

/// They work at a walking pace: the scenario is what is looked at.
const PAUSE_MAX: Duration = Duration::from_millis(60);

/// Plays all of them, and tells whether all passed.
///
/// # Errors
/// One failed, the cluster is not up, or it was interrupted.
pub async fn all(
    context: &Context,
    options: &Options,
    scenarios: &[Loaded],
    clients: u64,
) -> Result<()> {
    for loaded in scenarios {
        restore::check_size(context, loaded.scenario.nodes)?;
    }
    let mut interruptions = Interruptions::new();
    let _lock = FolderLock::take(&context.cluster, "scenario").await?;
    let binary = restore::prepare(context, &mut interruptions).await?;
    let stage = Stage {
        context,
        options,
        binary: &binary,
        clients,
    };
    let started = Instant::now();
    let mut reports = Vec::new();
    for loaded in scenarios {
        let report = stage.play(loaded, &mut interruptions).await?;
        let restored = report.not_restored.is_none();
        reports.push(report);
        if !restored {
            break; // The next one would begin on a cluster that is not well.
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let not_played = scenarios.len() - reports.len();
    summarize(&stage, &reports, not_played, seconds)
}

fn summarize(
    stage: &Stage<'_>,
    reports: &[ScenarioReport],
    not_played: usize,
    seconds: f64,
) -> Result<()> {
    let failed = reports.iter().filter(|report| !report.passed);
    let failed: Vec<&str> = failed.map(|report| report.name.as_str()).collect();
    match stage.options.output {
        Output::Json => out::json(&json!({
            "cluster": stage.context.cluster.name,
            "passed": failed.is_empty(),
            "seconds": seconds,
            "scenarios": reports,
        }))?,
        Output::Text if failed.is_empty() && reports.len() > 1 => {
            out::line(&format!(
                "all {} scenarios passed in {seconds:.1} s",
                reports.len()
            ))?;
        }
        Output::Text => {}
    }
    if failed.is_empty() {
        return Ok(());
    }
    let rest = match not_played {
        0 => String::new(),
        count => format!("; {count} not played"),
    };
    Err(Error::CheckFailed(format!(
        "failed: {}{rest}",
        failed.join(", ")
    )))
}

/// What became of the steps of a scenario.
struct Acted {
    steps: Vec<StepReport>,
    /// The keys that it has written, or may have.
    touched: BTreeSet<String>,
    took: Duration,
    interrupted: bool,
    /// Whether everything could be printed.
    said: Result<()>,
}

/// What scenarios are played on.
struct Stage<'a> {
    context: &'a Context,
    options: &'a Options,
    binary: &'a Binary,
    clients: u64,
}

impl Stage<'_> {
    /// Plays one scenario and puts the cluster back, also after Ctrl-C.
    async fn play(
        &self,
        loaded: &Loaded,
        interruptions: &mut Interruptions,
    ) -> Result<ScenarioReport> {
        let scenario = &loaded.scenario;
        self.say(&format!("{}: {}\n", scenario.name, scenario.title))?;
        let started = Instant::now();
        let run = format!("{:08x}", rand::random::<u32>());
        let began = SystemTime::now();
        let background = self.background(&run);
        let acted = self.act(loaded, &run, interruptions).await;
        let mut interrupted = acted.interrupted;
        let restored = self
            .put_back(
                (began, background),
                &acted,
                &run,
                interruptions,
                &mut interrupted,
            )
            .await;
        acted.said?;
        if interrupted {
            return Err(after_interruption(restored.map(drop)));
        }
        let (seen, not_restored) = match restored {
            Ok(seen) => (seen, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (workload, clients) = seen.unzip();
        let timeline = tokio::select! {
            timeline = self.draw(&scenario.name, clients.unwrap_or_default()) => timeline,
            () = interruptions.next() => None,
        };
        let linearizable = workload
            .as_ref()
            .is_none_or(|workload| workload.verdict.is_linearizable());
        let steps_passed = acted.steps.iter().all(|step| step.passed);
        let report = ScenarioReport {
            name: scenario.name.clone(),
            number: scenario.number,
            title: scenario.title.clone(),
            passed: not_restored.is_none() && linearizable && steps_passed,
            seconds: started.elapsed().as_secs_f64(),
            steps: acted.steps,
            workload,
            timeline,
            not_restored,
        };
        self.say(&report.ending())?;
        Ok(report)
    }

    /// Draws what happened, beside the files of the scenario.
    async fn draw(&self, scenario: &str, clients: Clients) -> Option<PathBuf> {
        let cluster = &self.context.cluster;
        let folder = cluster.state_dir().join("scenario").join(scenario);
        let fetched = self.context.fetch(&cluster.ids(), &[DUMP], &folder).await;
        let mut ids = Vec::new();
        for (id, outcome) in fetched {
            match outcome {
                Ok(_) => ids.push(id),
                Err(error) => out::say(&format!(
                    "warning: node {id} is not in the timeline: {error}"
                )),
            }
        }
        let title = format!("{}: {scenario}", cluster.name);
        seen::draw(&folder, &ids, &title, &clients)
    }

    /// Takes the steps, up to the first that is not as expected or the interruption. Whatever
    /// happens, it is told by value: the cluster has to be put back first.
    async fn act(&self, loaded: &Loaded, run: &str, interruptions: &mut Interruptions) -> Acted {
        let started = Instant::now();
        let mut runner = Runner::new(self.context, self.binary, loaded, run);
        let (mut steps, mut said) = (Vec::new(), Ok(()));
        let tell = |report: StepReport| {
            if said.is_ok() {
                said = self.say(&report.text(&loaded.source));
            }
            steps.push(report);
        };
        let interrupted = tokio::select! {
            _ = runner.play(loaded, tell) => false,
            () = interruptions.next() => true,
        };
        if interrupted {
            Ending::PuttingBack.tell_interruption();
        }
        Acted {
            steps,
            touched: runner.touched,
            took: started.elapsed(),
            interrupted,
            said,
        }
    }

    /// Puts the cluster back, judges what the clients saw unless that was interrupted, and removes
    /// all keys.
    async fn put_back(
        &self,
        (began, background): (SystemTime, Workload),
        acted: &Acted,
        run: &str,
        interruptions: &mut Interruptions,
        interrupted: &mut bool,
    ) -> Result<Option<(WorkloadReport, Clients)>> {
        let restoring = restore::restore(self.context, self.binary);
        restore::despite_interruption(Ending::PuttingBack, restoring, interruptions, interrupted)
            .await?;
        // Its clients end before their keys do: a write under way would bring its key back.
        let finishing = async { Ok(background.finish().await) };
        let history = restore::despite_interruption(
            Ending::RemovingKeys,
            finishing,
            interruptions,
            interrupted,
        )
        .await?;
        let workload = match *interrupted {
            true => None,
            false => tokio::select! {
                workload = judge(began, history, acted.took) => Some(workload),
                () = interruptions.next() => {
                    *interrupted = true;
                    Ending::RemovingKeys.tell_interruption();
                    None
                }
            },
        };
        let keys = self.keys(run);
        let removing = restore::remove(self.context, acted.touched.iter().chain(&keys));
        restore::despite_interruption(Ending::RemovingKeys, removing, interruptions, interrupted)
            .await?;
        Ok(workload)
    }

    fn background(&self, run: &str) -> Workload {
        let settings = workload::Settings {
            clients: self.clients,
            keys: self.keys(run),
            seed: rand::random(),
            pause_max: PAUSE_MAX,
            timeout: verdict::client_timeout(&self.context.cluster.timing),
            read_timeout: verdict::read_timeout(&self.context.cluster.timing),
        };
        Workload::start(store::members(self.context), settings)
    }

    /// The keys of the clients beside a run; none without clients.
    fn keys(&self, run: &str) -> Vec<String> {
        let keys = if self.clients == 0 { 0 } else { KEYS };
        (0..keys)
            .map(|number| format!("scenario/background/{run}/{number}"))
            .collect()
    }

    fn say(&self, text: &str) -> Result<()> {
        match self.options.output {
            Output::Text => out::print(text),
            Output::Json => Ok(()),
        }
    }
}

/// Judges the history of a workload; and what a timeline shows of it.
async fn judge(began: SystemTime, history: History, length: Duration) -> (WorkloadReport, Clients) {
    let (history, verdict) = workload::verdict(history, CHECK_MAX).await;
    let report = WorkloadReport {
        verdict: VerdictReport::new(&history, &verdict),
        reads: Availability::of(history.operations(), Kind::Reads, length),
        writes: Availability::of(history.operations(), Kind::Writes, length),
    };
    (report, seen::clients(began, length, &history, &verdict))
}
