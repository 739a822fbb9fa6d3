//! The thread that writes what is not in place yet: the next snapshot, and the log behind it. The log's
//! own thread neither writes nor flushes any of it, and takes the files away when they are whole (see
//! `snapshot`).

use super::directory::sync_directory;
use super::snapshot::{feed, in_place};
use super::{DiskError, DiskReport, LOGS, LOGS_NEW, SNAPSHOT, SNAPSHOT_NEW};
use crate::engine::{SnapshotTask, SnapshotWork};
use crate::raft::{Entry, SnapshotId};
use crate::space::{Room, Space};
use crate::wal::SnapshotLook;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum AheadJob {
    Work(SnapshotWork),
    /// To drop these.
    Forget(Vec<Entry>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ahead {
    directory: PathBuf,
    space: Arc<Space>,
    fsyncs: Arc<AtomicU64>,
    /// `None`: none was begun, or it could not be kept.
    snapshot: Option<File>,
    log: Option<File>,
}

impl Ahead {
    pub(super) fn new(directory: PathBuf, space: Arc<Space>, fsyncs: Arc<AtomicU64>) -> Self {
        Ahead {
            directory,
            space,
            fsyncs,
            snapshot: None,
            log: None,
        }
    }

    /// Until nobody can hand over works any more, or the disk fails.
    pub(super) fn run(mut self, queue: &Receiver<AheadJob>, mut report: impl FnMut(DiskReport)) {
        for job in queue {
            let SnapshotWork { ticket, task } = match job {
                AheadJob::Work(work) => work,
                AheadJob::Forget(entries) => {
                    drop(entries);
                    continue;
                }
            };
            if let SnapshotTask::Look(snapshot) = task {
                if is_damaged(&self.directory, snapshot) {
                    tracing::error!("snapshot.txt is not as it was written: another one is taken");
                    report(DiskReport::SnapshotDamaged(snapshot));
                }
                report(DiskReport::SnapshotWritten(ticket));
                continue;
            }
            let has_room = self.space.room() != Room::Critical;
            match self.carry_out(&task, has_room) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!("no room for a snapshot: it is left out until there is some");
                    report(DiskReport::SnapshotLost);
                }
                Err(error) => return report(DiskReport::Failed(error)),
            }
            self.fsyncs.fetch_add(1, Ordering::Relaxed);
            report(DiskReport::SnapshotWritten(ticket));
        }
    }

    /// False: there is no room, and what was written is gone; what follows is, too. The log needs what is
    /// left more.
    pub(super) fn carry_out(
        &mut self,
        task: &SnapshotTask,
        has_room: bool,
    ) -> Result<bool, DiskError> {
        let (name, done) = match task {
            SnapshotTask::Write { begins, bytes } => (SNAPSHOT_NEW, self.write(*begins, bytes)),
            SnapshotTask::Copy {
                first_line,
                from,
                to,
            } => (LOGS_NEW, self.copy(first_line.as_deref(), *from, *to)),
            SnapshotTask::Look(_) => return Ok(true),
        };
        let path = self.directory.join(name);
        let done = done.map_err(DiskError::at("write", &path));
        if let Some(Some(written)) = unless_full(done)?
            && has_room
        {
            self.space.spend(written);
            return Ok(true);
        }
        (self.snapshot, self.log) = (None, None);
        for name in [SNAPSHOT_NEW, LOGS_NEW] {
            let path = self.directory.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.map_err(DiskError::at("remove", &path))?,
            }
        }
        sync_directory(&self.directory)?;
        Ok(false)
    }

    /// Returns how many bytes were written; `None`: nothing was begun.
    fn write(&mut self, begins: bool, bytes: &[u8]) -> io::Result<Option<u64>> {
        if begins {
            self.snapshot = Some(create(&self.directory, SNAPSHOT_NEW)?);
        }
        let Some(file) = &mut self.snapshot else {
            return Ok(None);
        };
        file.write_all(bytes)?;
        file.sync_data()?;
        Ok(Some(bytes.len() as u64))
    }

    fn copy(&mut self, first_line: Option<&[u8]>, from: u64, to: u64) -> io::Result<Option<u64>> {
        if let Some(line) = first_line {
            let mut file = create(&self.directory, LOGS_NEW)?;
            file.write_all(line)?;
            self.log = Some(file);
        }
        let Some(new) = &mut self.log else {
            return Ok(None);
        };
        let copied = copy(&self.directory.join(LOGS), new, from, Some(to - from))?;
        if copied != to - from {
            return Err(io::Error::other("the log is shorter than what was written"));
        }
        new.sync_data()?;
        Ok(Some(copied))
    }
}

/// Whether this snapshot is in place and can't be read as what it was. Where another one takes its place
/// meanwhile, nothing is known.
pub(super) fn is_damaged(directory: &Path, snapshot: SnapshotId) -> bool {
    let is_in_place = || in_place(directory).is_ok_and(|found| found == Some(snapshot));
    let is_whole = || {
        let mut look = SnapshotLook::default();
        let fed = feed(directory, SNAPSHOT, |piece| {
            look.feed(piece);
            true
        });
        fed.is_ok_and(|found| found) && look.is(snapshot)
    };
    is_in_place() && !is_whole() && is_in_place()
}

/// Makes a file and its name durable, so that whoever puts it in place need not.
fn create(directory: &Path, name: &str) -> io::Result<File> {
    let file = File::create(directory.join(name))?;
    File::open(directory)?.sync_all()?;
    Ok(file)
}

/// Copies a part of a log behind the end of a new one, up to its end or so many bytes. Returns how many.
pub(super) fn copy(logs: &Path, new: &mut File, from: u64, bytes: Option<u64>) -> io::Result<u64> {
    let mut log = File::open(logs)?;
    log.seek(SeekFrom::Start(from))?;
    io::copy(&mut log.take(bytes.unwrap_or(u64::MAX)), new)
}

/// A full disk is no failure of what can be done without.
fn unless_full<T>(done: Result<T, DiskError>) -> Result<Option<T>, DiskError> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(DiskError::Full { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
