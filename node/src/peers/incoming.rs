//! Takes in the streams that peers dial.

use super::{Links, MESSAGE_BYTES_MAX, Peers, greeting};
use crate::clock::Clock;
use crate::convert;
use crate::desk::Desk;
use crate::dump::{Dump, Happening};
use crate::identity::Identity;
use crate::raft::NodeId;
use raftkv::raft as wire;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use wire::raft_server::{Raft, RaftServer};

/// The `Raft` service. See the module.
#[derive(Clone, Debug)]
pub struct RaftService {
    identity: Arc<Identity>,
    desk: Arc<Desk>,
    peers: Peers,
    links: Arc<Links>,
    clock: Arc<Clock>,
    dump: Dump,
    /// The newest stream of each peer that is up.
    streams: Arc<Mutex<Streams>>,
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    by_peer: BTreeMap<NodeId, u64>,
}

impl RaftService {
    /// The service, ready to be added to a server.
    pub fn server(
        identity: &Arc<Identity>,
        desk: &Arc<Desk>,
        peers: &Peers,
        dump: &Dump,
    ) -> RaftServer<Self> {
        let service = RaftService {
            identity: Arc::clone(identity),
            desk: Arc::clone(desk),
            peers: peers.clone(),
            links: Arc::clone(&peers.links),
            clock: Arc::clone(&peers.clock),
            dump: dump.clone(),
            streams: Arc::default(),
        };
        RaftServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Notes a new stream of a peer. An older one that is still open has been given up by the
    /// peer: it counts as broken first.
    fn open(&self, peer: NodeId) -> u64 {
        let (stream, replaced) = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.last += 1;
            let stream = streams.last;
            (stream, streams.by_peer.insert(peer, stream).is_some())
        };
        if replaced {
            self.desk.report_link(peer, false);
        }
        self.desk.report_link(peer, true);
        self.dump.tell(Happening::PeerConnected(peer));
        self.peers.nudge(peer);
        stream
    }

    fn close(&self, peer: NodeId, stream: u64) {
        let newest = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = streams.by_peer.get(&peer) == Some(&stream);
            if newest {
                streams.by_peer.remove(&peer);
            }
            newest
        };
        if newest {
            self.desk.report_link(peer, false);
            self.dump.tell(Happening::PeerDisconnected(peer));
        }
    }

    /// Reads a stream to its end.
    async fn read(&self, peer: NodeId, mut messages: Streaming<wire::Message>) {
        let stream = self.open(peer);
        loop {
            let message = match messages.message().await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(peer, "connection from node {peer} broke: {status}");
                    break;
                }
            };
            match convert::from_wire(message) {
                Ok(message) => {
                    if !self.links.is_cut(peer, || self.clock.now_us()) {
                        self.desk.deliver(peer, message).await;
                    }
                }
                Err(malformed) => {
                    tracing::error!(peer, "node {peer} sent nonsense: {malformed}");
                    break;
                }
            }
        }
        self.close(peer, stream);
    }
}

#[tonic::async_trait]
impl Raft for RaftService {
    type ExchangeStream = UntilEnd;

    async fn exchange(
        &self,
        request: Request<Streaming<wire::Message>>,
    ) -> Result<Response<UntilEnd>, Status> {
        let peer = greeting::admit(&self.identity, request.metadata())?;
        let (end, ended) = oneshot::channel();
        let service = self.clone();
        tokio::spawn(async move {
            service.read(peer, request.into_inner()).await;
            drop(end);
        });
        Ok(Response::new(UntilEnd(ended)))
    }
}

/// The reply side of a stream: says nothing, and ends with the reading side.
#[derive(Debug)]
pub struct UntilEnd(oneshot::Receiver<()>);

impl Stream for UntilEnd {
    type Item = Result<wire::Nothing, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll(context).map(|_| None)
    }
}
