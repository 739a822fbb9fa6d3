//! `metadata.txt`, and the mark that a damaged log leaves behind.

use crate::raft::{HardState, Index, Micros, Promise};
use std::fmt::Write as _;

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

/// Why a file of `name value` lines can't be used. The node must not start from it: a forgotten
/// term or vote could elect two leaders.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The checksum does not fit the text.
    #[error("its checksum does not fit its text")]
    Checksum,
    /// The checksum fits, but the text is not what this version writes.
    #[error("expected a line '{0} <number>', found {1:?}")]
    Line(&'static str, String),
}

impl Metadata {
    /// The file's text.
    pub fn encode(&self) -> Vec<u8> {
        let voted_for = match self.hard_state.voted_for {
            Some(node) => node.to_string(),
            None => NOBODY.to_owned(),
        };
        seal(format!(
            "currentTerm {}\nvotedFor {voted_for}\ncommitLength {}\nappliedLength {}\n",
            self.hard_state.term, self.commit_index, self.applied_index
        ))
    }

    /// Reads the file's text.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut lines = open(bytes)?.lines();
        let term = number(&mut lines, "currentTerm")?;
        let voted_for = match value(&mut lines, "votedFor")? {
            NOBODY => None,
            node => Some(parse("votedFor", node)?),
        };
        Ok(Metadata {
            hard_state: HardState { term, voted_for },
            commit_index: number(&mut lines, "commitLength")?,
            applied_index: number(&mut lines, "appliedLength")?,
        })
    }
}

/// In place of a node's id.
const NOBODY: &str = "NULL";

/// The text of the file that remembers how far a damaged log had reached.
pub(super) fn encode_damage(until: Index) -> Vec<u8> {
    seal(format!("damagedUntil {until}\n"))
}

pub(super) fn decode_damage(bytes: &[u8]) -> Result<Index, MetadataError> {
    number(&mut open(bytes)?.lines(), "damagedUntil")
}

/// The text of `lease.txt`: the longest lease that this node may have promised, or is about to.
pub fn encode_lease(lease_us: Micros) -> Vec<u8> {
    seal(format!("longestLeaseUs {lease_us}\n"))
}

/// Reads the file's text. `None`: it is damaged; then any lease may have been promised.
pub fn decode_lease(bytes: &[u8]) -> Option<Micros> {
    number(&mut open(bytes).ok()?.lines(), "longestLeaseUs").ok()
}

/// The text of the file that keeps promises through a stop in good order. `clock` names what the
/// times count from, without spaces.
pub fn encode_promises(clock: &str, promises: &[Promise]) -> Vec<u8> {
    let mut text = format!("clock {clock}\n");
    for promise in promises {
        let Promise {
            leader,
            term,
            until_us,
        } = promise;
        writeln!(text, "promise {leader} {term} {until_us}").expect("a String takes every text");
    }
    seal(text)
}

/// Reads the file's text. `None`: it is damaged, or was written on another clock; then the
/// promises count as forgotten, which is always safe.
pub fn decode_promises(clock: &str, bytes: &[u8]) -> Option<Vec<Promise>> {
    let mut lines = open(bytes).ok()?.lines();
    if value(&mut lines, "clock").ok()? != clock {
        return None;
    }
    let promise = |line: &str| {
        let mut words = line.strip_prefix("promise ")?.split(' ');
        let mut number = || words.next()?.parse().ok();
        let promise = Promise {
            leader: number()?,
            term: number()?,
            until_us: number()?,
        };
        words.next().is_none().then_some(promise)
    };
    lines.map(promise).collect()
}

fn seal(mut text: String) -> Vec<u8> {
    let crc = crc32c::crc32c(text.as_bytes());
    writeln!(text, "crc {crc:08x}").expect("a String takes every text");
    text.into_bytes()
}

/// The text before a last line whose checksum fits it.
fn open(bytes: &[u8]) -> Result<&str, MetadataError> {
    let text = std::str::from_utf8(bytes).map_err(|_| MetadataError::Checksum)?;
    let sealed = text.rfind("crc ").and_then(|at| text.split_at_checked(at));
    let (covered, last) = sealed.ok_or(MetadataError::Checksum)?;
    // Compared as text: no other way of writing the same number is accepted.
    let expected = format!("crc {:08x}\n", crc32c::crc32c(covered.as_bytes()));
    if last == expected {
        Ok(covered)
    } else {
        Err(MetadataError::Checksum)
    }
}

fn value<'a>(
    lines: &mut std::str::Lines<'a>,
    name: &'static str,
) -> Result<&'a str, MetadataError> {
    let line = lines.next().unwrap_or_default();
    match line.split_once(' ') {
        Some((found, value)) if found == name => Ok(value),
        _ => Err(MetadataError::Line(name, line.to_owned())),
    }
}

fn parse(name: &'static str, value: &str) -> Result<u64, MetadataError> {
    value
        .parse()
        .map_err(|_| MetadataError::Line(name, format!("{name} {value}")))
}

fn number(lines: &mut std::str::Lines<'_>, name: &'static str) -> Result<u64, MetadataError> {
    parse(name, value(lines, name)?)
}
