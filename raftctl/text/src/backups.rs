//! Backups: a first line that says what the rest is of, then the text of a snapshot.
//!
//! ```text
//! BACKUP 1 demo 2026-11-29T19:20:00Z  id=9f8e.. node=2 index=1200 term=3 sessions=1 keys=2 hash=0b64e2d1 crc=5f1c0a77
//! SNAPSHOT 1200 3  index=1200 log=5f1c0a77 sessions=1 keys=2 evicted=0 format=2 crc=0b64e2d1
//! ...
//! END 1200 3  index=1200 crc=542e1355
//! ```
//!
//! Each line ends with a checksum, which goes on from that of the line before; the one of the first line
//! stands for itself, so what follows it is a `snapshot.txt` as nodes keep it. `hash` is the checksum of
//! the last line. Only what raftctl needs is understood here: whether a text is whole, and what it is of.
//! What the lines mean is for the nodes, which check it again.

use std::fmt;

/// A longer line was never written: a value has at most 1 MiB, and each byte six characters.
const LINE_BYTES_MAX: usize = 32 << 20;
/// What stands before a checksum.
const CRC_MARK: &[u8] = b"crc=";
/// The format of backups.
const FORMAT: &str = "BACKUP 1 ";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Name of the cluster.
    pub cluster: String,
    /// When it was taken, as RFC 3339 has it.
    pub time: String,
    /// Id of the cluster; empty where it has none.
    pub cluster_id: String,
    /// The node that it was taken from.
    pub node: u64,
    /// The state is that after this entry.
    pub index: u64,
    /// Which has this term.
    pub term: u64,
    /// How many sessions there are.
    pub sessions: u64,
    /// How many keys.
    pub keys: u64,
    /// The checksum of the last line.
    pub hash: u32,
}

impl Head {
    /// The line, with its newline. Its length does not depend on the hash.
    #[must_use]
    pub fn line(&self) -> String {
        let text = format!(
            "{FORMAT}{} {}\tid={} node={} index={} term={} sessions={} keys={} hash={:08x} crc=",
            self.cluster,
            self.time,
            self.cluster_id,
            self.node,
            self.index,
            self.term,
            self.sessions,
            self.keys,
            self.hash
        );
        let crc = crc32c::crc32c(text.as_bytes());
        format!("{text}{crc:08x}\n")
    }

    fn parse(covered: &[u8]) -> Option<Head> {
        let text = std::str::from_utf8(covered.strip_suffix(CRC_MARK)?).ok()?;
        let (human, machine) = text.strip_prefix(FORMAT)?.split_once('\t')?;
        let (cluster, time) = human.split_once(' ')?;
        let fields = Fields(machine);
        Some(Head {
            cluster: cluster.to_owned(),
            time: time.to_owned(),
            cluster_id: fields.text("id")?.to_owned(),
            node: fields.number("node")?,
            index: fields.number("index")?,
            term: fields.number("term")?,
            sessions: fields.number("sessions")?,
            keys: fields.number("keys")?,
            hash: u32::from_str_radix(fields.text("hash")?, 16).ok()?,
        })
    }
}

/// The `name=value` behind a tab.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.0.split(' ');
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// Why a text is no backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.what)
    }
}

/// Reads a backup, in pieces of any size, and checks that it is whole. The text of a snapshot alone will do:
/// then nobody knows what cluster it is of.
#[derive(Debug, Default)]
pub struct Checker {
    begun: Vec<u8>,
    lines: u64,
    crc: u32,
    head: Option<Head>,
    /// What the first line of the snapshot says.
    state: Option<Head>,
    keys: u64,
    /// Over the keys and their values, in their order, and nothing else.
    content: u32,
    ended: bool,
}

/// What a whole backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it is of.
    pub head: Head,
    /// Over the keys and their values: two states that bind the same have the same, whatever else is in
    /// them.
    pub content: u32,
}

impl Checker {
    /// Takes in what follows.
    ///
    /// # Errors
    /// It is no backup.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.begun.len() + piece.len() > LINE_BYTES_MAX {
                return Err(self.fault("too long for a line"));
            }
            self.begun.extend_from_slice(piece);
            if self.begun.ends_with(b"\n") {
                let line = std::mem::take(&mut self.begun);
                self.line(&line[..line.len() - 1])?;
            }
        }
        Ok(())
    }

    /// What was read, if it was whole.
    ///
    /// # Errors
    /// It is no backup.
    pub fn finish(self) -> Result<Checked, Fault> {
        if !self.begun.is_empty() || !self.ended {
            return Err(self.fault("it ends before its last line"));
        }
        let (line, crc, content) = (self.lines, self.crc, self.content);
        let fault = |what| Fault { line, what };
        let state = self.state.ok_or_else(|| fault("there is no state"))?;
        let state = Head { hash: crc, ..state };
        let head = self.head.unwrap_or_else(|| state.clone());
        let numbers = |head: &Head| (head.index, head.term, head.keys, head.sessions, head.hash);
        match numbers(&head) == numbers(&state) {
            true => Ok(Checked { head, content }),
            false => Err(fault("the first line is of another state than the rest")),
        }
    }

    fn fault(&self, what: &'static str) -> Fault {
        let line = self.lines + 1;
        Fault { line, what }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if self.ended {
            return Err(self.fault("something stands behind the end"));
        }
        let sealed = sealed(line).ok_or_else(|| self.fault("its checksum is missing"))?;
        let (covered, crc) = sealed;
        let crc_before = self.crc;
        if crc32c::crc32c_append(crc_before, covered) != crc {
            return Err(self.fault("its checksum does not fit"));
        }
        if covered.starts_with(FORMAT.as_bytes()) && self.lines == 0 {
            let head = Head::parse(covered);
            self.head = Some(head.ok_or_else(|| self.fault("not the first line of a backup"))?);
        } else {
            self.of_state(covered)?;
            self.crc = crc;
        }
        self.lines += 1;
        Ok(())
    }

    fn of_state(&mut self, covered: &[u8]) -> Result<(), Fault> {
        let Some(state) = &self.state else {
            let state = first(covered).ok_or_else(|| self.fault("not the first line of a state"));
            self.state = Some(state?);
            return Ok(());
        };
        if covered.starts_with(b"SET ") {
            self.keys += 1;
            let human = covered.split(|byte| *byte == b'\t').next();
            self.content = crc32c::crc32c_append(self.content, human.unwrap_or_default());
        }
        if covered.starts_with(b"END ") {
            self.ended = true;
            if self.keys != state.keys {
                return Err(self.fault("another number of keys than was told"));
            }
        }
        Ok(())
    }
}

