//! One open connection: a folder of this user's with the socket of its master, the master's log and
//! what is known of how many sessions the server allows.
//!
//! The operator's `~/.ssh/config` says how a connection is made, and nothing of what runs over it. Commands
//! need no `ssh` (see `channel`). Where one is needed, for a tunnel or a word to the master, it has no
//! configuration. Where the master is gone, it would go on by itself and connect anew; a way that leads
//! nowhere keeps it from that.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::channel::{Channel, NotOpened};

/// Sessions at a time over one connection, by all processes together; sshd allows ten.
pub const SESSIONS_MAX: usize = 8;

/// How long a master is waited for that has to say something itself.
const MASTER_DEADLINE: Duration = Duration::from_secs(2);

/// A connection that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    folder: PathBuf,
    /// Whether this process has logged in for it.
    pub is_own: bool,
}

impl Session {
    /// The connection whose master was started in a folder.
    #[must_use]
    pub fn new(folder: PathBuf, is_own: bool) -> Self {
        Session { folder, is_own }
    }

    /// The folder of a connection.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The socket of a master, in the folder of its connection.
    #[must_use]
    pub fn socket_in(folder: &Path) -> PathBuf {
        folder.join("master")
    }

    /// Where a master writes what goes wrong.
    #[must_use]
    pub fn log_in(folder: &Path) -> PathBuf {
        folder.join("log")
    }

    /// `ssh` over this connection, without any configuration and in a group of its own: Ctrl-C reaches
    /// raftctl alone, which decides what is undone.
    #[must_use]
    pub fn ssh(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-F", "/dev/null", "-S"])
            .arg(Session::socket_in(&self.folder))
            .args(["-o", "BatchMode=yes", "-o", "ProxyCommand=false"])
            .args(words)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Starts a command of the host's login shell.
    ///
    /// # Errors
    /// It was not started.
    pub async fn start(&self, text: &str, has_input: bool) -> Result<Channel, NotOpened> {
        Channel::open(&Session::socket_in(&self.folder), text, has_input).await
    }

    /// Whether its master answers.
    pub async fn is_alive(&self) -> bool {
        self.tell_master("check").await
    }

    /// Has its master take no one in any more; it ends after those that it has.
    pub async fn retire(&self) {
        if std::os::unix::net::UnixStream::connect(Session::socket_in(&self.folder)).is_ok() {
            // One that does not even answer ends by itself when its line is dead.
            self.tell_master("stop").await;
        }
    }

    async fn tell_master(&self, what: &str) -> bool {
        let mut command = self.ssh(&["-O", what, "none"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let told = tokio::time::timeout(MASTER_DEADLINE, command.status()).await;
        told.is_ok_and(|status| status.is_ok_and(|status| status.success()))
    }

    /// What the master has written since its log was `from` bytes long.
    #[must_use]
    pub fn log_since(&self, from: u64) -> String {
        let log = std::fs::read(Session::log_in(&self.folder)).unwrap_or_default();
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(log.len());
        String::from_utf8_lossy(&log[from..]).trim().to_owned()
    }

    /// The last line that the master has written since its log was `from` bytes long.
    #[must_use]
    pub fn last_word(&self, from: u64) -> Option<String> {
        let log = self.log_since(from);
        log.lines().next_back().map(str::to_owned)
    }

    /// How long its log is.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(Session::log_in(&self.folder)).map_or(0, |found| found.len())
    }

    /// Waits for a turn: only so many sessions at a time, whichever process they belong to. `None` where
    /// the connection is gone.
    pub async fn turn(&self) -> Option<Turn> {
        loop {
            let sessions_max = self.sessions_max();
            for number in 0..sessions_max {
                let file = File::create(self.folder.join(format!("turn-{number}"))).ok()?;
                if file.try_lock().is_ok() {
                    return Some(Turn {
                        _lock: file,
                        sessions_max,
                    });
                }
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(5..30))).await;
        }
    }

    fn sessions_max(&self) -> usize {
        let text = std::fs::read_to_string(self.limit_file()).unwrap_or_default();
        let known = text.trim().parse().unwrap_or(SESSIONS_MAX);
        known.clamp(1, SESSIONS_MAX)
    }

    fn limit_file(&self) -> PathBuf {
        self.folder.join("sessions_max")
    }

    /// Notes that the server refused the session of a turn: it allows one less than there were.
    pub fn refused(&self, turn: Turn) {
        let fewer = self.sessions_max().min(turn.sessions_max).max(2) - 1;
        // Whoever else is refused writes it again.
        let _ = std::fs::write(self.limit_file(), fewer.to_string());
    }
}

/// A turn over a connection; others get it when this is dropped.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
    sessions_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    // Nothing of what an operator has configured for all hosts reaches an ssh over a connection, and
    // a master that is gone is not replaced behind our back.
    #[test]
    fn sessions_have_no_configuration() {
        let session = Session::new("/tmp/x".into(), true);
        let command = session.ssh(&["-W", "n1:7500", "none"]);
        let words: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(
            words,
            [
                "-F",
                "/dev/null",
                "-S",
                "/tmp/x/master",
                "-o",
                "BatchMode=yes",
                "-o",
                "ProxyCommand=false",
                "-W",
                "n1:7500",
                "none"
            ]
        );
    }

    // Turns are a connection's, whoever asks; a server that allows fewer is asked for fewer from then
    // on, but for one at least.
    #[tokio::test]
    async fn turns_are_a_connection_s() {
        const SOON: Duration = Duration::from_millis(200);
        let folder = tempfile::tempdir().unwrap();
        let one = Session::new(folder.path().into(), true);
        let other = Session::new(folder.path().into(), false);
        let mut turns = Vec::new();
        for _ in 0..SESSIONS_MAX {
            turns.push(one.turn().await.unwrap());
        }
        assert!(tokio::time::timeout(SOON, other.turn()).await.is_err());
        for _ in 1..SESSIONS_MAX {
            other.refused(turns.pop().unwrap());
        }
        assert!(tokio::time::timeout(SOON, other.turn()).await.is_err());
        drop(turns);
        other.refused(one.turn().await.unwrap());
        assert_eq!(one.turn().await.unwrap().sessions_max, 1);
        drop(folder);
        assert!(one.turn().await.is_none());
    }
}
