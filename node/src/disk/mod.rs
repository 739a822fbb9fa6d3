//! The node's directory: the only module that opens files.
//!
//! ```text
//! logs_node_<id>/
//!   lock              names the process that has the directory
//!   logs.txt          the log (see `wal`)
//!   metadata.txt      term, vote, how far the log is committed; replaced atomically
//!   lease.txt         the longest lease that forgotten promises may have had
//!   promises.txt      only while the node is stopped in good order: the promises it has to keep
//!   damaged.txt       only while a log that was found damaged has not been refilled
//!   accept-damage     made by an operator: at the next start what damage cost counts as given up
//!   logs.damaged.txt  the log as it was when it was last found damaged
//!   dump.txt          what happened; rotated to dump.1.txt, dump.2.txt
//! ```
//!
//! [`Directory`] is what a start needs: create, lock, probe, recover. [`DiskThread`] carries out
//! what the running node wants written. What a flush failed to write can't be trusted, so a node
//! whose disk fails stops; it never tries again (the kernel may have dropped the pages).

mod directory;
mod lease_record;
mod rotating;
mod thread;

pub use directory::{Directory, DiskError};
pub use lease_record::LeaseRecord;
pub use rotating::RotatingFile;
pub use thread::{DISK_QUEUE_MAX, DiskReport, DiskThread};

const LOCK: &str = "lock";
const LOGS: &str = "logs.txt";
const LOGS_DAMAGED: &str = "logs.damaged.txt";
const PROMISES: &str = "promises.txt";
const LEASE: &str = "lease.txt";
const METADATA: &str = "metadata.txt";
/// See [`Directory::recover`].
pub const ACCEPT_DAMAGE: &str = "accept-damage";
const DAMAGED: &str = "damaged.txt";
const PROBE: &str = "probe.tmp";

#[cfg(test)]
mod tests;
