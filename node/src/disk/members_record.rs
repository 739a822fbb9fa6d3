//! `members.txt`: which directories the other nodes have had (see `peers::successors`).

use super::MEMBERS;
use super::directory::{DiskError, read, replace};
use std::path::PathBuf;

/// The file, in the directory of a node that is locked for this process.
#[derive(Clone, Debug)]
pub struct MembersRecord {
    directory: PathBuf,
}

impl MembersRecord {
    pub(super) fn new(directory: PathBuf) -> Self {
        MembersRecord { directory }
    }

    /// What it says; nothing where it is missing.
    pub fn read(&self) -> Result<String, DiskError> {
        let text = read(&self.directory, MEMBERS)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Replaces it, durably.
    pub fn write(&self, text: &str) -> Result<(), DiskError> {
        replace(&self.directory, MEMBERS, text.as_bytes())
    }
}
