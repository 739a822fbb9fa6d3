//! One multiplexed connection a host, shared by one raftctl after the other, and by those that run at
//! the same time.
//!
//! `ssh` keeps a master process for each, in the background, which ends when it has been idle for some
//! minutes. Its socket lies in a folder that only this user can enter. The next raftctl finds it there
//! and saves the login, which costs twenty times what a command costs.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};

use super::causes::{self, SshOutput};
use super::gate::{self, Refusal};
use super::login::Login;
use super::session::Session;
use super::sockets::{Draft, Sockets};
use crate::error::TransportError;
use crate::transport::ssh::passphrases;

/// Logins that begin at a time: sshd drops connections where more than about ten have not logged
/// in yet, and several hosts may be behind one jump host.
const LOGINS_MAX: usize = 8;
static LOGINS: Semaphore = Semaphore::const_new(LOGINS_MAX);

/// Tries of a login that a busy server dropped.
const TRIES_MAX: u32 = 4;

/// What a login may take beyond the connection, which ssh bounds itself: a server that hangs in the middle of
/// it would be waited for without an end.
const LOGIN_MAX: Duration = Duration::from_secs(30);

/// What a second try may take longer than its own bound, which does not hold for what is on the way.
const ASKED_AGAIN_GRACE: Duration = Duration::from_secs(5);

/// For how long a host that could not be reached is not tried again, at least: a verb asks more
/// than once. A host that took long to fail is left alone for [`FAILED_FACTOR`] times as long.
const FAILED_FOR_MIN: Duration = Duration::from_secs(3);
const FAILED_FACTOR: u32 = 3;

/// A connection that is made when it is first needed, and again when it broke.
pub struct Connection {
    login: Login,
    timeout: Duration,
    /// Through whom ssh's configuration leads to the host, where it is known to lead through someone.
    jump_host: OnceLock<String>,
    state: Mutex<State>,
}

enum State {
    Closed,
    Open(Session),
    /// Until when it is not tried again, and why it could not be reached.
    Failed(Instant, TransportError),
}

/// Has the connection of a login take no one in any more, where there is one.
pub async fn hang_up(login: &Login) {
    if let Ok(sockets) = Sockets::open(login)
        && let Some(session) = sockets.resume()
    {
        sockets.forget(&session).await;
    }
}

impl Connection {
    /// Connects when it is needed, within `timeout`.
    #[must_use]
    pub fn new(login: Login, timeout: Duration) -> Self {
        Connection {
            login,
            timeout,
            jump_host: OnceLock::new(),
            state: Mutex::new(State::Closed),
        }
    }

    /// Tells through whom ssh's configuration leads to the host.
    pub fn leads_through(&self, jump_host: &str) {
        // Whoever asks again is told the same.
        let _ = self.jump_host.set(jump_host.to_owned());
    }

