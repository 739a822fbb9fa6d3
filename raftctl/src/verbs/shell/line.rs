//! What a line of the shell says. Pure.

use crate::cluster::Reads;
use crate::text::words::{self, Word};
use crate::verbs::keys::{Command, Reading};

/// What `HELP` prints.
pub const HELP: &str = "\
SET key value          write
GET key                read; an empty line when the key does not exist
GET key STALE [node]   read what a node has applied, however old
GET key QUORUM         read with a heartbeat round instead of the lease
DEL key                delete
CAS key old new        write where the key still holds old
CREATE key value       write where the key does not exist
LIST [prefix]          keys and values in byte order
STATUS                 the nodes
HELP                   this
QUIT                   leave

A word with spaces, quotes or line breaks is written as a JSON string: SET k \"two words\"
";

/// A line.
#[derive(Debug, Clone)]
pub enum Line {
    /// Nothing, or a comment.
    Empty,
    /// Something to do with a key.
    Keys(Command),
    /// `STATUS`
    Status,
    /// `HELP`
    Help,
    /// `QUIT`
    Quit,
}

/// Reads a line. Keywords may be written in any case.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn parse(line: &str) -> Result<Line, String> {
    let words = words::split(line).map_err(|error| error.to_string())?;
    let Some((verb, rest)) = words.split_first() else {
        return Ok(Line::Empty);
    };
    if verb.text.starts_with('#') && !verb.quoted {
        return Ok(Line::Empty);
    }
    let text = |word: &Word| word.text.clone();
    let line = match (verb.text.to_uppercase().as_str(), rest) {
        ("SET", [key, value]) => Command::Set {
            key: text(key),
            value: text(value),
        },
        ("GET", [key, how @ ..]) => Command::Get {
            key: text(key),
            reading: reading(how)?,
        },
        ("DEL", [key]) => Command::Del { key: text(key) },
        ("CAS", [key, old, new]) => Command::Cas {
            key: text(key),
            value: text(new),
            expect: Some(text(old)),
            absent: false,
        },
        ("CREATE", [key, value]) => Command::Cas {
            key: text(key),
            value: text(value),
            expect: None,
            absent: true,
        },
        ("LIST", []) => list(String::new()),
        ("LIST", [prefix]) => list(text(prefix)),
        ("STATUS", []) => return Ok(Line::Status),
        ("HELP" | "?", []) => return Ok(Line::Help),
        ("QUIT" | "EXIT", []) => return Ok(Line::Quit),
        (verb, _) => return Err(usage(verb)),
    };
    Ok(Line::Keys(line))
}

fn list(prefix: String) -> Command {
    Command::List {
        prefix,
        limit: 0,
        after: None,
        reading: Reading {
            read: None,
            node: None,
        },
    }
}

fn reading(words: &[Word]) -> Result<Reading, String> {
    let keyword = |word: &Word| word.text.to_uppercase();
    let (read, node) = match words {
        [] => (None, None),
        [how] if keyword(how) == "LEASE" => (Some(Reads::Lease), None),
        [how] if keyword(how) == "QUORUM" => (Some(Reads::Quorum), None),
        [how] if keyword(how) == "STALE" => (Some(Reads::Stale), None),
        [how, node] if keyword(how) == "STALE" => {
            let id = node.text.parse().map_err(|_| {
                format!(
                    "{} is no node's id: GET key STALE 3",
                    words::quote(&node.text)
                )
            })?;
            (Some(Reads::Stale), Some(id))
        }
        _ => return Err(usage("GET")),
    };
    Ok(Reading { read, node })
}

/// The line of the help that belongs to a verb, or that there is no such verb.
fn usage(verb: &str) -> String {
    let of_verb = |line: &&str| line.split(' ').next() == Some(verb);
    let lines: Vec<&str> = HELP.lines().filter(of_verb).collect();
    if lines.is_empty() {
        return format!("{} is no command; HELP lists them", words::quote(verb));
    }
    format!(
        "write: {}\n(a word with spaces is written as a JSON string: \"two words\")",
        lines.join("\n       ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Line::Keys(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// The notation of `logs.txt`, so that a line can be copied from there.
    #[test]
    fn lines_are_written_as_in_the_log() {
        assert!(matches!(
            command(r#"SET "two words" "line\nbreak""#),
            Command::Set { key, value } if key == "two words" && value == "line\nbreak"
        ));
        assert!(matches!(
            command("create k v"),
            Command::Cas {
                expect: None,
                absent: true,
                ..
            }
        ));
        assert!(matches!(
            command("CAS k old new"),
            Command::Cas { expect: Some(old), value, .. } if old == "old" && value == "new"
        ));
        assert!(matches!(command("list"), Command::List { prefix, .. } if prefix.is_empty()));
        assert!(matches!(
            command("GET k stale 3"),
            Command::Get {
                reading: Reading {
                    read: Some(Reads::Stale),
                    node: Some(3)
                },
                ..
            }
        ));
        for empty in ["", "   ", "# a comment"] {
            assert!(matches!(parse(empty), Ok(Line::Empty)));
        }
        assert!(matches!(parse("quit"), Ok(Line::Quit)));
    }

    /// A wrong line says how it is written right.
    #[test]
    fn mistakes_say_what_is_right() {
        let error = |line: &str| parse(line).unwrap_err();
        assert!(error("SET k two words").starts_with("write: SET key value"));
        assert!(error("GET").contains("GET key QUORUM"));
        assert!(error("GET k STALE x").contains("x is no node's id"));
        assert!(error("FETCH k").contains("FETCH is no command; HELP"));
        assert!(error("SET k \"open").contains("column 7"));
        assert!(error("DEL").contains("DEL key"));
        assert!(error("QUIT now").contains("QUIT"));
    }
}
