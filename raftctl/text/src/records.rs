//! Reads what nodes write for people and programs: lines of `logs.txt` and of `dump.txt`.
//!
//! A file may be fetched while its node writes it, or after the node was killed in the middle of a
//! line. So a last line without its end is left out, silently: the node itself deals with it when
//! it starts. Anything else that can't be read is an error with its line.
//!
//! Deliberately absent: checking the checksums. That is the node's business when it recovers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::words::{self, Word};

/// A line that can't be read: the file is damaged, or of another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {cause}: {text:?}")]
pub struct RecordError {
    /// Its number, from 1.
    pub line: usize,
    /// What is missing or wrong.
    pub cause: &'static str,
    /// The beginning of the line.
    pub text: String,
}

impl RecordError {
    fn new(line: usize, cause: &'static str, text: &str) -> Self {
        const TEXT_CHARS_MAX: usize = 80;
        let text = text.chars().take(TEXT_CHARS_MAX).collect();
        RecordError { line, cause, text }
    }
}

/// What an entry of the log does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Nothing: the first entry of a leader's term.
    NoOp,
    /// Writes a value.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// No entry: all up to here is in the snapshot.
    Snapshot,
    /// Any other, by its verb: nobody here asks what it does.
    Other(String),
}

/// A line of `logs.txt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// What it does.
    pub operation: Operation,
    /// The term it was proposed in.
    pub term: u64,
    /// Its place in the log, from 1.
    pub index: u64,
    /// The client's id and sequence, where the client had a session.
    pub request: Option<(u64, u64)>,
}

/// A line of `dump.txt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpRecord {
    /// When, by the clock of the node's host.
    pub at: SystemTime,
    /// What happened, in words.
    pub sentence: String,
    /// What happened, as values by name.
    pub fields: BTreeMap<String, String>,
}

/// Reads those lines of `logs.txt` that `wanted` wants, by their text: a log may be long, and most
/// of it somebody else's.
///
/// # Errors
/// The first wanted line that is no entry.
pub fn parse_log(text: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<LogRecord>, RecordError> {
    // A log may lie in space that was allocated ahead, filled with zeros.
    let mut records = Vec::new();
    for (number, line) in (1..).zip(whole_lines(text.trim_end_matches('\0'))) {
        if wanted(line) {
            let record = log_record(line);
            records.push(record.map_err(|cause| RecordError::new(number, cause, line))?);
        }
    }
    Ok(records)
}

/// Reads the lines of `dump.txt` from its end back to `after`, in the order of the file; without
/// it all of them. Lines are written in the order of their times, but for lines that stand for
/// several events, which may be late by less than [`LATE_MAX`].
///
/// # Errors
/// A line in that part that tells of no event.
pub fn parse_dump(text: &str, after: Option<SystemTime>) -> Result<Vec<DumpRecord>, RecordError> {
    let mut records = Vec::new();
    for line in whole_lines(text).rev() {
        let record = dump_record(line).map_err(|cause| {
            let before = line.as_ptr() as usize - text.as_ptr() as usize;
            let number = text[..before].lines().count() + 1;
            RecordError::new(number, cause, line)
        })?;
        match after {
            Some(after) if record.at + LATE_MAX < after => break,
            Some(after) if record.at <= after => {}
            _ => records.push(record),
        }
    }
    records.reverse();
    Ok(records)
}

/// A line of `dump.txt` as it stands there, without anything made of it: a dump may have a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpLine<'a> {
    /// When, by the clock of the node's host: microseconds since 1970.
    pub at_us: i64,
    /// What happened, in words.
    pub sentence: &'a str,
    /// What stands behind the tab.
    machine: &'a str,
}

impl<'a> DumpLine<'a> {
    /// Takes a line apart; `None`: it tells of no event.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<DumpLine<'a>> {
        let (at, rest) = line.split_once(' ')?;
        let (sentence, machine) = rest.split_once('\t').unwrap_or((rest, ""));
        Some(DumpLine {
            at_us: micros(at)?,
            sentence,
            machine,
        })
    }

    /// A field, as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.machine.split(' ');
        pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// A field that is a whole number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// A field that is a point in time: microseconds since 1970.
    #[must_use]
    pub fn time_us(&self, name: &str) -> Option<i64> {
        micros(self.text(name)?)
    }
}

/// Microseconds since 1970.
fn micros(rfc3339: &str) -> Option<i64> {
    let at = humantime::parse_rfc3339(rfc3339).ok()?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok()
}

/// By how much a line of `dump.txt` may be older than the line before it.
pub const LATE_MAX: Duration = Duration::from_secs(2);

