//! The lease, as its holder sees it: until when this leader may answer from its own memory, and
//! when it must give up.

use super::lease::leader_lease_us;
use super::state::{Leadership, Raft};
use super::{Micros, Mutation, NodeId};

/// An idle leader flushes so often.
const FLUSHES_PER_LEASE: Micros = 8;

impl Raft {
    /// When the newest append was sent that a majority has acknowledged, this node, which did so at
    /// `own_us`, included.
    fn majority_sent_us(&self, leading: &Leadership) -> Option<Micros> {
        self.sure_by_quorums(|id| self.acknowledged_us(leading, id))
            .flatten()
    }

    /// When the newest append was sent that this node has acknowledged.
    pub(super) fn acknowledged_us(&self, leading: &Leadership, id: NodeId) -> Option<Micros> {
        match id == self.config.id {
            true => self.own_acknowledged_us(),
            false => leading.progress.get(&id)?.acked_sent_us,
        }
    }

    /// This node's own acknowledgement is as old as its last finished flush. Where its disk is taken
    /// to another machine while this process lives on, the node that is started there waits a whole
    /// lease from its start, and by then what rests on this flush is over.
    fn own_acknowledged_us(&self) -> Option<Micros> {
        match self.mutated(Mutation::OwnAcknowledgementDatedNow) {
            true => Some(self.now),
            false => self.flushed_us,
        }
    }

    /// When the disk must show again that it is there: an eighth of a lease after its last finished
    /// flush, unless one is under way.
    pub(super) fn flush_due_us(&self, leading: &Leadership) -> Option<Micros> {
        let awaited = leading.flush_asked_us.is_some() || !leading.unpersisted.is_empty();
        let flushed_us = self.flushed_us.unwrap_or(leading.elected_at_us);
        (!awaited).then_some(flushed_us + self.config.lease_us / FLUSHES_PER_LEASE)
    }

    /// An idle leader makes a small flush now and then; with writes they come by themselves.
    pub(super) fn flush_if_due(&mut self) {
        let now = self.now;
        let due_us = self.leadership().and_then(|l| self.flush_due_us(l));
        if due_us.is_some_and(|due_us| now >= due_us)
            && let Some(leading) = self.leadership_mut()
        {
            leading.flush_asked_us = Some(now);
            self.out.flush = true;
        }
    }

    /// End of the lease on this node's clock; 0: no lease.
    pub(super) fn lease_until_us(&self, leading: &Leadership) -> Micros {
        if leading.released && !self.mutated(Mutation::TransferKeepsLease) {
            return 0;
        }
        self.lease_of(leading, self.majority_sent_us(leading))
    }

    /// The end of a lease that rests on appends which were sent at that time.
    pub(super) fn lease_of(&self, leading: &Leadership, sent_us: Option<Micros>) -> Micros {
        let Some(sent_us) = sent_us else {
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
        let entries = leading.unpersisted.front().map(|(_, since_us)| *since_us);
        let since_us = [entries, leading.flush_asked_us].into_iter().flatten();
        Some(since_us.min()? + self.config.lease_us)
    }

    /// When leadership ends unless a majority acknowledges before. A slow disk alone does not end it,
    /// nor does a pause of a node that is alone: the lease goes, and comes back with the next flush.
    /// See [`Raft::disk_deadline_us`] for a disk that hangs.
    pub(super) fn leadership_deadline_us(&self, leading: &Leadership) -> Micros {
        let from_election = leading.elected_at_us + self.config.lease_us;
        // By the last committed configuration: a joint one that can't be committed must not cost the lead, or nobody
        // could take it back.
        let acknowledged = |id| match id == self.config.id {
            true => Some(self.now),
            false => self.acknowledged_us(leading, id),
        };
        match self
            .committed_members()
            .reached_by_quorum(acknowledged)
            .flatten()
        {
            Some(sent_us) => (sent_us + self.config.lease_us).max(from_election),
            None => from_election,
        }
    }
}
