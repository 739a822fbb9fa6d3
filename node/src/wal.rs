//! The text codec of `logs.txt` and `metadata.txt`.

use crate::raft::{Entry, HardState, Index};

/// Encodes the log as it grows: remembers where each entry ends and the chained checksum there,
/// so that a conflicting suffix can be cut.
#[derive(Debug, Default)]
pub struct LogWriter {}

impl LogWriter {
    /// Cuts everything after `index`; returns the length of the file then, in bytes.
    pub fn truncate_after(&mut self, index: Index) -> u64 {
        index
    }

    /// Appends the line of `entry` to `out`.
    pub fn append(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        let _ = (entry, out);
    }
}

/// What `metadata.txt` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Term and vote.
    pub hard_state: HardState,
    /// Commit index; may be behind.
    pub commit_index: Index,
    /// Applied index; may be behind.
    pub applied_index: Index,
}

impl Metadata {
    /// The file's text.
    pub fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
}
