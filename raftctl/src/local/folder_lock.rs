//! One operator at a time: a lock on `.raftctl/<cluster>/lock` that every verb takes that changes
//! the cluster.
//!
//! The operating system holds it, so it ends with its holder, however that ends. The file names
//! the holder for those who have to wait.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::local::operator;
use crate::terminal::progress::Progress;

/// How often it tries again.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Whoever waits longer than this is told for whom.
const TELL_AFTER: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The lock under which this is done.
    static OUTER: FolderLock;
}

/// Held as long as it lives, or a copy of it.
#[derive(Debug, Clone)]
pub struct FolderLock {
    _file: Arc<File>,
    path: PathBuf,
}

impl FolderLock {
    /// Does `work`, which may take the same lock again: it has it already.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        OUTER.scope(self, work).await
    }

    /// Takes the lock of a cluster for a verb, waiting at most `limits.lock_wait`.
    ///
    /// # Errors
    /// Someone else holds it; the message names them.
    pub async fn take(cluster: &Cluster, verb: &str) -> Result<FolderLock> {
        let folder = cluster.state_dir();
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::file("make the folder", &folder, &error))?;
        let path = folder.join("lock");
        if let Ok(outer) = OUTER.try_with(FolderLock::clone)
            && outer.path == path
        {
            return Ok(outer);
        }
        let started = Instant::now();
        let give_up = started + cluster.limits.lock_wait;
        let mut is_told = false;
        loop {
            let mut file = open(&path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    // The name only makes the message of others better; on a full disk, where it
                    // can't be written, a cluster must still be stoppable.
                    let _ = name_holder(&mut file, verb);
                    let _file = Arc::new(file);
                    return Ok(FolderLock { _file, path });
                }
                // `down --purge` took the file away after it was opened here: on to the next one.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                    if !is_told && started.elapsed() >= TELL_AFTER {
                        is_told = true;
                        let holder = holder(&mut file);
                        Progress::new().note(&format!("waiting until {holder} is done"));
                    }
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Err(TryLockError::WouldBlock) => return Err(held(&mut file, &cluster.name)),
                Err(TryLockError::Error(error)) => {
                    return Err(Error::file("lock", &path, &error));
                }
            }
        }
    }

    /// Who has the lock of a cluster just now, for those who only look on; `None` where nobody has it.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn holder(cluster: &Cluster) -> Result<Option<String>> {
        let path = cluster.state_dir().join("lock");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("open", &path, &error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(holder(&mut file))),
            Err(TryLockError::Error(error)) => Err(Error::file("lock", &path, &error)),
        }
    }

    /// Takes the lock's file away, and the folders around it that nothing else is in.
    ///
    /// # Errors
    /// The file can't be deleted.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path)
            .map_err(|error| Error::file("delete", &self.path, &error))?;
        // The cluster's folder, then `.raftctl` itself.
        for folder in self.path.ancestors().skip(1).take(2) {
            // Not empty: something else is kept there, and stays.
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
        .open(path)
        .map_err(|error| Error::file("open", path, &error))
}

/// Whether a file is the one that lies at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(own), Ok(there)) => identity(own) == identity(there),
        _ => false,
    }
}

fn name_holder(file: &mut File, verb: &str) -> std::io::Result<()> {
    let user = operator::name();
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    file.set_len(0)?;
    file.rewind()?;
    writeln!(
        file,
        "{user}, `raftctl {verb}`, process {}, since {now}",
        std::process::id()
    )
}

/// Who holds it, as they have written there.
fn holder(file: &mut File) -> String {
    let mut holder = String::new();
    // The name only makes messages better.
    let _ = file
        .rewind()
        .and_then(|()| file.read_to_string(&mut holder));
    match holder.trim() {
        "" => "another raftctl".into(),
        holder => holder.into(),
    }
}

fn held(file: &mut File, cluster: &str) -> Error {
    let holder = holder(file);
    Error::Other(format!(
        "cluster {cluster} is being changed by {holder}; wait until it is done (--lock-wait 5m \
         does), or end it, and run this again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(folder: &Path) -> Cluster {
        let environment = |_: &str| None;
        crate::cluster::parse("name: demo\n", "x", folder.into(), &environment).unwrap()
    }

    fn impatient(cluster: &Cluster) -> Cluster {
        let mut cluster = cluster.clone();
        cluster.limits.lock_wait = Duration::from_millis(100);
        cluster
    }

    // Two verbs never change a cluster at once; the second learns who is at it.
    #[tokio::test]
    async fn the_second_waits_and_learns_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = cluster(folder.path());
        let first = FolderLock::take(&cluster, "up").await.unwrap();
        let error = FolderLock::take(&impatient(&cluster), "down")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("`raftctl up`"), "{error}");
        assert!(error.contains("--lock-wait"), "{error}");
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        let holder = FolderLock::holder(&cluster).unwrap().unwrap();
        assert!(holder.contains("`raftctl up`"), "{holder}");
        let second = tokio::spawn(async move { FolderLock::take(&cluster, "down").await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!second.is_finished(), "it has to wait");
        drop(first);
        second.await.unwrap().unwrap();
    }

    // What is done under a lock may take it again, and only that.
    #[tokio::test]
    async fn a_lock_is_not_in_its_own_way() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = impatient(&cluster(folder.path()));
        let outer = FolderLock::take(&cluster, "down").await.unwrap();
        let again = outer.clone().during(FolderLock::take(&cluster, "down"));
        again.await.unwrap();
        FolderLock::take(&cluster, "up").await.unwrap_err();
        drop(outer);
        FolderLock::take(&cluster, "up").await.unwrap();
    }

    // Whoever waits while the folder is deleted does not end up with a lock on nothing.
    #[tokio::test]
    async fn a_removed_lock_is_taken_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = cluster(folder.path());
        let first = FolderLock::take(&cluster, "down").await.unwrap();
        let waiting = {
            let cluster = cluster.clone();
            tokio::spawn(async move { FolderLock::take(&cluster, "up").await })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        std::fs::remove_file(cluster.state_dir().join("lock")).unwrap();
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        FolderLock::take(&impatient(&cluster), "up")
            .await
            .expect_err("the second one holds it");
        second.remove().unwrap();
        assert!(!cluster.state_dir().exists());
    }
}
