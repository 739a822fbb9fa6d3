//! Messages on their way to one peer.

use crate::convert;
use crate::raft::{Message, NodeId, Term};
use raftkv::raft as wire;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use tokio_stream::Stream;

/// Most messages that wait for a peer; then the newest are dropped: Raft sends again.
const OUTBOX_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    id: NodeId,
    state: Mutex<State>,
    nudged: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    /// The highest term of any message so far.
    term: Term,
    /// The stream that takes messages out.
    current: u64,
    last: u64,
    /// Of streams that wait, each with its number.
    wakers: Vec<(u64, Waker)>,
}

impl Outbox {
    /// An empty one of the node `id`.
    pub(super) fn new(id: NodeId) -> Self {
        Outbox {
            id,
            state: Mutex::default(),
            nudged: Notify::new(),
        }
    }

    pub(super) fn push(&self, message: Message) {
        let mut state = self.lock();
        if message.term() > state.term {
            state.begin_term(message.term());
        }
        if state.messages.len() < OUTBOX_MAX {
            state.messages.push_back(message);
        }
        state.wake(|number, current| number == current);
    }

    /// A further stream. It takes nothing out before it has its turn.
    pub(super) fn stream(self: &Arc<Self>) -> OutboxStream {
        let mut state = self.lock();
        state.last += 1;
        OutboxStream {
            outbox: Arc::clone(self),
            number: state.last,
        }
    }

    /// From now on this stream takes messages out; those before it end.
    pub(super) fn turn_to(&self, stream: u64) {
        let mut state = self.lock();
        state.current = stream;
        state.wake(|_, _| true);
    }

    /// Throws away what waits; returns whether there was anything.
    pub(super) fn clear(&self) -> bool {
        let mut state = self.lock();
        let any = !state.messages.is_empty();
        state.messages.clear();
        any
    }

    /// Ends a wait in [`Outbox::nudged`], now or the next one.
    pub(super) fn nudge(&self) {
        self.nudged.notify_one();
    }

    pub(super) async fn nudged(&self) {
        self.nudged.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process, so a poisoned lock is never seen outside tests.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self, which: impl Fn(u64, u64) -> bool) {
        let current = self.current;
        let (woken, left) = std::mem::take(&mut self.wakers)
            .into_iter()
            .partition(|(number, _)| which(*number, current));
        self.wakers = left;
        let woken: Vec<(u64, Waker)> = woken;
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Appends of a term that is over would only keep waiting what comes behind them: they may be
    /// long, and nobody takes them in.
    fn begin_term(&mut self, term: Term) {
        self.term = term;
        self.messages.retain(|message| {
            !matches!(
                message,
                Message::Append { .. } | Message::InstallSnapshot { .. }
            )
        });
    }
}

/// Takes the messages out for the wire, from its turn to that of the next.
#[derive(Debug)]
pub(super) struct OutboxStream {
    outbox: Arc<Outbox>,
    number: u64,
}

impl OutboxStream {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Stream for OutboxStream {
    type Item = wire::Message;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = {
            let mut state = self.outbox.lock();
            let next = match self.number.cmp(&state.current) {
                Ordering::Less => return Poll::Ready(None),
                Ordering::Equal => state.messages.pop_front(),
                Ordering::Greater => None,
            };
            if next.is_none() {
                let number = self.number;
                state.wakers.retain(|(other, _)| *other != number);
                state.wakers.push((number, context.waker().clone()));
            }
            next
        };
        match next {
            Some(message) => Poll::Ready(Some(convert::to_wire(self.outbox.id, &message))),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A peer that takes nothing costs a bounded queue.
    #[test]
    fn a_full_outbox_drops() {
        let outbox = Outbox::new(1);
        for index in 0..2 * OUTBOX_MAX as u64 {
            outbox.push(Message::TimeoutNow {
                term: 1,
                last_index: index,
                released: false,
            });
        }
        assert_eq!(outbox.lock().messages.len(), OUTBOX_MAX);
        assert!(outbox.clear() && !outbox.clear());
    }

    fn append(term: Term) -> Message {
        Message::Append {
            term,
            base_index: 0,
            base_term: 0,
            entries: Vec::new(),
            commit_index: 0,
            lease_ms: 2_000,
            sequence: 1,
            incarnation: 0,
        }
    }

    // What a leader still had to send does not hold up the vote of the next term; other messages
    // stay.
    #[test]
    fn appends_of_a_term_that_is_over_are_dropped() {
        let outbox = Outbox::new(1);
        let vote = Message::Vote {
            term: 4,
            last_index: 0,
            last_term: 0,
            pre: true,
            released: None,
            incarnation: 0,
        };
        let word = Message::TimeoutNow {
            term: 3,
            last_index: 1,
            released: true,
        };
        for message in [append(3), append(3), word.clone(), vote.clone(), append(4)] {
            outbox.push(message);
        }
        assert_eq!(outbox.lock().messages, [word, vote, append(4)]);
    }

    // A stream that is replaced goes on until the next has its turn; then it ends, and nothing is lost
    // or sent twice.
    #[tokio::test]
    async fn streams_take_turns() {
        use tokio_stream::StreamExt;
        let outbox = Arc::new(Outbox::new(1));
        let mut first = outbox.stream();
        outbox.turn_to(first.number());
        outbox.push(append(1));
        assert!(first.next().await.is_some());
        let mut second = outbox.stream();
        let mut waiting = tokio::spawn(async move {
            let next = second.next().await;
            (next.is_some(), second)
        });
        tokio::task::yield_now().await;
        outbox.push(append(1));
        assert!(first.next().await.is_some(), "it still has its turn");
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        outbox.turn_to(2);
        assert!(first.next().await.is_none());
        outbox.push(append(1));
        assert!((&mut waiting).await.unwrap().0);
    }
}
