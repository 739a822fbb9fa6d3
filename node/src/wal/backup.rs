//! The first line of a backup, before the text of a snapshot.
//!
//! ```text
//! BACKUP 1 demo 2026-11-29T19:20:00Z  id=9f8e.. node=2 index=1200 term=3 sessions=1 keys=2 hash=0b64e2d1 crc=5f1c0a77
//! ```
//!
//! The first number is the format of the backup, then come the cluster's name and the time. `hash` is the
//! checksum of the last line, so a head and a text that do not belong together are told apart; `crc`
//! covers this line alone, so that what follows it is byte for byte a `snapshot.txt`.
//!
//! `raftctl` writes it; here it is only read.

use super::snapshot::Fields;
use super::text::{self, CRC_DIGITS};
use crate::raft::{Index, SnapshotId, Term};

/// With this a backup begins.
const MARK: &[u8] = b"BACKUP ";
/// The one format so far.
const FORMAT: &str = "1";

/// What the first line of a backup says of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupHead {
    index: Index,
    term: Term,
    hash: u32,
}

impl BackupHead {
    /// Whether a text begins as a backup does, and not as a snapshot.
    pub fn begins(text: &[u8]) -> bool {
        text.starts_with(MARK)
    }

    /// Reads the line, without its newline. `None`: not a line of this format, or its checksum does not
    /// fit.
    pub fn decode(line: &[u8]) -> Option<Self> {
        let (covered, digits) = line.split_at_checked(line.len().checked_sub(CRC_DIGITS)?)?;
        if text::parse_crc(digits)? != crc32c::crc32c(covered) {
            return None;
        }
        let covered = std::str::from_utf8(covered.strip_suffix(b" crc=")?).ok()?;
        let (human, machine) = covered.split_once('\t')?;
        let mut words = human.split(' ').skip(1);
        if words.next()? != FORMAT || words.count() != 2 {
            return None;
        }
        let mut fields = Fields(machine.split(' '));
        let _cluster_id = fields.text("id")?;
        let _node = fields.number("node")?;
        let (index, term) = (fields.number("index")?, fields.number("term")?);
        let _counts = (fields.number("sessions")?, fields.number("keys")?);
        let hash = text::parse_crc(fields.text("hash")?.as_bytes())?;
        let head = BackupHead { index, term, hash };
        fields.0.next().is_none().then_some(head)
    }

    /// Whether it is about this state.
    pub fn is_of(&self, state: &SnapshotId) -> bool {
        (self.index, self.term, self.hash) == (state.index, state.term, state.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Vec<u8> {
        sealed("BACKUP 1 demo 2026-11-29T19:20:00Z")
    }

    fn sealed(human: &str) -> Vec<u8> {
        let machine = "id= node=2 index=1200 term=3 sessions=1 keys=2 hash=0b64e2d1";
        let text = format!("{human}\t{machine} crc=");
        let crc = crc32c::crc32c(text.as_bytes());
        format!("{text}{crc:08x}").into_bytes()
    }

    // A backup is known by its first word, and read only where it is of a format that this version knows.
    #[test]
    fn a_line_of_another_format_is_none() {
        assert!(BackupHead::begins(&line()));
        assert!(!BackupHead::begins(b"SNAPSHOT 4 2\tindex=4"));
        assert!(BackupHead::decode(&line()).is_some());
        for other in [
            "BACKUP 2 demo 2026-11-29T19:20:00Z",
            "BACKUP 1 demo 2026-11-29T19:20:00Z more",
            "BACKUP 1 demo",
        ] {
            assert_eq!(BackupHead::decode(&sealed(other)), None, "{other}");
        }
    }

    // What raftctl writes is understood; with any bit of it flipped it is not.
    #[test]
    fn every_bit_of_the_line_counts() {
        let (index, term, hash) = (1200, 3, 0x0b64_e2d1);
        let head = BackupHead { index, term, hash };
        assert_eq!(BackupHead::decode(&line()), Some(head));
        for bit in 0..line().len() * 8 {
            let mut flipped = line();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BackupHead::decode(&flipped), None, "bit {bit}");
        }
        for length in 0..line().len() {
            assert_eq!(BackupHead::decode(&line()[..length]), None);
        }
    }

    // Each number that it tells must be that of the text behind it.
    #[test]
    fn another_state_is_told_apart() {
        let head = BackupHead::decode(&line()).unwrap();
        let state = SnapshotId {
            index: 1200,
            term: 3,
            hash: 0x0b64_e2d1,
            ..SnapshotId::default()
        };
        assert!(head.is_of(&state));
        let others = [
            SnapshotId {
                index: 1201,
                ..state
            },
            SnapshotId { term: 4, ..state },
            SnapshotId { hash: 1, ..state },
        ];
        assert!(!others.iter().any(|other| head.is_of(other)));
    }
}
