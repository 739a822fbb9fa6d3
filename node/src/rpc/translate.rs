//! Requests of clients: checked, then in the engine's terms; and its replies in theirs.

use super::{Refusal, metered};
use crate::command::{Operation, RequestId};
use crate::engine::{Answer, Consistency, Query, ReadPath, Request};
use crate::kv::{PAGE_ENTRIES_MAX, PAGE_ENTRY_OVERHEAD_BYTES, Page, WriteResult};
use crate::metrics::Path;
use crate::raft::Index;
use raftkv::kv as wire;
use raftkv::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::sync::Arc;
use wire::operation::Operation as WireOperation;
use wire::outcome::Outcome as WireOutcome;

type Checked<T> = Result<T, Refusal>;

/// What was answered to a request that was done.
#[derive(Clone, Debug)]
pub(super) enum Done {
    /// A write.
    Written {
        /// The state in which it had been applied.
        index: Index,
        /// What it found.
        result: WriteResult,
    },
    /// A read.
    Read {
        /// What was found.
        answer: Answer,
        /// The state that was read.
        applied_index: Index,
        /// How it was answered.
        path: ReadPath,
    },
}

impl Done {
    /// On what the answer rests.
    pub(super) fn path(&self) -> Path {
        match self {
            Done::Written { .. } => Path::Commit,
            Done::Read { path, .. } => metered(*path),
        }
    }
}

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// To read.
    Read(Query, Consistency),
    /// To write.
    Write(Request),
}

/// An operation, whether it came by itself or in a stream.
pub(super) fn wanted(operation: WireOperation) -> Checked<Wanted> {
    match operation {
        WireOperation::Get(request) => get(request),
        WireOperation::List(request) => list(request),
        WireOperation::Set(request) => set(request),
        WireOperation::Delete(request) => delete(request),
        WireOperation::CompareAndSet(request) => compare_and_set(request),
    }
}

fn get(request: wire::GetRequest) -> Checked<Wanted> {
    let consistency = consistency(request.consistency)?;
    let key = key(request.key)?;
    Ok(Wanted::Read(Query::Get { key }, consistency))
}

fn list(request: wire::ListRequest) -> Checked<Wanted> {
    let consistency = consistency(request.consistency)?;
    let limit = match request.limit {
        0 => PAGE_ENTRIES_MAX,
        limit => usize::try_from(limit).unwrap_or(PAGE_ENTRIES_MAX),
    };
    let after = request.after.map(key).transpose()?;
    let prefix = key(request.prefix)?;
    let query = Query::List {
        prefix,
        after,
        limit,
    };
    Ok(Wanted::Read(query, consistency))
}

fn set(request: wire::SetRequest) -> Checked<Wanted> {
    write(
        request.request,
        Operation::Set {
            key: key(request.key)?,
            value: value(request.value)?,
        },
    )
}

fn delete(request: wire::DeleteRequest) -> Checked<Wanted> {
    write(
        request.request,
        Operation::Delete {
            key: key(request.key)?,
        },
    )
}

fn compare_and_set(request: wire::CompareAndSetRequest) -> Checked<Wanted> {
    write(
        request.request,
        Operation::CompareAndSet {
            key: key(request.key)?,
            expected: request.expected.map(value).transpose()?,
            value: value(request.value)?,
        },
    )
}

fn write(request: Option<wire::RequestId>, operation: Operation) -> Checked<Wanted> {
    let request = request.map(request_id).transpose()?;
    Ok(Wanted::Write(Request::Write { request, operation }))
}

fn request_id(request: wire::RequestId) -> Checked<RequestId> {
    if request.client_id == 0 || request.sequence == 0 {
        return Err(Refusal::invalid(
            "a request id needs the client id that OpenSession gave, and a sequence from 1",
        ));
    }
    Ok(RequestId {
        client_id: request.client_id,
        sequence: request.sequence,
        since_index: request.since_index,
    })
}

fn key(key: String) -> Checked<Arc<str>> {
    within("key", key, KEY_BYTES_MAX)
}

fn value(value: String) -> Checked<Arc<str>> {
    within("value", value, VALUE_BYTES_MAX)
}

fn within(what: &str, text: String, bytes_max: usize) -> Checked<Arc<str>> {
    match text.len() {
        bytes if bytes > bytes_max => Err(Refusal::invalid(format!(
            "the {what} is {bytes} bytes long; at most {bytes_max} are allowed"
        ))),
        _ => Ok(text.into()),
    }
}

