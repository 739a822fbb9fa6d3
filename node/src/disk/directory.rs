//! Opening a node's directory: create, lock, probe, recover.

use super::{
    ACCEPT_DAMAGE, DAMAGED, LOCK, LOGS, LOGS_DAMAGED, LeaseRecord, METADATA, PROBE, PROMISES,
};
use crate::wal::{DamageMark, Files, Metadata, RecoverError, Recovery, recover};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Written and flushed before the node starts: room that it will need soon.
const PROBE_BYTES: usize = 256 * 1024;

/// Why a directory can't be used. Nothing was changed in its files, unless the disk itself fails.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another process has it.
    #[error(
        "{} is in use by {holder}: stop that process, or start this node with a directory of its \
         own",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who, as far as the lock file says.
        holder: String,
    },
    /// No room.
    #[error("no space left on the disk of {}: free some, then start again", path.display())]
    Full {
        /// What was to be written.
        path: PathBuf,
    },
    /// The files do not fit together.
    #[error("{}: {error}", path.display())]
    Recover {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: RecoverError,
    },
    /// Anything else.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What came of it.
        error: io::Error,
    },
}

impl DiskError {
    /// For `map_err`: names what was tried on which path.
    pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::Full { path },
            _ => DiskError::Io {
                action,
                path,
                error,
            },
        }
    }
}

/// A node's directory, locked for this process until the value is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Keeps the lock.
    _lock: File,
}

impl Directory {
    /// Creates the directory where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        if !path.is_dir() {
            std::fs::create_dir_all(path).map_err(DiskError::at("create", path))?;
            if let Some(parent) = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            {
                sync_directory(parent)?;
            }
        }
        let lock = lock(path)?;
        Ok(Directory {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes and flushes a little, so that a full or read-only disk is found before the node
    /// takes part in anything.
    pub fn probe(&self) -> Result<(), DiskError> {
        let path = self.path.join(PROBE);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&vec![b'.'; PROBE_BYTES])?;
            file.sync_all()
        };
        let written = write().map_err(DiskError::at("write", &path));
        let removed = std::fs::remove_file(&path).map_err(DiskError::at("remove", &path));
        written.and(removed)
    }

    /// Makes sense of the files and brings them into the state that the recovery describes:
    /// present, without a torn tail, damage marked, or given up where an operator said so with a file
    /// [`ACCEPT_DAMAGE`]. Durable when it returns.
    pub fn recover(&self) -> Result<Recovery, DiskError> {
        let logs = self.read(LOGS)?;
        let metadata = self.read(METADATA)?;
        let damaged = self.read(DAMAGED)?;
        let files = Files {
            logs: logs.as_deref(),
            metadata: metadata.as_deref(),
            damaged: damaged.as_deref(),
        };
        let mut recovery = recover(files).map_err(|error| DiskError::Recover {
            path: self.path.clone(),
            error,
        })?;
        let recovered = &mut recovery.recovered;
        if let Some(lease_us) = self.lease_record().read()? {
            recovered.former_lease_us = recovered.former_lease_us.min(lease_us);
        }
        if metadata.is_none() {
            // Before logs.txt, so that a log without metadata is never the work of a crash.
            self.replace(METADATA, &Metadata::default().encode())?;
        }
        if recovery.damage.is_some() {
            self.replace(LOGS_DAMAGED, logs.as_deref().unwrap_or_default())?;
        }
        match &recovery.damage_mark {
            DamageMark::Keep => {}
            DamageMark::Write(mark) => self.replace(DAMAGED, mark)?,
            DamageMark::Remove => self.remove(DAMAGED)?,
        }
        self.cut_log(recovery.log_bytes)?;
        if self.read(ACCEPT_DAMAGE)?.is_some() {
            self.accept_damage(&mut recovery)?;
        }
        Ok(recovery)
    }

    /// An operator has given up what damage cost: the node votes again with what is left. Only then
    /// can a cluster go on of which too many logs were damaged to refill each other.
    fn accept_damage(&self, recovery: &mut Recovery) -> Result<(), DiskError> {
        let recovered = &mut recovery.recovered;
        if recovered.damaged_until > 0 {
            let metadata = Metadata {
                hard_state: recovered.hard_state,
                commit_index: recovered.commit_index,
                applied_index: recovered.commit_index,
            };
            // Otherwise the commit on record would call the log damaged again.
            self.replace(METADATA, &metadata.encode())?;
            if self.read(DAMAGED)?.is_some() {
                self.remove(DAMAGED)?;
            }
            recovery.accepted_until = std::mem::take(&mut recovered.damaged_until);
        }
        self.remove(ACCEPT_DAMAGE)
    }

    /// The longest lease that may have been promised, written down.
    pub fn lease_record(&self) -> LeaseRecord {
        LeaseRecord::new(self.path.clone())
    }

    /// Writes down what a node that stops in good order has promised.
    pub fn keep_promises(&self, text: &[u8]) -> Result<(), DiskError> {
        self.replace(PROMISES, text)
    }

    /// Takes what the former run wrote down. The file is gone for good before the node promises
    /// anything new: after a crash nobody may take it for the truth.
    pub fn take_promises(&self) -> Result<Option<Vec<u8>>, DiskError> {
        let text = self.read(PROMISES)?;
        if text.is_some() {
            self.remove(PROMISES)?;
        }
        Ok(text)
    }

    /// `logs.txt`, created where it is missing, to write behind its end.
    pub(super) fn open_log(&self) -> Result<File, DiskError> {
        let path = self.path.join(LOGS);
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        options.open(&path).map_err(DiskError::at("open", &path))
    }

    /// Replaces a file by these bytes, atomically and durably.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        replace(&self.path, name, bytes)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        std::fs::remove_file(&path).map_err(DiskError::at("remove", &path))?;
        sync_directory(&self.path)
    }

    fn cut_log(&self, bytes: u64) -> Result<(), DiskError> {
        let path = self.path.join(LOGS);
        let file = self.open_log()?;
        let cut = || {
            if file.metadata()?.len() != bytes {
                file.set_len(bytes)?;
            }
            file.sync_all()
        };
        cut().map_err(DiskError::at("cut", &path))?;
        sync_directory(&self.path)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        read(&self.path, name)
    }
}

/// Replaces a file of a directory by these bytes, atomically and durably.
pub(super) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.tmp"));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(DiskError::at("write", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(DiskError::at("replace", &path))?;
    sync_directory(directory)
}

/// The bytes of a file of a directory, if there is one.
pub(super) fn read(directory: &Path, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
    let path = directory.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::at("read", &path)(error)),
    }
}

fn lock(directory: &Path) -> Result<File, DiskError> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(DiskError::at("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: an unreadable one is as good as an empty one.
            let read = file.read_to_string(&mut holder).is_ok();
            let pid = Some(holder.trim()).filter(|pid| read && !pid.is_empty());
            return Err(DiskError::Locked {
                path: directory.to_owned(),
                holder: pid.map_or("another process".into(), |pid| format!("process {pid}")),
            });
        }
        Err(TryLockError::Error(error)) => return Err(DiskError::at("lock", &path)(error)),
    }
    let mut sign = || {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    sign().map_err(DiskError::at("write", &path))?;
    Ok(file)
}

fn sync_directory(path: &Path) -> Result<(), DiskError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(DiskError::at("flush", path))
}
