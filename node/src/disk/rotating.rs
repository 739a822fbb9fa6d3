//! A text file that is set aside when it has grown large.

use super::{Directory, DiskError};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// Older files kept beside the current one.
const KEPT: u32 = 2;

/// `<name>.txt`, appended to; beyond a size it becomes `<name>.1.txt`, that one `<name>.2.txt`.
#[derive(Debug)]
pub struct RotatingFile {
    directory: PathBuf,
    name: &'static str,
    bytes_max: u64,
    file: File,
    bytes: u64,
}

impl RotatingFile {
    /// Opens the file in the node's directory, to go on behind what it holds.
    pub fn open(
        directory: &Directory,
        name: &'static str,
        bytes_max: u64,
    ) -> Result<Self, DiskError> {
        let directory = directory.path().to_owned();
        let path = directory.join(format!("{name}.txt"));
        let (file, bytes) = append_to(&path).map_err(DiskError::at("open", &path))?;
        Ok(RotatingFile {
            directory,
            name,
            bytes_max,
            file,
            bytes,
        })
    }

    /// Appends whole lines, which stay together in one file.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), DiskError> {
        let path = self.path(0);
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.bytes_max {
            self.rotate().map_err(DiskError::at("rotate", &path))?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // A piece of a line would spoil the next one. Where that fails too, it is told below.
            self.file.set_len(self.bytes).ok();
            return Err(DiskError::at("write", &path)(error));
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        for age in (0..KEPT).rev() {
            let (from, to) = (self.path(age), self.path(age + 1));
            if from.exists() {
                std::fs::rename(from, to)?;
            }
        }
        (self.file, self.bytes) = append_to(&self.path(0))?;
        Ok(())
    }

    fn path(&self, age: u32) -> PathBuf {
        let name = self.name;
        self.directory.join(match age {
            0 => format!("{name}.txt"),
            _ => format!("{name}.{age}.txt"),
        })
    }
}

fn append_to(path: &std::path::Path) -> std::io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}
