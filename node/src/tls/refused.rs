//! Connections that did not come to be, by cause; told to an operator without filling the disk.

use crate::dump::{Dump, Happening};
use crate::metrics::{HandshakeFailure, HandshakeFailures};
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, InvalidMessage};

/// Each cause is told once in this time, with how often it was met meanwhile.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why a handshake failed, by the name that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The other side's certificate has ended.
    Expired,
    /// It has not begun: one of the two clocks is wrong, most likely.
    NotYetValid,
    /// It was signed by nobody whom this node trusts: of another cluster, most likely.
    UnknownAuthority,
    /// There was none.
    NoCertificate,
    /// It is one that may not come to this port, or that of another node.
    WrongName,
    /// The other side speaks without TLS.
    ClearText,
    /// The other side has refused this node's certificate as one that has ended, or not begun.
    OwnExpired,
    /// It does not trust whoever signed it.
    OwnUnknownAuthority,
    /// It does not take it, for another reason.
    OwnRefused,
    /// Anything else that is wrong with the handshake.
    Handshake,
}

impl Cause {
    /// As it stands in dump.txt, and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Expired => "certificate_expired",
            Cause::NotYetValid => "certificate_not_yet_valid",
            Cause::UnknownAuthority => "certificate_of_unknown_authority",
            Cause::NoCertificate => "no_certificate",
            Cause::WrongName => "certificate_of_wrong_name",
            Cause::ClearText => "clear_text",
            Cause::OwnExpired => "own_certificate_expired",
            Cause::OwnUnknownAuthority => "own_certificate_of_unknown_authority",
            Cause::OwnRefused => "own_certificate_refused",
            Cause::Handshake => "tls_handshake",
        }
    }

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Cause::Expired => "its certificate has ended",
            Cause::NotYetValid => {
                "its certificate is not valid yet: is one of the two clocks wrong?"
            }
            Cause::UnknownAuthority => {
                "its certificate was signed by nobody in ca.pem: it is of another cluster, or of an \
                 authority that was dropped"
            }
            Cause::NoCertificate => "it has no certificate",
            Cause::WrongName => "its certificate is for something else",
            Cause::ClearText => "it speaks without TLS",
            Cause::OwnExpired => {
                "it says that this node's certificate has ended, or is not valid yet: is one of the \
                 two clocks wrong?"
            }
            Cause::OwnUnknownAuthority => {
                "it does not trust whoever signed this node's certificate: it is of another \
                 cluster, or knows another authority"
            }
            Cause::OwnRefused => "it does not take this node's certificate",
            Cause::Handshake => "the TLS handshake failed",
        }
    }

    /// How it is counted.
    pub fn kind(self) -> HandshakeFailure {
        match self {
            Cause::Expired
            | Cause::NotYetValid
            | Cause::UnknownAuthority
            | Cause::NoCertificate
            | Cause::WrongName => HandshakeFailure::Certificate,
            Cause::OwnExpired | Cause::OwnUnknownAuthority | Cause::OwnRefused => {
                HandshakeFailure::OwnCertificate
            }
            Cause::ClearText | Cause::Handshake => HandshakeFailure::Other,
        }
    }

    /// The cause among those of an error, if TLS is to blame.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refused) = error.downcast_ref::<Refused>() {
                return Some(refused.cause);
            }
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Some(of_tls(tls));
            }
            // What is wrapped into an error of the system is not its source, but its inside.
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

fn of_tls(error: &rustls::Error) -> Cause {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Cause::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Cause::NotYetValid
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Cause::UnknownAuthority
            }
            CertificateError::ApplicationVerificationFailure
            | CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }
            | CertificateError::InvalidPurpose
            | CertificateError::InvalidPurposeContext { .. } => Cause::WrongName,
            _ => Cause::Handshake,
        },
        Tls::NoCertificatesPresented => Cause::NoCertificate,
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => Cause::ClearText,
        Tls::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => Cause::OwnExpired,
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                Cause::OwnUnknownAuthority
            }
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate => Cause::OwnRefused,
            _ => Cause::Handshake,
        },
        _ => Cause::Handshake,
    }
}

/// A handshake that failed, in words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{}", .cause.text(), more(.detail))]
pub struct Refused {
    /// Why.
    pub cause: Cause,
    /// What TLS says, where that tells more.
    pub detail: String,
}

/// What TLS has to do with a failure; `None`: nothing.
pub(super) fn refused(error: &io::Error) -> Option<Refused> {
    let inner = error.get_ref();
    if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<Refused>()) {
        return Some(refused.clone());
    }
    let detail = error.to_string();
    Cause::of(error).map(|cause| Refused { cause, detail })
}

fn more(detail: &str) -> String {
    match detail {
        "" => String::new(),
        detail => format!(" ({detail})"),
    }
}

/// What was refused, counted by cause, and told now and then.
#[derive(Debug)]
pub(super) struct Refusals {
    dump: Dump,
    failures: Arc<HandshakeFailures>,
    by_cause: Mutex<BTreeMap<(&'static str, Cause), Told>>,
}

/// A handshake that is not over. It is counted as failed if it is given up.
#[derive(Debug)]
pub(super) struct Begun<'a>(Option<&'a HandshakeFailures>);

impl Begun<'_> {
    /// It is over, well or not.
    pub(super) fn end(mut self, failure: Option<HandshakeFailure>) {
        if let (Some(failures), Some(failure)) = (self.0.take(), failure) {
            failures.count(failure);
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(failures) = self.0 {
            failures.count(HandshakeFailure::Other);
        }
    }
}

#[derive(Debug)]
struct Told {
    at: Instant,
    since: u64,
}

impl Refusals {
    pub(super) fn new(dump: &Dump) -> Self {
        Refusals {
            dump: dump.clone(),
            failures: Arc::default(),
            by_cause: Mutex::default(),
        }
    }

    pub(super) fn failures(&self) -> Arc<HandshakeFailures> {
        Arc::clone(&self.failures)
    }

    /// One that begins; unless it is told how it ends, it came to no end.
    pub(super) fn begin(&self) -> Begun<'_> {
        Begun(Some(&self.failures))
    }

    /// Counts one that came to a port, and tells of it if that was not done just before.
    pub(super) fn note(&self, port: &'static str, from: Option<IpAddr>, refused: &Refused) {
        let now = Instant::now();
        let count = {
            let causes = self.by_cause.lock();
            let mut causes = causes.unwrap_or_else(PoisonError::into_inner);
            let told = causes.entry((port, refused.cause));
            match told {
                std::collections::btree_map::Entry::Vacant(free) => {
                    free.insert(Told { at: now, since: 0 });
                    1
                }
                std::collections::btree_map::Entry::Occupied(mut told) => {
                    let told = told.get_mut();
                    told.since += 1;
                    if now.duration_since(told.at) < TELL_EVERY {
                        return;
                    }
                    told.at = now;
                    std::mem::take(&mut told.since)
                }
            }
        };
        let from = from.map_or("somewhere".to_owned(), |from| from.to_string());
        tracing::warn!("a connection from {from} to the port for {port} was refused: {refused}");
        self.dump.tell(Happening::ConnectionRefused {
            from,
            port,
            reason: refused.cause.name(),
            count,
        });
    }
}
