//! The files of a snapshot, and the one moment at which a log that was cut takes the place of the
//! former one.
//!
//! 1. `snapshot.new.txt` is written piece by piece, while the node goes on, and flushed.
//! 2. `logs.new.txt`: a first line that names that snapshot, then the rest of `logs.txt`; flushed.
//! 3. `logs.new.txt` becomes `logs.txt`. **This rename is the switch**: which snapshot counts is what
//!    the first line of `logs.txt` says, and nothing else.
//! 4. `snapshot.new.txt` becomes `snapshot.txt`.
//!
//! The directory is flushed behind 1, 3 and 4, so none is seen without those before it. A crash before
//! 3 leaves the former log with its former snapshot, and new files that nobody names: the next start
//! removes them. A crash between 3 and 4 leaves a log whose snapshot still has its new name: the next
//! start gives it the right one.

use super::directory::sync_directory;
use super::{
    Directory, DiskError, DiskReport, LOGS, LOGS_NEW, SNAPSHOT, SNAPSHOT_DAMAGED, SNAPSHOT_NEW,
};
use crate::engine::SnapshotWrite;
use crate::raft::{ChunkWanted, SnapshotId};
use crate::wal::{LogBase, LogCut, Restored, SnapshotError, SnapshotReader, goes_on_from};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Read at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// The first line of a log that was cut is shorter.
const FIRST_LINE_BYTES_MAX: u64 = 512;

/// What became of reading a snapshot.
pub(super) type Found = Result<Restored, SnapshotError>;

impl Directory {
    /// The snapshot that the first line of the log names, or that the log goes on from where that line
    /// can't be read; a switch that a crash has interrupted is brought to its end. `None`: it names
    /// none, or there is no file.
    pub(super) fn named_snapshot(&self, logs: &[u8]) -> Result<Option<Found>, DiskError> {
        let base = LogBase::read(logs).map(|(base, _)| base);
        let is_named = |found: &Option<Found>| {
            let found = found.as_ref().and_then(|found| found.as_ref().ok());
            found.is_some_and(|found| match base {
                Some(base) => found.id == base.snapshot,
                None => goes_on_from(logs, found),
            })
        };
        let found = self.read_snapshot(SNAPSHOT)?;
        if is_named(&found) {
            return Ok(found);
        }
        let newer = self.read_snapshot(SNAPSHOT_NEW)?;
        if is_named(&newer) {
            self.rename(SNAPSHOT_NEW, SNAPSHOT)?;
            return Ok(newer);
        }
        Ok(found.filter(|_| base.is_some()))
    }

    /// Removes what was begun and is named by nobody.
    pub(super) fn remove_unnamed(&self) -> Result<(), DiskError> {
        for name in [SNAPSHOT_NEW, LOGS_NEW] {
            if self.path().join(name).exists() {
                self.remove(name)?;
            }
        }
        Ok(())
    }

    /// A snapshot that is of no use is kept for whoever wants to look at it.
    pub(super) fn set_snapshot_aside(&self) -> Result<(), DiskError> {
        match self.path().join(SNAPSHOT).exists() {
            true => self.rename(SNAPSHOT, SNAPSHOT_DAMAGED),
            false => Ok(()),
        }
    }

    /// The snapshot that the log on disk goes on from, by its first line.
    fn snapshot_in_place(&self) -> Result<Option<SnapshotId>, DiskError> {
        let path = self.path().join(LOGS);
        let mut line = Vec::new();
        let mut read = || {
            let file = File::open(&path)?;
            file.take(FIRST_LINE_BYTES_MAX).read_to_end(&mut line)
        };
        read().map_err(DiskError::at("read", &path))?;
        Ok(LogBase::read(&line).map(|(base, _)| base.snapshot))
    }

    fn read_snapshot(&self, name: &str) -> Result<Option<Found>, DiskError> {
        read_snapshot(self.path(), name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let path = self.path().join(from);
        let renamed = std::fs::rename(&path, self.path().join(to));
        renamed.map_err(DiskError::at("rename", &path))?;
        sync_directory(self.path())
    }
}

/// A snapshot of a directory, if there is one.
pub(super) fn read_snapshot(directory: &Path, name: &str) -> Result<Option<Found>, DiskError> {
    let path = directory.join(name);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(DiskError::at("open", &path))?,
    };
    let mut reader = SnapshotReader::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece);
        let count = count.map_err(DiskError::at("read", &path))?;
        if count == 0 {
            return Ok(Some(reader.finish()));
        }
        if let Err(error) = reader.feed(&piece[..count]) {
            return Ok(Some(Err(error)));
        }
    }
}

