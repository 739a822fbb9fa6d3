//! The stream that carries many operations: requests are read, carried out and answered in one
//! task, the one that writes the replies. A client that does not take its replies is not read
//! from either, so neither side piles up; whatever is ready at a time goes out as one message.

use super::budget::ReplyRoom;
use super::call::{DirectRead, REQUEST_TIMEOUT, read_timed_out, write_cut_off, write_timed_out};
use super::refusal::{count_refused, explained};
use super::translate::{self, Done, Wanted};
use super::turns::Turn;
use super::{Front, Refusal};
use crate::access::Access;
use crate::desk::{Outcome, StreamOutcomes, Waiter};
use crate::engine::{Consistency, Query, Reply, Request, Token};
use crate::metrics::Path;
use prost::Message as _;
use raftkv::MESSAGE_BYTES_MAX;
use raftkv::kv as wire;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming};
use wire::outcome::Outcome as WireOutcome;

/// Most streams at a time, from all clients together.
pub(super) const PIPELINES_MAX: usize = 1024;
/// Most operations of one stream that wait. Further ones are not begun, and nothing more is read,
/// until there is room again.
const OPEN_MAX: usize = 4096;
/// A reply message is sent off when it has grown to this size. One is made while the one before it
/// leaves, so a stream whose client takes nothing holds two.
const REPLY_BYTES: usize = 64 * 1024;
/// A larger outcome takes room of its own: [`REPLY_BYTES`] bounds the others.
const LARGE_BYTES: usize = 16 * 1024;
/// Most operations begun before others get their turn.
const TURN_OPERATIONS_MAX: usize = 1024;

/// Why an operation can't be carried out of which no more than its id can be read.
const UNREADABLE: &str = "an operation that this version does not know, or text that is not UTF-8";

/// One stream.
#[derive(Debug)]
pub(super) struct Pipeline {
    front: Arc<Front>,
    access: Access,
    requests: Streaming<wire::PipelineRequest>,
    requests_ended: bool,
    /// Why the requests ended, where it was an error: it ends the stream, after all outcomes.
    broken: Option<Status>,
    /// What is left of the message read last.
    operations: std::vec::IntoIter<wire::Operation>,
    operations_room: Option<OwnedSemaphorePermit>,
    /// When that message was here.
    arrived: Instant,
    /// Answered at once since then, by path, and not yet counted.
    answered_at_once: [u64; Path::ALL.len()],
    open: HashMap<Token, Open>,
    /// What the loop has answered, until it is taken out.
    outcomes: Arc<StreamOutcomes>,
    /// Taken out of `outcomes`, but not yet written to the stream.
    answered: VecDeque<(Token, Outcome)>,
    /// In the order in which they were begun; those already answered are skipped.
    deadlines: VecDeque<(Instant, Token)>,
    timer: Pin<Box<Sleep>>,
    ready: wire::PipelineReply,
    ready_bytes: usize,
    ready_rooms: Vec<ReplyRoom>,
    /// Of the message written last, until the next one is asked for.
    leaving_rooms: Vec<ReplyRoom>,
    /// Large messages are made when it is this stream's turn,...
    turn: Turn,
    /// ...and the next one is likely to be what the last was.
    was_large: bool,
    /// Ready once the node ends.
    closing: Closing,
    _permit: OwnedSemaphorePermit,
}

/// Waits for the end of the node.
struct Closing {
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whoever ends the node waits until all of these are gone, and with them the streams.
    _open: watch::Receiver<bool>,
}

impl std::fmt::Debug for Closing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Closing")
    }
}

impl Closing {
    fn of(front: &Front) -> Self {
        let open = front.closing.subscribe();
        let mut closing = open.clone();
        let told = async move {
            // The sender outlives the stream, which holds the front.
            closing.wait_for(|closing| *closing).await.ok();
        };
        Closing {
            told: Box::pin(told),
            _open: open,
        }
    }
}

/// An operation that waits for the loop.
#[derive(Debug)]
struct Open {
    id: u64,
    /// `None`: a write.
    read: Option<(Query, Consistency)>,
    since: Instant,
}

