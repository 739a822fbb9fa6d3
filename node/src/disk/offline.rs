//! Directories whose node does not run: what one holds, its state as text, and one that is made of such
//! a text.
//!
//! A directory that is made stands beside its place until it is whole and flushed; then one rename puts it
//! there. So whatever interrupts this leaves nothing under that name, and it can be done again. It has another
//! cluster's id than the one that the text is of: a member of that one, should it come back, is refused.

use super::directory::{read, replace, sync_directory};
use super::snapshot::read_snapshot;
use super::{
    DAMAGED, DiskError, LEASE, LOCK, LOGS, MARK, METADATA, OTHER_STATE, SNAPSHOT, SNAPSHOT_NEW,
};
use crate::command::{Command, FORMAT_NEWEST, FORMAT_SNAPSHOTS, Format, Members};
use crate::kv::{ExportStep, Store};
use crate::raft::{HardState, Ids, Index, SnapshotId, Term};
use crate::wal::{
    BackupHead, Files, LogBase, Metadata, Recovery, Restored, SnapshotError, SnapshotHead,
    SnapshotReader, SnapshotWriter, encode_lease, recover_behind,
};
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Read or written at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Records that are taken off a state at a time.
const RECORDS: usize = 16;
/// The first line of a backup is shorter.
const HEAD_BYTES_MAX: usize = 1024;

/// Why a directory can't be made of a backup. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file or pipe.
    #[error("the backup can't be read: {0}")]
    Read(io::Error),
    /// Its first line.
    #[error(
        "the backup is damaged: line 1: not the first line of a backup that this version reads"
    )]
    Head,
    /// A later line.
    #[error("the backup is damaged: {0}")]
    Text(SnapshotError),
    /// The two do not belong together.
    #[error("the backup is damaged: its first line is of another state than the rest")]
    Another,
    /// It reads well, but no node wrote it.
    #[error(
        "the backup is not what a node writes: its state has the hash {found:08x}, not {told:08x}"
    )]
    Hash {
        /// As the text says.
        told: u32,
        /// As this version writes it.
        found: u32,
    },
    /// Of a later version.
    #[error("the backup is of format {0}, and this version reads up to {FORMAT_NEWEST}")]
    Format(u64),
    /// There is something already.
    #[error(
        "{} holds data: restoring puts nothing over it; move it away, or delete it, first",
        .0.display()
    )]
    HoldsData(PathBuf),
    /// The disk, or a process that has the directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A directory that was made of a backup.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// The state that the backup holds.
    pub source: SnapshotId,
    /// What the node begins with: the same, but that no write from before is applied to it any more.
    pub snapshot: SnapshotId,
    /// How many keys it binds.
    pub keys: u64,
    /// How many sessions it remembers.
    pub sessions: u64,
    /// It was there already: an earlier run had made it.
    pub was_there: bool,
}

/// What a directory holds.
#[derive(Debug)]
pub struct Inspected {
    /// A process has it.
    pub in_use: bool,
    /// What a node would start from, or why none would. `None`: there is nothing.
    pub recovery: Option<Result<Recovery, DiskError>>,
}

/// Looks at a directory, and changes nothing. Of a node that runs this is what was in its files at some
/// moment.
pub fn inspect(path: &Path) -> Result<Inspected, DiskError> {
    let in_use = is_locked(path)?;
    let (logs, metadata) = (read(path, LOGS)?, read(path, METADATA)?);
    if logs.is_none() && metadata.is_none() {
        let recovery = None;
        return Ok(Inspected { in_use, recovery });
    }
    let (damaged, mark) = (read(path, DAMAGED)?, read(path, MARK)?);
    let files = Files {
        logs: logs.as_deref(),
        metadata: metadata.as_deref(),
        damaged: damaged.as_deref(),
        mark: mark.as_deref(),
    };
    let snapshot = match LogBase::read(logs.as_deref().unwrap_or_default()) {
        Some((base, _)) => named(path, base.snapshot)?,
        None => None,
    };
    let recovery = recover_behind(snapshot, files).map_err(|error| DiskError::Recover {
        path: path.to_owned(),
        error,
    });
    let recovery = match read(path, OTHER_STATE)? {
        // As the node itself: what a majority called wrong is no state to begin with.
        Some(why) => Err(DiskError::OtherState {
            path: path.to_owned(),
            why: String::from_utf8_lossy(&why).trim().to_owned(),
        }),
        None => recovery,
    };
    let recovery = Some(recovery);
    Ok(Inspected { in_use, recovery })
}

