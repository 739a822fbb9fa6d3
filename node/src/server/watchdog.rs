//! Tells systemd that the loop still steps, where systemd waits for that (`WatchdogSec=` of its unit).
//!
//! It is told by the loop itself and by nobody else: a loop that is stuck feeds no watchdog, whatever other threads do, and
//! systemd ends the process and starts it again. Each message also says anew how long to wait. So whoever freezes the process on purpose
//! may switch the watchdog off meanwhile (`WATCHDOG_USEC=0`, as `raftctl pause` has its unit do), and a process that goes on,
//! whoever let it, switches it on again with its next step.
//!
//! Nothing waits for systemd: a message that it does not take at once is lost, and three more come in time.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// So many messages within the time that systemd waits.
const MESSAGES: u32 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watchdog(Option<Watched>);

#[derive(Debug)]
struct Watched {
    socket: UnixDatagram,
    /// Where systemd listens.
    path: OsString,
    /// How long it waits.
    limit: Duration,
    told_at: Option<Instant>,
}

impl Watchdog {
    /// Of whoever supervises this process, if it wants to hear of the loop.
    pub(super) fn of_this_process() -> Self {
        let path = std::env::var_os("NOTIFY_SOCKET");
        let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        let Some((path, limit)) = path.zip(limit) else {
            return Watchdog::default();
        };
        let watched = Watchdog::at(path, limit);
        watched.unwrap_or_else(|error| {
            tracing::warn!("the supervisor can't be told that the node goes on: {error}");
            Watchdog::default()
        })
    }

    fn at(path: OsString, limit: Duration) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Watchdog(Some(Watched {
            socket,
            path,
            limit,
            told_at: None,
        })))
    }

    /// How long the loop may rest at most, to be heard of in time.
    pub(super) fn rest_max(&self) -> Duration {
        let watched = self.0.as_ref();
        watched.map_or(Duration::MAX, |watched| watched.limit / MESSAGES)
    }

    /// The loop has made a step.
    pub(super) fn stepped(&mut self, now: Instant) {
        let rest = self.rest_max();
        let Some(watched) = &mut self.0 else { return };
        let is_early = |at: Instant| now.saturating_duration_since(at) < rest;
        if watched.told_at.is_some_and(is_early) {
            return;
        }
        watched.told_at = Some(now);
        let text = format!("WATCHDOG_USEC={}\nWATCHDOG=1\n", watched.limit.as_micros());
        if let Err(error) = watched.socket.send_to(text.as_bytes(), &watched.path) {
            tracing::warn!(
                "the supervisor did not take a sign of life, and may end this node: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    // Told at the first step and then several times within the limit, however often the loop steps; and with each
    // the limit itself, which somebody may have taken away.
    #[test]
    fn steps_are_told_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        listening.set_nonblocking(true).unwrap();
        let told = || {
            let mut bytes = [0; 128];
            let length = listening.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        let mut watchdog = Watchdog::at(path.into(), LIMIT).unwrap();
        assert_eq!(watchdog.rest_max(), LIMIT / 4);
        let mut now = Instant::now();
        let (mut steps, mut messages) = (0, 0);
        for _ in 0..400 {
            watchdog.stepped(now);
            steps += 1;
            while let Some(text) = told() {
                assert_eq!(text, "WATCHDOG_USEC=20000000\nWATCHDOG=1\n");
                messages += 1;
            }
            now += LIMIT / 40;
        }
        assert_eq!((steps, messages), (400, 40), "four within the limit");
    }

    // A supervisor that takes nothing, or is gone, holds no loop up; and without one nothing is told.
    #[test]
    fn nobody_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let deaf = UnixDatagram::bind(&path).unwrap();
        let mut watchdog = Watchdog::at(path.into(), LIMIT).unwrap();
        let mut now = Instant::now();
        for _ in 0..10_000 {
            watchdog.stepped(now);
            now += LIMIT;
        }
        drop(deaf);
        watchdog.stepped(now);
        assert_eq!(Watchdog::default().rest_max(), Duration::MAX);
        Watchdog::default().stepped(now);
    }
}
