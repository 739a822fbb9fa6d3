//! One client of the workload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use checker::{Kind, Outcome};
use raftkv::kv::GetReply;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Recorder, Settings};
use crate::client::{Client, ClientError, Read};

/// Works until it is told to stop, or the history is full.
pub(super) async fn work(
    mut client: Client,
    number: u64,
    settings: Settings,
    recorder: Recorder,
    stop: Arc<AtomicBool>,
) {
    let mut asker = Asker::new(number, &settings);
    while !stop.load(Ordering::SeqCst) && !recorder.is_full() {
        let (key, kind) = asker.next_operation();
        if asker.begins_anywhere() {
            client.forget_leader();
        }
        let called = recorder.call(number, &key, kind.clone());
        let outcome = send(&mut client, &key, &kind).await;
        asker.learn(key, &kind, &outcome);
        recorder.returned(called, outcome);
        tokio::time::sleep(asker.pause()).await;
    }
}

/// What a client asks: a seeded mix, with values that nobody else writes.
struct Asker {
    number: u64,
    reads_only: bool,
    keys: Vec<String>,
    pause_max: Duration,
    random: SmallRng,
    written: u64,
    /// What it last saw in each key: what a compare-and-set expects.
    seen: BTreeMap<String, Option<String>>,
}

impl Asker {
    fn new(number: u64, settings: &Settings) -> Self {
        Asker {
            number,
            reads_only: settings.reads_only(number),
            keys: settings.keys.clone(),
            pause_max: settings.pause_max,
            random: SmallRng::seed_from_u64(settings.seed ^ (number << 32)),
            written: 0,
            seen: BTreeMap::new(),
        }
    }

    fn next_operation(&mut self) -> (String, Kind) {
        let key = self.keys[self.random.random_range(0..self.keys.len())].clone();
        let kind = match self.random.random_range(0..100) {
            _ if self.reads_only => Kind::Get,
            0..20 => Kind::Get,
            20..65 => Kind::Set {
                value: self.next_value(),
            },
            65..90 => Kind::CompareAndSet {
                expected: self.seen.get(&key).cloned().flatten(),
                value: self.next_value(),
            },
            _ => Kind::Delete,
        };
        (key, kind)
    }

    /// Half of the operations go to a node in turn, not to the believed leader: clients that all
    /// followed the leaders would hardly ever ask one that was deposed and has not noticed.
    fn begins_anywhere(&mut self) -> bool {
        self.random.random_bool(0.5)
    }

    fn next_value(&mut self) -> String {
        self.written += 1;
        format!("{}.{}", self.number, self.written)
    }

    fn learn(&mut self, key: String, kind: &Kind, outcome: &Outcome) {
        let value = match (kind, outcome) {
            (_, Outcome::Read(value)) => value.clone(),
            (Kind::Set { value }, Outcome::Written)
            | (Kind::CompareAndSet { value, .. }, Outcome::Swapped(true)) => Some(value.clone()),
            (Kind::Delete, Outcome::Existed(_)) => None,
            _ => return,
        };
        self.seen.insert(key, value);
    }

    fn pause(&mut self) -> Duration {
        self.random.random_range(Duration::ZERO..=self.pause_max)
    }
}

/// Sends an operation, again and again where need be, and tells what the client learnt.
async fn send(client: &mut Client, key: &str, kind: &Kind) -> Outcome {
    match kind {
        Kind::Get => read_outcome(client.get(key, Read::Lease).await),
        Kind::Set { value } => {
            let reply = client.set(key, value).await;
            reply.map_or_else(|error| failure(&error), |_| Outcome::Written)
        }
        Kind::Delete => {
            let reply = client.delete(key).await;
            reply.map_or_else(
                |error| failure(&error),
                |reply| Outcome::Existed(reply.existed),
            )
        }
        Kind::CompareAndSet { expected, value } => {
            let reply = client
                .compare_and_set(key, expected.as_deref(), value)
                .await;
            reply.map_or_else(
                |error| failure(&error),
                |reply| Outcome::Swapped(reply.swapped),
            )
        }
    }
}

/// What a read tells.
pub(super) fn read_outcome(reply: Result<GetReply, ClientError>) -> Outcome {
    match reply {
        Ok(reply) => Outcome::Read(reply.found.then_some(reply.value)),
        Err(error) => failure(&error),
    }
}

/// The client is taken at its word: where it says that nothing was done, the checker holds it to
/// that.
fn failure(error: &ClientError) -> Outcome {
    match error {
        ClientError::OutcomeUnknown { .. } => Outcome::Unknown,
        ClientError::NoLeader { .. }
        | ClientError::NobodyRuns { .. }
        | ClientError::NodeSilent { .. }
        | ClientError::Invalid(_)
        | ClientError::Denied { .. } => Outcome::NotApplied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn settings(seed: u64) -> Settings {
        Settings {
            clients: 2,
            keys: vec!["a".into(), "b".into()],
            seed,
            pause_max: Duration::from_millis(5),
            timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
        }
    }

    /// Every second client reads and nothing else.
    #[test]
    fn half_of_the_clients_only_read() {
        let mut reader = Asker::new(2, &settings(1));
        assert!((0..200).all(|_| reader.next_operation().1 == Kind::Get));
        let mut writer = Asker::new(1, &settings(1));
        let reads = (0..200)
            .filter(|_| writer.next_operation().1 == Kind::Get)
            .count();
        assert!((10..100).contains(&reads), "{reads}");
    }

    /// Every value is written once in a run, by whomever; and a run can be repeated.
    #[test]
    fn values_are_unique_and_runs_repeatable() {
        let values = |number, seed| -> Vec<String> {
            let mut asker = Asker::new(number, &settings(seed));
            let operations = (0..500).map(|_| asker.next_operation().1);
            operations
                .filter_map(|kind| match kind {
                    Kind::Set { value } | Kind::CompareAndSet { value, .. } => Some(value),
                    Kind::Get | Kind::Delete => None,
                })
                .collect()
        };
        let all: Vec<String> = [values(1, 7), values(3, 7)].concat();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.len() > 500);
        assert_eq!(values(1, 7), values(1, 7));
        assert_ne!(values(1, 7), values(1, 8));
    }

    /// A compare-and-set expects what its client last saw, so that it has a chance.
    #[test]
    fn a_compare_and_set_expects_what_was_seen() {
        let mut asker = Asker::new(1, &settings(1));
        asker.learn("a".into(), &Kind::Get, &Outcome::Read(Some("x".into())));
        asker.learn("b".into(), &Kind::Delete, &Outcome::Existed(true));
        asker.learn("a".into(), &Kind::Get, &Outcome::Unknown);
        let expected = std::iter::from_fn(|| Some(asker.next_operation()));
        let expected = expected.filter_map(|(key, kind)| match kind {
            Kind::CompareAndSet { expected, .. } => Some((key, expected)),
            _ => None,
        });
        for (key, expected) in expected.take(20) {
            assert_eq!(expected.as_deref(), (key == "a").then_some("x"), "{key}");
        }
    }
}
