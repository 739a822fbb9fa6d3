//! One multiplexed connection a host, shared by one raftctl after the other.
//!
//! `ssh` keeps a master process for each, in the background, which ends when it has been idle for
//! [`IDLE_SECONDS`]. Its socket lies in a folder that only this user can enter. The next raftctl
//! finds it there and saves the login, which costs twenty times what a command costs.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder};
use tokio::sync::{Mutex, Semaphore};

use super::causes;
use super::login::Login;
use crate::hosts::TransportError;

/// How long a connection is kept that nobody uses.
const IDLE_SECONDS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(300).unwrap();

/// Logins that begin at a time: sshd drops connections where more than about ten have not logged
/// in yet, and several hosts may be behind one jump host.
const LOGINS_MAX: usize = 8;
static LOGINS: Semaphore = Semaphore::const_new(LOGINS_MAX);

/// Tries of a login that a busy server dropped.
const TRIES_MAX: u32 = 4;

/// What a second try may take longer than its own bound, which does not hold for what is on the way.
const ASKED_AGAIN_GRACE: Duration = Duration::from_secs(5);

/// A folder without a socket that is older than this belongs to no login that is under way.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(600);

/// For how long a host that could not be reached is not tried again, at least: a verb asks more
/// than once. A host that took long to fail is left alone for [`FAILED_FACTOR`] times as long.
const FAILED_FOR_MIN: Duration = Duration::from_secs(3);
const FAILED_FACTOR: u32 = 3;

/// A connection that is made when it is first needed, and again when it broke.
pub struct Connection {
    login: Login,
    timeout: Duration,
    state: Mutex<State>,
}

enum State {
    Closed,
    Open(Arc<Session>),
    /// Until when it is not tried again, and why it could not be reached.
    Failed(Instant, TransportError),
}

impl Connection {
    /// Connects when it is needed, within `timeout`.
    #[must_use]
    pub fn new(login: Login, timeout: Duration) -> Self {
        Connection {
            login,
            timeout,
            state: Mutex::new(State::Closed),
        }
    }

    /// The session, made if need be.
    ///
    /// # Errors
    /// The host can't be reached, or refuses.
    pub async fn session(&self) -> Result<Arc<Session>, TransportError> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Open(session) => return Ok(Arc::clone(session)),
            State::Failed(until, error) if Instant::now() < *until => {
                return Err(error.clone());
            }
            State::Failed(..) | State::Closed => {}
        }
        let tried = Instant::now();
        match self.open().await {
            Ok(session) => {
                let session = Arc::new(session);
                *state = State::Open(Arc::clone(&session));
                Ok(session)
            }
            Err(error) => {
                let pause = FAILED_FOR_MIN.max(tried.elapsed() * FAILED_FACTOR);
                *state = State::Failed(Instant::now() + pause, error.clone());
                Err(error)
            }
        }
    }

    /// Forgets a session that turned out to be broken, so that the next one is made anew.
    pub async fn forget(&self, broken: &Arc<Session>) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Open(session) if Arc::ptr_eq(session, broken)) {
            *state = State::Closed;
            if let Ok(sockets) = Sockets::open(&self.login) {
                sockets.forget();
            }
        }
    }

    async fn open(&self) -> Result<Session, TransportError> {
        let sockets = Sockets::open(&self.login).map_err(|cause| TransportError::Refused {
            host: self.login.host.clone(),
            cause,
        })?;
        if let Some(session) = sockets.resume() {
            return Ok(session);
        }
        sockets.tidy();
        let session = self.log_in(&sockets.folder).await?;
        Ok(sockets.keep(session))
    }

    async fn log_in(&self, folder: &Path) -> Result<Session, TransportError> {
        // The semaphore is never closed, so there is always a turn.
        let _turn = LOGINS.acquire().await;
        let builder = self.builder(folder);
        let mut tried = 0;
        loop {
            let error = match builder.connect(&self.login.destination).await {
                Ok(session) => return Ok(session),
                Err(error) => self.told(error).await,
            };
            tried += 1;
            if tried == TRIES_MAX || !causes::is_busy(&said(&error)) {
                return Err(causes::explain(&self.login, &error));
            }
            // Apart from the others that were dropped at the same moment.
            let pause_ms = rand::random_range(50..250) * u64::from(tried);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// What went wrong on the way to the host, where it did: openssh keeps away what a jump host or a
    /// program in its place says, so ssh is asked once more, in the open.
    async fn told(&self, error: openssh::Error) -> openssh::Error {
        if !causes::is_on_the_way(&said(&error)) {
            return error;
        }
        let words = self.login.command_words();
        let timeout = format!("ConnectTimeout={}", self.timeout.as_secs().max(1));
        let asking = tokio::process::Command::new(&words[0])
            .args(["-o", "BatchMode=yes", "-o", "ControlPath=none", "-o"])
            .arg(timeout)
            .args(&words[1..])
            .arg("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(self.timeout + ASKED_AGAIN_GRACE, asking).await {
            Ok(Ok(output)) if !output.status.success() => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                openssh::Error::Connect(std::io::Error::other(text))
            }
            // It works now, or can't be told.
            _ => error,
        }
    }

    fn builder(&self, folder: &Path) -> SessionBuilder {
        let login = &self.login;
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(KnownHosts::Add)
            .config_file(&login.config_file)
            .connect_timeout(self.timeout.max(Duration::from_secs(1)))
            .control_directory(folder)
            .control_persist(ControlPersist::IdleFor(IDLE_SECONDS));
        if let Some(user) = &login.user {
            builder.user(user.clone());
        }
        if let Some(port) = login.port {
            builder.port(port);
        }
        if let Some(file) = &login.identity_file {
            builder.keyfile(file);
        }
        builder.jump_hosts(login.jump.iter());
        builder
    }
}

