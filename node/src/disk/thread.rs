//! The thread that writes: in order, with one flush for all that waits.

use super::ahead::{Ahead, AheadJob};
use super::snapshot::SnapshotFiles;
use super::{Directory, DiskError, MARK, METADATA};
use crate::engine::{DiskWork, SnapshotWork};
use crate::metrics::Metrics;
use crate::raft::{ChunkWanted, Entry, NodeId, SnapshotId};
use crate::space::Space;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Most works that wait for the disk. A node that has as many takes in nothing new, and loses
/// its lease when the disk does not come back in time.
pub const DISK_QUEUE_MAX: usize = 1024;

/// How long the end of the node waits for a disk that does not answer.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries of a write for which there is no room.
const ROOM_RETRY: Duration = Duration::from_millis(100);

/// Between two tries to get the reserve back.
const RESERVE_RETRY: Duration = Duration::from_millis(500);

/// A longer append gets nothing of the reserve, which is there for term and vote. One so small may
/// take of it: while an append waits, term and vote wait behind it.
const SMALL_APPEND_BYTES: usize = 16 * 1024;

/// Most works that share one flush: so that the first of them does not wait for ever.
const BATCH_MAX: usize = 256;

/// What the disk thread has to say.
#[derive(Debug)]
pub enum DiskReport {
    /// All works up to this ticket are durable.
    Durable(u64),
    /// What was written of a snapshot could not be kept: said before the works are done that wrote it.
    SnapshotLost,
    /// The snapshot that was to be looked at is not as it was written.
    SnapshotDamaged(SnapshotId),
    /// All works on files that are not in place yet, up to this ticket, are done.
    SnapshotWritten(u64),
    /// A piece of the snapshot that is in place; empty where that is another one.
    Chunk {
        /// Whom it is for.
        peer: NodeId,
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Where in it.
        offset: u64,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// The disk failed, and the thread has ended: the node must stop.
    Failed(DiskError),
}

/// The disk thread has ended, or has as much to do as may ever wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk takes nothing more")]
pub struct NotTaken;
/// What the thread is asked for.
#[derive(Debug)]
enum Job {
    Work(Box<DiskWork>),
    Read(ChunkWanted),
}

/// The running disk thread.
#[derive(Debug)]
pub struct DiskThread {
    works: Option<SyncSender<Job>>,
    snapshots: Option<SyncSender<AheadJob>>,
    /// Hears of the end of the thread of snapshots.
    snapshots_ended: Receiver<()>,
    /// Gets the directory back when the thread ends, unless the disk failed.
    ended: Receiver<Option<Directory>>,
    fsyncs: Arc<AtomicU64>,
}

impl DiskThread {
    /// Starts the thread, and one of its own for snapshots. They call `report` after each flush.
    pub fn start(
        directory: Directory,
        space: &Arc<Space>,
        metrics: &Arc<Metrics>,
        report: impl FnMut(DiskReport) + Clone + Send + 'static,
    ) -> Result<Self, DiskError> {
        let (works, queue) = sync_channel(DISK_QUEUE_MAX);
        let fsyncs = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            log: directory.open_log()?,
            mark: directory.open_mark()?,
            snapshots: SnapshotFiles::open(&directory)?,
            directory,
            space: Arc::clone(space),
            metrics: Arc::clone(metrics),
            fsyncs: Arc::clone(&fsyncs),
        };
        let path = writer.directory.path().to_owned();
        let ahead = Ahead::new(path.clone(), Arc::clone(space), Arc::clone(&fsyncs));
        let (snapshots, ahead_queue) = sync_channel(DISK_QUEUE_MAX);
        let (end, ended) = sync_channel(1);
        let (snapshots_end, snapshots_ended) = sync_channel(1);
        let ahead_report = report.clone();
        // Nobody may wait for the end of them any more.
        spawn("snapshots", &path, move || {
            ahead.run(&ahead_queue, ahead_report);
            snapshots_end.send(()).ok();
        })?;
        spawn("disk", &path, move || {
            drop(end.send(writer.run(&queue, report)));
        })?;
        Ok(DiskThread {
            works: Some(works),
            snapshots: Some(snapshots),
            snapshots_ended,
            ended,
            fsyncs,
        })
    }

    /// Hands over a work. It is lost where the queue is full or the thread has ended: then the node
    /// ends, too.
    pub fn submit(&self, work: DiskWork) -> Result<(), NotTaken> {
        let works = self.works.as_ref().ok_or(NotTaken)?;
        works
            .try_send(Job::Work(Box::new(work)))
            .map_err(|_| NotTaken)
    }

    /// The same for work on files that are not in place yet.
    pub fn submit_snapshot(&self, work: SnapshotWork) -> Result<(), NotTaken> {
        let works = self.snapshots.as_ref().ok_or(NotTaken)?;
        works.try_send(AheadJob::Work(work)).map_err(|_| NotTaken)
    }

