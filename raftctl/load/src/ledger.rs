//! What a client was promised: the writes that were acknowledged, and those of which nobody can tell. Pure.

use std::collections::BTreeMap;

/// More writes of unknown outcome than that to one key are not kept apart: the key is then not judged.
const MAYBE_MAX: usize = 64;

/// The writes of one client, which nobody else makes: it has keys of its own.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<String, Entry>);

/// What may stand behind a key.
#[derive(Debug, Default)]
struct Entry {
    /// The last write that was acknowledged, by its number.
    acknowledged: Option<u64>,
    /// Later ones that may have been done, or may yet be.
    maybe: Vec<u64>,
}

impl Ledger {
    /// A write of this number was acknowledged.
    pub fn acknowledged(&mut self, key: String, number: u64) {
        self.0.entry(key).or_default().acknowledged = Some(number);
    }

    /// A write of this number has failed, and may have been done all the same.
    pub fn failed(&mut self, key: String, number: u64) {
        let maybe = &mut self.0.entry(key).or_default().maybe;
        if maybe.len() <= MAYBE_MAX {
            maybe.push(number);
        }
    }

    /// The keys that it tells of.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Whether `found` may stand behind `key`, where `value` gives the value that was written as this number.
    #[must_use]
    pub fn may_be(&self, key: &str, found: Option<&str>, value: impl Fn(u64) -> String) -> bool {
        let Some(entry) = self.0.get(key) else {
            return true;
        };
        if entry.maybe.len() > MAYBE_MAX {
            return true;
        }
        match found {
            None => entry.acknowledged.is_none(),
            Some(found) => {
                let mut written = entry.acknowledged.iter().chain(&entry.maybe);
                written.any(|number| value(*number) == found)
            }
        }
    }
}

/// What was found when all was over.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// So many keys were read again.
    pub keys: u64,
    /// Those that hold neither what was acknowledged last nor what may have been written since.
    pub lost: Vec<String>,
    /// So many could not be read.
    pub unread: u64,
}

impl Checked {
    /// Adds what another client has found.
    pub fn add(&mut self, other: Checked) {
        self.keys += other.keys;
        self.unread += other.unread;
        self.lost.extend(other.lost);
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} keys read again: ", self.keys);
        match self.lost.as_slice() {
            [] => text.push_str("each holds what was acknowledged last"),
            lost => {
                let some: Vec<&str> = lost.iter().take(5).map(String::as_str).collect();
                text.push_str(&format!(
                    "{} LOST WHAT WAS ACKNOWLEDGED ({})",
                    lost.len(),
                    some.join(", ")
                ));
            }
        }
        if self.unread > 0 {
            text.push_str(&format!("; {} more could not be read", self.unread));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(number: u64) -> String {
        format!("v{number}")
    }

    // A key holds what was acknowledged last, or a later write that may have been done; an older value, none, or
    // one that nobody wrote is a loss.
    #[test]
    fn what_was_acknowledged_must_be_there() {
        let mut ledger = Ledger::default();
        ledger.acknowledged("a".into(), 1);
        ledger.acknowledged("a".into(), 2);
        ledger.failed("a".into(), 3);
        ledger.failed("b".into(), 4);
        let may_be = |key: &str, found: Option<&str>| ledger.may_be(key, found, value);
        assert!(may_be("a", Some("v2")) && may_be("a", Some("v3")));
        assert!(!may_be("a", Some("v1")) && !may_be("a", None) && !may_be("a", Some("v4")));
        assert!(may_be("b", None) && may_be("b", Some("v4")) && !may_be("b", Some("v5")));
        assert!(may_be("c", Some("anything")), "nobody wrote it");
        assert!(ledger.keys().eq(["a", "b"]));
    }

    // Where too many writes are in doubt nothing is claimed.
    #[test]
    fn what_is_in_doubt_is_not_judged() {
        let mut ledger = Ledger::default();
        for number in 0..1_000 {
            ledger.failed("a".into(), number);
        }
        assert!(ledger.may_be("a", Some("v2000"), value));
    }

    // What several clients found adds up, and a loss is told by name.
    #[test]
    fn a_loss_is_named() {
        let mut all = Checked {
            keys: 10,
            ..Checked::default()
        };
        assert_eq!(
            all.text(),
            "10 keys read again: each holds what was acknowledged last"
        );
        all.add(Checked {
            keys: 5,
            lost: vec!["bench/7".into()],
            unread: 2,
        });
        assert_eq!(
            all.text(),
            "15 keys read again: 1 LOST WHAT WAS ACKNOWLEDGED (bench/7); 2 more could not be read"
        );
    }
}
