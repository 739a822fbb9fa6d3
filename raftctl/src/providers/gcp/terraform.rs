//! Terraform in the cluster's folder: what is asked of it, and what its answers mean.
//!
//! How one is run, and what an interruption does to it, is told in `running`. No deadline is set to one
//! that changes something: to end it loses what it is at, and Google's provider bounds each operation
//! at 20 minutes by itself.

mod state_file;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::causes::{Cause, Names};
use super::environment;
use super::events::{self, Event};
use super::plugins::Cache;
pub use super::running::Watch;
use super::running::{self, Effect, Outcome, Written};
use super::state::State;
use super::tool::Tool;
use crate::cluster::gcp::GcpSettings;
use crate::error::{Error, Result};
use crate::scripts::shell::quote;

/// A lock in a bucket may have been left by one that was killed: longer, and the operator should know.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// The lock of a file is that of a process that lives, and does what it must: Google's provider gives an
/// operation so long at most.
const FILE_LOCK_WAIT: Duration = Duration::from_secs(20 * 60);

/// The exit code of `plan -detailed-exitcode` when there is something to do.
const CHANGES: i32 = 2;

/// Reading a state takes a second, and some more from a bucket.
const STATE_TIME_MAX: Duration = Duration::from_secs(60);

/// After so long it is said what an `init` is at, and how often again: it says nothing itself.
const INIT_TELL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// What the last change said, event by event, until it has ended well; and after that.
pub(super) const RECORD: &str = "events.jsonl";
const LAST_RECORD: &str = "events.last.jsonl";

/// Terraform in one folder.
#[derive(Debug, Clone)]
pub struct Terraform {
    tool: Tool,
    directory: PathBuf,
    project: String,
    bucket: String,
    /// How long it waits for another Terraform that works on the same state.
    lock_wait: Duration,
    /// The command that goes on where this one ends.
    again: &'static str,
}

/// Why an apply did not do all that it should.
#[derive(Debug)]
pub struct Unfinished {
    /// The causes, each with the next command.
    pub error: Error,
    /// The operator ended it.
    pub is_interrupted: bool,
}

/// A plan's file, in the cluster's folder: with the process that made it between these, so that
/// nobody ever applies another one's.
const PLAN_NAME: [&str; 2] = ["raftctl-", ".tfplan"];

impl Terraform {
    /// Terraform in `directory`, for a cluster with these settings. It waits for another one that
    /// works on the same state as long as `lock_wait` says, or as the kind of the lock suggests.
    /// `again` is the command that goes on where it is interrupted.
    #[must_use]
    pub fn new(
        tool: Tool,
        directory: &Path,
        settings: &GcpSettings,
        lock_wait: Option<Duration>,
        again: &'static str,
    ) -> Self {
        let usual = match settings.state_bucket {
            Some(_) => LOCK_WAIT,
            None => FILE_LOCK_WAIT,
        };
        Terraform {
            tool,
            directory: directory.to_owned(),
            project: settings.project.clone().unwrap_or_default(),
            bucket: settings.state_bucket.clone().unwrap_or_default(),
            lock_wait: lock_wait.unwrap_or(usual),
            again,
        }
    }

    /// Fetches the provider and prepares the state.
    ///
    /// # Errors
    /// The registry or the state can't be reached, or a damaged state can't be set aside.
    pub async fn init(&self, watch: Watch<'_>) -> Result<()> {
        if let Some(aside) = state_file::set_aside(&self.directory).await? {
            watch(&Event::Note(format!(
                "Terraform's state is damaged, as by an end while it was written; it is {} now, and what Google has is taken in again",
                aside.display()
            )));
        }
        let cache = Cache::take(&mut |text| watch(&Event::Note(text))).await?;
        if let Some(cache) = &cache {
            cache.prepare(&self.directory);
        }
        let mut outcome = self.init_once(cache.as_ref(), &mut *watch).await?;
        let is_interrupted = outcome.interruptions > 0;
        if outcome.code != Some(0)
            && !is_interrupted
            && cache
                .as_ref()
                .is_some_and(|cache| cache.take_back_checksums(&self.directory))
        {
            // They may be those of a provider that is too old for this module.
            outcome = self.init_once(cache.as_ref(), &mut *watch).await?;
        }
        self.succeeded("prepare Terraform", &outcome)?;
        if let Some(cache) = cache {
            cache.remember(&self.directory);
        }
        Ok(())
    }

