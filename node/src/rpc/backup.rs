//! Backups: the state of one moment as a stream of text, while writes go on.
//!
//! The stream has a task of its own, which makes the next piece only when the client has taken the one
//! before: a slow client costs old values of keys that change meanwhile, which have a bound
//! (`kv::snapshot`), and nothing else. Beyond that the backup is given up, and says so. The loop never
//! waits: each piece is made between two of its steps.

use super::translate::Done;
use super::{Front, Refusal};
use crate::engine::{
    Consistency, Query, Reply, Request as EngineRequest, RequestError, SnapshotHead, Walk,
};
use crate::identity::id_text;
use crate::kv::ExportStep;
use crate::raft::{Index, SnapshotId};
use crate::wal::SnapshotWriter;
use raftkv::admin as wire;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wire::backup_piece::Piece;

/// At a time: each may keep old values alive.
pub(super) const BACKUPS_MAX: usize = 1;
/// Text of one message, far below what clients of gRPC take without being told to.
const PIECE_BYTES: usize = 256 * 1024;
/// Records that are taken off the state at a time: each may be a MiB, and six as text.
const RECORDS: usize = 4;
/// A client that takes no piece for so long has gone, or is too slow for what it keeps alive here.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client of the call reads.
pub(super) type Pieces = ReceiverStream<Result<wire::BackupPiece, Status>>;

/// Begins a backup of a state that is that after `not_before` or later. With 0 it holds all writes that
/// were acknowledged before the call, and only the leader can tell.
pub(super) async fn begin(
    front: &Arc<Front>,
    places: &Arc<Semaphore>,
    not_before: Index,
    deadline: Instant,
) -> Result<Pieces, Refusal> {
    let place = Arc::clone(places).try_acquire_owned();
    let place = place.map_err(|_| front.overloaded("another backup is taken from this node"))?;
    let not_before = match not_before {
        0 => barrier(front, deadline).await?,
        index => index,
    };
    let request = EngineRequest::Backup { not_before };
    let (walk, head) = match front.ask(request, deadline).await? {
        Some(Ok(Reply::BackupBegun { walk, head })) => (walk, head),
        Some(Ok(other)) => unreachable!("a backup is not answered by {other:?}"),
        Some(Err(error)) => return Err(front.refuse(&error)),
        None => return Err(front.refuse(&RequestError::NotReady(BEHIND))),
    };
    let (pieces, taken) = mpsc::channel(1);
    let walker = Walker {
        front: Arc::clone(front),
        walk,
        pieces,
        _place: place,
    };
    tokio::spawn(walker.run(head));
    Ok(ReceiverStream::new(taken))
}

const BEHIND: &str = "this node has not caught up with what the backup must hold";

/// The index up to which every acknowledged write reaches, as a majority confirms.
async fn barrier(front: &Front, deadline: Instant) -> Result<Index, Refusal> {
    let nothing = Query::List {
        prefix: "".into(),
        after: None,
        limit: 0,
    };
    match front.read(nothing, Consistency::Quorum, deadline).await? {
        Done::Read { applied_index, .. } => Ok(applied_index),
        other @ Done::Written { .. } => unreachable!("a read is not answered by {other:?}"),
    }
}

/// A backup under way.
struct Walker {
    front: Arc<Front>,
    walk: Walk,
    pieces: mpsc::Sender<Result<wire::BackupPiece, Status>>,
    _place: OwnedSemaphorePermit,
}

/// Why a backup ends early.
enum Broken {
    /// The client is gone, or as good as that: nobody is told.
    Untaken,
    Refused(Refusal),
}

impl Walker {
    async fn run(self, head: SnapshotHead) {
        let mut closing = self.front.closing.subscribe();
        let told = tokio::select! {
            told = self.tell(head) => told,
            // The sender outlives this, which holds the front.
            _ = closing.wait_for(|closing| *closing) => {
                Err(Broken::Refused(self.front.stopping()))
            }
        };
        self.front.view.end_backup(self.walk);
        if let Err(Broken::Refused(refusal)) = told {
            self.front.metrics.refused(refusal.reason);
            let status = Err(refusal.into_status());
            // Who has gone meanwhile does not want it.
            drop(self.pieces.send_timeout(status, PATIENCE).await);
        }
    }

    async fn tell(&self, head: SnapshotHead) -> Result<(), Broken> {
        let identity = &self.front.identity;
        self.send(Piece::Begin(wire::BackupBegin {
            node_id: identity.id,
            cluster: identity.cluster.clone(),
            cluster_id: id_text(identity.cluster_id()),
            index: head.state.applied_index,
            term: head.term,
            key_count: head.state.keys,
            session_count: head.state.sessions,
        }))
        .await?;
        let mut text = Vec::new();
        let mut writer = SnapshotWriter::begin(head, &mut text);
        loop {
            match self.front.view.backup_next(self.walk, RECORDS) {
                ExportStep::Records(records) => {
                    records
                        .iter()
                        .for_each(|record| writer.record(record, &mut text));
                }
                ExportStep::Done => {
                    let SnapshotId { hash, bytes, .. } = writer.end(&mut text);
                    self.send_text(&mut text).await?;
                    return self.send(Piece::End(wire::BackupEnd { hash, bytes })).await;
                }
                ExportStep::GivenUp => {
                    let why = "too much changed while the state was told, faster than it was \
                               taken: ask again, or another node";
                    let refusal = self.front.refuse(&RequestError::NotReady(why));
                    return Err(Broken::Refused(refusal));
                }
            }
            if text.len() >= PIECE_BYTES {
                self.send_text(&mut text).await?;
            }
        }
    }

    /// Sends text on, in messages of a bounded size.
    async fn send_text(&self, text: &mut Vec<u8>) -> Result<(), Broken> {
        for piece in text.chunks(PIECE_BYTES) {
            self.send(Piece::Text(piece.to_vec())).await?;
        }
        text.clear();
        Ok(())
    }

    async fn send(&self, piece: Piece) -> Result<(), Broken> {
        let piece = wire::BackupPiece { piece: Some(piece) };
        match self.pieces.send_timeout(Ok(piece), PATIENCE).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(_) | SendTimeoutError::Closed(_)) => Err(Broken::Untaken),
        }
    }
}
