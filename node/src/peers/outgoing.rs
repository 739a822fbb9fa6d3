//! Dials one peer, for ever.

use super::outbox::{Outbox, OutboxStream};
use super::trouble::{Lost, Reason, Trouble};
use super::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Links, greeting};
use crate::dump::{Dump, Happening};
use crate::identity::Identity;
use crate::raft::NodeId;
use raftkv::raft::raft_client::RaftClient;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Request;
use tonic::transport::Endpoint;

const BACKOFF_MIN: Duration = Duration::from_millis(30);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What goes away by itself while nodes start is told when it has lasted for so long.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// Room for a few large appends in flight.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// See the module.
pub(super) struct Dialer {
    pub(super) peer: NodeId,
    pub(super) address: String,
    pub(super) identity: Arc<Identity>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) links: Arc<Links>,
    pub(super) dump: Dump,
}

/// Since the peer was last reached, or this node started.
struct Down {
    since: Instant,
    told: BTreeSet<Reason>,
}

impl Default for Down {
    fn default() -> Self {
        Down {
            since: Instant::now(),
            told: BTreeSet::new(),
        }
    }
}

impl Dialer {
    pub(super) async fn run(self) {
        let mut backoff = BACKOFF_MIN;
        let mut down = Down::default();
        loop {
            let lost = self.connect(&mut backoff, &mut down).await;
            self.report(&lost, &mut down);
            // Half of it random, so that nodes that lost each other do not dial in step.
            let wait = backoff.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            backoff = (backoff * 2).min(BACKOFF_MAX);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.outbox.nudged() => backoff = BACKOFF_MIN,
            }
        }
    }

    /// Connects, and sends for as long as the connection lives.
    async fn connect(&self, backoff: &mut Duration, down: &mut Down) -> Lost {
        match self.exchange(backoff, down).await {
            Ok(()) => Lost::Closed,
            Err(lost) => lost,
        }
    }

    async fn exchange(&self, backoff: &mut Duration, down: &mut Down) -> Result<(), Lost> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES);
        let mut client = RaftClient::new(endpoint.connect().await?);
        let mut request = Request::new(OutboxStream(Arc::clone(&self.outbox)));
        greeting::write(&self.identity, self.peer, request.metadata_mut())?;
        let mut replies = client.exchange(request).await?.into_inner();
        *backoff = BACKOFF_MIN;
        self.links.report_trouble(self.peer, None);
        // The peer says nothing on this stream; it ends when the peer is gone.
        let ended = loop {
            match replies.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(status) => break Err(status.into()),
            }
        };
        *down = Down::default();
        ended
    }

    /// Tells what is worth telling: each kind of trouble once, until the peer has been reached again.
    fn report(&self, lost: &Lost, down: &mut Down) {
        let peer = self.peer;
        let trouble = Trouble::new(&self.address, lost);
        let Trouble {
            address,
            reason,
            text,
        } = &trouble;
        let lasts = reason.is_told_at_once() || down.since.elapsed() >= TELL_AFTER;
        if lasts && down.told.insert(*reason) {
            tracing::warn!("node {peer} can't be reached at {address}: {text}");
            self.dump.tell(Happening::Unreachable {
                peer,
                address: address.clone(),
                reason: reason.name(),
            });
        } else {
            tracing::debug!(peer, "no connection to node {peer}: {text}");
        }
        self.links.report_trouble(peer, Some(trouble));
        // What waited is out of date. It is worth a line only where there was something to send.
        if self.outbox.clear() {
            self.dump.tell(Happening::SendFailed(peer));
        }
    }
}
