//! Ctrl-C, and what else asks raftctl to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears from its making on, between two waits as well: whoever has several things to do, one after
/// the other, misses none.
pub struct Interruptions(Option<[Signal; 3]>);

impl Interruptions {
    /// Listens from now on. Where signals can't be had they end raftctl in their own way.
    #[must_use]
    pub fn new() -> Self {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let [Ok(interrupt), Ok(terminate), Ok(hangup)] = kinds.map(signal) else {
            return Interruptions(None);
        };
        Interruptions(Some([interrupt, terminate, hangup]))
    }

    /// Returns when raftctl is asked to end, with Ctrl-C or SIGTERM, or by the end of its terminal.
    pub async fn next(&mut self) {
        let Some([interrupt, terminate, hangup]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The next one. Hears from the call on, also before anybody waits.
pub fn interruption() -> impl Future<Output = ()> + Send {
    let mut interruptions = Interruptions::new();
    async move { interruptions.next().await }
}
