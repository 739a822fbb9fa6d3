//! A node as others see it from outside: the operator, and the gate for lease reads.

use super::state::{Counters, Raft, Role};
use super::{Index, Micros, NodeId, Promise, Run, SnapshotId, Term};
use crate::command::Members;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How whole a node's log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogState {
    /// Nothing is missing that the node knows of.
    #[default]
    Whole,
    /// It lost entries to damage and is not refilled yet: the node does not vote.
    Damaged {
        /// The first entry that was lost.
        from: Index,
        /// Entries up to here may have been lost.
        until: Index,
    },
    /// What damage cost was given up by an operator, and nobody has been elected since.
    Accepted {
        /// Entries up to here may have been lost.
        until: Index,
    },
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The follower.
    pub id: NodeId,
    /// Its log equals the leader's up to here.
    pub match_index: Index,
    /// Its connection is up.
    pub connected: bool,
    /// It had acknowledged entries up to here and lacks some of them: damage, or a directory that
    /// was put back from an older copy. 0: it has all that it acknowledged.
    pub lost_until: Index,
    /// The newest format that it reads. 0: it is not connected.
    pub reads_format: u64,
    /// It had come to another state than the others after this entry, the last time they were compared.
    /// 0: to the same.
    pub state_differs_at: Index,
}

/// What decides about lease reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// What the node is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it believes to lead.
    pub leader: Option<NodeId>,
    /// Leader: end of the lease on the own clock; 0: none.
    pub lease_until_us: Micros,
    /// Leader: older leases may be alive until then; 0: over.
    pub old_lease_until_us: Micros,
    /// Leader: an entry of the own term is committed.
    pub own_term_committed: bool,
    /// Until then a former run of this node may have promised a lease to anyone.
    pub unknown_promises_until_us: Micros,
}

/// A look at a node from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Role, term, leader and leases.
    pub lease: LeaseStatus,
    /// Up to here entries are committed.
    pub commit_index: Index,
    /// Its last entry.
    pub last_index: Index,
    /// Its newest snapshot.
    pub snapshot: Option<SnapshotId>,
    /// That one is not on disk as it was written.
    pub snapshot_damaged: bool,
    /// How whole its log is.
    pub log: LogState,
    /// Leader: its followers.
    pub peers: Vec<PeerStatus>,
    /// The configuration in force.
    pub members: Arc<Members>,
    /// The entry that put it in force. 0: what nodes were started with.
    pub members_index: Index,
    /// That entry is committed.
    pub members_committed: bool,
    /// Leader: as many nodes may still fail: see [`Raft::spare_nodes`].
    pub survives_failures: Option<u64>,
    /// What it counted.
    pub counters: Counters,
    /// This run of the node; it may have no name.
    pub run: Run,
    /// What it has promised to leaders and still keeps, as of the last step.
    pub promises: Vec<Promise>,
}

impl Raft {
    /// What a gate for lease reads needs, as of the last step.
    pub fn lease_status(&self) -> LeaseStatus {
        let leadership = self.leadership();
        LeaseStatus {
            role: self.role(),
            term: self.term(),
            leader: self.leader,
            lease_until_us: leadership.map_or(0, |leading| self.lease_until_us(leading)),
            old_lease_until_us: leadership
                .map(|leading| leading.old_lease_until_us)
                .filter(|until| *until > self.now)
                .unwrap_or(0),
            own_term_committed: leadership.is_some_and(|leading| self.own_term_committed(leading)),
            unknown_promises_until_us: self.promises.unknown_until(),
        }
    }

    /// A look from outside, as of the last step.
    pub fn status(&self) -> Status {
        Status {
            lease: self.lease_status(),
            commit_index: self.commit_index,
            last_index: self.log.last_index(),
            snapshot: self.snapshot,
            snapshot_damaged: self.is_snapshot_damaged(),
            log: self.log_state(),
            peers: self.peer_status(),
            members: Arc::clone(self.members()),
            members_index: self.members_index(),
            members_committed: self.members_committed(),
            survives_failures: self.leadership().map(|_| self.spare_nodes() as u64),
            counters: self.counters,
            run: self.own_run(),
            promises: self.promises.open(self.now),
        }
    }

    /// A leader's followers, and up to where their logs equal its own.
    pub fn matched(&self) -> impl Iterator<Item = (NodeId, Index)> {
        let progress = self.leadership().into_iter().flat_map(|it| &it.progress);
        progress.map(|(id, progress)| (*id, progress.match_index))
    }

    /// As many nodes may still fail before a leader can commit nothing, if those live that answered what was
    /// sent within the last lease. 0 on a node that does not lead.
    pub fn spare_nodes(&self) -> usize {
        let Some(leading) = self.leadership() else {
            return 0;
        };
        let since_us = self.now.saturating_sub(self.config.lease_us);
        let answers = |acked: Option<Micros>| acked.is_some_and(|sent_us| sent_us >= since_us);
        let is_live = |id| {
            let progress = leading.progress.get(&id);
            id == self.config.id || progress.is_some_and(|it| answers(it.acked_sent_us))
        };
        let members = self.members();
        let spare = |voters: &BTreeSet<NodeId>| {
            let live = voters.iter().filter(|id| is_live(**id)).count();
            live.saturating_sub(voters.len() / 2 + 1)
        };
        match members.is_joint() {
            true => spare(&members.voters).min(spare(&members.outgoing)),
            false => spare(&members.voters),
        }
    }

    /// A leader's followers.
    fn peer_status(&self) -> Vec<PeerStatus> {
        let Some(leading) = self.leadership() else {
            return Vec::new();
        };
        let peers = leading.progress.iter().map(|(id, progress)| PeerStatus {
            state_differs_at: leading.states.differs_at(*id),
            id: *id,
            match_index: progress.match_index,
            connected: progress.connected,
            lost_until: progress.lost_until,
            reads_format: self.format_read_by(*id).unwrap_or(0),
        });
        peers.collect()
    }
}
