//! One line of `logs.txt`: to text and back.

use crate::command::{
    Command, Format, Members, Operation, RequestId, Verb, Write, cluster_text, parse_cluster,
    parse_voters, voters_text,
};
use crate::raft::{Entry, Index, Term};
use std::borrow::Cow;
use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

/// Stands right before the checksum's digits.
pub(super) const CRC_MARK: &[u8] = b" crc=";

/// Digits of a checksum.
pub(super) const CRC_DIGITS: usize = 8;

/// Appends the line of an entry, newline included, and returns its checksum.
pub(super) fn write_line(entry: &Entry, crc_before: u32, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    write_words(&entry.command, out);
    put(out, format_args!(" {}\tindex={}", entry.term, entry.index));
    if let Command::Write(Write {
        request: Some(request),
        ..
    }) = &*entry.command
    {
        put(
            out,
            format_args!(" request={:x}/{}", request.client_id, request.sequence),
        );
        if request.since_index != 0 {
            put(out, format_args!(" since={}", request.since_index));
        }
    }
    out.extend_from_slice(CRC_MARK);
    let crc = crc32c::crc32c_append(crc_before, &out[start..]);
    put(out, format_args!("{crc:08x}\n"));
    crc
}

/// Appends a command as the log's lines begin: `SET key value`, without term and what follows.
pub fn write_words(command: &Command, out: &mut Vec<u8>) {
    let operation = match command {
        Command::NoOp => return out.extend_from_slice(b"NO-OP"),
        Command::Format(format) => return write_format(format, out),
        Command::Members(members) => return put(out, format_args!("MEMBERS {}", members.text())),
        Command::Write(Write { operation, .. }) => operation,
    };
    let all: Vec<&str> = operation.words().map(|word| &**word).collect();
    words(out, operation.parts().0.name(), &all);
}

fn write_format(format: &Format, out: &mut Vec<u8>) {
    let cluster = cluster_text(format.cluster);
    let (version, voters) = (format.version, voters_text(&format.voters));
    put(out, format_args!("FORMAT {version} {cluster} {voters}"));
}

/// Only in the one way in which it is written.
fn parse_format(words: &str) -> Option<Format> {
    let mut parts = words.split(' ');
    let (version, cluster, voters) = (parts.next()?, parts.next()?, parts.next()?);
    let format = Format {
        version: version.parse().ok()?,
        cluster: parse_cluster(cluster)?,
        voters: parse_voters(voters)?,
    };
    let mut written = Vec::new();
    write_format(&format, &mut written);
    (written.strip_prefix(b"FORMAT ") == Some(words.as_bytes())).then_some(format)
}

pub(super) fn words(out: &mut Vec<u8>, verb: &str, words: &[&str]) {
    out.extend_from_slice(verb.as_bytes());
    for word in words {
        out.push(b' ');
        plain_or_quoted(word, out);
    }
}

/// Appends a word as it is, or as a JSON string where it would not stay one plain word.
pub fn plain_or_quoted(word: &str, out: &mut Vec<u8>) {
    if is_plain(word) {
        out.extend_from_slice(word.as_bytes());
    } else {
        serde_json::to_writer(out, word).expect("a string is JSON and a Vec takes every byte");
    }
}

fn is_plain(word: &str) -> bool {
    let (words, rest) = word.as_bytes().as_chunks::<8>();
    // One by one the bytes of a value would cost more than all else about its line.
    let all_plain = words.iter().all(|bytes| has_plain_bytes(*bytes));
    !word.is_empty() && all_plain && rest.iter().all(is_plain_byte)
}

fn is_plain_byte(byte: &u8) -> bool {
    byte.is_ascii_graphic() && *byte != b'"' && *byte != b'\''
}

/// [`is_plain_byte`] of eight bytes at a time: in `less_than` a byte's highest bit is set where that byte, or one
/// below it that is less as well, is less than the bound.
fn has_plain_bytes(bytes: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = EACH * 0x80;
    let word = u64::from_le_bytes(bytes);
    let less_than = |word: u64, bound: u8| word.wrapping_sub(EACH * u64::from(bound)) & !word;
    let equal_to = |byte: u8| less_than(word ^ (EACH * u64::from(byte)), 1);
    let is_other = less_than(word, b'!') | equal_to(b'"') | equal_to(b'\'') | equal_to(0x7f);
    (word | is_other) & HIGHEST == 0
}

pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

/// Splits a line (without its newline) at its checksum: what the checksum covers, its digits.
pub(super) fn split_crc(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (covered, digits) = line.split_at_checked(line.len().checked_sub(CRC_DIGITS)?)?;
    covered.ends_with(CRC_MARK).then_some((covered, digits))
}

/// A checksum's value from its text. Only the way in which it is written is accepted, so that a
/// changed byte never reads as the same number.
pub(super) fn parse_crc(digits: &[u8]) -> Option<u32> {
    let digits: &[u8; CRC_DIGITS] = digits.try_into().ok()?;
    digits.iter().try_fold(0, |crc, digit| match digit {
        b'0'..=b'9' => Some(crc << 4 | u32::from(digit - b'0')),
        b'a'..=b'f' => Some(crc << 4 | u32::from(digit - b'a' + 10)),
        _ => None,
    })
}

