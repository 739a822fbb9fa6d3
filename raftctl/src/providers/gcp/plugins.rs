//! Where Google's provider, a hundred megabytes, is kept for all clusters.
//!
//! Terraform unpacks a provider where it is to lie, and takes whatever lies there for whole: a full disk
//! or a SIGKILL in the middle would leave a piece that each later cluster takes. So what an `init` that
//! succeeded has left is written down, file by file with its length; what is not, or has another length,
//! is deleted before the next one. What an older raftctl has fetched, which wrote nothing down, is moved
//! aside, to `terraform.older`.
//!
//! And for a cluster that has no checksums yet Terraform takes nothing from a cache, or takes it unseen:
//! so the checksums of the first download are kept beside it, and given to each new cluster.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::local::interrupt::Interruptions;
use crate::local::state_files;

/// What is complete, beside the folder of the cache.
const COMPLETE: &str = "terraform.complete.json";
/// What an older raftctl has left, beside it as well.
const OLDER: &str = "terraform.older";
/// The checksums of what is in the cache.
const CHECKSUMS: &str = "terraform.lock.hcl";
/// The file in the folder of a cluster.
pub const LOCK_FILE: &str = ".terraform.lock.hcl";
/// A provider lies at HOST/NAMESPACE/TYPE/VERSION/PLATFORM.
const DEPTH: usize = 5;
/// More than a provider has; bounds what a folder that is none of ours may cost.
const FILES_MAX: usize = 10_000;

/// A cache, while nobody else works on it.
#[derive(Debug)]
pub struct Cache {
    /// Where Terraform keeps providers.
    pub folder: PathBuf,
    /// Held as long as it, or a copy of it, is open in any process.
    lock: Option<File>,
}

impl Cache {
    /// The cache of this user, once no other raftctl or its Terraform works on it; `None` where the
    /// operator has one of their own, or none can be made: Terraform does without.
    ///
    /// # Errors
    /// The operator did not want to wait.
    pub async fn take(tell: &mut (dyn FnMut(String) + Send)) -> Result<Option<Cache>> {
        match own() {
            Some(folder) => Cache::at(folder, tell).await.map(Some),
            None => Ok(None),
        }
    }

    async fn at(folder: PathBuf, tell: &mut (dyn FnMut(String) + Send)) -> Result<Cache> {
        const TRY_EVERY: Duration = Duration::from_millis(50);
        const TELL_AFTER: u32 = 20;
        // Where the file can't be had, all goes well but for two who fetch at the same time.
        let Ok(lock) = File::create(folder.join("raftctl.lock")) else {
            return Ok(Cache { folder, lock: None });
        };
        let mut interruptions = Interruptions::new();
        for tries in 0_u32.. {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(_)) => return Ok(Cache { folder, lock: None }),
                Err(TryLockError::WouldBlock) if tries == TELL_AFTER => {
                    tell("waiting until another raftctl has fetched Google's provider".into());
                }
                Err(TryLockError::WouldBlock) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(TRY_EVERY) => {}
                () = interruptions.next() => return Err(Error::Other(
                    "interrupted while another raftctl fetches Google's provider; nothing was changed".into(),
                )),
            }
        }
        let lock = Some(lock);
        Ok(Cache { folder, lock })
    }

    /// What holds the lock as long as it is open: for the Terraform that goes on where raftctl is killed.
    #[must_use]
    pub fn hold(&self) -> Option<File> {
        self.lock.as_ref()?.try_clone().ok()
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.join("..").join(name)
    }

    /// Deletes what is not known to be complete, and gives a new cluster the checksums of the rest.
    pub fn prepare(&self, cluster: &Path) {
        let complete = self.complete();
        for provider in providers(&self.folder) {
            let is_complete = complete.get(&provider).is_some_and(|known| {
                lengths(&self.folder.join(&provider)).is_some_and(|there| there == *known)
            });
            if !is_complete && !self.put_aside(&provider) {
                // Where it can't be deleted it can't be written either, and Terraform says so.
                let _ = std::fs::remove_dir_all(self.folder.join(&provider));
            }
        }
        let checksums = cluster.join(LOCK_FILE);
        if !checksums.exists() {
            // Without them the provider is fetched once more.
            let _ = std::fs::copy(self.beside(CHECKSUMS), checksums);
        }
    }

    /// Keeps a provider that an older raftctl has fetched, which wrote down nothing: whether it is whole nobody
    /// knows. Whether that was done.
    fn put_aside(&self, provider: &str) -> bool {
        let aside = self.beside(OLDER).join(provider);
        if self.beside(COMPLETE).exists() || aside.exists() {
            return false;
        }
        let folder = aside.parent().map(std::fs::create_dir_all);
        let there = self.folder.join(provider);
        folder.is_some_and(|made| made.is_ok()) && std::fs::rename(there, aside).is_ok()
    }

    /// Writes down what an `init` that succeeded has left.
    pub fn remember(&self, cluster: &Path) {
        let folder = |provider: String| {
            let lengths = lengths(&self.folder.join(&provider))?;
            Some((provider, lengths))
        };
        let complete: Complete = providers(&self.folder)
            .into_iter()
            .filter_map(folder)
            .collect();
        if complete.is_empty() || complete == self.complete() {
            return;
        }
        let text = serde_json::json!(complete).to_string();
        // Where it can't be kept, the provider is fetched once more.
        let _ = state_files::replace(&self.beside(COMPLETE), &text);
        if let Ok(checksums) = std::fs::read_to_string(cluster.join(LOCK_FILE)) {
            let _ = state_files::replace(&self.beside(CHECKSUMS), &checksums);
        }
    }

    fn complete(&self) -> Complete {
        let text = std::fs::read_to_string(self.beside(COMPLETE)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Whether a cluster has its checksums from here; then it is rid of them.
    pub fn take_back_checksums(&self, cluster: &Path) -> bool {
        let own = cluster.join(LOCK_FILE);
        let given = std::fs::read(self.beside(CHECKSUMS));
        let is_given = given.is_ok_and(|given| std::fs::read(&own).is_ok_and(|own| own == given));
        is_given && std::fs::remove_file(own).is_ok()
    }
}

/// The length of each file of each provider.
type Complete = BTreeMap<String, BTreeMap<String, u64>>;

/// The folders of providers, below that of the cache.
fn providers(cache: &Path) -> Vec<String> {
    let mut found = vec![PathBuf::new()];
    for _ in 0..DEPTH {
        let below = found.iter().flat_map(|folder| {
            let entries = std::fs::read_dir(cache.join(folder)).into_iter().flatten();
            let folders = entries.flatten().filter(|entry| entry.path().is_dir());
            folders
                .map(|entry| folder.join(entry.file_name()))
                .take(FILES_MAX)
        });
        found = below.collect();
    }
    let names = found.iter().filter_map(|folder| folder.to_str());
    names.map(String::from).collect()
}

/// The files below a folder with their lengths; `None` where they can't be seen.
fn lengths(folder: &Path) -> Option<BTreeMap<String, u64>> {
    let mut lengths = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).ok()? {
            let path = entry.ok()?.path();
            let metadata = std::fs::metadata(&path).ok()?;
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).ok()?.to_str()?.to_owned();
                lengths.insert(name, metadata.len());
            }
            if lengths.len() + folders.len() > FILES_MAX {
                return None;
            }
        }
    }
    Some(lengths)
}

