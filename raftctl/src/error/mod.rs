//! Every way a verb can fail, and the exit code it ends with.
//!
//! Messages say what is wrong first and what to do next last. Whoever adds a variant decides its
//! exit code here, in one place.

pub mod problem;
pub mod transport;

pub use transport::TransportError;

use problem::Problems;

/// Exit codes, the same for every verb.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// A bug, or anything unforeseen.
    pub const UNFORESEEN: u8 = 1;
    /// Wrong usage, or a wrong cluster.yaml. Nothing was changed.
    pub const USAGE: u8 = 2;
    /// Done on some nodes only, each named.
    pub const PARTIAL: u8 = 3;
    /// `cas` found something else than was expected; nothing was written.
    pub const UNMET: u8 = 4;
    /// SSH or cloud trouble.
    pub const REMOTE: u8 = 10;
    /// A command failed on a host.
    pub const HOST: u8 = 20;
    /// No leader, or a node dead, within the timeout.
    pub const NO_LEADER: u8 = 30;
    /// A write may or may not have taken effect.
    pub const OUTCOME_UNKNOWN: u8 = 31;
    /// A consistency check, or a scenario, failed.
    pub const CHECK_FAILED: u8 = 40;
}

/// Shorthand for results of raftctl.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that is not possible. Nothing was changed.
    #[error("{0}")]
    Usage(String),
    /// cluster.yaml is wrong; all that is wrong with it. Nothing was changed.
    #[error("{0}")]
    Cluster(Problems),
    /// Done on some nodes, not on others.
    #[error("{}", partial(.done, .failed))]
    Partial {
        /// What was done where it was: "stopped".
        done: String,
        /// The nodes where it was not, each with the reason.
        failed: Vec<(u64, String)>,
    },
    /// Done on no node, or on too few, for several reasons.
    #[error("{}", several(.what, .failed))]
    Several {
        /// What was not done: "not stopped on any of the nodes".
        what: String,
        /// Every node that failed with the reason; never empty.
        failed: Vec<(u64, Error)>,
    },
    /// A host could not be reached, or its answer was lost.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Terraform, gcloud or Google refused or failed; with the cause and the next command.
    #[error("{0}")]
    Cloud(String),
    /// Another error, and what to do next.
    #[error("{error}\n{advice}")]
    Advised {
        /// What went wrong.
        error: Box<Error>,
        /// What to do next.
        advice: String,
    },
    /// A command ran on a host and failed there.
    #[error("{host}: cannot {purpose}: {detail}")]
    Host {
        /// The host, as the operator knows it.
        host: String,
        /// What was being done.
        purpose: String,
        /// What the host said about it.
        detail: String,
    },
    /// The operator's own command ran on a host, and ended with a status of its own.
    #[error("{host}: the command ended with exit status {status}")]
    Command {
        /// The host, as the operator knows it.
        host: String,
        /// What it ended with.
        status: i32,
    },
    /// A write was to be done under a condition, which does not hold. Nothing was written.
    #[error("{0}")]
    Unmet(String),
    /// No leader, or a node dead, within the timeout.
    #[error("{0}")]
    NoLeader(String),
    /// A write may or may not have taken effect.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// A consistency check or a scenario failed.
    #[error("{0}")]
    CheckFailed(String),
    /// Anything else that the world refused: a local file, a lock that is held.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// The exit code of raftctl for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Cluster(_) => exit::USAGE,
            Error::Partial { .. } => exit::PARTIAL,
            // Several kinds of trouble at once: the first is the one to begin with.
            Error::Several { failed, .. } => failed
                .first()
                .map_or(exit::UNFORESEEN, |(_, error)| error.exit_code()),
            Error::Advised { error, .. } => error.exit_code(),
            Error::Transport(_) | Error::Cloud(_) => exit::REMOTE,
            Error::Host { .. } | Error::Command { .. } => exit::HOST,
            Error::Unmet(_) => exit::UNMET,
            Error::NoLeader(_) => exit::NO_LEADER,
            Error::OutcomeUnknown(_) => exit::OUTCOME_UNKNOWN,
            Error::CheckFailed(_) => exit::CHECK_FAILED,
            Error::Other(_) => exit::UNFORESEEN,
        }
    }

    /// Adds what to do next, on a line of its own.
    #[must_use]
    pub fn advise(self, advice: String) -> Self {
        let error = Box::new(self);
        Error::Advised { error, advice }
    }

    /// The operator interrupted a verb that can simply be run again.
    #[must_use]
    pub fn interrupted(verb: &str) -> Self {
        Error::Other(format!(
            "interrupted; what was done stays done, and `raftctl {verb}` goes on from there"
        ))
    }

    /// A local file that could not be read or written, with the reason.
    #[must_use]
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Error::Other(format!("cannot {doing} {}: {error}", path.display()))
    }
}

fn several(what: &str, failed: &[(u64, Error)]) -> String {
    let reasons = failed.iter().map(|(id, error)| (*id, error.to_string()));
    format!("{what}:{}", by_reason(reasons))
}

fn partial(done: &str, failed: &[(u64, String)]) -> String {
    let count = failed.len();
    let reasons = by_reason(failed.iter().cloned());
    format!("not {done} on {count} of the nodes:{reasons}")
}

/// A line for each reason, with the nodes that have it, in order.
fn by_reason(failed: impl Iterator<Item = (u64, String)>) -> String {
    let mut reasons: Vec<(Vec<u64>, String)> = Vec::new();
    for (id, reason) in failed {
        match reasons.iter_mut().find(|(_, known)| *known == reason) {
            Some((ids, _)) => ids.push(id),
            None => reasons.push((vec![id], reason)),
        }
    }
    let line = |(ids, reason): (Vec<u64>, String)| {
        let texts: Vec<String> = ids.iter().map(u64::to_string).collect();
        let noun = if ids.len() == 1 { "node" } else { "nodes" };
        format!("\n  {noun} {}: {reason}", texts.join(", "))
    };
    reasons.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every node is named, and what is the same for several is said once; the exit code is that of
    // the trouble where nothing was done, and says so where something was.
    #[test]
    fn every_node_is_named_and_no_reason_twice() {
        let error = |text: &str| Error::NoLeader(text.into());
        let failed = vec![(1, error("a")), (2, error("b")), (3, error("a"))];
        let texts = failed.iter().map(|(id, error)| (*id, error.to_string()));
        let partial = Error::Partial {
            done: "started".into(),
            failed: texts.collect(),
        };
        let lines = "\n  nodes 1, 3: a\n  node 2: b";
        assert_eq!(
            (partial.to_string(), partial.exit_code()),
            (
                format!("not started on 3 of the nodes:{lines}"),
                exit::PARTIAL
            )
        );
        let what = "not started on any of the nodes".to_owned();
        let several = Error::Several { what, failed };
        let advised = several.advise("do this".into());
        assert_eq!(
            (advised.to_string(), advised.exit_code()),
            (
                format!("not started on any of the nodes:{lines}\ndo this"),
                exit::NO_LEADER
            )
        );
    }
}
