//! `init`: a commented cluster.yaml to begin with.

use std::io::{ErrorKind, Write};
use std::path::Path;

use serde_json::json;

use crate::error::problem::Problem;
use crate::error::{Error, Result};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;

/// The file that comes with the project, which is also what `init` writes.
const TEMPLATE: &str = include_str!("../../../cluster.yaml");

/// What is written instead of the template's values.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The cluster's name
    #[arg(long, default_value = "demo")]
    pub name: String,
    /// What the nodes run on: local, ssh, docker or gcp
    #[arg(long, default_value = "local")]
    pub provider: String,
    /// How many nodes
    #[arg(long, default_value_t = 5)]
    pub nodes: u64,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,
}

/// Writes the file, never over another one unless told to.
///
/// # Errors
/// There is one already, or the values make no cluster.
pub fn run(path: &Path, options: &Options, arguments: &Arguments) -> Result<()> {
    let name = path.display().to_string();
    if name == "-" {
        return Err(Error::Usage(
            "init writes a file, and - is none; name one, as in -c cluster.yaml".into(),
        ));
    }
    check(arguments, &name)?;
    let text = fill(arguments);
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
    match options.output {
        Output::Text => out::line(&format!(
            "wrote {name}; next: `raftctl check`, `raftctl plan`, `raftctl up`"
        )),
        Output::Json => out::json(&json!({ "file": name })),
    }
}

/// What is said here has to be right; what the provider needs beside is for the operator to add,
/// and `check` names it.
fn check(arguments: &Arguments, name: &str) -> Result<()> {
    let Arguments {
        name: cluster,
        provider,
        nodes,
        ..
    } = arguments;
    let provider = match provider.as_str() {
        "ssh" | "docker" | "gcp" => "local", // Checked by itself: these need more than a name.
        other => other,
    };
    let text = format!("name: {cluster:?}\nprovider: {provider:?}\nnodes: {nodes}\n");
    let checked = crate::cluster::parse(&text, name, ".".into(), &|_| None);
    checked.map(drop).map_err(|problems| {
        let problem = |problem: &Problem| format!("{}; {}", problem.message, problem.hint);
        let problems: Vec<String> = problems.list.iter().map(problem).collect();
        Error::Usage(problems.join("\n"))
    })
}

/// The template with the values, and the section of the provider as an example to fill in.
fn fill(arguments: &Arguments) -> String {
    let section = format!("# {}:", arguments.provider);
    let mut text = String::new();
    let mut in_section = false;
    for line in TEMPLATE.lines() {
        in_section = line.starts_with(&section) || (in_section && line.starts_with("#   "));
        let line = match line.split_once(':').map(|(key, _)| key) {
            _ if in_section => line.trim_start_matches("# ").replacen("#   ", "  ", 1),
            Some("name") => replace(line, &arguments.name),
            Some("provider") => replace(line, &arguments.provider),
            // Others are on that network, too.
            Some("# tls") if arguments.provider != "local" => {
                line.trim_start_matches("# ").to_owned()
            }
            Some("nodes") if arguments.provider == "ssh" => hosts(arguments.nodes),
            Some("nodes") => replace(line, &arguments.nodes.to_string()),
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// A list of nodes with hosts to put the right names to.
fn hosts(nodes: u64) -> String {
    let mut text =
        "nodes:                     # a list, or a number where the provider makes hosts:"
            .to_owned();
    for id in 1..=nodes {
        text.push_str(&format!("\n  - {{id: {id}, host: n{id}.example}}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Tls;
    use clap::ValueEnum;

    fn text(provider: &str, nodes: u64) -> String {
        fill(&Arguments {
            name: "mine".into(),
            provider: provider.into(),
            nodes,
            force: false,
        })
    }

    // Whatever the provider, the file that is written is right but for names to fill in.
    #[test]
    fn every_provider_gets_a_right_file() {
        for provider in crate::cluster::Provider::value_variants() {
            let text = text(&provider.name(), 3);
            let environment = |_: &str| Some("some-project".to_owned());
            let cluster = crate::cluster::parse(&text, "x", ".".into(), &environment)
                .unwrap_or_else(|problems| panic!("{provider:?}: {problems}\n{text}"));
            assert_eq!((cluster.name.as_str(), cluster.nodes.len()), ("mine", 3));
            assert_eq!(cluster.provider, *provider);
            let wanted = match provider.has_hosts() {
                true => Tls::On,
                false => Tls::Off,
            };
            assert_eq!(cluster.tls, wanted, "{text}");
            assert_eq!(cluster.clear_text_reminder(), None);
        }
    }

    // What a company may have to set is shown where it belongs, and is set only by whoever wants it.
    #[test]
    fn settings_of_companies_are_shown() {
        let text = text("gcp", 3);
        for key in crate::cluster::gcp::company::KEYS {
            assert!(text.contains(&format!("\n  # {key}: ")), "{key}: {text}");
        }
        assert!(!text.contains("\n  os_login"), "{text}");
    }

    // Comments stay beside the values they explain.
    #[test]
    fn comments_stay_in_line() {
        let text = text("local", 3);
        assert!(
            text.contains("\nprovider: local            # local: processes"),
            "{text}"
        );
        assert!(
            text.contains("\nnodes: 3                   # a number"),
            "{text}"
        );
    }
}
