//! Looks at the files once a second, and takes those that are good.

use super::files::{Loaded, look};
use super::{LoadError, Tls};
use crate::dump::Happening;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Files are written one after the other. What does not fit is told when it still does not at the next
/// look.
const TELL_AFTER_LOOKS: u32 = 2;

/// So long before its end, the end of a certificate is told, once a day.
const WARN_BEFORE: Duration = Duration::from_secs(7 * 24 * 3600);
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Tls {
    /// Follows the files for as long as the runtime lives.
    pub fn follow(self: Arc<Self>) {
        tokio::spawn(async move {
            let mut seen = None;
            let mut failed = 0;
            let mut warned: Option<SystemTime> = None;
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                let now = SystemTime::now();
                let since = |warned| now.duration_since(warned).unwrap_or(WARN_EVERY);
                if now + WARN_BEFORE > self.ends()
                    && warned.is_none_or(|warned| since(warned) >= WARN_EVERY)
                {
                    self.tell_end();
                    warned = Some(now);
                }
                let own = Arc::clone(&self);
                // A file system may hang: not here.
                let state = tokio::task::spawn_blocking(move || look(own.folder())).await;
                let Ok(state) = state else { return };
                let is_first = seen.is_none();
                if seen.as_ref() == Some(&state) && failed == 0 {
                    continue;
                }
                let is_same = seen.as_ref() == Some(&state);
                seen = Some(state);
                if is_first {
                    continue; // What was loaded just now.
                }
                let own = Arc::clone(&self);
                let read = tokio::task::spawn_blocking(move || {
                    Loaded::read(own.folder(), own.id, &own.cluster)
                });
                match read.await {
                    Ok(Ok(loaded)) => {
                        failed = 0;
                        warned = None;
                        self.take(loaded);
                    }
                    Ok(Err(error)) => {
                        failed = if is_same { failed + 1 } else { 1 };
                        if failed == TELL_AFTER_LOOKS {
                            self.keep(&error);
                        }
                    }
                    Err(_) => return,
                }
            }
        });
    }

    fn take(&self, loaded: Loaded) {
        let ends = loaded.ends;
        self.loaded.store(Arc::new(loaded));
        self.set_trouble(None);
        tracing::info!("another certificate is in use, or other authorities are trusted");
        self.dump.tell(Happening::CertificateTaken {
            ends_unix_s: seconds(ends),
        });
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn keep(&self, error: &LoadError) {
        let why = error.to_string();
        tracing::error!("the new certificate is not taken, the last good one stays: {why}");
        self.set_trouble(Some(why.clone()));
        self.dump.tell(Happening::CertificateKept(why.into()));
    }

    fn tell_end(&self) {
        let ends_unix_s = seconds(self.ends());
        tracing::warn!("this node's certificate ends soon, or has ended (at {ends_unix_s})");
        self.dump.tell(Happening::CertificateEnds { ends_unix_s });
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
