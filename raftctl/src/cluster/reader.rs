//! From the tree of values to typed settings, collecting everything that is wrong on the way.
//!
//! Each reader returns `None` after it has reported a problem, and reading goes on with the rest:
//! the caller decides only at the end whether there is a cluster.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::environment::{self, Environment, Filled};
use super::yaml::{Key, Kind, Value};
use crate::error::problem::{Problem, closest};

/// What has been found wrong so far, and what a variable stands for.
pub struct Report<'a> {
    /// What makes the file unusable.
    pub problems: Vec<Problem>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
    environment: Environment<'a>,
    /// A variable that is not set is no problem in a section that is not in use.
    pub unset_is_a_problem: bool,
}

impl<'a> Report<'a> {
    /// Nothing is wrong yet.
    #[must_use]
    pub fn new(environment: Environment<'a>) -> Self {
        Report {
            problems: Vec::new(),
            warnings: Vec::new(),
            environment,
            unset_is_a_problem: true,
        }
    }

    /// Notes a problem.
    pub fn problem(&mut self, line: u64, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem {
            line,
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// Notes a warning.
    pub fn warning(&mut self, line: u64, message: impl Into<String>, hint: impl Into<String>) {
        self.warnings.push(Problem {
            line,
            message: message.into(),
            hint: hint.into(),
        });
    }

    fn wrong(&mut self, value: &Value, what: &str, wanted: &str) {
        let message = format!("{what} is {}", value.describe());
        self.problem(value.line, message, format!("write {wanted}"));
    }

    /// The text of a scalar with its variables filled in; `None` when it is no text at all, or
    /// when a variable is missing, which is reported here.
    fn filled(&mut self, line: u64, text: &str) -> Option<Filled> {
        match environment::fill(text, self.environment) {
            Ok(filled) => Some(filled),
            Err(error) => {
                if self.unset_is_a_problem || !error.is_unset() {
                    self.problem(line, error.to_string(), error.hint());
                }
                None
            }
        }
    }
}

/// A mapping whose keys have been checked against the known ones.
pub struct Section<'a> {
    /// How its keys are called in messages: "" or "ssh.".
    prefix: String,
    /// Where it begins.
    pub line: u64,
    entries: &'a [(Key, Value)],
}

impl<'a> Section<'a> {
    /// Opens a mapping and reports every key that is not known. An empty value is an empty
    /// mapping.
    pub fn open(
        value: &'a Value,
        prefix: &str,
        known: &[&str],
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let entries: &[(Key, Value)] = match &value.kind {
            Kind::Map(entries) => entries,
            Kind::Null => &[],
            _ => {
                let name = match prefix.trim_end_matches('.') {
                    "" => "the file",
                    name => name,
                };
                let message = format!("{name} is {}", value.describe());
                report.problem(
                    value.line,
                    message,
                    format!("write keys and values; keys are {}", known.join(", ")),
                );
                return None;
            }
        };
        for (key, _) in entries {
            if !known.contains(&key.name.as_str()) {
                let hint = match closest(&key.name, known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("known keys: {}", known.join(", ")),
                };
                report.problem(key.line, format!("unknown key {prefix}{}", key.name), hint);
            }
        }
        Some(Section {
            prefix: prefix.into(),
            line: value.line,
            entries,
        })
    }

    /// The value of a key. A key without a value counts as absent.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        let found = self.entries.iter().find(|(k, _)| k.name == key)?;
        (found.1.kind != Kind::Null).then_some(&found.1)
    }

    /// The line of a key, or of the section where the key is absent.
    #[must_use]
    pub fn line_of(&self, key: &str) -> u64 {
        let found = self.entries.iter().find(|(k, _)| k.name == key);
        found.map_or(self.line, |(k, _)| k.line)
    }

