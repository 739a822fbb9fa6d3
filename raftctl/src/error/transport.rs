//! Why the answer of a script that was to run on a host is missing.

use std::time::Duration;

/// Why a script's answer is missing. None of these is an exit status other than zero: that is the
/// script's own answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// Nothing has run. Trying again is safe and may help.
    #[error("{host}: cannot be reached: {cause}")]
    Unreachable {
        /// The host, as the operator knows it.
        host: String,
        /// What stood in the way.
        cause: String,
    },
    /// The host is there but must not be talked to: its key changed, or it refuses the login.
    /// Trying again does not help; a person has to act.
    #[error("{host}: {cause}")]
    Refused {
        /// The host, as the operator knows it.
        host: String,
        /// What is wrong, and the way out.
        cause: String,
    },
    /// The connection broke after the script was handed over. What it did is not known; scripts
    /// are idempotent, so run it again.
    #[error("{host}: connection lost while: {purpose}: {cause}")]
    Lost {
        /// The host, as the operator knows it.
        host: String,
        /// What was being done.
        purpose: String,
        /// What broke.
        cause: String,
    },
    /// The deadline is over. What the script did is not known.
    #[error("{host}: no answer within {} ms while: {purpose}{}", deadline.as_millis(), with_stderr(stderr))]
    Deadline {
        /// The host, as the operator knows it.
        host: String,
        /// What was being done.
        purpose: String,
        /// How long the script had.
        deadline: Duration,
        /// What the script had said on standard error by then.
        stderr: String,
    },
    /// The answer is larger than its bound, or could not be written where it should go.
    #[error("{host}: the answer could not be taken while: {purpose}: {cause}")]
    Answer {
        /// The host, as the operator knows it.
        host: String,
        /// What was being done.
        purpose: String,
        /// What is wrong.
        cause: String,
    },
}

fn with_stderr(stderr: &str) -> String {
    match stderr.trim() {
        "" => "; `raftctl doctor` waits longer, and tells the cause".into(),
        text => format!("; it said: {text}"),
    }
}
