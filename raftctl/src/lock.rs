//! One operator at a time: a lock on `.raftctl/<cluster>/lock` that every verb takes that changes
//! the cluster.
//!
//! The operating system holds it, so it ends with its holder, however that ends. The file names
//! the holder for those who have to wait.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::error::{Error, Result};

/// How long a verb waits for another one to finish.
pub const WAIT: Duration = Duration::from_secs(10);

/// How often it tries again.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a cluster for a verb, waiting at most `wait`.
    ///
    /// # Errors
    /// Someone else holds it; the message names them.
    pub async fn take(cluster: &Cluster, verb: &str, wait: Duration) -> Result<Lock> {
        let folder = cluster.state_dir();
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::file("make the folder", &folder, &error))?;
        let path = folder.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| Error::file("open", &path, &error))?;
        let give_up = Instant::now() + wait;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Err(TryLockError::WouldBlock) => return Err(held(&mut file, &cluster.name)),
                Err(TryLockError::Error(error)) => {
                    return Err(Error::file("lock", &path, &error));
                }
            }
        }
        name_holder(&mut file, verb).map_err(|error| Error::file("write", &path, &error))?;
        Ok(Lock { _file: file })
    }
}

fn name_holder(file: &mut File, verb: &str) -> std::io::Result<()> {
    let user = std::env::var("USER").unwrap_or_else(|_| "someone".into());
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    file.set_len(0)?;
    file.rewind()?;
    writeln!(
        file,
        "{user}, `raftctl {verb}`, process {}, since {now}",
        std::process::id()
    )
}

fn held(file: &mut File, cluster: &str) -> Error {
    let mut holder = String::new();
    // The name only makes the message better.
    let _ = file
        .rewind()
        .and_then(|()| file.read_to_string(&mut holder));
    let holder = match holder.trim() {
        "" => "another raftctl",
        holder => holder,
    };
    Error::Other(format!(
        "cluster {cluster} is being changed by {holder}; wait until it is done, or end it, and run \
         this again"
    ))
}

/// The file of the lock, for those who clean up.
#[must_use]
pub fn path(cluster: &Cluster) -> PathBuf {
    cluster.state_dir().join("lock")
}