fn said(error: &openssh::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// Where the sockets of this user's connections lie. The path is short: a socket's may have about
/// a hundred bytes.
struct Sockets {
    folder: PathBuf,
    /// Leads to the folder of this login's socket.
    link: PathBuf,
}

impl Sockets {
    fn open(login: &Login) -> Result<Self, String> {
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

    /// Removes folders that masters left which have ended (they take their socket away, but not the
    /// folder around it), and links that lead nowhere.
    fn tidy(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return; // Only tidiness is lost.
        };
        for entry in entries.flatten() {
            let is_old = entry
                .metadata()
                .and_then(|found| found.modified())
                .is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER));
            let path = entry.path();
            if path.is_symlink() && !path.exists() {
                let _ = std::fs::remove_file(&path);
            } else if is_old && path.is_dir() && !path.is_symlink() && !path.join("master").exists()
            {
                let _ = std::fs::remove_dir_all(&path);
            }
        }
    }

    /// The connection that an earlier raftctl left, if its master still listens.
    fn resume(&self) -> Option<Session> {
        let folder = self.folder.join(std::fs::read_link(&self.link).ok()?);
        let socket = folder.join("master");
        if std::os::unix::net::UnixStream::connect(&socket).is_err() {
            self.forget();
            return None;
        }
        let log = folder.join("log").into_boxed_path();
        Some(Session::resume(socket.into_boxed_path(), Some(log)))
    }

    /// Leaves a connection to the raftctl after this one.
    fn keep(&self, session: Session) -> Session {
        let (socket, log) = session.detach();
        if let Some(name) = socket.parent().and_then(Path::file_name) {
            let fresh = self.link.with_extension(std::process::id().to_string());
            // Without the link the next raftctl logs in anew; nothing else is lost.
            let _ = symlink(name, &fresh).and_then(|()| std::fs::rename(&fresh, &self.link));
        }
        Session::resume(socket, log)
    }

    /// Removes what a master left that is gone, or is of no more use.
    fn forget(&self) {
        if let Ok(name) = std::fs::read_link(&self.link) {
            // Someone else may be doing the same.
            let _ = std::fs::remove_file(&self.link);
            let _ = std::fs::remove_dir_all(self.folder.join(name));
        }
    }
}
