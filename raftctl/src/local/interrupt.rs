//! Ctrl-C, and whatever else asks raftctl to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears from its making on, between two waits as well: whoever has several things to do, one after
/// the other, misses none.
pub struct Interruptions {
    /// Ctrl-C and SIGTERM. Where they can't be had they end raftctl in their own way.
    asked: Option<[Signal; 2]>,
    /// The terminal was closed, or its line broke. It is said by more than one, and nobody insists in
    /// that way: so it counts as the first interruption only.
    hangup: Option<Signal>,
}

impl Interruptions {
    /// Listens from now on.
    #[must_use]
    pub fn new() -> Self {
        let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        let asked = match signals {
            [Ok(interrupt), Ok(terminate)] => Some([interrupt, terminate]),
            _ => None,
        };
        // Whoever started it under `nohup` wants it to go on. Where that can't be seen it is heard.
        let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangup = match ignores_hangup(&own) {
            true => None,
            false => signal(SignalKind::hangup()).ok(),
        };
        Interruptions { asked, hangup }
    }

    /// Returns when raftctl is asked to end: with Ctrl-C, SIGTERM, or by a terminal that is closed.
    pub async fn next(&mut self) {
        let Some([interrupt, terminate]) = &mut self.asked else {
            return std::future::pending().await;
        };
        let hangup = &mut self.hangup;
        let closed = async {
            match hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = closed => {}
        }
        self.hangup = None;
    }
}

/// The next one. Hears from the call on, also before anybody waits.
pub fn interruption() -> impl Future<Output = ()> + Send {
    let mut interruptions = Interruptions::new();
    async move { interruptions.next().await }
}

/// Whether a process with such a `/proc/<pid>/status` ignores SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    // Signal 1 is the lowest bit.
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    // What `nohup` asks for is seen; Rust's own programs ignore SIGPIPE, which is another one.
    #[test]
    fn nohup_is_seen() {
        let status = |mask: &str| format!("Name:\traftctl\nSigBlk:\t0000000000000001\n{mask}");
        assert!(ignores_hangup(&status("SigIgn:\t0000000000001001\n")));
        assert!(!ignores_hangup(&status("SigIgn:\t0000000000001000\n")));
        assert!(!ignores_hangup(&status("")));
    }
}
