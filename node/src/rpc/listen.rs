//! Listening sockets: bound once, with a bound on connections, without delay for small packets.
//!
//! Where there is TLS, the handshake comes first, within the same time as the preface of HTTP/2.
//! A connection has its place from the moment it is taken. It keeps the place only if it begins
//! as HTTP/2 does, and soon. Later the pings of HTTP/2 watch it; and where there is no place left,
//! the one goes that has had no call for longest (see `guests`). Where all are busy, a few places
//! are left to which only operators' calls come. So nobody can lock others out by being there.

use super::handshakes::Handshakes;
use crate::guests::{Guest, Guests, Seat};
use crate::tls::{Door, Stream};
use rustix::net::sockopt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Wait after a connection could not be taken: the machine is out of files, most likely.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What a client says first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// For the handshake of TLS and the preface, from the moment the connection is taken. They take two
/// rounds at most, so this leaves room for packets that are lost again and again.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// When the kernel asks whether the other end is still there, how often and how many times: for
/// a connection on which HTTP/2 does not ask, because it is being closed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 4;

/// Between two looks for somebody who can be sent away.
const LOOK: Duration = Duration::from_millis(100);

/// Between two looks for somebody whose certificate has ended.
const LOOK_FOR_ENDED: Duration = Duration::from_secs(1);
/// When the trusted authorities change, so many are judged before others get their turn.
const JUDGED_AT_A_TIME: usize = 8;

/// How many connections there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// For anybody.
    pub all: usize,
    /// As many again, which only operators get.
    pub operators: usize,
    /// Who has had no call for this long is sent away even where there is room.
    pub idle_max: Option<Duration>,
}

/// A bound socket.
#[derive(Debug)]
pub struct Listen {
    listener: TcpListener,
    room: Arc<Semaphore>,
    operators: Arc<Semaphore>,
    wide: Arc<Semaphore>,
    idle_max: Option<Duration>,
    guests: Arc<Guests>,
    door: Option<Door>,
    handshakes: Option<Handshakes>,
}

/// The connections as they come. The socket is closed when both are dropped.
pub(super) struct Connections {
    /// Those with a wide window of HTTP/2: as many at a time as were asked for.
    pub(super) wide: ReceiverStream<io::Result<Connection>>,
    /// All others, with a narrow one.
    pub(super) narrow: ReceiverStream<io::Result<Connection>>,
}

/// Where new connections are handed in: see [`Connections`].
struct Ways {
    wide: Sender<io::Result<Connection>>,
    narrow: Sender<io::Result<Connection>>,
}

/// A connection, and its place.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// What was taken out of the stream already and has to be read first.
    taken: &'static [u8],
    /// Gets word when the connection is sent away.
    leaves: Option<oneshot::Receiver<()>>,
    place: Place,
}

/// What a connection holds for as long as it is there.
#[derive(Debug)]
struct Place {
    seat: Seat,
    _place: OwnedSemaphorePermit,
    wide: Option<OwnedSemaphorePermit>,
}

impl Listen {
    /// Binds `host:port`, with places for so many connections at a time; further ones wait in the
    /// kernel's queue. `[::]` stands for every address of both families, or of the one that the
    /// machine has.
    pub async fn bind(address: &str, places: Places) -> io::Result<Self> {
        Ok(Listen {
            listener: listener(address).await?,
            room: Arc::new(Semaphore::new(places.all)),
            operators: Arc::new(Semaphore::new(places.operators)),
            wide: Arc::new(Semaphore::new(0)),
            idle_max: places.idle_max,
            guests: Arc::default(),
            door: None,
            handshakes: None,
        })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// Who is connected.
    pub fn guests(&self) -> Arc<Guests> {
        Arc::clone(&self.guests)
    }

    /// The same, for those alone whom a door lets in.
    pub fn behind(mut self, door: Option<Door>) -> io::Result<Self> {
        self.handshakes = door.is_some().then(Handshakes::begin).transpose()?;
        self.door = door;
        Ok(self)
    }

    /// The connections as they come, so many at a time of the wide kind.
    pub(super) fn connections(self, wide_places: usize) -> Connections {
        self.wide.add_permits(wide_places);
        let ((wide, wide_out), (narrow, narrow_out)) = (mpsc::channel(1), mpsc::channel(1));
        tokio::spawn(async move {
            let ways = Arc::new(Ways { wide, narrow });
            let closed = async { tokio::join!(ways.wide.closed(), ways.narrow.closed()) };
            tokio::select! {
                () = self.accept_all(&ways) => {}
                () = self.send_idle_away() => {}
                () = self.send_unwelcome_away() => {}
                _ = closed => {}
            }
        });
        Connections {
            wide: ReceiverStream::new(wide_out),
            narrow: ReceiverStream::new(narrow_out),
        }
    }

    async fn accept_all(&self, ways: &Arc<Ways>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let Some((place, for_operators)) = self.place().await else {
                        return; // Never closed while this runs.
                    };
                    let (seat, leaves) = self.guests.seat(for_operators, Instant::now());
                    let place = Place {
                        seat,
                        _place: place,
                        wide: Arc::clone(&self.wide).try_acquire_owned().ok(),
                    };
                    let (door, ways) = (self.door.clone(), Arc::clone(ways));
                    // In a task of its own: who is slow with the first words keeps nobody waiting.
                    let admitted = admit(stream, (place, leaves), door, ways);
                    match &self.handshakes {
                        Some(handshakes) => handshakes.spawn(admitted),
                        None => drop(tokio::spawn(admitted)),
                    }
                }
                Err(error) => {
                    tracing::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// A place for one more connection, and whether it is one for operators. Waits where there is none
    /// and nobody can be sent away.
    async fn place(&self) -> Option<(OwnedSemaphorePermit, bool)> {
        loop {
            if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
                return Some((place, false));
            }
            if !self.guests.send_idlest_away(Instant::now())
                && let Ok(place) = Arc::clone(&self.operators).try_acquire_owned()
            {
                return Some((place, true));
            }
            let freed = Arc::clone(&self.room).acquire_owned();
            if let Ok(freed) = tokio::time::timeout(LOOK, freed).await {
                return freed.ok().map(|place| (place, false));
            }
        }
    }

    /// Ends idling where it has an end; never ends itself.
    async fn send_idle_away(&self) {
        let Some(idle_max) = self.idle_max else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(idle_max / 5).await;
            self.guests.send_idle_away(Instant::now(), idle_max);
        }
    }

