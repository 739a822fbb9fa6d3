//! One operation on its way: what is sent, what is left of its time, what was tried.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use raftkv::kv::kv_client::KvClient;
use raftkv::kv::operation::Operation;
use raftkv::kv::outcome::Outcome;
use raftkv::kv::{OpenSessionReply, OpenSessionRequest, RequestId};
use tonic::Status;
use tonic::transport::Channel;

use super::backoff::Backoff;
use super::error::{ClientError, Tried};
use super::refusal::Refusal;

/// The longest one attempt may take. A node that hangs is found out much earlier, by its
/// connection; this is for one that lives and never answers.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// An attempt that failed only after this long was dear: the node is asked last for a while.
const DEAR: Duration = Duration::from_millis(500);

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
    pub operation: Operation,
    /// The only node to ask, if there is but one.
    pub only: Option<u64>,
    /// The same in every attempt, so that the write applies once.
    pub request: Option<RequestId>,
    pub writes: bool,
    /// The write is being sent, and its answer has not come.
    pub in_flight: bool,
    /// An earlier attempt may have taken effect, or may still do so.
    pub maybe_done: bool,
    pub asked_since_pause: usize,
    /// Nodes that would not serve this client when they were asked last.
    pub denied: BTreeSet<u64>,
    pub tried: Tried,
    timeout: Duration,
    deadline: Instant,
    backoff: Backoff,
}

impl Call {
    /// An operation that begins now and may take `timeout`.
    pub fn new(operation: Operation, only: Option<u64>, timeout: Duration) -> Self {
        Call {
            only,
            request: None,
            writes: !matches!(operation, Operation::Get(_) | Operation::List(_)),
            in_flight: false,
            maybe_done: false,
            deadline: Instant::now() + timeout,
            asked_since_pause: 0,
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
        (!remaining.is_zero()).then(|| remaining.min(ATTEMPT_MAX))
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

    /// What the end of the time means for this operation.
    pub fn timed_out(&mut self) -> ClientError {
        let (timeout, tried) = (self.timeout, std::mem::take(&mut self.tried));
        if self.maybe_done {
            let key = shown(key_of(&self.operation));
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

/// Gives a write its request id.
pub fn stamp(operation: &mut Operation, request: RequestId) {
    match operation {
        Operation::Set(set) => set.request = Some(request),
        Operation::Delete(delete) => delete.request = Some(request),
        Operation::CompareAndSet(swap) => swap.request = Some(request),
        Operation::Get(_) | Operation::List(_) => {}
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

/// One unary call; the outcome is of the operation's own kind.
pub async fn send(kv: &mut KvClient<Channel>, operation: Operation) -> Result<Outcome, Status> {
    Ok(match operation {
        Operation::Get(request) => Outcome::Get(kv.get(request).await?.into_inner()),
        Operation::Set(request) => Outcome::Set(kv.set(request).await?.into_inner()),
        Operation::Delete(request) => Outcome::Delete(kv.delete(request).await?.into_inner()),
        Operation::CompareAndSet(request) => {
            Outcome::CompareAndSet(kv.compare_and_set(request).await?.into_inner())
        }
        Operation::List(request) => Outcome::List(kv.list(request).await?.into_inner()),
    })
}

fn key_of(operation: &Operation) -> &str {
    match operation {
        Operation::Get(get) => &get.key,
        Operation::Set(set) => &set.key,
        Operation::Delete(delete) => &delete.key,
        Operation::CompareAndSet(swap) => &swap.key,
        Operation::List(list) => &list.prefix,
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
