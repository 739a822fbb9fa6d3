//! What must not be, proved from the records alone.
//!
//! 1. No term has two leaders.
//! 2. No leader commits anything while an earlier leader's lease may let it answer reads that do not know of
//!    it.
//! 3. A new leader commits nothing before the wait is over that it told of.
//! 4. That wait is as long as what the votes reported that made it a leader.
//! 5. A lease ends before the promises of a majority do on which it rests.
//!
//! A leader whose process has ended serves nothing. Where a node knew so for certain, by the lock that the process
//! held to its end, and wrote that down, that leader's lease ends there at the latest, and a wait for it ends, too.
//!
//! Clocks are compared with what is unsure about them: only what is certain is a contradiction. What can't be
//! judged, because a record or a clock is missing, is said.

use std::collections::BTreeMap;

use super::clocks::Clocks;
use super::record::{Ended, Leadership, Proof, Record};
use super::{Micros, Node};

/// A line is stamped a moment after what it tells, and a wall clock is slewed.
const STAMP_US: Micros = 20_000;
/// A process that is killed loses so much of the end of its dump.txt at most.
const LOST_US: Micros = 250_000;

/// A contradiction of the promise of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// When, on the reference's clock: microseconds since 1970.
    pub at_us: i64,
    /// Where to look.
    pub node: u64,
    /// What is wrong, in words.
    pub what: String,
}

/// What was looked for, what was found, and what could not be judged.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Contradictions, in the order of their times.
    pub findings: Vec<Finding>,
    /// How many comparisons were made.
    pub compared: usize,
    /// What could not be judged, and why.
    pub unjudged: Vec<String>,
}

/// A leadership and who led.
#[derive(Clone, Copy)]
struct Led<'a> {
    node: Node,
    of: &'a Leadership,
}

/// Looks for all of it.
pub fn check(records: &BTreeMap<Node, Record>, clocks: &Clocks) -> Verdict {
    let all = records.iter();
    let led = all.flat_map(|(node, record)| {
        let leaderships = record.leaderships.iter();
        leaderships.map(|of| Led { node: *node, of })
    });
    let mut led: Vec<Led> = led.collect();
    led.sort_by_key(|led| (led.of.term, led.node));
    let mut verdict = Verdict::default();
    unreadable(records, &mut verdict);
    for (place, later) in led.iter().enumerate() {
        for earlier in &led[..place] {
            pair(*earlier, *later, records, clocks, &mut verdict);
        }
        own_wait(*later, records, &mut verdict);
        reported_wait(*later, records, clocks, &mut verdict);
        rests_on_promises(*later, records, clocks, &mut verdict);
    }
    verdict.findings.sort_by_key(|finding| finding.at_us);
    verdict
}

impl Verdict {
    fn found(&mut self, node: Node, at_us: Micros, what: String) {
        self.findings.push(Finding { at_us, node, what });
    }

    fn unjudged(&mut self, what: String) {
        if !self.unjudged.contains(&what) {
            self.unjudged.push(what);
        }
    }
}

fn unreadable(records: &BTreeMap<Node, Record>, verdict: &mut Verdict) {
    for (node, record) in records {
        if record.unreadable > 0 {
            let count = record.unreadable;
            verdict.unjudged(format!("node {node}: {count} lines that tell of no event"));
        }
        let older = record.leaderships.iter().find(|of| !of.tells_lease);
        if older.is_some_and(|of| of.span.until - of.span.from > 1_000_000) {
            verdict.unjudged(format!(
                "node {node}: its dump.txt does not tell what is left of its lease; it was written by an \
                 older version"
            ));
        }
    }
}

/// Rules 1 and 2.
fn pair(
    earlier: Led,
    later: Led,
    records: &BTreeMap<Node, Record>,
    clocks: &Clocks,
    verdict: &mut Verdict,
) {
    let term = later.of.term;
    verdict.compared += 1;
    if earlier.of.term == term && earlier.node != later.node {
        let what = format!(
            "nodes {} and {} both led term {term}",
            earlier.node, later.node
        );
        return verdict.found(later.node, later.of.span.from, what);
    }
    let (Some(lease), Some(commit)) = (earlier.of.leases.last(), later.of.first_commit) else {
        return;
    };
    // Far apart: no clock is that wrong without a word about it.
    if earlier.node == later.node || lease.until <= commit {
        return;
    }
    let Some(unsure) = clocks.unsure_us(earlier.node, later.node) else {
        return verdict.unjudged(format!(
            "nodes {} and {}: no messages between them that would compare their clocks",
            earlier.node, later.node
        ));
    };
    let until = lease
        .until
        .min(proved_end(earlier, later.node, records, clocks));
    if until > commit + unsure + STAMP_US {
        let what = format!(
            "node {} committed in term {term} {} before the lease of node {} (term {}) was over",
            later.node,
            length(until - commit),
            earlier.node,
            earlier.of.term,
        );
        verdict.found(later.node, commit, what);
    }
}

