//! The lock of a node's directory, and what it proves.
//!
//! It is held, by `flock` on the file `lock`, to the end of the process that has it: no sooner does the
//! kernel let go of it than that process can do nothing any more. The file says which run that is (see
//! [`LockRecord`]). So whoever gets the lock of the same file knows that this run has ended.

use super::LOCK;
use super::directory::DiskError;
use crate::raft::Incarnation;
use crate::wal::LockRecord;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The witness of the former run's end has the lock for a moment: so long it is tried.
const PATIENCE: Duration = Duration::from_millis(250);
const RETRY: Duration = Duration::from_millis(5);

/// The lock of a directory. Whoever drops it must not be heard any more: see [`Lock::keep`].
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// What it says of this run, and of those before it.
    pub(super) record: LockRecord,
    /// The run that had it before. 0: not known.
    pub(super) former_run: Incarnation,
    /// Its process has ended for certain.
    pub(super) former_run_ended: bool,
    /// So have those of all runs before it.
    pub(super) all_ended: bool,
}

impl Lock {
    /// Locks a directory for this process, and signs the lock with a new name, durably. Where the directory
    /// is a copy, or its disk comes from another machine, the process that had it before may live on.
    pub(super) fn take(directory: &Path) -> Result<Self, DiskError> {
        let path = directory.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(DiskError::at("open", &path))?;
        let locked = try_for_a_moment(&file);
        let former = read(&mut file);
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = Some(former.holder).filter(|pid| !pid.is_empty());
                return Err(DiskError::Locked {
                    path: directory.to_owned(),
                    holder: pid.map_or("another process".into(), |pid| format!("process {pid}")),
                });
            }
            Err(TryLockError::Error(error)) => return Err(DiskError::at("lock", &path)(error)),
        }
        let place = place_of(&file);
        let former_run_ended = former.proves_end(place.as_deref());
        let all_ended = former.proves_all_ends(place.as_deref());
        let incarnation = rand::random_range(1..=Incarnation::MAX);
        let mut record = former.next(std::process::id().to_string(), place, incarnation);
        let mut sign = || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&record.encode())?;
            // Whoever finds the disk elsewhere must not find an older place there.
            file.sync_data()
        };
        match sign() {
            Ok(()) => {}
            // The lock holds without a name in it, and the run goes on without one.
            Err(error) if is_full(&error) => record.incarnation = 0,
            Err(error) => return Err(DiskError::at("write", &path)(error)),
        }
        if record.place.is_none() {
            record.incarnation = 0;
        }
        Ok(Lock {
            file,
            record,
            former_run: former.incarnation,
            former_run_ended,
            all_ended,
        })
    }

    /// From now on the lock is held to the end of the process, whatever becomes of this value: a run that
    /// serves reads must not be taken for dead before it can't answer any more.
    pub(super) fn keep(&self) -> Result<(), std::io::Error> {
        std::mem::forget(self.file.try_clone()?);
        Ok(())
    }
}

fn is_full(error: &std::io::Error) -> bool {
    let kinds = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
    kinds.contains(&error.kind())
}

fn try_for_a_moment(file: &File) -> Result<(), TryLockError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(RETRY);
            }
            done => return done,
        }
    }
}

/// An unreadable one is as good as an empty one: it names nobody.
fn read(file: &mut File) -> LockRecord {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => LockRecord::decode(&text),
        Err(_) => LockRecord::default(),
    }
}

/// Names a file, and the run of the kernel in which its lock counts. `None`: that can't be known, or the
/// lock is not the kernel's own: where another machine keeps it, it may be lost while its holder lives.
fn place_of(file: &File) -> Option<String> {
    if !is_local(file) {
        return None;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let metadata = file.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    Some(format!(
        "boot={} device={device} inode={inode}",
        boot.trim()
    ))
}

/// Whether the file lies in a file system whose locks this kernel keeps by itself. Named are those that
/// are known to: ext2 to ext4, XFS, Btrfs, tmpfs, ramfs, overlayfs, ZFS, F2FS, bcachefs, JFS.
#[cfg(target_os = "linux")]
fn is_local(file: &File) -> bool {
    const LOCAL: &[i128] = &[
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x8584_58f6,
        0x794c_7630,
        0x2fc1_2fc1,
        0xf2f5_2010,
        0xca45_1a4e,
        0x3153_464a,
    ];
    // As wide as any machine has it.
    let found = rustix::fs::fstatfs(file).map(|found| i128::from(found.f_type));
    found.is_ok_and(|kind| LOCAL.contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn is_local(_: &File) -> bool {
    false
}

/// The lock of a run that lives, as somebody else watches it.
#[derive(Debug)]
pub struct Watched {
    file: File,
    run: Incarnation,
}

impl Watched {
    /// Opens the lock that this run has.
    pub fn open(directory: &Path, run: Incarnation) -> std::io::Result<Self> {
        let file = File::open(directory.join(LOCK))?;
        Ok(Watched { file, run })
    }

    /// Whether the run has ended, for certain: its lock is free, and its file, which was open all the while,
    /// still names it and the place where it is. The lock is taken for that moment alone. Waits for so
    /// long at most.
    pub fn has_ended(mut self, patience: Duration) -> std::io::Result<bool> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        loop {
            match self.file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error),
                // The next run may have it, which tells the others itself.
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
                Err(TryLockError::WouldBlock) => {}
            }
            if self.names_another()? {
                return Ok(false);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        let record = self.record()?;
        let is_it = record.incarnation == self.run;
        Ok(is_it && record.proves_end(place_of(&self.file).as_deref()))
    }

    fn record(&mut self) -> std::io::Result<LockRecord> {
        self.file.rewind()?;
        Ok(read(&mut self.file))
    }

    /// A record that is written just now names nobody.
    fn names_another(&mut self) -> std::io::Result<bool> {
        let named = self.record()?.incarnation;
        Ok(named != 0 && named != self.run)
    }
}
