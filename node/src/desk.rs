//! The front desk: where requests, messages of peers and news of the disk wait for the loop, and
//! where those who asked wait for their replies.
//!
//! Everything here is bounded. A client's request is admitted or refused at once; a message of a
//! peer waits at its connection, so the peer is slowed down by the transport; news of the disk
//! are as many as its works.

use crate::engine::{Input, Query, Reply, Request, RequestError, Token};
use crate::raft::{ENDED_MAX, Message, NodeId, Run, Status};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use tokio::sync::{Notify, oneshot};

/// Most requests that may wait, from all clients together.
pub const REQUESTS_MAX: usize = 16_384;
/// Most bytes of keys and values in requests that wait.
pub const REQUEST_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most messages of peers that wait for the loop.
const PEER_MESSAGES_MAX: usize = 4096;
/// Most bytes of their entries, but for one message that is always taken.
const PEER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most inputs of one step: so that a step stays short beside a lease.
const STEP_INPUTS_MAX: usize = 4096;

/// What became of a request.
pub type Outcome = Result<Reply, RequestError>;

/// Who waits for an outcome.
#[derive(Debug)]
pub enum Waiter {
    /// A call of its own.
    Call(oneshot::Sender<Outcome>),
    /// One of many on a stream.
    Stream(Arc<StreamOutcomes>),
}

/// Collects the outcomes of one stream's requests until the stream takes them.
#[derive(Debug, Default)]
pub struct StreamOutcomes {
    state: Mutex<StreamOutcomesState>,
}

#[derive(Debug, Default)]
struct StreamOutcomesState {
    outcomes: Vec<(Token, Outcome)>,
    waker: Option<Waker>,
}

impl StreamOutcomes {
    /// Takes out what is there. With nothing there, the task is woken when something comes.
    pub fn take(&self, context: &Context<'_>) -> Vec<(Token, Outcome)> {
        let mut state = lock(&self.state);
        if state.outcomes.is_empty() {
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        std::mem::take(&mut state.outcomes)
    }

    fn put(&self, token: Token, outcome: Outcome) {
        let mut state = lock(&self.state);
        state.outcomes.push((token, outcome));
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// The desk. See the module.
#[derive(Debug, Default)]
pub struct Desk {
    state: Mutex<State>,
    /// Something waits for the loop.
    filled: Notify,
    /// The loop has taken messages of peers: there is room for more.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    inputs: VecDeque<Input>,
    /// News of the disk: as many as its works, and one piece of a snapshot a peer.
    from_disk: Vec<Input>,
    inspections: Vec<oneshot::Sender<Inspection>>,
    peer_messages: usize,
    peer_bytes: usize,
    /// Such news in `inputs`.
    ended_runs: usize,
    /// In `inputs`, whether anybody still waits for them or not.
    requests: Load,
    waiters: HashMap<Token, Waiting>,
    waiting_bytes: usize,
    last_token: Token,
    stopping: bool,
}

#[derive(Debug)]
struct Waiting {
    waiter: Waiter,
    bytes: usize,
}

/// Requests, and the bytes of their keys and values.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    count: usize,
    bytes: usize,
}

impl Load {
    fn has_room(self, bytes: usize) -> bool {
        self.count < REQUESTS_MAX && self.bytes + bytes <= REQUEST_BYTES_MAX
    }
}

/// What an operator is shown.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The core.
    pub status: Status,
    /// Flushes of the disk since the start.
    pub fsyncs: u64,
    /// The newest format that an operator lets the cluster go over to.
    pub format_held_at: u64,
    /// How much more text of the log it takes until a newer format is asked for.
    pub format_growth_left: Option<u64>,
}

/// What the loop takes off the desk in one go.
#[derive(Debug, Default)]
pub struct Taken {
    /// For the engine, in order.
    pub inputs: Vec<Input>,
    /// Who wants to see how the node is.
    pub inspections: Vec<oneshot::Sender<Inspection>>,
    /// There was more.
    pub more: bool,
    /// So many requests wait for their outcome, those that are taken included.
    pub waiting: usize,
}

impl Desk {
    /// Admits a request and returns its token, or refuses it at once. Nothing was done then.
    pub fn submit(&self, request: Request, waiter: Waiter) -> Result<Token, NotAdmitted> {
        let bytes = size_bytes(&request);
        let mut state = lock(&self.state);
        if state.stopping {
            return Err(NotAdmitted::Stopping);
        }
        // Both: a request whose client has gone still lies here until the loop takes it, and one
        // that was taken still waits for its outcome.
        if !state.requests.has_room(bytes) || !state.waiting().has_room(bytes) {
            return Err(NotAdmitted::Overloaded);
        }
        state.requests.count += 1;
        state.requests.bytes += bytes;
        state.last_token += 1;
        let token = state.last_token;
        state.waiting_bytes += bytes;
        state.waiters.insert(token, Waiting { waiter, bytes });
        state.inputs.push_back(Input::Request { token, request });
        drop(state);
        self.filled.notify_one();
        Ok(token)
    }