/// The snapshot of this name, which may not have its place yet.
fn named(path: &Path, id: SnapshotId) -> Result<Option<super::snapshot::Found>, DiskError> {
    let found = read_snapshot(path, SNAPSHOT)?;
    if matches!(&found, Some(Ok(found)) if found.id == id) {
        return Ok(found);
    }
    let newer = read_snapshot(path, SNAPSHOT_NEW)?;
    let is_newer = matches!(&newer, Some(Ok(newer)) if newer.id == id);
    Ok(if is_newer { newer } else { found })
}

fn is_locked(path: &Path) -> Result<bool, DiskError> {
    let path = path.join(LOCK);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(DiskError::at("open", &path))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(DiskError::at("lock", &path)(error)),
    }
}

fn must_not_run(path: &Path) -> Result<(), DiskError> {
    match is_locked(path)? {
        false => Ok(()),
        true => Err(DiskError::Locked {
            path: path.to_owned(),
            holder: "a process".into(),
        }),
    }
}

/// The last entry that a recovery found.
pub fn last_entry(recovery: &Recovery) -> (Term, Index) {
    let recovered = &recovery.recovered;
    let base = recovered.snapshot.map_or(0, |snapshot| snapshot.term);
    let term = recovered.entries.last().map_or(base, |entry| entry.term);
    (term, recovered.last_index())
}

/// The configuration that is in force after the last entry that a recovery found, committed or not, and the index of
/// its own entry. `None`: the log names none; its nodes are those that it was begun with.
pub fn configuration(recovery: &Recovery) -> Option<(Index, &Members)> {
    let appended = recovery.recovered.entries.iter().rev();
    let mut appended = appended.filter_map(|entry| match &*entry.command {
        Command::Members(members) => Some((entry.index, &**members)),
        _ => None,
    });
    let applied = recovery.store.configuration();
    let applied = || applied.map(|(index, members)| (*index, &**members));
    appended.next().or_else(applied)
}

/// Writes the state after the last entry of a directory, known to be committed or not, as the text of a
/// snapshot.
pub fn export(path: &Path, out: &mut dyn Write) -> Result<Option<SnapshotId>, DiskError> {
    must_not_run(path)?;
    let Some(recovery) = inspect(path)?.recovery else {
        return Ok(None);
    };
    let mut recovery = recovery?;
    let (term, index) = last_entry(&recovery);
    for entry in &recovery.recovered.entries {
        recovery.store.apply(entry.index, &entry.command);
    }
    let log_crc = recovery.log.crc_at(index).unwrap_or(0);
    let written = write_state(&mut recovery.store, term, log_crc, out);
    written.map(Some).map_err(DiskError::at("export", path))
}

/// Writes a state as the text of a snapshot.
fn write_state(
    store: &mut Store,
    term: Term,
    log_crc: u32,
    out: &mut dyn Write,
) -> io::Result<SnapshotId> {
    let head = SnapshotHead {
        state: store.begin_export(),
        term,
        log_crc,
    };
    let mut text = Vec::new();
    let mut writer = SnapshotWriter::begin(head, &mut text);
    while let ExportStep::Records(records) = store.export_next(RECORDS) {
        records
            .iter()
            .for_each(|record| writer.record(record, &mut text));
        if text.len() >= PIECE_BYTES {
            out.write_all(&text)?;
            text.clear();
        }
    }
    let id = writer.end(&mut text);
    out.write_all(&text)?;
    Ok(id)
}

/// Reads a backup, or the text of a snapshot, and checks all of it.
pub fn read_backup(source: &mut dyn Read) -> Result<Restored, RestoreError> {
    let (mut reader, mut head) = (SnapshotReader::default(), None);
    let (mut begin, mut begun) = (Vec::new(), false);
    let mut piece = vec![0; PIECE_BYTES];
    // Of a text behind a first line, the lines are counted from that.
    let lines_before = |head: &Option<BackupHead>| u64::from(head.is_some());
    loop {
        let count = source.read(&mut piece).map_err(RestoreError::Read)?;
        let mut text = &piece[..count];
        if !begun {
            begin.extend_from_slice(text);
            let end = begin.iter().position(|byte| *byte == b'\n');
            if count > 0 && end.is_none() && begin.len() < HEAD_BYTES_MAX {
                continue;
            }
            begun = true;
            text = &begin;
            if BackupHead::begins(text) {
                let (line, rest) = text.split_at(end.ok_or(RestoreError::Head)?);
                head = Some(BackupHead::decode(line).ok_or(RestoreError::Head)?);
                text = &rest[1..];
            }
        }
        let damaged = |error: SnapshotError| {
            let line = error.line + lines_before(&head);
            RestoreError::Text(SnapshotError { line, ..error })
        };
        reader.feed(text).map_err(damaged)?;
        if count == 0 {
            let restored = reader.finish().map_err(damaged)?;
            return check(restored, head);
        }
    }
}

