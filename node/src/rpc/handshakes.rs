//! Handshakes of TLS have a thread of their own, one for each port.
//!
//! Each takes a fraction of a millisecond of a processor, and whoever likes can begin thousands. One at a time is
//! at work at a port, beside the thread that serves those who are connected, which the scheduler gives its
//! share; and a flood at the clients' port is none at the peers'. Those that wait for the other side's words
//! wait together.

use std::io;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Where the handshakes of one port are done. The thread ends with it, and what is not done by then.
#[derive(Debug)]
pub(super) struct Handshakes {
    handle: Handle,
    _ends: oneshot::Sender<()>,
}

impl Handshakes {
    /// Starts the thread.
    pub(super) fn begin() -> io::Result<Self> {
        // Sockets are watched by the runtime that took them.
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("handshakes".into());
        thread.spawn(move || {
            // An error says that nobody needs it any more, as intended.
            runtime.block_on(ended).ok();
        })?;
        Ok(Handshakes {
            handle,
            _ends: ends,
        })
    }

    /// Has something done there.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    // However many are begun, one is at work at a time, and in no thread that serves others; one that waits holds
    // nobody up.
    #[tokio::test(flavor = "multi_thread")]
    async fn one_is_at_work_at_a_time() {
        let handshakes = Handshakes::begin().unwrap();
        let (never, waits) = oneshot::channel::<()>();
        handshakes.spawn(async move { waits.await.unwrap_or_default() });
        let (at_work, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut done = Vec::new();
        for _ in 0..50 {
            let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
            let (tell, told) = oneshot::channel();
            handshakes.spawn(async move {
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(2));
                at_work.fetch_sub(1, Ordering::SeqCst);
                let thread = std::thread::current();
                tell.send(thread.name() == Some("handshakes")).unwrap();
            });
            done.push(told);
        }
        for told in done {
            assert!(told.await.unwrap());
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
        drop(never);
    }
}
