//! `metadata.txt`, `mark.txt`, and the mark that a damaged log leaves behind.

use super::names::{decode_run, decode_runs, encode_runs};
use crate::command::{FORMAT_FIRST, FORMAT_NEWEST};
use crate::raft::{HardState, Ids, Index, Micros, Names, Promise, ReadsSince, Recovered, Term};
use std::fmt::Write as _;

/// What `metadata.txt` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Term and vote.
    pub hard_state: HardState,
    /// Commit index; may be behind.
    pub commit_index: Index,
    /// Applied index; may be behind.
    pub applied_index: Index,
    /// Entries up to here that damage cost were given up, and nobody was elected since. 0: none.
    pub accepted_until: Index,
    /// As many voters as this node may have promised something with. 0: not known.
    pub voters: u64,
    /// The format that the log has come to, or is about to. 0: the first.
    pub format: u64,
    /// Of the cluster and of the directory.
    pub ids: Ids,
    /// Since when the newest format is read here.
    pub reads: ReadsSince,
    /// To whom something is promised.
    pub names: Names,
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
    /// Of a later version.
    #[error("it is of format {0}, and this version reads up to {FORMAT_NEWEST}")]
    Format(u64),
}

impl Metadata {
    /// The file's text.
    pub fn encode(&self) -> Vec<u8> {
        let voted_for = match self.hard_state.voted_for {
            Some(node) => node.to_string(),
            None => NOBODY.to_owned(),
        };
        let format = match self.format {
            ..=FORMAT_FIRST => String::new(),
            format => format!("format {format} ({FORMAT_HINT})\n"),
        };
        let mut text = format!(
            "{format}currentTerm {}\nvotedFor {voted_for}\ncommitLength {}\nappliedLength {}\n",
            self.hard_state.term, self.commit_index, self.applied_index
        );
        // Versions that do not know a line ignore it, so it stands behind those they know.
        for (name, number) in [(VOTERS, self.voters), (ACCEPTED, self.accepted_until)] {
            if number > 0 {
                writeln!(text, "{name} {number}").expect("a String takes every text");
            }
        }
        for (name, id) in [
            (CLUSTER_ID, self.ids.cluster),
            (DIRECTORY_ID, self.ids.directory),
        ] {
            if id > 0 {
                writeln!(text, "{name} {id:032x}").expect("a String takes every text");
            }
        }
        let ReadsSince { format, index } = self.reads;
        if format > 0 {
            writeln!(text, "{READS} {format} {index}").expect("a String takes every text");
        }
        if let Names {
            by: by @ 1..,
            runs: Some(runs),
        } = &self.names
        {
            let runs = encode_runs(runs);
            writeln!(text, "{INCARNATION} {by:016x}\n{PROMISED} {runs}")
                .expect("a String takes every text");
        }
        seal(text)
    }

    /// Reads the file's text.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut lines = open(bytes)?.lines().peekable();
        let first = lines.next_if(|line| line.starts_with("format "));
        let format = first.map_or(Ok(0), parse_format)?;
        if format > FORMAT_NEWEST {
            return Err(MetadataError::Format(format));
        }
        let term = number(&mut lines, "currentTerm")?;
        let voted_for = match value(&mut lines, "votedFor")? {
            NOBODY => None,
            node => Some(parse("votedFor", node)?),
        };
        let mut metadata = Metadata {
            hard_state: HardState { term, voted_for },
            commit_index: number(&mut lines, "commitLength")?,
            applied_index: number(&mut lines, "appliedLength")?,
            accepted_until: 0,
            voters: 0,
            format,
            ids: Ids::default(),
            reads: ReadsSince::default(),
            names: Names::default(),
        };
        for line in lines {
            match line.split_once(' ') {
                Some((VOTERS, value)) => metadata.voters = parse(VOTERS, value)?,
                Some((ACCEPTED, value)) => metadata.accepted_until = parse(ACCEPTED, value)?,
                Some((CLUSTER_ID, value)) => metadata.ids.cluster = parse_id(CLUSTER_ID, value)?,
                Some((DIRECTORY_ID, value)) => {
                    metadata.ids.directory = parse_id(DIRECTORY_ID, value)?;
                }
                Some((READS, value)) => metadata.reads = parse_reads(value)?,
                Some((INCARNATION, value)) => metadata.names.by = decode_run(value).unwrap_or(0),
                Some((PROMISED, value)) => metadata.names.runs = decode_runs(value),
                _ => {} // Of a later version.
            }
        }
        Ok(metadata)
    }
}

