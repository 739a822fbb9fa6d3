//! Load on one node: over the streaming API with as many operations in flight as there are slots,
//! or with one unary call after the other.

use std::time::Duration;

use prost::Message as _;
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::{Operation, Outcome, PipelineReply, PipelineRequest};
use raftkv::{MESSAGE_BYTES_MAX, PIPELINE_OPERATIONS_MAX};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::until::Until;
use super::worker::{After, Worker};
use raftkv_client::operations;
use raftkv_client::refusal::Refusal;

/// The pause after a refusal that only time can help.
const PAUSE: Duration = Duration::from_millis(5);

/// What a message adds to an operation in it: a tag, and a length of at most five bytes.
const FRAME_BYTES_MAX: usize = 6;

/// How a drive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The time is over, or there is nothing more to ask.
    Done,
    /// The node no longer serves.
    Left,
}

/// Keeps every slot busy until `until`, or begins what is due, and waits for the last answers as long as it is let. All
/// replies that wait are taken together, and the operations that take their places leave together,
/// in one message where they fit in one.
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
            for request in messages(operations) {
                if requests.send(request).await.is_err() {
                    return lost(worker, &Status::unavailable("connection lost"));
                }
            }
        }
        let is_over = leaving || until.is_over() || !worker.has_pace();
        if worker.outstanding() == 0 && is_over {
            return if leaving { End::Left } else { End::Done };
        }
        let received = tokio::select! {
            biased;
            received = receive(&mut replies) => received,
            () = worker.until_due(), if !is_over => continue,
            () = until.past(Duration::ZERO), if !is_over => continue,
        };
        let received = match received {
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

/// As few messages as a node takes these operations in.
fn messages(operations: Vec<Operation>) -> Vec<PipelineRequest> {
    let mut messages: Vec<PipelineRequest> = Vec::new();
    let mut bytes = 0;
    for operation in operations {
        let more = operation.encoded_len() + FRAME_BYTES_MAX;
        match messages.last_mut() {
            Some(last)
                if last.operations.len() < PIPELINE_OPERATIONS_MAX
                    && bytes + more <= MESSAGE_BYTES_MAX =>
            {
                last.operations.push(operation);
                bytes += more;
            }
            _ => {
                let operations = vec![operation];
                messages.push(PipelineRequest { operations });
                bytes = more;
            }
        }
    }
    messages
}

/// One unary call after the other until `until`; the worker has one slot.
pub async fn unary(kv: &mut KvClient<Channel>, worker: &mut Worker, until: &Until) -> End {
    if worker.open_sessions(kv).await.is_err() {
        return End::Left;
    }
    while !until.is_over() {
        if worker.has_pace() {
            tokio::select! {
                () = worker.until_due() => {}
                () = until.past(Duration::ZERO) => break,
            }
        }
        let Some(operation) = worker.next_operation() else {
            return End::Done;
        };
        let Some(body) = operation.operation else {
            continue;
        };
        let answer = operations::send(kv, body).await;
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
                if refusal == Refusal::SessionExpired {
                    worker.session_expired(0);
                }
                match refusal {
                    Refusal::NotReady | Refusal::Overloaded | Refusal::DiskFull(_) => {
                        tokio::time::sleep(PAUSE).await;
                    }
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
        Refusal::DiskFull(_) => "disk full",
        Refusal::Gone(_) => "node gone",
        Refusal::Unknown(_) => "outcome_unknown",
        Refusal::Broken(_) => "connection lost",
        Refusal::SessionExpired => "session_expired",
        Refusal::Invalid(_) => "invalid",
        Refusal::Denied(_) => "denied",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv::kv::SetRequest;
    use raftkv::kv::operation::Operation as Body;

    fn set(id: u64, value_bytes: usize) -> Operation {
        let set = SetRequest {
            value: "v".repeat(value_bytes),
            ..SetRequest::default()
        };
        Operation {
            id,
            operation: Some(Body::Set(set)),
        }
    }

    /// However many operations leave at a time and however large they are, no message is larger
    /// than a node takes; all leave, in order, and small ones together.
    #[test]
    fn messages_are_within_the_limits_of_a_node() {
        for (count, value_bytes, expected) in [
            (0, 0, 0),
            (PIPELINE_OPERATIONS_MAX, 1, 1),
            (PIPELINE_OPERATIONS_MAX + 1, 1, 2),
            (64, raftkv::VALUE_BYTES_MAX, 22),
        ] {
            let operations = (0..count as u64).map(|id| set(id, value_bytes));
            let messages = messages(operations.collect());
            assert_eq!(messages.len(), expected);
            for message in &messages {
                assert!(message.encoded_len() <= MESSAGE_BYTES_MAX);
                assert!(message.operations.len() <= PIPELINE_OPERATIONS_MAX);
            }
            let ids = messages.iter().flat_map(|message| &message.operations);
            assert!(ids.map(|operation| operation.id).eq(0..count as u64));
        }
    }
}
