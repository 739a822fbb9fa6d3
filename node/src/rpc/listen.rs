//! Listening sockets: bound once, with a bound on connections, without delay for small packets.
//!
//! A connection has its place from the moment it is taken. It keeps the place only if it begins
//! as HTTP/2 does, and soon: so whoever connects and says nothing locks nobody out. What it does
//! later is watched by the pings of HTTP/2.

use rustix::net::sockopt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Wait after a connection could not be taken: the machine is out of files, most likely.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What a client says first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// For the preface, from the moment the connection is taken. It comes with the first packet, so
/// this leaves room for one that is lost again and again.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// When the kernel asks whether the other end is still there, how often and how many times: for
/// a connection on which HTTP/2 does not ask, because it is being closed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 4;

/// A bound socket.
#[derive(Debug)]
pub struct Listen {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

/// A connection, and its place.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// What was taken out of the stream already and has to be read first.
    taken: &'static [u8],
    _place: OwnedSemaphorePermit,
}

impl Listen {
    /// Binds `host:port`, with places for so many connections at a time; further ones wait in the
    /// kernel's queue.
    pub async fn bind(address: &str, places: usize) -> io::Result<Self> {
        Ok(Listen {
            listener: TcpListener::bind(address).await?,
            room: Arc::new(Semaphore::new(places)),
        })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// The connections as they come. The socket is closed when the stream is dropped.
    pub(super) fn connections(self) -> ReceiverStream<io::Result<Connection>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept_all(&sender) => {}
                () = sender.closed() => {}
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn accept_all(&self, connections: &Sender<io::Result<Connection>>) {
        loop {
            let Ok(place) = Arc::clone(&self.room).acquire_owned().await else {
                return; // Never closed while this runs.
            };
            match self.listener.accept().await {
                // In a task of its own: who is slow with the first words keeps nobody waiting.
                Ok((stream, _)) => {
                    tokio::spawn(admit(stream, place, connections.clone()));
                }
                Err(error) => {
                    tracing::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }
}

/// Passes a connection on once it has begun as it must; drops it, and its place, if not.
async fn admit(
    mut stream: TcpStream,
    place: OwnedSemaphorePermit,
    connections: Sender<io::Result<Connection>>,
) {
    match tokio::time::timeout(PREFACE_TIMEOUT, begin(&mut stream)).await {
        Ok(Ok(())) => {
            let connection = Connection {
                stream,
                taken: PREFACE,
                _place: place,
            };
            // Nobody serves any more: then it is dropped.
            drop(connections.send(Ok(connection)).await);
        }
        Ok(Err(error)) => tracing::debug!("a connection ended before it began: {error}"),
        Err(_) => tracing::debug!("a connection without a word was dropped"),
    }
}

async fn begin(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&*stream, true)?;
    sockopt::set_tcp_keepidle(&*stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&*stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&*stream, KEEPALIVE_PROBES)?;
    let mut first = [0; PREFACE.len()];
    stream.read_exact(&mut first).await?;
    match first == *PREFACE {
        true => Ok(()),
        false => Err(io::Error::other("it does not speak HTTP/2")),
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.taken.is_empty() {
            let count = self.taken.len().min(buffer.remaining());
            let (now, later) = self.taken.split_at(count);
            buffer.put_slice(now);
            self.taken = later;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
