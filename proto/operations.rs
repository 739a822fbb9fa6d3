//! What the unary calls of `Kv` and its stream have in common: each request is an operation of the
//! stream, and each reply an outcome. So whoever sends or serves them needs one path for both.

use crate::kv::operation::Operation;
use crate::kv::outcome::Outcome;
use crate::kv::{self, ReadPath, RequestId};

/// Requests and replies of one call, and their kind in the stream.
macro_rules! calls {
    ($($kind:ident: $request:ident => $reply:ident;)*) => {
        $(
            impl From<kv::$request> for Operation {
                fn from(request: kv::$request) -> Self {
                    Operation::$kind(request)
                }
            }

            impl TryFrom<Outcome> for kv::$reply {
                type Error = Outcome;

                /// Gives an outcome of another kind back.
                fn try_from(outcome: Outcome) -> Result<Self, Outcome> {
                    match outcome {
                        Outcome::$kind(reply) => Ok(reply),
                        other => Err(other),
                    }
                }
            }
        )*
    };
}

calls! {
    Get: GetRequest => GetReply;
    Set: SetRequest => SetReply;
    Delete: DeleteRequest => DeleteReply;
    CompareAndSet: CompareAndSetRequest => CompareAndSetReply;
    List: ListRequest => ListReply;
}

impl Operation {
    /// The key, or the prefix of keys, that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Operation::Get(get) => &get.key,
            Operation::Set(set) => &set.key,
            Operation::Delete(delete) => &delete.key,
            Operation::CompareAndSet(swap) => &swap.key,
            Operation::List(list) => &list.prefix,
        }
    }

    /// Where a write has its request id; `None`: it is a read.
    pub fn request_id(&mut self) -> Option<&mut Option<RequestId>> {
        match self {
            Operation::Set(set) => Some(&mut set.request),
            Operation::Delete(delete) => Some(&mut delete.request),
            Operation::CompareAndSet(swap) => Some(&mut swap.request),
            Operation::Get(_) | Operation::List(_) => None,
        }
    }
}

impl Outcome {
    /// The state that was read or written, and how a read was answered; `None`: nothing was.
    #[must_use]
    pub fn applied(&self) -> Option<(u64, ReadPath)> {
        Some(match self {
            Outcome::Get(reply) => (reply.applied_index, reply.path()),
            Outcome::List(reply) => (reply.applied_index, reply.path()),
            Outcome::Set(reply) => (reply.applied_index, ReadPath::Unspecified),
            Outcome::Delete(reply) => (reply.applied_index, ReadPath::Unspecified),
            Outcome::CompareAndSet(reply) => (reply.applied_index, ReadPath::Unspecified),
            Outcome::Error(_) => return None,
        })
    }
}
