//! Dialing a peer: a connection counts once the peer has taken this node's certificate.
//!
//! In TLS 1.3 whoever dials is done before the other side has judged its certificate. So nothing but
//! HTTP/2's preface is sent until the peer has spoken, and a refusal is seen here, by its name.

use super::Tls;
use super::refused::{Cause, Refused, refused};
use super::verifier::{Port, owner};
use super::watch::seconds;
use crate::access::Subject;
use crate::raft::NodeId;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codegen::http::Uri;
use tonic::codegen::{BoxFuture, Service};

type Failed = Box<dyn Error + Send + Sync>;

/// For the handshake, and the first word: as long as a keepalive's.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a client says first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Dials one peer.
#[derive(Clone, Debug)]
pub struct Dial {
    tls: Arc<Tls>,
    peer: NodeId,
    connect_timeout: Duration,
    /// The next try is one without TLS: the peer may not have it yet.
    clear_next: Arc<AtomicBool>,
    /// When the certificate ends that the peer has shown last, in seconds since 1970; 0: none.
    peer_ends: Arc<AtomicU64>,
}

/// A connection to a peer, on which the preface was sent already.
#[derive(Debug)]
pub struct Dialed {
    stream: Way,
    /// What the library still has to hand over of the preface; it is not sent a second time.
    preface_left: usize,
}

#[derive(Debug)]
enum Way {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Tls {
    /// To dial a peer with.
    pub fn dial(self: &Arc<Self>, peer: NodeId, connect_timeout: Duration) -> Dial {
        Dial {
            tls: Arc::clone(self),
            peer,
            connect_timeout,
            clear_next: Arc::default(),
            peer_ends: Arc::default(),
        }
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Dialed>;
    type Error = Failed;
    type Future = BoxFuture<TokioIo<Dialed>, Failed>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { Ok(TokioIo::new(dial.connect(uri).await?)) })
    }
}

impl Dial {
    /// Gets word when another certificate is in use, or other authorities are trusted.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.tls.changes()
    }

    /// Waits for the end of the certificate that the peer has shown.
    pub async fn peer_ends(&self) {
        loop {
            let ends = self.peer_ends.load(Ordering::Relaxed);
            let now = seconds(SystemTime::now());
            if ends > 0 && ends <= now {
                return;
            }
            // The clock may be set meanwhile.
            tokio::time::sleep(Duration::from_secs(ends.saturating_sub(now).clamp(1, 60))).await;
        }
    }

    async fn connect(&self, uri: Uri) -> Result<Dialed, Failed> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(self.connect_timeout));
        std::future::poll_fn(|context| http.poll_ready(context)).await?;
        let stream = http.call(uri).await?.into_inner();
        if self.clear_next.swap(false, Ordering::Relaxed) {
            self.peer_ends.store(0, Ordering::Relaxed);
            return Ok(Dialed {
                stream: Way::Clear(stream),
                preface_left: 0,
            });
        }
        let dialed = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.shake_hands(stream));
        let failed: io::Error = match dialed.await {
            Ok(Ok(dialed)) => return Ok(dialed),
            Ok(Err(error)) => refused(&error).map_or(error, io::Error::other),
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        self.clear_next
            .store(self.tls.settings.optional, Ordering::Relaxed);
        Err(failed.into())
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<Dialed> {
        let tls = &self.tls;
        let name = ServerName::try_from(tls.cluster.dns_of(self.peer));
        let name = name.map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&tls.loaded.load().dial));
        let mut stream = connector.connect(name, stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let owner = chain.first().map(|own| owner(own, &tls.cluster));
        let owner = owner.and_then(Result::ok);
        let ends = owner.as_ref().map_or(0, |owner| owner.ends);
        let subject = owner.map(|owner| owner.subject);
        let is_peer = |subject: &Subject| Port::Peers.takes(subject, tls.id);
        if subject.clone().filter(is_peer) != Some(Subject::Node(self.peer)) {
            let detail = format!("it is not that of node {}", self.peer);
            let cause = Cause::WrongName;
            return Err(io::Error::other(Refused { cause, detail }));
        }
        stream.write_all(PREFACE).await?;
        stream.flush().await?;
        if stream.fill_buf().await?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let ends = u64::try_from(ends).unwrap_or(0);
        self.peer_ends.store(ends, Ordering::Relaxed);
        Ok(Dialed {
            stream: Way::Tls(Box::new(stream)),
            preface_left: PREFACE.len(),
        })
    }
}

impl Dialed {
    /// Swallows what is left of the preface in `bytes`; how much that was, if any.
    fn swallow(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        if self.preface_left == 0 || bytes.is_empty() {
            return None;
        }
        let count = bytes.len().min(self.preface_left);
        let from = PREFACE.len() - self.preface_left;
        if bytes[..count] != PREFACE[from..from + count] {
            let why = "the library does not begin with HTTP/2's preface";
            return Some(Err(io::Error::other(why)));
        }
        self.preface_left -= count;
        Some(Ok(count))
    }
}

impl AsyncRead for Dialed {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Way::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Way::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(done) = self.swallow(bytes) {
            return Poll::Ready(done);
        }
        match &mut self.get_mut().stream {
            Way::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Way::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        if let Some(done) = first.and_then(|first| self.swallow(first)) {
            return Poll::Ready(done);
        }
        match &mut self.get_mut().stream {
            Way::Clear(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Way::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Way::Clear(stream) => stream.is_write_vectored(),
            Way::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Way::Clear(stream) => Pin::new(stream).poll_flush(context),
            Way::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Way::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Way::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
