//! How fast a disk flushes: fdatasync after each write, as a log does it.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::tally::{Figures, Kind, Tally};

/// What a file has before, where it does not grow: flushes then write no metadata.
const FILLED_BYTES: u64 = 32 << 20;

/// A file that goes with this value.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it costs some megabytes, and has a name that tells whose it is.
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}

impl Scratch {
    fn new(folder: &Path, is_zero_filled: bool) -> std::io::Result<Self> {
        let path = folder.join(format!("raftctl-bench-limits-{}", std::process::id()));
        let file = File::create(&path)?;
        let mut scratch = Scratch { file, path };
        if is_zero_filled {
            let zeros = vec![0; 1 << 20];
            for _ in 0..FILLED_BYTES / zeros.len() as u64 {
                scratch.file.write_all(&zeros)?;
            }
            scratch.file.sync_all()?;
            scratch.file.seek(SeekFrom::Start(0))?;
        }
        Ok(scratch)
    }
}

/// Writes `bytes` and flushes them, again and again for `length`, into a file that grows, or into one that was filled
/// with zeros before. None where not one flush came to its end.
///
/// # Errors
/// The folder takes no file, or the disk is full.
pub fn measure(
    folder: &Path,
    bytes: usize,
    is_zero_filled: bool,
    length: Duration,
) -> std::io::Result<Option<Figures>> {
    let mut scratch = Scratch::new(folder, is_zero_filled)?;
    let block = vec![b'x'; bytes];
    let mut tally = Tally::default();
    let (started, mut at) = (Instant::now(), 0);
    while started.elapsed() < length {
        if is_zero_filled && at + bytes as u64 > FILLED_BYTES {
            scratch.file.seek(SeekFrom::Start(0))?;
            at = 0;
        }
        let begun = Instant::now();
        scratch.file.write_all(&block)?;
        scratch.file.sync_data()?;
        tally.succeeded(Kind::Write, begun, Instant::now());
        at += bytes as u64;
    }
    Ok(tally.figures(Kind::Write, started.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each kind of file is flushed, and nothing is left of it.
    #[test]
    fn flushes_are_counted_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for is_zero_filled in [false, true] {
            let length = Duration::from_millis(20);
            let figures = measure(folder.path(), 16_384, is_zero_filled, length);
            assert!(figures.unwrap().unwrap().operations > 0);
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        assert!(measure(&folder.path().join("none"), 1, false, Duration::ZERO).is_err());
    }
}
