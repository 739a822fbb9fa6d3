//! `lease.txt`: the longest lease that this node may have promised in its present run or in one
//! that a crash ended.
//!
//! After a crash nobody knows what was promised, so a full lease is waited for. Which one: a node
//! that comes back with a shorter lease than before still owes the longer one. The record is raised
//! before the first promise, and lowered only when the longer ones are over.

use super::LEASE;
use super::directory::{DiskError, read, replace};
use crate::wal::{decode_lease, encode_lease};
use std::path::PathBuf;

/// The file, in the directory of a node that is locked for this process.
#[derive(Clone, Debug)]
pub struct LeaseRecord {
    directory: PathBuf,
}

impl LeaseRecord {
    pub(super) fn new(directory: PathBuf) -> Self {
        LeaseRecord { directory }
    }

    /// What it says, in microseconds; nothing where it is missing or damaged.
    pub(super) fn read(&self) -> Result<Option<u64>, DiskError> {
        let text = read(&self.directory, LEASE)?;
        Ok(text.as_deref().and_then(decode_lease))
    }

    /// Replaces it by this many microseconds, durably, where it says something else.
    pub fn write(&self, lease_us: u64) -> Result<(), DiskError> {
        if self.read()? == Some(lease_us) {
            return Ok(());
        }
        replace(&self.directory, LEASE, &encode_lease(lease_us))
    }
}
