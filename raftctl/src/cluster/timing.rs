//! Elections, heartbeats and the lease: two presets, and values of one's own.

use std::ops::RangeInclusive;
use std::time::Duration;

use raftkv::LEASE_MS;

use super::reader::{self, Report, Section};
use super::yaml::{Kind, Value};

/// The lease may be this long; outside, cluster.yaml is refused.
pub const LEASE: RangeInclusive<Duration> =
    Duration::from_millis(*LEASE_MS.start())..=Duration::from_millis(*LEASE_MS.end());

const PRESETS: &[&str] = &["lan", "wan"];
const KEYS: &[&str] = &[
    "preset",
    "election_timeout_ms",
    "heartbeat_ms",
    "lease",
    "lease_ms",
    "max_clock_drift_ppm",
];

/// The timing of a cluster, the same at every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// An election timeout is drawn between these two.
    pub election_timeout_min_ms: u64,
    /// See [`Self::election_timeout_min_ms`].
    pub election_timeout_max_ms: u64,
    /// How often a leader is heard when nothing happens.
    pub heartbeat_ms: u64,
    /// How long a leader may answer reads from memory after a majority has answered it.
    pub lease_ms: u64,
    /// How far two clocks may drift apart, in parts per million of the time that passes.
    pub max_clock_drift_ppm: u64,
}

impl Timing {
    /// One machine, or one region.
    pub const LAN: Timing = Timing {
        election_timeout_min_ms: 1_000,
        election_timeout_max_ms: 2_000,
        heartbeat_ms: 100,
        lease_ms: 2_000,
        max_clock_drift_ppm: 5_000,
    };

    /// Regions far apart; the figures of the public specification.
    pub const WAN: Timing = Timing {
        election_timeout_min_ms: 5_000,
        election_timeout_max_ms: 10_000,
        heartbeat_ms: 1_000,
        lease_ms: 5_000,
        max_clock_drift_ppm: 5_000,
    };

    /// How long a cluster may need to replace a leader that died without a word: the lease that
    /// it may have held, and three elections in case votes split.
    #[must_use]
    pub fn recovery(&self) -> Duration {
        Duration::from_millis(self.lease_ms + 3 * self.election_timeout_max_ms)
    }

    /// Reads `timing` (a preset, or a mapping) and the `lease` beside it.
    pub(super) fn read(file: &Section<'_>, report: &mut Report<'_>) -> Self {
        let mut timing = Timing::LAN;
        match file.value("timing") {
            Some(value) if matches!(value.kind, Kind::Map(_)) => {
                timing = Timing::read_section(value, report);
            }
            Some(_) => {
                let preset = file.choice("timing", PRESETS, report);
                timing = Timing::preset(preset.as_deref());
            }
            None => {}
        }
        if let Some(lease) = file.duration("lease", LEASE, report) {
            let inside = file.value("timing").is_some_and(has_lease);
            if inside {
                report.problem(
                    file.line_of("lease"),
                    "the lease is given here and in timing",
                    "keep one of the two",
                );
            }
            timing.lease_ms = milliseconds(lease);
        }
        timing.check(file.line_of("timing"), report);
        timing
    }

    fn preset(name: Option<&str>) -> Self {
        match name {
            Some("wan") => Timing::WAN,
            _ => Timing::LAN,
        }
    }

    fn read_section(value: &Value, report: &mut Report<'_>) -> Self {
        let Some(section) = Section::open(value, "timing.", KEYS, report) else {
            return Timing::LAN;
        };
        let preset = section.choice("preset", PRESETS, report);
        let mut timing = Timing::preset(preset.as_deref());
        if let Some((min, max)) = election_timeout(&section, report) {
            timing.election_timeout_min_ms = min;
            timing.election_timeout_max_ms = max;
        }
        if let Some(heartbeat) = section.integer("heartbeat_ms", 10..=10_000, report) {
            timing.heartbeat_ms = heartbeat;
        }
        let in_ms = section.integer("lease_ms", LEASE_MS, report);
        let lease = section.duration("lease", LEASE, report).map(milliseconds);
        if section.value("lease").is_some() && section.value("lease_ms").is_some() {
            report.problem(
                section.line_of("lease_ms"),
                "the lease is given twice",
                "keep lease or lease_ms",
            );
        }
        if let Some(lease) = lease.or(in_ms) {
            timing.lease_ms = lease;
        }
        if let Some(drift) = section.integer("max_clock_drift_ppm", 0..=100_000, report) {
            timing.max_clock_drift_ppm = drift;
        }
        timing
    }

    /// What holds between the values.
    fn check(&self, line: u64, report: &mut Report<'_>) {
        let (min, max) = (self.election_timeout_min_ms, self.election_timeout_max_ms);
        if self.heartbeat_ms * 3 > min {
            report.problem(
                line,
                format!("a heartbeat every {} ms is too slow for an election timeout from {min} ms",
                    self.heartbeat_ms),
                format!("a follower should miss three before it stands for election: heartbeat_ms at most {}",
                    min / 3),
            );
        }
        if self.heartbeat_ms * 3 > self.lease_ms {
            report.problem(
                line,
                format!(
                    "a heartbeat every {} ms is too slow for a lease of {} ms",
                    self.heartbeat_ms, self.lease_ms
                ),
                format!("heartbeat_ms at most {}", self.lease_ms / 3),
            );
        }
        if max < min + min / 4 {
            report.problem(
                line,
                format!("election timeouts from {min} to {max} ms are too close together"),
                "nodes would stand for election at the same time again and again: \
                 make the second at least a quarter larger",
            );
        }
    }
}

fn has_lease(timing: &Value) -> bool {
    let Kind::Map(entries) = &timing.kind else {
        return false;
    };
    entries.iter().any(|(key, _)| key.name.starts_with("lease"))
}

fn election_timeout(section: &Section<'_>, report: &mut Report<'_>) -> Option<(u64, u64)> {
    let value = section.value("election_timeout_ms")?;
    let Kind::List(items) = &value.kind else {
        report.problem(
            value.line,
            format!("timing.election_timeout_ms is {}", value.describe()),
            "write [min, max], as in [1000, 2000]",
        );
        return None;
    };
    let [min, max] = items.as_slice() else {
        report.problem(
            value.line,
            format!("timing.election_timeout_ms has {} values", items.len()),
            "write [min, max], as in [1000, 2000]",
        );
        return None;
    };
    let name = "timing.election_timeout_ms";
    let min = reader::integer(min, name, 50..=60_000, report);
    let max = reader::integer(max, name, 50..=60_000, report);
    min.zip(max)
}

fn milliseconds(length: Duration) -> u64 {
    // Bounded by LEASE long before this could overflow.
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
