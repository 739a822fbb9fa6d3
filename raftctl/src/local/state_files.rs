//! Files that raftctl keeps on this machine, in `.raftctl/<cluster>/`.

use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file whole or not at all. Another raftctl may do so at the same time, and others may be
/// reading.
///
/// # Errors
/// It can't be written; then it is as it was.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let partial = Path::new(&name);
    std::fs::write(partial, text)
        .and_then(|()| std::fs::rename(partial, path))
        .map_err(|error| Error::file("write", path, &error))
}

/// Deletes a file that need not be there.
///
/// # Errors
/// It is still there.
pub fn forget(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("delete", path, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A file is replaced as a whole and leaves nothing beside it; what is not there is gone.
    #[test]
    fn files_are_replaced_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.json");
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        forget(&path).unwrap();
        forget(&path).unwrap();
        assert!(!path.exists());
        replace(&folder.path().join("nowhere/x"), "").unwrap_err();
        forget(folder.path()).unwrap_err();
    }
}