    /// How a key of this section is called in messages.
    #[must_use]
    pub fn name_of(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A text.
    pub fn text(&self, key: &str, report: &mut Report<'_>) -> Option<String> {
        text(self.value(key)?, &self.name_of(key), report)
    }

    /// A name of a host, a login or an image: it becomes an argument of another program, which must
    /// neither take it for an option nor split it, nor may a shell on the way find anything in it.
    pub fn name(&self, key: &str, report: &mut Report<'_>) -> Option<String> {
        let name = self.text(key, report)?;
        self.fit(key, name, report)
    }

    /// A list of such names.
    pub fn names(&self, key: &str, report: &mut Report<'_>) -> Option<Vec<String>> {
        let names = self.texts(key, report)?.into_iter();
        // Not collected into an Option at once: that would stop at the first that is wrong.
        let names: Vec<_> = names.map(|name| self.fit(key, name, report)).collect();
        names.into_iter().collect()
    }

    fn fit(&self, key: &str, name: String, report: &mut Report<'_>) -> Option<String> {
        let Some(cause) = unfit(&name) else {
            return Some(name);
        };
        let message = format!("{} can't be {name:?}: it {cause}", self.name_of(key));
        let hint = "write a plain name, as in n1.example or raft";
        report.problem(self.line_of(key), message, hint);
        None
    }

    /// A list of texts.
    pub fn texts(&self, key: &str, report: &mut Report<'_>) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let name = self.name_of(key);
        let Kind::List(items) = &value.kind else {
            report.wrong(value, &name, "a list, as in [a, b]");
            return None;
        };
        // Not collected into an Option at once: that would stop at the first that is wrong.
        let texts: Vec<_> = items.iter().map(|item| text(item, &name, report)).collect();
        texts.into_iter().collect()
    }

    /// A whole number within bounds.
    pub fn integer(
        &self,
        key: &str,
        bounds: RangeInclusive<u64>,
        report: &mut Report<'_>,
    ) -> Option<u64> {
        integer(self.value(key)?, &self.name_of(key), bounds, report)
    }

    /// A TCP port.
    pub fn port(&self, key: &str, report: &mut Report<'_>) -> Option<u16> {
        let port = self.integer(key, 1..=65535, report)?;
        u16::try_from(port).ok()
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str, report: &mut Report<'_>) -> Option<bool> {
        let value = self.value(key)?;
        let name = self.name_of(key);
        match &value.kind {
            Kind::Bool(truth) => return Some(*truth),
            Kind::Text(text) => match &*report.filled(value.line, text)?.text {
                "true" => return Some(true),
                "false" => return Some(false),
                _ => {}
            },
            _ => {}
        }
        report.wrong(value, &name, "true or false");
        None
    }

    /// A length of time within bounds, written `500ms`, `2s`, `12h`.
    pub fn duration(
        &self,
        key: &str,
        bounds: RangeInclusive<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Duration> {
        duration(self.value(key)?, &self.name_of(key), bounds, report)
    }

    /// One of the values of a type, each of which has its name.
    pub fn variant<T: clap::ValueEnum>(&self, key: &str, report: &mut Report<'_>) -> Option<T> {
        let names: Vec<String> = T::value_variants().iter().map(super::name_of).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let word = self.choice(key, &names, report)?;
        T::from_str(&word, false).ok()
    }

    /// One word of a few.
    pub fn choice(&self, key: &str, choices: &[&str], report: &mut Report<'_>) -> Option<String> {
        let value = self.value(key)?;
        let word = self.text(key, report)?;
        if choices.contains(&word.as_str()) {
            return Some(word);
        }
        let hint = match closest(&word, choices) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("write one of {}", choices.join(", ")),
        };
        let name = self.name_of(key);
        report.problem(value.line, format!("{name} can't be {word:?}"), hint);
        None
    }
}

/// Why a text is no plain name. Each part of `user@host` and of a list of jump hosts counts.
fn unfit(name: &str) -> Option<&'static str> {
    /// What a shell would find something in; ssh refuses most of it, too.
    const OF_SHELLS: &[char] = &[
        '\'', '"', '`', '$', ';', '&', '|', '<', '>', '(', ')', '{', '}',
    ];
    if name.is_empty() {
        Some("is empty")
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("has a space or a control character in it")
    } else if name.split(['@', ',']).any(|part| part.starts_with('-')) {
        Some("begins with -, like an option")
    } else if name.contains(OF_SHELLS) {
        Some("has a character in it that means something to a shell")
    } else {
        None
    }
}

/// A text; a number counts, as it reads.
pub fn text(value: &Value, name: &str, report: &mut Report<'_>) -> Option<String> {
    match &value.kind {
        Kind::Text(text) => Some(report.filled(value.line, text)?.text),
        Kind::Integer(_) | Kind::Float(_) => value.number(),
        _ => {
            report.wrong(value, name, "text");
            None
        }
    }
}

/// A whole number within bounds. Text counts only where a variable stood in it.
pub fn integer(
    value: &Value,
    name: &str,
    bounds: RangeInclusive<u64>,
    report: &mut Report<'_>,
) -> Option<u64> {
    let number = match &value.kind {
        Kind::Integer(number) => Some(*number),
        Kind::Text(text) => {
            let filled = report.filled(value.line, text)?;
            filled
                .has_variables
                .then(|| filled.text.parse().ok())
                .flatten()
        }
        _ => None,
    };
    let (least, most) = (*bounds.start(), *bounds.end());
    let Some(number) = number else {
        report.wrong(
            value,
            name,
            &format!("a whole number from {least} to {most}"),
        );
        return None;
    };
    match u64::try_from(number) {
        Ok(number) if bounds.contains(&number) => Some(number),
        _ => {
            let written = value.number().unwrap_or(number.to_string());
            let message = format!("{name} is {written}");
            report.problem(value.line, message, format!("it must be {least} to {most}"));
            None
        }
    }
}

/// A length of time within bounds.
pub fn duration(
    value: &Value,
    name: &str,
    bounds: RangeInclusive<Duration>,
    report: &mut Report<'_>,
) -> Option<Duration> {
    let written = match &value.kind {
        Kind::Text(text) => report.filled(value.line, text)?.text,
        _ => String::new(),
    };
    let Ok(length) = crate::text::times::parse(&written) else {
        report.wrong(value, name, "a length of time, as in 500ms, 2s or 12h");
        return None;
    };
    if bounds.contains(&length) {
        return Some(length);
    }
    let (least, most) = (bounds.start(), bounds.end());
    report.problem(
        value.line,
        format!("{name} is {}", humantime::format_duration(length)),
        format!(
            "it must be {} to {}",
            humantime::format_duration(*least),
            humantime::format_duration(*most)
        ),
    );
    None
}
