//! What a failed attempt means for the caller: may it have taken effect, whom to ask next.

use std::error::Error as _;

use raftkv::kv::ErrorReason;
use raftkv::{LEADER_ADDRESS_METADATA, LEADER_ID_METADATA, REASON_METADATA};
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

use super::Member;

/// Why an attempt failed, told by what the client does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing was done. Ask the named leader, or with none named another node.
    NotLeader(Option<Member>),
    /// Nothing was done; this leader may not answer yet. Ask it again shortly.
    NotReady,
    /// Nothing was done; a queue is full. Back off.
    Overloaded,
    /// Nothing was done; the leader's disk is nearly full. Back off, or make room.
    DiskFull(String),
    /// Nothing was done; the node stops, or could not be reached at all. Ask another.
    Gone(String),
    /// The node answered that it can't tell whether the write will take effect. Send it again with
    /// the same request id.
    Unknown(String),
    /// The request was sent and no answer came. Ask another, with the same request id.
    Broken(String),
    /// The session of the request is gone, so its earlier sends can't be told.
    SessionExpired,
    /// The request is wrong. Asking again is useless.
    Invalid(String),
    /// The node will not serve this client at all (wrong service, not allowed). Asking it again is
    /// useless; another may serve.
    Denied(String),
}

impl Refusal {
    /// Reads a failed call. Typed details come first, metadata second, the bare code last.
    pub fn from_status(status: &Status) -> Self {
        let (reason, leader) = reason_and_leader(status);
        match reason {
            Some(reason) => Refusal::from_reason(reason, status.message(), leader),
            None => Refusal::from_code(status),
        }
    }

    fn from_reason(reason: ErrorReason, message: &str, leader: Option<Member>) -> Self {
        match reason {
            ErrorReason::NotLeader => Refusal::NotLeader(leader),
            ErrorReason::NotReady => Refusal::NotReady,
            ErrorReason::Overloaded => Refusal::Overloaded,
            ErrorReason::DiskFull => Refusal::DiskFull(message.to_owned()),
            ErrorReason::OutcomeUnknown => Refusal::Unknown(message.to_owned()),
            ErrorReason::SessionExpired => Refusal::SessionExpired,
            ErrorReason::Invalid | ErrorReason::RequestIdReused | ErrorReason::MembersRefused => {
                Refusal::Invalid(message.to_owned())
            }
            ErrorReason::Stopping | ErrorReason::Incomplete => Refusal::Gone(message.to_owned()),
            ErrorReason::Unsupported | ErrorReason::NotAllowed => {
                Refusal::Denied(message.to_owned())
            }
            // A reason of a later version: nothing is known, so the write may have happened.
            ErrorReason::Unspecified => Refusal::Unknown(message.to_owned()),
        }
    }

    /// A status without a reason comes from the transport, a proxy, or another server.
    fn from_code(status: &Status) -> Self {
        let message = describe(status);
        match status.code() {
            Code::InvalidArgument | Code::OutOfRange => Refusal::Invalid(message),
            Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
                Refusal::Denied(message)
            }
            // RESOURCE_EXHAUSTED among them: a node that has refused for want of room says so by
            // its reason; a transport or a proxy may say it when the request had gone out already.
            _ if never_connected(status) => Refusal::Gone(message),
            _ => Refusal::Broken(message),
        }
    }

    /// Whether the node has not said anything.
    pub fn is_silence(&self) -> bool {
        matches!(self, Refusal::Gone(_) | Refusal::Broken(_))
    }

    /// In a few words, for the list of what was tried.
    pub fn describe(&self) -> String {
        match self {
            Refusal::NotLeader(None) => "not the leader, knows none".to_owned(),
            Refusal::NotLeader(Some(leader)) => format!("not the leader, names node {}", leader.id),
            Refusal::NotReady => "leader, but may not answer yet".to_owned(),
            Refusal::Overloaded => "overloaded".to_owned(),
            Refusal::SessionExpired => "the session has expired".to_owned(),
            Refusal::DiskFull(why)
            | Refusal::Gone(why)
            | Refusal::Unknown(why)
            | Refusal::Broken(why)
            | Refusal::Invalid(why)
            | Refusal::Denied(why) => why.clone(),
        }
    }
}

