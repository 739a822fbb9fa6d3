//! A request while it is read: all but its first bytes takes room, and it must be whole in time.
//!
//! A message comes in pieces that are put together before anybody sees it. So no deadline of a
//! request can run yet, and the window of HTTP/2, which is opened again with each piece, bounds
//! nothing.
//!
//! Deliberately absent: an end for streams that stop in a message *and* take no replies, so that
//! nobody reads them. They keep their room, which has a bound for all of them together.

use super::budget::SMALL_BYTES;
use super::{Front, Refusal};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// For a message, from its first byte to its last: the longest one over a line of 2 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A flag, and the length of the message in four bytes.
const PREFIX_BYTES: usize = 5;

/// See the module.
pub(super) struct Reading {
    front: Arc<Front>,
    body: Body,
    /// One message comes after the other: whoever reads on has done with those that are whole.
    streams: bool,
    framing: Framing,
    /// Bytes that wait for the rest of their message, or request.
    held: usize,
    room: Option<OwnedSemaphorePermit>,
    /// For the message that is read now, otherwise for the whole request: only while the client is
    /// waited for, and not while nobody reads because the client does not take its replies.
    waited: Duration,
    /// Since when it is waited for now.
    waits_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    timeout: Duration,
}

impl Reading {
    pub(super) fn new(front: Arc<Front>, body: Body, streams: bool) -> Self {
        Reading {
            front,
            body,
            streams,
            framing: Framing::default(),
            held: 0,
            room: None,
            waited: Duration::ZERO,
            waits_since: None,
            timer: None,
            timeout: TIMEOUT,
        }
    }

    /// What it must have room for now.
    fn wanted(&self) -> usize {
        self.held.saturating_sub(SMALL_BYTES)
    }

    fn has(&self) -> usize {
        self.room
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Gives back the room of messages that have been taken.
    fn forget_taken(&mut self) {
        self.held = self.framing.bytes;
        let taken = self.has().saturating_sub(self.wanted());
        if let Some(room) = &mut self.room {
            drop(room.split(taken));
        }
    }

    fn take_in(&mut self, piece: &[u8]) -> Result<(), Status> {
        self.held += piece.len();
        let missing = self.wanted().saturating_sub(self.has());
        if missing > 0 {
            let more = self.front.room.for_request(missing);
            let why = "too many requests are being read";
            let more = more.ok_or_else(|| self.front.overloaded(why).into_status())?;
            match &mut self.room {
                Some(room) => room.merge(more),
                none => *none = Some(more),
            }
        }
        if self.framing.advance(piece) && self.streams {
            self.waited = Duration::ZERO;
        }
        Ok(())
    }

    /// Ends a wait for the rest of a message that takes too long.
    fn expire(&mut self, context: &mut Context<'_>) -> Poll<Option<Status>> {
        if self.streams && self.framing.bytes == 0 {
            return Poll::Pending; // A stream may be silent for as long as it likes.
        }
        let late = || Some(Refusal::incomplete().into_status());
        if self.waited >= self.timeout {
            return Poll::Ready(late());
        }
        let now = Instant::now();
        let deadline = now + (self.timeout - self.waited);
        self.waits_since = Some(now);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().reset(deadline);
        timer.as_mut().poll(context).map(|()| late())
    }
}

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(since) = this.waits_since.take() {
            this.waited += since.elapsed();
        }
        if this.streams {
            this.forget_taken();
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let taken = frame.data_ref().map_or(Ok(()), |piece| this.take_in(piece));
                Poll::Ready(Some(taken.map(|()| frame)))
            }
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => this.expire(context).map(|status| status.map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Where in the sequence of messages the bytes so far have come to.
#[derive(Debug, Default)]
struct Framing {
    /// So far, of the message that is not whole yet; 0: it has not begun.
    bytes: usize,
    prefix: [u8; PREFIX_BYTES],
}

impl Framing {
    /// Takes in a piece. Returns whether a message began in it.
    fn advance(&mut self, mut piece: &[u8]) -> bool {
        let mut began = false;
        while !piece.is_empty() {
            began |= self.bytes == 0;
            let wanted = match self.bytes {
                ..PREFIX_BYTES => PREFIX_BYTES - self.bytes,
                _ => self.left(),
            };
            let (now, later) = piece.split_at(wanted.min(piece.len()));
            if let Some(prefix) = self.prefix.get_mut(self.bytes..self.bytes + now.len()) {
                prefix.copy_from_slice(now);
            }
            self.bytes += now.len();
            piece = later;
            if self.bytes >= PREFIX_BYTES && self.left() == 0 {
                self.bytes = 0;
            }
        }
        began
    }

    /// Bytes that the message lacks, once its prefix is known.
    fn left(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        PREFIX_BYTES + u32::from_be_bytes(length) as usize - self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::tests::follower;
    use http_body::{Body as _, Frame};
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use tonic::Code;

    /// A client that sends these pieces and then nothing more.
    struct Pieces(VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None => Poll::Pending,
            }
        }
    }

    fn message(bytes: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(bytes).unwrap().to_be_bytes());
        message.resize(PREFIX_BYTES + bytes, 7);
        message
    }

