//! Notices a disk that does not answer at all.

use std::time::{Duration, Instant};

/// After such a time without any answer to what was handed over, the node ends. Long enough for a
/// path or a volume that fails over (the kernel itself tries a command for 30 s, then again);
/// nothing is lost by then: the node has not led since its lease ended, and nothing it takes in
/// can get an answer. What supervises it can start it anew, or show that it can't.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two looks are not further apart than this while the node runs. Whatever time beyond it passes
/// between them, the process was stopped or the machine asleep, and the disk with it.
const LOOK: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct HangWatch {
    looked_at: Option<Instant>,
    durable: u64,
    silent: Duration,
}

impl HangWatch {
    /// A look at how many works were handed over and are durable. Returns whether the disk has
    /// been silent for too long.
    pub(super) fn hangs(&mut self, now: Instant, submitted: u64, durable: u64) -> bool {
        let passed = now.saturating_duration_since(self.looked_at.unwrap_or(now));
        self.looked_at = Some(now);
        if durable > self.durable || durable == submitted {
            self.silent = Duration::ZERO;
        } else {
            self.silent += passed.min(LOOK);
        }
        self.durable = durable;
        self.silent >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second for so long, with this outstanding; returns whether it was too long.
    fn look(watch: &mut HangWatch, now: &mut Instant, seconds: u64, works: (u64, u64)) -> bool {
        (0..seconds).any(|_| {
            *now += Duration::from_secs(1);
            watch.hangs(*now, works.0, works.1)
        })
    }

    // An idle disk and a slow one are waited for; one that says nothing for a minute is not.
    #[test]
    fn only_silence_counts() {
        let (mut watch, mut now) = (HangWatch::default(), Instant::now());
        assert!(!look(&mut watch, &mut now, 300, (5, 5)), "idle");
        for durable in 5..8 {
            assert!(!look(&mut watch, &mut now, 59, (9, durable)), "slow");
        }
        assert!(look(&mut watch, &mut now, 61, (9, 7)), "silent");
    }

    // A process that was stopped for long has not waited for its disk meanwhile.
    #[test]
    fn a_pause_is_no_silence() {
        let (mut watch, mut now) = (HangWatch::default(), Instant::now());
        assert!(!look(&mut watch, &mut now, 10, (2, 1)));
        now += Duration::from_secs(3600);
        assert!(!look(&mut watch, &mut now, 40, (2, 1)));
        assert!(look(&mut watch, &mut now, 20, (2, 1)));
    }
}