    /// Has the thread of snapshots drop these, so that nothing waits for it.
    pub fn forget(&self, entries: Vec<Entry>) {
        if let Some(works) = self.snapshots.as_ref().filter(|_| !entries.is_empty()) {
            // Where the queue is full they end here.
            works.try_send(AheadJob::Forget(entries)).ok();
        }
    }

    /// Asks for a piece of the snapshot that is in place when all works before are carried out. Where
    /// the queue is full nothing is read: it is asked for again.
    pub fn read(&self, wanted: ChunkWanted) {
        if let Some(works) = &self.works {
            works.try_send(Job::Read(wanted)).ok();
        }
    }

    /// Waits until all that was handed over is on disk, and gives the directory back; `None` when
    /// the disk failed, or does not answer for some seconds.
    pub fn finish(mut self) -> Option<Directory> {
        (self.works, self.snapshots) = (None, None);
        // It must not write any more when the directory is somebody else's.
        self.snapshots_ended.recv_timeout(FINISH_TIMEOUT).ok()?;
        self.ended.recv_timeout(FINISH_TIMEOUT).ok()?
    }

    /// Flushes of log and metadata since the start.
    pub fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Ordering::Relaxed)
    }
}

impl Drop for DiskThread {
    /// Waits as [`DiskThread::finish`] does, unless that has been done.
    fn drop(&mut self) {
        if self.works.take().is_some() {
            self.snapshots = None;
            self.snapshots_ended.recv_timeout(FINISH_TIMEOUT).ok();
            drop(self.ended.recv_timeout(FINISH_TIMEOUT));
        }
    }
}

fn spawn(
    name: &str,
    path: &std::path::Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), DiskError> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(DiskError::at("start a thread for", path))?;
    Ok(())
}

struct Writer {
    directory: Directory,
    space: Arc<Space>,
    metrics: Arc<Metrics>,
    log: File,
    mark: File,
    snapshots: SnapshotFiles,
    fsyncs: Arc<AtomicU64>,
}

impl Writer {
    /// Until nobody can hand over works any more. Returns the directory, unless the disk failed.
    fn run(
        mut self,
        queue: &Receiver<Job>,
        mut report: impl FnMut(DiskReport),
    ) -> Option<Directory> {
        while let Some(first) = self.next(queue) {
            let mut batch = Vec::new();
            let mut read = None;
            let waiting = queue.try_iter().take(BATCH_MAX - 1);
            for job in std::iter::once(first).chain(waiting) {
                match job {
                    Job::Work(work) => batch.push(*work),
                    // Behind the works before it.
                    Job::Read(wanted) => {
                        read = Some(wanted);
                        break;
                    }
                }
            }
            let done = self.carry_out(&batch);
            if let Some(wanted) = read.filter(|_| done.is_ok()) {
                report(self.snapshots.read(&self.directory, wanted));
            }
            match done {
                Ok(None) => {}
                Ok(Some(ticket)) => report(DiskReport::Durable(ticket)),
                Err(error) => {
                    report(DiskReport::Failed(error));
                    return None;
                }
            }
        }
        Some(self.directory)
    }