/// What a version that does not know the line shows in its refusal.
const FORMAT_HINT: &str = "run the version that wrote it";

fn parse_format(line: &str) -> Result<u64, MetadataError> {
    let number = line.split(' ').nth(1).unwrap_or_default();
    parse("format", number)
}

fn parse_id(name: &'static str, value: &str) -> Result<u128, MetadataError> {
    let id = u128::from_str_radix(value, 16);
    id.map_err(|_| MetadataError::Line(name, format!("{name} {value}")))
}

fn parse_reads(value: &str) -> Result<ReadsSince, MetadataError> {
    let (format, index) = value.split_once(' ').unwrap_or((value, ""));
    Ok(ReadsSince {
        format: parse(READS, format)?,
        index: parse(READS, index)?,
    })
}

const READS: &str = "readsSince";
const INCARNATION: &str = "incarnation";
const PROMISED: &str = "promisedTo";
const CLUSTER_ID: &str = "clusterId";
const DIRECTORY_ID: &str = "directoryId";
const VOTERS: &str = "voters";
const ACCEPTED: &str = "acceptedUntil";

/// What `mark.txt` holds: facts that stay true, written over the old ones with the next flush and
/// without one of their own. So they may be behind; they are never ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Entries up to here were committed.
    pub commit_index: Index,
    /// Entries up to here were durable, so they may have been acknowledged.
    pub durable_index: Index,
    /// The term in which they were. Only in a later one they may be cut.
    pub term: Term,
    /// Of the work that wrote it: so that each mark differs from the one before.
    pub ticket: u64,
}

impl Mark {
    /// The file's text. Always of one length, so that it is written over in one piece.
    pub fn encode(&self) -> Vec<u8> {
        seal(format!(
            "commitLength {:020}\ndurableLength {:020}\ncurrentTerm {:020}\nflush {:020}\n",
            self.commit_index, self.durable_index, self.term, self.ticket
        ))
    }

    /// Reads the file's text. `None`: it can't be read, and says nothing.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = open(bytes).ok()?.lines();
        Some(Mark {
            commit_index: number(&mut lines, "commitLength").ok()?,
            durable_index: number(&mut lines, "durableLength").ok()?,
            term: number(&mut lines, "currentTerm").ok()?,
            ticket: number(&mut lines, "flush").ok()?,
        })
    }
}

/// In place of a node's id.
const NOBODY: &str = "NULL";

/// The text of the file that remembers how far a damaged log had reached, and the term in which
/// the node was when that was found.
pub(super) fn encode_damage(until: Index, term: Term) -> Vec<u8> {
    seal(format!("damagedUntil {until}\ndamagedTerm {term}\n"))
}

/// Versions before this one wrote no term.
pub(super) fn decode_damage(bytes: &[u8]) -> Result<(Index, Option<Term>), MetadataError> {
    let mut lines = open(bytes)?.lines();
    let until = number(&mut lines, "damagedUntil")?;
    Ok((until, number(&mut lines, "damagedTerm").ok()))
}

/// What `refused.txt` holds: the leader that this node refused to follow, because it lacks what is
/// committed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedLeader {
    /// The log of that leader equals the own one so far.
    pub keep: Index,
    /// Its term.
    pub term: Term,
    /// Up to here entries were committed here.
    pub committed: Index,
}

impl RefusedLeader {
    /// The file's text.
    pub fn encode(&self) -> Vec<u8> {
        seal(format!(
            "refusedAfter {}\nrefusedTerm {}\ncommitLength {}\n",
            self.keep, self.term, self.committed
        ))
    }

    /// Reads the file's text. `None`: it is damaged, or of a version that wrote no term. Then it says
    /// nothing: a node that starts without it refuses that leader once more, and writes it anew.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = open(bytes).ok()?.lines();
        Some(RefusedLeader {
            keep: number(&mut lines, "refusedAfter").ok()?,
            term: number(&mut lines, "refusedTerm").ok()?,
            committed: number(&mut lines, "commitLength").ok()?,
        })
    }

    /// Whether the node is where it was when it refused. The commit on record may be behind.
    pub fn stands(&self, recovered: &Recovered) -> bool {
        recovered.hard_state.term == self.term && recovered.commit_index <= self.committed
    }
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
            ..
        } = promise;
        writeln!(text, "promise {leader} {term} {until_us}").expect("a String takes every text");
    }
    seal(text)
}

