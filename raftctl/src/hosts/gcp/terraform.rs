//! Running Terraform in the cluster's folder.
//!
//! Terraform runs in a process group of its own, so that Ctrl-C in the terminal reaches raftctl
//! alone. raftctl passes the first one on (and SIGTERM, and the end of the terminal, likewise) as a
//! single SIGINT, upon which Terraform ends what it is doing and saves its state, and waits for that,
//! however often Ctrl-C is pressed: a second signal would make Terraform throw the state away. For the
//! same reason no deadline is set here; Google's provider bounds each operation at 20 minutes by
//! itself.
//!
//! What it writes goes to a file that raftctl reads along, and not through a pipe: Terraform lives on
//! when raftctl is killed, and would be ended by the broken pipe before its state is saved.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::causes::{Cause, Names};
use super::events::{self, Diagnostic, Event};
use super::state::State;
use super::tool::Tool;
use crate::cluster::gcp::GcpSettings;
use crate::error::{Error, Result};
use crate::hosts::scripts::quote;
use crate::interrupt::Interruptions;

/// What is kept of what Terraform writes: a plan of a hundred nodes is two megabytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// How often it is looked whether Terraform has written more.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Somebody else's change may take a minute; longer, and the operator should know.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// The exit code of `plan -detailed-exitcode` when there is something to do.
const CHANGES: i32 = 2;

/// Who watches a run.
pub type Watch<'a> = &'a mut (dyn FnMut(&Event) + Send);

/// Terraform in one folder.
#[derive(Debug, Clone)]
pub struct Terraform {
    tool: Tool,
    directory: PathBuf,
    project: String,
    bucket: String,
    /// How long it waits for another Terraform that works on the same state.
    lock_option: String,
}

