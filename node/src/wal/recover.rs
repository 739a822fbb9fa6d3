//! What the files of a node say when it starts.
//!
//! A crash leaves the log with a *torn tail*: the last write got to the disk in part, so the file
//! ends within a line, or in bytes of zero that were never filled. Nobody was told that such a
//! line is durable, so it is cut off. Everything else that does not fit is *damage*: entries that
//! this node had acknowledged may be gone. What is before it is kept; until the node has been
//! refilled it must neither vote nor lead ([`Recovered::damaged_until`]), or a committed entry
//! could be lost. Where the two cannot be told apart, it counts as damage: that costs a refill
//! from the leader, the other mistake would cost data.

use super::metadata::{self, Metadata, MetadataError};
use super::{LogWriter, text};
use crate::raft::{Entry, Index, LEASE_US_MAX, Recovered};

/// What was read from the node's directory. `None`: no such file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// `logs.txt`
    pub logs: Option<&'a [u8]>,
    /// `metadata.txt`
    pub metadata: Option<&'a [u8]>,
    /// `damaged.txt`: left by an earlier start that found damage.
    pub damaged: Option<&'a [u8]>,
}

/// What a node starts from.
#[derive(Debug)]
pub struct Recovery {
    /// For the consensus core.
    pub recovered: Recovered,
    /// Goes on behind the recovered entries.
    pub log: LogWriter,
    /// Cut `logs.txt` to this length before the first append.
    pub log_bytes: u64,
    /// The torn tail that is to be cut off, for the operator.
    pub torn: Option<TornTail>,
    /// Damage that was found now.
    pub damage: Option<Damage>,
    /// What is to be done with `damaged.txt`.
    pub damage_mark: DamageMark,
    /// Damage up to here was given up by an operator. 0: none.
    pub accepted_until: Index,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first line of `logs.txt` that can't be used, from 1.
    pub line: u64,
    /// Entries up to here may have been acknowledged.
    pub until: Index,
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
    /// Written by a later version.
    #[error(
        "logs.txt begins with a snapshot line, which this version cannot read: run the version \
         that wrote it"
    )]
    SnapshotUnsupported,
    /// How far the damage of an earlier start reached can't be read.
    #[error(
        "damaged.txt is itself damaged ({0}): it says how far a damaged log had reached; put back \
         a good copy, or empty the directory only if the node's vote is given up for good"
    )]
    DamageMarkDamaged(MetadataError),
}

/// Makes sense of a node's files.
pub fn recover(files: Files<'_>) -> Result<Recovery, RecoverError> {
    let metadata = read_metadata(files)?;
    let mark = files.damaged.map(metadata::decode_damage).transpose();
    let mark = mark.map_err(RecoverError::DamageMarkDamaged)?.unwrap_or(0);
    let logs = files.logs.unwrap_or_default();
    if logs.starts_with(b"SNAPSHOT ") {
        return Err(RecoverError::SnapshotUnsupported);
    }

    let Scan {
        entries,
        log,
        bytes,
    } = scan(logs);
    let last = entries.len() as Index;
    let tail = judge_tail(&logs[bytes..], last, log.end().crc);
    // A log that ends before the commit on record is no news while the mark says so, nor is it
    // that the write which refills it was torn.
    let whole = !matches!(tail, Tail::Damaged { .. });
    let known = |damage: &Damage| whole && damage.until <= mark;
    let damage = damage_of(&tail, last, &metadata).filter(|damage| !known(damage));
    let torn = match tail {
        Tail::Torn { bytes } if damage.is_none() => Some(TornTail {
            line: last + 1,
            bytes,
        }),
        _ => None,
    };

    let refilled = damage.is_none() && last >= mark && metadata.commit_index >= mark;
    let damaged_until = match damage {
        Some(damage) => damage.until.max(mark),
        None if refilled => 0,
        None => mark,
    };
    let damage_mark = match files.damaged {
        Some(_) if refilled => DamageMark::Remove,
        _ if damaged_until > mark => DamageMark::Write(metadata::encode_damage(damaged_until)),
        _ => DamageMark::Keep,
    };
    Ok(Recovery {
        recovered: recovered(metadata, entries, damaged_until),
        log,
        log_bytes: bytes as u64,
        torn,
        damage,
        damage_mark,
        accepted_until: 0,
    })
}

fn read_metadata(files: Files<'_>) -> Result<Metadata, RecoverError> {
    match files.metadata {
        Some(bytes) => {
            let metadata = Metadata::decode(bytes).map_err(RecoverError::MetadataDamaged)?;
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

fn recovered(metadata: Metadata, entries: Vec<Entry>, damaged_until: Index) -> Recovered {
    let mut hard_state = metadata.hard_state;
    // The log is flushed before metadata.txt is replaced, so a crash between the two leaves
    // entries of a term that was not yet recorded. No vote was given in it: a vote is recorded
    // before it is sent.
    if let Some(last) = entries.last()
        && last.term > hard_state.term
    {
        hard_state.term = last.term;
        hard_state.voted_for = None;
    }
    // Every promise is acknowledged in a term of 1 or more, which is recorded first.
    let never_ran = hard_state.term == 0 && damaged_until == 0;
    Recovered {
        hard_state,
        commit_index: metadata.commit_index.min(entries.len() as Index),
        never_ran,
        kept_promises: None,
        // Until lease.txt says otherwise.
        former_lease_us: if never_ran { 0 } else { LEASE_US_MAX },
        entries,
        damaged_until,
    }
}

/// The lines from the start of the log that fit.
struct Scan {
    entries: Vec<Entry>,
    log: LogWriter,
    bytes: usize,
}

fn scan(logs: &[u8]) -> Scan {
    let mut scan = Scan {
        entries: Vec::new(),
        log: LogWriter::default(),
        bytes: 0,
    };
    let mut last_term = 0;
    for line in logs.split_inclusive(|&byte| byte == b'\n') {
        let seed = scan.log.end().crc;
        match readable(line, &[Some(seed)]) {
            Some((entry, crc))
                if entry.index == scan.entries.len() as Index + 1 && entry.term >= last_term =>
            {
                last_term = entry.term;
                scan.entries.push(entry);
                scan.log.push(line.len() as u64, crc);
                scan.bytes += line.len();
            }
            _ => break,
        }
    }
    scan
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
        let until = index.max(last + 1) + entries_in(written(&rest[end..]));
        return Tail::Damaged { until };
    }
    // A torn write leaves a part of a line, or zeros at the end; it never makes a whole line wrong.
    if count(written(rest), b'\n') == 0 {
        let bytes = rest.len() as u64;
        return Tail::Torn { bytes };
    }
    let until = last + entries_in(written(rest));
    Tail::Damaged { until }
}

/// All but the zeros at the end.
fn written(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    &bytes[..bytes.len() - zeros]
}

/// How many entries these lines may have been: each has one newline and one tab, and a bad byte may
/// have hidden one of them.
fn entries_in(lines: &[u8]) -> u64 {
    count(lines, b'\n').max(count(lines, b'\t'))
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

fn damage_of(tail: &Tail, last: Index, metadata: &Metadata) -> Option<Damage> {
    // An entry is durable before the record that it is committed.
    let committed = (metadata.commit_index > last).then_some(metadata.commit_index);
    let behind = match tail {
        Tail::Damaged { until } => Some(*until),
        Tail::Clean | Tail::Torn { .. } => None,
    };
    let until = committed.max(behind)?;
    Some(Damage {
        line: last + 1,
        until,
    })
}
