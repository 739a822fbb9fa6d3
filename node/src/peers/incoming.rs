//! Takes in the streams that peers dial.

use super::greeting::{self, Caller};
use super::successors::Successors;
use super::{Links, MESSAGE_BYTES_MAX, Peers};
use crate::clock::Clock;
use crate::convert;
use crate::desk::Desk;
use crate::dump::{Dump, Happening};
use crate::engine::ReadView;
use crate::guests::Guest;
use crate::identity::Identity;
use crate::kv::Store;
use crate::raft::{Message, NodeId, Run};
use crate::roster::Roster;
use crate::space::Space;
use raftkv::raft as wire;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use wire::raft_server::{Raft, RaftServer};

/// At most so much more than its command does an entry take on disk.
const LINE_BYTES: usize = 128;

/// The `Raft` service. See the module.
#[derive(Clone, Debug)]
pub struct RaftService {
    identity: Arc<Identity>,
    roster: Arc<Roster>,
    desk: Arc<Desk>,
    /// Shows the format that is in force.
    view: Arc<ReadView>,
    peers: Peers,
    links: Arc<Links>,
    clock: Arc<Clock>,
    space: Arc<Space>,
    dump: Dump,
    /// The newest stream of each peer that is up.
    streams: Arc<Mutex<Streams>>,
    successors: Arc<Mutex<Successors>>,
    keep: Keep,
}

/// Keeps what is known of the directories of others.
#[derive(Clone)]
pub struct Keep(pub Arc<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Keep {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keep")
    }
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    by_peer: BTreeMap<NodeId, (u64, Caller)>,
}

impl Streams {
    /// Why a caller is not let in beside those whose streams are up: a directory is copied, or a node
    /// is started twice. Two that share it would each give the vote that is theirs together. A caller
    /// whose former run has just died is let in at its next try: the end of that one's stream is near.
    fn refuse(&self, caller: &Caller) -> Option<String> {
        let node = caller.id;
        self.by_peer.iter().find_map(|(peer, (_, up))| {
            let same_directory = caller.directory_id != 0 && caller.directory_id == up.directory_id;
            let two_runs = caller.run_id != 0 && up.run_id != 0 && caller.run_id != up.run_id;
            if *peer != node && same_directory {
                return Some(format!(
                    "node {node}'s directory is a copy of that of node {peer}, which is connected: \
                     start one of them with an empty directory, and it is filled from the leader"
                ));
            }
            (*peer == node && two_runs).then(|| {
                format!(
                    "another process is connected as node {node}: a copy of its directory is in use, \
                     or it was made anew while the old one runs; stop one of the two"
                )
            })
        })
    }
}

impl RaftService {
    /// The service, ready to be added to a server.
    pub fn server(
        (desk, view): (&Arc<Desk>, Arc<ReadView>),
        peers: &Peers,
        space: &Arc<Space>,
        dump: &Dump,
        (successors, keep): (Successors, Keep),
    ) -> RaftServer<Self> {
        let service = RaftService {
            identity: Arc::clone(&peers.identity),
            roster: Arc::clone(&peers.roster),
            desk: Arc::clone(desk),
            view,
            peers: peers.clone(),
            links: Arc::clone(&peers.links),
            clock: Arc::clone(&peers.clock),
            space: Arc::clone(space),
            dump: dump.clone(),
            streams: Arc::default(),
            successors: Arc::new(Mutex::new(successors)),
            keep,
        };
        RaftServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Notes a new stream of a peer. An older one that is still open has been given up by the
    /// peer: it counts as broken first.
    fn open(&self, caller: Caller) -> Result<u64, Status> {
        let (peer, reads_format) = (caller.id, caller.reads_format);
        let (renews, run_id) = (caller.renews, caller.run_id);
        let ended = caller.ended.clone();
        self.judge_directory(&caller)?;
        let (stream, before) = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(why) = streams.refuse(&caller) {
                return Err(Status::permission_denied(why));
            }
            streams.last += 1;
            let stream = streams.last;
            self.take_in(&caller);
            let before = streams.by_peer.insert(peer, (stream, caller));
            (stream, before.map(|(_, before)| before))
        };
        let same_run = |before: &Caller| before.run_id == run_id && run_id != 0;
        if renews && before.as_ref().is_some_and(same_run) {
            return Ok(stream); // Nobody needs to know: there is a stream all the while.
        }
        if before.is_some() {
            self.desk.report_disconnected(peer);
        }
        self.desk.report_connected(peer, reads_format);
        for run in ended {
            self.desk.report_ended(run);
        }
        self.dump.tell(Happening::PeerConnected(peer));
        self.peers.nudge(peer);
        Ok(stream)
    }

