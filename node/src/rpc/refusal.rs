//! Why a request was not done, as the client is told: in a status of its own, or on a stream.

use super::Front;
use crate::desk::NotAdmitted;
use crate::engine::RequestError;
use crate::metrics::Metrics;
use crate::raft::NodeId;
use raftkv::kv::{self as wire, ErrorReason};
use raftkv::{LEADER_ADDRESS_METADATA, LEADER_ID_METADATA, REASON_METADATA};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Names the kind of `reason` in the typed details.
const DOMAIN: &str = "raftkv";

/// A request that was not done, or whose fate is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Says what the caller does next.
    pub reason: ErrorReason,
    /// For people.
    pub message: String,
    /// The believed leader, where it is of use, and its address for clients.
    pub leader: Option<(NodeId, String)>,
}

impl Refusal {
    /// The request itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Refusal {
            reason: ErrorReason::Invalid,
            message: message.into(),
            leader: None,
        }
    }

    /// A bug of this node, which is the client's to hear of and no reason to end the process: a
    /// reply that does not fit what was asked.
    pub(super) fn of_another_kind(reply: &impl std::fmt::Debug) -> Self {
        tracing::error!("a request was answered by {reply:?}");
        Refusal {
            reason: ErrorReason::Unspecified,
            message: "a bug of this node: the reply is of another kind than the request".into(),
            leader: None,
        }
    }

    /// This node was not started so as to allow it.
    pub(super) fn not_allowed(message: impl Into<String>) -> Self {
        Refusal {
            reason: ErrorReason::NotAllowed,
            message: message.into(),
            leader: None,
        }
    }

    /// Not known to this version.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Refusal {
            reason: ErrorReason::Unsupported,
            message: message.into(),
            leader: None,
        }
    }

    /// The client did not send the rest of its request.
    pub(super) fn incomplete() -> Self {
        Refusal {
            reason: ErrorReason::Incomplete,
            message: "the request was not whole in time".into(),
            leader: None,
        }
    }

    fn code(&self) -> Code {
        match self.reason {
            ErrorReason::NotLeader | ErrorReason::NotReady | ErrorReason::Stopping => {
                Code::Unavailable
            }
            ErrorReason::Overloaded | ErrorReason::DiskFull => Code::ResourceExhausted,
            ErrorReason::OutcomeUnknown | ErrorReason::Unspecified => Code::Unknown,
            ErrorReason::SessionExpired | ErrorReason::MembersRefused => Code::FailedPrecondition,
            ErrorReason::Unsupported => Code::Unimplemented,
            ErrorReason::NotAllowed => Code::PermissionDenied,
            ErrorReason::Incomplete => Code::DeadlineExceeded,
            ErrorReason::Invalid | ErrorReason::RequestIdReused => Code::InvalidArgument,
        }
    }

    /// As the status of a call.
    pub fn into_status(self) -> Status {
        let reason = self.reason.as_str_name();
        let mut metadata = MetadataMap::new();
        let mut fields = HashMap::new();
        metadata.insert(REASON_METADATA, MetadataValue::from_static(reason));
        if let Some((id, address)) = &self.leader {
            metadata.insert(LEADER_ID_METADATA, (*id).into());
            // An address that is no header value is still in the typed details.
            if let Ok(value) = MetadataValue::try_from(address) {
                metadata.insert(LEADER_ADDRESS_METADATA, value);
            }
            fields.insert("leader_id".to_owned(), id.to_string());
            fields.insert("leader_address".to_owned(), address.clone());
        }
        let details = ErrorDetails::with_error_info(reason, DOMAIN, fields);
        let code = self.code();
        Status::with_error_details_and_metadata(code, self.message, details, metadata)
    }

    /// As the outcome of an operation on a stream.
    pub fn into_wire(self) -> wire::OperationError {
        let (leader_id, leader_address) = self.leader.unwrap_or_default();
        wire::OperationError {
            reason: self.reason.into(),
            message: self.message,
            leader_id,
            leader_address,
        }
    }
}

/// Counts a call that was refused, by the reason in its headers or trailers.
pub(super) fn count_refused(metrics: &Metrics, headers: &http::HeaderMap) {
    let name = headers
        .get(REASON_METADATA)
        .and_then(|name| name.to_str().ok());
    if let Some(reason) = name.and_then(ErrorReason::from_str_name) {
        metrics.refused(reason);
    }
}

/// A status that the framework made of a request before any service saw it, in the node's own
/// words: with a reason, so that the client knows that nothing was done.
pub(super) fn explained(status: Status) -> Status {
    if status.metadata().contains_key(REASON_METADATA) {
        return status;
    }
    let message = status.message().trim_start_matches("Error, ");
    let refusal = match status.code() {
        Code::OutOfRange => Refusal::invalid(format!("{message}: send less in one message")),
        // What can't be decoded, text that is not UTF-8 among it. No service answers with this.
        Code::Internal => Refusal::invalid(format!("no valid message: {message}")),
        Code::Unimplemented if message.is_empty() => {
            Refusal::unsupported("this version of the service has no such method")
        }
        Code::Unimplemented => Refusal::unsupported(message),
        _ => return status,
    };
    refusal.into_status()
}

