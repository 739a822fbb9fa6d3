//! Scripts over SSH.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::channel::NotOpened;
use super::connection::Connection;
use super::envelope::{Envelope, Opened, Rights};
use super::login::Login;
use super::session::{SESSIONS_MAX, Session};
use crate::error::TransportError;
use crate::transport::local::keep_end;
use crate::transport::{BoxFuture, Exit, Request, Transport, feed};

/// How long a server may refuse one session after the other, though it has no more than one of ours.
const REFUSED_FOR_MAX: Duration = Duration::from_secs(10);

/// Runs scripts on a host that is reached through SSH.
pub struct SshTransport {
    login: Login,
    connection: Connection,
    rights: OnceLock<Rights>,
    turns: Semaphore,
}

impl SshTransport {
    /// A host that is connected to when it is first needed, within `timeout`.
    #[must_use]
    pub fn new(login: Login, timeout: Duration) -> Self {
        SshTransport {
            connection: Connection::new(login.clone(), timeout),
            login,
            rights: OnceLock::new(),
            turns: Semaphore::new(SESSIONS_MAX),
        }
    }

    /// How the host is reached.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Tells through whom ssh's configuration leads to the host.
    pub fn leads_through(&self, jump_host: &str) {
        self.connection.leads_through(jump_host);
    }

    /// A connection to the host; it is made if there is none, or if the one from before is dead.
    ///
    /// # Errors
    /// The host can't be reached, or refuses.
    pub async fn session(&self) -> Result<Session, TransportError> {
        let session = self.connection.session().await?;
        if session.is_alive().await {
            return Ok(session);
        }
        self.connection.forget(&session).await;
        self.connection.session().await
    }

    /// Decides with whose rights scripts run from now on. Without this, each finds out by itself.
    pub fn set_rights(&self, rights: Rights) {
        // The first who finds out is as right as the second.
        let _ = self.rights.set(rights);
    }

