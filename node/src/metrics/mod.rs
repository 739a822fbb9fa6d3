//! What operators' tools draw and alert on: the node in figures, as Prometheus reads them.
//!
//! Whoever does something counts it here, in atomics; a thread of its own reads them when it is
//! asked. So a scrape takes nothing from the loop, and answers even where the loop stands still:
//! what is left of the lease is reckoned from the clock at that moment.
//!
//! The series are fixed for the life of the process: each label has a closed set of values, and none
//! is a key, a client, an address or a term. So nobody can make more of them, and a test counts them.

mod distribution;
mod figures;
mod handshakes;
mod listen;
mod memory;
mod page;

pub use figures::Figures;
pub use handshakes::{HandshakeFailure, HandshakeFailures};
pub use listen::{Bound, SCRAPERS_MAX, bind};
pub use page::{Sockets, Sources};

use crate::raft::{Event, Index, Micros, Term};
use distribution::Distribution;
use raftkv::kv::ErrorReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As many reasons as a request can be refused for.
const REASONS: usize = 14;

/// The way on which a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A write, on the disks of a majority.
    Commit,
    /// A read, under the own lease.
    Lease,
    /// A read by a new leader, while an older lease may be alive.
    Inherited,
    /// A read, after a heartbeat round.
    Quorum,
    /// A read of whatever this node has applied.
    Stale,
}

impl Path {
    /// All of them, in the order of their numbers.
    pub const ALL: [Path; 5] = [
        Path::Commit,
        Path::Lease,
        Path::Inherited,
        Path::Quorum,
        Path::Stale,
    ];

    fn labels(self) -> [(&'static str, &'static str); 2] {
        let (operation, path) = match self {
            Path::Commit => ("write", "commit"),
            Path::Lease => ("read", "lease"),
            Path::Inherited => ("read", "inherited"),
            Path::Quorum => ("read", "quorum"),
            Path::Stale => ("read", "stale"),
        };
        [("operation", operation), ("path", path)]
    }
}

/// The node as its loop left it after a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// It leads.
    pub leads: bool,
    /// Its term.
    pub term: Term,
    /// Up to here entries are committed.
    pub commit_index: Index,
    /// Up to here they are applied.
    pub applied_index: Index,
    /// Its last entry.
    pub last_index: Index,
    /// Its newest snapshot; 0: none.
    pub snapshot_index: Index,
    /// Leader: end of its lease on the node's clock; 0: none.
    pub lease_until_us: Micros,
    /// Leader: an older lease may be alive until then; 0: over.
    pub old_lease_until_us: Micros,
    /// Leader: as many nodes may still fail.
    pub spare_nodes: u64,
    /// Members of the cluster.
    pub members: u64,
    /// Those of them that vote.
    pub voters: u64,
    /// The entry that put this configuration in force.
    pub configuration_index: Index,
    /// Requests that wait for their outcome.
    pub waiting: u64,
    /// The log is damaged, and not refilled.
    pub damaged: bool,
}

/// A look, as it lies there for whoever asks. Its parts may be of two steps.
#[derive(Debug, Default)]
struct LastLook {
    leads: AtomicU64,
    term: AtomicU64,
    commit_index: AtomicU64,
    applied_index: AtomicU64,
    last_index: AtomicU64,
    snapshot_index: AtomicU64,
    lease_until_us: AtomicU64,
    old_lease_until_us: AtomicU64,
    spare_nodes: AtomicU64,
    members: AtomicU64,
    voters: AtomicU64,
    configuration_index: AtomicU64,
    waiting: AtomicU64,
    damaged: AtomicU64,
}

/// What the core told of, by kind.
#[derive(Debug, Default)]
struct EventCounts {
    elections_started: AtomicU64,
    elections_won: AtomicU64,
    stepped_down: AtomicU64,
    renewals_failed: AtomicU64,
    old_lease_waits: AtomicU64,
    disk_stalls: AtomicU64,
    states_differ: AtomicU64,
    snapshots_taken: AtomicU64,
    snapshots_sent: AtomicU64,
    snapshots_installed: AtomicU64,
    snapshots_skipped: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    started_seconds: f64,
    last: LastLook,
    events: EventCounts,
    /// In the order of [`Path::ALL`].
    requests: [Distribution; Path::ALL.len()],
    refused: [AtomicU64; REASONS],
    batches: Distribution,
    fsyncs: Distribution,
    applies: Distribution,
}

impl Default for Metrics {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Metrics {
            started_seconds: since.unwrap_or_default().as_secs_f64(),
            last: LastLook::default(),
            events: EventCounts::default(),
            requests: Path::ALL.map(|_| Distribution::of_durations()),
            refused: Default::default(),
            batches: Distribution::of_counts(),
            fsyncs: Distribution::of_durations(),
            applies: Distribution::of_durations(),
        }
    }
}

impl Metrics {
    /// So many requests were answered on this path, each within this time.
    pub fn answered(&self, path: Path, took: Duration, count: u64) {
        self.requests[path as usize].observe_duration(took, count);
    }

    /// A request was refused.
    pub fn refused(&self, reason: ErrorReason) {
        // Each has its place: a test holds that.
        if let Some(count) = self.refused.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The loop took in so many writes at once.
    pub fn batch(&self, writes: u64) {
        self.batches.observe(writes, 1);
    }

    /// The disk was flushed.
    pub fn flushed(&self, took: Duration) {
        self.fsyncs.observe_duration(took, 1);
    }

    /// A step of the loop applied entries.
    pub fn applied(&self, took: Duration) {
        self.applies.observe_duration(took, 1);
    }

    /// Up to here entries were applied when the loop last looked.
    pub fn applied_index(&self) -> Index {
        self.last.applied_index.load(Relaxed)
    }

    /// How the node is now.
    pub fn look(&self, look: Look) {
        let last = &self.last;
        last.leads.store(look.leads.into(), Relaxed);
        last.term.store(look.term, Relaxed);
        last.commit_index.store(look.commit_index, Relaxed);
        last.applied_index.store(look.applied_index, Relaxed);
        last.last_index.store(look.last_index, Relaxed);
        last.snapshot_index.store(look.snapshot_index, Relaxed);
        last.lease_until_us.store(look.lease_until_us, Relaxed);
        let old_lease = &last.old_lease_until_us;
        old_lease.store(look.old_lease_until_us, Relaxed);
        last.spare_nodes.store(look.spare_nodes, Relaxed);
        last.members.store(look.members, Relaxed);
        last.voters.store(look.voters, Relaxed);
        let configuration_index = &last.configuration_index;
        configuration_index.store(look.configuration_index, Relaxed);
        last.waiting.store(look.waiting, Relaxed);
        last.damaged.store(look.damaged.into(), Relaxed);
    }

    /// Counts what the core told of: the same that `dump.txt` tells.
    pub fn count(&self, event: &Event) {
        let events = &self.events;
        let counter = match event {
            Event::ElectionStarted { .. } => &events.elections_started,
            Event::BecameLeader { .. } => &events.elections_won,
            Event::SteppedDown { .. } => &events.stepped_down,
            Event::LeaseRenewalFailed { .. } => &events.renewals_failed,
            Event::WaitingForOldLease { .. } => &events.old_lease_waits,
            Event::DiskStalled { .. } => &events.disk_stalls,
            Event::StateDiffers { .. } => &events.states_differ,
            Event::SnapshotTaken { .. } => &events.snapshots_taken,
            Event::SnapshotSent { .. } => &events.snapshots_sent,
            Event::SnapshotInstalled { .. } => &events.snapshots_installed,
            Event::SnapshotSkipped { .. } => &events.snapshots_skipped,
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
