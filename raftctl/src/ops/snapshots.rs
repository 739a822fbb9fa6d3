//! Snapshots that nodes take when they are asked to.

use std::time::{Duration, Instant};

use raftkv::admin::TakeSnapshotReply;
use tonic::{Code, Status};

use super::Context;
use crate::admin::{self, AdminError};
use crate::cluster::NodeId;
use crate::cluster::outcomes::Outcomes;
use crate::error::{Error, Result};

/// How long a snapshot may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Before a node is asked again that may not take one yet.
const PAUSE: Duration = Duration::from_millis(200);

impl Context {
    /// Has nodes take a snapshot of what they have applied: one after the other, so that never two write at
    /// once.
    pub async fn take_snapshots(
        &self,
        ids: &[NodeId],
        timeout: Option<Duration>,
    ) -> Outcomes<TakeSnapshotReply> {
        let timeout = timeout.unwrap_or(TIMEOUT);
        let mut outcomes = Outcomes::new();
        for id in ids.iter().copied() {
            outcomes.insert(id, self.take_snapshot(id, timeout).await);
        }
        outcomes
    }

    async fn take_snapshot(&self, id: NodeId, timeout: Duration) -> Result<TakeSnapshotReply> {
        let until = Instant::now() + timeout;
        let mut asked = id;
        loop {
            let address = &self.inventory.member(asked).admin_address;
            let left = until.saturating_duration_since(Instant::now());
            let taken = admin::take_snapshot(address, left).await;
            let refused = match taken {
                Ok(taken) if asked == id => return Ok(taken),
                // The leader has the format that it takes now.
                Ok(_) => None,
                Err(AdminError::Refused(status)) => Some(status),
                Err(silent) => return Err(Error::NoLeader(silent.to_string())),
            };
            let is_in_vain = |status: &Status| status.code() != Code::Unavailable;
            match refused {
                Some(status) if is_in_vain(&status) => {
                    return Err(Error::Other(status.message().to_owned()));
                }
                Some(status) if Instant::now() + PAUSE >= until => {
                    return Err(Error::NoLeader(status.message().to_owned()));
                }
                _ => {}
            }
            let wants_leader = refused.as_ref().is_some_and(asks_for_leader);
            let leader = if wants_leader {
                self.leader().await
            } else {
                None
            };
            asked = leader.unwrap_or(id);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Only the leader can bring the cluster to the format that snapshots need.
fn asks_for_leader(status: &Status) -> bool {
    let reason = status.metadata().get(raftkv::REASON_METADATA);
    reason.is_some_and(|reason| reason == "NOT_LEADER")
}
