//! The first line of a log that was cut: what precedes it.
//!
//! ```text
//! SNAPSHOT 1200 3  index=1200 format=2 state=9f8e7d6c bytes=48213 check=fa19c994 crc=5f1c0a77
//! ```
//!
//! It stands in place of all lines up to that of entry 1200, and its `crc` is the one of that line:
//! the lines behind it go on from there, and are byte for byte what they were. `state` and `bytes`
//! are the hash and the length of the snapshot that holds what is gone, so a log and a snapshot that
//! do not belong together are told apart. `check` covers this line, its `crc` included.

use super::snapshot::{Fields, place};
use super::text::{self, CRC_MARK};
use crate::raft::SnapshotId;

/// Stands right before the line's own checksum.
const CHECK_MARK: &str = " check=";

/// What precedes a log that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBase {
    /// The snapshot that holds it.
    pub snapshot: SnapshotId,
    /// Checksum of the last line that is gone.
    pub log_crc: u32,
}

/// Whether a log's first line tells that it was cut, readable or not.
pub(super) fn is_cut(logs: &[u8]) -> bool {
    logs.starts_with(b"SNAPSHOT ")
}

impl LogBase {
    /// The line, newline included.
    pub fn encode(&self) -> Vec<u8> {
        let SnapshotId {
            index,
            term,
            format,
            hash,
            bytes,
        } = self.snapshot;
        let mut line = format!(
            "SNAPSHOT {index} {term}\tindex={index} format={format} state={hash:08x} bytes={bytes}"
        );
        let crc = format!("{:08x}", self.log_crc);
        let check = check_of(&line, &crc);
        line.push_str(&format!("{CHECK_MARK}{check:08x} crc={crc}\n"));
        line.into_bytes()
    }

    /// Reads the first line of a log, and says how long it is. `None`: it can't be read, or the log
    /// was not cut.
    pub fn read(logs: &[u8]) -> Option<(Self, usize)> {
        let end = logs.iter().position(|byte| *byte == b'\n')?;
        let (covered, crc) = text::split_crc(&logs[..end])?;
        let log_crc = text::parse_crc(crc)?;
        let covered = std::str::from_utf8(covered.strip_suffix(CRC_MARK)?).ok()?;
        let (line, check) = covered.rsplit_once(CHECK_MARK)?;
        let crc = std::str::from_utf8(crc).ok()?;
        if text::parse_crc(check.as_bytes())? != check_of(line, crc) {
            return None;
        }
        let (human, machine) = line.split_once('\t')?;
        let mut fields = Fields(machine.split(' '));
        let (index, term) = place(human.strip_prefix("SNAPSHOT ")?, &mut fields)?;
        let snapshot = SnapshotId {
            index,
            term,
            format: fields.number("format")?,
            hash: text::parse_crc(fields.text("state")?.as_bytes())?,
            bytes: fields.number("bytes")?,
        };
        let base = LogBase { snapshot, log_crc };
        fields.0.next().is_none().then_some((base, end + 1))
    }
}

fn check_of(line: &str, crc: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(line.as_bytes()), crc.as_bytes())
}
