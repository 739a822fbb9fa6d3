//! Why a peer can't be reached, in words that lead to the cause.

use crate::tls::Cause;
use std::error::Error;
use std::io::{self, ErrorKind};
use tonic::{Code, Status};

/// Why a connection is not there, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// Nobody answers, or the connection broke.
    #[error("{0}")]
    Unreachable(#[from] tonic::transport::Error),
    /// The peer answered with an error.
    #[error("{}", .0.message())]
    Status(#[from] Status),
    /// The peer ended the stream.
    #[error("the peer closed the connection")]
    Closed,
}

/// A kind of reason, by the name that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its name means nothing on this machine.
    Name,
    /// Its machine answers, but nothing listens there.
    Refused,
    /// Nothing answers.
    TimedOut,
    /// There is no way to its machine.
    NoRoute,
    /// It answers, and does not take this node for one of its cluster.
    Rejected,
    /// It answers, and this node, which is to join its cluster, has not been added yet.
    NotMember,
    /// It answers, and certificates keep the two apart.
    Tls(Cause),
    /// What listens there is no node, or another error.
    Other,
}

impl Reason {
    /// As it stands in dump.txt and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Name => "name_not_resolved",
            Reason::Refused => "refused",
            Reason::TimedOut => "timed_out",
            Reason::NoRoute => "no_route",
            Reason::Rejected => "rejected",
            Reason::NotMember => "not_member",
            Reason::Tls(cause) => cause.name(),
            Reason::Other => "other",
        }
    }

    /// Whether it is told the moment it is seen. Others go away by themselves while nodes start.
    pub(super) fn is_told_at_once(self) -> bool {
        matches!(self, Reason::Name | Reason::Rejected | Reason::Tls(_))
    }
}

/// Why a peer can't be reached now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Where it was looked for.
    pub address: String,
    /// Of which kind it is.
    pub reason: Reason,
    /// In words, with what the machine says.
    pub text: String,
}

impl Trouble {
    pub(super) fn new(address: &str, lost: &Lost) -> Self {
        let (reason, words) = match lost {
            Lost::Status(status) if status.code() == Code::PermissionDenied => {
                (Reason::Rejected, status.message().to_owned())
            }
            Lost::Status(status) if status.code() == Code::FailedPrecondition => {
                (Reason::NotMember, status.message().to_owned())
            }
            Lost::Status(status) => of_error(status),
            Lost::Unreachable(error) => of_error(error),
            Lost::Closed => (Reason::Other, lost.to_string()),
        };
        let text = match reason {
            Reason::Name => format!("its name does not resolve on this machine ({words})"),
            Reason::Refused => "nothing listens there: connection refused".into(),
            Reason::TimedOut => {
                "nothing answers there, or its name takes long to resolve: it timed \
                                 out"
                .into()
            }
            Reason::NoRoute => format!("there is no way to its machine ({words})"),
            Reason::Rejected => format!("it refuses this node: {words}"),
            Reason::NotMember | Reason::Tls(_) | Reason::Other => words,
        };
        Trouble {
            address: address.to_owned(),
            reason,
            text,
        }
    }
}

/// Looks through the causes for the one that an operator can do something about.
fn of_error(error: &(dyn Error + 'static)) -> (Reason, String) {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let causes: Vec<_> = causes.collect();
    let innermost = causes.last().map_or(String::new(), ToString::to_string);
    // Only its words tell that it was the name.
    if causes.iter().any(|cause| cause.to_string() == "dns error") {
        return (Reason::Name, innermost);
    }
    // Its own words name the cause, and what to look at.
    let of_tls = causes
        .iter()
        .find_map(|error| Some((Cause::of(*error)?, *error)));
    if let Some((cause, error)) = of_tls {
        return (Reason::Tls(cause), tls_words(cause, error));
    }
    let mut of_machine = causes
        .iter()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    let reason = match of_machine.next_back().map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => Reason::Refused,
        Some(ErrorKind::TimedOut) => Reason::TimedOut,
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => Reason::NoRoute,
        _ => Reason::Other,
    };
    (reason, innermost)
}

/// The words of whoever has named the cause, where somebody has.
fn tls_words(cause: Cause, error: &(dyn Error + 'static)) -> String {
    let words = error.to_string();
    match words.starts_with(cause.text()) {
        true => words,
        false => format!("{} ({words})", cause.text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tonic::transport::Endpoint;

    async fn trouble(address: &str) -> Trouble {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let dialed = endpoint.connect_timeout(Duration::from_millis(100));
        Trouble::new(address, &dialed.connect().await.unwrap_err().into())
    }

    // What an operator can do something about is told apart, by what the machine itself says.
    #[tokio::test]
    async fn causes_are_told_apart() {
        let name = trouble("no-such-host.invalid:7400").await;
        assert_eq!(name.reason, Reason::Name, "{name:?}");
        assert!(name.text.contains("does not resolve"), "{name:?}");
        let bound = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = bound.local_addr().unwrap().to_string();
        drop(bound);
        assert_eq!(trouble(&address).await.reason, Reason::Refused);
        // A queue of one that is full: the kernel answers nothing.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let deaf = socket.listen(1).unwrap();
        let address = deaf.local_addr().unwrap().to_string();
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let connect = tokio::net::TcpStream::connect(&address);
            waiting.push(tokio::time::timeout(Duration::from_millis(50), connect).await);
        }
        let silent = trouble(&address).await;
        assert_eq!(silent.reason, Reason::TimedOut, "{silent:?}");
        let refusal = Status::permission_denied("this is a node of cluster 'a', not 'b'");
        let rejected = Trouble::new("n2:7400", &refusal.into());
        assert_eq!(rejected.reason, Reason::Rejected);
        assert!(rejected.text.contains("not 'b'"), "{rejected:?}");
    }
}
