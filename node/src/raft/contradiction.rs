//! What a node must not go on with: what it is told contradicts what it knows.
//!
//! Consensus rests on what each node keeps: its term, its vote, its log. Where a directory was put
//! back from an older copy, or damage was given up on too many nodes, that promise is broken, and
//! no protocol can mend it. Nor can one mend a state that is not what the log makes of it. What is left to do is to notice, to touch nothing, and to say so.

use super::{Index, NodeId, Term};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// A leader does not have what is committed here.
    #[error(
        "Node {leader}, the leader of term {term}, lacks entries that are committed here: it goes \
         on behind entry {keep}, and {committed} is committed"
    )]
    LeaderLacksCommitted {
        /// The leader.
        leader: NodeId,
        /// Its term.
        term: Term,
        /// Up to here its log and this one are equal.
        keep: Index,
        /// Up to here entries are committed here.
        committed: Index,
    },
    /// A majority has come to another state than this node.
    #[error(
        "After entry {index} this node has the state {own:08x}, and a majority has {agreed:08x}"
    )]
    OtherState {
        /// The entry.
        index: Index,
        /// Hash of the own state.
        own: u32,
        /// Hash of theirs.
        agreed: u32,
    },
    /// The cluster has removed this node.
    #[error("This node was removed from its cluster by entry {entry}")]
    Removed {
        /// Of the configuration that does not name it any more.
        entry: Index,
    },
    /// Another leads the very term that this node leads.
    #[error("Node {other} leads in term {term}, and so does this node")]
    TwoLeaders {
        /// The other.
        other: NodeId,
        /// Of both.
        term: Term,
    },
}
