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
mod successors;
mod trouble;

pub use incoming::{Keep, RaftService};
pub use links::{CUT_MS_MAX, CutLink, Links};
pub use successors::Successors;
pub use trouble::{Reason, Trouble};

use crate::clock::Clock;
use crate::dump::Dump;
use crate::identity::Identity;
use crate::raft::{Message, NodeId};
use outbox::Outbox;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A connection that carries nothing for these two together is given up and dialed anew. After a
/// long partition that is much sooner than the kernel would try the old one again. A broken
/// connection to a living peer does no harm: others still hear the leader.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Largest message taken from a peer: an append of a few MiB, with room to spare.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The ways out to all peers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    outboxes: Arc<BTreeMap<NodeId, Arc<Outbox>>>,
    links: Arc<Links>,
    clock: Arc<Clock>,
}

impl Peers {
    /// Starts to dial every peer. Must be called within the runtime.
    pub fn start(
        identity: &Arc<Identity>,
        links: &Arc<Links>,
        clock: &Arc<Clock>,
        dump: &Dump,
    ) -> Self {
        let mut outboxes = BTreeMap::new();
        for (peer, member) in identity.peers() {
            let outbox = Arc::new(Outbox::new(identity.id));
            let dialer = outgoing::Dialer {
                peer,
                address: member.peer_address.clone(),
                identity: Arc::clone(identity),
                outbox: Arc::clone(&outbox),
                links: Arc::clone(links),
                dump: dump.clone(),
            };
            tokio::spawn(dialer.run());
            outboxes.insert(peer, outbox);
        }
        Peers {
            outboxes: Arc::new(outboxes),
            links: Arc::clone(links),
            clock: Arc::clone(clock),
        }
    }

    /// Sends what can be sent, in order for each peer; never waits.
    pub fn send_all(&self, messages: Vec<(NodeId, Message)>) {
        for (to, message) in messages {
            let cut = self.links.is_cut(to, || self.clock.now_us());
            if !cut && let Some(outbox) = self.outboxes.get(&to) {
                outbox.push(message);
            }
        }
    }

    /// The peer gave a sign of life: do not wait longer to dial it.
    fn nudge(&self, peer: NodeId) {
        if let Some(outbox) = self.outboxes.get(&peer) {
            outbox.nudge();
        }
    }
}
