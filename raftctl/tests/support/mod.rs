//! raftctl, run as an operator runs it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes on a slow machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a file that a `raftctl` may be reading at the time: that one finds the old text or the new one, whole.
pub fn replace_file(path: impl AsRef<Path>, text: impl AsRef<str>) {
    let path = path.as_ref();
    let aside = path.with_extension("new");
    std::fs::write(&aside, text.as_ref()).unwrap();
    std::fs::rename(aside, path).unwrap();
}

/// How `raftctl` ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    /// The same, after a check that it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// The same, after a check of the exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, after a check that standard error says something.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "{text:?} is not in {}",
            self.stderr
        );
        self
    }
}

/// Runs raftctl in a folder.
pub fn raftctl(folder: &Path, arguments: &[&str]) -> Ended {
    ended(command(folder, arguments))
}

/// Runs a command to its end.
pub fn ended(mut command: Command) -> Ended {
    let started = Instant::now();
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: started.elapsed(),
    }
}

/// raftctl in a folder, not started yet.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftctl"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("RAFTCTL_CONFIG");
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}
