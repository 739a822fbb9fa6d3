//! Large replies take turns: one is made at a time, and whoever else has something to do has it done before the next.
//!
//! To make one takes a millisecond, of the thread that also serves everybody else: what many clients ask for at once,
//! each for its own, is otherwise done in one go, while those with a small question wait.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;

/// Whose turn it is, of all streams of a node.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Turns(Arc::new(Semaphore::new(1)))
    }
}

/// One stream's place among those that wait, if it does.
pub(super) struct Turn {
    turns: Turns,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    is_mine: bool,
}

impl Turns {
    pub(super) fn begin(&self) -> Turn {
        Turn {
            turns: self.clone(),
            waiting: None,
            is_mine: false,
        }
    }

    /// In the order of those who ask. The turn passes on once all others that can go on were let.
    async fn take(self) {
        let Ok(turn) = self.0.acquire_owned().await else {
            return; // It is never closed.
        };
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            drop(turn);
        });
    }
}

impl Turn {
    /// Ready once it is this one's turn, until [`Turn::end`].
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_mine {
            let turns = &self.turns;
            let waiting = self
                .waiting
                .get_or_insert_with(|| Box::pin(turns.clone().take()));
            std::task::ready!(waiting.as_mut().poll(context));
            self.waiting = None;
            self.is_mine = true;
        }
        Poll::Ready(())
    }

    /// What it was for is done.
    pub(super) fn end(&mut self) {
        self.is_mine = false;
    }
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Turn")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    // Who was there first is first; between two of them everybody else who can go on does.
    #[tokio::test]
    async fn others_come_between_two_turns() {
        let turns = Turns::default();
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..3 {
            let (mut turn, said) = (turns.begin(), Arc::clone(&said));
            tasks.push(tokio::spawn(async move {
                std::future::poll_fn(|context| turn.poll(context)).await;
                said.lock().unwrap().push(number);
            }));
        }
        let other = Arc::clone(&said);
        tasks.push(tokio::spawn(async move {
            for _ in 0..2 {
                other.lock().unwrap().push(9);
                tokio::task::yield_now().await;
            }
        }));
        for task in tasks {
            task.await.unwrap();
        }
        let said = said.lock().unwrap();
        let turns: Vec<_> = said.iter().filter(|number| **number != 9).collect();
        assert_eq!(turns, [&0, &1, &2]);
        assert_ne!(said[1], 1, "{said:?}");
    }

    // Whoever goes away while it waits is waited for by nobody.
    #[tokio::test]
    async fn who_is_gone_has_no_turn() {
        let turns = Turns::default();
        let mut first = turns.begin();
        std::future::poll_fn(|context| first.poll(context)).await;
        let mut gone = turns.begin();
        let is_waiting =
            std::future::poll_fn(|context| Poll::Ready(gone.poll(context).is_pending()));
        assert!(is_waiting.await);
        drop(gone);
        let mut last = turns.begin();
        std::future::poll_fn(|context| last.poll(context)).await;
    }
}