fn check(mut restored: Restored, head: Option<BackupHead>) -> Result<Restored, RestoreError> {
    let Restored {
        id,
        head: of,
        store,
    } = &mut restored;
    if head.is_some_and(|head| !head.is_of(id)) {
        return Err(RestoreError::Another);
    }
    if id.format > FORMAT_NEWEST {
        return Err(RestoreError::Format(id.format));
    }
    let again = write_state(store, of.term, of.log_crc, &mut io::sink());
    let again = again.map_err(RestoreError::Read)?;
    match again == *id {
        true => Ok(restored),
        false => Err(RestoreError::Hash {
            told: id.hash,
            found: again.hash,
        }),
    }
}

/// Makes the directory of a node out of a backup, for the cluster with this id and these voters. What is there is moved to
/// `aside`, where that is given; otherwise nothing may be there. What an earlier run has made stays.
pub fn restore(
    path: &Path,
    (cluster, voters): (u128, &[u64]),
    aside: Option<&Path>,
    source: &mut dyn Read,
) -> Result<Made, RestoreError> {
    let mut restored = read_backup(source)?;
    let source = restored.id;
    restored.store.begin_anew(&Format {
        version: FORMAT_SNAPSHOTS,
        cluster,
        voters: voters.to_vec(),
    });
    let SnapshotHead { term, log_crc, .. } = restored.head;
    let snapshot = write_state(&mut restored.store, term, log_crc, &mut io::sink());
    let snapshot = snapshot.map_err(RestoreError::Read)?;
    let mut made = Made {
        source,
        snapshot,
        keys: restored.store.key_count() as u64,
        sessions: restored.store.session_count() as u64,
        was_there: is_made(path, cluster, snapshot)?,
    };
    if made.was_there {
        return Ok(made);
    }
    let holds_data = holds_anything(path)?;
    if holds_data && aside.is_none_or(Path::exists) {
        let which = aside.filter(|aside| aside.exists()).unwrap_or(path);
        return Err(RestoreError::HoldsData(which.to_owned()));
    }
    must_not_run(path)?;
    let new = beside(path);
    build(&new, cluster, &mut restored, &mut made)?;
    let moved = |from: &Path, to: &Path| {
        std::fs::rename(from, to).map_err(DiskError::at("rename", from))?;
        sync_directory(to.parent().unwrap_or(to))
    };
    if let Some(aside) = aside.filter(|_| holds_data) {
        moved(path, aside)?;
    }
    moved(&new, path)?;
    Ok(made)
}

/// Where a directory is made before it gets its name.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.restoring"))
}

/// Whether an earlier run has made this directory, for this cluster and of this state.
fn is_made(path: &Path, cluster: u128, snapshot: SnapshotId) -> Result<bool, DiskError> {
    let (logs, metadata) = (read(path, LOGS)?, read(path, METADATA)?);
    let base = logs.as_deref().and_then(LogBase::read);
    let metadata = metadata
        .as_deref()
        .and_then(|text| Metadata::decode(text).ok());
    Ok(base.is_some_and(|(base, _)| base.snapshot == snapshot)
        && metadata.is_some_and(|metadata| metadata.ids.cluster == cluster))
}

fn holds_anything(path: &Path) -> Result<bool, DiskError> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DiskError::at("look into", path)(error)),
    }
}

/// Makes all files of a node that begins behind a snapshot. Durable when it returns.
fn build(
    new: &Path,
    cluster: u128,
    restored: &mut Restored,
    made: &mut Made,
) -> Result<(), DiskError> {
    match std::fs::remove_dir_all(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(DiskError::at("remove", new)(error));
        }
        _ => {}
    }
    std::fs::create_dir_all(new).map_err(DiskError::at("create", new))?;
    let SnapshotHead { term, log_crc, .. } = restored.head;
    let file = new.join(SNAPSHOT);
    let mut write = || {
        let mut file = File::create(&file)?;
        let id = write_state(&mut restored.store, term, log_crc, &mut file)?;
        file.sync_all()?;
        Ok(id)
    };
    made.snapshot = write().map_err(DiskError::at("write", &file))?;
    let snapshot = made.snapshot;
    let mut ids = Ids {
        cluster,
        directory: 0,
    };
    while ids.directory == 0 {
        ids.directory = rand::random();
    }
    let metadata = Metadata {
        hard_state: HardState {
            term,
            voted_for: None,
        },
        commit_index: snapshot.index,
        applied_index: snapshot.index,
        format: snapshot.format,
        ids,
        ..Metadata::default()
    };
    replace(new, METADATA, &metadata.encode())?;
    // Nobody of this cluster has been promised anything yet.
    replace(new, LEASE, &encode_lease(0))?;
    replace(new, LOGS, &LogBase { snapshot, log_crc }.encode())
}

#[cfg(test)]
mod tests;