/// The time of the last line of `dump.txt`, if it has any.
///
/// # Errors
/// The last line tells of no event.
pub fn last_time(text: &str) -> Result<Option<SystemTime>, RecordError> {
    let Some(line) = whole_lines(text).next_back() else {
        return Ok(None);
    };
    let record = dump_record(line).map_err(|cause| {
        let number = text.lines().count();
        RecordError::new(number, cause, line)
    });
    Ok(Some(record?.at))
}

/// The lines that have an end, without it.
fn whole_lines(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    let lines = text.split_inclusive('\n');
    lines.filter_map(|line| line.strip_suffix('\n'))
}

fn log_record(line: &str) -> Result<LogRecord, &'static str> {
    let (human, machine) = line.split_once('\t').ok_or("no tab")?;
    let words = words::split(human).map_err(|_| "a word that is no JSON string")?;
    let (term, words) = words.split_last().ok_or("no words")?;
    let fields = fields(machine);
    let number = |text: &str| text.parse::<u64>().ok();
    let term = number(&term.text).ok_or("no term before the tab")?;
    Ok(LogRecord {
        operation: operation(words).ok_or("no operation of a log")?,
        term,
        index: fields
            .get("index")
            .and_then(|index| number(index))
            .ok_or("no index")?,
        request: match fields.get("request") {
            Some(request) => Some(parse_request(request).ok_or("a request that is none")?),
            None => None,
        },
    })
}

fn operation(words: &[Word]) -> Option<Operation> {
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    let owned = |text: &str| text.to_owned();
    Some(match texts[..] {
        ["NO-OP"] => Operation::NoOp,
        ["SNAPSHOT", _] => Operation::Snapshot,
        ["SET", key, value] => Operation::Set {
            key: owned(key),
            value: owned(value),
        },
        [verb, ..] if is_verb(verb) => Operation::Other(owned(verb)),
        _ => return None,
    })
}

fn is_verb(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// `3f9a1c20/2`: the client in hexadecimal, its sequence in decimal.
fn parse_request(text: &str) -> Option<(u64, u64)> {
    let (client, sequence) = text.split_once('/')?;
    Some((
        u64::from_str_radix(client, 16).ok()?,
        sequence.parse().ok()?,
    ))
}

fn dump_record(line: &str) -> Result<DumpRecord, &'static str> {
    let (at, rest) = line.split_once(' ').ok_or("no space after the time")?;
    let at = humantime::parse_rfc3339(at).map_err(|_| "no RFC 3339 time at its beginning")?;
    let (sentence, machine) = rest.split_once('\t').unwrap_or((rest, ""));
    Ok(DumpRecord {
        at,
        sentence: sentence.to_owned(),
        fields: fields(machine),
    })
}

