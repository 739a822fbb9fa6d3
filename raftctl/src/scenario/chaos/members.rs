//! Members that change all the while: guests come, are replaced and go, whatever else strikes.
//!
//! Which change comes next follows from the seed; whether it completes does not: a change that a fault keeps from
//! its end is given up, and the next one begins with what is there then.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use tokio::time::Instant;

use crate::cluster::{NodeId, list};
use crate::error::Result;
use crate::ops::guests::Guests;
use crate::scenario::outcome::ms;

/// Not more guests than this at a time: the cluster stays mostly its own.
const GUESTS_MAX: usize = 2;

/// How long a change may be stuck in one of its steps.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// A change of members.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    /// When it began, in milliseconds from the beginning.
    pub at_ms: u64,
    /// When it was over, or given up.
    pub until_ms: u64,
    /// `add`, `replace` or `remove`.
    pub kind: &'static str,
    /// Who came.
    pub came: Vec<NodeId>,
    /// Who left, or was to leave.
    pub left: Vec<NodeId>,
    /// Why it was given up; null if it was not.
    pub given_up: Option<String>,
}

impl Changed {
    /// A line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let at = self.at_ms as f64 / 1000.0;
        let seconds = (self.until_ms - self.at_ms) as f64 / 1000.0;
        let who = match (self.came.as_slice(), self.left.as_slice()) {
            ([], []) => "a node".to_owned(),
            (came, []) => list(came),
            ([], left) => list(left),
            (came, left) => format!("{} by {}", list(left), list(came)),
        };
        let end = match &self.given_up {
            None => String::new(),
            Some(why) => format!(", given up: {}", why.lines().next().unwrap_or_default()),
        };
        format!("  {at:6.2} s  {} {who} in {seconds:.2} s{end}\n", self.kind)
    }
}

/// The changes of a run so far.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Vec<Changed>>);

impl Changes {
    /// All of them.
    pub fn list(&self) -> Vec<Changed> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, changed: Changed) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(changed);
    }
}

/// What to do next, with these guests, where there is room for so many. Who replaces another is there before that one goes.
fn next(
    guests: &[NodeId],
    room: usize,
    random: &mut SmallRng,
) -> (&'static str, usize, Vec<NodeId>) {
    let one = |random: &mut SmallRng| guests.choose(random).copied().into_iter().collect();
    let has_room = guests.len() < room;
    match random.random_range(0..3) {
        _ if guests.is_empty() => ("add", 1, vec![]),
        0 if has_room && guests.len() < GUESTS_MAX => ("add", 1, vec![]),
        0 | 1 if has_room => ("replace", 1, one(random)),
        _ => ("remove", 0, one(random)),
    }
}

/// Changes members without an end. `tell` is told of each change.
pub async fn go_on(
    guests: &Guests<'_>,
    seed: u64,
    started: Instant,
    changes: &Changes,
    tell: impl Fn(&Changed) -> Result<()>,
) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(seed);
    let room = Guests::room(guests.home)?;
    loop {
        tokio::time::sleep(random.random_range(PAUSE)).await;
        let Ok(present) = guests.present().await else {
            continue; // Nobody leads just now.
        };
        let (kind, come, go) = next(&present, room, &mut random);
        let at_ms = ms(started.elapsed());
        let done = guests.change(come, &go).await;
        let changed = Changed {
            at_ms,
            until_ms: ms(started.elapsed()),
            kind,
            left: go,
            given_up: done.as_ref().err().map(ToString::to_string),
            came: done.unwrap_or_default(),
        };
        tell(&changed)?;
        changes.add(changed);
    }
}

/// Between two changes.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    // Every kind comes, none that is not possible, and never too many guests.
    #[test]
    fn what_comes_next_is_possible() {
        let mut random = SmallRng::seed_from_u64(3);
        let room = usize::MAX;
        assert_eq!(next(&[], 1, &mut random), ("add", 1, vec![]));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let (kind, come, go) = next(&[6, 7], room, &mut random);
            assert!(kind != "add" && go.len() == 1, "{kind} {go:?}");
            assert_eq!(come, usize::from(kind == "replace"));
            seen.insert(next(&[6], room, &mut random).0);
            assert_eq!(
                next(&[6], 1, &mut random),
                ("remove", 0, vec![6]),
                "no host is left"
            );
        }
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            ["add", "remove", "replace"]
        );
    }

    // What became of a change is told in one line, with whoever came and left.
    #[test]
    fn a_change_is_told() {
        let changed = Changed {
            at_ms: 1500,
            until_ms: 2250,
            kind: "replace",
            came: vec![7],
            left: vec![6],
            given_up: None,
        };
        assert_eq!(
            changed.text(),
            "    1.50 s  replace node 6 by node 7 in 0.75 s\n"
        );
        let given_up = Changed {
            kind: "add",
            came: vec![],
            left: vec![],
            given_up: Some("no leader\nand more".into()),
            ..changed
        };
        assert_eq!(
            given_up.text(),
            "    1.50 s  add a node in 0.75 s, given up: no leader\n"
        );
    }
}
