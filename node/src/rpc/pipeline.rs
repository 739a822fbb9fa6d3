//! The stream that carries many operations: requests are read, carried out and answered in one
//! task, the one that writes the replies. A client that does not take its replies is not read
//! from either, so neither side piles up; whatever is ready at a time goes out as one message.

use super::call::{Looked, REQUEST_TIMEOUT, read_timed_out, write_timed_out};
use super::room::ReplyRoom;
use super::translate::{self, Done};
use super::{Front, Refusal};
use crate::desk::{Basket, Outcome, Waiter};
use crate::engine::{Consistency, Query, Reply, Request, Token};
use prost::Message as _;
use raftkv::kv as wire;
use raftkv::{MESSAGE_BYTES_MAX, PIPELINE_OPERATIONS_MAX};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming};
use wire::operation::Operation as WireOperation;
use wire::outcome::Outcome as WireOutcome;

/// Most streams at a time, from all clients together.
pub(super) const PIPELINES_MAX: usize = 1024;
/// Most operations of one stream that wait; further ones are refused.
const OPEN_MAX: usize = 4096;
/// A reply message is sent off when it has grown to this size.
const REPLY_BYTES: usize = 256 * 1024;
/// A larger outcome takes room of its own: [`REPLY_BYTES`] bounds the others.
const LARGE_BYTES: usize = 64 * 1024;
/// Most operations begun before others get their turn.
const TURN_OPERATIONS_MAX: usize = 1024;

/// One stream.
#[derive(Debug)]
pub(super) struct Pipeline {
    front: Arc<Front>,
    requests: Streaming<wire::PipelineRequest>,
    requests_ended: bool,
    /// Why they ended, where it was no good end: said when everything else is.
    broken: Option<Status>,
    /// What is left of the message read last.
    operations: std::vec::IntoIter<wire::Operation>,
    open: HashMap<Token, Open>,
    basket: Arc<Basket>,
    /// Taken out of the basket, but not yet written out.
    answered: VecDeque<(Token, Outcome)>,
    /// In the order in which they were begun; those already answered are skipped.
    deadlines: VecDeque<(Instant, Token)>,
    timer: Pin<Box<Sleep>>,
    ready: wire::PipelineReply,
    ready_bytes: usize,
    ready_rooms: Vec<ReplyRoom>,
    /// Of the message written last, until the next one is asked for.
    leaving_rooms: Vec<ReplyRoom>,
    _permit: OwnedSemaphorePermit,
}

/// An operation that waits for the loop.
#[derive(Debug)]
struct Open {
    id: u64,
    /// `None`: a write.
    read: Option<(Query, Consistency)>,
}

impl Pipeline {
    pub(super) fn new(
        front: Arc<Front>,
        requests: Streaming<wire::PipelineRequest>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Pipeline {
            front,
            requests,
            requests_ended: false,
            broken: None,
            operations: Vec::new().into_iter(),
            open: HashMap::new(),
            basket: Arc::default(),
            answered: VecDeque::new(),
            deadlines: VecDeque::new(),
            timer: Box::pin(sleep_until(Instant::now())),
            ready: wire::PipelineReply::default(),
            ready_bytes: 0,
            ready_rooms: Vec::new(),
            leaving_rooms: Vec::new(),
            _permit: permit,
        }
    }

