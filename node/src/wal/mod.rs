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
//! ```
//!
//! * The number before the tab is the term. `CAS key expected new` is a compare-and-set, `CREATE
//!   key new` the one whose key must not exist.
//! * A word is plain (printable ASCII without spaces and quotes, not empty) or a JSON string.
//! * `request` is the client's id in hexadecimal and its sequence; `since` its `since_index`, left
//!   out when 0. A write without a request id has neither.
//! * `crc` is a CRC-32C in eight lowercase hexadecimal digits. It goes on from the crc of the line
//!   before (0 before the first line) over this line's bytes up to and with ` crc=`. So a line
//!   that is lost, doubled or moved is noticed like one that is changed.
//!
//! `metadata.txt` is a `name value` line each for `currentTerm`, `votedFor` (`NULL`: nobody),
//! `commitLength` and `appliedLength`, and a last line `crc`, over all bytes before that line.
//!
//! Only bytes and values here: files are opened by [`crate::disk`]. Deliberately absent:
//! snapshots. A log that begins with one is refused with a message, never misread.

mod metadata;
mod recover;
mod text;

pub use metadata::{
    Metadata, MetadataError, decode_lease, decode_promises, encode_lease, encode_promises,
};
pub use recover::{Damage, DamageMark, Files, RecoverError, Recovery, TornTail, recover};
pub use text::{plain_or_quoted, split_words, write_words};

use crate::raft::{Entry, Index};

/// Encodes the log as it grows: remembers where each entry ends and the chained checksum there,
/// so that a conflicting suffix can be cut.
#[derive(Debug, Default)]
pub struct LogWriter {
    /// The end of the entry with index `i + 1`.
    ends: Vec<LineEnd>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LineEnd {
    bytes: u64,
    crc: u32,
}

impl LogWriter {
    /// Length of the file that holds all lines so far, in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.end().bytes
    }

    /// Cuts everything after `index`; returns the length of the file then, in bytes.
    pub fn truncate_after(&mut self, index: Index) -> u64 {
        // An index that does not fit in memory is beyond the log in any case.
        let keep = usize::try_from(index).unwrap_or(usize::MAX);
        self.ends.truncate(keep);
        self.len_bytes()
    }

    /// Appends the line of `entry` to `out`. Its index must be the one after the last.
    pub fn append(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        let last = self.ends.len() as Index;
        assert!(
            entry.index == last + 1,
            "entry {} written after {last}",
            entry.index
        );
        let end = self.end();
        let start = out.len();
        let crc = text::write_line(entry, end.crc, out);
        let bytes = end.bytes + (out.len() - start) as u64;
        self.ends.push(LineEnd { bytes, crc });
    }

    /// Takes in a line that is in the file already.
    fn push(&mut self, line_bytes: u64, crc: u32) {
        let bytes = self.end().bytes + line_bytes;
        self.ends.push(LineEnd { bytes, crc });
    }

    fn end(&self) -> LineEnd {
        self.ends.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
