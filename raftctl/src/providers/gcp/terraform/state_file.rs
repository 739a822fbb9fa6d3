//! A state's file that was being written when Terraform was killed, the disk was full or the power went.
//!
//! Terraform empties the file before it fills it. An empty one it takes for none, and so do we: what Google has is
//! taken in. A part of one it refuses with the position of the byte, and whoever follows that edits JSON by hand.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};

/// Where Terraform keeps what it knows, when that is not in a bucket.
const FILE: &str = "terraform.tfstate";

/// Who writes the file has filled it by then.
const WRITING_TIME_MAX: Duration = Duration::from_secs(1);

/// Whether the state in `folder` is there and is no JSON. One that can't be read for another reason is Terraform's
/// to tell.
pub(super) fn is_damaged(folder: &Path) -> bool {
    let text = std::fs::read(folder.join(FILE)).unwrap_or_default();
    !text.is_empty() && serde_json::from_slice::<serde_json::Value>(&text).is_err()
}

/// Sets a damaged state in `folder` aside. Returns what it is called then; `None`: it was none.
///
/// # Errors
/// It can't be renamed.
pub(super) async fn set_aside(folder: &Path) -> Result<Option<PathBuf>> {
    if !is_damaged(folder) {
        return Ok(None);
    }
    tokio::time::sleep(WRITING_TIME_MAX).await;
    if !is_damaged(folder) {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = now.unwrap_or_default().as_secs();
    let [from, to] = [FILE.to_owned(), format!("{FILE}.damaged-{seconds}")];
    let [from, to] = [from, to].map(|name| folder.join(name));
    std::fs::rename(&from, &to).map_err(|error| {
        let (from, to) = (from.display(), to.display());
        Error::Other(format!(
            "cannot rename {from}, which is damaged, to {to}: {error}"
        ))
    })?;
    Ok(Some(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only what is a part of a state is set aside, and it is still there then.
    #[tokio::test]
    async fn only_a_part_of_a_state_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        assert_eq!(set_aside(folder.path()).await.unwrap(), None, "no file");
        for whole in ["", "{\"version\": 4}\n"] {
            std::fs::write(&file, whole).unwrap();
            assert_eq!(set_aside(folder.path()).await.unwrap(), None, "{whole:?}");
        }
        std::fs::write(&file, "{\"version\": 4").unwrap();
        let aside = set_aside(folder.path()).await.unwrap().unwrap();
        assert_eq!(std::fs::read(aside).unwrap(), b"{\"version\": 4");
        assert!(!file.exists());
    }
}
