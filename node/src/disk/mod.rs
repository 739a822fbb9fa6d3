//! The node's directory: the only module that opens files.
//!
//! ```text
//! logs_node_<id>/
//!   lock              names the process that has the directory, and its run (see `lock`)
//!   logs.txt          the log (see `wal`)
//!   snapshot.txt      the state up to the entry with which logs.txt begins, once it was cut
//!   snapshot.new.txt, logs.new.txt   the next ones, while they are written (see `snapshot`)
//!   metadata.txt      term, vote, how far the log is committed; replaced atomically
//!   mark.txt          what was committed and durable for certain; an idle leader's flushes go here
//!   lease.txt         the longest lease that forgotten promises may have had
//!   members.txt       which directories the other nodes have had, one after the other
//!   promises.txt      only while the node is stopped in good order: the promises it has to keep
//!   damaged.txt       only while a log that was found damaged has not been refilled
//!   accept-damage     made by an operator: at the next start what damage cost counts as given up
//!   refused.txt       only after this node refused a leader that lacks what is committed here
//!   other-state.txt   only after a run learnt that a majority has another state than this node
//!   logs.damaged.txt  the log as it was when it was last found damaged, or given up in part
//!   snapshot.damaged.txt   the snapshot that was found damaged with it
//!   reserve           room that is given up where the disk has none, so that term and vote can be
//!                     written
//!   dump.txt          what happened; rotated to dump.1.txt, dump.2.txt
//! ```
//!
//! [`Directory`] is what a start needs: create, lock, probe, recover. [`DiskThread`] carries out
//! what the running node wants written. What a flush failed to write can't be trusted, so a node
//! whose disk fails stops; it never tries again (the kernel may have dropped the pages). A write that
//! found no room is another thing: nothing is lost, and it is tried until there is some.

mod ahead;
mod directory;
mod lease_record;
mod lock;
mod members_record;
pub mod offline;
mod rotating;
mod snapshot;
mod thread;

pub use directory::{Directory, DiskError};
pub use lease_record::LeaseRecord;
pub use lock::Watched;
pub use members_record::MembersRecord;
pub use rotating::RotatingFile;
pub use thread::{DISK_QUEUE_MAX, DiskReport, DiskThread, NotTaken};

/// What a backup is read from: a file, or with `-` standard input.
pub fn open_source(file: &std::path::Path) -> std::io::Result<Box<dyn std::io::Read>> {
    match file.as_os_str() == "-" {
        true => Ok(Box::new(std::io::stdin().lock())),
        false => Ok(Box::new(std::fs::File::open(file)?)),
    }
}

const LOCK: &str = "lock";
const LOGS: &str = "logs.txt";
const LOGS_DAMAGED: &str = "logs.damaged.txt";
const PROMISES: &str = "promises.txt";
const LEASE: &str = "lease.txt";
const MEMBERS: &str = "members.txt";
const METADATA: &str = "metadata.txt";
/// See [`Directory::recover`].
pub const ACCEPT_DAMAGE: &str = "accept-damage";
const DAMAGED: &str = "damaged.txt";
const MARK: &str = "mark.txt";
const SNAPSHOT: &str = "snapshot.txt";
const SNAPSHOT_NEW: &str = "snapshot.new.txt";
const SNAPSHOT_DAMAGED: &str = "snapshot.damaged.txt";
const LOGS_NEW: &str = "logs.new.txt";
const REFUSED: &str = "refused.txt";
const OTHER_STATE: &str = "other-state.txt";
const PROBE: &str = "probe.tmp";
const RESERVE: &str = "reserve";

#[cfg(test)]
mod tests;
