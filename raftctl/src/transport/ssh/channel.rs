//! A command that runs over a connection, as a channel of its own.
//!
//! The crate `openssh` speaks to the master's socket itself (its `native-mux`). No `ssh` is started for it,
//! which would read the operator's configuration (a `RemoteCommand` or `LocalForward` for all hosts would
//! be each script's as well), and would connect anew by itself where the master is gone. Whoever drops a
//! channel closes it: the command sees the end of its input, and nobody reads what it still says.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openssh::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use openssh_mux_client::Error as MuxError;

/// How often a master that others are crowding around is asked, and how long apart.
const TRIES_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// A command that was started.
pub struct Channel {
    child: openssh::Child<Arc<openssh::Session>>,
}

/// Why a command was not started.
#[derive(Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// Nobody is at the socket any more, or the connection ended meanwhile.
    Gone,
    /// The server opens no other session now, in its master's words.
    Refused(String),
    /// Something is wrong on this machine.
    Failed(String),
}

impl Channel {
    /// Has the host's login shell run a command, over the connection whose master has this socket.
    ///
    /// # Errors
    /// It was not started.
    pub async fn open(socket: &Path, text: &str, has_input: bool) -> Result<Channel, NotOpened> {
        let master = Arc::new(openssh::Session::resume_mux(socket.into(), None));
        let mut tried = 0;
        loop {
            let mut command = Arc::clone(&master).arc_raw_command(text);
            let input = match has_input {
                true => Stdio::piped(),
                false => Stdio::null(),
            };
            command.stdin(input);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            tried += 1;
            match command.spawn().await {
                Ok(child) => return Ok(Channel { child }),
                Err(error) if is_crowded(&error) && tried < TRIES_MAX => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(not_opened(error)),
            }
        }
    }

    /// The command's input, if it has any, and its two outputs; once.
    ///
    /// # Panics
    /// They were taken before.
    pub fn streams(&mut self) -> (Option<ChildStdin>, ChildStdout, ChildStderr) {
        let input = self.child.stdin().take();
        let output = self.child.stdout().take();
        let errors = self.child.stderr().take();
        let (output, errors) = output
            .zip(errors)
            .expect("outputs are piped, and taken once");
        (input, output, errors)
    }

    /// Waits for the end of the command, whose outputs have been read to theirs, and gives its status;
    /// `None` where a signal or the end of the connection was its end.
    ///
    /// # Errors
    /// The master says something else.
    pub async fn end(self) -> std::io::Result<Option<i32>> {
        match self.child.wait().await {
            Ok(status) => Ok(status.code()),
            // The crate takes this status for a command that is not there.
            Err(openssh::Error::Remote(error)) if error.kind() == ErrorKind::NotFound => {
                Ok(Some(127))
            }
            Err(openssh::Error::RemoteProcessTerminated | openssh::Error::Disconnected) => Ok(None),
            Err(error) => Err(std::io::Error::other(in_full(&error))),
        }
    }
}

/// Whether more are waiting at the socket than the kernel lets wait; the master is there.
fn is_crowded(error: &openssh::Error) -> bool {
    matches!(error, openssh::Error::SshMux(MuxError::IOError(error)) if error.kind() == ErrorKind::WouldBlock)
}

fn not_opened(error: openssh::Error) -> NotOpened {
    match error {
        openssh::Error::Disconnected => NotOpened::Gone,
        openssh::Error::SshMux(MuxError::IOError(error))
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
            ) =>
        {
            NotOpened::Gone
        }
        openssh::Error::SshMux(
            MuxError::RequestFailure(reason) | MuxError::PermissionDenied(reason),
        ) => NotOpened::Refused(reason.into()),
        error => NotOpened::Failed(in_full(&error)),
    }
}

/// An error with what is behind it.
fn in_full(error: &openssh::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    const HELLO: u32 = 1;
    const VERSION: u32 = 4;
    const FAILURE: u32 = 0x8000_0003;

    fn packet(numbers: &[u32], text: Option<&str>) -> Vec<u8> {
        let mut body: Vec<u8> = numbers.iter().flat_map(|word| word.to_be_bytes()).collect();
        if let Some(text) = text {
            body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            body.extend(text.as_bytes());
        }
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length, &body[..]].concat()
    }

    async fn read_packet(stream: &mut UnixStream) -> Vec<u8> {
        let length = stream.read_u32().await.unwrap();
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.unwrap();
        body
    }

    /// Greets as a master does, hears what is to run, and says this; then it goes.
    async fn play_master(listener: &UnixListener, reply: &[u8]) -> Vec<u8> {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_packet(&mut stream).await;
        let hello = packet(&[HELLO, VERSION], None);
        stream.write_all(&hello).await.unwrap();
        let asked = read_packet(&mut stream).await;
        // Each stream comes with a byte of its own, and nothing is read past it.
        for _ in 0..3 {
            stream.read_u8().await.unwrap();
        }
        stream.write_all(reply).await.unwrap();
        asked
    }

    // A server that opens no session now, a master that ends meanwhile, one that is dead, and one that
    // never was are told apart: the first is asked again, the others are not. The command goes as it is.
    #[tokio::test]
    async fn a_refused_session_is_not_a_dead_master() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("master");
        let open = || async {
            let opened = Channel::open(&socket, "exec sh 'a  b'", true).await;
            opened.err().unwrap()
        };
        assert_eq!(open().await, NotOpened::Gone);
        let listener = UnixListener::bind(&socket).unwrap();
        let why = "Session open refused by peer";
        let refusal = packet(&[FAILURE, 0], Some(why));
        let (error, asked) = tokio::join!(open(), play_master(&listener, &refusal));
        assert_eq!(error, NotOpened::Refused(why.into()));
        assert!(asked.ends_with(b"exec sh 'a  b'"), "{asked:?}");
        let (error, _) = tokio::join!(open(), play_master(&listener, b""));
        assert_eq!(error, NotOpened::Gone);
        drop(listener);
        assert_eq!(open().await, NotOpened::Gone);
    }

    // More calls at once than the kernel lets wait at a socket are no sign of a dead master.
    #[tokio::test]
    async fn a_crowded_master_is_waited_for() {
        use rustix::net;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("master");
        let listening = net::socket(net::AddressFamily::UNIX, net::SocketType::STREAM, None);
        let listening = listening.unwrap();
        let address = net::SocketAddrUnix::new(&socket).unwrap();
        net::bind(&listening, &address).unwrap();
        net::listen(&listening, 0).unwrap();
        let listener = std::os::unix::net::UnixListener::from(listening);
        let first = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let crowd = async {
            tokio::time::sleep(PAUSE * 2).await;
            drop(listener.accept().await.unwrap());
            drop(first);
            play_master(&listener, &packet(&[FAILURE, 0], Some("full"))).await
        };
        let (opened, _) = tokio::join!(Channel::open(&socket, "true", false), crowd);
        assert_eq!(opened.err(), Some(NotOpened::Refused("full".into())));
    }
}
