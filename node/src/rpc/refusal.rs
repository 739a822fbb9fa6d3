//! Why a request was not done, as the client is told: in a status of its own, or on a stream.

use super::Front;
use crate::desk::NotAdmitted;
use crate::engine::RequestError;
use crate::raft::NodeId;
use raftkv::kv::{self as wire, ErrorReason};
use raftkv::{LEADER_ADDRESS_METADATA, LEADER_ID_METADATA, REASON_METADATA};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
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

    fn code(&self) -> Code {
        match self.reason {
            ErrorReason::NotLeader | ErrorReason::NotReady | ErrorReason::Stopping => {
                Code::Unavailable
            }
            ErrorReason::Overloaded => Code::ResourceExhausted,
            ErrorReason::OutcomeUnknown | ErrorReason::Unspecified => Code::Unknown,
            ErrorReason::SessionExpired => Code::FailedPrecondition,
            ErrorReason::Invalid => Code::InvalidArgument,
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
    pub fn into_wire(self) -> wire::Error {
        let (leader_id, leader_address) = self.leader.unwrap_or_default();
        wire::Error {
            reason: self.reason.into(),
            message: self.message,
            leader_id,
            leader_address,
        }
    }
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

    fn count_overload(&self) {
        let counter = &self.counters.refused_overload;
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn other_leader(&self) -> Option<(NodeId, String)> {
        let leader = self.view.gate().leader?;
        (leader != self.identity.id).then(|| self.address_of(leader))
    }

    fn address_of(&self, id: NodeId) -> (NodeId, String) {
        (id, self.identity.client_address(id).to_owned())
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
