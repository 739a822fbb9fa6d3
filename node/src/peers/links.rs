//! Links that are down: those cut on request, to try out partitions (messages are dropped silently,
//! connections stay), and those to peers that can't be reached.

use super::trouble::Trouble;
use crate::raft::{Micros, NodeId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Longest cut: an hour. A forgotten fault heals itself.
pub const CUT_MS_MAX: u64 = 3_600_000;

/// Which links are cut, and until when; whom this node can't reach, and why.
#[derive(Debug, Default)]
pub struct Links {
    any: AtomicBool,
    cut_until_us: Mutex<BTreeMap<NodeId, Micros>>,
    troubles: Mutex<BTreeMap<NodeId, Trouble>>,
}

/// A link that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutLink {
    /// The peer on the other end.
    pub peer: NodeId,
    /// Until it heals by itself.
    pub remaining_us: Micros,
}

impl Links {
    /// Drops everything to and from these peers until the time given.
    pub fn cut(&self, peers: &[NodeId], until_us: Micros) {
        let mut cut = self.lock();
        cut.extend(peers.iter().map(|peer| (*peer, until_us)));
        self.any.store(!cut.is_empty(), Ordering::Relaxed);
    }

    /// Heals the links to these peers; with none named, all.
    pub fn heal(&self, peers: &[NodeId]) {
        let mut cut = self.lock();
        cut.retain(|peer, _| !peers.is_empty() && !peers.contains(peer));
        self.any.store(!cut.is_empty(), Ordering::Relaxed);
    }

    /// Whether the link to a peer is cut at the time that `clock` gives.
    pub fn is_cut(&self, peer: NodeId, clock: impl FnOnce() -> Micros) -> bool {
        // Nearly always: nothing to look up, no clock to read.
        self.any.load(Ordering::Relaxed)
            && self.lock().get(&peer).is_some_and(|until| clock() < *until)
    }

    /// The links that are cut at this time.
    pub fn list(&self, now: Micros) -> Vec<CutLink> {
        let cut = self.lock();
        let alive = cut.iter().filter(|(_, until)| now < **until);
        alive
            .map(|(peer, until)| CutLink {
                peer: *peer,
                remaining_us: until - now,
            })
            .collect()
    }

    /// Notes why a peer can't be reached; `None`: it was.
    pub(super) fn report_trouble(&self, peer: NodeId, trouble: Option<Trouble>) {
        let mut troubles = lock(&self.troubles);
        match trouble {
            Some(trouble) => drop(troubles.insert(peer, trouble)),
            None => drop(troubles.remove(&peer)),
        }
    }

    /// The peer is none any more.
    pub(super) fn forget(&self, peer: NodeId) {
        self.report_trouble(peer, None);
        self.lock().remove(&peer);
    }

    /// The peers that could not be reached when it was last tried, and why.
    pub fn troubles(&self) -> BTreeMap<NodeId, Trouble> {
        lock(&self.troubles).clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Micros>> {
        lock(&self.cut_until_us)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process, so a poisoned lock is never seen outside tests.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A cut ends by itself, or when it is healed, and concerns the named peers alone.
    #[test]
    fn cuts_end() {
        let links = Links::default();
        links.cut(&[2, 3], 1000);
        links.cut(&[3], 2000);
        assert!(links.is_cut(2, || 999) && !links.is_cut(2, || 1000));
        assert!(!links.is_cut(1, || 0));
        let still = CutLink {
            peer: 3,
            remaining_us: 500,
        };
        assert_eq!(links.list(1500), [still]);
        links.heal(&[3]);
        assert!(!links.is_cut(3, || 0) && links.is_cut(2, || 0));
        links.heal(&[]);
        assert_eq!(links.list(0), []);
        assert!(!links.is_cut(2, || panic!("the clock is read for nothing")));
    }
}
