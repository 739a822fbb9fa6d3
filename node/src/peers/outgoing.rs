//! Dials one peer, for ever.

use super::outbox::{Outbox, OutboxStream};
use super::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, greeting};
use crate::dump::{Dump, Happening};
use crate::identity::Identity;
use crate::raft::NodeId;
use raftkv::raft::raft_client::RaftClient;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

const BACKOFF_MIN: Duration = Duration::from_millis(30);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Room for a few large appends in flight.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// See the module.
pub(super) struct Dialer {
    pub(super) peer: NodeId,
    pub(super) address: String,
    pub(super) identity: Arc<Identity>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) dump: Dump,
}

/// Why a connection is not there, or no longer.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// Nobody answers, or the connection broke.
    #[error("{0}")]
    Unreachable(#[from] tonic::transport::Error),
    /// The peer answered with an error.
    #[error("{}", .0.message())]
    Status(#[from] Status),
    /// The peer ended the stream.
    #[error("the peer closed the connection")]
    Closed,
}

impl Dialer {
    pub(super) async fn run(self) {
        let mut backoff = BACKOFF_MIN;
        let mut refused = None;
        loop {
            let lost = self.connect(&mut backoff).await;
            self.report(&lost, &mut refused);
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
    async fn connect(&self, backoff: &mut Duration) -> Lost {
        match self.exchange(backoff).await {
            Ok(()) => Lost::Closed,
            Err(lost) => lost,
        }
    }

    async fn exchange(&self, backoff: &mut Duration) -> Result<(), Lost> {
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
        // The peer says nothing on this stream; it ends when the peer is gone.
        while replies.message().await?.is_some() {}
        Ok(())
    }

    /// Tells what is worth telling; a refusal only when it is another than the one before.
    fn report(&self, lost: &Lost, refused: &mut Option<String>) {
        let peer = self.peer;
        match lost {
            Lost::Status(status) if status.code() == Code::PermissionDenied => {
                let why = Some(status.message().to_owned());
                if *refused != why {
                    tracing::error!(peer, "node {peer} refuses this one: {lost}");
                    *refused = why;
                }
            }
            _ => tracing::debug!(peer, "no connection to node {peer}: {lost}"),
        }
        // What waited is out of date. It is worth a line only where there was something to send.
        if self.outbox.clear() {
            self.dump.tell(Happening::SendFailed(peer));
        }
    }
}
