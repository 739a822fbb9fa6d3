//! The thread that writes: in order, with one flush for all that waits.

use super::{Directory, DiskError, METADATA};
use crate::engine::DiskWork;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Most works that wait for the disk. A node that has as many takes in nothing new, and loses
/// its lease when the disk does not come back in time.
pub const DISK_QUEUE_MAX: usize = 1024;

/// How long the end of the node waits for a disk that does not answer.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Most works that share one flush: so that the first of them does not wait for ever.
const BATCH_MAX: usize = 256;

/// What the disk thread has to say.
#[derive(Debug)]
pub enum DiskReport {
    /// All works up to this ticket are durable.
    Durable(u64),
    /// The disk failed, and the thread has ended: the node must stop.
    Failed(DiskError),
}

/// The running disk thread.
#[derive(Debug)]
pub struct DiskThread {
    works: Option<SyncSender<DiskWork>>,
    /// Gets the directory back when the thread ends, unless the disk failed.
    ended: Receiver<Option<Directory>>,
    fsyncs: Arc<AtomicU64>,
}

impl DiskThread {
    /// Starts the thread. It calls `report` after each flush.
    pub fn start(
        directory: Directory,
        report: impl FnMut(DiskReport) + Send + 'static,
    ) -> Result<Self, DiskError> {
        let (works, queue) = sync_channel(DISK_QUEUE_MAX);
        let fsyncs = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            log: directory.open_log()?,
            directory,
            fsyncs: Arc::clone(&fsyncs),
        };
        let path = writer.directory.path().to_owned();
        let (end, ended) = sync_channel(1);
        std::thread::Builder::new()
            .name("disk".into())
            // Nobody may wait for the end any more.
            .spawn(move || drop(end.send(writer.run(&queue, report))))
            .map_err(DiskError::at("start a thread for", &path))?;
        Ok(DiskThread {
            works: Some(works),
            ended,
            fsyncs,
        })
    }

    /// Hands over a work, or hands it back when the queue is full or the thread has ended.
    pub fn submit(&self, work: DiskWork) -> Result<(), DiskWork> {
        match &self.works {
            Some(works) => works.try_send(work).map_err(|error| match error {
                TrySendError::Full(work) | TrySendError::Disconnected(work) => work,
            }),
            None => Err(work),
        }
    }

    /// Waits until all that was handed over is on disk, and gives the directory back; `None` when
    /// the disk failed, or does not answer for some seconds.
    pub fn finish(mut self) -> Option<Directory> {
        self.works = None;
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
            drop(self.ended.recv_timeout(FINISH_TIMEOUT));
        }
    }
}

struct Writer {
    directory: Directory,
    log: File,
    fsyncs: Arc<AtomicU64>,
}

impl Writer {
    /// Until nobody can hand over works any more. Returns the directory, unless the disk failed.
    fn run(
        mut self,
        queue: &Receiver<DiskWork>,
        mut report: impl FnMut(DiskReport),
    ) -> Option<Directory> {
        while let Ok(first) = queue.recv() {
            let waiting = queue.try_iter().take(BATCH_MAX - 1);
            let batch: Vec<DiskWork> = std::iter::once(first).chain(waiting).collect();
            match self.carry_out(&batch) {
                Ok(ticket) => report(DiskReport::Durable(ticket)),
                Err(error) => {
                    report(DiskReport::Failed(error));
                    return None;
                }
            }
        }
        Some(self.directory)
    }

    /// Carries out a batch; returns the highest ticket, which is then durable.
    fn carry_out(&mut self, batch: &[DiskWork]) -> Result<u64, DiskError> {
        let mut unflushed = false;
        for work in batch {
            if let Some(length) = work.truncate_to {
                self.on_log("cut", |log| log.set_len(length))?;
                // At once: a crash could otherwise leave new lines before the end of old ones.
                self.flush_log()?;
            }
            if !work.append.is_empty() {
                self.on_log("write", |log| log.write_all(&work.append))?;
                unflushed = true;
            }
        }
        if unflushed {
            self.flush_log()?;
        }
        // After the log: it must hold what metadata.txt says is committed. Each replaces the one
        // before, so only the last is written.
        let metadata = batch.iter().rev().find_map(|work| work.metadata.as_deref());
        if let Some(metadata) = metadata {
            self.directory.replace(METADATA, metadata)?;
            // The file and its directory.
            self.fsyncs.fetch_add(2, Ordering::Relaxed);
        }
        Ok(batch.last().map_or(0, |work| work.ticket))
    }

    fn flush_log(&mut self) -> Result<(), DiskError> {
        self.on_log("flush", |log| log.sync_data())?;
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
