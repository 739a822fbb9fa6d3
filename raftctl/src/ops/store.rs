//! The key-value store of a cluster: clients of it.

use std::time::Duration;

use super::Context;
use crate::client::{Absence, Client, ClientError, Member, TIMEOUT_DEFAULT};
use crate::error::Error;
use crate::hosts::control::ProcessState;
use crate::hosts::inventory;

/// A client of all nodes of the cluster, which gives up after `timeout`.
#[must_use]
pub fn client(context: &Context, timeout: Option<Duration>) -> Client {
    let timeout = timeout.unwrap_or(TIMEOUT_DEFAULT);
    Client::new(&members(context)).with_timeout(timeout)
}

/// Looks at the processes on all hosts, for a client that nobody answers.
#[must_use]
pub fn absence(context: &Context) -> Absence {
    let context = context.clone();
    Absence::new(move || {
        let context = context.clone();
        async move {
            let ids = context.cluster.ids();
            let facts = context.node_facts(&ids).await;
            let is_stopped =
                |id| matches!(facts.get(id), Some(Ok(node)) if node.state == ProcessState::Stopped);
            ids.iter().all(is_stopped)
        }
    })
}

/// The nodes of the cluster, where this machine reaches them.
#[must_use]
pub fn members(context: &Context) -> Vec<Member> {
    context.note_security();
    let member = |member: &inventory::Member| Member {
        id: member.id,
        address: member.admin_address.clone(),
    };
    context.inventory.members.iter().map(member).collect()
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::NoLeader { .. }
            | ClientError::NobodyRuns { .. }
            | ClientError::NodeSilent { .. } => Error::NoLeader(text),
            ClientError::OutcomeUnknown { .. } => Error::OutcomeUnknown(text),
            ClientError::Invalid(_) => Error::Usage(text),
            ClientError::Denied { .. } => Error::Other(text),
        }
    }
}
