//! YAML as a tree in which every value knows its line.
//!
//! Reading straight into structs would stop at the first wrong value; a person who edits
//! cluster.yaml wants to hear all of them at once. So the text becomes a tree here, and
//! [`super::reader`] walks it, collecting problems.

use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{
    DuplicateKeyPolicy, Location, Options, Spanned, UserMessageFormatter, from_str_with_options,
};

use crate::error::problem::Problem;

/// A value and the line it stands on; 0 where the parser could not tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Counted from 1.
    pub line: u64,
    /// What stands there.
    pub kind: Kind,
    /// A number as the file has it: `03` and `1.10` are more than 3 and 1.1 to a person.
    pub written: Option<String>,
    /// Where its text stands in the file; empty where the parser could not tell.
    bytes: Range<usize>,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction.
    Float(f64),
    /// Anything else that is a scalar.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Value)>),
}

/// A key of a mapping and its line.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Counted from 1.
    pub line: u64,
    /// The key, as the file has it: `on` and `03` are names like others.
    pub name: String,
}

impl Value {
    /// What to call it in a message.
    #[must_use]
    pub fn describe(&self) -> String {
        let number = |value: &dyn fmt::Display| match &self.written {
            Some(written) => format!("the number {written}"),
            None => format!("the number {value}"),
        };
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Bool(value) => format!("the truth value {value}"),
            Kind::Integer(value) => number(value),
            Kind::Float(value) => number(value),
            Kind::Text(value) => format!("the text {value:?}"),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        }
    }

    /// A number as the file has it.
    #[must_use]
    pub fn number(&self) -> Option<String> {
        let value = match &self.kind {
            Kind::Integer(value) => value.to_string(),
            Kind::Float(value) => value.to_string(),
            _ => return None,
        };
        Some(self.written.clone().unwrap_or(value))
    }

    /// Notes how its numbers are written in the file.
    fn note_numbers(&mut self, file: &str) {
        match &mut self.kind {
            Kind::Integer(_) | Kind::Float(_) => {
                let written = file.get(self.bytes.clone()).map(str::trim);
                self.written = written.filter(|text| !text.is_empty()).map(String::from);
            }
            Kind::List(items) => items.iter_mut().for_each(|item| item.note_numbers(file)),
            Kind::Map(entries) => entries
                .iter_mut()
                .for_each(|(_, value)| value.note_numbers(file)),
            Kind::Null | Kind::Bool(_) | Kind::Text(_) => {}
        }
    }
}

/// Parses one document.
///
/// # Errors
/// What is wrong with it as YAML. A key that is there twice does not hide the rest of the file:
/// the tree then comes along, made of the first of the two.
pub fn parse(text: &str) -> (Option<Value>, Vec<Problem>) {
    let strict = read(text, DuplicateKeyPolicy::Error);
    match strict {
        Ok(value) => (Some(value), Vec::new()),
        Err(problem) => (
            read(text, DuplicateKeyPolicy::FirstWins).ok(),
            vec![problem],
        ),
    }
}

fn read(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, Problem> {
    let options = serde_yaml::options! { duplicate_keys: duplicate_keys };
    from_spanned(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        Problem {
            line,
            message: plain(&error),
            hint: hint(text, line, &error.to_string()),
        }
    })
}

fn from_spanned(text: &str, options: Options) -> Result<Value, serde_yaml::Error> {
    let spanned: Spanned<Kind> = from_str_with_options(text, options)?;
    let mut value = Value::from(spanned);
    value.note_numbers(text);
    Ok(value)
}

/// The parser's message without its excerpt of the file and without the position, which stands
/// at the head of every problem.
fn plain(error: &serde_yaml::Error) -> String {
    // Not its words for programmers, which name functions of Rust.
    let text = error
        .without_snippet()
        .render_with_formatter(&UserMessageFormatter);
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    let duplicate = line.strip_prefix("duplicate mapping key `");
    match duplicate.and_then(|rest| rest.split_once('`')) {
        Some((key, _)) => format!("the key {key} is there twice"),
        None => format!("not valid YAML: {line}"),
    }
}

/// The two mistakes that people make most.
fn hint(text: &str, line: u64, error: &str) -> String {
    let at = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let source = text.lines().nth(at).unwrap_or_default();
    if error.contains("duplicate") {
        "keep one of them".into()
    } else if source.contains('\t') || error.contains("a tab") {
        "YAML is indented with spaces, not tabs".into()
    } else if source.contains("${") && source.contains('{') {
        "put quotes around \"${...}\" inside {...}".into()
    } else {
        String::new()
    }
}

impl From<Spanned<Kind>> for Value {
    fn from(spanned: Spanned<Kind>) -> Self {
        Value {
            line: spanned.referenced.line(),
            kind: spanned.value,
            written: None,
            bytes: bytes(&spanned.defined),
        }
    }
}

