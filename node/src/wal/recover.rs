//! What the files of a node say when it starts.
//!
//! A crash leaves the log with a *torn tail*: the last write got to the disk in part, so the file
//! ends within a line, or in bytes of zero that were never filled, or has a *hole* of such zeros,
//! because its sectors got there in any order. Nobody was told that such a line is durable, so it
//! is cut off, unless [`Mark`] or the commit on record say that it was. Nothing is cut off that is
//! there in full: the checksum of a line does not cover its newline, so where only that is changed or
//! missing, the entry is known, and the byte is written anew ([`Mend`]). So is the first line of a log
//! that was cut, where the snapshot tells what it must have been. Everything else that does not fit is
//! *damage*: entries that this node had acknowledged may be gone. What is before it is kept; until the node has been
//! refilled it must neither vote nor lead ([`Recovered::damaged_until`]), or a committed entry
//! could be lost. Where the two cannot be told apart, it counts as damage: that costs a refill
//! from the leader, the other mistake would cost data.

use super::metadata::{self, Mark, Metadata, MetadataError};
use super::snapshot::{Restored, SnapshotError};
use super::{LogBase, LogWriter, base, text};
use crate::command::{Command, FORMAT_FIRST, FORMAT_MEMBERS, FORMAT_NEWEST};
use crate::kv::Store;
use crate::raft::{Entry, Index, LEASE_US_MAX, Recovered, SnapshotId, Term};

/// What was read from the node's directory. `None`: no such file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// `logs.txt`
    pub logs: Option<&'a [u8]>,
    /// `metadata.txt`
    pub metadata: Option<&'a [u8]>,
    /// `damaged.txt`: left by an earlier start that found damage.
    pub damaged: Option<&'a [u8]>,
    /// `mark.txt`
    pub mark: Option<&'a [u8]>,
}

/// What a node starts from.
#[derive(Debug)]
pub struct Recovery {
    /// For the consensus core.
    pub recovered: Recovered,
    /// What the snapshot held, or an empty one.
    pub store: Store,
    /// Goes on behind the recovered entries.
    pub log: LogWriter,
    /// Cut `logs.txt` to this length before the first append.
    pub log_bytes: u64,
    /// Then write these bytes.
    pub mends: Vec<Mend>,
    /// The torn tail that is to be cut off, for the operator.
    pub torn: Option<TornTail>,
    /// Damage that was found now.
    pub damage: Option<Damage>,
    /// What is to be done with `damaged.txt`.
    pub damage_mark: DamageMark,
    /// Damage up to here was given up by an operator. 0: none.
    pub accepted_until: Index,
    /// Files whose loss costs something, but no entry and no vote.
    pub lost_notes: Vec<LostNote>,
}

/// A small file that is missing or can't be read, and what is done without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostNote {
    /// `mark.txt`
    #[error(
        "mark.txt is damaged: a last line of logs.txt that is not whole counts as damage, not as a \
         write that a crash cut short"
    )]
    Mark,
    /// `lease.txt`
    #[error(
        "lease.txt is missing or damaged: for the longest lease that there is (10 s) this node counts \
         as having promised it to anyone"
    )]
    Lease,
    /// `promises.txt`
    #[error(
        "promises.txt is damaged: the promises of the former run count as forgotten, so for a lease \
         this node counts as having promised it to anyone"
    )]
    Promises,
    /// `refused.txt`
    #[error(
        "refused.txt is damaged, and says nothing: a leader that lacks what is committed here is \
         refused once more"
    )]
    Refused,
}

/// Bytes of `logs.txt` that are known, although they were changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    /// Line in `logs.txt`, from 1.
    pub line: u64,
    /// Where in the file.
    pub offset: u64,
    /// What must stand there.
    pub bytes: Vec<u8>,
}

/// A last write that a crash cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Line in `logs.txt`, from 1.
    pub line: u64,
    /// From there to the end of the file.
    pub bytes: u64,
}

/// A log that lost entries it had held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first line of `logs.txt` that can't be used, from 1.
    pub line: u64,
    /// Entries up to here may have been acknowledged.
    pub until: Index,
    /// Not the log, but the snapshot that its first line names: with it all is lost.
    pub snapshot: Option<SnapshotDamage>,
}

