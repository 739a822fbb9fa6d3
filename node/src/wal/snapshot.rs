//! `snapshot.txt`: the state up to one entry, in the notation of `logs.txt`.
//!
//! ```text
//! SNAPSHOT 1200 3  index=1200 log=5f1c0a77 cluster=5d3c...e1 members=3 sessions=1 keys=2 evicted=0 format=2 crc=0b64e2d1
//! MEMBER 1  index=7 crc=1f52bd4e
//! MEMBER 2  index=7 crc=542e1355
//! MEMBER 3  index=7 crc=64741586
//! SESSION 3f9a1c20  used=1198 dropped=0 since=0 results=3 crc=c9d40410
//! DONE SET  sequence=1 digest=ee0b1c4a9f3d2b74 crc=7391f044
//! DONE DEL true  sequence=2 digest=3aa2c6ddfe021455 crc=f79c1f78
//! DONE CAS false  sequence=4 digest=49e1a97f5a5c7aba crc=480b17a2
//! SET name1 Jaggu  crc=330f3d92
//! SET "two words" "line\nbreak"  crc=1f52bd4e
//! END 1200 3  index=1200 crc=542e1355
//! ```
//!
//! * The numbers of the first and last line are the index and the term of the last entry that is in
//!   the state. `log` is the checksum of that entry's line in `logs.txt`: what follows it there goes
//!   on from it, so a log that is cut is byte for byte the rest of the one that it was.
//! * `cluster` is the cluster's id (`NULL`: it has none), `MEMBER` a member of it; its index is that of the
//!   entry that made it one: the one that began the format.
//! * `MEMBERS` is the configuration as in `logs.txt`, with the entry that made it. It is left out where the log
//!   names none.
//! * `SESSION` is a client's session, `DONE` a write that it remembers, with what that found: whether
//!   the key was there, whether the value was swapped. `evicted` and `since` tell which requests
//!   could be older than any session (see `kv`).
//! * `crc` goes on from line to line as in `logs.txt`, beginning at 0. So that of the last line is
//!   over all of the text, and as the text is a function of the log alone, it is the *hash of the
//!   state*: nodes with the same index have the same, or one of them is wrong.
//!
//! [`SnapshotWriter`] makes the text piece by piece, [`SnapshotReader`] takes it in pieces of any
//! size: neither holds all of it.

use super::text::{self, CRC_DIGITS};
use crate::command::{Members, cluster_text, parse_cluster};
use crate::kv::{Import, ImportError, Key, Record, SessionRecord, StateHead, Store, WriteResult};
use crate::raft::{Index, SnapshotId, Term};
use std::fmt::Write as _;
use std::sync::Arc;

/// A longer line was never written: a value has at most 1 MiB, and each byte six characters.
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What the first line tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Of the state.
    pub state: StateHead,
    /// Term of the last entry that is in the state.
    pub term: Term,
    /// Checksum of that entry's line in `logs.txt`.
    pub log_crc: u32,
}

/// Why a text is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct SnapshotError {
    /// From 1.
    pub line: u64,
    /// What is wrong there.
    pub what: SnapshotFault,
}

/// What may be wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFault {
    /// The checksum does not fit.
    #[error("its checksum does not fit")]
    Checksum,
    /// The checksum fits, but it is not a line of this format.
    #[error("not a line that this version writes")]
    Line,
    /// The lines do not make a state.
    #[error(transparent)]
    State(#[from] ImportError),
    /// There is something behind the last line.
    #[error("something stands behind the end")]
    Behind,
    /// The last line is missing.
    #[error("the text ends before its last line")]
    Short,
}

/// A snapshot that was read.
#[derive(Debug)]
pub struct Restored {
    /// Which one.
    pub id: SnapshotId,
    /// Its first line.
    pub head: SnapshotHead,
    /// The state.
    pub store: Store,
}

/// Makes the text of a snapshot.
#[derive(Debug)]
pub struct SnapshotWriter {
    head: SnapshotHead,
    crc: u32,
    bytes: u64,
    line: String,
}

impl SnapshotWriter {
    /// Writes the first line.
    pub fn begin(head: SnapshotHead, out: &mut Vec<u8>) -> Self {
        let mut writer = SnapshotWriter {
            head,
            crc: 0,
            bytes: 0,
            line: String::new(),
        };
        let (index, term) = (head.state.applied_index, head.term);
        let StateHead {
            evicted_until,
            sessions,
            keys,
            format,
            cluster,
            members,
            ..
        } = head.state;
        let log = head.log_crc;
        let cluster = cluster_text(cluster);
        writer.put(
            format_args!(
                "SNAPSHOT {index} {term}\tindex={index} log={log:08x} cluster={cluster} \
                 members={members} sessions={sessions} keys={keys} evicted={evicted_until} format={format} "
            ),
            out,
        );
        writer
    }

