//! Clients that go on whatever happens: each sends an operation again as long as a careful client does, and
//! then the next one. So what fails has failed to its user.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::etcd::Etcd;
use super::gaps::Gaps;
use super::tally::Kind;
use super::workload::{Ask, Mix, Workload};
use crate::client::{Client, Member, Read};
use crate::error::Result;

/// How long an operation is sent again.
const PATIENCE: Duration = Duration::from_secs(30);

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
    clients: JoinSet<Caller>,
}

impl Steady {
    /// Lets them begin.
    ///
    /// # Errors
    /// An address of the peer is none.
    pub fn start(&self, whom: &Whom) -> Result<Running> {
        let gaps = Arc::new(Gaps::new(Instant::now()));
        let stop = Arc::new(AtomicBool::new(false));
        let connections = (0..self.connections).map(|_| whom.connect());
        let mut connections: Vec<Caller> = connections.collect::<Result<_>>()?;
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let caller = connections[number % self.connections].beside(number);
            let mix = Mix::new(&self.part(number), (self.seed << 32) ^ number as u64);
            let (gaps, stop) = (Arc::clone(&gaps), Arc::clone(&stop));
            clients.spawn(work(caller, mix, self.read, gaps, stop));
        }
        Ok(Running {
            gaps,
            stop,
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
    fn connect(&self) -> Result<Caller> {
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
}

impl Steady {
    /// What one of the clients asks: it reads or it writes, and those who read have keys of their own. So a write
    /// that has to wait, as all do after a leader was lost, holds up no read.
    fn part(&self, number: usize) -> Workload {
        let all = &self.workload;
        let readers = (self.clients as f64 * all.read_share).round() as usize;
        let reads = number < readers.clamp(1, self.clients.saturating_sub(1).max(1));
        let read_keys = (all.keys / 2).max(1);
        let (first, keys, read_share) = match reads {
            true => (0, read_keys, 1.0),
            false => (read_keys, (all.keys - read_keys).max(1), 0.0),
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
    /// Waits for the last answers. Returns the nodes of the cluster, as the clients know them by now: those
    /// that were there at the beginning may have left.
    pub async fn stop(mut self) -> Vec<Member> {
        self.stop.store(true, Ordering::SeqCst);
        let mut members = Vec::new();
        while let Some(caller) = self.clients.join_next().await {
            // A client neither panics nor is aborted, except by a bug that must be seen.
            if let Caller::Own(client) = caller.expect("a client ends by itself") {
                members = client.members();
            }
        }
        members
    }
}

async fn work(
    mut caller: Caller,
    mut mix: Mix,
    read: Read,
    gaps: Arc<Gaps>,
    stop: Arc<AtomicBool>,
) -> Caller {
    while !stop.load(Ordering::SeqCst) {
        let ask = mix.next_ask();
        let kind = match ask {
            Ask::Read(_) => Kind::Read,
            Ask::Write(..) | Ask::Remove(_) => Kind::Write,
        };
        match caller.ask(ask, read).await {
            Ok(()) => gaps.answered(kind, Instant::now()),
            Err(why) => gaps.failed(why),
        }
    }
    caller
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
        assert_eq!((writers[0].first, writers[0].keys), (50, 50));
        let (readers, writers) = parts(2, 0.99, 3);
        assert_eq!((readers.len(), writers.len()), (1, 1));
        assert_eq!(writers[0].first + writers[0].keys, 3);
    }
}
