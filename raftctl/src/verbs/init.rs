//! `init`: a commented cluster.yaml to begin with.

use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::out;

/// The file that comes with the project, which is also what `init` writes.
pub const TEMPLATE: &str = include_str!("../../../cluster.yaml");

/// What is written instead of the template's values.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The cluster's name
    #[arg(long, default_value = "demo")]
    pub name: String,
    /// Where the hosts come from: local, ssh, docker, gcp
    #[arg(long, default_value = "local")]
    pub provider: String,
    /// How many nodes
    #[arg(long, default_value_t = 5)]
    pub nodes: u64,
    /// Overwrite a file that is there
    #[arg(long)]
    pub force: bool,
}

/// Writes the file, never over another one unless told to.
///
/// # Errors
/// There is one already, or the values make no cluster.
pub fn run(path: &Path, arguments: &Arguments) -> Result<()> {
    let text = fill(arguments);
    let name = path.display().to_string();
    // Checked as any other: a name that can't be one is found before anything is written. Hosts
    // and variables are for the operator to add.
    let lines = |line: u64| {
        text.lines()
            .nth(usize::try_from(line).unwrap_or(0).saturating_sub(1))
    };
    if let Err(problems) = crate::cluster::parse(&text, &name, ".".into(), &|_| Some("x".into())) {
        let ours = problems.list.iter().filter(|problem| {
            lines(problem.line)
                .is_some_and(|l| l.starts_with("name:") || l.starts_with("provider:"))
        });
        let ours: Vec<String> = ours.map(|p| format!("{}; {}", p.message, p.hint)).collect();
        if !ours.is_empty() {
            return Err(Error::Usage(ours.join("\n")));
        }
    }
    if arguments.force {
        std::fs::write(path, &text).map_err(|error| Error::file("write", path, &error))?;
    } else {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::Usage(format!(
                "{name} is there already; nothing was changed (--force overwrites it)"
            )),
            _ => Error::file("write", path, &error),
        })?;
    }
    out::line(&format!(
        "wrote {name}; next: `raftctl check`, `raftctl plan`, `raftctl up`"
    ))
}

fn fill(arguments: &Arguments) -> String {
    let mut text = String::new();
    for line in TEMPLATE.lines() {
        let line = match line.split_once(':').map(|(key, _)| key) {
            Some("name") => replace(line, &arguments.name),
            Some("provider") => replace(line, &arguments.provider),
            Some("nodes") => replace(line, &arguments.nodes.to_string()),
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Another value for the key of a line; its comment stays.
fn replace(line: &str, value: &str) -> String {
    let key = line.split(':').next().unwrap_or(line);
    match line.split_once('#') {
        Some((before, comment)) => {
            let width = before.len().saturating_sub(key.len() + 2);
            format!("{key}: {value:<width$}#{comment}")
        }
        None => format!("{key}: {value}"),
    }
}