    /// Writes the line of a record.
    pub fn record(&mut self, record: &Record, out: &mut Vec<u8>) {
        match record {
            Record::Member { id, since } => {
                self.put(format_args!("MEMBER {id}\tindex={since} "), out);
            }
            Record::Members { members, since } => {
                let members = members.text();
                self.put(format_args!("MEMBERS {members}\tindex={since} "), out);
            }
            Record::Session(SessionRecord {
                client_id,
                last_used,
                dropped_until,
                not_before,
                results,
            }) => self.put(
                format_args!(
                    "SESSION {client_id:x}\tused={last_used} dropped={dropped_until} \
                     since={not_before} results={results} "
                ),
                out,
            ),
            Record::Result {
                sequence,
                digest,
                result,
            } => {
                let found = match result {
                    WriteResult::Set => "SET",
                    WriteResult::Deleted { existed: true } => "DEL true",
                    WriteResult::Deleted { existed: false } => "DEL false",
                    WriteResult::Swapped { swapped: true } => "CAS true",
                    WriteResult::Swapped { swapped: false } => "CAS false",
                };
                self.put(
                    format_args!("DONE {found}\tsequence={sequence} digest={digest:016x} "),
                    out,
                );
            }
            Record::Key { key, value } => {
                let start = out.len();
                text::words(out, "SET", &[key.as_str(), value]);
                out.push(b'\t');
                self.seal(start, out);
            }
        }
    }

    /// Writes the last line. Returns the name of what was written.
    pub fn end(mut self, out: &mut Vec<u8>) -> SnapshotId {
        let (index, term) = (self.head.state.applied_index, self.head.term);
        self.put(format_args!("END {index} {term}\tindex={index} "), out);
        SnapshotId {
            index,
            term,
            format: self.head.state.format,
            hash: self.crc,
            bytes: self.bytes,
        }
    }

    fn put(&mut self, line: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.line.clear();
        self.line
            .write_fmt(line)
            .expect("a String takes every text");
        out.extend_from_slice(self.line.as_bytes());
        self.seal(start, out);
    }

    /// Ends the line that begins at `start` with its checksum.
    fn seal(&mut self, start: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"crc=");
        self.crc = crc32c::crc32c_append(self.crc, &out[start..]);
        text::put(out, format_args!("{:08x}\n", self.crc));
        self.bytes += (out.len() - start) as u64;
    }
}

/// Takes in the text of a snapshot, in pieces of any size.
#[derive(Debug, Default)]
pub struct SnapshotReader {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    lines: u64,
    crc: u32,
    bytes: u64,
    state: Option<(SnapshotHead, Import)>,
    ended: bool,
}

impl SnapshotReader {
    /// How many bytes were taken in.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first line, once it was taken in.
    pub fn head(&self) -> Option<SnapshotHead> {
        self.state.as_ref().map(|(head, _)| *head)
    }

    /// Takes in what follows.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = text::first_line(rest);
            rest = &rest[piece.len()..];
            if self.begun.len() + piece.len() > LINE_BYTES_MAX {
                return Err(self.fault(SnapshotFault::Line));
            }
            match piece.strip_suffix(b"\n") {
                None => self.begun.extend_from_slice(piece),
                Some(end) if self.begun.is_empty() => self.line(end)?,
                Some(end) => {
                    let mut line = std::mem::take(&mut self.begun);
                    line.extend_from_slice(end);
                    self.line(&line)?;
                    // Its room is used again.
                    line.clear();
                    self.begun = line;
                }
            }
        }
        Ok(())
    }

    /// The state, if the text was whole.
    pub fn finish(self) -> Result<Restored, SnapshotError> {
        if !self.ended || !self.begun.is_empty() {
            let what = match self.ended {
                true => SnapshotFault::Behind,
                false => SnapshotFault::Short,
            };
            return Err(self.fault(what));
        }
        let (line, hash, bytes) = (self.lines, self.crc, self.bytes);
        let fault = |what| SnapshotError { line, what };
        let (head, import) = self.state.ok_or_else(|| fault(SnapshotFault::Short))?;
        let store = import.finish().map_err(|error| fault(error.into()))?;
        let id = SnapshotId {
            index: head.state.applied_index,
            term: head.term,
            format: head.state.format,
            hash,
            bytes,
        };
        Ok(Restored { id, head, store })
    }

    /// About the line after the last whole one.
    fn fault(&self, what: SnapshotFault) -> SnapshotError {
        let line = self.lines + 1;
        SnapshotError { line, what }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), SnapshotError> {
        if self.ended {
            return Err(self.fault(SnapshotFault::Behind));
        }
        let (covered, crc) = split(line).ok_or_else(|| self.fault(SnapshotFault::Checksum))?;
        if crc32c::crc32c_append(self.crc, covered) != crc {
            return Err(self.fault(SnapshotFault::Checksum));
        }
        let parsed = parse(covered).ok_or_else(|| self.fault(SnapshotFault::Line))?;
        let taken = match (parsed, &mut self.state) {
            (Line::Head(head), None) => Import::new(head.state)
                .map(|import| self.state = Some((head, import)))
                .map_err(SnapshotFault::State),
            (Line::Record(record), Some((_, import))) => {
                import.take(record).map_err(SnapshotFault::State)
            }
            (Line::End { index, term }, Some((head, _)))
                if (index, term) == (head.state.applied_index, head.term) =>
            {
                self.ended = true;
                Ok(())
            }
            _ => Err(SnapshotFault::Line),
        };
        taken.map_err(|what| self.fault(what))?;
        self.crc = crc;
        self.lines += 1;
        Ok(())
    }
}