/// The same, for a reply that is nothing but a status.
pub(super) fn explained_reply(reply: http::Response<Body>) -> http::Response<Body> {
    if !reply.headers().contains_key(Status::GRPC_STATUS)
        || reply.headers().contains_key(REASON_METADATA)
    {
        return reply;
    }
    match Status::from_header_map(reply.headers()) {
        Some(status) if status.code() != Code::Ok => {
            let explained = explained(status.clone());
            match explained.metadata().contains_key(REASON_METADATA) {
                // What else stands in its head, such as the encodings that are known, is kept.
                true => with_status(reply, &explained),
                false => reply,
            }
        }
        _ => reply,
    }
}

fn with_status(mut reply: http::Response<Body>, status: &Status) -> http::Response<Body> {
    match status.add_header(reply.headers_mut()) {
        Ok(()) => reply,
        Err(unwritable) => unwritable.into_http(),
    }
}

/// The answer to calls of services that are not here.
pub(super) async fn no_such_service(front: Arc<Front>) -> http::Response<Body> {
    front.metrics.refused(ErrorReason::Unsupported);
    Refusal::unsupported("no such service on this port")
        .into_status()
        .into_http()
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.into_status()
    }
}

impl Front {
    /// What the client is told of an error of the engine.
    pub(super) fn refuse(&self, error: &RequestError) -> Refusal {
        let mut message = error.to_string();
        let (reason, leader) = match error {
            RequestError::NotLeader { leader } => {
                let leader = leader.map(|id| self.address_of(id));
                message = match &leader {
                    Some((id, address)) => format!("{message}: node {id} at {address} is"),
                    None => format!("{message}, and knows of none at the moment"),
                };
                (ErrorReason::NotLeader, leader)
            }
            RequestError::NotReady(_) => (ErrorReason::NotReady, None),
            RequestError::Overloaded(_) => {
                self.count_overload();
                (ErrorReason::Overloaded, None)
            }
            RequestError::OutcomeUnknown(_) => (ErrorReason::OutcomeUnknown, None),
            RequestError::SessionExpired => (ErrorReason::SessionExpired, None),
            RequestError::Members(_) => (ErrorReason::MembersRefused, None),
            RequestError::IdReused => (ErrorReason::RequestIdReused, None),
            RequestError::Invalid(_) => (ErrorReason::Invalid, None),
        };
        Refusal {
            reason,
            message,
            leader,
        }
    }

    /// What the client is told when its request was not even admitted.
    pub(super) fn turn_away(&self, why: NotAdmitted) -> Refusal {
        match why {
            NotAdmitted::Overloaded => self.overloaded("too many requests wait on this node"),
            NotAdmitted::Stopping => Refusal {
                reason: ErrorReason::Stopping,
                message: "this node is shutting down: ask another".into(),
                leader: self.other_leader(),
            },
        }
    }

    /// Something is full.
    pub(super) fn overloaded(&self, message: &str) -> Refusal {
        self.count_overload();
        Refusal {
            reason: ErrorReason::Overloaded,
            message: format!("overloaded: {message}"),
            leader: None,
        }
    }

    /// The disk has too little room for writes.
    pub(super) fn disk_full(&self) -> Refusal {
        let (free, mark) = (self.space.free_bytes(), self.space.mark_bytes());
        Refusal {
            reason: ErrorReason::DiskFull,
            message: format!(
                "the disk of node {} is nearly full ({} MiB are free, {} are kept): free some, or \
                 hand leadership to a node with more; reads are served",
                self.identity.id,
                free >> 20,
                mark.div_ceil(1 << 20)
            ),
            leader: None,
        }
    }

    fn count_overload(&self) {
        let counter = &self.counters.refused_overload;
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What this node does not begin any more.
    pub(super) fn stopping(&self) -> Refusal {
        self.turn_away(NotAdmitted::Stopping)
    }

    fn other_leader(&self) -> Option<(NodeId, String)> {
        let leader = self.view.gate().leader?;
        (leader != self.identity.id).then(|| self.address_of(leader))
    }

    fn address_of(&self, id: NodeId) -> (NodeId, String) {
        (id, self.roster.client_address(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A client finds the same reason and leader in the typed details and in plain metadata.
    #[test]
    fn a_refusal_is_told_twice() {
        let refusal = Refusal {
            reason: ErrorReason::NotLeader,
            message: "ask node 3".into(),
            leader: Some((3, "n3:7503".into())),
        };
        let status = refusal.clone().into_status();
        assert_eq!(status.code(), Code::Unavailable);
        let plain = |key| status.metadata().get(key).unwrap().to_str().unwrap();
        assert_eq!(plain(REASON_METADATA), "NOT_LEADER");
        assert_eq!(plain(LEADER_ID_METADATA), "3");
        assert_eq!(plain(LEADER_ADDRESS_METADATA), "n3:7503");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "NOT_LEADER");
        assert_eq!(info.metadata["leader_id"], "3");
        assert_eq!(info.metadata["leader_address"], "n3:7503");
        let wire = refusal.into_wire();
        assert_eq!((wire.leader_id, &*wire.leader_address), (3, "n3:7503"));
    }
}
