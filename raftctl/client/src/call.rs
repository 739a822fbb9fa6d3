//! One operation on its way: what is sent, what is left of its time, what was tried.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use raftkv::kv::kv_client::KvClient;
use raftkv::kv::operation::Operation;
use raftkv::kv::{OpenSessionReply, OpenSessionRequest, RequestId};
use tonic::transport::Channel;

use super::backoff::Backoff;
use super::error::{ClientError, Tried};
use super::refusal::Refusal;

/// The longest one attempt may take. A node that hangs is found out much earlier, by its
/// connection; this is for one that lives and never answers.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// An attempt that failed only after this long was dear: the node is asked last for a while.
const DEAR: Duration = Duration::from_millis(500);

/// A write that nobody has taken in yet is not sent with less time left: an answer that comes too
/// late would leave in doubt what is certain now.
const LAST_WRITE_MIN: Duration = Duration::from_millis(100);

/// When to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another node may know more: ask it now.
    AtOnce,
    /// Only time can help.
    AfterPause,
}

/// The state of one operation over all its attempts.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub operation: Operation,
    /// The only node to ask, if there is but one.
    pub only: Option<u64>,
    /// The same in every attempt, so that the write applies once.
    pub request: Option<RequestId>,
    /// Whether it may change what is stored.
    pub writes: bool,
    /// The write is being sent, and its answer has not come.
    pub in_flight: bool,
    /// An earlier attempt may have taken effect, or may still do so.
    pub maybe_done: bool,
    /// How many nodes were asked since the last pause: after all of them comes the next.
    pub asked_since_pause: usize,
    /// Some node has said something.
    pub heard: bool,
    /// The hosts have been looked at.
    pub looked: bool,
    /// Nodes that would not serve this client when they were asked last.
    pub denied: BTreeSet<u64>,
    /// What came of the attempts, for the error message.
    pub tried: Tried,
    timeout: Duration,
    deadline: Instant,
    backoff: Backoff,
}

impl Call {
    /// An operation that begins now and may take `timeout`.
    pub fn new(mut operation: Operation, only: Option<u64>, timeout: Duration) -> Self {
        Call {
            only,
            request: None,
            writes: operation.request_id().is_some(),
            in_flight: false,
            maybe_done: false,
            deadline: Instant::now() + timeout,
            asked_since_pause: 0,
            heard: false,
            looked: false,
            denied: BTreeSet::new(),
            tried: Tried::default(),
            timeout,
            backoff: Backoff::default(),
            operation,
        }
    }

    /// How long the attempt that begins at `now` may take; none is left when the time is over.
    pub fn attempt_limit(&self, now: Instant) -> Option<Duration> {
        let remaining = self.deadline.saturating_duration_since(now);
        let is_certain = self.writes && !self.maybe_done && !self.tried.is_empty();
        let is_over = remaining.is_zero() || is_certain && remaining < LAST_WRITE_MIN;
        (!is_over).then(|| remaining.min(ATTEMPT_MAX))
    }

    /// The attempt was given up after `limit`.
    pub fn given_up(&mut self, limit: Duration) -> Refusal {
        let why = format!("no answer within {} ms", limit.as_millis());
        if std::mem::take(&mut self.in_flight) {
            Refusal::Broken(why)
        } else {
            Refusal::Gone(why)
        }
    }

    /// Whether a failed attempt that began at `began` shows a node that had better be asked last.
    /// One that was cut short by the end of the operation shows nothing.
    pub fn was_dear(&self, began: Instant, now: Instant) -> bool {
        now < self.deadline && now - began >= DEAR
    }

    /// Waits a little, never past the deadline.
    pub async fn pause(&mut self) {
        self.asked_since_pause = 0;
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        tokio::time::sleep(self.backoff.next_pause().min(remaining)).await;
    }

    /// Waits until the time is over: what is said of it afterwards is then true.
    pub async fn wait_out(&self) {
        tokio::time::sleep_until(self.deadline.into()).await;
    }

    /// No node runs, and none was ever asked with success.
    pub fn nobody_runs(&mut self) -> ClientError {
        ClientError::NobodyRuns {
            tried: std::mem::take(&mut self.tried),
        }
    }

    /// What the end of the time means for this operation.
    pub fn timed_out(&mut self) -> ClientError {
        let (timeout, tried) = (self.timeout, std::mem::take(&mut self.tried));
        if self.maybe_done {
            let key = shown(self.operation.key());
            return ClientError::OutcomeUnknown {
                key,
                timeout,
                tried,
            };
        }
        match self.only {
            Some(node) => ClientError::NodeSilent {
                node,
                timeout,
                tried,
            },
            None => ClientError::NoLeader { timeout, tried },
        }
    }
}

/// Names the client. A session that may or may not have been opened is no doubt about the write
/// that was to follow: it was never sent.
pub async fn open_session(kv: &mut KvClient<Channel>) -> Result<OpenSessionReply, Refusal> {
    match kv.open_session(OpenSessionRequest {}).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) => Err(match Refusal::from_status(&status) {
            Refusal::Broken(why) | Refusal::Unknown(why) => Refusal::Gone(why),
            refusal => refusal,
        }),
    }
}

/// A key in a message: quoted, and cut where it is long.
fn shown(key: &str) -> String {
    const CHARS_MAX: usize = 60;
    if key.chars().count() <= CHARS_MAX {
        return format!("{key:?}");
    }
    let start: String = key.chars().take(CHARS_MAX).collect();
    format!("{start:?}... ({} bytes)", key.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;
    use raftkv::kv::{GetRequest, SetRequest};

    /// A write that was refused everywhere is not sent once more with hardly any time left: nothing
    /// would come of it but doubt. One in doubt already is, and so is a read, and a first attempt.
    #[test]
    fn a_late_attempt_makes_nothing_uncertain() {
        let limit = |operation: Operation, tried: bool, maybe_done: bool| {
            let mut call = Call::new(operation, None, Duration::from_secs(1));
            if tried {
                let member = Member {
                    id: 1,
                    address: "n1:7500".into(),
                };
                call.tried.record(&member, "not the leader".into());
            }
            call.maybe_done = maybe_done;
            call.attempt_limit(call.deadline - LAST_WRITE_MIN / 2)
        };
        let set = || Operation::Set(SetRequest::default());
        assert_eq!(limit(set(), true, false), None);
        assert!(limit(set(), true, true).is_some());
        assert!(limit(set(), false, false).is_some());
        let get = Operation::Get(GetRequest::default());
        assert!(limit(get, true, false).is_some());
    }
}
