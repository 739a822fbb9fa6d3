//! Dials one peer, for ever.

use super::outbox::{Outbox, OutboxStream};
use super::{
    CLUSTER_METADATA, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, NODE_ID_METADATA, TARGET_ID_METADATA,
};
use crate::dump::{Dump, Happening};
use crate::identity::Identity;
use crate::raft::NodeId;
use raftkv::raft::raft_client::RaftClient;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
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
        loop {
            let lost = self.connect(&mut backoff).await;
            self.report(&lost);
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
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER_METADATA, ascii(&self.identity.cluster)?);
        metadata.insert(NODE_ID_METADATA, self.identity.id.into());
        metadata.insert(TARGET_ID_METADATA, self.peer.into());
        let mut replies = client.exchange(request).await?.into_inner();
        *backoff = BACKOFF_MIN;
        // The peer says nothing on this stream; it ends when the peer is gone.
        while replies.message().await?.is_some() {}
        Ok(())
    }

    fn report(&self, lost: &Lost) {
        let refused = matches!(lost, Lost::Status(status)
            if matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument));
        if refused {
            tracing::error!(
                peer = self.peer,
                "node {} refuses this one: {lost}",
                self.peer
            );
        } else {
            tracing::debug!(
                peer = self.peer,
                "no connection to node {}: {lost}",
                self.peer
            );
        }
        // What waited is out of date. It is worth a line only where there was something to send.
        if self.outbox.clear() {
            self.dump.tell(Happening::SendFailed(self.peer));
        }
    }
}

fn ascii(text: &str) -> Result<MetadataValue<Ascii>, Status> {
    let refused = |_| Status::invalid_argument("the cluster's name is not plain ASCII");
    MetadataValue::try_from(text).map_err(refused)
}
