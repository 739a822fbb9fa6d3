//! The section `limits`: what raftctl does at once, and how long it waits.

use std::time::Duration;

use super::reader::{Report, Section};
use super::yaml::Value;

/// Bounds of what raftctl does at once and waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Hosts that are worked on at a time.
    pub hosts: usize,
    /// Binaries that are uploaded at a time.
    pub uploads: usize,
    /// Reaching a host.
    pub connect: Duration,
    /// One script on one host.
    pub step: Duration,
    /// One verb as a whole.
    pub total: Duration,
    /// Waiting until someone else has changed the cluster; `--lock-wait`, and not in the file.
    pub lock_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hosts: 16,
            uploads: 4,
            connect: Duration::from_secs(5),
            step: Duration::from_secs(60),
            total: Duration::from_secs(600),
            lock_wait: Duration::from_secs(10),
        }
    }
}

/// What a login takes after the connection is made.
const LOGIN_TIME: Duration = Duration::from_secs(5);

const KEYS: &[&str] = &["hosts", "uploads", "connect", "step", "total"];
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

impl Limits {
    /// Reaching a host and logging in there. ssh itself is to give up first: it tells the cause.
    #[must_use]
    pub fn login(&self) -> Duration {
        self.connect + LOGIN_TIME
    }

    /// Reads the section.
    pub(super) fn read(value: &Value, report: &mut Report<'_>) -> Self {
        let mut limits = Limits::default();
        let Some(section) = Section::open(value, "limits.", KEYS, report) else {
            return limits;
        };
        let mut count = |key, field: &mut usize| {
            if let Some(number) = section.integer(key, 1..=256, report) {
                // At most 256: fits any usize.
                *field = usize::try_from(number).unwrap_or(usize::MAX);
            }
        };
        count("hosts", &mut limits.hosts);
        count("uploads", &mut limits.uploads);
        let mut time = |key, field: &mut Duration| {
            if let Some(length) = section.duration(key, SECOND..=HOUR, report) {
                *field = length;
            }
        };
        time("connect", &mut limits.connect);
        time("step", &mut limits.step);
        time("total", &mut limits.total);
        limits
    }
}
