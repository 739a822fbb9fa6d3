//! Where the connections of this user lie, so that one raftctl finds those of another.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::login::Login;
use super::session::Session;

/// A folder without a socket that is older than this belongs to no login that is under way, and a lock
/// to nobody.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(600);

/// How often a lock is asked for that someone else has.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The folder that holds the connections of this user. The path is short: a socket's may have about
/// a hundred bytes.
pub struct Sockets {
    folder: PathBuf,
    /// Leads to the folder of this login's connection.
    link: PathBuf,
}

/// A folder for a connection that is yet to be made. It goes when nothing comes of it.
pub struct Draft(PathBuf);

impl Draft {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Something came of it.
    #[must_use]
    pub fn into_session(mut self) -> Session {
        Session::new(std::mem::take(&mut self.0), true)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What stays is tidied away later.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

impl Sockets {
    /// The folder, made where it is missing.
    ///
    /// # Errors
    /// Somebody else could enter it.
    pub fn open(login: &Login) -> Result<Self, String> {
        let user = rustix::process::geteuid().as_raw();
        let folder = PathBuf::from(format!("/tmp/raftctl-{user}"));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!(
                    "cannot make the folder {}: {error}",
                    folder.display()
                ));
            }
            _ => {}
        }
        // Whoever else made it, or can enter it, could take over connections.
        let found = std::fs::symlink_metadata(&folder)
            .map_err(|error| format!("cannot look at {}: {error}", folder.display()))?;
        if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
            return Err(format!(
                "{} must be a folder that only you can enter; remove it and try again",
                folder.display()
            ));
        }
        let link = folder.join(login.fingerprint());
        Ok(Sockets { folder, link })
    }

    /// A folder for a new connection.
    ///
    /// # Errors
    /// It can't be made.
    pub fn draft(&self) -> Result<Draft, String> {
        let path = self
            .folder
            .join(format!(".c-{:016x}", rand::random::<u64>()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Draft(path)),
            Err(error) => Err(format!(
                "cannot make the folder {}: {error}; free some space in /tmp, and run this again",
                path.display()
            )),
        }
    }

    /// Lets one process at a time log in, so that the others find its connection. Waits for `patience` at
    /// most: who logs in may wait for a dead host, and goes on without the lock then.
    pub async fn lock(&self, patience: Duration) -> Option<File> {
        let file = File::create(self.link.with_extension("lock")).ok()?;
        let waiting = async {
            while file.try_lock().is_err() {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        tokio::time::timeout(patience, waiting).await.ok()?;
        Some(file)
    }

    /// Removes folders that masters left which have ended (they take their socket away, but not the
    /// folder around it), links that lead nowhere, and locks that nobody holds.
    pub fn tidy(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return; // Only tidiness is lost.
        };
        for entry in entries.flatten() {
            let is_old = entry
                .metadata()
                .and_then(|found| found.modified())
                .is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER));
            let path = entry.path();
            if path.is_symlink() {
                if !path.exists() {
                    let _ = std::fs::remove_file(&path);
                }
            } else if is_old && path.is_dir() {
                if !Session::socket_in(&path).exists() {
                    let _ = std::fs::remove_dir_all(&path);
                }
            } else if is_old && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    /// The connection that an earlier raftctl left, if its master still listens.
    #[must_use]
    pub fn resume(&self) -> Option<Session> {
        let folder = self.folder.join(std::fs::read_link(&self.link).ok()?);
        if UnixStream::connect(Session::socket_in(&folder)).is_ok() {
            return Some(Session::new(folder, false));
        }
        // Someone else may be doing the same.
        let _ = std::fs::remove_file(&self.link);
        let _ = std::fs::remove_dir_all(folder);
        None
    }

    /// Leaves a connection to the raftctl after this one.
    pub fn keep(&self, session: &Session) {
        if let Some(name) = session.folder().file_name() {
            let fresh = self.link.with_extension(std::process::id().to_string());
            // Without the link the next raftctl logs in anew; nothing else is lost.
            let _ = symlink(name, &fresh).and_then(|()| std::fs::rename(&fresh, &self.link));
        }
    }

    /// Ends a connection that is of no more use, and lets nobody find it.
    pub async fn forget(&self, session: &Session) {
        let target = std::fs::read_link(&self.link).unwrap_or_default();
        if session.folder().ends_with(&target) {
            // Someone else may be doing the same.
            let _ = std::fs::remove_file(&self.link);
        }
        session.retire().await;
        let _ = std::fs::remove_dir_all(session.folder());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn sockets(folder: &Path) -> Sockets {
        Sockets {
            folder: folder.to_owned(),
            link: folder.join("login"),
        }
    }

    // A connection is found for as long as its master listens, and leaves nothing behind after that; nor
    // does a login of which nothing came.
    #[tokio::test]
    async fn connections_are_found_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = sockets(folder.path());
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        drop(sockets.draft().unwrap());
        assert_eq!(left(), 0);
        let session = sockets.draft().unwrap().into_session();
        let master = UnixListener::bind(Session::socket_in(session.folder())).unwrap();
        sockets.keep(&session);
        let resumed = sockets.resume().unwrap();
        assert_eq!(resumed.folder(), session.folder());
        assert!(!resumed.is_own);
        drop(master);
        assert!(sockets.resume().is_none());
        assert_eq!(left(), 0);
        let session = sockets.draft().unwrap().into_session();
        sockets.keep(&session);
        sockets.forget(&session).await;
        assert_eq!(left(), 0);
    }

    // Only one at a time logs in, and whoever waits does not wait without end.
    #[tokio::test]
    async fn one_at_a_time_logs_in() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = sockets(folder.path());
        let soon = Duration::from_millis(50);
        let first = sockets.lock(soon).await.unwrap();
        assert!(sockets.lock(soon).await.is_none());
        drop(first);
        assert!(sockets.lock(soon).await.is_some());
    }
}
