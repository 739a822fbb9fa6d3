//! Clients that go on while something is done to their cluster, and what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use checker::{Budget, History, Kind, Operation, Outcome, check};
use raftctl::client::{Client, Member, Read};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Keys that the clients share, so that they meet.
const KEYS: u64 = 5;

/// Clients at work.
pub struct Load {
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    clients: JoinSet<Vec<Operation>>,
}

impl Load {
    /// Starts clients, each of which does one operation after the other.
    pub fn start(members: &[Member], clients: u64, timeout: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let begin = Instant::now();
        let mut running = JoinSet::new();
        for number in 1..=clients {
            let client = Client::new(members).with_timeout(timeout);
            let work = work(client, number, begin, Arc::clone(&stop));
            running.spawn_on(work, runtime.handle());
        }
        Load {
            runtime,
            stop,
            clients: running,
        }
    }

    /// Ends the clients; what they saw.
    pub fn stop(self) -> Vec<Operation> {
        self.stop.store(true, Ordering::Relaxed);
        let histories = self.runtime.block_on(self.clients.join_all());
        histories.into_iter().flatten().collect()
    }
}

async fn work(
    mut client: Client,
    number: u64,
    begin: Instant,
    stop: Arc<AtomicBool>,
) -> Vec<Operation> {
    let now_us = || u64::try_from(begin.elapsed().as_micros()).unwrap();
    let mut seen = Vec::new();
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("k{}", (number + count) % KEYS);
        let call_us = now_us();
        let (kind, outcome) = if count % 2 == 0 {
            let value = format!("{number}-{count}");
            let outcome = match client.set(&key, &value).await {
                Ok(_) => Outcome::Written,
                // Whatever went wrong, the cluster may have done it: that assumes the least.
                Err(_) => Outcome::Unknown,
            };
            (Kind::Set { value }, outcome)
        } else {
            let outcome = match client.get(&key, Read::Lease).await {
                Ok(reply) => Outcome::Read(reply.found.then_some(reply.value)),
                Err(_) => Outcome::Unknown,
            };
            (Kind::Get, outcome)
        };
        seen.push(Operation {
            client: number,
            call_us,
            return_us: outcome.is_answer().then(now_us),
            key,
            kind,
            outcome,
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    seen
}

/// How many operations got no answer.
pub fn unanswered(operations: &[Operation]) -> usize {
    operations
        .iter()
        .filter(|operation| !operation.outcome.is_answer())
        .count()
}

/// Fails unless the operations can be put in one order that explains them all.
#[track_caller]
pub fn assert_linearizable(operations: Vec<Operation>) {
    let mut history = History::new();
    for operation in operations {
        history.push(operation).unwrap();
    }
    let verdict = check(&history, &Budget::default());
    assert!(verdict.is_linearizable(), "{verdict}");
}
