//! A workload whose history can be checked: clients that read and write a few keys, everything
//! they asked and were answered recorded with its times.
//!
//! Half of the clients only read, and give up a read soon, so that a key that can't be read for a
//! moment does not hide that the others can. The rest mostly write, and are patient.
//!
//! Every value is written once only, so that a read names the write that it saw. An operation is
//! recorded when it is called, as one of unknown outcome, and completed when it is answered: the
//! history is whole at any moment, also when it is cut off by Ctrl-C.

mod availability;
mod client;
mod history;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use checker::{Budget, History, Verdict};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use availability::{Availability, Kind, gaps};
pub use history::Recorder;

use crate::client::{Client, Member, Read};

/// What is asked, and how fast.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many clients, each with one operation at a time.
    pub clients: u64,
    /// The keys that they share.
    pub keys: Vec<String>,
    /// Decides what each of them asks.
    pub seed: u64,
    /// The longest pause of a client between two operations.
    pub pause_max: Duration,
    /// How long a writing client tries an operation.
    pub timeout: Duration,
    /// How long a reading client tries one.
    pub read_timeout: Duration,
}

impl Settings {
    fn reads_only(&self, client: u64) -> bool {
        client.is_multiple_of(2)
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Workload {
    settings: Settings,
    members: Vec<Member>,
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Workload {
    /// Starts the clients.
    #[must_use]
    pub fn start(members: Vec<Member>, settings: Settings) -> Self {
        let recorder = Recorder::start();
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 1..=settings.clients {
            let timeout = match settings.reads_only(number) {
                true => settings.read_timeout,
                false => settings.timeout,
            };
            let client = Client::new(&members).with_timeout(timeout);
            let (recorder, stop) = (recorder.clone(), Arc::clone(&stop));
            clients.spawn(client::work(
                client,
                number,
                settings.clone(),
                recorder,
                stop,
            ));
        }
        Workload {
            settings,
            members,
            recorder,
            stop,
            clients,
        }
    }

    /// When it began: what the times of its history count from.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.recorder.started()
    }

    /// Lets every client finish its operation, then reads every key once more: a write that was
    /// lost is missed by somebody. Gives the history.
    pub async fn finish(mut self) -> History {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            // A client neither panics nor is aborted, except by a bug that must be seen.
            client.expect("a client of the workload ends by itself");
        }
        let mut reader = Client::new(&self.members).with_timeout(self.settings.timeout);
        for key in &self.settings.keys {
            let operation = self
                .recorder
                .call(self.settings.clients + 1, key, checker::Kind::Get);
            let reply = reader.get(key, Read::Lease).await;
            let outcome = client::read_outcome(reply);
            self.recorder.returned(operation, outcome);
        }
        self.recorder.history()
    }

    /// The history so far. Operations without an answer have an unknown outcome.
    #[must_use]
    pub fn cut_off(self) -> History {
        self.recorder.history()
    }
}

/// Checks a history for at most `limit`.
pub async fn verdict(history: History, limit: Duration) -> (History, Verdict) {
    let checking = tokio::task::spawn_blocking(move || {
        let deadline = std::time::Instant::now() + limit;
        let is_over = || std::time::Instant::now() >= deadline;
        let verdict = checker::check(&history, &Budget::default().stop_when(&is_over));
        (history, verdict)
    });
    // The checker panics only by a bug, which must be seen.
    checking.await.expect("the checker ends by itself")
}