/// What a command wrote, and how it ended.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    problems: Vec<Diagnostic>,
    interrupted: bool,
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
    /// works on the same state as long as `lock_wait` says, or a minute.
    #[must_use]
    pub fn new(
        tool: Tool,
        directory: &Path,
        settings: &GcpSettings,
        lock_wait: Option<Duration>,
    ) -> Self {
        let lock_wait = lock_wait.unwrap_or(LOCK_WAIT);
        Terraform {
            tool,
            directory: directory.to_owned(),
            project: settings.project.clone().unwrap_or_default(),
            bucket: settings.state_bucket.clone().unwrap_or_default(),
            lock_option: format!("-lock-timeout={}s", lock_wait.as_secs_f64()),
        }
    }

    /// Fetches the provider and prepares the state.
    ///
    /// # Errors
    /// The registry or the state can't be reached.
    pub async fn init(&self) -> Result<()> {
        // Terraform itself does not lock its cache: one init would run the provider that another one is
        // just writing there.
        let _turn = match own_plugin_cache() {
            Some(cache) => turn_at(&cache).await?,
            None => None,
        };
        let outcome = self
            .run(&["init", "-input=false", "-no-color"], None)
            .await?;
        self.succeeded("prepare Terraform", &outcome)
    }

    /// Makes a plan and keeps it; whether it changes anything.
    ///
    /// # Errors
    /// Terraform finds something wrong.
    pub async fn plan(&self, destroy: bool, watch: Watch<'_>) -> Result<bool> {
        self.tidy();
        let out = format!("-out={}", plan_file());
        let mut arguments = vec![
            "plan",
            "-json",
            "-input=false",
            "-detailed-exitcode",
            &self.lock_option,
            &out,
        ];
        if destroy {
            arguments.push("-destroy");
        }
        let outcome = self.run(&arguments, Some(watch)).await?;
        if outcome.code == Some(CHANGES) && !outcome.interrupted {
            return Ok(true);
        }
        self.succeeded("plan the infrastructure", &outcome)
            .map(|_| false)
    }

    /// The plan that was kept, as JSON.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn show(&self) -> Result<String> {
        let outcome = self.run(&["show", "-json", &plan_file()], None).await?;
        self.succeeded("read the plan", &outcome)?;
        Ok(outcome.stdout)
    }

    /// What is there, as far as the state knows.
    ///
    /// # Errors
    /// The state can't be read.
    pub async fn state(&self) -> Result<State> {
        let outcome = self.run(&["show", "-json"], None).await?;
        self.succeeded("read Terraform's state", &outcome)?;
        State::read(&outcome.stdout)
    }

    /// Does what the plan that was kept says.
    ///
    /// # Errors
    /// Some or all of it failed; what was done is in the state.
    pub async fn apply(&self, watch: Watch<'_>) -> Result<(), Unfinished> {
        let plan = plan_file();
        let arguments = ["apply", "-json", "-input=false", &self.lock_option, &plan];
        let outcome = self.run(&arguments, Some(watch)).await;
        // A plan can be applied once.
        let _ = std::fs::remove_file(self.directory.join(&plan));
        let is_interrupted = outcome.as_ref().is_ok_and(|outcome| outcome.interrupted);
        let done =
            outcome.and_then(|outcome| self.succeeded("change the infrastructure", &outcome));
        done.map_err(|error| Unfinished {
            error,
            is_interrupted,
        })
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
        let outcome = self.run(&["output", "-json"], None).await?;
        self.succeeded("read what was made", &outcome)?;
        let outputs: serde_json::Value = serde_json::from_str(&outcome.stdout)
            .map_err(|error| Error::Other(format!("cannot read Terraform's output: {error}")))?;
        let value = &outputs["raftctl"]["value"];
        Ok((!value.is_null()).then(|| value.to_string()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tool.program);
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_INPUT", "0")
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(cache) = own_plugin_cache() {
            command
                .env("TF_PLUGIN_CACHE_DIR", cache)
                // The cache serves clusters that have no lock file of their own yet.
                .env("TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE", "true");
        }
        command
    }

    /// The command that an operator runs by hand where raftctl runs Terraform.
    fn by_hand(&self) -> String {
        let folder = std::path::absolute(&self.directory);
        let folder = folder.unwrap_or_else(|_| self.directory.clone());
        let option = format!("-chdir={}", folder.display());
        format!("{} {}", self.tool.program, quote(&option))
    }

    async fn run(&self, arguments: &[&str], watch: Option<Watch<'_>>) -> Result<Outcome> {
        let program = &self.tool.program;
        let cannot = |error: std::io::Error| Error::Cloud(format!("cannot run {program}: {error}"));
        let (stdout, output) = self.scratch("out")?;
        let (stderr, errors) = self.scratch("err")?;
        // Before it starts, so that none is missed.
        let mut interruptions = Interruptions::new();
        let mut command = self.command(arguments);
        let mut child = command
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(cannot)?;
        let mut following = watch.map(Following::new);
        let mut interrupted = false;
        let status = loop {
            if let Some(following) = &mut following {
                following.read(&output);
            }
            let ended = ended(&mut child, &mut interruptions, &mut interrupted);
            // Nobody tells when a file has grown.
            if let Ok(status) = tokio::time::timeout(LOOK_EVERY, ended).await {
                break status.map_err(cannot)?;
            }
        };
        let problems = match following {
            Some(following) => following.end(&output)?,
            None => Vec::new(),
        };
        Ok(Outcome {
            code: status.code(),
            stdout: read_all(&output),
            stderr: read_all(&errors),
            problems,
            interrupted,
        })
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
        if outcome.interrupted {
            return Err(Error::Cloud(format!(
                "interrupted while about to {doing}; Terraform has saved what was done: run `raftctl up` to go on, \
                 or `raftctl down` to take it back"
            )));
        }
        if outcome.code == Some(0) {
            return Ok(());
        }
        let problems = outcome.problems.iter().filter(|problem| problem.is_error());
        let mut texts: Vec<_> = problems.map(|problem| problem.text()).collect();
        if texts.is_empty() {
            let said = [&outcome.stderr, &outcome.stdout];
            let first = said.into_iter().find(|text| !text.trim().is_empty());
            texts.push(first.cloned().unwrap_or_default());
        }
        let terraform = self.by_hand();
        let names = Names {
            project: &self.project,
            terraform: &terraform,
            bucket: &self.bucket,
        };
        let mut message = format!("cannot {doing}:");
        let mut causes: Vec<Cause> = Vec::new();
        for cause in texts.iter().map(|text| Cause::of(text)) {
            if !causes.contains(&cause) {
                message.push_str(&format!("\n  {cause}\n    {}", cause.next(&names)));
                causes.push(cause);
            }
        }
        Err(Error::Cloud(message))
    }
}

/// The plan's file of this process.
fn plan_file() -> String {
    let [before, after] = PLAN_NAME;
    format!("{before}{}{after}", std::process::id())
}

