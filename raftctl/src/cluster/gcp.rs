//! The section `gcp`: hosts as instances of Google Compute Engine.

use std::time::Duration;

use super::reader::{Report, Section};
use super::yaml::Value;

/// How instances are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcpSettings {
    /// The project that pays.
    pub project: Option<String>,
    /// Zones to spread the nodes over, in turn.
    pub zones: Vec<String>,
    /// The machine type; absent: the module's default.
    pub machine_type: Option<String>,
    /// After this long the instances delete themselves; absent: never.
    pub lifetime: Option<Duration>,
}

const KEYS: &[&str] = &["project", "zones", "machine_type", "lifetime"];
const MINUTE: Duration = Duration::from_secs(60);
const LIFETIME_MAX: Duration = Duration::from_secs(120 * 24 * 3600); // Compute Engine's own bound

impl GcpSettings {
    /// Reads the section.
    pub fn read(value: &Value, report: &mut Report<'_>) -> Self {
        let Some(section) = Section::open(value, "gcp.", KEYS, report) else {
            return GcpSettings::default();
        };
        GcpSettings {
            project: section.text("project", report),
            zones: section.texts("zones", report).unwrap_or_default(),
            machine_type: section.text("machine_type", report),
            lifetime: section.duration("lifetime", MINUTE..=LIFETIME_MAX, report),
        }
    }
}