/// Whether the text of kept promises is damaged, whatever clock it was written on.
pub fn promises_are_damaged(bytes: &[u8]) -> bool {
    open(bytes).is_err()
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
            // `metadata.txt` names those that something is promised to.
            incarnation: 0,
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
    lines: &mut impl Iterator<Item = &'a str>,
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

fn number<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    name: &'static str,
) -> Result<u64, MetadataError> {
    parse(name, value(lines, name)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Format};
    use crate::raft::Entry;
    use crate::wal::{Files, LogWriter, RecoverError, recover};
    use std::sync::Arc;

    /// Goal: what older versions wrote is read, and what they do not know stands where they do not look.
    #[test]
    fn metadata_of_other_versions_is_read() {
        let old = b"currentTerm 7\nvotedFor 2\ncommitLength 5\nappliedLength 4\n";
        let sealed = |text: &[u8]| {
            [
                text,
                format!("crc {:08x}\n", crc32c::crc32c(text)).as_bytes(),
            ]
            .concat()
        };
        let decoded = Metadata::decode(&sealed(old)).unwrap();
        assert_eq!((decoded.hard_state.term, decoded.commit_index), (7, 5));
        assert_eq!((decoded.voters, decoded.accepted_until), (0, 0));
        let later = Metadata {
            voters: 3,
            accepted_until: 9,
            ..decoded.clone()
        };
        assert!(later.encode().starts_with(old));
        // A format stands where those who do not know it look for another line, and show what they find.
        let raised = Metadata {
            format: 2,
            ..decoded.clone()
        };
        let raised = raised.encode();
        assert!(raised.starts_with(b"format 2 (run the version that wrote it)\ncurrentTerm 7\n"));
        assert_eq!(Metadata::decode(&raised).unwrap().format, 2);
        let unknown = [&old[..], b"voters 3\nmoonPhase full\nacceptedUntil 9\n"].concat();
        assert_eq!(Metadata::decode(&sealed(&unknown)), Ok(later));
    }

    // A refusal is read as it was written, and stands until the term changes or more is committed.
    #[test]
    fn a_refusal_stands_for_a_while() {
        let refused = RefusedLeader {
            keep: 3,
            term: 7,
            committed: 5,
        };
        let text = refused.encode();
        assert!(text.starts_with(b"refusedAfter 3\nrefusedTerm 7\ncommitLength 5\ncrc "));
        assert_eq!(RefusedLeader::decode(&text), Some(refused));
        for (term, commit_index, stands) in [
            (7, 5, true),
            (7, 4, true),
            (7, 6, false),
            (8, 5, false),
            (6, 6, false),
        ] {
            let recovered = Recovered {
                hard_state: HardState {
                    term,
                    voted_for: None,
                },
                commit_index,
                ..Recovered::default()
            };
            assert_eq!(refused.stands(&recovered), stands, "{term} {commit_index}");
        }
    }

    // Whether promises are damaged does not depend on the clock that they were made on.
    #[test]
    fn promises_of_another_clock_are_not_damaged() {
        let mut text = encode_promises("boot/time", &[]);
        assert!(!promises_are_damaged(&text));
        assert_eq!(decode_promises("other/time", &text), None);
        text[0] ^= 1;
        assert!(promises_are_damaged(&text));
    }

    // A line is known by its name: a value under another one counts for nothing.
    #[test]
    fn a_value_is_known_by_its_name() {
        assert_eq!(decode_lease(&encode_lease(5)), Some(5));
        assert_eq!(decode_lease(&seal("shortestLeaseUs 5\n".into())), None);
    }

    // What is of a later format is left alone, and by name: whether metadata.txt names it or the log.
    #[test]
    fn a_later_format_is_refused() {
        let later = FORMAT_NEWEST + 1;
        let (mut log, mut logs) = (LogWriter::default(), Vec::new());
        let raise = Entry {
            index: 1,
            term: 1,
            command: Arc::new(Command::Format(Format {
                version: later,
                ..Format::default()
            })),
        };
        log.append(&raise, &mut logs);
        let named = Metadata {
            format: later,
            ..Metadata::default()
        };
        for (metadata, logs) in [(named, &[][..]), (Metadata::default(), &logs[..])] {
            let refused = recover(Files {
                logs: Some(logs),
                metadata: Some(&metadata.encode()),
                ..Files::default()
            });
            assert_eq!(refused.unwrap_err(), RecoverError::Format(later));
        }
    }
}
