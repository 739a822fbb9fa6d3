//! Why an address of this machine, from which a tunnel leads to a node, leads nowhere.
//!
//! A client that speaks to such an address sees no more than that its connection ends. Whoever carries
//! the connection notes the reason here, for those who tell the user of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many reasons are kept; a cluster has fewer nodes.
const NOTES_MAX: usize = 256;

fn notes() -> MutexGuard<'static, BTreeMap<String, String>> {
    static NOTES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    // The map is whole whenever it can be seen.
    NOTES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes why the way to an address leads nowhere.
pub fn note(address: &str, why: String) {
    let mut notes = notes();
    if notes.len() < NOTES_MAX || notes.contains_key(address) {
        notes.insert(address.to_owned(), why);
    }
}

/// The way is open.
pub fn clear(address: &str) {
    notes().remove(address);
}

/// Adds to a text what is known of the way to `address`.
#[must_use]
pub fn explain(address: &str, text: String) -> String {
    match notes().get(address) {
        Some(why) => format!("{text}; {why}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A reason is told with what a client saw, until the way is open again, and of no other address.
    #[test]
    fn reasons_are_told_until_the_way_is_open() {
        note("127.0.0.1:1", "ssh says: no".into());
        let seen = |address| explain(address, "broken pipe".into());
        assert_eq!(seen("127.0.0.1:1"), "broken pipe; ssh says: no");
        assert_eq!(seen("127.0.0.1:2"), "broken pipe");
        clear("127.0.0.1:1");
        assert_eq!(seen("127.0.0.1:1"), "broken pipe");
    }
}
