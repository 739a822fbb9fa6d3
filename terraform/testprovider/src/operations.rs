//! Google's operations: each change takes its time, goes on whoever has asked for it, and whoever waits
//! for its end asks again and again.
//!
//! An operation is a task of its own. Terraform may be interrupted or killed meanwhile: what it has
//! asked for happens all the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How an operation ended.
pub type Outcome = Result<(), String>;

/// One change that is going on, or is done.
#[derive(Debug, Clone)]
pub struct Operation {
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Operation {
    /// Begins one that lasts so long, and then has this effect. The lasting comes first: until its end
    /// nothing of it is seen.
    #[must_use]
    pub fn begin(
        lasts: Duration,
        effect: impl Future<Output = Outcome> + Send + 'static,
    ) -> Operation {
        let (done, outcome) = watch::channel(None);
        tokio::spawn(async move {
            if !lasts.is_zero() {
                tokio::time::sleep(lasts).await;
            }
            let ended = effect.await;
            let _ = done.send(Some(ended)); // nobody may be waiting any more
        });
        Operation { outcome }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.borrow().clone()
    }

    /// Waits for its end.
    pub async fn end(&self) -> Outcome {
        let mut outcome = self.outcome.clone();
        let ended = match outcome.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone(),
            Err(_) => None,
        };
        ended.unwrap_or_else(|| Err("the operation's task ended before its time".into()))
    }
}

/// Operations by their names, for those who ask by name.
#[derive(Debug, Clone, Default)]
pub struct Register {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    by_name: HashMap<String, Entry>,
}

/// What is known of an operation.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The operation.
    pub operation: Operation,
    /// What it does: `delete`.
    pub action: String,
    /// The id of what it is done to.
    pub target: String,
}

/// A test makes some tens of them; more is a test that goes round in circles.
const ENTRIES_MAX: usize = 10_000;

impl Register {
    /// Remembers an operation; its name.
    ///
    /// # Panics
    /// When there are more than any test has a use for.
    #[must_use]
    pub fn add(&self, entry: Entry) -> String {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            entries.by_name.len() < ENTRIES_MAX,
            "more than {ENTRIES_MAX} operations"
        );
        entries.next += 1;
        let name = format!("operation-{}", entries.next);
        entries.by_name.insert(name.clone(), entry);
        name
    }

    /// An operation by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.by_name.get(name).cloned()
    }
}