    /// Nobody waits for this token any more. Harmless when it was answered already.
    pub fn abandon(&self, token: Token) {
        let mut state = lock(&self.state);
        if state.forget(token).is_some() {
            // In order, so that it never overtakes the request. One for each at most.
            state.inputs.push_back(Input::Abandoned { token });
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Takes in a message of a peer; waits for room.
    pub async fn deliver(&self, from: NodeId, mut message: Message) {
        let mut room = std::pin::pin!(self.emptied.notified());
        loop {
            // Enlisted before the look, so that no call is missed between look and wait.
            room.as_mut().enable();
            match self.try_deliver(from, message) {
                Ok(()) => return,
                Err(returned) => message = returned,
            }
            room.as_mut().await;
            room.set(self.emptied.notified());
        }
    }

    fn try_deliver(&self, from: NodeId, message: Message) -> Result<(), Message> {
        let mut state = lock(&self.state);
        let bytes = entries_bytes(&message);
        let is_full = state.peer_messages >= PEER_MESSAGES_MAX
            || state.peer_messages > 0 && state.peer_bytes + bytes > PEER_BYTES_MAX;
        if is_full {
            return Err(message);
        }
        state.peer_messages += 1;
        state.peer_bytes += bytes;
        state.inputs.push_back(Input::Received { from, message });
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes in that a peer's connection came up, and the newest format that the peer reads.
    pub fn report_connected(&self, peer: NodeId, reads_format: u64) {
        self.report(Input::Connected { peer, reads_format });
    }

    /// Takes in that a peer's connection broke, behind all that came over it.
    pub fn report_disconnected(&self, peer: NodeId) {
        self.report(Input::Disconnected { peer });
    }

    /// Takes in the id of the cluster that this node joins, before what comes of that.
    pub fn report_cluster(&self, cluster: u128) {
        self.report(Input::JoinedCluster { cluster });
    }

    /// Takes in that a run has ended for certain. What is too much at once is not taken in: it costs a wait.
    pub fn report_ended(&self, run: Run) {
        let mut state = lock(&self.state);
        if state.ended_runs < ENDED_MAX {
            state.ended_runs += 1;
            state.inputs.push_back(Input::Ended { run });
            drop(state);
            self.filled.notify_one();
        }
    }

    fn report(&self, news: Input) {
        lock(&self.state).inputs.push_back(news);
        self.filled.notify_one();
    }

    /// Takes in that disk work up to this ticket is durable.
    pub fn report_durable(&self, ticket: u64) {
        lock(&self.state).from_disk.push(Input::Durable { ticket });
        self.filled.notify_one();
    }

    /// Takes in what the disk says of a snapshot, before what is durable by then.
    pub fn report_snapshot(&self, news: Input) {
        lock(&self.state).from_disk.push(news);
        self.filled.notify_one();
    }

    /// Asks the loop how the node is.
    pub fn inspect(&self) -> oneshot::Receiver<Inspection> {
        let (answer, receiver) = oneshot::channel();
        lock(&self.state).inspections.push(answer);
        self.filled.notify_one();
        receiver
    }

    /// From now on new requests are refused.
    pub fn stop(&self) {
        lock(&self.state).stopping = true;
    }

    /// The loop has ended: no call gets an outcome any more. Streams are told by their own end.
    pub fn dismiss(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        let of_call = |waiting: &Waiting| matches!(waiting.waiter, Waiter::Call(_));
        state.waiters.retain(|_, waiting| !of_call(waiting));
    }

    /// How many requests wait for their outcome.
    pub fn waiting(&self) -> usize {
        lock(&self.state).waiters.len()
    }

    /// Waits until there is something to take. One loop may wait.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes what waits, up to a bound. With `disk_only`, requests and messages stay.
    pub fn take(&self, disk_only: bool) -> Taken {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let mut inputs = std::mem::take(&mut state.from_disk);
        if !disk_only {
            let count = state.inputs.len().min(STEP_INPUTS_MAX);
            for input in state.inputs.drain(..count) {
                match &input {
                    Input::Received { message, .. } => {
                        state.peer_messages -= 1;
                        state.peer_bytes -= entries_bytes(message);
                    }
                    Input::Request { request, .. } => {
                        state.requests.count -= 1;
                        state.requests.bytes -= size_bytes(request);
                    }
                    Input::Ended { .. } => state.ended_runs -= 1,
                    _ => {}
                }
                inputs.push(input);
            }
        }
        let taken = Taken {
            inputs,
            inspections: std::mem::take(&mut state.inspections),
            more: !disk_only && !state.inputs.is_empty(),
            waiting: state.waiters.len(),
        };
        drop(guard);
        self.emptied.notify_waiters();
        taken
    }

    /// Hands out outcomes to those who still wait.
    pub fn answer(&self, outcomes: Vec<(Token, Outcome)>) {
        for (token, outcome) in outcomes {
            let waiting = lock(&self.state).forget(token);
            match waiting.map(|waiting| waiting.waiter) {
                // Who has gone meanwhile does not want it.
                Some(Waiter::Call(call)) => drop(call.send(outcome)),
                Some(Waiter::Stream(outcomes)) => outcomes.put(token, outcome),
                None => {}
            }
        }
    }
}

impl State {
    fn waiting(&self) -> Load {
        Load {
            count: self.waiters.len(),
            bytes: self.waiting_bytes,
        }
    }

    fn forget(&mut self, token: Token) -> Option<Waiting> {
        let waiting = self.waiters.remove(&token)?;
        self.waiting_bytes -= waiting.bytes;
        Some(waiting)
    }
}

/// Why a request was not admitted. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Too much waits already: back off.
    Overloaded,
    /// The node shuts down: ask another.
    Stopping,
}

fn size_bytes(request: &Request) -> usize {
    match request {
        Request::Write { operation, .. } => operation.size_bytes(),
        Request::Read { query, .. } => match query {
            Query::Get { key } => key.len(),
            Query::List { prefix, after, .. } => {
                prefix.len() + after.as_ref().map_or(0, |after| after.len())
            }
        },
        Request::ChangeMembers { target, .. } => target.text().len(),
        Request::Transfer { .. } | Request::TakeSnapshot | Request::Backup { .. } => 0,
    }
}

fn entries_bytes(message: &Message) -> usize {
    match message {
        Message::Append { entries, .. } => {
            let sizes = entries.iter().map(|entry| entry.command.size_bytes());
            sizes.sum()
        }
        Message::InstallSnapshot { data, .. } => data.len(),
        _ => 0,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process, so a poisoned lock is never seen outside tests.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Operation;
    use crate::engine::Consistency;
    use std::time::Duration;
    use tokio::time::timeout;

    fn set(value: &str) -> Request {
        Request::Write {
            request: None,
            operation: Operation::Set {
                key: "".into(),
                value: value.into(),
            },
        }
    }

    fn message() -> Message {
        Message::TimeoutNow {
            term: 1,
            last_index: 1,
            released: false,
        }
    }

    fn submit(desk: &Desk, value: &str) -> Result<Token, NotAdmitted> {
        desk.submit(set(value), Waiter::Stream(Arc::default()))
    }

    // So many requests and so many bytes are admitted; the next is refused at once. Room is given
    // back by an answer, and by giving up once the loop has taken the request: until then it takes
    // room, whether anybody waits for it or not.
    #[test]
    fn requests_are_bounded() {
        let desk = Desk::default();
        let tokens: Vec<_> = (0..REQUESTS_MAX)
            .map(|_| submit(&desk, "").unwrap())
            .collect();
        assert_eq!(submit(&desk, ""), Err(NotAdmitted::Overloaded));
        desk.abandon(tokens[1]);
        assert_eq!(submit(&desk, ""), Err(NotAdmitted::Overloaded));
        while desk.take(false).more {}
        let unknown = RequestError::OutcomeUnknown("lost");
        desk.answer(vec![(tokens[0], Err(unknown))]);
        assert!(submit(&desk, "").is_ok() && submit(&desk, "").is_ok());
        assert_eq!(submit(&desk, ""), Err(NotAdmitted::Overloaded));

        let desk = Desk::default();
        let large = "x".repeat(REQUEST_BYTES_MAX / 4);
        let tokens: Vec<_> = (0..4).map(|_| submit(&desk, &large).unwrap()).collect();
        assert_eq!(submit(&desk, "x"), Err(NotAdmitted::Overloaded));
        desk.abandon(tokens[0]);
        assert_eq!(submit(&desk, "x"), Err(NotAdmitted::Overloaded));
        desk.take(false);
        assert!(submit(&desk, "x").is_ok());
        desk.stop();
        assert_eq!(submit(&desk, ""), Err(NotAdmitted::Stopping));
    }

    // Reads that wait count with all the text that they hold.
    #[test]
    fn waiting_reads_are_bounded() {
        let third: Arc<str> = "x".repeat(REQUEST_BYTES_MAX / 3).into();
        let desk = Desk::default();
        let read = |query| {
            let consistency = Consistency::Quorum;
            let request = Request::Read { query, consistency };
            desk.submit(request, Waiter::Stream(Arc::default()))
        };
        let get = |key: &Arc<str>| Query::Get {
            key: Arc::clone(key),
        };
        let list = Query::List {
            prefix: Arc::clone(&third),
            after: Some(Arc::clone(&third)),
            limit: 1,
        };
        assert!(read(list).is_ok());
        assert!(read(get(&third)).is_ok());
        assert_eq!(read(get(&third)), Err(NotAdmitted::Overloaded));
    }

    // What one side gives up never overtakes the request itself, and only the disk is heard when
    // only the disk may be.
    #[test]
    fn the_order_is_kept() {
        let desk = Desk::default();
        let token = submit(&desk, "").unwrap();
        desk.abandon(token);
        desk.abandon(token);
        desk.report_disconnected(2);
        desk.report_durable(7);
        let taken = desk.take(true);
        assert!(matches!(taken.inputs[..], [Input::Durable { ticket: 7 }]));
        assert!(!taken.more);
        let taken = desk.take(false).inputs;
        let [
            Input::Request { .. },
            Input::Abandoned { .. },
            Input::Disconnected { peer: 2 },
        ] = taken[..]
        else {
            panic!("{taken:?}");
        };
    }

    // A peer that sends more than the loop takes waits at its connection; no message is lost and
    // none overtakes another.
    #[tokio::test]
    async fn peers_are_slowed_down() {
        let desk = Desk::default();
        for _ in 0..PEER_MESSAGES_MAX {
            desk.deliver(2, message()).await;
        }
        let mut next = std::pin::pin!(desk.deliver(3, message()));
        let early = timeout(Duration::from_millis(20), &mut next).await;
        assert!(early.is_err(), "there is no room");
        let taken = desk.take(false);
        assert_eq!(taken.inputs.len(), STEP_INPUTS_MAX);
        let later = timeout(Duration::from_secs(10), next).await;
        assert!(later.is_ok(), "there is room now");
        let taken = desk.take(false).inputs;
        assert!(matches!(taken[..], [Input::Received { from: 3, .. }]));
    }

    // So it does when its messages are long, however few they are; one is always taken.
    #[tokio::test]
    async fn long_messages_of_peers_are_bounded() {
        let operation = Operation::Set {
            key: "k".into(),
            value: "x".repeat(PEER_BYTES_MAX / 2).into(),
        };
        let command = crate::command::Command::Write(crate::command::Write {
            request: None,
            operation,
        });
        let command = Arc::new(command);
        let append = |entries: usize| Message::Append {
            term: 1,
            base_index: 0,
            base_term: 0,
            entries: (1..=entries as u64)
                .map(|index| crate::raft::Entry {
                    index,
                    term: 1,
                    command: Arc::clone(&command),
                })
                .collect(),
            commit_index: 0,
            lease_ms: 2_000,
            sequence: 1,
            incarnation: 0,
        };
        let desk = Desk::default();
        desk.deliver(2, append(3)).await;
        let mut next = std::pin::pin!(desk.deliver(3, append(1)));
        let early = timeout(Duration::from_millis(20), &mut next).await;
        assert!(early.is_err(), "there is no room");
        desk.take(false);
        let later = timeout(Duration::from_secs(10), next).await;
        assert!(later.is_ok(), "there is room now");
        desk.take(false);
        assert_eq!(lock(&desk.state).peer_bytes, 0);
    }

    // A stream that waits is woken by an outcome, and finds it.
    #[tokio::test]
    async fn an_outcome_wakes_its_stream() {
        let desk = Arc::new(Desk::default());
        let stream = Arc::new(StreamOutcomes::default());
        let waiter = Waiter::Stream(Arc::clone(&stream));
        let token = desk.submit(set(""), waiter).unwrap();
        let answering = {
            let desk = Arc::clone(&desk);
            async move {
                tokio::task::yield_now().await;
                desk.answer(vec![(token, Ok(Reply::LookAgain))]);
            }
        };
        let waiting = std::future::poll_fn(|context| {
            let outcomes = stream.take(context);
            match outcomes.is_empty() {
                true => std::task::Poll::Pending,
                false => std::task::Poll::Ready(outcomes),
            }
        });
        let both = async { tokio::join!(waiting, answering).0 };
        let outcomes = timeout(Duration::from_secs(10), both).await.unwrap();
        assert_eq!(outcomes, [(token, Ok(Reply::LookAgain))]);
    }
}