    /// Ends connections whose certificate has ended, or is of an authority that is trusted no more:
    /// nobody else would ask them again. Never ends itself.
    async fn send_unwelcome_away(&self) {
        let Some(door) = &self.door else {
            return std::future::pending().await;
        };
        let mut changes = door.changes();
        loop {
            let changed = tokio::time::timeout(LOOK_FOR_ENDED, changes.changed()).await;
            let is_changed = matches!(changed, Ok(Ok(())));
            let now = SystemTime::now();
            for (number, guest) in self.guests.present().into_iter().enumerate() {
                let Some(origin) = guest.origin() else {
                    continue;
                };
                let has_ended = origin.ends.is_some_and(|ends| ends <= now);
                if has_ended || (is_changed && !door.still_takes(origin)) {
                    guest.send_away();
                }
                if is_changed && number % JUDGED_AT_A_TIME == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Binds; an address of all IPv6 addresses is one of all IPv4 addresses, too, whatever the machine's
/// default is. On a machine without IPv6 it is one of those alone.
async fn listener(address: &str) -> io::Result<TcpListener> {
    let Some(port) = address.strip_prefix("[::]:") else {
        return TcpListener::bind(address).await;
    };
    let port: u16 = port.parse().map_err(io::Error::other)?;
    match both_families(port) {
        Err(error) if no_such_family(&error) => TcpListener::bind(("0.0.0.0", port)).await,
        bound => bound,
    }
}

fn both_families(port: u16) -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    socket.bind((std::net::Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(BACKLOG)
}

fn no_such_family(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Passes a connection on once it has begun as it must; drops it, and its place, if not.
async fn admit(
    stream: TcpStream,
    (place, mut leaves): (Place, oneshot::Receiver<()>),
    door: Option<Door>,
    ways: Arc<Ways>,
) {
    let guest = place.seat.guest();
    let begun = tokio::select! {
        begun = tokio::time::timeout(PREFACE_TIMEOUT, begin(stream, door.as_ref(), &guest)) => begun,
        _ = &mut leaves => return tracing::debug!("a connection was dropped in favour of others"),
    };
    match begun {
        Ok(Ok(stream)) => {
            let way = match place.wide {
                Some(_) => &ways.wide,
                None => &ways.narrow,
            };
            let connection = Connection {
                stream,
                taken: PREFACE,
                leaves: Some(leaves),
                place,
            };
            // Nobody serves any more: then it is dropped.
            drop(way.send(Ok(connection)).await);
        }
        Ok(Err(error)) => tracing::debug!("a connection ended before it began: {error}"),
        Err(_) => tracing::debug!("a connection without a word was dropped"),
    }
}

async fn begin(stream: TcpStream, door: Option<&Door>, guest: &Guest) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
    let mut stream = match door {
        None => Stream::Clear(stream),
        Some(door) => {
            let admitted = door.open(stream).await?;
            guest.identify(admitted.origin);
            admitted.stream
        }
    };
    let mut first = [0; PREFACE.len()];
    stream.read_exact(&mut first).await?;
    match first == *PREFACE {
        true => Ok(stream),
        false => Err(io::Error::other("it does not speak HTTP/2")),
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Guest>;

    /// What each request brings along: the connection that it came by.
    fn connect_info(&self) -> Arc<Guest> {
        self.place.seat.guest()
    }
}

impl Connection {
    /// Whether it has been sent away: then it reads as if the client had closed it.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(leaves) = &mut self.leaves
            && Pin::new(leaves).poll(context).is_ready()
        {
            self.leaves = None;
        }
        self.leaves.is_none()
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
        if self.is_over(context) {
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

    /// No: where it is, h2 keeps the bytes of each reply of 256 bytes or more apart from its head and from other replies, and
    /// sends it by a call of its own. So it puts all that are shorter than a KiB into one buffer, and sends that.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `[::]` takes in whoever comes, by whatever family; any other address is taken as it is.
    #[tokio::test]
    async fn both_families_are_taken_in() {
        let places = Places {
            all: 1,
            operators: 0,
            idle_max: None,
        };
        let address = async |address| {
            let bound = Listen::bind(address, places).await.unwrap();
            let port = bound.local_addr().unwrap().port();
            (bound, port)
        };
        let (_both, port) = address("[::]:0").await;
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
        if TcpListener::bind("[::1]:0").await.is_ok() {
            assert!(TcpStream::connect(("::1", port)).await.is_ok());
        }
        let (_one, port) = address("127.0.0.1:0").await;
        assert!(TcpStream::connect(("::1", port)).await.is_err());
    }
}
