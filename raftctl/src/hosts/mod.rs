//! Hosts: anything that runs a POSIX shell script.
//!
//! A host is reached through a [`Transport`], and a transport does one thing: it runs a script
//! with bytes on its standard input, and hands back what the script wrote and how it ended. All
//! knowledge of nodes (how one is started, found, killed, paused) lives in [`scripts`], as pure
//! functions from a [`layout::NodeLayout`] to the text of a script, and in [`control`], which runs
//! them and reads their answers. So a provider is a transport and a way to come by hosts, and
//! nothing about nodes is written twice.
//!
//! ```text
//! local ssh/              transports: this machine, and any other
//! docker/ gcp/            making hosts: containers, machines in a cloud; then ssh
//! inventory layout        the hosts of a cluster; where things are on each
//! absent                  a host that can't be talked to, with the reason
//! scripts control         nodes: found, started, signalled    unit     the same under systemd
//! ship                    binaries: sent, verified, switched to
//! guard                   one operator at a time              filter   packet filters that heal
//! ```
//!
//! # What a transport owes
//!
//! - The script is given to `sh -c` as one argument, never through a second shell that would
//!   expand it again, and never on standard input, which belongs to [`Request::stdin`].
//! - Standard input is closed after the bytes. It is always redirected: a script never reads the
//!   terminal of the operator.
//! - The working directory and the environment of a script are not defined; scripts use absolute
//!   paths. `PATH` holds the usual system directories.
//! - A process that a script leaves behind (`setsid ... &`, with its output redirected) outlives
//!   the script, the connection and raftctl, and does not keep [`Transport::execute`] waiting.
//! - [`Transport::execute`] returns within [`Request::deadline`], whatever the host does, and ends
//!   the script (locally) or the connection's session (remotely) when it gives up.
//! - Dropping the future gives up in the same way. Scripts can be run again: each is idempotent.
//! - A script says itself how it fared: its last line is [`scripts::END`]. An exit status of zero
//!   without that line is a lost connection, which is how a command that was killed by a signal
//!   looks through some transports.
//! - Several requests may run at once. A transport that can't do that queues them.
//!
//! What is deliberately absent: sessions, terminals, file copies. A file travels as standard
//! input to `cat`, or as standard output of it.

pub mod absent;
pub mod control;
pub mod docker;
pub mod filter;
pub mod gcp;
pub mod guard;
pub mod inventory;
pub mod layout;
pub mod local;
pub mod scripts;
pub mod ship;
pub mod ssh;
pub mod unit;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A future on the heap, so that transports of different kinds share one trait.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a script may answer at most, where its answer is kept in memory. Scripts of raftctl answer
/// some hundred bytes a node; files are streamed instead.
pub const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// What is kept of a script's standard error: its end, where the cause is said.
pub const STDERR_BYTES_MAX: usize = 64 << 10;

/// One script to run on a host.
#[derive(Clone)]
pub struct Request<'a> {
    /// What is being done, for messages: "start node 3".
    pub purpose: &'a str,
    /// The POSIX shell script.
    pub script: &'a str,
    /// Its standard input, whole. Shared, since the same binary goes to many hosts.
    pub stdin: Arc<[u8]>,
    /// How long the script may take, connecting included.
    pub deadline: Duration,
    /// Is told how many bytes of [`Self::stdin`] have been handed over so far.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
}

impl<'a> Request<'a> {
    /// A script without standard input.
    #[must_use]
    pub fn new(purpose: &'a str, script: &'a str, deadline: Duration) -> Self {
        Request {
            purpose,
            script,
            stdin: Arc::from([]),
            deadline,
            progress: None,
        }
    }

    /// The same with bytes on standard input.
    #[must_use]
    pub fn with_stdin(mut self, stdin: Arc<[u8]>) -> Self {
        self.stdin = stdin;
        self
    }

    /// The same with someone who watches the upload.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status; 128 + n where signal n ended it and the transport can tell.
    pub status: i32,
    /// The end of its standard error, at most [`STDERR_BYTES_MAX`].
    pub stderr: String,
}

/// How a script ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// Its standard output; invalid UTF-8 is replaced.
    pub stdout: String,
    /// The end of its standard error.
    pub stderr: String,
}