/// Looks whether a text is that of a snapshot, by nothing but its checksums.
#[derive(Debug, Default)]
pub struct SnapshotLook {
    begun: Vec<u8>,
    crc: u32,
    bytes: u64,
    differs: bool,
}

impl SnapshotLook {
    /// Takes in what follows.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = text::first_line(rest);
            rest = &rest[piece.len()..];
            self.begun.extend_from_slice(piece);
            if self.begun.len() > LINE_BYTES_MAX {
                self.differs = true;
                self.begun.clear();
            }
            let Some(line) = self.begun.strip_suffix(b"\n") else {
                continue;
            };
            match split(line) {
                Some((covered, crc)) => {
                    self.crc = crc32c::crc32c_append(self.crc, covered);
                    self.differs |= self.crc != crc;
                }
                None => self.differs = true,
            }
            self.begun.clear();
        }
    }

    /// Whether all that was taken in is this snapshot.
    pub fn is(&self, snapshot: SnapshotId) -> bool {
        let same = (self.crc, self.bytes) == (snapshot.hash, snapshot.bytes);
        same && !self.differs && self.begun.is_empty()
    }
}

/// What the checksum covers, and the checksum.
fn split(line: &[u8]) -> Option<(&[u8], u32)> {
    let (covered, digits) = line.split_at_checked(line.len().checked_sub(CRC_DIGITS)?)?;
    Some((covered, text::parse_crc(digits)?))
}

enum Line {
    Head(SnapshotHead),
    Record(Record),
    End { index: Index, term: Term },
}

fn parse(covered: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(covered.strip_suffix(b"crc=")?).ok()?;
    let (human, machine) = text.split_once('\t')?;
    let (verb, words) = human.split_once(' ')?;
    if verb == "SET" {
        let [key, value] = text::two_words(words)?;
        let (key, value) = (Key::from(&*key), value.into());
        return machine
            .is_empty()
            .then_some(Line::Record(Record::Key { key, value }));
    }
    let mut fields = Fields(machine.strip_suffix(' ')?.split(' '));
    let line = match verb {
        "SNAPSHOT" => Line::Head(head(words, &mut fields)?),
        "MEMBER" => Line::Record(Record::Member {
            id: words.parse().ok()?,
            since: fields.number("index")?,
        }),
        "MEMBERS" => Line::Record(Record::Members {
            members: Arc::new(Members::parse(words)?),
            since: fields.number("index")?,
        }),
        "SESSION" => Line::Record(Record::Session(SessionRecord {
            client_id: u64::from_str_radix(words, 16).ok()?,
            last_used: fields.number("used")?,
            dropped_until: fields.number("dropped")?,
            not_before: fields.number("since")?,
            results: fields.number("results")?,
        })),
        "DONE" => Line::Record(Record::Result {
            result: match words {
                "SET" => WriteResult::Set,
                "DEL true" => WriteResult::Deleted { existed: true },
                "DEL false" => WriteResult::Deleted { existed: false },
                "CAS true" => WriteResult::Swapped { swapped: true },
                "CAS false" => WriteResult::Swapped { swapped: false },
                _ => return None,
            },
            sequence: fields.number("sequence")?,
            digest: u64::from_str_radix(fields.text("digest")?, 16).ok()?,
        }),
        "END" => {
            let (index, term) = place(words, &mut fields)?;
            Line::End { index, term }
        }
        _ => return None,
    };
    fields.0.next().is_none().then_some(line)
}

fn head(words: &str, fields: &mut Fields<'_>) -> Option<SnapshotHead> {
    let (applied_index, term) = place(words, fields)?;
    let log_crc = text::parse_crc(fields.text("log")?.as_bytes())?;
    let cluster = parse_cluster(fields.text("cluster")?)?;
    let members = fields.number("members")?;
    let (sessions, keys) = (fields.number("sessions")?, fields.number("keys")?);
    let state = StateHead {
        applied_index,
        evicted_until: fields.number("evicted")?,
        cluster,
        members,
        sessions,
        keys,
        format: fields.number("format")?,
    };
    Some(SnapshotHead {
        state,
        term,
        log_crc,
    })
}

/// Index and term, of which the index is told twice: for people and for machines.
pub(super) fn place(words: &str, fields: &mut Fields<'_>) -> Option<(Index, Term)> {
    let (index, term) = words.split_once(' ')?;
    let (index, term) = (index.parse().ok()?, term.parse().ok()?);
    (fields.number("index")? == index).then_some((index, term))
}

/// The `name=value` behind a tab, in their order.
pub(super) struct Fields<'a>(pub(super) std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    pub(super) fn text(&mut self, name: &str) -> Option<&'a str> {
        self.0.next()?.strip_prefix(name)?.strip_prefix('=')
    }

    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

#[cfg(test)]
mod tests;
