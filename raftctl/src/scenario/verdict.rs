//! The verdict on a workload's history, for scenarios and chaos alike.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use checker::{History, Verdict};
use serde::Serialize;
use serde_json::Value;

use crate::cluster::timing::Timing;
use crate::error::{Error, Result};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::workload;

/// How long the checker may take. A history of a minute takes seconds.
pub const CHECK_MAX: Duration = Duration::from_secs(120);

/// How long a client of the workload tries: long enough for one change of leader, short enough
/// that operations without an answer do not pile up.
#[must_use]
pub fn client_timeout(timing: &Timing) -> Duration {
    Duration::from_millis(timing.lease_ms + timing.election_timeout_max_ms)
}

/// How long a reading client tries: a read that is not answered soon is given up for another.
#[must_use]
pub fn read_timeout(timing: &Timing) -> Duration {
    Duration::from_millis((5 * timing.heartbeat_ms).max(500))
}

/// Judges a history in a file.
///
/// # Errors
/// It can't be read, or is not shown to be linearizable.
pub async fn verify(options: &Options, path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|error| {
        Error::Usage(format!(
            "cannot open {}: {error}; name the history.jsonl of a chaos run",
            path.display()
        ))
    })?;
    let history = checker::read_history(BufReader::new(file))
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    let (history, verdict) = workload::verdict(history, CHECK_MAX).await;
    let report = VerdictReport::new(&history, &verdict);
    match options.output {
        Output::Text => out::line(&report.text())?,
        Output::Json => out::json(&serde_json::json!(report))?,
    }
    match report.is_linearizable() {
        true => Ok(()),
        false => Err(Error::CheckFailed(report.verdict.replace('_', " "))),
    }
}

/// A verdict as reports tell it.
#[derive(Debug, Clone, Serialize)]
pub struct VerdictReport {
    /// `linearizable`, `not_linearizable` or `undecided`.
    pub verdict: &'static str,
    /// How many operations were judged.
    pub operations: usize,
    /// The verdict in words, with the counter-example where there is one.
    pub explanation: String,
    /// A few operations that no order explains; null if there are none.
    pub counter_example: Value,
}

impl VerdictReport {
    /// The report of a verdict on a history.
    #[must_use]
    pub fn new(history: &History, verdict: &Verdict) -> Self {
        VerdictReport {
            verdict: match verdict {
                Verdict::Linearizable => "linearizable",
                Verdict::NotLinearizable(_) => "not_linearizable",
                Verdict::Undecided { .. } => "undecided",
            },
            operations: history.len(),
            explanation: verdict.to_string(),
            counter_example: serde_json::json!(verdict.counter_example()),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let yes_or_no = match self.verdict {
            "linearizable" => "yes".to_owned(),
            "not_linearizable" => format!("NO\n{}", self.explanation),
            _ => format!("UNDECIDED ({})", self.explanation),
        };
        format!("linearizable: {yes_or_no} ({} operations)", self.operations)
    }

    /// Whether it was shown.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        self.verdict == "linearizable"
    }
}
