//! Running Terraform in the cluster's folder.
//!
//! Terraform runs in a process group of its own, so that Ctrl-C in the terminal reaches raftctl
//! alone. raftctl passes the first one on as a single SIGINT, upon which Terraform ends what it is
//! doing and saves its state, and waits for that, however often Ctrl-C is pressed: a second signal
//! would make Terraform throw the state away. For the same reason no deadline is set here; Google's
//! provider bounds each operation at 20 minutes by itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::causes::{Cause, Names};
use super::events::{self, Diagnostic, Event};
use super::tool::Tool;
use crate::cluster::gcp::GcpSettings;
use crate::error::{Error, Result};
use crate::hosts::scripts::quote;

/// A line of output may be this long; a diagnostic with all its context is some kilobytes.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// What is kept of standard error, and of output that is read as a whole: a plan of a hundred nodes
/// is two megabytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;

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

/// The plan's file, in the cluster's folder.
const PLAN_FILE: &str = "raftctl.tfplan";

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
        let outcome = self
            .run(&["init", "-input=false", "-no-color"], None)
            .await?;
        self.succeeded("prepare Terraform", &outcome).map(|_| ())
    }

    /// Makes a plan and keeps it; whether it changes anything.
    ///
    /// # Errors
    /// Terraform finds something wrong.
    pub async fn plan(&self, destroy: bool, watch: Watch<'_>) -> Result<bool> {
        let out = format!("-out={PLAN_FILE}");
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
        if outcome.code == Some(CHANGES) {
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
        let outcome = self.run(&["show", "-json", PLAN_FILE], None).await?;
        self.succeeded("read the plan", &outcome)?;
        Ok(outcome.stdout)
    }

    /// Does what the plan that was kept says.
    ///
    /// # Errors
    /// Some or all of it failed; what was done is in the state.
    pub async fn apply(&self, watch: Watch<'_>) -> Result<()> {
        let arguments = [
            "apply",
            "-json",
            "-input=false",
            &self.lock_option,
            PLAN_FILE,
        ];
        let outcome = self.run(&arguments, Some(watch)).await;
        // A plan can be applied once.
        let _ = std::fs::remove_file(self.directory.join(PLAN_FILE));
        self.succeeded("change the infrastructure", &outcome?)
            .map(|_| ())
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
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if std::env::var_os("TF_PLUGIN_CACHE_DIR").is_none()
            && let Some(cache) = plugin_cache()
        {
            command.env("TF_PLUGIN_CACHE_DIR", cache);
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
        let mut child = self.command(arguments).spawn().map_err(cannot)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::Other(format!("{program} was started without pipes")));
        };
        let mut outcome = Outcome {
            code: None,
            stdout: String::new(),
            stderr: String::new(),
            problems: Vec::new(),
            interrupted: false,
        };
        let read = async {
            let errors = read_all(stderr);
            let lines = async {
                match watch {
                    Some(watch) => follow(stdout, watch)
                        .await
                        .map(|problems| (String::new(), problems)),
                    None => Ok((read_all(stdout).await, Vec::new())),
                }
            };
            tokio::join!(lines, errors)
        };
        let (lines, stderr) = interruptible(read, &child, &mut outcome.interrupted).await;
        outcome.code = child.wait().await.map_err(cannot)?.code();
        (outcome.stdout, outcome.problems) =
            lines.map_err(|error| Error::Cloud(error.to_string()))?;
        outcome.stderr = stderr;
        Ok(outcome)
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

/// Waits for all that a command writes. The first Ctrl-C goes to it as one SIGINT; the others only
/// say that it is coming to an end.
async fn interruptible<T>(
    read: impl Future<Output = T>,
    child: &Child,
    interrupted: &mut bool,
) -> T {
    tokio::pin!(read);
    loop {
        tokio::select! {
            result = &mut read => return result,
            Ok(()) = tokio::signal::ctrl_c() => {
                if !*interrupted {
                    interrupt(child);
                }
                *interrupted = true;
                eprintln!("waiting for Terraform to save its state; this can take a minute");
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

/// Reads line after line to the end, shows each event, and keeps what is wrong.
async fn follow(
    from: impl AsyncRead + Unpin,
    watch: Watch<'_>,
) -> std::result::Result<Vec<Diagnostic>, events::UnknownFormat> {
    let mut reader = BufReader::new(from);
    let mut problems = Vec::new();
    let mut format = Ok(());
    loop {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await;
        // A pipe that breaks is one that ended; how the command fared is told by its exit code.
        if !read.is_ok_and(|count| count > 0) {
            return format.map(|()| problems);
        }
        match events::parse(String::from_utf8_lossy(&line).trim()) {
            Ok(None) => {}
            Ok(Some(event)) => {
                watch(&event);
                if let Event::Problem(problem) = event {
                    problems.push(problem);
                }
            }
            // The pipe is read on, or the command would never end.
            Err(unknown) => format = Err(unknown),
        }
    }
}

async fn read_all(from: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let mut reader = BufReader::new(from);
    // As above: what was written until the pipe broke is what there is.
    let _ = (&mut reader)
        .take(TEXT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .await;
    let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where providers are kept for all clusters, since Google's is a hundred megabytes.
fn plugin_cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?
        .join("raftctl/terraform");
    // Terraform does without where it can't be made.
    std::fs::create_dir_all(&cache).ok()?;
    Some(cache)
}
