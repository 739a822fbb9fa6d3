//! Clients that go on whatever happens: each sends an operation again as long as a careful client does, and
//! then the next one. So what fails has failed to its user.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::etcd::Etcd;
use super::gaps::Gaps;
use super::ledger::{Checked, Ledger};
use super::workload::{Ask, Mix, Workload};
use crate::LoadError;
use raftkv_client::{Client, Member, Read};

/// How long an operation is sent again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a client reads its keys again, all of them together.
const CHECK_MAX: Duration = Duration::from_secs(60);

/// What the clients are like.
#[derive(Debug, Clone)]
pub struct Steady {
    /// How many connections they share.
    pub connections: usize,
    /// How many there are: each has one operation on its way.
    pub clients: usize,
    /// How reads are answered.
    pub read: Read,
    /// What they ask.
    pub workload: Workload,
    /// The same seed gives the same operations.
    pub seed: u64,
}

/// The clients at work.
pub struct Running {
    /// What they got.
    pub gaps: Arc<Gaps>,
    stop: Arc<AtomicBool>,
    is_checked: Arc<AtomicBool>,
    clients: JoinSet<(Caller, Checked)>,
}

impl Steady {
    /// Lets them begin.
    ///
    /// # Errors
    /// An address of the peer is none.
    pub fn start(&self, whom: &Whom) -> Result<Running, LoadError> {
        let gaps = Arc::new(Gaps::new(Instant::now()));
        let [stop, is_checked] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let connections = (0..self.connections).map(|_| whom.connect());
        let mut connections: Vec<Caller> = connections.collect::<Result<_, LoadError>>()?;
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let caller = connections[number % self.connections].beside(number);
            let mix = Mix::new(&self.part(number), (self.seed << 32) ^ number as u64);
            let mut client = Steadily {
                caller,
                mix,
                read: self.read,
                ledger: Ledger::default(),
            };
            let (gaps, stop) = (Arc::clone(&gaps), Arc::clone(&stop));
            let is_checked = Arc::clone(&is_checked);
            clients.spawn(async move {
                client.work(&gaps, &stop).await;
                let checked = match is_checked.load(Ordering::SeqCst) {
                    true => client.check().await,
                    false => Checked::default(),
                };
                (client.caller, checked)
            });
        }
        Ok(Running {
            gaps,
            stop,
            is_checked,
            clients,
        })
    }
}

/// Who is asked.
#[derive(Debug, Clone)]
pub enum Whom {
    /// The cluster.
    Own(Vec<Member>),
    /// Another store.
    Etcd(Etcd),
}

impl Whom {
    fn connect(&self) -> Result<Caller, LoadError> {
        Ok(match self {
            Whom::Own(members) => {
                Caller::Own(Box::new(Client::new(members).with_timeout(PATIENCE)))
            }
            Whom::Etcd(etcd) => Caller::Etcd(etcd.reconnected()?),
        })
    }
}

enum Caller {
    Own(Box<Client>),
    Etcd(Etcd),
}

impl Caller {
    fn beside(&mut self, number: usize) -> Caller {
        match self {
            Caller::Own(client) => Caller::Own(Box::new(client.beside())),
            Caller::Etcd(etcd) => Caller::Etcd(etcd.beside(number)),
        }
    }

    async fn ask(&mut self, ask: Ask, read: Read) -> std::result::Result<(), &'static str> {
        match self {
            Caller::Own(client) => match ask {
                Ask::Read(key) => client.get(&key, read).await.map(drop),
                Ask::Write(key, value) => client.set(&key, &value).await.map(drop),
                Ask::Remove(key) => client.delete(&key).await.map(drop),
            }
            .map_err(|error| error.kind()),
            Caller::Etcd(etcd) => etcd
                .ask(ask, PATIENCE)
                .await
                .map_err(|status| status.code().description()),
        }
    }

    /// What stands behind a key; none where it does not exist.
    async fn value(&mut self, key: &str) -> std::result::Result<Option<String>, &'static str> {
        match self {
            Caller::Own(client) => match client.get(key, Read::Quorum).await {
                Ok(reply) => Ok(reply.found.then_some(reply.value)),
                Err(error) => Err(error.kind()),
            },
            Caller::Etcd(etcd) => {
                let value = etcd.value(key, PATIENCE).await;
                value.map_err(|status| status.code().description())
            }
        }
    }
}