    /// Keeps what the caller says of itself: it is dialed there where nothing else is known. A node that joins
    /// takes over the id of its cluster, before anything of that is taken in.
    fn take_in(&self, caller: &Caller) {
        self.roster.greeted(caller.id, caller.greeted.clone());
        self.peers.follow();
        if caller.greeted.joins {
            return; // It knows no more than this one.
        }
        if self.identity.take_over(caller.cluster_id) {
            self.desk.report_cluster(caller.cluster_id);
        }
    }

    /// Refuses a directory that had a successor. One that is new is written down before it is let in.
    fn judge_directory(&self, caller: &Caller) -> Result<(), Status> {
        let mut successors = self
            .successors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let noted = successors.note(caller.id, caller.directory_id);
        if noted.map_err(Status::permission_denied)? {
            (self.keep.0)(&successors.encode());
        }
        Ok(())
    }

    fn close(&self, peer: NodeId, stream: u64) {
        let newest = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            let open = streams.by_peer.get(&peer);
            let newest = open.is_some_and(|(open, _)| *open == stream);
            if newest {
                streams.by_peer.remove(&peer);
            }
            newest
        };
        if newest {
            self.desk.report_disconnected(peer);
            self.dump.tell(Happening::PeerDisconnected(peer));
        }
    }

    /// Whether a message is treated as lost, because what it holds would fill the disk: the leader
    /// sends it again, and heartbeats meanwhile.
    fn has_no_room_for(&self, message: &Message) -> bool {
        match message {
            Message::Append { entries, .. } if !entries.is_empty() => {
                let sizes = entries.iter().map(|entry| entry.command.size_bytes());
                let bytes = sizes.map(|bytes| bytes + LINE_BYTES).sum::<usize>();
                !self.space.takes_entries(bytes as u64)
            }
            Message::InstallSnapshot { data, .. } => !self.space.takes_entries(data.len() as u64),
            _ => false,
        }
    }

    /// Reads a stream to its end.
    async fn read(&self, peer: NodeId, stream: u64, mut messages: Streaming<wire::Message>) {
        let mut gone = self.roster.watch_gone();
        loop {
            let message = tokio::select! {
                message = messages.message() => message,
                _ = gone.changed() => match self.roster.is_gone(peer) {
                    // It hears why when it calls again.
                    true => break,
                    false => continue,
                },
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(peer, "connection from node {peer} broke: {status}");
                    break;
                }
            };
            match convert::from_wire(message) {
                Ok(message) => {
                    let is_cut = self.links.is_cut(peer, || self.clock.now_us());
                    if !is_cut && !self.has_no_room_for(&message) {
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
        let format = self.view.with_store(Store::format);
        let caller = greeting::admit(&self.identity, &self.roster, format, request.metadata())?;
        let guest = request.extensions().get::<Arc<Guest>>();
        is_who_it_says(guest, caller.id)?;
        let (peer, stream) = (caller.id, self.open(caller)?);
        // Whoever has no such stream does not keep its connection for long.
        let call = guest.map(Guest::begin);
        let (end, ended) = oneshot::channel();
        let service = self.clone();
        tokio::spawn(async move {
            service.read(peer, stream, request.into_inner()).await;
            drop((end, call));
        });
        Ok(Response::new(UntilEnd(ended)))
    }

    async fn testify(
        &self,
        request: Request<wire::Testimony>,
    ) -> Result<Response<wire::Nothing>, Status> {
        greeting::same_cluster_as(&self.identity, request.metadata())?;
        let guest = request.extensions().get::<Arc<Guest>>();
        let ended = request.get_ref().ended.as_ref();
        let run = ended.map_or(Run::UNKNOWN, convert::run_from_wire);
        if !run.is_named() || run.node == self.identity.id {
            return Err(Status::invalid_argument(
                "a testimony of no other node's run",
            ));
        }
        is_who_it_says(guest, run.node)?;
        if self.links.is_cut(run.node, || self.clock.now_us()) {
            return Err(Status::unavailable("this link is cut"));
        }
        self.desk.report_ended(run);
        Ok(Response::new(wire::Nothing {}))
    }
}

/// Where a certificate was shown, it is the caller's: a node speaks for itself alone.
fn is_who_it_says(guest: Option<&Arc<Guest>>, caller: NodeId) -> Result<(), Status> {
    let node = guest.and_then(|guest| guest.origin()?.node);
    match node {
        Some(node) if node != caller => Err(Status::permission_denied(format!(
            "its certificate is that of node {node}, and it says that it is node {caller}"
        ))),
        _ => Ok(()),
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
