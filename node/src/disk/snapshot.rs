//! The files of a snapshot, and the one moment at which a log that was cut takes the place of the
//! former one.
//!
//! 1. `snapshot.new.txt` is written piece by piece, while the node goes on, and flushed.
//! 2. `logs.new.txt`: a first line that names that snapshot, then the rest of `logs.txt`; flushed. Most of
//!    it is copied while the node goes on, too, and only what is left when all else is done (`ahead`).
//! 3. `logs.new.txt` becomes `logs.txt`. **This rename is the switch**: which snapshot counts is what
//!    the first line of `logs.txt` says, and nothing else.
//! 4. `snapshot.new.txt` becomes `snapshot.txt`.
//!
//! The directory is flushed behind 1, 2, 3 and 4, so none is seen without those before it. A crash before
//! 3 leaves the former log with its former snapshot, and new files that nobody names: the next start
//! removes them. A crash between 3 and 4 leaves a log whose snapshot still has its new name: the next
//! start gives it the right one.

use super::ahead::copy;
use super::directory::sync_directory;
use super::{
    Directory, DiskError, DiskReport, LOGS, LOGS_NEW, SNAPSHOT, SNAPSHOT_DAMAGED, SNAPSHOT_NEW,
};
use crate::raft::{ChunkWanted, SnapshotId};
use crate::wal::{LogBase, LogCut, Restored, SnapshotError, SnapshotReader, goes_on_from};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
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

/// The snapshot that the log on disk goes on from, by its first line.
pub(super) fn in_place(directory: &Path) -> Result<Option<SnapshotId>, DiskError> {
    let path = directory.join(LOGS);
    let mut line = Vec::new();
    let mut read = || {
        let file = File::open(&path)?;
        file.take(FIRST_LINE_BYTES_MAX).read_to_end(&mut line)
    };
    read().map_err(DiskError::at("read", &path))?;
    Ok(LogBase::read(&line).map(|(base, _)| base.snapshot))
}

/// A snapshot of a directory, if there is one.
pub(super) fn read_snapshot(directory: &Path, name: &str) -> Result<Option<Found>, DiskError> {
    let mut reader = SnapshotReader::default();
    let mut failed = None;
    let is_there = feed(directory, name, |piece| {
        failed = reader.feed(piece).err();
        failed.is_none()
    })?;
    let found = failed.map_or_else(|| reader.finish(), Err);
    Ok(is_there.then_some(found))
}

/// Hands a file over piece by piece, as long as that is wanted. False: there is none.
pub(super) fn feed(
    directory: &Path,
    name: &str,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<bool, DiskError> {
    let path = directory.join(name);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(DiskError::at("open", &path))?,
    };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece);
        let count = count.map_err(DiskError::at("read", &path))?;
        if count == 0 || !take(&piece[..count]) {
            return Ok(true);
        }
    }
}

/// The snapshot that is in place.
#[derive(Debug)]
pub(super) struct SnapshotFiles {
    in_place: Option<(SnapshotId, File)>,
}

impl SnapshotFiles {
    pub(super) fn open(directory: &Directory) -> Result<Self, DiskError> {
        let path = directory.path().join(SNAPSHOT);
        let open = |id| Ok((id, File::open(&path).map_err(DiskError::at("open", &path))?));
        let in_place = in_place(directory.path())?.map(open).transpose()?;
        Ok(SnapshotFiles { in_place })
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
        let path = directory.path().join(LOGS_NEW);
        let written = write_rest(directory.path(), &path, cut);
        written.map_err(DiskError::at("write", &path))?;
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

/// Writes what `logs.new.txt` lacks, behind what was copied of it ahead.
fn write_rest(directory: &Path, path: &Path, cut: &LogCut) -> io::Result<()> {
    let (mut new, from) = match (cut.rest_from, cut.copied_to) {
        (Some(rest_from), Some(copied_to)) => {
            let new = File::options().append(true).open(path)?;
            let copied = cut.first_line.len() as u64 + (copied_to - rest_from);
            // Where a try before this one found no room, a part of what follows stands there.
            match new.metadata()?.len() {
                length if length > copied => new.set_len(copied)?,
                length if length < copied => {
                    return Err(io::Error::other("it is shorter than what was copied"));
                }
                _ => {}
            }
            (new, Some(copied_to))
        }
        (rest_from, _) => {
            let mut new = File::create(path)?;
            new.write_all(&cut.first_line)?;
            (new, rest_from)
        }
    };
    if let Some(from) = from {
        copy(&directory.join(LOGS), &mut new, from, None)?;
    }
    new.sync_all()
}

#[cfg(test)]
mod tests;
