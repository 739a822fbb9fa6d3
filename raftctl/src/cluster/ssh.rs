//! The section `ssh`: how hosts are reached, for every provider but `local`.

use std::path::PathBuf;

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
    /// `[user@]host[:port]` to go through.
    pub jump: Option<String>,
}

const KEYS: &[&str] = &["user", "port", "identity_file", "jump"];

impl SshSettings {
    /// Reads the section.
    pub fn read(value: &Value, report: &mut Report<'_>) -> Self {
        let Some(section) = Section::open(value, "ssh.", KEYS, report) else {
            return SshSettings::default();
        };
        SshSettings {
            user: section.text("user", report),
            port: section.port("port", report),
            identity_file: section.text("identity_file", report).map(PathBuf::from),
            jump: section.text("jump", report),
        }
    }
}