    fn reading(front: &Arc<Front>, bytes: &[u8], piece: usize, streams: bool) -> Reading {
        let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        Reading::new(Arc::clone(front), Body::new(Pieces(pieces)), streams)
    }

    /// Reads until there is nothing more for now.
    async fn read(reading: &mut Reading) -> Result<(), Status> {
        poll_fn(|context| {
            loop {
                match Pin::new(&mut *reading).poll_frame(context) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(status)),
                    Poll::Ready(None) | Poll::Pending => return Poll::Ready(Ok(())),
                }
            }
        })
        .await
    }

    // However a stream is cut into pieces, its messages take room only until they are whole; a
    // request keeps it until it is gone.
    #[tokio::test]
    async fn room_is_taken_by_what_is_not_whole() {
        let directory = tempfile::tempdir().unwrap();
        let front = Arc::new(follower(directory.path()));
        let free = || front.room.requests.available_permits();
        let all = free();
        let mut bytes = [message(0), message(5_000), message(3), message(70_000)].concat();
        let whole = bytes.len();
        bytes.extend(&message(9_000)[..2_000]);
        for piece in [1, 2, 7, 1_000, 16_384, whole, usize::MAX] {
            let mut stream = reading(&front, &bytes, piece, true);
            read(&mut stream).await.unwrap();
            assert_eq!(all - free(), 2_000 - SMALL_BYTES, "pieces of {piece}");
            let mut request = reading(&front, &bytes, piece, false);
            read(&mut request).await.unwrap();
            let both = 2_000 - SMALL_BYTES + bytes.len() - SMALL_BYTES;
            assert_eq!(all - free(), both, "pieces of {piece}");
            drop((stream, request));
            assert_eq!(free(), all);
        }
    }

    // Where there is no room, small requests are still read and others refused.
    #[tokio::test]
    async fn small_requests_need_no_room() {
        let directory = tempfile::tempdir().unwrap();
        let front = Arc::new(follower(directory.path()));
        let all = front.room.requests.available_permits();
        let _taken = front.room.for_request(all).unwrap();
        let small = message(SMALL_BYTES - PREFIX_BYTES);
        assert!(read(&mut reading(&front, &small, 100, false)).await.is_ok());
        let refused = read(&mut reading(&front, &message(SMALL_BYTES), 100, false)).await;
        assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    }

    // While nobody reads, as when replies are not taken, it is not the client who is waited for.
    #[tokio::test]
    async fn time_without_a_reader_is_not_the_client_s() {
        let directory = tempfile::tempdir().unwrap();
        let front = Arc::new(follower(directory.path()));
        let mut late = reading(&front, &message(10)[..8], 8, true);
        late.timeout = Duration::from_millis(1);
        let mut next =
            async || poll_fn(|context| Poll::Ready(Pin::new(&mut late).poll_frame(context))).await;
        assert!(matches!(next().await, Poll::Ready(Some(Ok(_)))));
        std::thread::sleep(Duration::from_millis(5));
        assert!(next().await.is_pending());
    }

    // A request that stops short of its end is given up, on a stream too; a stream between two
    // messages may be silent.
    #[tokio::test]
    async fn what_is_not_whole_in_time_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let front = Arc::new(follower(directory.path()));
        let short = [message(10), message(10)[..14].to_vec()].concat();
        for (bytes, streams) in [(&short[..], true), (&short[..], false), (&[], false)] {
            let mut late = reading(&front, bytes, 4, streams);
            late.timeout = Duration::from_millis(1);
            let end = poll_fn(|context| {
                let mut next = || Pin::new(&mut late).poll_frame(context);
                loop {
                    match next() {
                        Poll::Ready(Some(Ok(_))) => {}
                        other => return other.map(|end| end.unwrap().map(drop)),
                    }
                }
            });
            let end = tokio::time::timeout(Duration::from_secs(20), end).await;
            let status = end.expect("it is given up").unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded);
        }
        let mut silent = reading(&front, &message(10), 4, true);
        silent.timeout = Duration::ZERO;
        assert!(read(&mut silent).await.is_ok());
    }
}
