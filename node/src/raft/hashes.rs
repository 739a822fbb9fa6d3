//! What nodes have told of their states: the data of `agreement`.

use super::{Index, Micros, NodeId, Term};
use crate::command::Members;
use std::collections::BTreeMap;

/// So many snapshots are compared at a time: followers may take theirs later.
const COMPARED_MAX: usize = 16;

/// What a leader knows of the states of all.
#[derive(Debug, Default)]
pub(super) struct StateHashes {
    /// By the snapshot's last entry, and by the node.
    pub(super) told: BTreeMap<Index, BTreeMap<NodeId, u32>>,
    /// Who had another state, and at which entry last.
    pub(super) differs: BTreeMap<NodeId, Index>,
}

impl StateHashes {
    pub(super) fn note(&mut self, node: NodeId, index: Index, hash: u32) {
        self.told.entry(index).or_default().insert(node, hash);
        if self.told.len() > COMPARED_MAX {
            self.told.pop_first();
        }
    }

    /// The hash that a quorum has.
    pub(super) fn agreed(&self, index: Index, members: &Members) -> Option<u32> {
        let hashes = self.told.get(&index)?;
        let has_quorum = |hash: &&u32| members.has_quorum(|id| hashes.get(&id) == Some(*hash));
        hashes.values().find(has_quorum).copied()
    }

    /// The entry at which a peer's state was another one, the last time they were compared. 0: none.
    pub(super) fn differs_at(&self, peer: NodeId) -> Index {
        self.differs.get(&peer).copied().unwrap_or(0)
    }
}

/// What a follower told of its state last, to whom, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateTold {
    pub(super) leader: NodeId,
    pub(super) term: Term,
    pub(super) index: Index,
    pub(super) at_us: Micros,
}
