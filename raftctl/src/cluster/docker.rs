//! The section `docker`: hosts as containers on this machine.

use super::reader::{Report, Section};
use super::yaml::Value;

/// How containers are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DockerSettings {
    /// The image to run; absent: one that raftctl builds.
    pub image: Option<String>,
}

const KEYS: &[&str] = &["image"];

impl DockerSettings {
    /// Reads the section.
    pub fn read(value: &Value, report: &mut Report<'_>) -> Self {
        let Some(section) = Section::open(value, "docker.", KEYS, report) else {
            return DockerSettings::default();
        };
        DockerSettings {
            image: section.name("image", report),
        }
    }
}
