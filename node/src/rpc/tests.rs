//! What the tests of this module share.

use super::Front;
use crate::disk::Directory;
use crate::dump::Dump;
use crate::identity::Identity;
use std::sync::Arc;

/// A node that does not lead, and whose loop does nothing.
pub(super) fn follower(directory: &std::path::Path) -> Front {
    let directory = Directory::open(directory).unwrap();
    let (dump, _) = Dump::start(1, &directory, true).unwrap();
    Front {
        identity: Arc::new(Identity {
            id: 1,
            cluster: "demo".into(),
            ids: Default::default(),
            run_id: 0,
            lease_ms: 2_000,
            members: Default::default(),
        }),
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
        closing: Default::default(),
    }
}
