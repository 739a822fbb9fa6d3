//! Scripts over SSH.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use openssh::{Session, Stdio};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::connection::Connection;
use super::envelope::{Envelope, Rights};
use super::login::Login;
use crate::hosts::local::keep_end;
use crate::hosts::{BoxFuture, Exit, Request, Transport, TransportError, feed};

/// Scripts that run at a time over one connection; sshd allows ten.
const SCRIPTS_MAX: usize = 8;

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
            turns: Semaphore::new(SCRIPTS_MAX),
        }
    }

    /// How the host is reached.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// The control socket of a connection to the host; the connection is made if there is none, or
    /// if the one from before is dead.
    ///
    /// # Errors
    /// The host can't be reached, or refuses.
    pub async fn control_socket(&self) -> Result<PathBuf, TransportError> {
        let session = self.connection.session().await?;
        if session.check().await.is_ok() {
            return Ok(session.control_socket().to_owned());
        }
        self.connection.forget(&session).await;
        let session = self.connection.session().await?;
        Ok(session.control_socket().to_owned())
    }

    /// Decides with whose rights scripts run from now on. Without this, each finds out by itself.
    pub(super) fn set_rights(&self, rights: Rights) {
        // The first who finds out is as right as the second.
        let _ = self.rights.set(rights);
    }

    /// As [`Transport::execute`], with rights of its own.
    ///
    /// # Errors
    /// As [`Transport::execute`].
    pub(super) async fn execute_as(
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

    /// A connection that was left from before may turn out to be dead. Where nothing has run yet,
    /// another is made, once.
    async fn attempts(
        &self,
        request: &Request<'_>,
        rights: Rights,
        envelope: &Envelope,
        stdout: &mut (dyn AsyncWrite + Send + Unpin),
        stderr: &mut Vec<u8>,
    ) -> Result<Exit, TransportError> {
        let mut is_last = false;
        loop {
            let session = self.connection.session().await?;
            // The semaphore is never closed, so there is always a turn.
            let _turn = self.turns.acquire().await;
            stderr.clear();
            match self
                .attempt(&session, request, rights, envelope, stdout, stderr)
                .await
            {
                Ok(exit) => return Ok(exit),
                Err(Broken::Before(_)) if !is_last => {
                    self.connection.forget(&session).await;
                    is_last = true;
                }
                Err(Broken::Before(error)) => return Err(error),
                Err(Broken::After(error)) => {
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
        let unreachable = |cause: String| {
            let host = self.login.host.clone();
            Broken::Before(TransportError::Unreachable { host, cause })
        };
        let has_input = !request.stdin.is_empty();
        let mut child = session
            .raw_command(envelope.command(request.script, rights))
            .stdin(if has_input {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let mut input = child.stdin().take();
        let mut output = child.stdout().take().expect("stdout was asked to be piped");
        let mut errors = child.stderr().take().expect("stderr was asked to be piped");
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
        // Its exit status can't be told from a broken connection's; the envelope has the script's.
        let _ = child.wait().await;
        let opened = envelope.open(&String::from_utf8_lossy(stderr));
        match (opened.status, filter.noise()) {
            (Some(_), Some(_)) if rights == Rights::Sudo => {
                Err(Broken::Before(self.without_sudo(&opened.stderr)))
            }
            (Some(status), _) => Ok(Exit {
                status,
                stderr: opened.stderr,
            }),
            (_, Some(noise)) if noise.is_empty() => Err(unreachable(opened.stderr)),
            (_, Some(noise)) => Err(unreachable(format!(
                "its login shell does not run commands: {noise}; try `{} true`",
                self.login.command()
            ))),
            (None, None) => Err(Broken::After(TransportError::Lost {
                host: self.login.host.clone(),
                purpose: request.purpose.to_owned(),
                cause: match opened.stderr.as_str() {
                    "" => "the answer ends early".to_owned(),
                    text => text.to_owned(),
                },
            })),
        }
    }
}

/// Why a script's end was not seen.
enum Broken {
    /// It has not begun.
    Before(TransportError),
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
        let login = Login {
            host: "n1".into(),
            destination: "n1".into(),
            user: None,
            port: None,
            identity_file: None,
            jump: None,
            config_file: "/d/ssh_config".into(),
        };
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
}