fn consistency(number: i32) -> Checked<Consistency> {
    match wire::Consistency::try_from(number) {
        Ok(wire::Consistency::Lease) => Ok(Consistency::Lease),
        Ok(wire::Consistency::Quorum) => Ok(Consistency::Quorum),
        Ok(wire::Consistency::Stale) => Ok(Consistency::Stale),
        Err(_) => Err(Refusal::invalid(format!(
            "consistency {number} is not known to this version"
        ))),
    }
}

/// What the reply takes, roughly, before it is made.
pub(super) fn size_bytes(done: &Done) -> usize {
    match done {
        Done::Read {
            answer: Answer::Value(Some(value)),
            ..
        } => value.len(),
        Done::Read {
            answer: Answer::Page(page),
            ..
        } => {
            let sizes = page
                .entries
                .iter()
                .map(|(key, value)| key.len() + value.len() + PAGE_ENTRY_OVERHEAD_BYTES);
            sizes.sum()
        }
        _ => 0,
    }
}

/// The reply to whatever was done.
pub(super) fn outcome(done: Done) -> WireOutcome {
    match done {
        Done::Written { index, result } => match result {
            WriteResult::Set => WireOutcome::Set(wire::SetReply {
                applied_index: index,
            }),
            WriteResult::Deleted { existed } => WireOutcome::Delete(wire::DeleteReply {
                applied_index: index,
                existed,
            }),
            WriteResult::Swapped { swapped } => {
                WireOutcome::CompareAndSet(wire::CompareAndSetReply {
                    applied_index: index,
                    swapped,
                })
            }
        },
        Done::Read {
            answer: Answer::Value(value),
            applied_index,
            path,
        } => WireOutcome::Get(get_reply(value, applied_index, path)),
        Done::Read {
            answer: Answer::Page(page),
            applied_index,
            path,
        } => WireOutcome::List(list_reply(&page, applied_index, path)),
    }
}

fn get_reply(value: Option<Arc<str>>, applied_index: Index, path: ReadPath) -> wire::GetReply {
    wire::GetReply {
        found: value.is_some(),
        value: value.as_deref().unwrap_or_default().to_owned(),
        applied_index,
        path: read_path(path).into(),
    }
}

fn list_reply(page: &Page, applied_index: Index, path: ReadPath) -> wire::ListReply {
    let entries = page.entries.iter().map(|(key, value)| wire::KeyValue {
        key: key.to_string(),
        value: value.to_string(),
    });
    wire::ListReply {
        entries: entries.collect(),
        more: page.more,
        applied_index,
        path: read_path(path).into(),
    }
}

fn read_path(path: ReadPath) -> wire::ReadPath {
    match path {
        ReadPath::Lease => wire::ReadPath::Lease,
        ReadPath::Inherited => wire::ReadPath::Inherited,
        ReadPath::Quorum => wire::ReadPath::Quorum,
        ReadPath::Stale => wire::ReadPath::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_of(key_bytes: usize, value_bytes: usize) -> wire::SetRequest {
        wire::SetRequest {
            request: None,
            key: "k".repeat(key_bytes),
            value: "v".repeat(value_bytes),
        }
    }

    // The largest key and value pass; one byte more is refused with both numbers.
    #[test]
    fn sizes_are_bounded() {
        assert!(set(set_of(KEY_BYTES_MAX, VALUE_BYTES_MAX)).is_ok());
        let refusal = set(set_of(KEY_BYTES_MAX + 1, 0)).unwrap_err();
        assert!(refusal.message.contains("65537") && refusal.message.contains("65536"));
        let refusal = set(set_of(1, VALUE_BYTES_MAX + 1)).unwrap_err();
        assert!(refusal.message.contains("1048577"), "{}", refusal.message);
        assert_eq!(refusal.reason, wire::ErrorReason::Invalid);
    }

    // Numbers that mean nothing are refused, not guessed at.
    #[test]
    fn nonsense_is_refused() {
        for (client_id, sequence) in [(0, 1), (1, 0)] {
            let mut request = set_of(1, 1);
            request.request = Some(wire::RequestId {
                client_id,
                sequence,
                since_index: 0,
            });
            assert!(set(request).is_err());
        }
        let unknown = wire::GetRequest {
            key: "k".into(),
            consistency: 7,
        };
        assert!(get(unknown).is_err());
    }
}
