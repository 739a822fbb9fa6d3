//! The way to a host: anything that runs a POSIX shell script.
//!
//! A [`Transport`] does one thing: it runs a script with bytes on its standard input, and hands back
//! what the script wrote and how it ended. It knows nothing of nodes.
//!
//! ```text
//! local         this machine                ssh/   any other
//! unreachable   a host that can't be talked to, with the reason
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
//! - A script says itself how it fared: its last line is [`END`]. An exit status of zero
//!   without that line is a lost connection, which is how a command that was killed by a signal
//!   looks through some transports.
//! - Several requests may run at once. A transport that can't do that queues them.
//!
//! What is deliberately absent: sessions, terminals, file copies. A file travels as standard
//! input to `cat`, or as standard output of it.

#[cfg(test)]
pub mod fake;
pub mod local;
pub mod ssh;
pub mod unreachable;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::error::TransportError;

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

    /// Gives the script bytes on standard input.
    #[must_use]
    pub fn with_stdin(mut self, stdin: Arc<[u8]>) -> Self {
        self.stdin = stdin;
        self
    }

    /// Tells someone how much of the standard input has been handed over.
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

/// A way to run scripts on one host. The module's documentation holds the contract.
pub trait Transport: Send + Sync {
    /// The host's name, as the operator knows it.
    fn host(&self) -> &str;

    /// The command that opens a shell there, where one has to log in for that.
    fn shell_command(&self) -> Option<Vec<String>> {
        None
    }

    /// Lets the next script try to reach a host that could not be reached just now, for whoever waits for it. Else it
    /// is left alone for a while.
    fn try_again(&self) {}

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
