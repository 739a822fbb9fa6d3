//! The services as clients meet them: a call begins where there is room for it, and its request and
//! its reply keep what they take for as long as they are on their way.

use super::budget::{CallRoom, ReplyRoom};
use super::reading::Reading;
use super::refusal::{count_refused, explained_reply};
use super::{Front, membership};
use crate::guests::Guest;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::server::NamedService;

/// A service whose requests and replies take room for as long as they are on their way. The room
/// of a reply comes as an extension of the response.
#[derive(Clone, Debug)]
pub(super) struct LimitedService<S> {
    front: Arc<Front>,
    service: S,
}

impl<S> LimitedService<S> {
    pub(super) fn new(front: &Arc<Front>, service: S) -> Self {
        LimitedService {
            front: Arc::clone(front),
            service,
        }
    }
}

impl<S: NamedService> NamedService for LimitedService<S> {
    const NAME: &'static str = S::NAME;
}

type Response = http::Response<Body>;

impl<S> Service<http::Request<Body>> for LimitedService<S>
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
        let path = request.uri().path();
        let guest = request.extensions().get::<Arc<Guest>>();
        let access = self.front.access(request.extensions());
        let permitted = self.front.permit_call(&access, path);
        let call = match permitted.and_then(|()| self.front.call_room(path, guest)) {
            Ok(call) => call,
            Err(refusal) => {
                self.front.metrics.refused(refusal.reason);
                let refused = refusal.into_status().into_http();
                return Box::pin(std::future::ready(Ok(refused)));
            }
        };
        let streams = is_stream(path);
        let known = membership::known(request.headers());
        let front = Arc::clone(&self.front);
        let counting = Arc::clone(&self.front);
        let request = request.map(|body| Body::new(Reading::new(front, body, streams)));
        let response = self.service.call(request);
        Box::pin(async move {
            let mut response = explained_reply(response.await?);
            count_refused(&counting.metrics, response.headers());
            if let Some(known) = known {
                membership::tell_news(&counting.roster, known, response.headers_mut());
            }
            let room = response.extensions_mut().remove::<ReplyRoom>();
            Ok(response.map(|body| {
                Body::new(LimitedReply {
                    body,
                    _room: room,
                    _call: call,
                })
            }))
        })
    }
}

/// Whether a method takes one message after the other.
fn is_stream(path: &str) -> bool {
    path.ends_with("/Pipeline") || path.ends_with("/ServerReflectionInfo")
}

/// A reply that keeps its room, and that of its call, until it is gone.
struct LimitedReply {
    body: Body,
    _room: Option<ReplyRoom>,
    _call: CallRoom,
}

impl http_body::Body for LimitedReply {
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