/// Why a log can't go on from the snapshot that its first line names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotDamage {
    /// There is none.
    #[error("snapshot.txt is missing")]
    Missing,
    /// It can't be read.
    #[error("snapshot.txt is damaged at {0}")]
    Damaged(#[from] SnapshotError),
    /// It is another one.
    #[error("snapshot.txt is not the one that the first line of logs.txt names")]
    Another,
    /// Nobody knows which one it must be.
    #[error("the first line of logs.txt can't be read, and no snapshot tells what it was")]
    FirstLine,
}

/// The fate of `damaged.txt`, which keeps a node that is restarted before it was refilled from
/// voting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageMark {
    /// Leave it as it is, or absent.
    Keep,
    /// Make it durable with this content, before `logs.txt` is cut.
    Write(Vec<u8>),
    /// The log has been refilled since: remove it.
    Remove,
}

/// Why a node must not start from these files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// There is a log, but no term and vote.
    #[error(
        "metadata.txt is missing but logs.txt is there: without its term and vote this node could \
         elect a second leader; put the file back, or empty the directory only if the node's vote \
         is given up for good"
    )]
    MetadataMissing,
    /// Term and vote can't be read.
    #[error(
        "metadata.txt is damaged ({0}): without its term and vote this node could elect a second \
         leader; put back a good copy, or empty the directory only if the node's vote is given up \
         for good"
    )]
    MetadataDamaged(MetadataError),
    /// The node has run, but its log is gone.
    #[error(
        "logs.txt is missing but metadata.txt says that this node has run (term {term}): put the \
         file back, or empty the directory only if the node's vote is given up for good"
    )]
    LogsMissing {
        /// Term in metadata.txt.
        term: u64,
    },
    /// Its log may hold what this version does not read.
    #[error(
        "its files are of format {0}, and this version reads up to {FORMAT_NEWEST}: run the version \
         that wrote them; nothing was changed"
    )]
    Format(u64),
    /// How far the damage of an earlier start reached can't be read.
    #[error(
        "damaged.txt is itself damaged ({0}): it says how far a damaged log had reached; put back \
         a good copy, or empty the directory only if the node's vote is given up for good"
    )]
    DamageMarkDamaged(MetadataError),
}

/// Makes sense of the files of a node whose log was never cut.
pub fn recover(files: Files<'_>) -> Result<Recovery, RecoverError> {
    recover_behind(None, files)
}

