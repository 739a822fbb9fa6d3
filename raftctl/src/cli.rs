//! The command line.

use std::process::ExitCode;
use std::time::Duration;

/// What holds for every verb.
#[derive(Debug, Clone)]
pub struct Options {
    /// How results are printed.
    pub output: Output,
    /// How long to wait; `None`: the verb's own default.
    pub timeout: Option<Duration>,
    /// Ask nothing.
    pub yes: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
