//! The text of `logs.txt` and `metadata.txt`: encoding as the log grows, and recovery.
//!
//! A line of `logs.txt` is an entry: what a human reads, a tab (wide space below), what a machine
//! needs.
//!
//! ```text
//! NO-OP 1  index=1 crc=1f52bd4e
//! SET name1 Jaggu 1  index=2 request=3f9a1c20/2 crc=542e1355
//! SET "two words" "line\nbreak" 1  index=3 request=3f9a1c20/3 crc=64741586
//! DEL "é" 2  index=4 crc=7391f044
//! CAS k "\"" new 2  index=5 request=1/2 since=3 crc=f79c1f78
//! CREATE k new 2  index=6 crc=480b17a2
//! FORMAT 3 5d3c...e1 1,2,3 3  index=7 crc=aac38078
//! MEMBERS voters=1,2,3 outgoing=NULL retired=NULL 1=9f8e...a0,host1:7400,host1:7500 2=... 3  index=8 crc=0b64e2d1
//! ```
//!
//! * The number before the tab is the term. `CAS key expected new` is a compare-and-set, `CREATE
//!   key new` the one whose key must not exist.
//! * `FORMAT 3` says that from there on the cluster's files may be of that format, which every voter
//!   reads; then the cluster's id (`NULL`: it has none) and its voters.
//! * `MEMBERS` is a configuration: voters, the former voters while their majority is needed as well, ids
//!   that nobody gets again, and each node with its directory's id and its addresses for nodes and clients.
//! * A word is plain (printable ASCII without spaces and quotes, not empty) or a JSON string.
//! * `request` is the client's id in hexadecimal and its sequence; `since` its `since_index`, left
//!   out when 0. A write without a request id has neither.
//! * `crc` is a CRC-32C in eight lowercase hexadecimal digits. It goes on from the crc of the line
//!   before (0 before the first line) over this line's bytes up to and with ` crc=`. So a line
//!   that is lost, doubled or moved is noticed like one that is changed.
//!
//! `metadata.txt` is a `name value` line each for `currentTerm`, `votedFor` (`NULL`: nobody),
//! `commitLength` and `appliedLength`, and a last line `crc`, over all bytes before that line.
//! Between them there may be `voters` (how many this node has had) and `acceptedUntil` (entries
//! that an operator gave up), `clusterId` and `directoryId` (32 hexadecimal digits each, at random);
//! `incarnation` and `promisedTo` (the run that wrote it, and to whom it has promised what is not over:
//! `names`); who does not know a line there ignores it. Where the log has come to a
//! format of 2 or more, a line `format` stands before all others: a version that does not know it
//! refuses the directory as it is, and does not take the log's new lines for damage. `mark.txt` is of the same
//! kind: what was committed and durable for certain at some time.
//!
//! What is in a snapshot (`snapshot`) may be cut from the log; another first line then tells what
//! precedes the rest (`base`).
//!
//! Only bytes and values here: files are opened by [`crate::disk`].

mod backup;
mod base;
mod metadata;
mod names;
mod recover;
mod snapshot;
mod text;

pub use backup::BackupHead;
pub use base::LogBase;
pub use metadata::{
    Mark, Metadata, MetadataError, RefusedLeader, decode_lease, decode_promises, encode_lease,
    encode_promises, promises_are_damaged,
};
pub use names::LockRecord;
pub use recover::{
    Damage, DamageMark, Files, LostNote, Mend, RecoverError, Recovery, SnapshotDamage, TornTail,
    goes_on_from, recover, recover_behind,
};
pub use snapshot::{
    Restored, SnapshotError, SnapshotFault, SnapshotHead, SnapshotLook, SnapshotReader,
    SnapshotWriter,
};
pub use text::{plain_or_quoted, split_words, write_words};

use crate::raft::{Entry, Index, SnapshotId};
use std::collections::VecDeque;

/// Encodes the log as it grows: remembers where each entry ends and the chained checksum there,
/// so that a conflicting suffix can be cut, and a prefix that is in a snapshot.
#[derive(Debug, Default)]
pub struct LogWriter {
    /// The last entry that is gone, and the end of what stands in its place.
    base_index: Index,
    base: LineEnd,
    /// The end of the entry with index `base_index + 1 + i`.
    ends: VecDeque<LineEnd>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LineEnd {
    bytes: u64,
    crc: u32,
}

/// How the file of a log becomes that of the log behind a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCut {
    /// What the log goes on from: it is written in full, and gets its name with the cut.
    pub snapshot: SnapshotId,
    /// What stands before the rest.
    pub first_line: Vec<u8>,
    /// Where in the file the rest begins; `None`: nothing of it stays.
    pub rest_from: Option<u64>,
    /// The first line and the rest up to here are in the new file already. `None`: nothing is.
    pub copied_to: Option<u64>,
}

