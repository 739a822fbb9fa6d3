//! The other nodes: one bounded queue and one long-lived stream each, in each direction.
//!
//! Each node dials every other. What it sends goes out on the streams it dialed (`outgoing`),
//! what it receives comes in on those that others dialed (`incoming`). A peer that is dead or
//! hangs fills its own queue and nothing else; what does not fit is dropped, because Raft sends
//! again. Nothing here looks inside a message.
//!
//! A peer counts as connected while the stream that it dialed is up: when its process dies, the
//! kernel closes that connection, and this node knows within a millisecond.

mod greeting;
mod incoming;
mod links;
mod outbox;
mod outgoing;
mod renewal;
mod successors;
mod testimony;
mod trouble;

pub use incoming::{Keep, RaftService};
pub use links::{CUT_MS_MAX, CutLink, Links};
pub use successors::Successors;
pub use testimony::{Testimony, testify};
pub use trouble::{Reason, Trouble};

use crate::clock::Clock;
use crate::dump::Dump;
use crate::identity::Identity;
use crate::raft::{Message, NodeId};
use crate::roster::Roster;
use crate::tls::Tls;
use outbox::Outbox;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;

/// A connection that carries nothing for these two together is given up and dialed anew. After a
/// long partition that is much sooner than the kernel would try the old one again. A broken
/// connection to a living peer does no harm: others still hear the leader.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Largest message taken from a peer: an append of a few MiB, with room to spare.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The ways out to all peers, whoever they are at the time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    identity: Arc<Identity>,
    roster: Arc<Roster>,
    ways: Arc<Mutex<BTreeMap<NodeId, Way>>>,
    links: Arc<Links>,
    clock: Arc<Clock>,
    dump: Dump,
    tls: Option<Arc<Tls>>,
}

/// The way out to one peer.
#[derive(Debug)]
struct Way {
    outbox: Arc<Outbox>,
    address: String,
    dialer: AbortHandle,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.dialer.abort();
    }
}

impl Peers {
    /// Starts to dial every peer. Must be called within the runtime.
    pub fn start(
        identity: &Arc<Identity>,
        roster: &Arc<Roster>,
        links: &Arc<Links>,
        clock: &Arc<Clock>,
        dump: &Dump,
        tls: Option<&Arc<Tls>>,
    ) -> Self {
        let peers = Peers {
            identity: Arc::clone(identity),
            roster: Arc::clone(roster),
            ways: Arc::default(),
            links: Arc::clone(links),
            clock: Arc::clone(clock),
            dump: dump.clone(),
            tls: tls.cloned(),
        };
        peers.follow();
        peers
    }

    /// Brings the ways in line with the roster: whoever is new is dialed, or dialed at another address, and
    /// who left is not any more. Must be called within the runtime.
    pub fn follow(&self) {
        let wanted = self.roster.ways();
        let mut ways = self.lock();
        ways.retain(|peer, _| {
            let stays = wanted.contains_key(peer);
            if !stays {
                self.links.forget(*peer);
            }
            stays
        });
        for (peer, address) in wanted {
            let outbox = match ways.get(&peer) {
                Some(way) if way.address == address => continue,
                Some(moved) => Arc::clone(&moved.outbox),
                None => Arc::new(Outbox::new(self.identity.id)),
            };
            let dialer = self.dial(peer, &address, &outbox);
            let way = Way {
                outbox,
                address,
                dialer,
            };
            ways.insert(peer, way);
        }
    }

    fn dial(&self, peer: NodeId, address: &str, outbox: &Arc<Outbox>) -> AbortHandle {
        let tls = self.tls.as_ref();
        let dialer = outgoing::Dialer {
            peer,
            address: address.to_owned(),
            identity: Arc::clone(&self.identity),
            roster: Arc::clone(&self.roster),
            outbox: Arc::clone(outbox),
            links: Arc::clone(&self.links),
            dump: self.dump.clone(),
            tls: tls.map(|tls| tls.dial(peer, outgoing::CONNECT_TIMEOUT)),
        };
        tokio::spawn(dialer.run()).abort_handle()
    }

    /// Sends what can be sent, in order for each peer; never waits.
    pub fn send_all(&self, messages: Vec<(NodeId, Message)>) {
        if messages.is_empty() {
            return;
        }
        let ways = self.lock();
        for (to, message) in messages {
            let cut = self.links.is_cut(to, || self.clock.now_us());
            if !cut && let Some(way) = ways.get(&to) {
                way.outbox.push(message);
            }
        }
    }

    /// The peer gave a sign of life: do not wait longer to dial it.
    fn nudge(&self, peer: NodeId) {
        if let Some(way) = self.lock().get(&peer) {
            way.outbox.nudge();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Way>> {
        // A panic ends the process, so a poisoned lock is never seen outside tests.
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
