//! Who may make which call: asked when it begins, and again for each of its operations.

use super::translate::Wanted;
use super::{Front, Refusal};
use crate::access::{Access, Denied};
use crate::command::Operation;
use crate::dump::Happening;
use crate::engine::{Query, Request};
use crate::guests::Guest;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tonic::codegen::http::Extensions;

/// So many refusals are told in [`TELL_EVERY`], the others counted.
const TOLD_MAX: u32 = 10;
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What was refused for want of a role, as it was told lately.
#[derive(Debug, Default)]
pub struct Denials(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Denials {
    /// Notes one more; how many it stands for, if it is to be told.
    fn note(&self, now: Instant) -> Option<u64> {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since| now.duration_since(since) >= TELL_EVERY;
        if lately.since.is_none_or(is_over) {
            (lately.since, lately.told) = (Some(now), 0);
        }
        lately.untold += 1;
        if lately.told >= TOLD_MAX {
            return None;
        }
        lately.told += 1;
        Some(std::mem::take(&mut lately.untold))
    }
}

impl Front {
    /// What whoever makes a call may do. Where TLS is spoken, nobody is let in without having been
    /// asked; should it happen, nothing is allowed.
    pub(super) fn access(&self, extensions: &Extensions) -> Access {
        let guest = extensions.get::<Arc<Guest>>();
        let origin = guest.and_then(|guest| guest.origin());
        match (origin, &self.tls) {
            (Some(origin), _) => origin.access.clone(),
            (None, None) => Access::open(),
            (None, Some(_)) => Access::granted("nobody", Vec::new()),
        }
    }

    /// Refuses a call that the caller may not make.
    pub(super) fn permit_call(&self, access: &Access, path: &str) -> Result<(), Refusal> {
        let permitted = access.may_call(path);
        permitted.map_err(|denied| self.deny(access, path, denied))
    }

    /// Refuses an operation that the caller may not make, or not with that key, whether it came by itself
    /// or in a stream.
    pub(super) fn permit(&self, access: &Access, wanted: &Wanted) -> Result<(), Refusal> {
        let (path, key) = row(wanted)?;
        let permitted = access.may_touch(path, key);
        permitted.map_err(|denied| self.deny(access, path, denied))
    }

    fn deny(&self, access: &Access, path: &str, denied: Denied) -> Refusal {
        if let Some(count) = self.denials.note(Instant::now()) {
            let who = Arc::clone(&access.who);
            tracing::warn!("a call of '{who}' was refused ({path}): {}", denied.message);
            self.dump.tell(Happening::AccessDenied {
                who,
                // What is in no row comes from outside.
                call: path
                    .chars()
                    .filter(|char| char.is_ascii_graphic())
                    .take(100)
                    .collect(),
                missing: denied.missing,
                count,
            });
        }
        Refusal::not_allowed(denied.message)
    }
}

/// The row of the table that an operation has as a call of its own, and what it touches.
fn row(wanted: &Wanted) -> Result<(&'static str, &str), Refusal> {
    Ok(match wanted {
        Wanted::Read(Query::Get { key }, _) => ("/raftkv.v1.Kv/Get", key),
        // Where a page begins (`after`) makes it no longer: all of it begins with the prefix.
        Wanted::Read(Query::List { prefix, .. }, _) => ("/raftkv.v1.Kv/List", prefix),
        Wanted::Write(Request::Write { operation, .. }) => match operation {
            Operation::Set { key, .. } => ("/raftkv.v1.Kv/Set", key),
            Operation::Delete { key } => ("/raftkv.v1.Kv/Delete", key),
            Operation::CompareAndSet { key, .. } => ("/raftkv.v1.Kv/CompareAndSet", key),
        },
        Wanted::Write(_) => return Err(Refusal::not_allowed("no client may ask for that")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // A client that is refused again and again fills no disk, and every refusal is counted.
    #[test]
    fn refusals_are_told_within_a_bound() {
        let denials = Denials::default();
        let begin = Instant::now();
        let told = (0..1000).filter_map(|_| denials.note(begin)).count();
        assert_eq!(told, TOLD_MAX as usize);
        assert_eq!(denials.note(begin + TELL_EVERY), Some(991));
    }
}
