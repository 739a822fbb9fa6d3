//! The history as it grows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use checker::{History, Kind, Operation, Outcome};
use tokio::time::Instant;

/// More operations than this are not recorded, and the clients stop: what a checker can take in
/// reasonable time, and some 100 MB.
pub const OPERATIONS_MAX: usize = 500_000;

/// Records operations of all clients, on one clock.
#[derive(Debug, Clone)]
pub struct Recorder {
    operations: Arc<Mutex<Vec<Operation>>>,
    started: Instant,
}

/// An operation that waits for its answer.
#[derive(Debug)]
pub struct Called(usize);

impl Recorder {
    /// An empty history whose times count from now.
    #[must_use]
    pub fn start() -> Self {
        Recorder {
            operations: Arc::default(),
            started: Instant::now(),
        }
    }

    /// What the times count from.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether the history is as long as it may get.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lock().len() >= OPERATIONS_MAX
    }

    /// An operation is sent now.
    pub fn call(&self, client: u64, key: &str, kind: Kind) -> Called {
        let mut operations = self.lock();
        operations.push(Operation {
            client,
            // Under the lock, so that calls are recorded in the order of their times.
            call_us: self.now_us(),
            return_us: None,
            key: key.to_owned(),
            kind,
            outcome: Outcome::Unknown,
        });
        Called(operations.len() - 1)
    }

    /// It was answered, or given up.
    pub fn returned(&self, called: Called, outcome: Outcome) {
        let now_us = self.now_us();
        let mut operations = self.lock();
        let operation = &mut operations[called.0];
        operation.return_us = outcome.is_answer().then_some(now_us);
        operation.outcome = outcome;
    }

    /// All operations so far.
    #[must_use]
    pub fn history(&self) -> History {
        let mut history = History::new();
        for operation in self.lock().iter() {
            // Times and outcomes are only made above, where they belong together.
            history
                .push(operation.clone())
                .expect("a recorded operation makes sense");
        }
        history
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        // Nothing panics while the lock is held, but for bugs that end the run anyway.
        self.operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history that is cut off in the middle still says that a write may have happened.
    #[test]
    fn an_operation_without_an_answer_is_unknown() {
        let recorder = Recorder::start();
        let write = Kind::Set { value: "v".into() };
        let open = recorder.call(1, "k", write.clone());
        let answered = recorder.call(2, "k", Kind::Get);
        recorder.returned(answered, Outcome::Read(None));
        let refused = recorder.call(3, "k", write);
        recorder.returned(refused, Outcome::NotApplied);
        let outcomes = |recorder: &Recorder| -> Vec<Outcome> {
            let history = recorder.history();
            history
                .operations()
                .iter()
                .map(|op| op.outcome.clone())
                .collect()
        };
        let expected = [Outcome::Unknown, Outcome::Read(None), Outcome::NotApplied];
        assert_eq!(outcomes(&recorder), expected);
        recorder.returned(open, Outcome::Written);
        assert_eq!(outcomes(&recorder)[0], Outcome::Written);
        let history = recorder.history();
        let write = &history.operations()[0];
        assert!(write.return_us.unwrap() >= write.call_us);
    }
}
