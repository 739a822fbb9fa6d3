//! Handshakes of TLS that failed at this node's ports.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why one failed, in few words, because each is a series: dump.txt names the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The certificate of whoever came was not taken, or there was none.
    Certificate,
    /// This node's certificate was not taken by whoever came.
    OwnCertificate,
    /// It was no TLS, or none that fits, or was never brought to its end.
    Other,
}

impl HandshakeFailure {
    /// All of them, in the order of their numbers.
    pub const ALL: [HandshakeFailure; 3] = [
        HandshakeFailure::Certificate,
        HandshakeFailure::OwnCertificate,
        HandshakeFailure::Other,
    ];

    pub(super) fn labels(self) -> [(&'static str, &'static str); 1] {
        let reason = match self {
            HandshakeFailure::Certificate => "certificate",
            HandshakeFailure::OwnCertificate => "own_certificate",
            HandshakeFailure::Other => "other",
        };
        [("reason", reason)]
    }
}

/// How many failed, by reason.
#[derive(Debug, Default)]
pub struct HandshakeFailures([AtomicU64; HandshakeFailure::ALL.len()]);

impl HandshakeFailures {
    /// Counts one.
    pub fn count(&self, failure: HandshakeFailure) {
        self.0[failure as usize].fetch_add(1, Relaxed);
    }

    /// How many there were.
    pub fn of(&self, failure: HandshakeFailure) -> u64 {
        self.0[failure as usize].load(Relaxed)
    }
}