/// The reason and the believed leader that a status carries, if it carries them.
fn reason_and_leader(status: &Status) -> (Option<ErrorReason>, Option<Member>) {
    if let Some(info) = status.get_details_error_info()
        && let Some(reason) = ErrorReason::from_str_name(&info.reason)
    {
        let field = |name: &str| info.metadata.get(name).map(String::as_str);
        return (
            Some(reason),
            leader(field("leader_id"), field("leader_address")),
        );
    }
    let field = |name: &str| {
        status
            .metadata()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let reason = field(REASON_METADATA).and_then(ErrorReason::from_str_name);
    (
        reason,
        leader(field(LEADER_ID_METADATA), field(LEADER_ADDRESS_METADATA)),
    )
}

fn leader(id: Option<&str>, address: Option<&str>) -> Option<Member> {
    let id = id?.parse().ok().filter(|&id| id != 0)?;
    Some(Member {
        id,
        address: address.unwrap_or_default().to_owned(),
    })
}

/// Whether the connection was never made, so that nothing can have been sent.
fn never_connected(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The innermost cause: "connection refused" says more than "transport error".
fn describe(status: &Status) -> String {
    let mut cause = status.source();
    let mut innermost = None;
    while let Some(error) = cause {
        innermost = Some(error.to_string());
        cause = error.source();
    }
    match innermost {
        Some(innermost) if !innermost.is_empty() => innermost,
        _ if status.message().is_empty() => status.code().description().to_owned(),
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn typed(reason: &str, leader: &[(&str, &str)]) -> Status {
        let metadata: Vec<_> = leader
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(
            reason,
            "raftkv",
            metadata
                .into_iter()
                .collect::<std::collections::HashMap<_, _>>(),
        );
        Status::with_error_details(Code::Unavailable, "refused", details)
    }

    fn plain(reason: &str, leader: Option<(&str, &str)>) -> Status {
        let mut status = Status::unavailable("refused");
        status
            .metadata_mut()
            .insert(REASON_METADATA, reason.parse().unwrap());
        if let Some((id, address)) = leader {
            status
                .metadata_mut()
                .insert(LEADER_ID_METADATA, id.parse().unwrap());
            status
                .metadata_mut()
                .insert(LEADER_ADDRESS_METADATA, address.parse().unwrap());
        }
        status
    }

    /// Both ways a node may name the leader are understood, and mean the same.
    #[test]
    fn the_leader_is_read_from_details_and_from_metadata() {
        let leader = Member {
            id: 3,
            address: "h:7503".into(),
        };
        let from_details = typed(
            "NOT_LEADER",
            &[("leader_id", "3"), ("leader_address", "h:7503")],
        );
        assert_eq!(
            Refusal::from_status(&from_details),
            Refusal::NotLeader(Some(leader.clone()))
        );
        let from_metadata = plain("NOT_LEADER", Some(("3", "h:7503")));
        assert_eq!(
            Refusal::from_status(&from_metadata),
            Refusal::NotLeader(Some(leader))
        );
        assert_eq!(
            Refusal::from_status(&typed("NOT_LEADER", &[])),
            Refusal::NotLeader(None)
        );
        let nobody = plain("NOT_LEADER", Some(("0", "")));
        assert_eq!(Refusal::from_status(&nobody), Refusal::NotLeader(None));
    }

    /// What is not known to be harmless counts as maybe done: a reason of a later version, a
    /// broken connection, a deadline.
    #[test]
    fn doubt_is_never_taken_for_nothing_done() {
        for reason in ["OUTCOME_UNKNOWN", "ERROR_REASON_UNSPECIFIED"] {
            let refusal = Refusal::from_status(&plain(reason, None));
            assert_eq!(refusal, Refusal::Unknown("refused".into()));
        }
        for status in [
            plain("A_REASON_OF_TOMORROW", None),
            Status::unavailable("transport error"),
            Status::deadline_exceeded("late"),
            Status::internal("h2 protocol error"),
            Status::cancelled("gone"),
            // By a proxy, or by the transport when the request had gone out already.
            Status::resource_exhausted("enough"),
        ] {
            let refusal = Refusal::from_status(&status);
            assert!(
                matches!(refusal, Refusal::Broken(_)),
                "{status:?} gave {refusal:?}"
            );
        }
    }

    /// Asking again what can never succeed would only eat the user's time.
    #[test]
    fn what_is_final_is_not_retried() {
        for reason in ["INVALID", "REQUEST_ID_REUSED"] {
            let refusal = Refusal::from_status(&plain(reason, None));
            assert_eq!(refusal, Refusal::Invalid("refused".into()));
        }
        for reason in ["UNSUPPORTED", "NOT_ALLOWED"] {
            let refusal = Refusal::from_status(&plain(reason, None));
            assert_eq!(refusal, Refusal::Denied("refused".into()));
        }
        let refusal = Refusal::from_status(&Status::unimplemented("no such service"));
        assert_eq!(refusal, Refusal::Denied("no such service".into()));
    }
}
