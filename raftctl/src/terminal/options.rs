//! What holds for every verb: how results are printed, how long to wait, what is not asked.

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
    /// Accept that data is lost.
    pub allow_data_loss: bool,
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
