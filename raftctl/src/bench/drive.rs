//! Load on one node: over the streaming API with as many operations in flight as there are slots,
//! or with one unary call after the other.

use std::time::Duration;

use raftkv::kv::kv_client::KvClient;
use raftkv::kv::{Outcome, PipelineReply, PipelineRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::until::Until;
use super::worker::{After, Worker};
use crate::client::call;
use crate::client::refusal::Refusal;

/// The pause after a refusal that only time can help.
const PAUSE: Duration = Duration::from_millis(5);

/// How a drive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The time is over, or there is nothing more to ask.
    Done,
    /// The node no longer serves.
    Left,
}

/// Keeps every slot busy until `until`, and waits for the last answers as long as it is let. All replies that wait are taken together, and the
/// operations that take their places leave together, in one message.
pub async fn pipeline(kv: &mut KvClient<Channel>, worker: &mut Worker, until: &Until) -> End {
    if worker.open_sessions(kv).await.is_err() {
        return End::Left;
    }
    // A message holds at least one operation, so there are never more messages than slots.
    let (requests, queue) = mpsc::channel(worker.slots());
    let mut replies = match kv.pipeline(ReceiverStream::new(queue)).await {
        Ok(replies) => replies.into_inner(),
        Err(status) => return lost(worker, &status),
    };
    let mut leaving = false;
    loop {
        if !leaving && !until.is_over() {
            let operations: Vec<_> = std::iter::from_fn(|| worker.next_operation()).collect();
            let request = PipelineRequest { operations };
            if !request.operations.is_empty() && requests.send(request).await.is_err() {
                return lost(worker, &Status::unavailable("connection lost"));
            }
        }
        if worker.outstanding() == 0 {
            return if leaving { End::Left } else { End::Done };
        }
        let received = match receive(&mut replies).await {
            Ok(received) => received,
            Err(status) => return lost(worker, &status),
        };
        let now = std::time::Instant::now();
        worker.ends_at(until.at().into_std());
        let outcomes = received.iter().flat_map(|reply| &reply.outcomes);
        let worst = outcomes.map(|outcome| worker.answered(outcome, now)).max();
        leaving |= worst == Some(After::Leave);
        if worst == Some(After::Pause) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One unary call after the other until `until`; the worker has one slot.
pub async fn unary(kv: &mut KvClient<Channel>, worker: &mut Worker, until: &Until) -> End {
    if worker.open_sessions(kv).await.is_err() {
        return End::Left;
    }
    while !until.is_over() {
        let Some(operation) = worker.next_operation() else {
            return End::Done;
        };
        let Some(body) = operation.operation else {
            continue;
        };
        let answer = call::send(kv, body).await;
        worker.ends_at(until.at().into_std());
        match answer {
            Ok(answer) => {
                let outcome = Outcome {
                    id: operation.id,
                    outcome: Some(answer),
                };
                worker.answered(&outcome, std::time::Instant::now());
            }
            Err(status) => {
                let refusal = Refusal::from_status(&status);
                worker.lost(&word(&refusal));
                match refusal {
                    Refusal::NotReady | Refusal::Overloaded => tokio::time::sleep(PAUSE).await,
                    _ => return End::Left,
                }
            }
        }
    }
    End::Done
}

/// The next reply, and all others that have arrived already.
async fn receive(replies: &mut Streaming<PipelineReply>) -> Result<Vec<PipelineReply>, Status> {
    let first = match replies.message().await? {
        Some(reply) => reply,
        None => return Err(Status::unavailable("the node ended the stream")),
    };
    let mut received = vec![first];
    loop {
        let arrived = tokio::select! {
            biased;
            reply = replies.message() => reply,
            () = std::future::ready(()) => return Ok(received),
        };
        match arrived {
            Ok(Some(reply)) => received.push(reply),
            // What has arrived counts; the next wait meets the end of the stream again.
            Ok(None) | Err(_) => return Ok(received),
        }
    }
}

/// Gives up what is on its way.
fn lost(worker: &mut Worker, status: &Status) -> End {
    worker.lost(&word(&Refusal::from_status(status)));
    End::Left
}

/// The reason of a failure in a word or two, to count by.
fn word(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotLeader(_) => "not_leader",
        Refusal::NotReady => "not_ready",
        Refusal::Overloaded => "overloaded",
        Refusal::Gone(_) => "node gone",
        Refusal::Unknown(_) => "outcome_unknown",
        Refusal::Broken(_) => "connection lost",
        Refusal::SessionExpired => "session_expired",
        Refusal::Invalid(_) => "invalid",
        Refusal::Denied(_) => "denied",
    }
    .to_owned()
}