/// Waits until a command ends. The first interruption goes to it as one SIGINT; the others only say
/// that it is coming to an end.
async fn ended(
    child: &mut Child,
    interruptions: &mut Interruptions,
    interrupted: &mut bool,
) -> std::io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            () = interruptions.next() => {
                if !*interrupted {
                    interrupt(child);
                }
                *interrupted = true;
                // The terminal may be gone.
                let _ = writeln!(
                    std::io::stderr(),
                    "waiting for Terraform to save its state; this can take a minute"
                );
            }
        }
    }
}

fn interrupt(child: &Child) {
    let pid = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // A process that has just ended needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    }
}

/// Reads lines as they are written, shows each event, and keeps what is wrong.
struct Following<'a> {
    watch: Watch<'a>,
    /// A line that is not complete yet.
    begun: Vec<u8>,
    problems: Vec<Diagnostic>,
    format: std::result::Result<(), events::UnknownFormat>,
}

impl<'a> Following<'a> {
    fn new(watch: Watch<'a>) -> Self {
        Following {
            watch,
            begun: Vec::new(),
            problems: Vec::new(),
            format: Ok(()),
        }
    }

    /// What has been written since.
    fn read(&mut self, from: &File) {
        // How the command fared is told by its exit code, also where this can't be read.
        let _ = from.take(TEXT_BYTES_MAX).read_to_end(&mut self.begun);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            self.line(&String::from_utf8_lossy(&line));
        }
    }

    fn line(&mut self, line: &str) {
        match events::parse(line.trim()) {
            Ok(None) => {}
            Ok(Some(event)) => {
                (self.watch)(&event);
                if let Event::Problem(problem) = event {
                    self.problems.push(problem);
                }
            }
            Err(unknown) => self.format = Err(unknown),
        }
    }

    fn end(mut self, from: &File) -> Result<Vec<Diagnostic>> {
        self.read(from);
        let rest = std::mem::take(&mut self.begun);
        self.line(&String::from_utf8_lossy(&rest));
        let problems = self.problems;
        self.format
            .map(|()| problems)
            .map_err(|error| Error::Cloud(error.to_string()))
    }
}

fn read_all(from: &File) -> String {
    let mut bytes = Vec::new();
    // As above.
    let _ = from.take(TEXT_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where providers are kept for all clusters, since Google's is a hundred megabytes; `None` where
/// the operator has a place of their own.
fn own_plugin_cache() -> Option<PathBuf> {
    if std::env::var_os("TF_PLUGIN_CACHE_DIR").is_some() {
        return None;
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?
        .join("raftctl/terraform");
    // Terraform does without where it can't be made.
    std::fs::create_dir_all(&cache).ok()?;
    Some(cache)
}

/// Waits until no other raftctl works on the cache; until the file is dropped, none does. `None` where
/// the file can't be had: then all goes well but for two who fetch at the same time.
///
/// # Errors
/// The operator did not want to wait.
async fn turn_at(cache: &Path) -> Result<Option<File>> {
    const TRY_EVERY: Duration = Duration::from_millis(50);
    let Ok(file) = File::create(cache.join("raftctl.lock")) else {
        return Ok(None);
    };
    let mut interruptions = Interruptions::new();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_EVERY) => {}
            () = interruptions.next() => return Err(Error::Other(
                "interrupted while another raftctl fetches Google's provider; nothing was changed".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines come in pieces, and each is seen once, as soon as it is complete; the last need not end.
    #[test]
    fn lines_are_followed_as_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let mut seen = 0;
        let mut watch = |_: &Event| seen += 1;
        let line = |summary: &str| {
            format!(
                r#"{{"type":"diagnostic","diagnostic":{{"severity":"error","summary":"{summary}","detail":""}}}}"#
            )
        };
        let mut following = Following::new(&mut watch);
        let first = line("one") + "\n";
        writer.write_all(&first.as_bytes()[..20]).unwrap();
        following.read(&reader);
        assert!(following.problems.is_empty());
        writer.write_all(&first.as_bytes()[20..]).unwrap();
        following.read(&reader);
        assert_eq!(following.problems.len(), 1);
        writer.write_all(line("two").as_bytes()).unwrap();
        let problems = following.end(&reader).unwrap();
        assert_eq!(problems[1].summary, "two");
        assert_eq!(seen, 2);
    }
}