/// Why a script's answer is missing. None of these is an exit status other than zero: that is the
/// script's own answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// Nothing has run. Trying again is safe and may help.
    #[error("{host}: cannot be reached: {cause}")]
    Unreachable {
        /// The host, as the operator knows it.
        host: String,
        /// What stood in the way.
        cause: String,
    },
    /// The host is there but must not be talked to: its key changed, or it refuses the login.
    /// Trying again does not help; a person has to act.
    #[error("{host}: {cause}")]
    Refused {
        /// The host, as the operator knows it.
        host: String,
        /// What is wrong, and the way out.
        cause: String,
    },
    /// The connection broke after the script was handed over. What it did is not known; scripts
    /// are idempotent, so run it again.
    #[error("{host}: connection lost while: {purpose}: {cause}")]
    Lost {
        /// The host, as the operator knows it.
        host: String,
        /// [`Request::purpose`].
        purpose: String,
        /// What broke.
        cause: String,
    },
    /// The deadline is over. What the script did is not known.
    #[error("{host}: no answer within {} ms while: {purpose}{}", deadline.as_millis(), said(stderr))]
    Deadline {
        /// The host, as the operator knows it.
        host: String,
        /// [`Request::purpose`].
        purpose: String,
        /// [`Request::deadline`].
        deadline: Duration,
        /// What the script had said on standard error by then.
        stderr: String,
    },
    /// The answer is larger than its bound, or could not be written where it should go.
    #[error("{host}: the answer could not be taken while: {purpose}: {cause}")]
    Answer {
        /// The host, as the operator knows it.
        host: String,
        /// [`Request::purpose`].
        purpose: String,
        /// What is wrong.
        cause: String,
    },
}

fn said(stderr: &str) -> String {
    match stderr.trim() {
        "" => "; `raftctl doctor` waits longer, and tells the cause".into(),
        text => format!("; it said: {text}"),
    }
}

/// A way to run scripts on one host. The module's documentation holds the contract.
pub trait Transport: Send + Sync {
    /// The host's name, as the operator knows it.
    fn host(&self) -> &str;

    /// The command that opens a shell there, where one has to log in for that.
    fn shell_command(&self) -> Option<Vec<String>> {
        None
    }

    /// Runs a script and streams its standard output to `stdout`.
    ///
    /// # Errors
    /// When the script's end could not be seen. An exit status other than zero is no error here.
    fn execute<'a>(
        &'a self,
        request: Request<'a>,
        stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<Exit, TransportError>>;
}

impl dyn Transport {
    /// Runs a script and keeps its standard output, at most [`OUTPUT_BYTES_MAX`].
    ///
    /// # Errors
    /// Those of [`Transport::execute`], and [`TransportError::Answer`] beyond the bound.
    pub async fn run(&self, request: Request<'_>) -> Result<Output, TransportError> {
        let mut stdout = Capped(Vec::new());
        let exit = self.execute(request, &mut stdout).await?;
        Ok(Output {
            status: exit.status,
            stdout: String::from_utf8_lossy(&stdout.0).into_owned(),
            stderr: exit.stderr,
        })
    }
}

/// A buffer that refuses to grow beyond [`OUTPUT_BYTES_MAX`].
struct Capped(Vec<u8>);

impl AsyncWrite for Capped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            let message = format!("more than {OUTPUT_BYTES_MAX} bytes");
            return std::task::Poll::Ready(Err(std::io::Error::other(message)));
        }
        self.0.extend_from_slice(bytes);
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// Writes a request's standard input to `pipe` in pieces, telling its watcher. Shared by the
/// transports that own a pipe. A reader that goes away early is no error: the script has decided
/// that it has seen enough, and its exit status says why.
pub(crate) async fn feed(
    request: &Request<'_>,
    pipe: &mut (dyn AsyncWrite + Send + Unpin),
) -> std::io::Result<()> {
    const PIECE_BYTES: usize = 64 << 10;
    let mut sent: u64 = 0;
    for piece in request.stdin.chunks(PIECE_BYTES) {
        match pipe.write_all(piece).await {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
        sent += piece.len() as u64;
        if let Some(progress) = request.progress {
            progress(sent);
        }
    }
    match pipe.shutdown().await {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