/// Where providers are kept; `None` where the operator has a place of their own.
fn own() -> Option<PathBuf> {
    if std::env::var_os("TF_PLUGIN_CACHE_DIR").is_some() {
        return None;
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?
        .join("raftctl/terraform");
    std::fs::create_dir_all(&cache).ok()?;
    Some(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVIDER: &str = "registry.terraform.io/hashicorp/google/7.45.0/linux_amd64";

    // A piece that an ended download has left is never taken for a provider; what is whole stays.
    #[tokio::test]
    async fn a_piece_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, cluster) = (folder.path().join("terraform"), folder.path().join("demo"));
        let file = cache
            .join(PROVIDER)
            .join("terraform-provider-google_v7.45.0_x5");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::create_dir(&cluster).unwrap();
        let cache = Cache::at(cache, &mut |_| {}).await.unwrap();
        std::fs::write(&file, "a piece").unwrap();
        cache.prepare(&cluster);
        assert!(!file.exists(), "nobody has said that it is complete");
        assert!(!cluster.join(LOCK_FILE).exists());

        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "all of it").unwrap();
        std::fs::write(cluster.join(LOCK_FILE), "checksums").unwrap();
        cache.remember(&cluster);
        cache.prepare(&cluster);
        assert!(file.exists());
        let other = folder.path().join("other");
        std::fs::create_dir(&other).unwrap();
        cache.prepare(&other);
        assert_eq!(
            std::fs::read_to_string(other.join(LOCK_FILE)).unwrap(),
            "checksums"
        );
        assert!(cache.take_back_checksums(&other));
        assert!(!other.join(LOCK_FILE).exists());

        std::fs::write(&file, "cut").unwrap();
        cache.prepare(&cluster);
        assert!(!file.exists(), "it is not what was complete");
    }

    // What an older raftctl has fetched is no piece for sure: it is moved aside, once, and not deleted.
    #[tokio::test]
    async fn what_an_older_raftctl_has_left_is_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, cluster) = (folder.path().join("terraform"), folder.path().join("demo"));
        let name = "terraform-provider-google_v7.45.0_x5";
        let (file, aside) = (
            cache.join(PROVIDER).join(name),
            folder.path().join(OLDER).join(PROVIDER).join(name),
        );
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::create_dir(&cluster).unwrap();
        let cache = Cache::at(cache, &mut |_| {}).await.unwrap();
        std::fs::write(&file, "of an older one").unwrap();
        cache.prepare(&cluster);
        assert!(!file.exists(), "Terraform would take it for whole");
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "of an older one");

        // What comes in its place later is none of an older one's, and takes no other's place.
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "a piece").unwrap();
        cache.prepare(&cluster);
        assert!(!file.exists());
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "of an older one");
    }

    // Whoever is given the lock along holds it on.
    #[tokio::test]
    async fn a_terraform_that_outlives_raftctl_holds_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("terraform");
        std::fs::create_dir(&place).unwrap();
        let cache = Cache::at(place.clone(), &mut |_| {}).await.unwrap();
        let held = cache.hold().unwrap();
        drop(cache);
        let other = File::create(place.join("raftctl.lock")).unwrap();
        other.try_lock().unwrap_err();
        drop(held);
        other.try_lock().unwrap();
    }
}