    /// As [`Transport::execute`], with rights of its own.
    ///
    /// # Errors
    /// As [`Transport::execute`].
    pub async fn execute_as(
        &self,
        request: &Request<'_>,
        rights: Rights,
        stdout: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<Exit, TransportError> {
        let envelope = Envelope::new();
        let mut stderr = Vec::new();
        let run = self.attempts(request, rights, &envelope, stdout, &mut stderr);
        match tokio::time::timeout(request.deadline, run).await {
            Ok(result) => result,
            Err(_) => Err(self.late(request, &envelope, &stderr)),
        }
    }

    /// The script took too long; what it said until then is without the marks around it.
    fn late(&self, request: &Request<'_>, envelope: &Envelope, stderr: &[u8]) -> TransportError {
        TransportError::Deadline {
            host: self.login.host.clone(),
            purpose: request.purpose.to_owned(),
            deadline: request.deadline,
            stderr: envelope.open(&String::from_utf8_lossy(stderr)).stderr,
        }
    }

    /// `sudo` gave the rights before, and does not any more. It may have been greeted by the login
    /// shell, and has warned before it refused, if at all.
    fn without_sudo(&self, stderr: &str) -> TransportError {
        let own = stderr.lines().rfind(|line| line.starts_with("sudo: "));
        let says = own.unwrap_or(stderr.trim());
        TransportError::Refused {
            host: self.login.host.clone(),
            cause: format!(
                "{says}; let the login use sudo without a password again (`visudo`: NOPASSWD), or \
                 log in as root (`ssh.user` in cluster.yaml); try `{} sudo -n true`",
                self.login.command()
            ),
        }
    }

    /// A connection that was left from before may turn out to be dead, or its login to be another by
    /// now. Where nothing has run yet, another is made, once. A server that allows fewer sessions than
    /// were asked for is asked again.
    async fn attempts(
        &self,
        request: &Request<'_>,
        rights: Rights,
        envelope: &Envelope,
        stdout: &mut (dyn AsyncWrite + Send + Unpin),
        stderr: &mut Vec<u8>,
    ) -> Result<Exit, TransportError> {
        // The semaphore is never closed, so there is always a turn.
        let _turn = self.turns.acquire().await;
        let (mut is_last, started) = (false, Instant::now());
        loop {
            let session = self.connection.session().await?;
            stderr.clear();
            let ended = match session.turn().await {
                Some(turn) => {
                    let ended = self
                        .attempt(&session, request, rights, envelope, stdout, stderr)
                        .await;
                    match ended {
                        Err(Broken::Full(error)) => {
                            session.refused(turn);
                            Err(Broken::Full(error))
                        }
                        other => other,
                    }
                }
                None => Err(Broken::Before(self.gone(&session))),
            };
            match ended {
                Ok(exit) => return Ok(exit),
                Err(Broken::Full(error)) if started.elapsed() > REFUSED_FOR_MAX => {
                    return Err(error);
                }
                Err(Broken::Full(_)) => {
                    let pause_ms = rand::random_range(20..120);
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
                Err(Broken::Before(_)) if !is_last => {
                    self.connection.forget(&session).await;
                    is_last = true;
                }
                Err(Broken::Login(_)) if !session.is_own => {
                    self.connection.forget(&session).await;
                }
                Err(Broken::Before(error) | Broken::Login(error) | Broken::After(error)) => {
                    self.connection.forget(&session).await;
                    return Err(error);
                }
            }
        }
    }

    async fn attempt(
        &self,
        session: &Session,
        request: &Request<'_>,
        rights: Rights,
        envelope: &Envelope,
        stdout: &mut (dyn AsyncWrite + Send + Unpin),
        stderr: &mut Vec<u8>,
    ) -> Result<Exit, Broken> {
        let answer = |error: std::io::Error| {
            Broken::After(TransportError::Answer {
                host: self.login.host.clone(),
                purpose: request.purpose.to_owned(),
                cause: error.to_string(),
            })
        };
        let log_bytes = session.log_bytes();
        let command = envelope.command(request.script, rights);
        let mut channel = session
            .start(&command, !request.stdin.is_empty())
            .await
            .map_err(|why| self.not_opened(session, why))?;
        let (mut input, mut output, mut errors) = channel.streams();
        let mut filter = envelope.filter(stdout);
        let feeding = async {
            match input.as_mut() {
                Some(pipe) => feed(request, pipe).await?,
                None => return Ok(()),
            }
            drop(input); // The script sees the end of its input.
            Ok(())
        };
        let copying = async {
            tokio::io::copy(&mut output, &mut filter).await?;
            filter.flush().await
        };
        tokio::try_join!(feeding, copying, keep_end(&mut errors, stderr)).map_err(answer)?;
        // Whether the script came to its end the envelope tells; this is the login shell's.
        let ended = channel.end().await.map_err(answer)?;
        let opened = envelope.open(&String::from_utf8_lossy(stderr));
        match (opened.status, filter.noise()) {
            (Some(_), Some(_)) if rights == Rights::Sudo => {
                Err(Broken::Login(self.without_sudo(&opened.stderr)))
            }
            (Some(status), _) => Ok(Exit {
                status,
                stderr: opened.stderr,
            }),
            (None, Some(_)) if ended.is_none() && !session.is_alive().await => {
                Err(Broken::Before(self.gone(session)))
            }
            (None, Some(noise)) => Err(self.not_begun(&opened, &noise, ended)),
            (None, None) => Err(Broken::After(TransportError::Lost {
                host: self.login.host.clone(),
                purpose: request.purpose.to_owned(),
                cause: match opened.stderr.as_str() {
                    "" => session
                        .last_word(log_bytes)
                        .unwrap_or_else(|| "the answer ends early".into()),
                    text => text.to_owned(),
                },
            })),
        }
    }

    /// Why a script was not even given to the login shell.
    fn not_opened(&self, session: &Session, why: NotOpened) -> Broken {
        let host = self.login.host.clone();
        match why {
            NotOpened::Gone => Broken::Before(self.gone(session)),
            NotOpened::Refused(said) => Broken::Full(TransportError::Unreachable {
                host,
                cause: format!(
                    "its SSH server opens no session: {said}; raise `MaxSessions` in its \
                     sshd_config (10 where nothing is said), and see that the login may have one"
                ),
            }),
            NotOpened::Failed(said) => Broken::Login(TransportError::Refused {
                host,
                cause: format!(
                    "its SSH connection can't be used from here: {said}; try `{}`",
                    self.login.command()
                ),
            }),
        }
    }

    /// Why a script has not begun: the login shell did something else.
    fn not_begun(&self, opened: &Opened, noise: &str, status: Option<i32>) -> Broken {
        let host = self.login.host.clone();
        let said = [noise, opened.stderr.as_str()];
        let said: Vec<&str> = said.into_iter().filter(|text| !text.is_empty()).collect();
        let by_hand = self.login.command();
        let cause = match (said.as_slice(), status) {
            // Not chsh, which lets nobody out of a shell that is not in /etc/shells.
            ([], Some(status)) => format!(
                "its login shell runs no commands: it ended with status {status} and without a word, as \
                 /bin/false does; as root there, give the login a shell (`usermod -s /bin/sh {}`), or \
                 take another login (`ssh.user`); try `{by_hand} true`",
                self.login.user.as_deref().unwrap_or("LOGIN")
            ),
            ([], None) => format!(
                "its login shell runs no commands: a signal ended it, without a word; try \
                 `{by_hand} true`"
            ),
            (said, _) => format!(
                "its login shell does not run commands: {}; try `{by_hand} true`",
                said.join("; ")
            ),
        };
        Broken::Login(TransportError::Refused { host, cause })
    }

    /// The connection has ended; its master may have said why.
    fn gone(&self, session: &Session) -> TransportError {
        let said = session.last_word(0);
        let said = said.map_or_else(String::new, |last| format!(": {last}"));
        TransportError::Unreachable {
            host: self.login.host.clone(),
            cause: format!(
                "its SSH connection has ended{said}; run this again, or try `{}`",
                self.login.command()
            ),
        }
    }
}

/// Why a script's end was not seen.
enum Broken {
    /// It has not begun: the connection is gone.
    Before(TransportError),
    /// It has not begun: the server has no place for another session now.
    Full(TransportError),
    /// It has not begun: the login can't run it.
    Login(TransportError),
    /// It has begun.
    After(TransportError),
}

impl Transport for SshTransport {
    fn host(&self) -> &str {
        &self.login.host
    }

    fn shell_command(&self) -> Option<Vec<String>> {
        Some(self.login.command_words())
    }

    fn try_again(&self) {
        self.connection.try_again();
    }

    fn execute<'a>(
        &'a self,
        request: Request<'a>,
        stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<Exit, TransportError>> {
        let rights = self.rights.get().copied().unwrap_or(Rights::Best);
        Box::pin(async move { self.execute_as(&request, rights, stdout).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What is told of a script that took too long is what the script said, and no mark of ours.
    #[test]
    fn a_late_script_shows_its_own_words() {
        let login = Login::to("n1", "/d/ssh_config".into());
        let transport = SshTransport::new(login, Duration::from_secs(1));
        let envelope = Envelope::new();
        // The real marks, from a real shell that ends before the script does.
        let command = envelope.command("echo half a word >&2; kill -9 $PPID", Rights::Login);
        let output = std::process::Command::new("sh")
            .args(["-c", &command])
            .output();
        let stderr = output.unwrap().stderr;
        assert!(String::from_utf8_lossy(&stderr).contains("raftctl-"));
        let request = Request::new("run the command", "sleep 5", Duration::from_secs(1));
        let said = transport.late(&request, &envelope, &stderr).to_string();
        assert!(
            said.contains("half a word") && !said.contains("raftctl-"),
            "{said}"
        );
        let silent = format!("{}", transport.late(&request, &envelope, b""));
        assert!(!silent.contains("raftctl-"), "{silent}");
    }

    // A login that runs no commands is told with what it said, or that it said nothing; a connection that
    // has ended, or has no place for another session, is something else.
    #[test]
    fn what_has_not_begun_says_why() {
        let login = Login::to("n1", "/d/ssh_config".into());
        let transport = SshTransport::new(login, Duration::from_secs(1));
        let session = Session::new("/nowhere".into(), true);
        let told = |kind| match kind {
            Broken::Before(error) => format!("before {error}"),
            Broken::Full(error) => format!("full {error}"),
            Broken::Login(error) => format!("login {error}"),
            Broken::After(error) => format!("after {error}"),
        };
        let why = |stderr: &str, noise: &str, status| {
            let opened = Opened {
                status: None,
                stderr: stderr.into(),
            };
            told(transport.not_begun(&opened, noise, status))
        };
        let silent = why("", "", Some(1));
        assert!(
            silent
                .starts_with("login n1: its login shell runs no commands: it ended with status 1"),
            "{silent}"
        );
        assert!(
            silent.contains("/bin/false") && silent.contains("try `ssh -F"),
            "{silent}"
        );
        let nologin = why("", "This account is not available.", Some(1));
        assert!(
            nologin.contains("commands: This account is not available.; try"),
            "{nologin}"
        );
        let csh = why("Word too long.", "", Some(1));
        assert!(csh.contains("commands: Word too long.; try"), "{csh}");
        let killed = why("", "", None);
        assert!(killed.contains("commands: a signal ended it"), "{killed}");
        let gone = told(transport.not_opened(&session, NotOpened::Gone));
        assert!(
            gone.starts_with("before n1: cannot be reached: its SSH connection has ended;"),
            "{gone}"
        );
        let refused = NotOpened::Refused("Session open refused by peer".into());
        let full = told(transport.not_opened(&session, refused));
        assert!(
            full.starts_with("full n1:")
                && full.contains("Session open refused by peer; raise `MaxSessions`"),
            "{full}"
        );
        let failed = NotOpened::Failed("Too many open files".into());
        let failed = told(transport.not_opened(&session, failed));
        assert!(
            failed.starts_with("login n1:") && failed.contains("Too many open files; try"),
            "{failed}"
        );
    }
}
