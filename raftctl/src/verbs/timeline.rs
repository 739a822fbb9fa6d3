//! `timeline`: what the nodes' dump.txt tell, as one picture; and whether they contradict the promise of the
//! lease.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use crate::error::{Error, Result};
use crate::ops::Context;
use crate::ops::files::{DUMP, NodeFile};
use crate::ops::timeline::{self, PAGE, links, write_whole};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::timeline::Verdict;

/// What is drawn, how, and where it goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// A folder with logs_node_ID folders, as `raftctl logs` makes it; without one, the files of all nodes
    /// are fetched first, into raft-logs-CLUSTER
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// What is written: html, a page that needs nothing else; svg, the picture alone; perfetto, the
    /// Trace Event Format, for ui.perfetto.dev
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "KIND",
        hide_possible_values = true
    )]
    pub format: Format,
    /// Where it goes [default: timeline.html, .svg or .json in the folder]
    #[arg(long, value_name = "FILE")]
    pub into: Option<PathBuf>,
    /// Draw nothing: only check that no two leaders served at once what they must not, and that every new
    /// leader waited as long as it had to; exit code 40 if not
    #[arg(long, conflicts_with_all = ["format", "into"])]
    pub check: bool,
}

/// Kinds of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Html,
    Svg,
    Perfetto,
}

impl Format {
    fn file_name(self) -> &'static str {
        match self {
            Format::Html => PAGE,
            Format::Svg => "timeline.svg",
            Format::Perfetto => "timeline.json",
        }
    }
}

/// Fetches every node's dump.txt and draws what they tell.
///
/// # Errors
/// No node's file can be had, or one of [`of_folder`].
pub async fn of_cluster(context: &Context, options: &Options, arguments: &Arguments) -> Result<()> {
    const FILES: &[NodeFile] = &[DUMP];
    let folder = PathBuf::from(format!("raft-logs-{}", context.cluster.name));
    let outcomes = context.fetch(&context.cluster.ids(), FILES, &folder).await;
    for (id, outcome) in &outcomes {
        if let Err(error) = outcome {
            out::say(&format!(
                "warning: node {id} is not in the picture: {error}"
            ));
        }
    }
    let fetched = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
    let ids: Vec<u64> = fetched.map(|(id, _)| *id).collect();
    draw(&folder, &ids, options, arguments)
}

/// Draws what the files in a folder tell.
///
/// # Errors
/// There are none, they can't be read, the page can't be written; or, with `--check`, they contradict the
/// promise of the lease.
pub fn of_folder(options: &Options, arguments: &Arguments) -> Result<()> {
    let folder = arguments.folder.as_deref().unwrap_or(Path::new("."));
    let ids = timeline::nodes_in(folder)?;
    draw(folder, &ids, options, arguments)
}

fn draw(folder: &Path, ids: &[u64], options: &Options, arguments: &Arguments) -> Result<()> {
    let timeline = timeline::read(folder, ids)?;
    if timeline.is_empty() {
        return Err(Error::Usage(format!(
            "{} has no logs_node_ID/dump.txt with a line in it; `raftctl logs --into FOLDER` fetches them",
            folder.display()
        )));
    }
    if arguments.check {
        return tell(&timeline.check(), options);
    }
    let title = folder
        .file_name()
        .map_or("Timeline".into(), |name| name.to_string_lossy());
    let into = arguments.into.clone();
    let into = into.unwrap_or_else(|| folder.join(arguments.format.file_name()));
    let text = match arguments.format {
        Format::Html => timeline.page(&title, &links(folder, &into, ids)),
        Format::Svg => timeline.svg(&title),
        Format::Perfetto => timeline.perfetto(),
    };
    write_whole(&into, &text)?;
    match options.output {
        Output::Text => out::line(&into.display().to_string()),
        Output::Json => out::json(&json!({ "file": into })),
    }
}

/// A moment of the record, as dump.txt writes it.
fn when(at_us: i64) -> String {
    let since = Duration::from_micros(u64::try_from(at_us).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

fn tell(verdict: &Verdict, options: &Options) -> Result<()> {
    if options.output == Output::Json {
        let finding = |finding: &crate::timeline::Finding| json!({ "node": finding.node, "at_us": finding.at_us, "what": finding.what });
        out::json(&json!({
            "compared": verdict.compared,
            "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
            "unjudged": verdict.unjudged,
        }))?;
    } else {
        for finding in &verdict.findings {
            out::line(&format!("WRONG  {} {}", when(finding.at_us), finding.what))?;
        }
        for what in &verdict.unjudged {
            out::line(&format!("not judged  {what}"))?;
        }
    }
    match (verdict.findings.len(), verdict.compared) {
        (0, 0) => Err(Error::Other(
            "nothing could be judged: the files tell of no leader that committed anything".into(),
        )),
        (0, compared) => {
            out::say(&format!("{compared} comparisons, no contradiction"));
            Ok(())
        }
        (count, compared) => Err(Error::CheckFailed(format!(
            "{count} contradictions in {compared} comparisons: two leaders may have served at once; keep these \
             files, `raftctl timeline` draws them"
        ))),
    }
}
