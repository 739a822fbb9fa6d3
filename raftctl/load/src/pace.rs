//! Open loop: operations begin at the times that a rate gives, whatever became of those before.
//!
//! A latency is counted from the time at which its operation was to begin. So a stall counts for each
//! operation that it delays, and not only for those few that happened to be on their way.
//!
//! What waits is a number: operations that are due and have no client yet are made only when one is free.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;

use super::until::Until;

/// How long clients get to connect and to open their sessions before the first operation is due.
pub const LEAD: Duration = Duration::from_millis(300);

/// How often it is looked what is due, at most. A timer of tokio counts milliseconds, and an operation that is
/// begun late by one would be told as slow.
const TICK: Duration = Duration::from_micros(100);

/// Fewer than one of so many may be left at the end, for the rate to have been kept.
const LEFT_SHARE: u64 = 100;

/// The times at which operations are to begin. Pure.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    first: Instant,
    per_second: u64,
}

impl Schedule {
    /// The first at `first`, and so many a second from then on.
    #[must_use]
    pub fn new(first: Instant, per_second: u64) -> Self {
        Schedule {
            first,
            per_second: per_second.max(1),
        }
    }

    /// When the operation of this number, counted from 0, is to begin.
    #[must_use]
    pub fn intended(&self, number: u64) -> Instant {
        let ns = u128::from(number) * 1_000_000_000 / u128::from(self.per_second);
        self.first + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// How many are to have begun by now.
    #[must_use]
    pub fn due(&self, now: Instant) -> u64 {
        let Some(since) = now.checked_duration_since(self.first) else {
            return 0;
        };
        let whole = since.as_nanos() * u128::from(self.per_second) / 1_000_000_000;
        u64::try_from(whole).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The schedule as it is kept. One for all clients: whoever is free takes the next operation.
#[derive(Debug)]
pub struct Pace {
    schedule: Schedule,
    until: Until,
    due: Semaphore,
    begun: AtomicU64,
    /// By how much an operation began too late, at most.
    late_us_max: AtomicU64,
}

impl Pace {
    /// Operations become due from `LEAD` on until `until`.
    #[must_use]
    pub fn start(per_second: u64, until: &Until) -> Arc<Pace> {
        let pace = Arc::new(Pace {
            schedule: Schedule::new(Instant::now() + LEAD, per_second),
            until: until.clone(),
            due: Semaphore::new(0),
            begun: AtomicU64::new(0),
            late_us_max: AtomicU64::new(0),
        });
        let (weak, until) = (Arc::downgrade(&pace), until.clone());
        std::thread::spawn(move || hand_out(&weak, &until));
        pace
    }

    /// Takes the operation that is due next, and tells when it was to begin.
    pub fn take(&self) -> Option<Instant> {
        self.due.try_acquire().ok()?.forget();
        Some(self.begin())
    }

    /// Waits until one is due. None is lost where nobody waits to the end.
    pub async fn next(&self) -> Instant {
        match self.due.acquire().await {
            Ok(permit) => permit.forget(),
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
        self.begin()
    }

    fn begin(&self) -> Instant {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let intended = self.schedule.intended(number);
        let late = Instant::now().saturating_duration_since(intended);
        let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.late_us_max.fetch_max(late_us, Ordering::Relaxed);
        intended
    }

    /// What became of the rate.
    #[must_use]
    pub fn kept(&self) -> Rate {
        let begun = self.begun.load(Ordering::Relaxed);
        // By the clock, because the thread that hands out may not have come to its last ones.
        let now = Instant::now().min(self.until.at().into_std());
        let due = self.schedule.due(now).max(begun);
        Rate {
            asked_per_second: self.schedule.per_second,
            due,
            never_begun: due - begun,
            late_us_max: self.late_us_max.load(Ordering::Relaxed),
        }
    }
}

/// The work of a thread of its own, which sleeps more exactly than a runtime.
fn hand_out(pace: &Weak<Pace>, until: &Until) {
    let mut handed_out = 0;
    while let Some(pace) = pace.upgrade() {
        let end = until.at().into_std();
        let now = Instant::now().min(end);
        // An end that came early takes none back.
        let due = pace.schedule.due(now).max(handed_out);
        let more = usize::try_from(due - handed_out).unwrap_or(usize::MAX);
        let room = Semaphore::MAX_PERMITS - pace.due.available_permits();
        pace.due.add_permits(more.min(room));
        handed_out = due;
        if now >= end {
            return;
        }
        let next = pace.schedule.intended(due);
        drop(pace);
        std::thread::sleep(next.saturating_duration_since(Instant::now()).max(TICK));
    }
}

/// Whether operations began when they were to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// So many a second were asked for.
    pub asked_per_second: u64,
    /// So many were to begin.
    pub due: u64,
    /// So many of them never did: every client was busy.
    pub never_begun: u64,
    /// The latest began by so much too late, in microseconds; that is a part of its latency.
    pub late_us_max: u64,
}

impl Rate {
    /// Whether the figures are those of the rate that was asked for.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.never_begun * LEFT_SHARE <= self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Intended times do not drift: each is counted from the first, and is due exactly then.
    #[test]
    fn intended_times_are_counted_from_the_first() {
        let first = Instant::now();
        let schedule = Schedule::new(first, 3);
        assert_eq!(schedule.intended(0), first);
        assert_eq!(
            schedule.intended(3_000_000),
            first + Duration::from_secs(1_000_000)
        );
        assert_eq!(schedule.due(first - Duration::from_nanos(1)), 0);
        for number in [0, 1, 2, 7, 1_000] {
            let late = schedule.intended(number) + Duration::from_nanos(1);
            assert_eq!(schedule.due(late), number + 1);
        }
        assert_eq!(schedule.due(first + Duration::from_millis(999)), 3);
    }

    // Whoever takes an operation late gets the time at which it was to begin; those that nobody takes are counted.
    #[tokio::test]
    async fn what_waits_keeps_its_time() {
        let until = Until::after(LEAD + Duration::from_millis(100));
        let pace = Pace::start(1_000, &until);
        assert_eq!(pace.take(), None, "nothing is due yet");
        let first = pace.next().await;
        until.past(Duration::from_millis(50)).await;
        let second = pace.take().unwrap();
        assert_eq!(second - first, Duration::from_millis(1));
        let rate = pace.kept();
        assert_eq!(
            (rate.due - rate.never_begun, rate.asked_per_second),
            (2, 1_000)
        );
        assert_eq!(rate.due, 100);
        assert!(rate.late_us_max >= 100_000, "{rate:?}");
        assert!(!rate.is_kept());
    }

    // One in a hundred may be left at the end, because some are always on their way.
    #[test]
    fn a_rate_is_kept_or_not() {
        let rate = |due, never_begun| Rate {
            asked_per_second: 1,
            due,
            never_begun,
            late_us_max: 0,
        };
        assert!(rate(1_000, 10).is_kept());
        assert!(!rate(1_000, 11).is_kept());
        assert!(rate(0, 0).is_kept());
    }
}