    /// The session, made if need be.
    ///
    /// # Errors
    /// The host can't be reached, or refuses.
    pub async fn session(&self) -> Result<Session, TransportError> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Open(session) => return Ok(session.clone()),
            State::Failed(until, error) if Instant::now() < *until => {
                return Err(error.clone());
            }
            State::Failed(..) | State::Closed => {}
        }
        let tried = Instant::now();
        match self.open().await {
            Ok(session) => {
                *state = State::Open(session.clone());
                Ok(session)
            }
            Err(error) => {
                let pause = FAILED_FOR_MIN.max(tried.elapsed() * FAILED_FACTOR);
                *state = State::Failed(Instant::now() + pause, error.clone());
                Err(error)
            }
        }
    }

    /// Has the next one try, however short ago the host could not be reached.
    pub fn try_again(&self) {
        // Whoever is trying just now need not be told.
        if let Ok(mut state) = self.state.try_lock()
            && matches!(*state, State::Failed(..))
        {
            *state = State::Closed;
        }
    }

    /// Ends a session that turned out to be broken, so that the next one is made anew.
    pub async fn forget(&self, broken: &Session) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Open(session) if session == broken) {
            *state = State::Closed;
            if let Ok(sockets) = Sockets::open(&self.login) {
                sockets.forget(broken).await;
            }
        }
    }

    async fn open(&self) -> Result<Session, TransportError> {
        let refused = |cause| TransportError::Refused {
            host: self.login.host.clone(),
            cause,
        };
        let sockets = Sockets::open(&self.login).map_err(refused)?;
        if let Some(session) = sockets.resume() {
            return Ok(session);
        }
        sockets.tidy();
        let lock = sockets.lock(self.timeout).await;
        if let Some(session) = sockets.resume() {
            return Ok(session);
        }
        let draft = sockets.draft().map_err(refused)?;
        self.log_in(&draft).await?;
        let session = draft.into_session();
        sockets.keep(&session);
        drop(lock);
        Ok(session)
    }

    /// Logs in, alone where it is not known yet whether the jump host lets anyone pass.
    async fn log_in(&self, draft: &Draft) -> Result<(), TransportError> {
        let jump = self.login.jump.as_ref();
        let login = self.try_to_log_in(draft);
        let outcome = match jump.or_else(|| self.jump_host.get()) {
            Some(jump_host) => {
                let config = self.login.config_file.display();
                gate::pass(&format!("{config} {jump_host}"), &self.login.host, login).await
            }
            None => login.await,
        };
        outcome.map_err(|refusal| refusal.error)
    }

    async fn try_to_log_in(&self, draft: &Draft) -> Result<(), Refusal> {
        // The semaphore is never closed, so there is always a turn.
        let _turn = LOGINS.acquire().await;
        let mut tried = 0;
        loop {
            let said = match self.start_master(draft).await {
                Ok(None) => return Ok(()),
                Ok(Some(said)) if said.is_silent_on_the_way() => {
                    self.ask_in_the_open().await.unwrap_or(said)
                }
                Ok(Some(said)) => said,
                Err(error) => {
                    return Err(Refusal {
                        error: causes::cannot_start(&self.login, &error),
                        is_by_jump_host: false,
                    });
                }
            };
            tried += 1;
            if tried == TRIES_MAX || !causes::is_busy(&said) {
                return Err(self.refusal(&said).await);
            }
            // Apart from the others that were dropped at the same moment.
            let pause_ms = rand::random_range(50..250) * u64::from(tried);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// What is said on the way to the host: a master's way says nothing to anyone, so ssh is asked once
    /// more without one. `None` where that works, or can't be told.
    async fn ask_in_the_open(&self) -> Option<SshOutput> {
        let words = self.login.command_words();
        let timeout = format!("ConnectTimeout={}", self.timeout.as_secs().max(1));
        let mut asking = tokio::process::Command::new("ssh");
        asking
            .args(["-o", "BatchMode=yes", "-o", "ControlPath=none"])
            .args(["-o", "ControlPersist=no", "-o", &timeout])
            .args(&words[1..])
            .arg("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let limit = self.timeout + ASKED_AGAIN_GRACE;
        let output = tokio::time::timeout(limit, asking.output()).await;
        let output = output.ok()?.ok()?;
        let way = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success()).then(|| SshOutput {
            way,
            own: String::new(),
        })
    }

    async fn refusal(&self, said: &SshOutput) -> Refusal {
        let unlock = match causes::is_refused_key(said) {
            true => passphrases::advice(&self.login).await,
            false => None,
        };
        Refusal {
            error: causes::explain(&self.login, said, unlock),
            is_by_jump_host: said.is_refused_on_the_way(),
        }
    }

    /// Starts `ssh`, which goes into the background once it is logged in; what it said where it could
    /// not. Who is on the way (a jump host's own `ssh`) writes to standard error, which is a file: a pipe
    /// would be kept open.
    async fn start_master(&self, draft: &Draft) -> std::io::Result<Option<SshOutput>> {
        let folder = draft.path();
        let way = folder.join("way");
        let mut starting = tokio::process::Command::new("ssh");
        starting
            .args(self.login.master_words(folder, self.timeout))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&way)?)
            .process_group(0)
            .kill_on_drop(true);
        let log = Session::log_in(folder);
        match tokio::time::timeout(self.timeout + LOGIN_MAX, starting.status()).await {
            Ok(status) => {
                if status?.success() {
                    return Ok(None);
                }
            }
            Err(_) => {
                let limit = (self.timeout + LOGIN_MAX).as_secs();
                let line = format!("\nthe login timed out after {limit} s\n");
                std::fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&log)?
                    .write_all(line.as_bytes())?;
            }
        }
        let read =
            |file| String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
        let said = SshOutput {
            way: read(&way),
            own: read(&log),
        };
        // The next try says what it has to say itself.
        let _ = std::fs::remove_file(&log);
        Ok(Some(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A host that could not be reached is left alone for a while, and each who asks is told why; whoever waits for it
    // has it tried again.
    #[tokio::test]
    async fn who_waits_does_not_wait_for_the_pause() {
        let login = Login::to("n1", "/nowhere/ssh_config".into());
        let connection = Connection::new(login, Duration::from_secs(1));
        let why = TransportError::Unreachable {
            host: "n1".into(),
            cause: "it boots".into(),
        };
        let later = Instant::now() + Duration::from_secs(3600);
        *connection.state.lock().await = State::Failed(later, why.clone());
        let told = connection.session().await.err();
        assert_eq!(told.unwrap().to_string(), why.to_string());
        connection.try_again();
        assert!(matches!(*connection.state.lock().await, State::Closed));
    }
}
