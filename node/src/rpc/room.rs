//! Room for what is on its way between clients and this node: bytes of requests that are not whole
//! yet, and of replies that are not taken yet. A client decides how long either lasts, so without
//! a bound on both a few connections could fill the memory.

use super::reading::Reading;
use super::{Front, Refusal};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::server::NamedService;

/// Most bytes of all requests that are being read.
const REQUEST_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most bytes of all replies that are being sent.
const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What is no longer than this costs no more than its stream does, and those are bounded: so there
/// is always room for an operator's questions.
pub(super) const SMALL_BYTES: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Room {
    pub(super) requests: Arc<Semaphore>,
    replies: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            requests: Arc::new(Semaphore::new(REQUEST_BYTES_MAX)),
            replies: Arc::new(Semaphore::new(REPLY_BYTES_MAX)),
        }
    }
}

impl Room {
    /// Room for so many more bytes of a request.
    pub(super) fn for_request(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        let requests = Arc::clone(&self.requests);
        requests.try_acquire_many_owned(bytes).ok()
    }
}

/// The room that one reply takes, until this is dropped.
#[derive(Clone, Debug)]
pub(super) struct ReplyRoom {
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl ReplyRoom {
    /// Keeps the room for as long as the reply is on its way.
    pub(super) fn around<T>(self, mut reply: tonic::Response<T>) -> tonic::Response<T> {
        if self._permit.is_some() {
            reply.extensions_mut().insert(self);
        }
        reply
    }
}

impl Front {
    /// Room for a reply of so many bytes.
    pub(super) fn reply_room(&self, bytes: usize) -> Result<ReplyRoom, Refusal> {
        if bytes <= SMALL_BYTES {
            return Ok(ReplyRoom { _permit: None });
        }
        let replies = Arc::clone(&self.room.replies);
        match replies.try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)) {
            Ok(permit) => Ok(ReplyRoom {
                _permit: Some(Arc::new(permit)),
            }),
            Err(_) => Err(self.overloaded("too many replies wait to be taken")),
        }
    }
}

/// A service whose requests and replies take room for as long as they are on their way. The room
/// of a reply comes as an extension of the response.
#[derive(Clone, Debug)]
pub(super) struct Roomed<S> {
    front: Arc<Front>,
    service: S,
}

impl<S> Roomed<S> {
    pub(super) fn new(front: &Arc<Front>, service: S) -> Self {
        Roomed {
            front: Arc::clone(front),
            service,
        }
    }
}

impl<S: NamedService> NamedService for Roomed<S> {
    const NAME: &'static str = S::NAME;
}

type Response = http::Response<Body>;

impl<S> Service<http::Request<Body>> for Roomed<S>
where
    S: Service<http::Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let streams = is_stream(request.uri().path());
        let front = Arc::clone(&self.front);
        let request = request.map(|body| Body::new(Reading::new(front, body, streams)));
        let response = self.service.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            let room = response.extensions_mut().remove::<ReplyRoom>();
            Ok(match room {
                Some(room) => response.map(|body| Body::new(Leaving { body, _room: room })),
                None => response,
            })
        })
    }
}

/// Whether a method takes one message after the other.
fn is_stream(path: &str) -> bool {
    path.ends_with("/Pipeline") || path.ends_with("/ServerReflectionInfo")
}

/// A reply that keeps its room until it is gone.
struct Leaving {
    body: Body,
    _room: ReplyRoom,
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