    async fn init_once(&self, cache: Option<&Cache>, watch: Watch<'_>) -> Result<Outcome> {
        let mut command = self.command(&["init", "-input=false", "-no-color"]);
        if let Some(cache) = cache {
            command.env("TF_PLUGIN_CACHE_DIR", &cache.folder);
        }
        let files = Written {
            out: self.scratch("out")?,
            errors: self.scratch("err")?,
            // Where raftctl is killed, the cache is locked as long as this writes to it.
            input: cache.and_then(Cache::hold),
        };
        let preparing = running::run(command, Effect::Reads, self.again, files, None);
        let tell = |waited: Duration| {
            watch(&Event::Note(format!(
                "waiting until Terraform is prepared, for {} s: Google's provider, a hundred megabytes, is fetched where \
                 it is not here yet{}",
                waited.as_secs(),
                match self.bucket.as_str() {
                    "" => String::new(),
                    bucket => format!(", and the state in bucket {bucket} is looked at"),
                }
            )));
        };
        super::gcloud::wait_and_tell(preparing, INIT_TELL, tell).await
    }

    /// Makes a plan and keeps it; whether it changes anything.
    ///
    /// # Errors
    /// Terraform finds something wrong.
    pub async fn plan(&self, destroy: bool, watch: Watch<'_>) -> Result<bool> {
        self.tidy();
        let out = format!("-out={}", plan_file());
        let mut arguments = vec!["plan", "-json", "-input=false", "-detailed-exitcode", &out];
        if destroy {
            arguments.push("-destroy");
        }
        let outcome = self.when_free(&arguments, Effect::Reads, watch).await?;
        if outcome.code == Some(CHANGES) && outcome.interruptions == 0 {
            return Ok(true);
        }
        self.succeeded("plan the infrastructure", &outcome)
            .map(|()| false)
    }