/// Makes sense of a node's files. `snapshot` is what became of reading `snapshot.txt`, where the
/// log's first line ([`LogBase::read`]) says that there must be one, or the log
/// [goes on from it](goes_on_from).
pub fn recover_behind(
    snapshot: Option<Result<Restored, SnapshotError>>,
    files: Files<'_>,
) -> Result<Recovery, RecoverError> {
    let mut metadata = read_metadata(files)?;
    let mark_lost = files.mark.is_some_and(mark_is_lost);
    let mark = files.mark.and_then(Mark::decode);
    let mark_commit_index = mark.map_or(0, |mark| mark.commit_index);
    metadata.commit_index = metadata.commit_index.max(mark_commit_index);
    // In a later term a version that knows no marks may have cut what was durable.
    let marked = mark.filter(|mark| mark.term >= metadata.hard_state.term);
    let marked = marked.map(|mark| mark.durable_index);
    let durable = metadata.commit_index.max(marked.unwrap_or(0));
    let before = files.damaged.map(metadata::decode_damage).transpose();
    let before = before.map_err(RecoverError::DamageMarkDamaged)?;
    let (mark, mark_term) = before.unwrap_or_default();
    let logs = files.logs.unwrap_or_default();
    let Begin {
        base,
        store,
        damage: lost,
        mend: first_line,
    } = begin(logs, snapshot);
    let Scan {
        entries,
        log,
        bytes,
        mends,
    } = match lost {
        None => scan(logs, base.as_ref()),
        Some(_) => Scan::default(),
    };
    let base = base.filter(|_| lost.is_none());
    let formats = entries.iter().map(|entry| match &*entry.command {
        Command::Format(format) => format.version,
        Command::Members(_) => FORMAT_MEMBERS,
        Command::NoOp | Command::Write(_) => FORMAT_FIRST,
    });
    let formats = formats.chain(base.map(|base| base.snapshot.format));
    if let Some(format) = formats.max().filter(|format| *format > FORMAT_NEWEST) {
        return Err(RecoverError::Format(format));
    }
    let last = log.last_index();
    let rest = logs.get(bytes..).unwrap_or_default();
    let tail = match judge_tail(rest, last, log.end().crc) {
        // Whatever it looks like, this was durable.
        Tail::Torn { .. } if last < durable => Tail::Clean,
        // Nobody says any more that it was not.
        Tail::Torn { .. } if mark_lost && !written(rest).is_empty() => Tail::Damaged {
            until: last + entries_in(written(rest)).max(1),
        },
        // Without a mark nobody vouches that what the hole took was not durable yet.
        Tail::Damaged { .. } if marked.is_some() && last >= durable && has_hole(rest, bytes) => {
            let bytes = rest.len() as u64;
            Tail::Torn { bytes }
        }
        tail => tail,
    };
    // A log that ends before the commit on record is no news while the mark says so, nor is it
    // that the write which refills it was torn.
    let whole = !matches!(tail, Tail::Damaged { .. });
    let known = |damage: &Damage| whole && damage.until <= mark;
    let line = last + 1 - base.map_or(0, |base| base.snapshot.index - 1);
    let damage = damage_of(&tail, last, durable, line);
    let damage = match lost {
        None => damage.filter(|damage| !known(damage)),
        Some((until, why)) => Some(Damage {
            line: 1,
            until: until.max(damage.map_or(0, |damage| damage.until)),
            snapshot: Some(why),
        }),
    };
    let torn = match tail {
        Tail::Torn { bytes } if damage.is_none() => Some(TornTail { line, bytes }),
        _ => None,
    };

    let recovered = recovered(metadata, base.map(|base| base.snapshot), entries);
    let term = recovered.hard_state.term;
    let mark_term = mark_term.unwrap_or(term);
    // See [`Recovered::damaged_until`].
    let outlived = term_at(&recovered, recovered.commit_index) > mark_term;
    let reached = last >= mark;
    let refilled = damage.is_none() && (reached || outlived);
    let damaged_until = match &damage {
        Some(damage) => damage.until.max(mark),
        None if refilled => 0,
        None => mark,
    };
    let damaged_term = match &damage {
        Some(_) => term,
        None => mark_term,
    };
    let damage_mark = match files.damaged {
        Some(_) if refilled => DamageMark::Remove,
        _ if damage.is_some() => {
            DamageMark::Write(metadata::encode_damage(damaged_until, damaged_term))
        }
        _ => DamageMark::Keep,
    };
    Ok(Recovery {
        recovered: Recovered {
            damaged_until,
            damaged_term,
            never_ran: recovered.never_ran && damaged_until == 0,
            ..recovered
        },
        store,
        log,
        log_bytes: bytes as u64,
        mends: first_line.into_iter().chain(mends).collect(),
        torn,
        damage,
        damage_mark,
        accepted_until: 0,
        lost_notes: mark_lost.then_some(LostNote::Mark).into_iter().collect(),
    })
}

/// What precedes the entries of a log.
#[derive(Default)]
struct Begin {
    base: Option<LogBase>,
    store: Store,
    /// The state that precedes it is lost: up to which entry, and why.
    damage: Option<(Index, SnapshotDamage)>,
    mend: Option<Mend>,
}

fn begin(logs: &[u8], snapshot: Option<Result<Restored, SnapshotError>>) -> Begin {
    let Some((base, _)) = LogBase::read(logs) else {
        return begin_without_base(logs, snapshot.and_then(Result::ok));
    };
    let found = match snapshot {
        None => Err(SnapshotDamage::Missing),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(found)) if base_of(&found) == base => Ok(found.store),
        Some(Ok(_)) => Err(SnapshotDamage::Another),
    };
    let (store, damage) = match found {
        Ok(store) => (store, None),
        Err(damage) => (Store::default(), Some((base.snapshot.index, damage))),
    };
    Begin {
        base: Some(base),
        store,
        damage,
        mend: None,
    }
}

