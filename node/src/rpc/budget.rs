//! Room for what is on its way between clients and this node: calls, bytes of requests that are not
//! whole yet, and of replies that are not taken yet. A client decides how long each lasts, so without
//! a bound on all of them a few connections could fill the memory.

use super::{Front, Refusal};
use crate::guests::{self, Guest};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bytes of all requests that are being read.
const REQUEST_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most bytes of all replies that are being sent.
const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most calls at a time, but for those below: as many as may wait at the desk.
const CALLS_MAX: usize = crate::desk::REQUESTS_MAX;
/// Most calls of operators: others can't take their room.
const OPERATORS_CALLS_MAX: usize = 256;
/// Most streams that tell how the node is, for as long as anybody listens.
const WATCHES_MAX: usize = 1024;
/// Most streams that tell what can be called.
const REFLECTIONS_MAX: usize = 64;
/// What is no longer than this costs no more than its stream does, and those are bounded: so there
/// is always room for an operator's questions.
pub(super) const SMALL_BYTES: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Room {
    pub(super) requests: Arc<Semaphore>,
    replies: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    operators: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    reflections: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let room = |most| Arc::new(Semaphore::new(most));
        Room {
            requests: room(REQUEST_BYTES_MAX),
            replies: room(REPLY_BYTES_MAX),
            calls: room(CALLS_MAX),
            operators: room(OPERATORS_CALLS_MAX),
            watches: room(WATCHES_MAX),
            reflections: room(REFLECTIONS_MAX),
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

/// What a call takes while it is under way: room among all calls, and its connection's attention.
#[derive(Debug)]
pub(super) struct CallRoom {
    _permit: OwnedSemaphorePermit,
    _call: Option<guests::Call>,
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
    /// Room for a call.
    pub(super) fn call_room(
        &self,
        path: &str,
        guest: Option<&Arc<Guest>>,
    ) -> Result<CallRoom, Refusal> {
        let is_operators = path.starts_with("/raftkv.admin.");
        if !is_operators && guest.is_some_and(|guest| guest.for_operators) {
            return Err(self.overloaded("all connections but those of operators are taken"));
        }
        let (room, why) = if is_operators {
            (&self.room.operators, "too many calls of operators")
        } else if path.ends_with("/Watch") {
            (&self.room.watches, "too many watches of the health")
        } else if path.ends_with("/ServerReflectionInfo") {
            (&self.room.reflections, "too many reflection streams")
        } else {
            (&self.room.calls, "too many calls are under way")
        };
        match Arc::clone(room).try_acquire_owned() {
            Ok(permit) => Ok(CallRoom {
                _permit: permit,
                _call: guest.map(Guest::begin),
            }),
            Err(_) => Err(self.overloaded(why)),
        }
    }

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