/// The entry of a line, from the part that its checksum covers. `None`: not a line of this format.
pub(super) fn parse_covered(covered: &[u8]) -> Option<Entry> {
    let text = std::str::from_utf8(covered.strip_suffix(CRC_MARK)?).ok()?;
    let (human, machine) = text.split_once('\t')?;
    let (words, term) = human.rsplit_once(' ').unwrap_or(("", human));
    let (index, request) = parse_fields(machine)?;
    let command = parse_command(words, request)?;
    Some(Entry {
        index,
        term: term.parse::<Term>().ok()?,
        command: Arc::new(command),
    })
}

fn parse_fields(machine: &str) -> Option<(Index, Option<RequestId>)> {
    let mut fields = machine.split(' ');
    let index = fields.next()?.strip_prefix("index=")?.parse().ok()?;
    let Some(request) = fields.next() else {
        return Some((index, None));
    };
    let (client, sequence) = request.strip_prefix("request=")?.split_once('/')?;
    let since_index = match fields.next() {
        Some(since) => since.strip_prefix("since=")?.parse().ok()?,
        None => 0,
    };
    let request = RequestId {
        client_id: u64::from_str_radix(client, 16).ok()?,
        sequence: sequence.parse().ok()?,
        since_index,
    };
    fields.next().is_none().then_some((index, Some(request)))
}

fn parse_command(words: &str, request: Option<RequestId>) -> Option<Command> {
    let (verb, mut rest) = words.split_once(' ').unwrap_or((words, ""));
    let next = || {
        let (word, behind) = take_word(rest)?;
        rest = behind;
        Some(word.into())
    };
    let operation = match verb {
        "NO-OP" => return (rest.is_empty() && request.is_none()).then_some(Command::NoOp),
        "FORMAT" => {
            let format = parse_format(rest).filter(|_| request.is_none());
            return format.map(Command::Format);
        }
        "MEMBERS" => {
            let members = Members::parse(rest).filter(|_| request.is_none());
            return members.map(|members| Command::Members(Arc::new(members)));
        }
        _ => {
            let verb = Verb::ALL.into_iter().find(|known| known.name() == verb)?;
            Operation::from_words(verb, next)?
        }
    };
    let write = Write { request, operation };
    rest.is_empty().then_some(Command::Write(write))
}

/// The first line of some bytes with its newline, or all where there is none. Much faster than looking at them one by
/// one, which for a large state is most of a start.
pub(super) fn first_line(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    let length = rest.skip_until(b'\n').expect("bytes in memory can be read");
    &bytes[..length]
}

/// The two words of a text, plain or JSON strings with one space between them. `None`: it is not such a text.
pub(super) fn two_words(text: &str) -> Option<[Cow<'_, str>; 2]> {
    let (first, rest) = take_word(text)?;
    let (second, rest) = take_word(rest)?;
    rest.is_empty().then_some([first, second])
}

/// The words of a text, plain or JSON strings with one space between them. `None`: it is not
/// such a text, or it has more words than `most`, of which no more are made: a word may take two
/// bytes of the text, and many times that in memory.
pub fn split_words(text: &str, most: usize) -> Option<Vec<Arc<str>>> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if words.len() == most {
            return None;
        }
        let (word, behind) = take_word(rest)?;
        words.push(word.into());
        rest = behind;
    }
    Some(words)
}

/// The first word of a text and what follows it and one space.
fn take_word(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (word, rest): (Cow<'_, str>, &str) = if text.starts_with('"') {
        let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let word = strings.next()?.ok()?;
        (word.into(), text.get(strings.byte_offset()..)?)
    } else {
        let (word, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
        (is_plain(word).then(|| word.into())?, rest)
    };
    match rest.strip_prefix(' ') {
        Some("") => None,
        Some(rest) => Some((word, rest)),
        None => rest.is_empty().then_some((word, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whichever byte stands wherever in a word, and beside whichever other: eight at a time say what each says alone.
    #[test]
    fn a_word_is_plain_if_each_of_its_bytes_is() {
        for before in [b'a', b'!', b'~', b'"', b' ', 0x00, 0x80, 0xff] {
            for byte in 0..=u8::MAX {
                for place in 0..8 {
                    let mut bytes = [b'x'; 8];
                    bytes[(place + 7) % 8] = before;
                    bytes[place] = byte;
                    let each = bytes.iter().all(is_plain_byte);
                    assert_eq!(has_plain_bytes(bytes), each, "{bytes:?}");
                }
            }
        }
        for length in 0..20 {
            let word = "x".repeat(length);
            assert_eq!(is_plain(&word), length > 0);
            for place in 0..length {
                let mut other = word.clone();
                other.replace_range(place..=place, " ");
                assert!(!is_plain(&other), "{other:?}");
            }
        }
    }
}
