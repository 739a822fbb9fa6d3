//! A snapshot, as the core knows it: which entries it stands for. What is in it is the business of
//! others.

use super::{Index, NodeId, Term};
use std::sync::Arc;

/// Names a snapshot: the same numbers, the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotId {
    /// The last entry that is in it.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The format that was in force there.
    pub format: u64,
    /// Over all of its text. A function of the log up to `index`, so nodes that have another one for
    /// the same index have another state.
    pub hash: u32,
    /// How long its text is.
    pub bytes: u64,
}

/// A piece of a snapshot that a peer needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkWanted {
    /// Whom it is for.
    pub peer: NodeId,
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: usize,
}

/// A piece of a snapshot that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// Where in it.
    pub offset: u64,
    /// The bytes.
    pub data: Arc<[u8]>,
}