/// The `name=value` pairs of a line. Words without `=` are left out.
#[must_use]
pub fn fields(machine: &str) -> BTreeMap<String, String> {
    let pairs = machine.split(' ').filter_map(|field| field.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(_: &str) -> bool {
        true
    }

    fn set(key: &str, value: &str) -> Operation {
        Operation::Set {
            key: key.into(),
            value: value.into(),
        }
    }

    /// Every kind of line that a log holds, as a node writes it.
    #[test]
    fn a_log_is_read_as_it_is_written() {
        let text = "NO-OP 1\tindex=1 crc=1f52bd4e\n\
                    SET name1 Jaggu 1\tindex=2 request=3f9a1c20/2 crc=542e1355\n\
                    SET \"two words\" \"line\\nbreak\" 1\tindex=3 request=ff/3 crc=64741586\n\
                    DEL \"é\" 2\tindex=4 crc=7391f044\n\
                    CAS k \"\\\"\" new 2\tindex=5 request=1/2 since=3 crc=f79c1f78\n\
                    CREATE k new 2\tindex=6 crc=480b17a2\n\
                    FORMAT 2 3\tindex=7 crc=aac38078\n";
        let records = parse_log(text, &all).unwrap();
        let operations: Vec<Operation> = records
            .iter()
            .map(|record| record.operation.clone())
            .collect();
        let other = |verb: &str| Operation::Other(verb.into());
        assert_eq!(
            operations,
            [
                Operation::NoOp,
                set("name1", "Jaggu"),
                set("two words", "line\nbreak"),
                other("DEL"),
                other("CAS"),
                other("CREATE"),
                other("FORMAT"),
            ]
        );
        assert_eq!(records[1].request, Some((0x3f9a_1c20, 2)));
        let places: Vec<(u64, u64)> = records.iter().map(|r| (r.term, r.index)).collect();
        assert_eq!(
            places,
            [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6), (3, 7)]
        );
    }

    /// After compaction the first line tells what precedes.
    #[test]
    fn a_log_may_begin_with_a_snapshot() {
        let text = "SNAPSHOT 1200 3\tindex=1200 crc=00000000\nSET a b 3\tindex=1201 crc=1\n";
        let records = parse_log(text, &all).unwrap();
        assert_eq!(records[0].operation, Operation::Snapshot);
        assert_eq!((records[0].term, records[0].index), (3, 1200));
        assert_eq!(records[1].index, 1201);
    }

    /// A key may be called like a verb, and a value like a term.
    #[test]
    fn words_are_taken_by_their_place() {
        let records = parse_log("SET NO-OP 7 9\tindex=1 crc=0\n", &all).unwrap();
        assert_eq!(
            (&records[0].operation, records[0].term),
            (&set("NO-OP", "7"), 9)
        );
    }

    /// A node that is killed, or is writing just now, leaves half a line; the rest still counts.
    /// What a file may end with is damage in its middle.
    #[test]
    fn a_torn_last_line_is_left_out_and_damage_is_not() {
        let whole = "NO-OP 1\tindex=1 crc=0\n";
        assert_eq!(parse_log(&format!("{whole}SET a"), &all).unwrap().len(), 1);
        assert_eq!(
            parse_log(&format!("{whole}\0\0\0\0"), &all).unwrap().len(),
            1
        );
        assert_eq!(parse_log("", &all).unwrap(), []);
        let error = parse_log(&format!("{whole}SET a\n{whole}"), &all).unwrap_err();
        assert_eq!((error.line, error.cause), (2, "no tab"));
        for (line, cause) in [
            ("SET a b\tindex=1\n", "no term before the tab"),
            ("move a b 1\tindex=1\n", "no operation of a log"),
            ("NO-OP 1\tcrc=0\n", "no index"),
            ("SET a b 1\tindex=1 request=x\n", "a request that is none"),
            ("SET \"a b 1\tindex=1\n", "a word that is no JSON string"),
        ] {
            let error = parse_log(line, &all).unwrap_err();
            assert_eq!((error.line, error.cause), (1, cause), "{line}");
        }
    }

    /// An operation that this version does not know is still an entry: a node of a later one may
    /// have written it.
    #[test]
    fn an_operation_of_a_later_version_is_an_entry() {
        let records = parse_log("MOVE a b 1\tindex=1 crc=0\n", &all).unwrap();
        assert_eq!(records[0].operation, Operation::Other("MOVE".into()));
    }

    /// Time, sentence and fields of an event.
    #[test]
    fn a_dump_is_read_with_microseconds() {
        let text = "2026-11-21T09:30:01.000250Z Node 3 became the leader for term 7.\tterm=7 \
                    index=17\n\
                    2026-11-21T09:30:01.100251Z Leader 3 sending heartbeat & Renewing Lease\n\
                    2026-11-21T09:30:0";
        let records = parse_dump(text, None).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].sentence, "Node 3 became the leader for term 7.");
        assert_eq!(
            (&*records[0].fields["term"], &*records[0].fields["index"]),
            ("7", "17")
        );
        let apart = records[1].at.duration_since(records[0].at).unwrap();
        assert_eq!(apart, Duration::from_micros(100_001));
        assert!(!records[1].fields.contains_key("term"));
        let error = parse_dump("yesterday Node 3 slept\n", None).unwrap_err();
        assert_eq!(error.cause, "no RFC 3339 time at its beginning");
    }

    /// Only what is asked for is read: what somebody else wrote is not looked at.
    #[test]
    fn a_log_is_read_in_part() {
        let text = "NO-OP 1\tindex=1 crc=0\nSET a b\nSET mine b 1\tindex=3 crc=0\n";
        let mine = |line: &str| line.contains("mine");
        assert_eq!(parse_log(text, &mine).unwrap()[0].index, 3);
        assert_eq!(parse_log(text, &all).unwrap_err().line, 2);
    }

    /// A dump is read from a moment on, a late line included, and what lies before is not even
    /// looked at.
    #[test]
    fn a_dump_is_read_from_a_moment_on() {
        let line = |seconds: &str| format!("2026-11-21T09:30:{seconds}Z Something happened.\n");
        let early = line("01.000000");
        let (marked, late, last) = (line("10.000000"), line("09.900000"), line("10.500000"));
        let text = format!("garbage\n{early}{marked}{last}{late}");
        let after = last_time(&format!("{early}{marked}")).unwrap();
        let read = parse_dump(&text, after).unwrap();
        assert_eq!(read.len(), 1, "{read:?}");
        assert_eq!(Some(read[0].at), last_time(&last).unwrap());
        let error = parse_dump(&text, None).unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (1, "garbage"));
        assert_eq!(last_time("").unwrap(), None);
        assert!(last_time("garbage\n").is_err());
    }
}
