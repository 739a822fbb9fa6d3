//! When a stream has to be made anew: certificates are judged when a connection begins, and a stream may
//! last for months.

use crate::tls::Dial;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// When a new stream could not be made, it is tried again after so long; the old one is in use meanwhile.
const RETRY: Duration = Duration::from_secs(2);

/// Of one stream.
pub(super) struct Renewal {
    tls: Option<(Dial, watch::Receiver<u64>)>,
    retry_at: Option<Instant>,
}

impl Renewal {
    /// Of a stream that is about to be made.
    pub(super) fn of(tls: Option<&Dial>) -> Self {
        Renewal {
            tls: tls.map(|dial| (dial.clone(), dial.changes())),
            retry_at: None,
        }
    }

    /// Waits until it is time for another; whether the stream must not live on without.
    pub(super) async fn is_due(&mut self) -> bool {
        let Some((dial, changes)) = &mut self.tls else {
            return std::future::pending().await;
        };
        let now = Instant::now();
        let retry_at = self.retry_at;
        let must = tokio::select! {
            Ok(()) = changes.changed(), if retry_at.is_none() => false,
            () = sleep_until(retry_at.unwrap_or(now)), if retry_at.is_some() => false,
            () = dial.peer_ends() => true,
        };
        self.retry_at = Some(Instant::now() + RETRY);
        must
    }

    /// There is another stream.
    pub(super) fn done(&mut self) {
        self.retry_at = None;
    }
}