/// What a line's checksum covers, and that.
fn sealed(line: &[u8]) -> Option<(&[u8], u32)> {
    let (covered, digits) = line.split_at_checked(line.len().checked_sub(8)?)?;
    let text = std::str::from_utf8(digits).ok()?;
    let crc = u32::from_str_radix(text, 16).ok()?;
    // Only as it is written, so that a changed byte is never the same number.
    (covered.ends_with(CRC_MARK) && format!("{crc:08x}") == text).then_some((covered, crc))
}

/// The first line of a state.
fn first(covered: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(covered).ok()?;
    let (human, machine) = text.strip_prefix("SNAPSHOT ")?.split_once('\t')?;
    let (index, term) = human.split_once(' ')?;
    let fields = Fields(machine);
    Some(Head {
        index: index.parse().ok()?,
        term: term.parse().ok()?,
        sessions: fields.number("sessions")?,
        keys: fields.number("keys")?,
        ..Head::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backup of these lines of a state.
    fn backup(lines: &[&str]) -> Vec<u8> {
        let (mut text, mut crc) = (String::new(), 0);
        for line in lines {
            let covered = format!("{line}crc=");
            crc = crc32c::crc32c_append(crc, covered.as_bytes());
            text.push_str(&format!("{covered}{crc:08x}\n"));
        }
        let head = Head {
            cluster: "demo".into(),
            time: "2026-11-29T19:20:00Z".into(),
            cluster_id: "a".repeat(32),
            node: 2,
            index: 12,
            term: 3,
            sessions: 1,
            keys: 2,
            hash: crc,
        };
        format!("{}{text}", head.line()).into_bytes()
    }

    const LINES: [&str; 6] = [
        "SNAPSHOT 12 3\tindex=12 log=5f1c0a77 sessions=1 keys=2 evicted=0 format=2 ",
        "SESSION 3f\tused=11 dropped=0 since=0 results=1 ",
        "DONE SET\tsequence=1 digest=ee0b1c4a9f3d2b74 ",
        "SET name1 Jaggu\t",
        "SET \"two words\" \"line\\nbreak\"\t",
        "END 12 3\tindex=12 ",
    ];

    fn check(text: &[u8], piece: usize) -> Result<Checked, Fault> {
        let mut checker = Checker::default();
        for piece in text.chunks(piece) {
            checker.feed(piece)?;
        }
        checker.finish()
    }

    // A whole backup says what it is of, however it comes in pieces, with its first line or without; what
    // it binds has one checksum, whatever the sessions are.
    #[test]
    fn a_whole_backup_says_what_it_is() {
        let text = backup(&LINES);
        let whole = check(&text, usize::MAX).unwrap();
        assert_eq!((whole.head.index, &*whole.head.cluster), (12, "demo"));
        for piece in [1, 2, 7, 100] {
            assert_eq!(check(&text, piece), Ok(whole.clone()));
        }
        let line = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let bare = check(&text[line..], 64).unwrap();
        assert_eq!((bare.head.hash, &*bare.head.cluster), (whole.head.hash, ""));
        let mut others = LINES;
        others[1] = "SESSION 4f\tused=11 dropped=0 since=0 results=1 ";
        let other = check(&backup(&others), 64).unwrap();
        assert_ne!(other.head.hash, whole.head.hash);
        assert_eq!(other.content, whole.content);
        others[3] = "SET name1 Jagga\t";
        assert_ne!(check(&backup(&others), 64).unwrap().content, whole.content);
    }

    // With any bit flipped, cut anywhere, or with something behind it, it is none.
    #[test]
    fn every_bit_counts() {
        let text = backup(&LINES);
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refused = check(&flipped, 64);
            assert!(refused.is_err(), "bit {bit}: {refused:?}");
        }
        for length in 0..text.len() {
            assert!(check(&text[..length], 64).is_err(), "{length} bytes");
        }
        let more = [&text[..], b"x"].concat();
        assert!(check(&more, 64).is_err());
        let mut fewer = LINES.to_vec();
        fewer.remove(3);
        let fault = check(&backup(&fewer), 64).unwrap_err();
        assert_eq!(fault.what, "another number of keys than was told");
    }
}
