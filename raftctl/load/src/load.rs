//! Brings the load to the cluster: every connection finds the node to ask, drives it, and finds
//! the next one when it no longer serves.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::drive::{self, End};
use super::etcd::Etcd;
use super::pace::Pace;
use super::rival;
use super::tally::Tally;
use super::until::Until;
use super::worker::Worker;
use super::workload::Source;
use crate::LoadError;
use raftkv_client::{Client, ClientError, Member, Read, channel};

/// The pause before a connection looks for the leader again.
const PAUSE: Duration = Duration::from_millis(5);

/// How long answers are waited for after the last question.
pub const DRAIN: Duration = Duration::from_secs(5);

/// What each share of the load asks: by its number, and how many there are.
pub type Sources<'a> = dyn Fn(u64, u64) -> Source + Sync + 'a;

/// How the load is brought.
#[derive(Debug, Clone)]
pub struct Load {
    /// Who is asked.
    pub target: Target,
    /// How many connections.
    pub connections: usize,
    /// Operations on their way at any time, all connections together.
    pub in_flight: usize,
    /// Over unary calls instead of the streaming API.
    pub unary: bool,
    /// How reads are answered.
    pub read: Read,
    /// Nothing but stale reads: every node can answer, so the connections spread over all.
    pub any_node: bool,
    /// Latencies are also kept by the time of their answers, over this length before the end.
    pub over_time: Option<Duration>,
}

/// Who is asked.
#[derive(Debug, Clone)]
pub enum Target {
    /// All nodes of a cluster.
    Nodes(Vec<Member>),
    /// Another store.
    Etcd(Etcd),
}

impl Load {
    /// Runs what `source` gives for each share until `until` or its end, at a pace if there is one. The first
    /// argument of `source` is the number of the share, the second how many shares there are.
    ///
    /// A box, so that all of it is built in this crate, where it is optimized, and not where it is awaited.
    ///
    /// # Errors
    /// No leader was there to begin with; an address of another store is none.
    pub fn run<'a>(
        &'a self,
        source: &'a Sources<'a>,
        until: &'a Until,
        pace: Option<&'a Arc<Pace>>,
    ) -> Pin<Box<dyn Future<Output = Result<Tally, LoadError>> + Send + 'a>> {
        Box::pin(self.bring(source, until, pace))
    }

    async fn bring(
        &self,
        source: &Sources<'_>,
        until: &Until,
        pace: Option<&Arc<Pace>>,
    ) -> Result<Tally, LoadError> {
        let members = match &self.target {
            Target::Nodes(members) => members,
            Target::Etcd(etcd) => return rival::run(self, etcd, source, until, pace).await,
        };
        let mut finder = Client::new(members).with_timeout(Duration::from_secs(5));
        finder.find_leader().await?;
        let finder = Arc::new(tokio::sync::Mutex::new(finder));
        let mut shares = JoinSet::new();
        let sizes = self.share_sizes();
        let count = sizes.iter().map(Vec::len).sum::<usize>() as u64;
        let mut number = 0;
        for (connection, sizes) in sizes.iter().enumerate() {
            let channels = Channels::default();
            for &size in sizes {
                let worker = Worker::new(
                    source(number, count),
                    self.read.consistency(),
                    size,
                    until.at().into_std(),
                )
                .at(pace.cloned())
                .counting(self.tally(until));
                let share = Share {
                    finder: Arc::clone(&finder),
                    channels: channels.clone(),
                    fixed: self
                        .any_node
                        .then(|| members[connection % members.len()].clone()),
                    unary: self.unary,
                };
                shares.spawn(share.run(worker, until.clone()));
                number += 1;
            }
        }
        let mut tally = self.tally(until);
        while let Some(share) = shares.join_next().await {
            // A share neither panics nor is aborted, except by a bug that must be seen.
            tally.add(&share.expect("a share of the load ends by itself"));
        }
        Ok(tally)
    }

    /// An empty tally of what is measured up to `until`.
    #[must_use]
    pub fn tally(&self, until: &Until) -> Tally {
        match self.over_time {
            None => Tally::default(),
            Some(length) => Tally::over_time(until.at().into_std() - length, length),
        }
    }

    /// The slots of every share, by connection: a share a connection on streams, a share an
    /// operation with unary calls.
    #[must_use]
    pub fn share_sizes(&self) -> Vec<Vec<usize>> {
        let (each, rest) = (
            self.in_flight / self.connections,
            self.in_flight % self.connections,
        );
        let slots = (0..self.connections).map(|number| each + usize::from(number < rest));
        slots
            .map(|slots| {
                if self.unary {
                    vec![1; slots]
                } else {
                    vec![slots]
                }
            })
            .collect()
    }
}

/// The channels of one connection: one to each node it ever needed.
#[derive(Debug, Clone, Default)]
struct Channels(Arc<Mutex<BTreeMap<u64, Channel>>>);

impl Channels {
    fn to(&self, member: &Member) -> Result<Channel, ClientError> {
        // Nothing panics while the lock is held, and a map of channels has no half-changed state.
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&member.id) {
            return Ok(channel.clone());
        }
        let channel = channel::channel(&member.address)?;
        channels.insert(member.id, channel.clone());
        Ok(channel)
    }
}

/// One share of the load.
struct Share {
    finder: Arc<tokio::sync::Mutex<Client>>,
    channels: Channels,
    fixed: Option<Member>,
    unary: bool,
}

impl Share {
    async fn run(self, mut worker: Worker, until: Until) -> Tally {
        while !until.is_over() {
            let target = tokio::select! {
                target = self.target() => target,
                () = until.past(Duration::ZERO) => break,
            };
            let channel = match target.and_then(|member| self.channels.to(&member)) {
                Ok(channel) => channel,
                Err(error) => {
                    worker.tally.failed(error.kind());
                    continue;
                }
            };
            let mut kv = channel::kv(channel);
            let driving = async {
                match self.unary {
                    true => drive::unary(&mut kv, &mut worker, &until).await,
                    false => drive::pipeline(&mut kv, &mut worker, &until).await,
                }
            };
            let end = tokio::select! {
                end = driving => Some(end),
                () = until.past(DRAIN) => None,
            };
            match end {
                Some(End::Done) => break,
                Some(End::Left) => tokio::time::sleep(PAUSE).await,
                None => worker.lost("no answer"),
            }
        }
        worker.tally
    }

    async fn target(&self) -> Result<Member, ClientError> {
        match &self.fixed {
            Some(member) => Ok(member.clone()),
            None => self.finder.lock().await.find_leader().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(connections: usize, in_flight: usize, unary: bool) -> Load {
        Load {
            target: Target::Nodes(vec![]),
            connections,
            in_flight,
            unary,
            read: Read::Lease,
            any_node: false,
            over_time: None,
        }
    }

    /// All operations in flight are handed out, as evenly as they can be.
    #[test]
    fn the_load_is_shared_out_whole() {
        assert_eq!(load(4, 64, false).share_sizes(), vec![vec![16]; 4]);
        assert_eq!(load(3, 10, false).share_sizes(), [[4], [3], [3]]);
        assert_eq!(load(2, 5, true).share_sizes(), [vec![1; 3], vec![1; 2]]);
    }
}
