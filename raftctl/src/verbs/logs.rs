//! `logs`: the files of all nodes, also of dead ones, in one folder; and their stories as one.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cluster::NodeId;
use crate::cluster::outcomes::all_or_partial;
use crate::error::{Error, Result};
use crate::ops::Context;
use crate::ops::files::{DUMP, LOGS, METADATA, NodeFile};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::text::records;
use crate::verbs::select;

/// What is fetched, where to, and how it is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Which nodes: 3, 1,3, 1-3, leader, followers, majority, minority, random or all
    #[arg(default_value = "all", value_name = "NODES")]
    pub selector: String,
    /// Fetch logs.txt and metadata.txt as well
    #[arg(long)]
    pub all: bool,
    /// Also print what all nodes' dump.txt say, sorted by time, each line with its node; with
    /// --output json one object per line
    #[arg(long)]
    pub merge: bool,
    /// Where the files go, in a folder logs_node_ID per node [default: raft-logs-CLUSTER]
    #[arg(long, value_name = "FOLDER")]
    pub into: Option<PathBuf>,
}

/// Fetches files and says where they are.
///
/// # Errors
/// A node whose files can't be had is named; the others' are there all the same.
pub async fn run(context: &Context, options: &Options, arguments: &Arguments) -> Result<()> {
    const DUMP_ONLY: &[NodeFile] = &[DUMP];
    const ALL: &[NodeFile] = &[DUMP, LOGS, METADATA];
    let ids = select(context, &arguments.selector).await?;
    let default = || PathBuf::from(format!("raft-logs-{}", context.cluster.name));
    let folder = arguments.into.clone().unwrap_or_else(default);
    let files = if arguments.all { ALL } else { DUMP_ONLY };
    let outcomes = context.fetch(&ids, files, &folder).await;
    if arguments.merge {
        let fetched = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
        let fetched: Vec<NodeId> = fetched.map(|(id, _)| *id).collect();
        let line = match options.output {
            Output::Text => |id, line: &str| format!("node {id}  {line}"),
            Output::Json => |id, line: &str| to_json(id, line).to_string(),
        };
        print_merged(&folder, &fetched, line)?;
        if !fetched.is_empty() {
            Progress::new().note(&format!("the files are in {}", folder.display()));
        }
    } else if options.output == Output::Json {
        let one = |(id, files): (&NodeId, &Vec<PathBuf>)| json!({ "id": id, "files": files });
        let fetched = outcomes
            .iter()
            .filter_map(|(id, outcome)| Some((id, outcome.as_ref().ok()?)));
        out::json(&json!({ "nodes": fetched.map(one).collect::<Vec<_>>() }))?;
    } else {
        for path in outcomes.values().flatten().flatten() {
            out::line(&path.display().to_string())?;
        }
    }
    all_or_partial(outcomes, "fetched").map(drop)
}

/// How a node's line is shown.
type Show = fn(NodeId, &str) -> String;

/// A line of dump.txt for programs; one that is torn or damaged is text without a time.
fn to_json(id: NodeId, line: &str) -> Value {
    let is_time = |time: &str| humantime::parse_rfc3339(time).is_ok();
    let (time, rest) = match line.split_once(' ') {
        Some((time, rest)) if is_time(time) => (Some(time), rest),
        _ => (None, line),
    };
    let (text, machine) = rest.split_once('\t').unwrap_or((rest, ""));
    json!({ "node": id, "time": time, "text": text, "fields": records::fields(machine) })
}

fn print_merged(folder: &Path, ids: &[NodeId], show: Show) -> Result<()> {
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    match merge(folder, ids, show, &mut stdout).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::file("merge the files of", folder, &error)),
    }
}

/// One node's dump.txt, a line ahead.
struct Story {
    id: NodeId,
    lines: std::io::Lines<BufReader<File>>,
    next: Option<String>,
}

impl Story {
    fn advance(&mut self) -> std::io::Result<Option<String>> {
        let next = self.lines.next().transpose()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// Timestamps are UTC with microseconds, all of one width: as text they sort by time.
    fn time(&self) -> Option<&str> {
        let line = self.next.as_ref()?;
        Some(line.split([' ', '\t']).next().unwrap_or(line))
    }
}

/// Writes all lines by time. Each file is in order already, so only a line of each is in memory.
fn merge(folder: &Path, ids: &[NodeId], show: Show, into: &mut impl Write) -> std::io::Result<()> {
    let mut stories = Vec::new();
    for id in ids {
        let path = folder.join(format!("logs_node_{id}")).join(DUMP.name);
        let mut story = Story {
            id: *id,
            lines: BufReader::new(File::open(path)?).lines(),
            next: None,
        };
        story.advance()?;
        stories.push(story);
    }
    loop {
        let waiting = stories.iter_mut().filter(|story| story.next.is_some());
        let first = waiting.min_by(|a, b| a.time().cmp(&b.time()));
        let Some(story) = first else {
            return Ok(());
        };
        let id = story.id;
        if let Some(line) = story.advance()? {
            writeln!(into, "{}", show(id, &line))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines of several nodes come in the order of their times, each with its node, and all of
    // them come.
    #[test]
    fn stories_merge_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let write = |id: u64, text: &str| {
            let node = folder.path().join(format!("logs_node_{id}"));
            std::fs::create_dir(&node).unwrap();
            std::fs::write(node.join("dump.txt"), text).unwrap();
        };
        write(
            1,
            "2026-01-01T00:00:00.000001Z a\n2026-01-01T00:00:00.000004Z d\n",
        );
        write(
            2,
            "2026-01-01T00:00:00.000002Z b\n2026-01-01T00:00:00.000003Z c\n",
        );
        write(3, "");
        let mut merged = Vec::new();
        let show: Show = |id, line| format!("node {id}  {line}");
        merge(folder.path(), &[1, 2, 3], show, &mut merged).unwrap();
        let merged = String::from_utf8(merged).unwrap();
        let order: Vec<&str> = merged
            .lines()
            .filter_map(|line| line.split(' ').next_back())
            .collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
        assert!(
            merged.lines().nth(1).unwrap().starts_with("node 2  2026"),
            "{merged}"
        );
    }

    // A line for programs is taken apart; one that can't be is there all the same.
    #[test]
    fn lines_for_programs() {
        let line = "2026-01-01T00:00:00.000001Z Node 1 did it.\tterm=3 index=17";
        let expected = json!({
            "node": 1,
            "time": "2026-01-01T00:00:00.000001Z",
            "text": "Node 1 did it.",
            "fields": { "index": "17", "term": "3" },
        });
        assert_eq!(to_json(1, line), expected);
        let expected = json!({ "node": 2, "time": null, "text": "torn line", "fields": {} });
        assert_eq!(to_json(2, "torn line"), expected);
    }
}
