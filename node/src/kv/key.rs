//! A key as the map holds it. A short one, as most are, stands in the map itself: it takes no memory of its own,
//! and whoever looks one up compares what lies side by side instead of following a pointer to each.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// As much as fits beside the length where a pointer and its length stand otherwise.
const SHORT_BYTES_MAX: usize = 22;

/// See the module. In byte order, which is that of texts.
#[derive(Clone, Debug)]
pub struct Key(Kept);

#[derive(Clone, Debug)]
enum Kept {
    Short {
        length: u8,
        bytes: [u8; SHORT_BYTES_MAX],
    },
    Long(Arc<str>),
}

// It takes the place of a pointer and a length, and hardly more.
const _: () = assert!(size_of::<Key>() == 24);

impl Key {
    fn short(text: &str) -> Option<Key> {
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        // At most `SHORT_BYTES_MAX`.
        let length = text.len() as u8;
        Some(Key(Kept::Short { length, bytes }))
    }

    /// Its bytes, which are those of a text.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Short { length, bytes } => &bytes[..usize::from(*length)],
            Kept::Long(text) => text.as_bytes(),
        }
    }

    /// The text that it was made of.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kept::Short { .. } => {
                std::str::from_utf8(self.as_bytes()).expect("it was made of a whole text")
            }
            Kept::Long(text) => text,
        }
    }

    /// The same for whoever passes it on.
    pub fn to_shared(&self) -> Arc<str> {
        match &self.0 {
            Kept::Short { .. } => self.as_str().into(),
            Kept::Long(text) => Arc::clone(text),
        }
    }
}

impl From<&Arc<str>> for Key {
    fn from(text: &Arc<str>) -> Self {
        Key::short(text).unwrap_or_else(|| Key(Kept::Long(Arc::clone(text))))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Key::short(text).unwrap_or_else(|| Key(Kept::Long(text.into())))
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use super::*;

    // Of every length, around the longest that stands in the map: the same text again, in the order of texts.
    #[test]
    fn keys_are_texts_in_their_order() {
        let mut texts: Vec<String> = (0..40).map(|length| "é".repeat(length)).collect();
        texts.extend((0..40).map(|length| format!("a{}", "b".repeat(length))));
        texts.extend(["a\0", "a\0\0", "", "\u{10ffff}"].map(str::to_owned));
        let keys: Vec<Key> = texts.iter().map(|text| Key::from(&**text)).collect();
        for (key, text) in keys.iter().zip(&texts) {
            assert_eq!((key.as_str(), &*key.to_shared()), (&**text, &**text));
            for (other, other_text) in keys.iter().zip(&texts) {
                assert_eq!(key.cmp(other), text.cmp(other_text));
                assert_eq!(key == other, text == other_text);
            }
        }
    }

    // A long one is shared with the log, which has it anyhow.
    #[test]
    fn long_keys_are_shared() {
        let text: Arc<str> = "k".repeat(SHORT_BYTES_MAX + 1).into();
        let key = Key::from(&text);
        assert!(Arc::ptr_eq(&key.clone().to_shared(), &text));
    }
}
