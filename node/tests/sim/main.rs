//! Deterministic simulator: whole clusters of the real engine, state machine and log codec in one
//! thread, under a seeded scheduler, at the mercy of clocks, wires, disks and faults that are
//! worse than those of any data centre.
//!
//! ```text
//! cargo test -p raft-node --test sim              hundreds of seeds, all stories, all mutations
//! cargo test -p raft-node --test sim many_seeds -- --ignored    thousands of seeds
//! SEED=8123 cargo test -p raft-node --test sim    one seed: its conversation; smaller if it fails
//! SEEDS=100000 cargo test -p raft-node --test sim so many seeds of each suite
//! ```
//!
//! `plan` decides from a seed what a run is made of, `world` runs it, `oracle` judges after every
//! event, `checker` what the clients saw. `stories` are targeted faults, `mutations` shows that
//! judges and stories notice a broken rule.
//!
//! Taken as given, and not simulated: gRPC and its encoding, and the threads of the real loop. Not
//! there yet: changes of membership.

mod chaos;
mod client;
mod clock;
mod coverage;
mod disk;
mod fault;
mod ghost;
mod machine;
mod members;
mod mutations;
mod network;
mod nodes;
mod oracle;
mod plan;
mod random;
mod requests;
mod runner;
mod shrink;
mod stories;
#[path = "../support/tell.rs"]
mod tell;
mod trace;
mod wires;
mod witness;
mod world;

use plan::{Plan, Suite};
use runner::{replayed_seed, run, run_suite};
use std::hash::DefaultHasher;
use trace::Trace;

/// Seeds of each suite where nobody asks for others.
const SEEDS: u64 = 400;

/// Seeds of each suite where time does not matter.
const MANY_SEEDS: u64 = 1_500;

/// What every suite must have come to.
const PATHS: &[&str] = &[
    "broken connections",
    "damaged logs",
    "deferred commits",
    "ends of runs proved",
    "disks taken from living processes",
    "leases not renewed",
    "log conflicts",
    "messages lost or held",
    "old lease waits",
    "pauses",
    "promises waived",
    "quorum reads",
    "restarts",
    "snapshots installed",
    "snapshots left out",
    "snapshots taken",
    "stalled disks noticed",
    "stops in good order",
    "torn tails",
    "transfers",
    "unknown outcomes",
    "waits waived",
    "writes sent again",
];

/// What every suite must have come to whose clocks keep to the bound.
const LEASE_PATHS: &[&str] = &[
    "inherited reads",
    "lease reads",
    "reads caught by a pause",
    "reads that waited",
];

/// # Whatever happens to nodes, disks, clocks within the bound, and connections that keep the
/// order: all rules hold, and clients see one copy of the data.
#[test]
fn streams() {
    of_streams(SEEDS);
}

fn of_streams(seeds: u64) {
    let own = &["messages behind others", "messages held and delivered late"];
    let paths = [PATHS, LEASE_PATHS, own].concat();
    run_suite(Suite::Streams, seeds, &paths);
}

/// # The same where each message is lost, doubled and late on its own.
#[test]
fn datagrams() {
    of_datagrams(SEEDS);
}

fn of_datagrams(seeds: u64) {
    let paths = [PATHS, LEASE_PATHS, &["messages doubled"]].concat();
    run_suite(Suite::Datagrams, seeds, &paths);
}

/// # Clocks far beyond the bound cost nothing but the promises of lease reads: quorum reads and
/// writes are right.
#[test]
fn wild_clocks() {
    run_suite(Suite::WildClocks, SEEDS, PATHS);
}

/// # Members come and go, are replaced, and come back from the dead, while all else strikes.
#[test]
fn changing_members() {
    of_members(SEEDS);
}

fn of_members(seeds: u64) {
    let own = &["changes of members done", "removed nodes that end"];
    let mut paths = [PATHS, LEASE_PATHS, own].concat();
    // With one log damaged and members that go, nobody may be left who knows.
    paths.retain(|path| *path != "damaged logs");
    run_suite(Suite::Members, seeds, &paths);
}

/// # All four, for longer.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn many_seeds() {
    if replayed_seed().is_some() {
        return;
    }
    of_streams(MANY_SEEDS);
    of_datagrams(MANY_SEEDS);
    run_suite(Suite::WildClocks, MANY_SEEDS, PATHS);
    of_members(MANY_SEEDS);
}

/// # The same seed gives the same run, to the last word.
#[test]
fn a_seed_is_a_run() {
    if replayed_seed().is_some() {
        return;
    }
    let mut digests = std::collections::BTreeSet::new();
    for seed in Suite::ALL
        .iter()
        .flat_map(|suite| (0..10).map(|n| suite.first_seed() + n))
    {
        let digest = || {
            let trace = Trace::Digest(DefaultHasher::new());
            run(&Plan::from_seed(seed), trace).trace.digest()
        };
        let first = digest();
        assert_eq!(first, digest(), "seed {seed} gave two runs");
        digests.insert(first);
    }
    assert_eq!(digests.len(), 40, "two seeds gave the same run");
}

/// # A failing seed is replayed with a smaller plan, which breaks the same rule.
#[test]
fn a_failing_plan_is_made_smaller() {
    if replayed_seed().is_some() {
        return;
    }
    let failure_of = |plan: &Plan| run(plan, Trace::Off).failure.map(|failure| failure.rule);
    let broken = |seed| Plan {
        mutation: Some(raft_node::raft::Mutation::NoWait),
        ..Plan::from_seed(seed)
    };
    let failing = (0..100)
        .map(broken)
        .find_map(|plan| Some((failure_of(&plan)?, plan)));
    let (rule, plan) = failing.expect("one of these seeds notices");
    let small = shrink::shrink(plan.clone(), rule);
    assert_eq!(failure_of(&small), Some(rule));
    assert!(
        small.faults.len() < plan.faults.len().min(4),
        "{:?}",
        small.faults
    );
}
