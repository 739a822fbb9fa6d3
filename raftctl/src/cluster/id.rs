//! The id of a cluster: a random number that tells it from any other of the same name.

use std::fmt;

use crate::error::{Error, Result};

/// The id of a cluster, 128 random bits. Its text is 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId(u128);

impl ClusterId {
    /// One that no cluster has had yet.
    #[must_use]
    pub fn mint() -> Self {
        loop {
            // 0 stands for none.
            if let Some(id) = Self::new(rand::random()) {
                return id;
            }
        }
    }

    /// The id of its text; nothing where that is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_whole);
        number.and_then(Self::new)
    }

    fn new(number: u128) -> Option<Self> {
        (number != 0).then_some(ClusterId(number))
    }

    /// Its first digits: enough to tell clusters apart, and short enough to be read.
    #[must_use]
    pub fn short(self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The one id among those that nodes have, each with the name of who has it; `None` where none has any.
///
/// # Errors
/// They have several.
pub fn the_one(held: impl Iterator<Item = (ClusterId, String)>) -> Result<Option<ClusterId>> {
    let mut ids: Vec<(ClusterId, Vec<String>)> = Vec::new();
    for (id, holder) in held {
        match ids.iter_mut().find(|(other, _)| *other == id) {
            Some((_, holders)) => holders.push(holder),
            None => ids.push((id, vec![holder])),
        }
    }
    if ids.len() < 2 {
        return Ok(ids.first().map(|(id, _)| *id));
    }
    let told = ids
        .iter()
        .map(|(id, holders)| format!("{id} ({})", holders.join(", ")));
    Err(Error::Usage(format!(
        "two clusters of the same name are mixed up here, by the ids in metadata.txt: {}; move the \
         folders of those that do not belong here away (they are filled again by the others), or \
         give one cluster another name",
        told.collect::<Vec<_>>().join(" and ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    // What is written is what is read; a text that is cut short, or says nothing, is no id.
    #[test]
    fn an_id_is_its_text() {
        let (one, other) = (ClusterId::mint(), ClusterId::mint());
        assert_ne!(one, other);
        assert_eq!(ClusterId::parse(&one.to_string()), Some(one));
        assert!(one.to_string().starts_with(&one.short()));
        for text in ["", "abc", &"0".repeat(32), &"g".repeat(32), &"a".repeat(33)] {
            assert_eq!(ClusterId::parse(text), None, "{text}");
        }
    }

    // All who have one have the same, or each is named with its own.
    #[test]
    fn two_ids_are_told_with_who_has_them() {
        let id = |digit: &str| ClusterId::parse(&digit.repeat(32)).unwrap();
        let held = |digits: &[&str]| {
            let named = (1..).zip(digits.to_vec());
            the_one(named.map(|(node, digit)| (id(digit), format!("node {node}"))))
        };
        assert_eq!(held(&[]).unwrap(), None);
        assert_eq!(held(&["a", "a"]).unwrap(), Some(id("a")));
        let error = held(&["a", "b", "a"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        let (first, second) = ("a".repeat(32), "b".repeat(32));
        assert!(
            text.contains(&format!("{first} (node 1, node 3)")),
            "{text}"
        );
        assert!(text.contains(&format!("{second} (node 2)")), "{text}");
    }
}