impl Steady {
    /// What one of the clients asks: it reads or it writes, and each of those who write has keys of its own, so that
    /// it knows what must be there. Nobody reads them meanwhile: a write that has to wait, as all do after a leader was
    /// lost, holds up no read.
    fn part(&self, number: usize) -> Workload {
        let all = &self.workload;
        let readers = (self.clients as f64 * all.read_share).round() as usize;
        let readers = readers.clamp(1, self.clients.saturating_sub(1).max(1));
        let writers = self.clients.saturating_sub(readers).max(1) as u64;
        let read_keys = all
            .keys
            .saturating_sub(writers)
            .clamp(1, (all.keys / 2).max(1));
        let (first, keys, read_share) = match number < readers {
            true => (0, read_keys, 1.0),
            false => {
                let (written, own) = (all.keys - read_keys, (number - readers) as u64);
                let [from, until] = [own, own + 1].map(|part| read_keys + written * part / writers);
                (from, (until - from).max(1), 0.0)
            }
        };
        Workload {
            first,
            keys,
            read_share,
            ..all.clone()
        }
    }
}

impl Running {
    /// Waits for the last answers, and with `is_checked` until every client has read again what it wrote. Returns what
    /// they found, and the nodes of the cluster, as the clients know them by now: those that were there at the
    /// beginning may have left.
    pub async fn stop(mut self, is_checked: bool) -> (Vec<Member>, Checked) {
        self.is_checked.store(is_checked, Ordering::SeqCst);
        self.stop.store(true, Ordering::SeqCst);
        let (mut members, mut checked) = (Vec::new(), Checked::default());
        while let Some(ended) = self.clients.join_next().await {
            // A client neither panics nor is aborted, except by a bug that must be seen.
            let (caller, found) = ended.expect("a client ends by itself");
            checked.add(found);
            if let Caller::Own(client) = caller {
                members = client.members();
            }
        }
        (members, checked)
    }
}

/// One of the clients.
struct Steadily {
    caller: Caller,
    mix: Mix,
    read: Read,
    ledger: Ledger,
}

impl Steadily {
    async fn work(&mut self, gaps: &Gaps, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let ask = self.mix.next_ask();
            let kind = ask.kind();
            let key = match &ask {
                Ask::Write(key, _) => Some(key.clone()),
                Ask::Read(_) | Ask::Remove(_) => None,
            };
            let answer = self.caller.ask(ask, self.read).await;
            match (&answer, key) {
                (Ok(()), Some(key)) => self.ledger.acknowledged(key, self.mix.written()),
                (Err(_), Some(key)) => self.ledger.failed(key, self.mix.written()),
                (_, None) => {}
            }
            match answer {
                Ok(()) => gaps.answered(kind, Instant::now()),
                Err(why) => gaps.failed(why),
            }
        }
    }

    /// Reads its keys again, with a read that trusts no clock.
    async fn check(&mut self) -> Checked {
        let mut checked = Checked::default();
        let end = Instant::now() + CHECK_MAX;
        for key in self.ledger.keys() {
            let found = match Instant::now() < end {
                true => self.caller.value(key).await,
                false => Err("no time left"),
            };
            let Ok(found) = found else {
                checked.unread += 1;
                continue;
            };
            checked.keys += 1;
            let value = |number| self.mix.value(number);
            if !self.ledger.may_be(key, found.as_deref(), value) {
                checked.lost.push(key.clone());
            }
        }
        checked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // As many clients read as their share says, at least one and not all; nobody reads what another one writes.
    #[test]
    fn readers_and_writers_are_apart() {
        let parts = |clients: usize, read_share: f64, keys: u64| {
            let workload = Workload {
                read_share,
                keys,
                first: 0,
                value_bytes: 8,
                key_prefix: "bench/".into(),
            };
            let steady = Steady {
                connections: 1,
                clients,
                read: Read::Lease,
                workload,
                seed: 1,
            };
            let parts = (0..clients).map(|number| steady.part(number));
            parts.partition::<Vec<_>, _>(|part| part.read_share == 1.0)
        };
        let (readers, writers) = parts(64, 0.25, 100);
        assert_eq!((readers.len(), writers.len()), (16, 48));
        assert_eq!((readers[0].first, readers[0].keys), (0, 50));
        let own = writers
            .iter()
            .map(|part| part.first..part.first + part.keys);
        assert!(own.flatten().eq(50..100), "each of them once");
        let (readers, writers) = parts(2, 0.99, 3);
        assert_eq!((readers.len(), writers.len()), (1, 1));
        assert_eq!(writers[0].first + writers[0].keys, 3);
    }
}
