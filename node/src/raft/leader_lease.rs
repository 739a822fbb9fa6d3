//! The lease, as its holder sees it: until when this leader may answer from its own memory, and
//! when it must give up.

use super::core::Raft;
use super::leader::Leadership;
use super::lease::leader_lease_us;
use super::{Micros, Mutation};

impl Raft {
    /// When the newest append was sent that a majority, this node included, has acknowledged.
    fn majority_sent_us(&self, leading: &Leadership) -> Option<Micros> {
        let others_needed = self.quorum() - 1;
        if others_needed == 0 {
            return Some(self.now);
        }
        let mut sent: Vec<_> = leading.progress.values().map(|p| p.acked_sent_us).collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        sent[others_needed - 1]
    }

    /// End of the lease on this node's clock; 0: no lease.
    pub(super) fn lease_until_us(&self, leading: &Leadership) -> Micros {
        if leading.released && !self.mutated(Mutation::TransferKeepsLease) {
            return 0;
        }
        let Some(sent_us) = self.majority_sent_us(leading) else {
            return 0;
        };
        let lease_us = match self.mutated(Mutation::NoDriftFactor) {
            true => self.config.lease_us,
            false => leader_lease_us(self.config.lease_us, self.config.max_clock_drift_ppm),
        };
        let until_us = sent_us + lease_us;
        // Acknowledged heartbeats say nothing about the own disk.
        match self.disk_deadline_us(leading) {
            Some(deadline_us) => until_us.min(deadline_us),
            None => until_us,
        }
    }

    pub(super) fn disk_deadline_us(&self, leading: &Leadership) -> Option<Micros> {
        if self.mutated(Mutation::StalledDiskKeepsLease) {
            return None;
        }
        let (_, since_us) = leading.unpersisted.front()?;
        Some(since_us + self.config.lease_us)
    }

    /// When leadership ends unless a majority acknowledges before.
    pub(super) fn leadership_deadline_us(&self, leading: &Leadership) -> Micros {
        let from_election = leading.elected_at_us + self.config.lease_us;
        match self.majority_sent_us(leading) {
            Some(sent_us) => (sent_us + self.config.lease_us).max(from_election),
            None => from_election,
        }
    }
}
