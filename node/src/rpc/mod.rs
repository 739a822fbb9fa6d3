//! What clients and operators talk to: the services of `kv.proto` and `admin.proto`, and the
//! standard ones for health and reflection.
//!
//! A lease read is answered right here, from the [`ReadView`] that the engine keeps up to date:
//! it passes no queue and waits for nobody. Everything else goes over the [`Desk`] to the loop.
//! Each request is bounded in size and time, and there is room for a bounded number of them; who
//! comes in vain is told so at once, with a reason that says what to do.

mod admin;
mod call;
mod classic;
mod kv;
mod listen;
mod pipeline;
mod reading;
mod refusal;
mod room;
mod serve;
mod translate;

pub use listen::Listen;
pub use refusal::Refusal;
pub use room::Room;
pub use serve::{Health, ReflectionError, serve_clients, serve_peers};

use crate::clock::Clock;
use crate::desk::Desk;
use crate::dump::Dump;
use crate::engine::{ReadPath, ReadView};
use crate::identity::Identity;
use crate::peers::Links;
use crate::raft::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all services share.
#[derive(Debug)]
pub struct Front {
    /// Who this is.
    pub identity: Arc<Identity>,
    /// The way to the loop.
    pub desk: Arc<Desk>,
    /// The way around it.
    pub view: Arc<ReadView>,
    /// The clock of leases.
    pub clock: Arc<Clock>,
    /// Where requests are told.
    pub dump: Dump,
    /// To cut links.
    pub links: Arc<Links>,
    /// Whether that was allowed at the start.
    pub fault_injection_allowed: bool,
    /// On the node's clock.
    pub started_us: Micros,
    /// What was answered and refused here.
    pub counters: Counters,
    /// For what is on its way.
    pub room: Room,
}

/// Since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    lease_reads: AtomicU64,
    inherited_reads: AtomicU64,
    quorum_reads: AtomicU64,
    stale_reads: AtomicU64,
    refused_overload: AtomicU64,
}

impl Counters {
    fn count_read(&self, path: ReadPath) {
        let counter = match path {
            ReadPath::Lease => &self.lease_reads,
            ReadPath::Inherited => &self.inherited_reads,
            ReadPath::Quorum => &self.quorum_reads,
            ReadPath::Stale => &self.stale_reads,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