fn begin_without_base(logs: &[u8], snapshot: Option<Restored>) -> Begin {
    match snapshot {
        Some(found) if goes_on_from(logs, &found) => {
            let base = base_of(&found);
            let mend = Mend {
                line: 1,
                offset: 0,
                bytes: base.encode(),
            };
            Begin {
                base: Some(base),
                store: found.store,
                damage: None,
                mend: Some(mend),
            }
        }
        found if base::is_cut(logs) => Begin {
            // A log is cut behind an entry.
            damage: Some((
                found.map_or(1, |found| found.id.index),
                SnapshotDamage::FirstLine,
            )),
            ..Begin::default()
        },
        _ => Begin::default(),
    }
}

fn base_of(found: &Restored) -> LogBase {
    LogBase {
        snapshot: found.id,
        log_crc: found.head.log_crc,
    }
}

/// Whether this log was cut, its first line can't be read, and it goes on from this snapshot for
/// certain: the checksum of the next line does, or nothing but one byte of the first is another.
pub fn goes_on_from(logs: &[u8], found: &Restored) -> bool {
    let base = base_of(found);
    let line = base.encode();
    let Some((first, rest)) = logs.split_at_checked(line.len()) else {
        return false;
    };
    if LogBase::read(logs).is_some() {
        return false;
    }
    let next = rest.split_inclusive(|&byte| byte == b'\n').next();
    let next = next.and_then(|next| whole_line(next, base.log_crc));
    let follows = next.is_some_and(|next| next.entry.index == base.snapshot.index + 1);
    let differ = first.iter().zip(&line).filter(|(is, was)| is != was);
    follows || differ.count() == 1
}

/// Whether there was a mark that can't be read. Zeros are what a file has that was never flushed.
fn mark_is_lost(mark: &[u8]) -> bool {
    !written(mark).is_empty() && Mark::decode(mark).is_none()
}

fn read_metadata(files: Files<'_>) -> Result<Metadata, RecoverError> {
    match files.metadata {
        Some(bytes) => {
            let metadata = Metadata::decode(bytes).map_err(|error| match error {
                MetadataError::Format(format) => RecoverError::Format(format),
                error => RecoverError::MetadataDamaged(error),
            })?;
            // At the first start metadata.txt is made before logs.txt.
            if files.logs.is_none() && metadata != Metadata::default() {
                let term = metadata.hard_state.term;
                return Err(RecoverError::LogsMissing { term });
            }
            Ok(metadata)
        }
        None if files.logs.is_some() => Err(RecoverError::MetadataMissing),
        None => Ok(Metadata::default()),
    }
}

impl Recovery {
    /// An operator has given up what damage cost, and up to which index entries that a leader lacks
    /// may be cut: `keep`, where this node refused it. Returns what `metadata.txt` must say then,
    /// and `mark.txt` must be gone, or the log would count as damaged again.
    pub fn accept(&mut self, keep: Option<Index>) -> Metadata {
        let recovered = &mut self.recovered;
        let damaged_until = std::mem::take(&mut recovered.damaged_until);
        if damaged_until > 0 {
            self.accepted_until = damaged_until;
            recovered.accepted_until = damaged_until;
        }
        if let Some(keep) = keep {
            recovered.commit_index = recovered.commit_index.min(keep);
        }
        Metadata {
            hard_state: recovered.hard_state,
            commit_index: recovered.commit_index,
            applied_index: recovered.commit_index,
            accepted_until: recovered.accepted_until,
            voters: recovered.voters,
            format: recovered.format,
            ids: recovered.ids,
            reads: recovered.reads,
            names: recovered.names.clone(),
        }
    }
}

fn term_at(recovered: &Recovered, index: Index) -> Term {
    let base = recovered.snapshot.unwrap_or_default();
    match index.checked_sub(base.index) {
        None => 0,
        Some(0) => base.term,
        Some(behind) => {
            let entry = recovered.entries.get(behind as usize - 1);
            entry.map_or(0, |entry| entry.term)
        }
    }
}

