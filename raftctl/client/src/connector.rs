//! The connection itself: made only once the other side has spoken.
//!
//! Whoever forwards a connection (ssh, a proxy, an engine of containers) accepts it first and finds
//! out later that nobody is behind it; a process that is frozen has its connections accepted by the
//! kernel. A request that is written into such a connection looks as if it had been sent, and its
//! outcome as if nobody could tell. A server of HTTP/2 speaks first of all (its SETTINGS), so nothing
//! but the client's preface is sent before that has been heard: a connection that ends sooner has
//! delivered nothing, and counts as never made.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::Uri;
use tower::ServiceExt;

use super::security;

/// A host that is down often drops packets instead of refusing them: don't wait for TCP's minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the other side may be silent at first: as long as it may be later on, when it is asked
/// for a sign of life (`KEEP_ALIVE_INTERVAL` and `KEEP_ALIVE_TIMEOUT`).
const FIRST_WORD: Duration = Duration::from_millis(1500);

/// What a client of HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Connects to a server of HTTP/2, and waits for its first word; with TLS where its address needs that.
///
/// # Errors
/// Nobody accepts the connection, or nobody is behind it, or certificates keep the two apart: nothing was
/// delivered.
pub async fn connect(uri: Uri) -> std::result::Result<TokioIo<Begun>, Failed> {
    let address = uri.authority().map_or("", |authority| authority.as_str());
    let Some(security) = security::of(address) else {
        return Ok(TokioIo::new(begin_clear(dial(uri).await?).await?));
    };
    let config = match security.config() {
        Ok(config) => config,
        // Before there is a certificate, nobody asks for one.
        Err(_) if security.clear_too => {
            return Ok(TokioIo::new(begin_clear(dial(uri).await?).await?));
        }
        Err(error) => return Err(error.into()),
    };
    let stream = dial(uri.clone()).await?;
    let secured = tokio::time::timeout(FIRST_WORD, begin_secured(stream, config, &security.name));
    let failed = match secured.await {
        Ok(Ok(begun)) => return Ok(TokioIo::new(begun)),
        Ok(Err(error)) => error,
        Err(_) => silence(),
    };
    if security.clear_too && security::why(&failed).is_none() {
        return Ok(TokioIo::new(begin_clear(dial(uri).await?).await?));
    }
    Err(security::why(&failed).map_or(failed, Error::other).into())
}

async fn dial(uri: Uri) -> std::result::Result<TcpStream, Failed> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    Ok(http.oneshot(uri).await?.into_inner())
}

async fn begin_clear(mut stream: TcpStream) -> Result<Begun> {
    stream.write_all(PREFACE).await?;
    match tokio::time::timeout(FIRST_WORD, stream.peek(&mut [0])).await {
        Ok(Ok(1..)) => Ok(Begun {
            stream: Way::Clear(stream),
            preface_left: PREFACE.len(),
        }),
        Ok(Ok(0)) => Err(nobody()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(silence()),
    }
}

/// In TLS 1.3 a client is done before the node has judged its certificate: only the first word tells.
async fn begin_secured(stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> Result<Begun> {
    let name = ServerName::try_from(name.to_owned()).map_err(Error::other)?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    stream.write_all(PREFACE).await?;
    stream.flush().await?;
    match stream.fill_buf().await? {
        [] => Err(nobody()),
        _ => Ok(Begun {
            stream: Way::Tls(Box::new(stream)),
            preface_left: PREFACE.len(),
        }),
    }
}

fn nobody() -> Error {
    let why = "the connection was accepted and closed before anybody spoke: nobody is behind it";
    Error::new(ErrorKind::UnexpectedEof, why)
}

fn silence() -> Error {
    let why = format!(
        "the connection was accepted, and nobody spoke within {} ms",
        FIRST_WORD.as_millis()
    );
    Error::new(ErrorKind::TimedOut, why)
}

/// A connection on which the preface has been sent already.
#[derive(Debug)]
pub struct Begun {
    stream: Way,
    /// What the library still has to hand over of the preface; it is not sent a second time.
    preface_left: usize,
}

#[derive(Debug)]
enum Way {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        match &mut self.stream {
            Way::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Way::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Begun {
    /// Swallows what is left of the preface in `bytes`; how much that was, if any.
    fn swallow(&mut self, bytes: &[u8]) -> Option<Result<usize>> {
        if self.preface_left == 0 || bytes.is_empty() {
            return None;
        }
        let count = bytes.len().min(self.preface_left);
        let from = PREFACE.len() - self.preface_left;
        if bytes[..count] != PREFACE[from..from + count] {
            let why = "the client's library does not begin with HTTP/2's preface";
            return Some(Err(Error::new(ErrorKind::InvalidData, why)));
        }
        self.preface_left -= count;
        Some(Ok(count))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        match self.swallow(bytes) {
            Some(done) => Poll::Ready(done),
            None => match &mut self.stream {
                Way::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
                Way::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            },
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        match first.and_then(|first| self.swallow(first)) {
            Some(done) => Poll::Ready(done),
            None => match &mut self.stream {
                Way::Clear(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                Way::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Way::Clear(stream) => stream.is_write_vectored(),
            Way::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.stream {
            Way::Clear(stream) => Pin::new(stream).poll_flush(context),
            Way::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.stream {
            Way::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Way::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
