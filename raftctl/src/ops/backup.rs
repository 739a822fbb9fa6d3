//! Backups: the state of a cluster, as a file.
//!
//! What was acknowledged before is found out from the leader, by a quorum read; the state itself comes from
//! any node that has come so far, a follower before the leader. Where one gives up, or breaks off, another
//! is asked; what came until then is thrown away.

use std::fs::File;
use std::io::{Seek, Write};
use std::time::{Duration, Instant, SystemTime};

use raftkv::admin::backup_piece::Piece;
use raftkv::admin::{BackupBegin, Role, StatusReply};

use super::Context;
use super::store;
use crate::admin::{self, AdminError, Backup};
use crate::client::Read;
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::terminal::progress::{Progress, Running};
use crate::text::backups::{Checked, Checker, Head};

/// How long a backup may take to begin, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A node that sends nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two rounds of all nodes.
const PAUSE: Duration = Duration::from_millis(500);
/// How often each node is asked: one that gives up because too much changes meanwhile may do so again.
const ROUNDS_MAX: u32 = 5;

/// A backup that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// What it is.
    pub checked: Checked,
    /// How long it is.
    pub bytes: u64,
}

/// Why a node gave none.
enum Broken {
    /// Another may.
    Node(String),
    /// The file can't be written.
    Here(Error),
}

impl Context {
    /// Writes a backup into a file, which is empty otherwise. It holds every write that was acknowledged
    /// before the call. `from` are the nodes that may be asked.
    ///
    /// # Errors
    /// There is no leader, no node gives one, or the file can't be written.
    pub async fn back_up(
        &self,
        from: &[NodeId],
        timeout: Option<Duration>,
        file: &mut File,
        progress: &Progress,
    ) -> Result<Taken> {
        let timeout = timeout.unwrap_or(TIMEOUT);
        let until = Instant::now() + timeout;
        let client = store::client(self, Some(timeout));
        let mut client = client.with_absence(store::absence(self));
        let not_before = client.get("", Read::Quorum).await?.applied_index;
        let mut refusals = Vec::new();
        for round in 0..ROUNDS_MAX {
            if round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let mut refused = Vec::new();
            for id in self.by_burden(from).await {
                let step = progress.begin(&format!("back up from node {id}"));
                match self.take_one(id, not_before, timeout, file, &step).await {
                    Ok(taken) => {
                        step.done();
                        return Ok(taken);
                    }
                    Err(Broken::Here(error)) => return Err(error),
                    Err(Broken::Node(why)) => refused.push(format!("node {id}: {why}")),
                }
            }
            if !refused.is_empty() {
                // Of a node that has ended since, how it ended says more than that it is gone.
                refusals = refused;
            }
            if Instant::now() >= until {
                break;
            }
        }
        if refusals.is_empty() {
            refusals.push("none of the nodes answers".into());
        }
        Err(Error::NoLeader(format!(
            "no backup, and nothing was written:\n  {}",
            refusals.join("\n  ")
        )))
    }

    /// Those of the nodes that answer, followers first.
    async fn by_burden(&self, from: &[NodeId]) -> Vec<NodeId> {
        let replies = self.replies(from).await.into_iter();
        let mut answering: Vec<(NodeId, StatusReply)> = replies
            .filter_map(|(id, reply)| Some((id, reply.ok()?)))
            .collect();
        let is_leader = |reply: &StatusReply| reply.role() == Role::Leader;
        answering.sort_by_key(|(id, reply)| (is_leader(reply), *id));
        answering.into_iter().map(|(id, _)| id).collect()
    }

    async fn take_one(
        &self,
        id: NodeId,
        not_before: u64,
        timeout: Duration,
        file: &mut File,
        step: &Running,
    ) -> Result<Taken, Broken> {
        let address = &self.inventory.member(id).admin_address;
        let begun = admin::backup(address, not_before, timeout).await;
        let mut pieces = begun.map_err(of_node)?;
        let head = self.head(&mut pieces).await?;
        let mut writing = Writing::begin(file, head).map_err(Broken::Here)?;
        loop {
            match pieces
                .next(PATIENCE)
                .await
                .map_err(of_node)?
                .and_then(|piece| piece.piece)
            {
                Some(Piece::Text(text)) => {
                    writing.write(&text)?;
                    step.tell(&format!("{} KiB", writing.bytes >> 10));
                }
                Some(Piece::End(end)) => return writing.end(end.hash, end.bytes),
                Some(Piece::Begin(_)) | None => {
                    return Err(Broken::Node("it broke off before the end".into()));
                }
            }
        }
    }

    /// What comes first.
    async fn head(&self, pieces: &mut Backup) -> Result<Head, Broken> {
        let first = pieces.next(PATIENCE).await.map_err(of_node)?;
        let Some(Piece::Begin(begin)) = first.and_then(|piece| piece.piece) else {
            return Err(Broken::Node("it began with something else".into()));
        };
        if begin.cluster != self.cluster.name {
            let why = format!("it is of cluster {:?}", begin.cluster);
            return Err(Broken::Node(why));
        }
        Ok(head_of(&begin))
    }
}

fn of_node(error: AdminError) -> Broken {
    Broken::Node(error.to_string())
}

fn head_of(begin: &BackupBegin) -> Head {
    Head {
        cluster: begin.cluster.clone(),
        time: now(),
        cluster_id: begin.cluster_id.clone(),
        node: begin.node_id,
        index: begin.index,
        term: begin.term,
        sessions: begin.session_count,
        keys: begin.key_count,
        hash: 0,
    }
}

/// The time, for the first line of a backup.
#[must_use]
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// A file on its way. Its first line is written again at the end, when the hash is known.
struct Writing<'a> {
    file: &'a mut File,
    head: Head,
    checker: Checker,
    bytes: u64,
}

impl<'a> Writing<'a> {
    fn begin(file: &'a mut File, head: Head) -> Result<Self> {
        let line = head.line();
        let begun = file.set_len(0).and_then(|()| file.rewind());
        begun
            .and_then(|()| file.write_all(line.as_bytes()))
            .map_err(not_written)?;
        let bytes = line.len() as u64;
        let checker = Checker::default();
        Ok(Writing {
            file,
            head,
            checker,
            bytes,
        })
    }

    fn write(&mut self, text: &[u8]) -> Result<(), Broken> {
        self.checker
            .feed(text)
            .map_err(|fault| Broken::Node(fault.to_string()))?;
        self.bytes += text.len() as u64;
        self.file
            .write_all(text)
            .map_err(|error| Broken::Here(not_written(error)))
    }

    fn end(self, hash: u32, bytes: u64) -> Result<Taken, Broken> {
        let checked = self.checker.finish();
        let checked = checked.map_err(|fault| Broken::Node(fault.to_string()))?;
        let head = Head { hash, ..self.head };
        let line = head.line();
        let numbers = |head: &Head| (head.index, head.term, head.keys, head.sessions, head.hash);
        let is_whole = self.bytes == bytes + line.len() as u64;
        if !is_whole || numbers(&checked.head) != numbers(&head) {
            return Err(Broken::Node("what came is not what it told".into()));
        }
        let written = self.file.rewind();
        written
            .and_then(|()| self.file.write_all(line.as_bytes()))
            .and_then(|()| self.file.sync_all())
            .map_err(|error| Broken::Here(not_written(error)))?;
        let checked = Checked { head, ..checked };
        Ok(Taken {
            checked,
            bytes: self.bytes,
        })
    }
}

fn not_written(error: std::io::Error) -> Error {
    Error::Other(format!("cannot write the backup: {error}"))
}
