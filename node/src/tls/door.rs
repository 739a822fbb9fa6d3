//! The doors: a connection that was taken becomes one whose other end is known.

use super::Tls;
use super::refused::refused;
use super::verifier::{Port, owner};
use crate::access::{Access, Subject};
use crate::guests::Origin;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::server::TlsStream;

/// How TLS begins: the type of a record that holds a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// One of the two ports, as whoever connects finds it.
#[derive(Clone, Debug)]
pub struct Door {
    tls: Arc<Tls>,
    port: Port,
}

/// A connection whose other end is known.
#[derive(Debug)]
pub struct Admitted {
    /// The connection.
    pub stream: Stream,
    /// Who it is.
    pub origin: Arc<Origin>,
}

/// Bytes from and to a client, or a peer that has dialed.
#[derive(Debug)]
pub enum Stream {
    /// As they are.
    Clear(TcpStream),
    /// Encrypted. Large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Tls {
    /// The door for other nodes.
    pub fn door_for_peers(self: &Arc<Self>) -> Door {
        Door {
            tls: Arc::clone(self),
            port: Port::Peers,
        }
    }

    /// The door for clients.
    pub fn door_for_clients(self: &Arc<Self>) -> Door {
        Door {
            tls: Arc::clone(self),
            port: Port::Clients,
        }
    }
}

impl Door {
    /// Takes part in the handshake. Who fails is told of here; `Err` says only that it is over.
    pub async fn open(&self, stream: TcpStream) -> Result<Admitted, io::Error> {
        let from = stream.peer_addr().ok().map(|from| from.ip());
        let refusals = &self.tls.refusals;
        // Whoever drops this has no patience any more.
        let begun = refusals.begin();
        let error = match self.shake_hands(stream).await {
            Ok(admitted) => {
                begun.end(None);
                return Ok(admitted);
            }
            Err(error) => error,
        };
        let Some(refused) = refused(&error) else {
            return Err(error); // It has gone by itself, most likely.
        };
        begun.end(Some(refused.cause.kind()));
        refusals.note(self.port.name(), from, &refused);
        Err(io::Error::other(refused))
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<Admitted> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first != [HANDSHAKE_RECORD] && self.tls.settings.optional {
            return Ok(Admitted {
                stream: Stream::Clear(stream),
                origin: Arc::new(anybody()),
            });
        }
        let loaded = self.tls.loaded.load_full();
        let config = match self.port {
            Port::Peers => &loaded.peers,
            Port::Clients => &loaded.clients,
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        let stream = acceptor.accept(stream).await?;
        let origin = self.identify(stream.get_ref().1.peer_certificates())?;
        Ok(Admitted {
            stream: Stream::Tls(Box::new(stream)),
            origin: Arc::new(origin),
        })
    }

    /// Who has shown a chain that was judged already.
    fn identify(&self, chain: Option<&[CertificateDer<'static>]>) -> io::Result<Origin> {
        let chain = chain.filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| io::Error::other("there is no certificate"))?;
        let owner = owner(&chain[0], &self.tls.cluster).map_err(io::Error::other)?;
        let (node, access) = match owner.subject {
            Subject::Node(id) => (Some(id), Access::granted(&owner.who, Vec::new())),
            Subject::Client(grants) => (None, Access::granted(&owner.who, grants)),
        };
        let seconds = u64::try_from(owner.ends).unwrap_or(0);
        Ok(Origin {
            access,
            node,
            ends: Some(UNIX_EPOCH + Duration::from_secs(seconds)),
            chain: chain.iter().map(|one| one.to_vec()).collect(),
        })
    }

    /// Whether somebody who was let in would be let in now: its certificate has not ended, and whoever
    /// signed it is still trusted.
    pub fn still_takes(&self, origin: &Origin) -> bool {
        let chain = origin.chain.iter().map(|one| CertificateDer::from(&**one));
        let chain: Vec<_> = chain.collect();
        match chain.split_first() {
            Some((own, between)) => {
                let loaded = self.tls.loaded.load();
                loaded.judge(self.port, own, between).is_ok()
            }
            None => self.tls.settings.optional,
        }
    }

    /// Gets word when whoever is there has to be judged again.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.tls.changes()
    }
}

/// Who came without TLS where none is asked for.
fn anybody() -> Origin {
    Origin {
        access: Access::open(),
        node: None,
        ends: None,
        chain: Vec::new(),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Clear(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Clear(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