fn recovered(metadata: Metadata, snapshot: Option<SnapshotId>, entries: Vec<Entry>) -> Recovered {
    let base = snapshot.unwrap_or_default();
    let mut hard_state = metadata.hard_state;
    // The log is flushed before metadata.txt is replaced, so a crash between the two leaves
    // entries of a term that was not yet recorded. No vote was given in it: a vote is recorded
    // before it is sent.
    let last_term = entries.last().map_or(base.term, |entry| entry.term);
    if last_term > hard_state.term {
        hard_state.term = last_term;
        hard_state.voted_for = None;
    }
    // Every promise is acknowledged in a term of 1 or more, which is recorded first.
    let never_ran = hard_state.term == 0;
    Recovered {
        hard_state,
        // What is in a snapshot was committed, whatever the record says.
        commit_index: metadata
            .commit_index
            .clamp(base.index, base.index + entries.len() as Index),
        snapshot,
        configuration: None,
        never_ran,
        kept_promises: None,
        // Until lease.txt says otherwise.
        former_lease_us: if never_ran { 0 } else { LEASE_US_MAX },
        // Who holds the directory's lock may know better.
        former_run_ended: false,
        entries,
        accepted_until: metadata.accepted_until,
        voters: metadata.voters,
        format: metadata.format,
        ids: metadata.ids,
        reads: metadata.reads,
        names: metadata.names,
        ..Recovered::default()
    }
}

/// The lines from the start of the log that fit.
#[derive(Default)]
struct Scan {
    entries: Vec<Entry>,
    log: LogWriter,
    bytes: usize,
    mends: Vec<Mend>,
}

fn scan(logs: &[u8], base: Option<&LogBase>) -> Scan {
    let log = base.map_or_else(LogWriter::default, LogWriter::after);
    let mut scan = Scan {
        bytes: log.len_bytes() as usize,
        log,
        ..Scan::default()
    };
    let mut last_term = base.map_or(0, |base| base.snapshot.term);
    let mut line_number = u64::from(base.is_some());
    while let Some(rest) = logs.get(scan.bytes..).filter(|rest| !rest.is_empty()) {
        let line = text::first_line(rest);
        let Some(whole) = whole_line(line, scan.log.end().crc) else {
            break;
        };
        let WholeLine { entry, crc, bytes } = whole;
        if entry.index != scan.log.last_index() + 1 || entry.term < last_term {
            break;
        }
        line_number += 1;
        if line.get(bytes - 1) != Some(&b'\n') {
            scan.mends.push(Mend {
                line: line_number,
                offset: (scan.bytes + bytes - 1) as u64,
                bytes: b"\n".to_vec(),
            });
        }
        last_term = entry.term;
        scan.entries.push(entry);
        scan.log.push(bytes as u64, crc);
        scan.bytes += bytes;
    }
    scan
}

/// A line whose checksum goes on from the one before.
struct WholeLine {
    entry: Entry,
    crc: u32,
    /// With its newline, which may be another byte by now, or not there.
    bytes: usize,
}

/// The line at the start of these bytes, of which the first newline is the last.
fn whole_line(bytes: &[u8], seed: u32) -> Option<WholeLine> {
    if let Some((entry, crc)) = readable(bytes, &[Some(seed)]) {
        let bytes = bytes.len();
        return Some(WholeLine { entry, crc, bytes });
    }
    // Each place where its checksum may stand; what comes before it is looked at once.
    let (mut crc, mut taken) = (seed, 0);
    for end in ends_of(bytes, text::CRC_MARK) {
        crc = crc32c::crc32c_append(crc, &bytes[taken..end]);
        taken = end;
        let digits = bytes.get(end..end + text::CRC_DIGITS)?;
        if text::parse_crc(digits) == Some(crc) {
            let entry = text::parse_covered(&bytes[..end])?;
            let bytes = end + text::CRC_DIGITS + 1;
            return Some(WholeLine { entry, crc, bytes });
        }
    }
    None
}

/// Where each of these marks ends.
fn ends_of<'a>(bytes: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let begins = bytes.windows(mark.len()).enumerate();
    begins
        .filter(move |(_, window)| *window == mark)
        .map(move |(at, _)| at + mark.len())
}

/// What follows the lines that fit.
enum Tail {
    Clean,
    Torn { bytes: u64 },
    Damaged { until: Index },
}

