//! How an operation can fail, told by what the caller does next.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Member;

/// Why an operation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was done. Look at the cluster, then ask again.
    #[error("no leader answered within {}{tried}\n  next: raftctl status", seconds(*.timeout))]
    NoLeader {
        /// How long was tried.
        timeout: Duration,
        /// Each node's last answer.
        tried: Tried,
    },
    /// Nothing was done, and nothing can be: the hosts say that no node runs. Start the cluster.
    #[error("no node of the cluster runs{tried}\n  next: raftctl up")]
    NobodyRuns {
        /// Each node's last answer.
        tried: Tried,
    },
    /// One node alone was to be asked, and it did not serve the request. Nothing was done.
    #[error("node {node} did not answer within {}{tried}\n  next: raftctl status", seconds(*.timeout))]
    NodeSilent {
        /// The node that was asked.
        node: u64,
        /// How long was tried.
        timeout: Duration,
        /// Its last answer.
        tried: Tried,
    },
    /// The write may or may not take effect, now or later. Read the key before writing again.
    #[error(
        "outcome unknown: the write of {key} was sent, and no answer within {} tells whether it \
         was done{tried}\n  next: raftctl get, and write again if it is not there",
        seconds(*.timeout)
    )]
    OutcomeUnknown {
        /// The key, as text that fits a line.
        key: String,
        /// How long was tried.
        timeout: Duration,
        /// Each node's last answer.
        tried: Tried,
    },
    /// The request breaks a limit or a rule. Change it.
    #[error("{0}")]
    Invalid(String),
    /// The node refuses this client for good: not allowed, or not a node of this kind.
    #[error("node {node} ({address}) refused: {message}")]
    Denied {
        /// The node that refused.
        node: u64,
        /// Its client address.
        address: String,
        /// What it said.
        message: String,
    },
}

impl ClientError {
    /// The exit code of raftctl for this failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::NoLeader { .. }
            | ClientError::NobodyRuns { .. }
            | ClientError::NodeSilent { .. } => 30,
            ClientError::OutcomeUnknown { .. } => 31,
            ClientError::Invalid(_) => 2,
            ClientError::Denied { .. } => 20,
        }
    }

    /// One word for machines: the `error` of JSON output and of scenario files.
    pub fn kind(&self) -> &'static str {
        match self {
            ClientError::NoLeader { .. } | ClientError::NobodyRuns { .. } => "no_leader",
            ClientError::NodeSilent { .. } => "node_silent",
            ClientError::OutcomeUnknown { .. } => "outcome_unknown",
            ClientError::Invalid(_) => "invalid",
            ClientError::Denied { .. } => "denied",
        }
    }
}

/// The last failure of every node that was asked, so that a timeout is never the whole message.
#[derive(Debug, Default, Clone)]
pub struct Tried(BTreeMap<u64, (String, String)>);

impl Tried {
    /// Whether anybody was asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers what `member` said last.
    pub fn record(&mut self, member: &Member, what: String) {
        self.0.insert(member.id, (member.address.clone(), what));
    }
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (id, (address, what)) in &self.0 {
            write!(f, "\n  node {id} ({address}): {what}")?;
        }
        Ok(())
    }
}

/// A duration as a user wrote it: `30 s`, `0.5 s`.
fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timeout names each node with its own reason, and the next command to try.
    #[test]
    fn a_timeout_shows_the_cause_of_every_node() {
        let mut tried = Tried::default();
        tried.record(
            &Member {
                id: 2,
                address: "h:2".into(),
            },
            "connection refused".into(),
        );
        tried.record(
            &Member {
                id: 1,
                address: "h:1".into(),
            },
            "overloaded".into(),
        );
        tried.record(
            &Member {
                id: 1,
                address: "h:1".into(),
            },
            "no answer".into(),
        );
        let error = ClientError::NoLeader {
            timeout: Duration::from_millis(1500),
            tried,
        };
        assert_eq!(
            error.to_string(),
            "no leader answered within 1.5 s\n  node 1 (h:1): no answer\n  \
             node 2 (h:2): connection refused\n  next: raftctl status"
        );
    }
}