/// Where a value stands in the file; nowhere if that is not known.
fn bytes(location: &Location) -> Range<usize> {
    let span = location.span();
    let known = span.byte_offset().zip(span.byte_len());
    let found = known.and_then(|(from, length)| {
        let from = usize::try_from(from).ok()?;
        Some(from..from.checked_add(usize::try_from(length).ok()?)?)
    });
    found.unwrap_or_default()
}

/// A key as the file has it. Asked for as text, a scalar is not taken for a truth value or a number:
/// to YAML 1.1 `y` and `on` are both true, and one of two labels would be lost.
struct KeyText(String);

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(KeyText)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Kind, E> {
        Ok(Kind::Integer(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Kind>>()? {
            list.push(item.into());
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<KeyText>>()? {
            let value: Spanned<Kind> = entries.next_value()?;
            let key = Key {
                line: key.referenced.line(),
                name: key.value.0,
            };
            map.push((key, value.into()));
        }
        Ok(Kind::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every key and value knows its line, in block and in flow style.
    #[test]
    fn lines_are_known() {
        let (value, problems) = parse("a: 1\nb:\n  - {c: x, d: 1.5}\n  - ~\n");
        assert_eq!(problems, []);
        let Kind::Map(entries) = value.unwrap().kind else {
            panic!("not a map")
        };
        assert_eq!((entries[1].0.line, &*entries[1].0.name), (2, "b"));
        let Kind::List(items) = &entries[1].1.kind else {
            panic!("not a list")
        };
        assert_eq!((items[1].line, &items[1].kind), (4, &Kind::Null));
        let Kind::Map(inner) = &items[0].kind else {
            panic!("not a map")
        };
        assert_eq!((inner[1].1.line, &inner[1].1.kind), (3, &Kind::Float(1.5)));
    }

    // Keys are text, whatever else YAML can read in them: none is changed, and none is lost.
    #[test]
    fn keys_are_text() {
        let (value, problems) =
            parse("{y: a, on: b, \"no\": c, 03: d, 1.10: e, true: f, 0x10: g}\n");
        assert_eq!(problems, []);
        let Kind::Map(entries) = value.unwrap().kind else {
            panic!("not a map")
        };
        let names: Vec<_> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
        assert_eq!(names, ["y", "on", "no", "03", "1.10", "true", "0x10"]);
    }

    // A number keeps its form, also behind text that takes more bytes than it has letters.
    #[test]
    fn numbers_are_told_as_they_are_written() {
        let (value, _) =
            parse("a: größe\nb: 03\nc: [1.10, 0x1F]\nd: &n 1e3\ne: *n\nf: 7 # seven\n");
        let Kind::Map(entries) = value.unwrap().kind else {
            panic!("not a map")
        };
        assert_eq!(entries[1].1.describe(), "the number 03");
        let Kind::List(items) = &entries[2].1.kind else {
            panic!("not a list")
        };
        assert_eq!(items[0].number().unwrap(), "1.10");
        assert_eq!(items[1].number().unwrap(), "0x1F");
        assert_eq!(entries[4].1.number().unwrap(), "1e3");
        assert_eq!(entries[5].1.number().unwrap(), "7");
    }

    // What the parser has to say is said to a person who edits a file, not to a Rust programmer.
    #[test]
    fn messages_name_no_functions_of_rust() {
        for text in [
            "a: 1\n---\nb: 2\n",
            "? ~\n: 1\n",
            "a: !!binary x\n",
            "a: [\n",
        ] {
            let (_, problems) = parse(text);
            let told = format!("{problems:?}");
            assert!(!problems.is_empty(), "{text:?}");
            for word in ["from_str", "Option<", "DuplicateKeyPolicy", "set "] {
                assert!(!told.contains(word), "{text:?}: {told}");
            }
        }
    }

    // A key that is there twice is reported, and the rest of the file is still looked at.
    #[test]
    fn a_duplicate_key_does_not_hide_the_rest() {
        let (value, problems) = parse("a: 1\na: 2\nb: 3\n");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].line, 2, "{problems:?}");
        assert!(
            problems[0].message.contains("the key a is there twice"),
            "{problems:?}"
        );
        assert!(value.is_some());
    }

    // Broken YAML is one problem with its line, and the usual slips get a hint.
    #[test]
    fn broken_yaml_is_one_problem() {
        let (value, problems) = parse("a: 1\nb: [1, 2\nc: 3\n");
        assert!(value.is_none());
        assert_eq!(problems.len(), 1);
        let (_, problems) = parse("a: 1\nb:\n\tc: 1\n");
        assert!(problems[0].hint.contains("tabs"), "{problems:?}");
        let (_, problems) = parse("gcp: {project: ${X:-y}}\n");
        assert!(
            problems.is_empty() || problems[0].hint.contains("quotes"),
            "{problems:?}"
        );
    }
}