fn judge_tail(rest: &[u8], last: Index, crc: u32) -> Tail {
    if rest.is_empty() {
        return Tail::Clean;
    }
    // A line is taken for whole if its checksum goes on from what the line before says its own
    // is, or from what it should be: so a single bad line never hides the good one behind it.
    let mut seeds = [Some(crc), None];
    let mut highest = None;
    let mut end = 0;
    for line in rest.split_inclusive(|&byte| byte == b'\n') {
        end += line.len();
        if let Some((entry, _)) = readable(line, &seeds) {
            highest = highest.max(Some((entry.index, end)));
        }
        seeds = crcs_after(line, &seeds);
    }
    if let Some((index, end)) = highest {
        // What can't be read behind it is a second place.
        let until = index.max(last + 1);
        let until = until.saturating_add(entries_in(written(&rest[end..])));
        return Tail::Damaged { until };
    }
    // A torn write leaves a part of a line, or zeros at the end; it never makes a whole line wrong.
    if count(written(rest), b'\n') == 0 {
        let bytes = rest.len() as u64;
        return Tail::Torn { bytes };
    }
    let until = last + entries_in(written(rest)).max(1);
    Tail::Damaged { until }
}

/// All but the zeros at the end.
fn written(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    &bytes[..bytes.len() - zeros]
}

/// How many entries these lines may have been. Each has a place where its index begins and one
/// where its checksum ends, and a bad byte may have hidden either, but mostly makes up neither.
fn entries_in(lines: &[u8]) -> u64 {
    let (mut entries, mut begun) = (0, false);
    for (at, byte) in lines.iter().enumerate() {
        if *byte == b'\t' && lines[at + 1..].starts_with(b"index=") {
            entries += u64::from(begun);
            begun = true;
        } else if *byte == b'\n' && text::split_crc(&lines[..at]).is_some() {
            entries += 1;
            begun = false;
        }
    }
    entries + u64::from(begun)
}

/// Sectors reach a disk in any order, so of a write that a crash cut short any of them may be
/// missing, and read as zeros up to their end.
const SECTOR_BYTES: usize = 512;

/// Whether the first line that can't be read has a hole, and all zeros in the rest are such holes.
fn has_hole(rest: &[u8], offset: usize) -> bool {
    let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let ends = (0..rest.len()).filter(|&at| rest[at] == 0 && rest.get(at + 1) != Some(&0));
    let mut ends = ends.map(|at| at + 1);
    line.contains(&0)
        && ends.all(|end| end == rest.len() || (offset + end).is_multiple_of(SECTOR_BYTES))
}

fn count(bytes: &[u8], byte: u8) -> u64 {
    bytes.iter().filter(|&&other| other == byte).count() as u64
}

/// The checksum that a line claims and the one it should have (after the first seed).
fn crcs_after(line: &[u8], seeds: &[Option<u32>; 2]) -> [Option<u32>; 2] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    match text::split_crc(line) {
        Some((covered, digits)) => [
            text::parse_crc(digits),
            seeds[0].map(|seed| crc32c::crc32c_append(seed, covered)),
        ],
        None => [None, None],
    }
}

/// The entry of a whole line whose checksum fits after one of the seeds, and that checksum.
fn readable(line: &[u8], seeds: &[Option<u32>]) -> Option<(Entry, u32)> {
    let (covered, digits) = text::split_crc(line.strip_suffix(b"\n")?)?;
    let crc = text::parse_crc(digits)?;
    let fits = |seed: u32| crc32c::crc32c_append(seed, covered) == crc;
    if !seeds.iter().flatten().any(|&seed| fits(seed)) {
        return None;
    }
    Some((text::parse_covered(covered)?, crc))
}

fn damage_of(tail: &Tail, last: Index, durable: Index, line: u64) -> Option<Damage> {
    // An entry is durable before any record says so, or that it is committed.
    let committed = (durable > last).then_some(durable);
    let behind = match tail {
        Tail::Damaged { until } => Some(*until),
        Tail::Clean | Tail::Torn { .. } => None,
    };
    let until = committed.max(behind)?;
    Some(Damage {
        line,
        until,
        snapshot: None,
    })
}