    /// The plan that was kept, as JSON.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn show(&self) -> Result<String> {
        let outcome = self.read(&["show", "-json", &plan_file()]).await?;
        self.succeeded("read the plan", &outcome)?;
        Ok(outcome.stdout)
    }

    /// The state as it is kept; nothing where there is none yet.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn pull(&self) -> Result<String> {
        if !self.may_have_state() {
            return Ok(String::new());
        }
        let outcome = self.read(&["state", "pull"]).await?;
        self.succeeded("read Terraform's state", &outcome)?;
        Ok(outcome.stdout)
    }

    /// Whether there may be a state: it is in a bucket, or in a file here, which is another one where somebody has
    /// chosen a workspace.
    fn may_have_state(&self) -> bool {
        let files = ["terraform.tfstate", "terraform.tfstate.d"];
        let is_here = files.iter().any(|name| self.directory.join(name).exists());
        is_here || !self.bucket.is_empty()
    }

    /// What is there, as far as the state knows.
    ///
    /// # Errors
    /// The state can't be read.
    pub async fn state(&self) -> Result<State> {
        let outcome = self.read(&["show", "-json"]).await?;
        self.succeeded("read Terraform's state", &outcome)?;
        State::read(&outcome.stdout)
    }

    /// The same for those who only look on: Ctrl-C ends it, and raftctl with it.
    ///
    /// # Errors
    /// As above; it takes too long.
    pub async fn state_briefly(&self) -> Result<State> {
        if state_file::is_damaged(&self.directory) {
            return Err(Error::Cloud(
                "Terraform's state is damaged, as by an end while it was written; `raftctl up` (or `raftctl down`) sets it \
                 aside, and looks at Google for what it knew"
                    .into(),
            ));
        }
        let mut command = self.command(&["show", "-json", "-no-color"]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(STATE_TIME_MAX, command.output()).await;
        let terraform = self.by_hand();
        let cannot = |cause: &str| {
            Error::Cloud(format!(
                "cannot read Terraform's state: {cause}; `{terraform} show` tells more"
            ))
        };
        let output = match output {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(cannot(&error.to_string())),
            Err(_) => return Err(cannot("it does not end")),
        };
        if !output.status.success() {
            return Err(cannot(String::from_utf8_lossy(&output.stderr).trim()));
        }
        State::read(&String::from_utf8_lossy(&output.stdout))
    }

    /// Does what the plan that was kept says.
    ///
    /// # Errors
    /// Some or all of it failed, or the operator asked for an end; what was done is in the state.
    pub async fn apply(&self, watch: Watch<'_>) -> Result<(), Unfinished> {
        let plan = plan_file();
        let arguments = ["apply", "-json", "-input=false", &plan];
        let outcome = self.when_free(&arguments, Effect::Changes, watch).await;
        // A plan can be applied once.
        let _ = std::fs::remove_file(self.directory.join(&plan));
        let interruptions = outcome.as_ref().map_or(0, |outcome| outcome.interruptions);
        let done =
            outcome.and_then(|outcome| self.succeeded("change the infrastructure", &outcome));
        done.map_err(|error| Unfinished {
            error,
            is_interrupted: interruptions > 0,
        })
    }

    /// Remembers that all has ended well: the state has all that Google has.
    pub fn settle(&self) {
        let [record, last] = [RECORD, LAST_RECORD].map(|name| self.directory.join(name));
        // Where it stays, what is at Google is looked at once more than is needed.
        let _ = std::fs::rename(record, last);
    }

    /// Whether a change has begun here that has not ended well: Google may have what no state knows.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.directory.join(RECORD).exists()
    }

    /// Removes the plans of processes that have ended.
    fn tidy(&self) {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let [before, after] = PLAN_NAME;
            let process = name.to_str().and_then(|name| name.strip_prefix(before));
            let process = process.and_then(|name| name.strip_suffix(after));
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                // Only tidiness is lost.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The module's output; `None` before the first complete apply.
    ///
    /// # Errors
    /// The state can't be read.
    pub async fn output(&self) -> Result<Option<String>> {
        let outcome = self.read(&["output", "-json"]).await?;
        self.succeeded("read what was made", &outcome)?;
        let outputs: serde_json::Value = serde_json::from_str(&outcome.stdout)
            .map_err(|error| Error::Other(format!("cannot read Terraform's output: {error}")))?;
        Ok(events::made(&outputs).map(|made| made.to_string()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tool.program);
        command.args(arguments).current_dir(&self.directory);
        environment::for_terraform(&mut command);
        command
    }

    /// The command that an operator runs by hand where raftctl runs Terraform.
    fn by_hand(&self) -> String {
        let folder = std::path::absolute(&self.directory);
        let folder = folder.unwrap_or_else(|_| self.directory.clone());
        let option = format!("-chdir={}", folder.display());
        format!("{} {}", self.tool.program, quote(&option))
    }

    async fn read(&self, arguments: &[&str]) -> Result<Outcome> {
        let files = Written {
            out: self.scratch("out")?,
            errors: self.scratch("err")?,
            input: None,
        };
        let command = self.command(arguments);
        running::run(command, Effect::Reads, self.again, files, None).await
    }

    /// Runs a command that takes the state's lock: once nobody else has it, or the patience is over.
    /// Terraform itself would wait without a word.
    async fn when_free(
        &self,
        arguments: &[&str],
        effect: Effect,
        watch: Watch<'_>,
    ) -> Result<Outcome> {
        let started = Instant::now();
        let mut told_holder = String::new();
        loop {
            // Once it is told who has it, Terraform may as well wait a little.
            let patience = match told_holder.is_empty() {
                true => "-lock-timeout=0s",
                false => "-lock-timeout=3s",
            };
            let (verb, rest) = arguments.split_first().unwrap_or((&"", &[]));
            let whole: Vec<&str> = [*verb, patience].iter().chain(rest).copied().collect();
            let files = Written {
                out: match effect {
                    Effect::Reads => self.scratch("out")?,
                    Effect::Changes => self.record()?,
                },
                errors: self.scratch("err")?,
                input: None,
            };
            let command = self.command(&whole);
            let outcome =
                running::run(command, effect, self.again, files, Some(&mut *watch)).await?;
            let Some(holder) = holder(&outcome) else {
                return Ok(outcome);
            };
            if outcome.interruptions > 0 || started.elapsed() >= self.lock_wait {
                return Ok(outcome);
            }
            if holder != told_holder {
                watch(&Event::Note(format!(
                    "waiting for Terraform's state: {holder}"
                )));
                told_holder = holder;
            }
        }
    }

    /// The file that keeps what is done, event by event, with another one to read it. An older one that
    /// somebody still writes to is left to it.
    fn record(&self) -> Result<(File, File)> {
        let path = self.directory.join(RECORD);
        let _ = std::fs::remove_file(&path);
        let opened = File::create(&path).and_then(|writer| Ok((writer, File::open(&path)?)));
        opened.map_err(|error| Error::file("write", &path, &error))
    }

    /// A file to write to and to read from, which goes with the last who has it open.
    fn scratch(&self, name: &str) -> Result<(File, File)> {
        let name = format!(".raftctl-{}.{name}", std::process::id());
        let path = self.directory.join(name);
        let opened = File::create(&path).and_then(|writer| Ok((writer, File::open(&path)?)));
        let files = opened.map_err(|error| Error::file("write", &path, &error))?;
        std::fs::remove_file(&path).map_err(|error| Error::file("delete", &path, &error))?;
        Ok(files)
    }

    /// The error that a failed command stands for: every cause that it named, each once.
    fn succeeded(&self, doing: &str, outcome: &Outcome) -> Result<()> {
        if outcome.interruptions > 0 {
            return Err(Error::Cloud(interrupted(doing, self.again, outcome)));
        }
        if outcome.code == Some(0) {
            return Ok(());
        }
        let terraform = self.by_hand();
        let names = Names {
            project: &self.project,
            terraform: &terraform,
            bucket: &self.bucket,
        };
        let mut message = format!("cannot {doing}:");
        let mut causes: Vec<Cause> = Vec::new();
        for cause in texts(outcome).iter().map(|text| Cause::of(text)) {
            if !causes.contains(&cause) {
                message.push_str(&format!("\n  {cause}\n    {}", cause.next(&names)));
                causes.push(cause);
            }
        }
        let lost = |cause: &Cause| {
            let cut_off = matches!(cause, Cause::CutOff(_) | Cause::ProviderDied);
            cut_off || matches!(cause, Cause::AlreadyExists { .. })
        };
        let is_lost = !outcome.begun.doing().is_empty() || causes.iter().any(lost);
        if is_lost && !outcome.begun.in_doubt().is_empty() {
            message.push_str(&format!("\n  {}", in_doubt(self.again, outcome)));
        }
        Err(Error::Cloud(message))
    }
}

/// What a command that failed says of it.
fn texts(outcome: &Outcome) -> Vec<String> {
    let problems = outcome.problems.iter().filter(|problem| problem.is_error());
    let texts: Vec<_> = problems.map(|problem| problem.text()).collect();
    if !texts.is_empty() {
        return texts;
    }
    if let Some(signal) = outcome.signal {
        return vec![format!(
            "Terraform was ended from outside (signal {signal})"
        )];
    }
    let said = [&outcome.stderr, &outcome.stdout];
    let first = said.into_iter().find(|text| !text.trim().is_empty());
    vec![first.cloned().unwrap_or_default()]
}

/// What an interrupted command leaves.
fn interrupted(doing: &str, again: &str, outcome: &Outcome) -> String {
    let begun = &outcome.begun;
    if begun.in_doubt().is_empty() {
        return format!(
            "interrupted while about to {doing}; what Terraform has done is saved, and `{again}` goes on from there"
        );
    }
    format!(
        "interrupted while about to {doing}; {}",
        in_doubt(again, outcome)
    )
}

/// What may be at Google and in no state, or gone and still in it.
fn in_doubt(again: &str, outcome: &Outcome) -> String {
    format!(
        "in doubt, because nobody has told an end of it: {}; `{again}` looks at Google for it, and goes on from there",
        outcome.begun.in_doubt()
    )
}

/// Who has the lock that a command wanted, in words.
fn holder(outcome: &Outcome) -> Option<String> {
    let held = |text: &String| match Cause::of(text) {
        cause @ Cause::StateLocked { .. } => Some(cause.to_string()),
        _ => None,
    };
    texts(outcome).iter().find_map(held)
}

/// The plan's file of this process.
fn plan_file() -> String {
    let [before, after] = PLAN_NAME;
    format!("{before}{}{after}", std::process::id())
}
