//! How long to wait before the next attempt: exponential, bounded, with jitter so that clients
//! that failed together do not come back together.

use std::time::Duration;

/// The shortest pause. A lease that a new leader waits for ends at any moment, so the first
/// questions follow each other closely.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The longest pause: what a client may lose after the cluster is well again.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// The pauses of one operation.
#[derive(Debug, Default)]
pub struct Backoff {
    pauses: u32,
}

impl Backoff {
    /// The next pause: a random time within the upper half of a bound that doubles each time.
    pub fn next_pause(&mut self) -> Duration {
        let bound = PAUSE_MIN
            .saturating_mul(1 << self.pauses.min(8))
            .min(PAUSE_MAX);
        self.pauses = self.pauses.saturating_add(1);
        rand::random_range(bound / 2..=bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses grow, stay within their bounds, and differ between clients.
    #[test]
    fn pauses_grow_to_a_bound_and_carry_jitter() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let mut backoff = Backoff::default();
            let pauses: Vec<Duration> = (0..100).map(|_| backoff.next_pause()).collect();
            assert!(pauses[0] <= PAUSE_MIN && pauses[0] >= PAUSE_MIN / 2);
            assert!(pauses[99] <= PAUSE_MAX && pauses[99] >= PAUSE_MAX / 2);
            seen.insert(pauses[99]);
        }
        assert!(seen.len() > 1, "no jitter");
    }
}
