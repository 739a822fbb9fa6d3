//! What happened, as lines of `dump.txt` and on standard output.
//!
//! A line is a timestamp (RFC 3339, UTC, microseconds), a sentence, and after a tab fields that a
//! program can read: `term=3 index=17`. Standard output gets the sentence alone.
//!
//! Telling never slows the node down: [`Dump::tell`] puts the happening into a bounded queue, a
//! thread of its own renders and writes. Kinds that come with each request are written one by one
//! up to a rate; beyond it each kind is folded into one line for a while, which gives its range.
//! Whatever the queue can't take is counted, and the count is told.
//!
//! `dump.txt` is never flushed: it tells, nothing depends on it. A line reaches the kernel a few
//! milliseconds after it was told, a folded one after its quarter of a second; so that much is
//! what a killed process loses of it.

mod happening;
mod journal;
mod queue;
mod writer;

pub use happening::{Asked, Happening};
pub use writer::DumpThread;

use crate::disk::{Directory, DiskError};
use crate::raft::NodeId;
use queue::Queue;
use std::sync::Arc;
use std::time::SystemTime;

/// Where happenings are told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dump {
    queue: Arc<Queue>,
}

impl Dump {
    /// Opens `dump.txt` in the node's directory and starts the thread that writes it. Without
    /// `quiet`, standard output gets the sentences too.
    pub fn start(
        id: NodeId,
        directory: &Directory,
        quiet: bool,
    ) -> Result<(Self, DumpThread), DiskError> {
        let queue = Arc::new(Queue::default());
        let thread = DumpThread::start(id, directory, quiet, Arc::clone(&queue))?;
        Ok((Dump { queue }, thread))
    }

    /// For a process that has no `dump.txt`: what it tells is lost.
    pub fn to_nobody() -> Self {
        Dump {
            queue: Arc::default(),
        }
    }

    /// Tells one happening. Never waits.
    pub fn tell(&self, happening: Happening) {
        self.tell_all([happening]);
    }

    /// Tells happenings of the same moment, in order. Never waits.
    pub fn tell_all(&self, happenings: impl IntoIterator<Item = Happening>) {
        let mut happenings = happenings.into_iter().peekable();
        if happenings.peek().is_some() {
            self.queue.push_all(SystemTime::now(), happenings);
        }
    }
}