    /// Waits for the next work; meanwhile the reserve comes back with the room. `None`: there will be
    /// no more.
    fn next(&self, queue: &Receiver<Job>) -> Option<Job> {
        while self.space.is_reserve_taken() {
            match queue.recv_timeout(RESERVE_RETRY) {
                Ok(work) => return Some(work),
                Err(RecvTimeoutError::Timeout) => self.take_back_reserve(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        queue.recv().ok()
    }

    fn take_back_reserve(&self) {
        match self.directory.keep_reserve() {
            Ok(true) => {
                tracing::info!("there is room on the disk again");
                self.space.set_reserve_taken(false);
            }
            Ok(false) => {}
            Err(error) => tracing::warn!("no room can be kept in reserve: {error}"),
        }
    }

    /// Carries out a batch; returns the highest ticket, which is then durable.
    fn carry_out(&mut self, batch: &[DiskWork]) -> Result<Option<u64>, DiskError> {
        let mut unflushed = false;
        for work in batch {
            if let Some(mark) = &work.mark {
                self.with_room(true, |writer| writer.write_mark(mark, work.flush_mark))?;
            }
            if let Some(metadata) = &work.metadata_before {
                // It may say that entries are committed which were written just now.
                if std::mem::take(&mut unflushed) {
                    self.flush_log()?;
                }
                self.replace_metadata(metadata)?;
            }
            if let Some(length) = work.truncate_to {
                self.on_log("cut", |log| log.set_len(length))?;
                // At once: a crash could otherwise leave new lines before the end of old ones.
                self.flush_log()?;
            }
            if !work.append.is_empty() {
                self.append(&work.append)?;
                unflushed = true;
            }
            if let Some(cut) = &work.cut {
                // What was appended before is flushed with the new file.
                unflushed = false;
                self.with_room(true, |writer| {
                    writer.log = writer.snapshots.put_in_place(&writer.directory, cut)?;
                    Ok(())
                })?;
            }
        }
        if unflushed {
            self.flush_log()?;
        }
        // After the log: it must hold what metadata.txt says is committed. Each replaces the one
        // before, so only the last is written.
        let metadata = batch.iter().rev().find_map(|work| work.metadata.as_deref());
        if let Some(metadata) = metadata {
            self.replace_metadata(metadata)?;
        }
        Ok(batch.last().map(|work| work.ticket))
    }

    fn replace_metadata(&mut self, metadata: &[u8]) -> Result<(), DiskError> {
        self.with_room(true, |writer| writer.directory.replace(METADATA, metadata))?;
        // The file and its directory.
        self.fsyncs.fetch_add(2, Ordering::Relaxed);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let mut length = 0;
        self.on_log("measure", |log| {
            length = log.metadata()?.len();
            Ok(())
        })?;
        self.with_room(bytes.len() <= SMALL_APPEND_BYTES, |writer| {
            let written = writer.on_log("write", |log| log.write_all(bytes));
            if written.is_err() {
                // None of it was flushed, so nobody counts on it.
                writer.on_log("cut", |log| log.set_len(length))?;
            }
            written
        })?;
        self.space.spend(bytes.len() as u64);
        Ok(())
    }

    /// Tries again for as long as there is no room: unlike a flush that failed, a write that found none
    /// has lost nothing, and whoever waits for it gives up by itself. Where it may, it takes the reserve
    /// first; then nothing more is taken in until that is there again.
    fn with_room(
        &mut self,
        from_reserve: bool,
        mut work: impl FnMut(&mut Self) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut waited = false;
        loop {
            match work(self) {
                Err(DiskError::Full { path }) => {
                    if !waited {
                        tracing::error!("no room for {}: waits for some", path.display());
                    }
                    waited = true;
                    self.space.set_full(true);
                    if from_reserve && self.directory.give_up_reserve()? {
                        self.space.set_reserve_taken(true);
                    } else {
                        std::thread::sleep(ROOM_RETRY);
                    }
                }
                done => {
                    if waited && done.is_ok() {
                        tracing::info!("there was room for it");
                        self.space.set_full(false);
                    }
                    return done;
                }
            }
        }
    }

    fn write_mark(&mut self, mark: &[u8], flush: bool) -> Result<(), DiskError> {
        let path = self.directory.path().join(MARK);
        let written = self.mark.write_all_at(mark, 0);
        written.map_err(DiskError::at("write", &path))?;
        if flush {
            let since = Instant::now();
            let flushed = self.mark.sync_data();
            flushed.map_err(DiskError::at("flush", &path))?;
            self.metrics.flushed(since.elapsed());
            self.fsyncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush_log(&mut self) -> Result<(), DiskError> {
        let since = Instant::now();
        self.on_log("flush", |log| log.sync_data())?;
        self.metrics.flushed(since.elapsed());
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_log(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<(), DiskError> {
        let path = self.directory.path().join(super::LOGS);
        work(&mut self.log).map_err(DiskError::at(action, &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RESERVE;
    use crate::space::Room;

    fn writer(path: &std::path::Path) -> Writer {
        let directory = Directory::open(path).unwrap();
        assert!(directory.keep_reserve().unwrap());
        Writer {
            log: directory.open_log().unwrap(),
            mark: directory.open_mark().unwrap(),
            snapshots: SnapshotFiles::open(&directory).unwrap(),
            directory,
            space: Arc::default(),
            metrics: Arc::default(),
            fsyncs: Arc::default(),
        }
    }

    /// A write for which there is no room so many times.
    fn finds_no_room(times: usize) -> impl FnMut(&mut Writer) -> Result<(), DiskError> {
        let mut left = times;
        move |writer| {
            let full = left > 0;
            left = left.saturating_sub(1);
            let path = writer.directory.path().to_owned();
            match full {
                true => Err(DiskError::Full { path }),
                false => Ok(()),
            }
        }
    }

    // What is kept for term and vote is not given to long appends, and once it is taken nothing more
    // is taken in until it is there again.
    #[test]
    fn the_reserve_is_for_what_is_small() {
        let place = tempfile::tempdir().unwrap();
        let reserve = place.path().join(RESERVE);
        let mut writer = writer(place.path());
        writer.with_room(false, finds_no_room(2)).unwrap();
        assert!(reserve.exists(), "it waited without");
        assert_eq!(writer.space.room(), Room::Enough);
        writer.with_room(true, finds_no_room(1)).unwrap();
        assert!(!reserve.exists());
        assert!(!writer.space.is_full(), "nothing waits");
        assert_eq!(writer.space.room(), Room::Critical);
        writer.take_back_reserve();
        assert!(reserve.exists());
        assert_eq!(writer.space.room(), Room::Enough);
    }
}