impl Pipeline {
    pub(super) fn new(
        (front, access): (Arc<Front>, Access),
        requests: Streaming<wire::PipelineRequest>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Pipeline {
            closing: Closing::of(&front),
            turn: front.turns.begin(),
            was_large: false,
            front,
            access,
            requests,
            requests_ended: false,
            broken: None,
            operations: Vec::new().into_iter(),
            operations_room: None,
            arrived: Instant::now(),
            answered_at_once: Default::default(),
            open: HashMap::new(),
            outcomes: Arc::default(),
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
            if self.open.len() >= OPEN_MAX {
                return false; // The next outcome wakes this stream.
            }
            if let Some(operation) = self.operations.next() {
                self.begin(operation);
                continue;
            }
            self.operations_room = None;
            if self.requests_ended {
                return false;
            }
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(request))) => self.take(request),
                // Cut off or done: what was begun is still answered, if anybody listens.
                Poll::Ready(Some(Err(status))) => self.end(unreadable(status)),
                Poll::Ready(None) => self.requests_ended = true,
            }
        }
        true
    }

    /// In memory, an operation takes many times what an empty one takes in a message. How many there
    /// may be was looked at before they were made; what they take has room of its own for as long as
    /// some of them have not begun.
    fn take(&mut self, request: wire::PipelineRequest) {
        let bytes = request.operations.len() * size_of::<wire::Operation>();
        self.operations_room = self.front.room.for_request(bytes);
        if self.operations_room.is_none() {
            let why = "too many requests are being read";
            return self.end(self.front.overloaded(why).into_status());
        }
        self.operations = request.operations.into_iter();
        self.arrived = Instant::now();
    }

    /// Counts what was answered at once. All of it together: a clock for each would cost more than the
    /// answer does.
    fn count_answered_at_once(&mut self) {
        let counts = std::mem::take(&mut self.answered_at_once);
        if counts.iter().all(|count| *count == 0) {
            return;
        }
        let took = self.arrived.elapsed();
        for (path, count) in Path::ALL.into_iter().zip(counts) {
            if count > 0 {
                self.front.metrics.answered(path, took, count);
            }
        }
    }

    fn end(&mut self, why: Status) {
        count_refused(&self.front.metrics, why.metadata().as_ref());
        self.requests_ended = true;
        self.broken = Some(why);
    }

    /// When the node ends, nothing more is begun and everything that was begun is told, so that
    /// what has no outcome was not done.
    fn close_if_told(&mut self, context: &mut Context<'_>) {
        if self.closing.told.as_mut().poll(context).is_pending() {
            return;
        }
        self.closing.told = Box::pin(std::future::pending());
        for operation in std::mem::take(&mut self.operations) {
            self.refuse(operation.id, self.front.stopping());
        }
        for (token, open) in std::mem::take(&mut self.open) {
            self.front.desk.abandon(token);
            let refusal = match open.read {
                Some(_) => self.front.stopping(),
                None => self.front.refuse(&write_cut_off()),
            };
            self.refuse(open.id, refusal);
        }
        let mut stopping = self.front.stopping();
        stopping.message += "; an operation without an outcome was not done";
        self.end(stopping.into_status());
    }

    fn begin(&mut self, operation: wire::Operation) {
        let id = operation.id;
        let wanted = operation.operation.map(translate::wanted);
        let wanted = wanted.unwrap_or_else(|| Err(Refusal::invalid(UNREADABLE)));
        let permitted = wanted.and_then(|wanted| {
            self.front.permit(&self.access, &wanted)?;
            Ok(wanted)
        });
        let begun = match permitted {
            Ok(Wanted::Read(query, how)) => self.begin_read(id, query, how),
            Ok(Wanted::Write(write)) => self.submit(id, write, None, None),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = begun {
            self.refuse(id, refusal);
        }
    }

    fn begin_read(&mut self, id: u64, query: Query, how: Consistency) -> Result<(), Refusal> {
        self.front.tell_read(&query, how);
        self.read(id, query, how, None)
    }

    /// `since`: when it was begun, where that is not just now.
    fn read(
        &mut self,
        id: u64,
        query: Query,
        how: Consistency,
        since: Option<Instant>,
    ) -> Result<(), Refusal> {
        match self.front.read_directly(&query, how) {
            Some(DirectRead::Done(done)) => {
                match since {
                    None => self.answered_at_once[done.path() as usize] += 1,
                    Some(since) => {
                        let metrics = &self.front.metrics;
                        metrics.answered(done.path(), since.elapsed(), 1);
                    }
                }
                self.put_done(id, done);
                Ok(())
            }
            Some(DirectRead::Refused(refusal)) => Err(refusal),
            Some(DirectRead::Wait) | None => {
                let request = Request::Read {
                    query: query.clone(),
                    consistency: how,
                };
                self.submit(id, request, Some((query, how)), since)
            }
        }
    }

    fn submit(
        &mut self,
        id: u64,
        request: Request,
        read: Option<(Query, Consistency)>,
        since: Option<Instant>,
    ) -> Result<(), Refusal> {
        if matches!(request, Request::Write { .. }) {
            self.front.may_write()?;
        }
        let waiter = Waiter::Stream(Arc::clone(&self.outcomes));
        let submitted = self.front.desk.submit(request, waiter);
        let token = submitted.map_err(|why| self.front.turn_away(why))?;
        let now = Instant::now();
        let since = since.unwrap_or(now);
        self.open.insert(token, Open { id, read, since });
        let deadline = now + REQUEST_TIMEOUT;
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
                self.answered = self.outcomes.take(context).into();
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
        let Some(Open { id, read, since }) = self.open.remove(&token) else {
            return; // It timed out just before.
        };
        match (outcome, read) {
            (Ok(Reply::LookAgain), Some((query, how))) => {
                if let Err(refusal) = self.read(id, query, how, Some(since)) {
                    self.refuse(id, refusal);
                }
            }
            (Ok(Reply::Written { index, result }), _) => {
                self.put_answered(id, Done::Written { index, result }, since);
            }
            (Ok(reply), _) => {
                let done = self.front.done_reading(reply);
                self.put_answered(id, done, since);
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
        self.front.metrics.refused(refusal.reason);
        self.put(id, WireOutcome::Error(refusal.into_wire()));
    }

    fn put_answered(&mut self, id: u64, done: Done, since: Instant) {
        let metrics = &self.front.metrics;
        metrics.answered(done.path(), since.elapsed(), 1);
        self.put_done(id, done);
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

/// Says in the node's own words why a message could not be read.
fn unreadable(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => Refusal::invalid(format!(
            "a message of more than {MESSAGE_BYTES_MAX} bytes: send several messages"
        ))
        .into_status(),
        _ => explained(status),
    }
}

impl Stream for Pipeline {
    type Item = Result<wire::PipelineReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.leaving_rooms.clear();
        if this.was_large {
            ready!(this.turn.poll(context));
        }
        let mut unfinished = this.finish_all(context);
        if !unfinished {
            this.close_if_told(context);
        }
        unfinished |= this.begin_all(context);
        this.count_answered_at_once();
        this.expire(context);
        if !this.ready.outcomes.is_empty() {
            this.was_large = !this.ready_rooms.is_empty();
            if this.was_large {
                ready!(this.turn.poll(context));
                this.turn.end();
            }
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
