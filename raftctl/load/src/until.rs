//! When a run ends: at a moment that is set beforehand, or earlier, when it is interrupted.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The end of a run. All clones are one.
#[derive(Debug, Clone)]
pub struct Until(std::sync::Arc<watch::Sender<Instant>>);

impl Until {
    /// An end after `length` from now on.
    #[must_use]
    pub fn after(length: Duration) -> Self {
        let (end, _) = watch::channel(Instant::now() + length);
        Until(std::sync::Arc::new(end))
    }

    /// When it ends, or has ended.
    #[must_use]
    pub fn at(&self) -> Instant {
        *self.0.borrow()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.at()
    }

    /// Ends it now, if it has not ended yet.
    pub fn end_now(&self) {
        let now = Instant::now();
        self.0.send_if_modified(|at| {
            let is_earlier = now < *at;
            *at = now.min(*at);
            is_earlier
        });
    }

    /// Returns `grace` after the end, also where that comes earlier than was meant.
    pub async fn past(&self, grace: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            let at = *changes.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(at + grace) => return,
                // The sender lives as long as `self`, so this is a change.
                _ = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whoever waits for the end learns that it has come early; it never moves to later.
    #[tokio::test]
    async fn an_end_may_come_early() {
        let until = Until::after(Duration::from_secs(3600));
        let started = Instant::now();
        let waiting = {
            let until = until.clone();
            tokio::spawn(async move { until.past(Duration::from_millis(20)).await })
        };
        tokio::task::yield_now().await;
        assert!(!until.is_over());
        until.end_now();
        waiting.await.unwrap();
        let took = started.elapsed();
        assert!(
            took >= Duration::from_millis(20) && took < Duration::from_secs(60),
            "{took:?}"
        );
        let at = until.at();
        until.end_now();
        assert!(until.is_over() && until.at() == at);
    }
}
