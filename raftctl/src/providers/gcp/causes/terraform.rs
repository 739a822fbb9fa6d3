//! What Terraform says of itself, its provider and its state. Pure.

use super::{Cause, between, contains_any, following};

/// Google's provider asks every few seconds how far an operation is. Whatever ends one of these questions
/// (an interruption, a refused connection, a 401 or 403) makes it drop what is being made.
pub(super) fn cut_off(text: &str) -> Option<Cause> {
    const WORDS: [&str; 5] = [
        "error while retrieving operation",
        "unable to finish polling",
        "context has been cancelled",
        "context canceled",
        "context cancelled",
    ];
    contains_any(text, &WORDS).then(|| Cause::CutOff(text.to_owned()))
}

/// What was fetched, or lies in the cache, is not what was fetched the first time.
pub(super) fn checksum(text: &str) -> Option<Cause> {
    const WORDS: [&str; 5] = [
        "checksums previously recorded in the dependency lock file",
        "checksums recorded in the dependency lock file",
        "doesn't match any of the checksums",
        "does not match any of the checksums",
        "incorrect checksum",
    ];
    contains_any(text, &WORDS).then_some(Cause::OtherChecksum)
}

/// Somebody else works on the state, or did when something ended him.
pub(super) fn lock(text: &str) -> Option<Cause> {
    let lock = &text[text.find("Error acquiring the state lock")?..];
    let word = |name: &str| following(lock, name).unwrap_or("unknown").to_owned();
    Some(Cause::StateLocked {
        id: word(" ID: "),
        who: word(" Who: "),
        // Date, time, offset, zone.
        since: between(lock, " Created: ", " Info:")
            .unwrap_or("an unknown time")
            .trim()
            .to_owned(),
    })
}

/// What helps against a lock. That of a file ends with the process that holds it, and nobody else can
/// break it; that of a bucket outlives whoever was killed.
pub(super) fn unlock(id: &str, terraform: &str, bucket: &str) -> String {
    if bucket.is_empty() {
        return "a Terraform on this machine works on it, and its lock ends with it: run this again when it \
                is done (`--timeout 20m` waits so long)"
            .into();
    }
    format!(
        "wait until that is over; if it was interrupted and nobody works on it, run `{terraform} force-unlock {id}`"
    )
}
