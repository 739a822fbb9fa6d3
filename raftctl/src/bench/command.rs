//! The operator's own command, run while clients are at work.

use std::process::{ExitStatus, Stdio};

use crate::error::{Error, Result};

/// Runs it to its end. What it prints goes to standard error, since standard output is for figures; it is asked
/// nothing, and ends with raftctl.
///
/// # Errors
/// It can't be run.
pub async fn run(words: &[String]) -> Result<ExitStatus> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| Error::Usage("a command is missing, behind `--`".into()))?;
    let mut command = tokio::process::Command::new(program);
    let command = command.args(arguments).stdin(Stdio::null());
    let ended = command
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .status();
    ended
        .await
        .map_err(|error| Error::Usage(format!("{program} can't be run: {error}")))
}
