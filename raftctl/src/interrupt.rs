//! Ctrl-C.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears from its making on, between two waits as well: whoever has several things to do, one after
/// the other, misses none.
pub struct Interruptions(Option<[Signal; 2]>);

impl Interruptions {
    /// Listens from now on. Where signals can't be had they end raftctl in their own way.
    #[must_use]
    pub fn new() -> Self {
        let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        let [Ok(interrupt), Ok(terminate)] = signals else {
            return Interruptions(None);
        };
        Interruptions(Some([interrupt, terminate]))
    }

    /// Returns when raftctl is asked to end, with Ctrl-C or SIGTERM.
    pub async fn next(&mut self) {
        let Some([interrupt, terminate]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// The next one. Hears from the call on, also before anybody waits.
pub fn interruption() -> impl Future<Output = ()> + Send {
    let mut interruptions = Interruptions::new();
    async move { interruptions.next().await }
}
