//! The section `ssh`: how hosts are reached, for every provider but `local`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::nodes::Node;
use super::reader::{Report, Section};
use super::yaml::Value;

/// How hosts are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SshSettings {
    /// The login; absent: what ssh's own configuration says.
    pub user: Option<String>,
    /// The port; absent: what ssh's own configuration says.
    pub port: Option<u16>,
    /// A private key; absent: the agent, and ssh's own defaults.
    pub identity_file: Option<PathBuf>,
    /// The line that names it; 0 where none does.
    pub identity_line: u64,
    /// `[user@]host[:port]` to go through.
    pub jump: Option<String>,
    /// Hosts of no node, for those that trials bring and take away again.
    pub spare: Vec<String>,
}

/// How [`SshSettings::identity_file`] is called in messages.
pub const IDENTITY_KEY: &str = "ssh.identity_file";

const KEYS: &[&str] = &["user", "port", "identity_file", "jump", "spare"];

impl SshSettings {
    /// Reads the section.
    pub fn read(value: &Value, report: &mut Report<'_>) -> Self {
        let Some(section) = Section::open(value, "ssh.", KEYS, report) else {
            return SshSettings::default();
        };
        SshSettings {
            user: section.name("user", report),
            port: section.port("port", report),
            identity_line: match section.value("identity_file") {
                Some(_) => section.line_of("identity_file"),
                None => 0,
            },
            identity_file: section.text("identity_file", report).map(PathBuf::from),
            jump: section.name("jump", report),
            spare: section.names("spare", report).unwrap_or_default(),
        }
    }

    /// A spare host that has a node, or is there twice, is none.
    pub fn check(&self, nodes: &[Node], line: u64, report: &mut Report<'_>) {
        let mut taken: BTreeSet<&str> = nodes
            .iter()
            .filter_map(|node| node.host.as_deref())
            .collect();
        for host in &self.spare {
            if !taken.insert(host) {
                report.problem(
                    line,
                    format!("ssh.spare has {host}, which has a node already, or is there twice"),
                    "name hosts that no node has",
                );
            }
        }
    }

    /// Where the private key is: `~` is the home of whoever runs raftctl, and a relative path
    /// starts at the folder of cluster.yaml.
    #[must_use]
    pub fn identity_path(&self, directory: &Path) -> Option<PathBuf> {
        let path = self.identity_file.as_deref()?;
        let path = match (path.strip_prefix("~"), std::env::home_dir()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        };
        // Of an absolute path nothing but the path is left; ssh has places of its own for others.
        let path = directory.join(path);
        Some(std::path::absolute(&path).unwrap_or(path))
    }
}