impl LogWriter {
    /// A log that begins with this line and has no entries yet.
    pub fn after(base: &LogBase) -> Self {
        LogWriter {
            base_index: base.snapshot.index,
            base: LineEnd {
                bytes: base.encode().len() as u64,
                crc: base.log_crc,
            },
            ..LogWriter::default()
        }
    }

    /// Length of the file that holds all lines so far, in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.end().bytes
    }

    /// The last entry that was written, or is in the snapshot.
    pub fn last_index(&self) -> Index {
        self.base_index + self.ends.len() as Index
    }

    /// Cuts everything after `index`; returns the length of the file then, in bytes.
    pub fn truncate_after(&mut self, index: Index) -> u64 {
        assert!(index >= self.base_index, "what a snapshot holds is cut");
        // An index that does not fit in memory is beyond the log in any case.
        let keep = usize::try_from(index - self.base_index).unwrap_or(usize::MAX);
        self.ends.truncate(keep);
        self.len_bytes()
    }

    /// Checksum of the line of the entry at `index`, if it is known.
    pub fn crc_at(&self, index: Index) -> Option<u32> {
        self.end_at(index).map(|end| end.crc)
    }

    /// Where in the file the entry at `index` ends, if it is known.
    pub fn end_bytes(&self, index: Index) -> Option<u64> {
        self.end_at(index).map(|end| end.bytes)
    }

    /// Length of the line of the entry at `index`; 0 where it is not known.
    pub fn line_bytes(&self, index: Index) -> u64 {
        let end = |index| self.end_at(index).map(|end| end.bytes);
        match (end(index.saturating_sub(1)), end(index)) {
            (Some(begin), Some(end)) => end - begin,
            _ => 0,
        }
    }

    /// Cuts everything up to the snapshot, and all of it unless `keeps_rest`, which is only so where
    /// the log has the very entry that the snapshot ends with.
    pub fn cut_before(&mut self, base: &LogBase, keeps_rest: bool) -> LogCut {
        let first_line = base.encode();
        let index = base.snapshot.index;
        let rest = keeps_rest.then(|| self.end_at(index)).flatten();
        let Some(end) = rest.filter(|end| end.crc == base.log_crc) else {
            assert!(
                !keeps_rest,
                "the log is not the one that entry {index} is from"
            );
            *self = LogWriter::after(base);
            return LogCut {
                snapshot: base.snapshot,
                first_line,
                rest_from: None,
                copied_to: None,
            };
        };
        let rest_from = end.bytes;
        self.ends.drain(..(index - self.base_index) as usize);
        // The new first line ends where the rest begins. It may be longer than all that was before.
        let length = first_line.len() as u64;
        let shift = |end: &mut LineEnd| end.bytes = end.bytes - rest_from + length;
        self.ends.iter_mut().for_each(shift);
        self.base_index = index;
        self.base = LineEnd {
            bytes: length,
            crc: base.log_crc,
        };
        LogCut {
            snapshot: base.snapshot,
            first_line,
            rest_from: Some(rest_from),
            copied_to: None,
        }
    }

    /// Test-only: what is appended next has a checksum of its own.
    pub(crate) fn begin_chain_anew(&mut self) {
        let end = self.ends.back_mut().unwrap_or(&mut self.base);
        end.crc = 0;
    }

    /// Appends the line of `entry` to `out`. Its index must be the one after the last.
    pub fn append(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        let last = self.last_index();
        assert!(
            entry.index == last + 1,
            "entry {} written after {last}",
            entry.index
        );
        let end = self.end();
        let start = out.len();
        let crc = text::write_line(entry, end.crc, out);
        let bytes = end.bytes + (out.len() - start) as u64;
        self.ends.push_back(LineEnd { bytes, crc });
    }

    /// Takes in a line that is in the file already.
    fn push(&mut self, line_bytes: u64, crc: u32) {
        let bytes = self.end().bytes + line_bytes;
        self.ends.push_back(LineEnd { bytes, crc });
    }

    fn end(&self) -> LineEnd {
        self.ends.back().copied().unwrap_or(self.base)
    }

    fn end_at(&self, index: Index) -> Option<LineEnd> {
        match index.checked_sub(self.base_index)? {
            0 => Some(self.base),
            behind => self.ends.get(behind as usize - 1).copied(),
        }
    }
}

#[cfg(test)]
mod tests;
