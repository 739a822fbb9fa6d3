//! What the tests of this module share.

use super::Front;
use crate::disk::Directory;
use crate::dump::Dump;
use crate::identity::Identity;
use crate::roster::Roster;
use std::sync::Arc;

/// A node that does not lead, and whose loop does nothing.
pub(super) fn follower(directory: &std::path::Path) -> Front {
    let directory = Directory::open(directory).unwrap();
    let (dump, _) = Dump::start(1, &directory, true).unwrap();
    let identity = Arc::new(Identity::of_test(1, []));
    let roster = Roster::new(&identity, Default::default(), Default::default());
    Front {
        identity,
        roster: Arc::new(roster),
        desk: Arc::default(),
        view: Arc::default(),
        clock: Arc::default(),
        dump,
        links: Arc::default(),
        space: Arc::default(),
        fault_injection_allowed: false,
        started_us: 0,
        counters: Default::default(),
        metrics: Arc::default(),
        room: Default::default(),
        turns: Default::default(),
        tls: None,
        denials: Default::default(),
        watched: Default::default(),
        closing: Default::default(),
    }
}
