//! What a chaos run leaves behind: a folder with the history, the nodes' files and a report.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use checker::History;
use serde::Serialize;

use super::inject::Injected;
use super::members::Changed;
use crate::error::{Error, Result};
use crate::ops::Context;
use crate::ops::files::{DUMP, LOGS, METADATA};
use crate::scenario::verdict::VerdictReport;
use crate::terminal::out;
use crate::workload::Availability;

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The cluster's name.
    pub cluster: String,
    /// Where its hosts come from.
    pub provider: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// What the plan of faults follows from.
    pub seed: u64,
    /// How long faults were injected.
    pub seconds: f64,
    /// How many clients.
    pub clients: u64,
    /// The checker's verdict.
    #[serde(flatten)]
    pub verdict: VerdictReport,
    /// How available reads were.
    pub reads: Availability,
    /// How available writes were.
    pub writes: Availability,
    /// What was injected, and when.
    pub faults: Vec<Injected>,
    /// How members changed meanwhile; null where that was not asked for.
    pub changes: Option<Vec<Changed>>,
    /// Why the cluster could not be put back; null if it was.
    pub not_restored: Option<String>,
    /// The page that draws the run; null if it could not be drawn.
    pub timeline: Option<PathBuf>,
    /// Where everything lies.
    pub folder: PathBuf,
}

impl Report {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}\nreads:  {}\nwrites: {}\nfaults: {} in {:.0} s, seed {}\nfolder: {}\n",
            self.verdict.text(),
            self.reads,
            self.writes,
            self.faults.len(),
            self.seconds,
            self.seed,
            self.folder.display()
        );
        if let Some(page) = &self.timeline {
            text.push_str(&format!("timeline: {}\n", page.display()));
        }
        if let Some(changes) = &self.changes {
            let completed = self.completed();
            let given_up = changes.len() - completed;
            text.push_str(&format!(
                "changes of members: {completed} completed, {given_up} given up\n"
            ));
        }
        if let Some(cause) = &self.not_restored {
            text.push_str(&format!("the cluster could not be put back: {cause}\n"));
        }
        text
    }

    /// Whether it is a success.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict.is_linearizable() && self.not_restored.is_none() && !self.changed_nothing()
    }

    /// Whether members were to change, and no change came to its end: that shows nothing.
    #[must_use]
    pub fn changed_nothing(&self) -> bool {
        self.changes.is_some() && self.completed() == 0
    }

    fn completed(&self) -> usize {
        let changes = self.changes.iter().flatten();
        changes.filter(|change| change.given_up.is_none()).count()
    }
}

/// Writes the history where it can be checked again.
///
/// # Errors
/// The file can't be written.
pub fn write_history(history: &History, folder: &Path) -> Result<()> {
    let path = folder.join("history.jsonl");
    let file = File::create(&path).map_err(|error| Error::file("create", &path, &error))?;
    checker::write_history(history, BufWriter::new(file))
        .map_err(|error| Error::Other(format!("{}: {error}", path.display())))
}

/// Writes the report beside it.
///
/// # Errors
/// The file can't be written.
pub fn write(report: &Report, folder: &Path) -> Result<()> {
    let path = folder.join("report.json");
    let text = format!("{:#}\n", serde_json::json!(report));
    std::fs::write(&path, text).map_err(|error| Error::file("write", &path, &error))
}

/// Fetches what the nodes have written. What can't be fetched is told, and keeps nothing else from
/// being there.
pub async fn fetch(context: &Context, folder: &Path) {
    let fetched = context
        .fetch(&context.cluster.ids(), &[DUMP, LOGS, METADATA], folder)
        .await;
    for (id, outcome) in fetched {
        if let Err(error) = outcome {
            out::say(&format!("the files of node {id} are missing: {error}"));
        }
    }
}