/// The snapshot that is in place, and the one that is being written.
#[derive(Debug)]
pub(super) struct SnapshotFiles {
    in_place: Option<(SnapshotId, File)>,
    /// `None`: none was begun, or it could not be kept.
    new: Option<File>,
}

impl SnapshotFiles {
    pub(super) fn open(directory: &Directory) -> Result<Self, DiskError> {
        let path = directory.path().join(SNAPSHOT);
        let open = |id| Ok((id, File::open(&path).map_err(DiskError::at("open", &path))?));
        let in_place = directory.snapshot_in_place()?.map(open).transpose()?;
        Ok(SnapshotFiles {
            in_place,
            new: None,
        })
    }

    /// Writes a piece behind those before it, and flushes it. False: there is no room, and what was
    /// written is gone; the following pieces are, too.
    pub(super) fn write(
        &mut self,
        directory: &Directory,
        write: &SnapshotWrite,
        has_room: bool,
    ) -> Result<bool, DiskError> {
        let path = directory.path().join(SNAPSHOT_NEW);
        if write.begins {
            let created = File::create(&path).map_err(DiskError::at("create", &path));
            self.new = unless_full(created)?;
        }
        let Some(file) = &mut self.new else {
            return Ok(false);
        };
        let written = file.write_all(&write.bytes).and_then(|()| file.sync_data());
        let written = unless_full(written.map_err(DiskError::at("write", &path)))?;
        if written.is_some() && has_room {
            return Ok(true);
        }
        self.new = None;
        directory.remove(SNAPSHOT_NEW)?;
        Ok(false)
    }

    /// Puts the snapshot that was written and the rest of the log in place of the log: the steps 1
    /// to 4 of the module. Returns the log, to write behind its end.
    pub(super) fn put_in_place(
        &mut self,
        directory: &Directory,
        cut: &LogCut,
    ) -> Result<File, DiskError> {
        let path = directory.path().join(SNAPSHOT_NEW);
        let length = std::fs::metadata(&path).map(|file| file.len());
        let length = length.map_err(DiskError::at("look at", &path))?;
        if length != cut.snapshot.bytes {
            let error = io::Error::other("it has another length than what was written");
            return Err(DiskError::at("put in place", &path)(error));
        }
        sync_directory(directory.path())?;
        let path = directory.path().join(LOGS_NEW);
        let write = || {
            let mut new = File::create(&path)?;
            new.write_all(&cut.first_line)?;
            if let Some(from) = cut.rest_from {
                let mut log = File::open(directory.path().join(LOGS))?;
                log.seek(SeekFrom::Start(from))?;
                io::copy(&mut log, &mut new)?;
            }
            new.sync_all()
        };
        write().map_err(DiskError::at("write", &path))?;
        let switched = self.switch(directory);
        // Never a second time: the log is another one by now. The next start brings it to its end.
        switched.map_err(|error| match error {
            DiskError::Full { path } => {
                let full = io::Error::other("no room in the middle of the switch");
                DiskError::at("put in place", &path)(full)
            }
            other => other,
        })
    }

    fn switch(&mut self, directory: &Directory) -> Result<File, DiskError> {
        directory.rename(LOGS_NEW, LOGS)?;
        directory.rename(SNAPSHOT_NEW, SNAPSHOT)?;
        *self = SnapshotFiles::open(directory)?;
        directory.open_log()
    }

    /// Reads a piece of the snapshot that is in place.
    pub(super) fn read(&self, directory: &Directory, wanted: ChunkWanted) -> DiskReport {
        let ChunkWanted {
            peer,
            snapshot,
            offset,
            bytes,
        } = wanted;
        let mut data = vec![0; bytes];
        let read = match &self.in_place {
            Some((id, file)) if *id == snapshot => file.read_exact_at(&mut data, offset),
            _ => Err(io::Error::other("it is another one by now")),
        };
        if let Err(error) = read {
            let path = directory.path().join(SNAPSHOT);
            tracing::warn!("no piece of {} for node {peer}: {error}", path.display());
            data.clear();
        }
        DiskReport::Chunk {
            peer,
            snapshot,
            offset,
            data: data.into(),
        }
    }
}

/// A full disk is no failure of what can be done without.
fn unless_full<T>(done: Result<T, DiskError>) -> Result<Option<T>, DiskError> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(DiskError::Full { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
