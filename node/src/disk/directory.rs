//! Opening a node's directory: create, lock, probe, recover.

use super::lock::Lock;
use super::{
    ACCEPT_DAMAGE, DAMAGED, LOCK, LOGS, LOGS_DAMAGED, LeaseRecord, MARK, METADATA, MembersRecord,
    OTHER_STATE, PROBE, PROMISES, REFUSED, RESERVE,
};
use crate::command::FORMAT_NEWEST;
use crate::raft::{Index, ReadsSince};
use crate::wal::{
    DamageMark, Files, LostNote, Mend, Metadata, RecoverError, Recovery, RefusedLeader,
    recover_behind,
};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Written and flushed before the node starts: room that it will need soon.
const PROBE_BYTES: usize = 256 * 1024;
/// Room for term and vote, many times.
const RESERVE_BYTES: usize = 64 * 1024;

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
    /// The files are of another cluster than the node was started for.
    #[error(
        "{} is of the cluster with the id {held:032x}, and this node was started for {given:032x}: \
         give it a directory of its own, or no --cluster-id if this is the right directory",
        path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// What metadata.txt says.
        held: u128,
        /// What the node was told.
        given: u128,
    },
    /// A former run has learnt that its state is not what a majority has.
    #[error(
        "{}: an earlier run ended because of its state ({why}): move snapshot.txt and other-state.txt \
         away, and start this node; the leader sends it the state again",
        path.display()
    )]
    OtherState {
        /// The directory.
        path: PathBuf,
        /// What it wrote down.
        why: String,
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
    pub(super) lock: Lock,
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
        Ok(Directory {
            path: path.to_owned(),
            lock: Lock::take(path)?,
        })
    }

    /// From now on it stays locked to the end of the process: the lock is the proof that the process has
    /// ended.
    pub fn keep_locked(&self) -> Result<(), DiskError> {
        let path = self.path.join(LOCK);
        self.lock.keep().map_err(DiskError::at("lock", &path))
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

    /// Whether a former run has left a log: its disk may be full, and it is needed all the same.
    pub fn has_log(&self) -> bool {
        self.path.join(LOGS).exists() && self.path.join(METADATA).exists()
    }

    /// Keeps some room for what a node must be able to write on a full disk, too. Returns whether
    /// there is so much.
    pub fn keep_reserve(&self) -> Result<bool, DiskError> {
        let path = self.path.join(RESERVE);
        let written = std::fs::write(&path, vec![b'.'; RESERVE_BYTES]);
        match written.map_err(DiskError::at("write", &path)) {
            Err(DiskError::Full { .. }) => {
                // What was written of it is room that somebody needs now.
                self.give_up_reserve()?;
                Ok(false)
            }
            written => written.map(|()| true),
        }
    }

    /// Gives that room up; returns whether there was any.
    pub fn give_up_reserve(&self) -> Result<bool, DiskError> {
        let path = self.path.join(RESERVE);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(DiskError::at("remove", &path)(error)),
        }
    }

    /// Makes sense of the files and brings them into the state that the recovery describes:
    /// present, without a torn tail, damage marked, or given up where an operator said so with a file
    /// [`ACCEPT_DAMAGE`]. Durable when it returns.
    pub fn recover(&self) -> Result<Recovery, DiskError> {
        self.refuse_other_state()?;
        let logs = self.read(LOGS)?;
        let metadata = self.read(METADATA)?;
        let damaged = self.read(DAMAGED)?;
        let mark = self.read(MARK)?;
        let files = Files {
            logs: logs.as_deref(),
            metadata: metadata.as_deref(),
            damaged: damaged.as_deref(),
            mark: mark.as_deref(),
        };
        let snapshot = self.named_snapshot(logs.as_deref().unwrap_or_default())?;
        let mut recovery = recover_behind(snapshot, files).map_err(|error| DiskError::Recover {
            path: self.path.clone(),
            error,
        })?;
        let recovered = &mut recovery.recovered;
        recovered.former_run_ended = self.lock.former_run_ended;
        recovered.all_ended = self.lock.all_ended;
        recovered.former_run = self.lock.former_run;
        recovered.incarnation = self.lock.record.incarnation;
        recovered.ended.clone_from(&self.lock.record.ended);
        match self.lease_record().read()? {
            Some(lease_us) => {
                recovered.former_lease_us = recovered.former_lease_us.min(lease_us);
            }
            None if recovered.never_ran => {}
            None => recovery.lost_notes.push(LostNote::Lease),
        }
        if metadata.is_none() {
            // Before logs.txt, so that a log without metadata is never the work of a crash.
            self.replace(METADATA, &Metadata::default().encode())?;
        }
        if let Some(damage) = &recovery.damage {
            self.replace(LOGS_DAMAGED, logs.as_deref().unwrap_or_default())?;
            if damage.snapshot.is_some() {
                self.set_snapshot_aside()?;
            }
        }
        self.remove_unnamed()?;
        match &recovery.damage_mark {
            DamageMark::Keep => {}
            DamageMark::Write(mark) => self.replace(DAMAGED, mark)?,
            DamageMark::Remove => self.remove(DAMAGED)?,
        }
        self.cut_log(recovery.log_bytes, &recovery.mends)?;
        let keep = self.refused_after(&mut recovery)?;
        if self.read(ACCEPT_DAMAGE)?.is_some() {
            self.accept_damage(&mut recovery, keep, logs.as_deref().unwrap_or_default())?;
        }
        Ok(recovery)
    }

    /// Settles what tells this cluster and this directory from others. A directory without an id gets
    /// one; the cluster's is taken over where the operator names it and none is there. Notes since when
    /// the newest format is read here. Durable when it returns.
    pub fn settle(&self, recovery: &mut Recovery, cluster: u128) -> Result<(), DiskError> {
        let last_index = recovery.recovered.last_index();
        let before = (recovery.recovered.ids, recovery.recovered.reads);
        let (ids, reads) = (&mut recovery.recovered.ids, &mut recovery.recovered.reads);
        if reads.format != FORMAT_NEWEST {
            *reads = ReadsSince {
                format: FORMAT_NEWEST,
                index: last_index,
            };
        }
        if ids.cluster == 0 {
            ids.cluster = cluster;
        } else if cluster != 0 && cluster != ids.cluster {
            return Err(DiskError::OtherCluster {
                path: self.path.clone(),
                held: ids.cluster,
                given: cluster,
            });
        }
        while ids.directory == 0 {
            ids.directory = rand::random();
        }
        if (*ids, *reads) == before {
            return Ok(());
        }
        let text = self.read(METADATA)?.unwrap_or_default();
        let metadata = Metadata::decode(&text).map_err(|error| DiskError::Recover {
            path: self.path.clone(),
            error: RecoverError::MetadataDamaged(error),
        })?;
        let metadata = Metadata {
            ids: *ids,
            reads: *reads,
            ..metadata
        };
        self.replace(METADATA, &metadata.encode())
    }

    /// An operator has given up what damage cost: the node votes again with what is left. Only then
    /// can a cluster go on of which too many logs were damaged to refill each other. Where the node
    /// refused a leader that lacks what is committed here, that is given up.
    ///
    /// A crash in the middle of it changes nothing: the order lets the next start do it all again.
    fn accept_damage(
        &self,
        recovery: &mut Recovery,
        keep: Option<Index>,
        logs: &[u8],
    ) -> Result<(), DiskError> {
        if recovery.recovered.damaged_until > 0 || keep.is_some() {
            if keep.is_some() {
                self.replace(LOGS_DAMAGED, logs)?;
            }
            let metadata = recovery.accept(keep);
            self.replace(METADATA, &metadata.encode())?;
            // What the first two say would call the log damaged again.
            for name in [MARK, DAMAGED, REFUSED] {
                self.remove_if_there(name)?;
            }
        }
        self.remove(ACCEPT_DAMAGE)
    }

    /// How far the log equals that of the leader that this node refused at its last end. Where it has
    /// gone on since, the cause is gone, and the note with it.
    fn refused_after(&self, recovery: &mut Recovery) -> Result<Option<Index>, DiskError> {
        let Some(text) = self.read(REFUSED)? else {
            return Ok(None);
        };
        let refused = RefusedLeader::decode(&text);
        if refused.is_none() {
            recovery.lost_notes.push(LostNote::Refused);
        }
        let refused = refused.filter(|refused| refused.stands(&recovery.recovered));
        if refused.is_none() {
            self.remove(REFUSED)?;
        }
        Ok(refused.map(|refused| refused.keep))
    }

    /// Writes down that this node refused to follow a leader.
    pub fn note_refusal(&self, refused: RefusedLeader) -> Result<(), DiskError> {
        self.replace(REFUSED, &refused.encode())
    }

    /// Writes down that a majority has come to another state than this node: from now on it does not
    /// start with what is here.
    pub fn note_other_state(&self, why: &str) -> Result<(), DiskError> {
        self.replace(OTHER_STATE, format!("{why}\n").as_bytes())
    }

    /// Refuses a state of which a former run knew that a majority has another one.
    fn refuse_other_state(&self) -> Result<(), DiskError> {
        match self.read(OTHER_STATE)? {
            None => Ok(()),
            Some(why) => Err(DiskError::OtherState {
                path: self.path.clone(),
                why: String::from_utf8_lossy(&why).trim().to_owned(),
            }),
        }
    }

    /// The longest lease that may have been promised, written down.
    pub fn lease_record(&self) -> LeaseRecord {
        LeaseRecord::new(self.path.clone())
    }

    /// Which directories the other nodes have had, written down.
    pub fn members_record(&self) -> MembersRecord {
        MembersRecord::new(self.path.clone())
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

    /// `mark.txt`, created where it is missing, to be written over.
    pub(super) fn open_mark(&self) -> Result<File, DiskError> {
        let path = self.path.join(MARK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.open(&path).map_err(DiskError::at("open", &path))
    }

    /// Replaces a file by these bytes, atomically and durably.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        replace(&self.path, name, bytes)
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        std::fs::remove_file(&path).map_err(DiskError::at("remove", &path))?;
        sync_directory(&self.path)
    }

    fn remove_if_there(&self, name: &str) -> Result<(), DiskError> {
        match self.read(name)? {
            Some(_) => self.remove(name),
            None => Ok(()),
        }
    }

    fn cut_log(&self, bytes: u64, mends: &[Mend]) -> Result<(), DiskError> {
        let path = self.path.join(LOGS);
        drop(self.open_log()?);
        let file = OpenOptions::new().write(true).open(&path);
        let file = file.map_err(DiskError::at("open", &path))?;
        let cut = || {
            if file.metadata()?.len() != bytes {
                file.set_len(bytes)?;
            }
            for mend in mends {
                file.write_all_at(&mend.bytes, mend.offset)?;
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

pub(super) fn sync_directory(path: &Path) -> Result<(), DiskError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(DiskError::at("flush", path))
}
