//! What clients and operators talk to: the services of `raftkv/v1` and
//! `raftkv/admin/v1`, and the standard ones for health and reflection.
//!
//! A lease read is answered right here, from the [`ReadView`] that the engine keeps up to date:
//! it passes no queue and waits for nobody. Everything else goes over the [`Desk`] to the loop.
//! Each request is bounded in size and time, and there is room for a bounded number of them; who
//! comes in vain is told so at once, with a reason that says what to do.

mod admin;
mod backup;
mod budget;
mod call;
mod classic;
mod handshakes;
mod health;
mod kv;
mod limited;
mod listen;
mod membership;
mod permission;
mod pipeline;
mod reading;
mod refusal;
mod serve;
mod translate;
mod turns;

pub use budget::Room;
pub use health::{Health, LiveHealth};
pub use listen::{Listen, Places};
pub use permission::Denials;
pub use refusal::Refusal;
pub use serve::{ReflectionError, serve_clients, serve_peers};
pub use turns::Turns;

use crate::clock::Clock;
use crate::desk::Desk;
use crate::dump::Dump;
use crate::engine::{ReadPath, ReadView};
use crate::identity::Identity;
use crate::metrics::{Metrics, Path};
use crate::peers::Links;
use crate::raft::Micros;
use crate::roster::Roster;
use crate::space::Space;
use crate::tls::Tls;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

// The state machine knows no wire: what it keeps is what clients are told.
const _: () = assert!(crate::kv::SESSIONS_MAX == raftkv::SESSIONS_MAX);
const _: () = assert!(crate::kv::SESSION_WINDOW == raftkv::SESSION_WINDOW);

/// What all services share.
#[derive(Debug)]
pub struct Front {
    /// Who this is.
    pub identity: Arc<Identity>,
    /// Who belongs to the cluster.
    pub roster: Arc<Roster>,
    /// Where requests wait for the loop.
    pub desk: Arc<Desk>,
    /// For reads that need not wait for the loop.
    pub view: Arc<ReadView>,
    /// The clock of leases.
    pub clock: Arc<Clock>,
    /// Where requests are told.
    pub dump: Dump,
    /// To cut links, and to say which are down.
    pub links: Arc<Links>,
    /// How much room the disk has.
    pub space: Arc<Space>,
    /// Whether the node was started with permission to cut its own links.
    pub fault_injection_allowed: bool,
    /// When the process started, on the node's clock.
    pub started_us: Micros,
    /// What was answered and refused here.
    pub counters: Counters,
    /// The same, and more, for tools that draw it.
    pub metrics: Arc<Metrics>,
    /// Bounds what all requests and replies that are on their way may take.
    pub room: Room,
    /// Whose turn it is to be sent much.
    pub turns: Turns,
    /// Where TLS is spoken: the certificates.
    pub tls: Option<Arc<Tls>>,
    /// What was refused for want of a role.
    pub denials: Denials,
    /// A process beside this one tells the others when it ends.
    pub watched: Arc<AtomicBool>,
    /// Turns true when streams are to end.
    pub closing: watch::Sender<bool>,
}

/// What was answered and refused since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    lease_reads: AtomicU64,
    inherited_reads: AtomicU64,
    quorum_reads: AtomicU64,
    stale_reads: AtomicU64,
    refused_overload: AtomicU64,
}

/// On what an answer rests, as it is counted.
fn metered(path: ReadPath) -> Path {
    match path {
        ReadPath::Lease => Path::Lease,
        ReadPath::Inherited => Path::Inherited,
        ReadPath::Quorum => Path::Quorum,
        ReadPath::Stale => Path::Stale,
    }
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
