//! The same load for another store: a call an operation, at its leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::etcd::Etcd;
use super::load::{DRAIN, Load, Sources};
use super::pace::Pace;
use super::tally::Tally;
use super::until::Until;
use super::workload::Source;
use crate::LoadError;
use raftkv_client::Read;

/// The pause after a refusal.
const PAUSE: Duration = Duration::from_millis(5);

/// One of the clients: one operation on its way.
struct Share {
    etcd: Etcd,
    source: Source,
    /// Reads may be stale.
    serializable: bool,
    pace: Option<Arc<Pace>>,
    until: Until,
    tally: Tally,
}

/// Runs what `source` gives for each share, as [`Load::run`] does for the cluster.
///
/// # Errors
/// An address is none.
pub async fn run(
    load: &Load,
    etcd: &Etcd,
    source: &Sources<'_>,
    until: &Until,
    pace: Option<&Arc<Pace>>,
) -> Result<Tally, LoadError> {
    let mut found = etcd.clone();
    found.turn_to_leader().await;
    let mut shares = JoinSet::new();
    let sizes = load.share_sizes();
    let count = sizes.iter().map(Vec::len).sum::<usize>() as u64;
    let mut number = 0;
    for sizes in &sizes {
        let connection = found.reconnected()?.beside(found.at());
        for _ in sizes {
            let share = Share {
                etcd: connection.clone(),
                source: source(number, count),
                serializable: matches!(load.read, Read::Stale(_)),
                pace: pace.cloned(),
                until: until.clone(),
                tally: load.tally(until),
            };
            shares.spawn(share.run());
            number += 1;
        }
    }
    let mut tally = load.tally(until);
    while let Some(share) = shares.join_next().await {
        // A share neither panics nor is aborted, except by a bug that must be seen.
        tally.add(&share.expect("a share of the load ends by itself"));
    }
    Ok(tally)
}

impl Share {
    async fn run(mut self) -> Tally {
        while !self.until.is_over() {
            let Some(begun) = self.begin().await else {
                break;
            };
            let Some(ask) = self.source.next_ask() else {
                break;
            };
            let kind = ask.kind();
            let answer = tokio::select! {
                answer = self.etcd.ask_once(ask, self.serializable) => answer.map_err(|status| status.code().description()),
                () = self.until.past(DRAIN) => Err("no answer"),
            };
            let now = Instant::now();
            match answer {
                // In a closed loop what is answered after the end belongs to a longer time.
                Ok(()) if self.pace.is_some() || now <= self.until.at().into_std() => {
                    self.tally.succeeded(kind, begun, now);
                }
                Ok(()) => {}
                Err(why) => {
                    self.tally.failed(why);
                    tokio::time::sleep(PAUSE).await;
                    self.etcd.turn_to_leader().await;
                }
            }
        }
        self.tally
    }

    /// When the next operation begins; none: the time is over before.
    async fn begin(&self) -> Option<Instant> {
        let Some(pace) = &self.pace else {
            return Some(Instant::now());
        };
        tokio::select! {
            begun = pace.next() => Some(begun),
            () = self.until.past(Duration::ZERO) => None,
        }
    }
}
