//! Which faults come when: a function of the seed. Pure.
//!
//! Faults follow each other and do not overlap, but each may strike while the cluster still
//! recovers from the one before. Whom a fault strikes is said by role, because who leads is known
//! only when it comes.

use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::cluster::timing::Timing;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// SIGKILL, and started again after a while
    Kill,
    /// SIGSTOP, and SIGCONT after a while
    Pause,
    /// No message passes between two groups for a while
    Partition,
    /// SIGKILL for every node at once, then all are started again
    RestartAll,
    /// Nodes join, are replaced and leave, all the while, whatever else strikes
    Member,
}

/// Whom a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The leader alone.
    Leader,
    /// One follower.
    Follower,
    /// As many nodes as may fail, the leader among them.
    MinorityWithLeader,
    /// As many followers as may fail.
    MinorityOfFollowers,
    /// More nodes than may fail, the leader not among them.
    MajorityWithoutLeader,
    /// Every node.
    All,
}

/// A fault to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When, from the beginning.
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// Whom.
    pub target: Target,
    /// How long it lasts.
    pub length: Duration,
}

/// The workload is to get going first.
const FIRST_AFTER: Duration = Duration::from_secs(1);

/// The longest fault.
fn length_max(timing: &Timing) -> Duration {
    recovery(timing) * 3 / 2
}

/// How long a cluster takes to get over a fault.
fn recovery(timing: &Timing) -> Duration {
    Duration::from_millis(timing.lease_ms + timing.election_timeout_max_ms)
}

/// A run of this length has room for a fault, whatever the seed.
#[must_use]
pub fn enough_for_one(timing: &Timing) -> Duration {
    FIRST_AFTER + length_max(timing)
}

/// The faults of a run of `duration`.
#[must_use]
pub fn plan(seed: u64, duration: Duration, kinds: &[Kind], timing: &Timing) -> Vec<Planned> {
    let mut random = SmallRng::seed_from_u64(seed);
    // Short faults that nobody notices up to those that outlive a lease and an election.
    let (recovery, length_max) = (recovery(timing), length_max(timing));
    let mut planned = Vec::new();
    let mut at = FIRST_AFTER;
    while let Some(kind) = kinds.choose(&mut random).copied() {
        let (target, length) = match kind {
            Kind::RestartAll => (Target::All, length_max / 6),
            Kind::Member => unreachable!("goes on beside all others"),
            Kind::Kill | Kind::Pause | Kind::Partition => (any_target(&mut random), length_max),
        };
        let length = random.random_range(length / 20..=length);
        if at + length > duration {
            break;
        }
        planned.push(Planned {
            at,
            kind,
            target,
            length,
        });
        at += length + random.random_range(Duration::from_millis(100)..=recovery);
    }
    planned
}

/// Leaders suffer most: what goes wrong with them is what a lease is about.
fn any_target(random: &mut SmallRng) -> Target {
    match random.random_range(0..10) {
        0..4 => Target::Leader,
        4 => Target::Follower,
        5 | 6 => Target::MinorityWithLeader,
        7 => Target::MinorityOfFollowers,
        _ => Target::MajorityWithoutLeader,
    }
}

/// The nodes that are struck, rising. Without a leader the first node stands in for it. `random`
/// chooses among equals.
#[must_use]
pub fn victims(
    target: Target,
    ids: &[u64],
    leader: Option<u64>,
    random: &mut SmallRng,
) -> Vec<u64> {
    let leader = leader.or(ids.first().copied());
    let followers: Vec<u64> = ids
        .iter()
        .copied()
        .filter(|id| Some(*id) != leader)
        .collect();
    let minority = (ids.len() - 1) / 2;
    let mut some =
        |count: usize| -> Vec<u64> { followers.sample(random, count).copied().collect() };
    let mut struck = match target {
        Target::Leader => leader.into_iter().collect(),
        Target::Follower => some(1),
        Target::MinorityWithLeader => {
            let others = some(minority.saturating_sub(1));
            others.into_iter().chain(leader).collect()
        }
        Target::MinorityOfFollowers => some(minority),
        Target::MajorityWithoutLeader => some(minority + 1),
        Target::All => ids.to_vec(),
    };
    struck.sort_unstable();
    struck
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const ALL: [Kind; 4] = [Kind::Kill, Kind::Pause, Kind::Partition, Kind::RestartAll];
    const MINUTE: Duration = Duration::from_secs(60);

    /// A seed can be run again, faults do not overlap, and all are over when the run is.
    #[test]
    fn a_plan_follows_from_its_seed_and_fits_its_time() {
        for seed in 0..200 {
            let planned = plan(seed, MINUTE, &ALL, &Timing::LAN);
            assert_eq!(planned, plan(seed, MINUTE, &ALL, &Timing::LAN));
            assert!(planned.len() >= 3, "seed {seed}: {planned:?}");
            let mut free_at = FIRST_AFTER;
            for fault in &planned {
                assert!(fault.at >= free_at, "seed {seed}: {planned:?}");
                free_at = fault.at + fault.length;
                assert!(free_at <= MINUTE, "seed {seed}: {planned:?}");
            }
        }
        assert_ne!(
            plan(1, MINUTE, &ALL, &Timing::LAN),
            plan(2, MINUTE, &ALL, &Timing::LAN)
        );
    }

    /// Only the kinds that were asked for come, and all of them do.
    #[test]
    fn only_what_was_asked_for_comes() {
        let kinds = [Kind::Pause, Kind::RestartAll];
        let planned = plan(3, 20 * MINUTE, &kinds, &Timing::LAN);
        let seen: BTreeSet<Kind> = planned.iter().map(|fault| fault.kind).collect();
        assert_eq!(seen, BTreeSet::from(kinds));
        assert!(
            planned
                .iter()
                .all(|fault| (fault.target == Target::All) == (fault.kind == Kind::RestartAll))
        );
        assert_eq!(plan(3, MINUTE, &[], &Timing::LAN), []);
    }

    /// Some faults are shorter than a lease, some longer: both sides of it are tried.
    #[test]
    fn faults_end_before_and_after_a_lease() {
        let planned = plan(5, 20 * MINUTE, &[Kind::Pause], &Timing::LAN);
        let lease = Duration::from_millis(Timing::LAN.lease_ms);
        assert!(planned.iter().any(|fault| fault.length < lease / 2));
        assert!(planned.iter().any(|fault| fault.length > lease));
    }

    /// The words mean what they say, for every size of cluster, with and without a leader.
    #[test]
    fn targets_mean_what_they_say() {
        let mut random = SmallRng::seed_from_u64(1);
        for (size, may_fail) in [(1u64, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3)] {
            let ids: Vec<u64> = (1..=size).collect();
            let leader = size;
            let mut struck = |target| victims(target, &ids, Some(leader), &mut random);
            assert_eq!(struck(Target::Leader), [leader]);
            assert!(!struck(Target::Follower).contains(&leader));
            let minority = struck(Target::MinorityWithLeader);
            assert!(minority.contains(&leader));
            assert_eq!(minority.len(), may_fail.max(1));
            let followers = struck(Target::MinorityOfFollowers);
            assert!(!followers.contains(&leader) && followers.len() == may_fail);
            let majority = struck(Target::MajorityWithoutLeader);
            assert!(!majority.contains(&leader));
            assert_eq!(majority.len(), (may_fail + 1).min(ids.len() - 1));
            assert_eq!(struck(Target::All), ids);
        }
        assert_eq!(victims(Target::Leader, &[4, 7], None, &mut random), [4]);
    }
}
