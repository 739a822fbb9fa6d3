//! Dials one peer, for ever.

use super::outbox::{Outbox, OutboxStream};
use super::renewal::Renewal;
use super::trouble::{Lost, Reason, Trouble};
use super::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Links, greeting};
use crate::dump::{Dump, Happening};
use crate::identity::Identity;
use crate::raft::NodeId;
use crate::roster::Roster;
use crate::tls::Dial;
use raftkv::raft as wire;
use raftkv::raft::raft_client::RaftClient;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};

const BACKOFF_MIN: Duration = Duration::from_millis(30);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For a stream that is to replace one that stands: nothing hurries.
const RENEW_TIMEOUT: Duration = Duration::from_secs(10);
/// What goes away by itself while nodes start is told when it has lasted for so long.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// Room for a few large appends in flight.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// See the module.
pub(super) struct Dialer {
    pub(super) peer: NodeId,
    pub(super) address: String,
    pub(super) identity: Arc<Identity>,
    pub(super) roster: Arc<Roster>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) links: Arc<Links>,
    pub(super) dump: Dump,
    /// Where there is TLS.
    pub(super) tls: Option<Dial>,
}

type Replies = Streaming<wire::Nothing>;

async fn until_end(mut replies: Replies) {
    while let Ok(Some(_)) = replies.message().await {}
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
            self.give_up_waiting();
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
        let mut renewal = Renewal::of(self.tls.as_ref());
        let stream = self.outbox.stream();
        self.outbox.turn_to(stream.number());
        let mut replies = self.open(stream, false).await?;
        *backoff = BACKOFF_MIN;
        self.links.report_trouble(self.peer, None);
        // The peer says nothing on this stream; it ends when the peer is gone.
        let ended = loop {
            tokio::select! {
                reply = replies.message() => match reply {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status.into()),
                },
                must = renewal.is_due() => match self.renew(&mut replies).await {
                    Ok(()) => {
                        *down = Down::default();
                        self.links.report_trouble(self.peer, None);
                        renewal.done();
                    }
                    Err(lost) if must => break Err(lost),
                    Err(lost) => self.report(&lost, down),
                },
            }
        };
        *down = Down::default();
        ended
    }

    async fn open(&self, stream: OutboxStream, renews: bool) -> Result<Replies, Lost> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES);
        let channel = match self.tls.clone() {
            None => endpoint.connect().await?,
            Some(dial) => endpoint.connect_with_connector(dial).await?,
        };
        let mut request = Request::new(stream);
        let metadata = request.metadata_mut();
        greeting::write(&self.identity, &self.roster, self.peer, metadata)?;
        if renews {
            greeting::renews(request.metadata_mut());
        }
        let replies = RaftClient::new(channel).exchange(request).await?;
        Ok(replies.into_inner())
    }

    /// Makes a new stream, and only then gives up the one that stands: a peer whose leader's stream
    /// breaks stands for election within milliseconds.
    async fn renew(&self, replies: &mut Replies) -> Result<(), Lost> {
        let stream = self.outbox.stream();
        let number = stream.number();
        let opened = timeout(RENEW_TIMEOUT, self.open(stream, true)).await;
        let late = |_| Status::deadline_exceeded("the peer does not answer");
        let before = std::mem::replace(replies, opened.map_err(late)??);
        self.outbox.turn_to(number);
        // The peer ends it when it has read what was sent.
        tokio::spawn(timeout(RENEW_TIMEOUT, until_end(before)));
        Ok(())
    }

    /// Tells what is worth telling: each kind of trouble once, until the peer has been reached again.
    fn report(&self, lost: &Lost, down: &mut Down) {
        let peer = self.peer;
        if let Lost::Status(status) = lost
            && let Some((entry, cluster)) = greeting::removed_by(status)
        {
            self.roster.hear_removed(entry, cluster);
        }
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
    }

    /// What waited is out of date. It is worth a line only where there was something to send.
    fn give_up_waiting(&self) {
        if self.outbox.clear() {
            self.dump.tell(Happening::SendFailed(self.peer));
        }
    }
}
