//! The one clock that leases and timers are measured with.
//!
//! CLOCK_BOOTTIME, because it goes on while a virtual machine is suspended; a monotonic clock that
//! stands still would let a leader believe in a lease that is long over. A hypervisor that
//! freezes every clock of its guest can't be noticed from inside: who cannot accept that reads
//! with quorum consistency, which trusts no clock.
//!
//! A node that was started for clock faults can run its clock faster or slower and make it jump,
//! so that drift can be tried on a real cluster.

use crate::raft::Micros;
use rustix::time::{ClockId, clock_gettime};
use std::sync::{Mutex, PoisonError};

#[cfg(target_os = "linux")]
const SOURCE: ClockId = ClockId::Boottime;
// Elsewhere (macOS) the monotonic clock is the one that goes on in sleep.
#[cfg(not(target_os = "linux"))]
const SOURCE: ClockId = ClockId::Monotonic;

const MILLION: i128 = 1_000_000;

/// The node's clock, in microseconds. Comparable only with itself, within one process.
#[derive(Debug, Default)]
pub struct Clock {
    /// `None`: true time. Fixed at the start.
    faults: Option<Mutex<Faults>>,
}

/// A straight line from true time to the node's: what it showed at the anchor, and its slope.
#[derive(Clone, Copy, Debug)]
struct Faults {
    anchor_true_us: Micros,
    anchor_shown_us: Micros,
    rate_ppm: i64,
}

impl Faults {
    fn shown(&self, true_us: Micros) -> Micros {
        let elapsed = i128::from(true_us) - i128::from(self.anchor_true_us);
        let scaled = elapsed * (MILLION + i128::from(self.rate_ppm)) / MILLION;
        let shown = i128::from(self.anchor_shown_us) + scaled;
        Micros::try_from(shown.max(0)).unwrap_or(Micros::MAX)
    }
}

impl Clock {
    /// A clock that runs fast (positive) or slow (negative) by `rate_ppm` parts per million, and
    /// accepts [`Clock::disturb`].
    pub fn with_faults(rate_ppm: i64) -> Self {
        let now = true_now_us();
        let faults = Faults {
            anchor_true_us: now,
            anchor_shown_us: now,
            rate_ppm,
        };
        Clock {
            faults: Some(Mutex::new(faults)),
        }
    }

    /// The time now.
    pub fn now_us(&self) -> Micros {
        match &self.faults {
            None => true_now_us(),
            Some(faults) => {
                let faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
                faults.shown(true_now_us())
            }
        }
    }

    /// Names what the clock counts from: equal names, and points in time of an earlier process can
    /// be compared with those of this one. `None` where that can't be known, or must not be.
    pub fn origin(&self) -> Option<String> {
        if self.faults.is_some() || cfg!(not(target_os = "linux")) {
            return None;
        }
        // A time namespace shifts this clock against the machine's.
        let namespace = std::fs::read_link("/proc/self/ns/time").ok()?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let name = format!("{}/{}", boot.trim(), namespace.to_str()?);
        (!name.contains(char::is_whitespace)).then_some(name)
    }

    /// Jumps by `jump_us` and goes on at a new rate. Returns false, and changes nothing, unless
    /// the clock was made for faults.
    pub fn disturb(&self, jump_us: i64, rate_ppm: i64) -> bool {
        let Some(faults) = &self.faults else {
            return false;
        };
        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
        let true_us = true_now_us();
        *faults = Faults {
            anchor_true_us: true_us,
            anchor_shown_us: faults.shown(true_us).saturating_add_signed(jump_us),
            rate_ppm,
        };
        true
    }
}

fn true_now_us() -> Micros {
    let now = clock_gettime(SOURCE);
    // Time since the start of the machine: never negative.
    let seconds = Micros::try_from(now.tv_sec).unwrap_or(0);
    let nanos = Micros::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanos / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    // The rate applies from the anchor on, and a change of rate makes no jump.
    #[test]
    fn the_line_bends_without_a_break() {
        let slow = Faults {
            anchor_true_us: 1_000_000,
            anchor_shown_us: 5_000_000,
            rate_ppm: -5_000,
        };
        assert_eq!(slow.shown(1_000_000), 5_000_000);
        assert_eq!(slow.shown(2_000_000), 5_995_000);
        let fast = Faults {
            anchor_true_us: 2_000_000,
            anchor_shown_us: slow.shown(2_000_000),
            rate_ppm: 500_000,
        };
        assert_eq!(fast.shown(2_000_000), 5_995_000);
        assert_eq!(fast.shown(2_000_002), 5_995_003);
    }

    // Only a clock that was made for it can be disturbed.
    #[test]
    fn a_sound_clock_takes_no_faults() {
        assert!(!Clock::default().disturb(1, 1));
        let clock = Clock::with_faults(0);
        let before = clock.now_us();
        assert!(clock.disturb(60_000_000, 0));
        assert!(clock.now_us() >= before + 60_000_000);
    }
}