/// When somebody knew for certain that the run of a leader had ended, on the clock of `node`, or later than that.
fn proved_end(led: Led, node: Node, records: &BTreeMap<Node, Record>, clocks: &Clocks) -> Micros {
    let is_it =
        |proof: &&Proof| proof.node == led.node && proof.run == led.of.run && !proof.run.is_empty();
    let known = records.iter().flat_map(|(witness, record)| {
        let unsure = if *witness == node {
            Some(0)
        } else {
            clocks.unsure_us(*witness, node)
        };
        let proofs = record.proofs.iter().filter(is_it);
        proofs.filter_map(move |proof| Some(proof.at + unsure?))
    });
    known.min().unwrap_or(Micros::MAX)
}

/// Whether a leader found, before it committed anything, that it need not wait, and had a proof by then.
fn is_waived(led: Led, commit: Micros, records: &BTreeMap<Node, Record>) -> bool {
    let has_proof = |at: Micros| {
        let record = records.get(&led.node);
        record.is_some_and(|record| record.proofs.iter().any(|proof| proof.at <= at))
    };
    let in_time = |at: &Micros| *at <= commit + STAMP_US;
    led.of.waived.filter(in_time).is_some_and(has_proof)
}

/// Rule 3.
fn own_wait(led: Led, records: &BTreeMap<Node, Record>, verdict: &mut Verdict) {
    let (Some(wait), Some(commit)) = (led.of.wait, led.of.first_commit) else {
        return;
    };
    if is_waived(led, commit, records) {
        return;
    }
    verdict.compared += 1;
    let early = wait.from + wait.remaining - commit;
    if early > STAMP_US {
        let what = format!(
            "node {} committed in term {} {} before its wait for an older lease was over",
            led.node,
            led.of.term,
            length(early)
        );
        verdict.found(led.node, commit, what);
    }
}

/// Rule 4. The leader needed the votes of a majority less its own: whichever these were, it has waited for
/// the shortest of their promises at least.
fn reported_wait(
    led: Led,
    records: &BTreeMap<Node, Record>,
    clocks: &Clocks,
    verdict: &mut Verdict,
) {
    let Some(commit) = led.of.first_commit else {
        return;
    };
    if is_waived(led, commit, records) {
        return;
    }
    let needed = records.len() / 2;
    let mut ends = Vec::new();
    for (node, record) in records {
        let given = record
            .votes
            .iter()
            .filter(|vote| vote.candidate == led.node && vote.term == led.of.term);
        for vote in given {
            let unsure = clocks.unsure_us(*node, led.node);
            if let (Some(promise), Some(unsure)) = (vote.promise, unsure) {
                ends.push(vote.at + promise - unsure);
            }
        }
    }
    ends.sort_unstable();
    let Some(end) = needed.checked_sub(1).and_then(|place| ends.get(place)) else {
        return;
    };
    verdict.compared += 1;
    if *end > commit + STAMP_US {
        let what = format!(
            "node {} committed in term {} {} before the promises ended that its votes reported",
            led.node,
            led.of.term,
            length(end - commit)
        );
        verdict.found(led.node, commit, what);
    }
}

/// Rule 5.
fn rests_on_promises(
    led: Led,
    records: &BTreeMap<Node, Record>,
    clocks: &Clocks,
    verdict: &mut Verdict,
) {
    // A lease that was given up is over before.
    let Some(lease) = led.of.leases.last() else {
        return;
    };
    if led.of.ended == Ended::Open {
        return; // Appends may have been acknowledged that no record shows yet.
    }
    let needed = records.len() / 2;
    let others = records.iter().filter(|(node, _)| **node != led.node);
    let mut ends: Vec<Micros> = Vec::new();
    for (node, record) in others {
        let promised = record
            .promises
            .iter()
            .filter(|promise| (promise.leader, promise.term) == (led.node, led.of.term));
        let Some(until) = promised.map(|promise| promise.span.until).max() else {
            continue;
        };
        let may_lack_its_end = record.alive.len() > 1 || record.last_us < Some(led.of.span.until);
        let lost = if may_lack_its_end { LOST_US } else { 0 };
        match clocks.unsure_us(*node, led.node) {
            Some(unsure) => ends.push(until + unsure + lost),
            None => {
                return verdict.unjudged(format!(
                    "nodes {node} and {}: no messages between them that would compare their clocks",
                    led.node
                ));
            }
        }
    }
    ends.sort_unstable_by(|one, other| other.cmp(one));
    let Some(end) = needed.checked_sub(1).and_then(|place| ends.get(place)) else {
        if needed > 0 {
            verdict.unjudged(format!(
                "term {}: too few nodes tell what they promised node {}",
                led.of.term, led.node
            ));
        }
        return;
    };
    verdict.compared += 1;
    if lease.until > end + STAMP_US {
        let what = format!(
            "the lease of node {} in term {} lasted {} longer than a majority's promises",
            led.node,
            led.of.term,
            length(lease.until - end)
        );
        verdict.found(led.node, *end, what);
    }
}

/// A length of time in words.
pub fn length(us: Micros) -> String {
    match us.abs() {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}