    /// Begins operations as they come. Returns whether it stopped although there may be more.
    fn begin_all(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..TURN_OPERATIONS_MAX {
            if self.ready_bytes >= REPLY_BYTES {
                return true;
            }
            if let Some(operation) = self.operations.next() {
                self.begin(operation);
                continue;
            }
            if self.requests_ended {
                return false;
            }
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(request))) => self.take(request),
                // Cut off or done: what was begun is still answered, if anybody listens.
                Poll::Ready(Some(Err(status))) => self.end(too_long(status)),
                Poll::Ready(None) => self.requests_ended = true,
            }
        }
        true
    }

    /// In memory, an operation takes many times what an empty one takes in a message, so messages
    /// are bounded in operations, too.
    fn take(&mut self, request: wire::PipelineRequest) {
        let count = request.operations.len();
        if count > PIPELINE_OPERATIONS_MAX {
            let why = format!(
                "a message with {count} operations; at most {PIPELINE_OPERATIONS_MAX} are \
                 allowed: send several messages"
            );
            return self.end(Refusal::invalid(why).into_status());
        }
        self.operations = request.operations.into_iter();
    }

    fn end(&mut self, why: Status) {
        self.requests_ended = true;
        self.broken = Some(why);
    }

    fn begin(&mut self, operation: wire::Operation) {
        let id = operation.id;
        let begun = match operation.operation {
            Some(WireOperation::Get(get)) => {
                translate::get(get).and_then(|(query, how)| self.begin_read(id, query, how))
            }
            Some(WireOperation::List(list)) => {
                translate::list(list).and_then(|(query, how)| self.begin_read(id, query, how))
            }
            Some(WireOperation::Set(set)) => {
                translate::set(set).and_then(|write| self.submit(id, write, None))
            }
            Some(WireOperation::Delete(delete)) => {
                translate::delete(delete).and_then(|write| self.submit(id, write, None))
            }
            Some(WireOperation::CompareAndSet(swap)) => {
                translate::compare_and_set(swap).and_then(|write| self.submit(id, write, None))
            }
            None => Err(Refusal::invalid("an operation not known to this version")),
        };
        if let Err(refusal) = begun {
            self.refuse(id, refusal);
        }
    }

    fn begin_read(&mut self, id: u64, query: Query, how: Consistency) -> Result<(), Refusal> {
        self.front.tell_read(&query, how);
        self.read(id, query, how)
    }

    fn read(&mut self, id: u64, query: Query, how: Consistency) -> Result<(), Refusal> {
        match self.front.look(&query, how) {
            Some(Looked::Done(done)) => {
                self.put_done(id, done);
                Ok(())
            }
            Some(Looked::Refused(refusal)) => Err(refusal),
            Some(Looked::Wait) | None => {
                let request = Request::Read {
                    query: query.clone(),
                    consistency: how,
                };
                self.submit(id, request, Some((query, how)))
            }
        }
    }

    fn submit(
        &mut self,
        id: u64,
        request: Request,
        read: Option<(Query, Consistency)>,
    ) -> Result<(), Refusal> {
        if matches!(request, Request::Write { .. }) {
            self.front.must_lead()?;
        }
        if self.open.len() >= OPEN_MAX {
            let why = "too many operations of this stream wait";
            return Err(self.front.overloaded(why));
        }
        let waiter = Waiter::Stream(Arc::clone(&self.basket));
        let submitted = self.front.desk.submit(request, waiter);
        let token = submitted.map_err(|why| self.front.turn_away(why))?;
        self.open.insert(token, Open { id, read });
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        if self.deadlines.is_empty() {
            self.timer.as_mut().reset(deadline);
        }
        self.deadlines.push_back((deadline, token));
        Ok(())
    }

    /// Writes out what the loop has answered. Returns whether it stopped although there is more.
    fn finish_all(&mut self, context: &Context<'_>) -> bool {
        loop {
            if self.answered.is_empty() {
                self.answered = self.basket.take(context).into();
            }
            if self.ready_bytes >= REPLY_BYTES {
                return true;
            }
            match self.answered.pop_front() {
                Some((token, outcome)) => self.finish(token, outcome),
                None => return false,
            }
        }
    }

    fn finish(&mut self, token: Token, outcome: Outcome) {
        let Some(Open { id, read }) = self.open.remove(&token) else {
            return; // It timed out just before.
        };
        match (outcome, read) {
            (Ok(Reply::LookAgain), Some((query, how))) => {
                if let Err(refusal) = self.read(id, query, how) {
                    self.refuse(id, refusal);
                }
            }
            (Ok(Reply::Written { index, result }), _) => {
                self.put_done(id, Done::Written { index, result });
            }
            (Ok(reply), _) => {
                let done = self.front.done_reading(reply);
                self.put_done(id, done);
            }
            (Err(error), _) => {
                let refusal = self.front.refuse(&error);
                self.refuse(id, refusal);
            }
        }
    }

    /// Gives up what has waited too long, and sets the timer for what will have.
    fn expire(&mut self, context: &mut Context<'_>) {
        while let Some(&(deadline, token)) = self.deadlines.front() {
            if !self.open.contains_key(&token) {
                self.deadlines.pop_front();
                continue;
            }
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return;
            }
            self.deadlines.pop_front();
            self.front.desk.abandon(token);
            let error = match self.open.get(&token) {
                Some(Open { read: None, .. }) => write_timed_out(),
                _ => read_timed_out(),
            };
            self.finish(token, Err(error));
        }
    }

    fn refuse(&mut self, id: u64, refusal: Refusal) {
        self.put(id, WireOutcome::Error(refusal.into_wire()));
    }

    fn put_done(&mut self, id: u64, done: Done) {
        let bytes = translate::size_bytes(&done);
        if bytes > LARGE_BYTES {
            match self.front.reply_room(bytes) {
                Ok(room) => self.ready_rooms.push(room),
                Err(refusal) => return self.refuse(id, refusal),
            }
        }
        self.put(id, translate::outcome(done));
    }

    fn put(&mut self, id: u64, outcome: WireOutcome) {
        let outcome = wire::Outcome {
            id,
            outcome: Some(outcome),
        };
        self.ready_bytes += outcome.encoded_len();
        self.ready.outcomes.push(outcome);
    }
}

/// Says in the node's own words that a message was too long.
fn too_long(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => Refusal::invalid(format!(
            "a message of more than {MESSAGE_BYTES_MAX} bytes: send several messages"
        ))
        .into_status(),
        _ => status,
    }
}

impl Stream for Pipeline {
    type Item = Result<wire::PipelineReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.leaving_rooms.clear();
        let unfinished = this.finish_all(context) | this.begin_all(context);
        this.expire(context);
        if !this.ready.outcomes.is_empty() {
            this.ready_bytes = 0;
            this.leaving_rooms = std::mem::take(&mut this.ready_rooms);
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.ready))));
        }
        if this.requests_ended && this.open.is_empty() {
            return Poll::Ready(this.broken.take().map(Err));
        }
        if unfinished {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for token in self.open.keys() {
            self.front.desk.abandon(*token);
        }
    }
}
