//! How messages are read: as prost does, once their elements have been counted.
//!
//! An element of a repeated field may take two bytes of a message and more than a hundred in memory.
//! So the length of a message bounds nothing: its elements are counted on the wire, before any of
//! them is made. A message with too many is refused with INVALID, and costs no more than its bytes.

use crate::kv::ErrorReason;
use crate::{PIPELINE_OPERATIONS_MAX, REASON_METADATA, admin, kv, raft};
use prost::Message;
use prost::bytes::Buf;
use std::any::{Any, TypeId};
use std::marker::PhantomData;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};

/// Most entries of one append: four times as many as a leader sends.
const ENTRIES_MAX: usize = 4096;
/// Most peers named in one request: more than any cluster has.
const PEERS_MAX: usize = 1024;

/// Most runs of nodes, or promises to them, in one vote.
const RUNS_MAX: usize = 64;

/// Most members named in one request.
const MEMBERS_MAX: usize = 64;

/// A repeated field of a request.
#[derive(Clone, Copy, Debug)]
struct Repeated {
    /// The numbers of the fields that lead to it.
    path: &'static [u64],
    /// Numbers, of which many may stand in one field.
    numbers: bool,
    most: usize,
    /// What its elements are, in words.
    what: &'static str,
}

const OPERATIONS: Repeated = Repeated {
    path: &[1],
    numbers: false,
    most: PIPELINE_OPERATIONS_MAX,
    what: "operations",
};
const ENTRIES: Repeated = Repeated {
    path: &[1, 5],
    numbers: false,
    most: ENTRIES_MAX,
    what: "entries",
};
const PEERS: Repeated = Repeated {
    path: &[1],
    numbers: true,
    most: PEERS_MAX,
    what: "peers",
};

const MEMBERS: Repeated = Repeated {
    path: &[2],
    numbers: false,
    most: MEMBERS_MAX,
    what: "members",
};

/// Of a vote: more than a voter tells.
const OWED: Repeated = Repeated {
    path: &[4, 5, 1],
    numbers: false,
    most: RUNS_MAX,
    what: "promises",
};
const ENDED: Repeated = Repeated {
    path: &[4, 6],
    numbers: false,
    most: RUNS_MAX,
    what: "runs",
};

/// The repeated fields of a message that nodes take. Replies are not bounded: whoever asks a node trusts
/// it.
fn repeated<M: 'static>() -> &'static [Repeated] {
    let asked = TypeId::of::<M>();
    let known = [
        (TypeId::of::<kv::PipelineRequest>(), &[OPERATIONS][..]),
        (TypeId::of::<raft::Message>(), &[ENTRIES, OWED, ENDED]),
        (TypeId::of::<admin::CutLinksRequest>(), &[PEERS]),
        (TypeId::of::<admin::HealLinksRequest>(), &[PEERS]),
        (TypeId::of::<admin::ChangeMembersRequest>(), &[MEMBERS]),
    ];
    let found = known.into_iter().find(|(message, _)| *message == asked);
    found.map_or(&[], |(_, repeated)| repeated)
}

/// Writes messages as prost does, and reads them once they are counted.
#[derive(Debug, Clone)]
pub struct Counted<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Counted<T, U> {
    fn default() -> Self {
        Counted(PhantomData)
    }
}

impl<T, U> Codec for Counted<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CountedDecoder<T, U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountedDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

/// See [`Counted`].
#[derive(Debug)]
pub struct CountedDecoder<T, U>(<ProstCodec<T, U> as Codec>::Decoder)
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static;

impl<T, U> Decoder for CountedDecoder<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let repeated = repeated::<U>();
        if !repeated.is_empty() {
            // The whole message lies in one piece: tonic puts it together.
            let message = buffer.chunk();
            repeated.iter().try_for_each(|it| check(message, it))?;
            if let Some(operations) = one_by_one::<U>(message) {
                buffer.advance(buffer.remaining());
                return Ok(Some(operations));
            }
        }
        self.0.decode(buffer)
    }
}

/// The operations of a stream's message, each read by itself: one that can't be read, as where its
/// text is not UTF-8, is kept with nothing but its id, so that it can be answered by name and the
/// others be carried out. `None`: it is another message, or not even its operations can be told.
fn one_by_one<M: 'static>(message: &[u8]) -> Option<M> {
    if TypeId::of::<M>() != TypeId::of::<kv::PipelineRequest>() {
        return None;
    }
    let read: Box<dyn Any> = Box::new(operations(message)?);
    read.downcast().ok().map(|read| *read)
}

fn operations(mut message: &[u8]) -> Option<kv::PipelineRequest> {
    let mut operations = Vec::new();
    while !message.is_empty() {
        let field = next(&mut message)?;
        match field.content {
            Content::Bytes(within) if [field.number] == *OPERATIONS.path => {
                operations.push(operation(within)?);
            }
            Content::Number | Content::Bytes(_) => {}
            // No version of this message has had a group.
            Content::GroupBegins | Content::GroupEnds => return None,
        }
    }
    Some(kv::PipelineRequest { operations })
}

fn operation(text: &[u8]) -> Option<kv::Operation> {
    /// What an operation has in common with all others.
    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(uint64, tag = "1")]
        id: u64,
    }
    let nameless = || {
        let id = Named::decode(text).ok()?.id;
        Some(kv::Operation {
            id,
            operation: None,
        })
    };
    kv::Operation::decode(text).ok().or_else(nameless)
}

fn check(message: &[u8], repeated: &Repeated) -> Result<(), Status> {
    let mut left = repeated.most;
    if repeated.count(message, repeated.path, &mut left).is_some() {
        return Ok(());
    }
    let Repeated { most, what, .. } = repeated;
    let why = format!("a message with more than {most} {what}: send several messages");
    let mut metadata = MetadataMap::new();
    let reason = ErrorReason::Invalid.as_str_name();
    metadata.insert(REASON_METADATA, MetadataValue::from_static(reason));
    Err(Status::with_metadata(Code::InvalidArgument, why, metadata))
}

impl Repeated {
    /// Takes the elements off what is `left`; `None`: there are more. What is no message is counted
    /// up to where it ceases to be one: prost makes nothing of what follows.
    fn count(&self, mut message: &[u8], path: &[u64], left: &mut usize) -> Option<()> {
        let Some((number, deeper)) = path.split_first() else {
            return Some(());
        };
        let mut groups = 0usize;
        while let Some(field) = next(&mut message) {
            let is_it = groups == 0 && field.number == *number;
            match field.content {
                Content::GroupBegins => groups += 1,
                // Without a beginning: no message.
                Content::GroupEnds if groups == 0 => return Some(()),
                Content::GroupEnds => groups -= 1,
                Content::Bytes(within) if is_it && !deeper.is_empty() => {
                    self.count(within, deeper, left)?;
                }
                Content::Bytes(within) if is_it && self.numbers => {
                    let numbers = within.iter().filter(|byte| **byte & 0x80 == 0).count();
                    *left = left.checked_sub(numbers)?;
                }
                Content::Number | Content::Bytes(_) if is_it => *left = left.checked_sub(1)?,
                Content::Number | Content::Bytes(_) => {}
            }
        }
        Some(())
    }
}

/// A field as it stands on the wire.
struct Field<'a> {
    number: u64,
    content: Content<'a>,
}

enum Content<'a> {
    Number,
    Bytes(&'a [u8]),
    GroupBegins,
    GroupEnds,
}

/// Takes the next field off the front.
fn next<'a>(message: &mut &'a [u8]) -> Option<Field<'a>> {
    let tag = varint(message)?;
    let content = match tag & 7 {
        0 => varint(message).map(|_| Content::Number)?,
        1 => take(message, 8).map(|_| Content::Number)?,
        2 => {
            let length = usize::try_from(varint(message)?).ok()?;
            Content::Bytes(take(message, length)?)
        }
        3 => Content::GroupBegins,
        4 => Content::GroupEnds,
        5 => take(message, 4).map(|_| Content::Number)?,
        _ => return None,
    };
    let number = tag >> 3;
    Some(Field { number, content })
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

/// A number of at most ten bytes, of seven bits each.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (position, byte) in message.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            *message = &message[position + 1..];
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::field_descriptor_proto::Label;
    use prost_types::{DescriptorProto, FileDescriptorSet};
    use std::collections::{BTreeMap, BTreeSet};

    fn judge(message: &impl Message, repeated: &Repeated) -> Result<(), Status> {
        check(&message.encode_to_vec(), repeated)
    }

    fn append(entries: usize) -> raft::Message {
        let entry = || raft::Entry {
            operation: Some(raft::entry::Operation::NoOp(raft::NoOp {})),
            ..Default::default()
        };
        let append = raft::AppendEntries {
            term: 300,
            entries: (0..entries).map(|_| entry()).collect(),
            ..Default::default()
        };
        let body = Some(raft::message::Body::AppendEntries(append));
        raft::Message { body }
    }

    // As many elements as are allowed are taken, one more is refused by name, whether they are
    // messages, numbers in one field or in many, or stand deeper, in several pieces of one message.
    #[test]
    fn elements_are_counted_before_they_are_made() {
        let operations = |count| kv::PipelineRequest {
            operations: vec![kv::Operation::default(); count],
        };
        assert!(judge(&operations(PIPELINE_OPERATIONS_MAX), &OPERATIONS).is_ok());
        let refused = judge(&operations(PIPELINE_OPERATIONS_MAX + 1), &OPERATIONS).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refused.metadata().get(REASON_METADATA).unwrap(), "INVALID");
        assert!(refused.message().contains("4096 operations"), "{refused}");

        assert!(judge(&append(ENTRIES_MAX), &ENTRIES).is_ok());
        assert!(judge(&append(ENTRIES_MAX + 1), &ENTRIES).is_err());
        // prost joins the two, and so does the count.
        let half = append(ENTRIES_MAX / 2 + 1).encode_to_vec();
        assert!(check(&half, &ENTRIES).is_ok());
        assert!(check(&half.repeat(2), &ENTRIES).is_err());

        let heal = |count| admin::HealLinksRequest {
            peer_ids: vec![300; count],
        };
        assert!(judge(&heal(PEERS_MAX), &PEERS).is_ok());
        assert!(judge(&heal(PEERS_MAX + 1), &PEERS).is_err());
        assert!(check(&[8, 1].repeat(PEERS_MAX), &PEERS).is_ok());
        assert!(check(&[8, 1].repeat(PEERS_MAX + 1), &PEERS).is_err());
    }

    // However a message is made, its operations are read as prost reads them; one with text that is
    // not UTF-8 keeps its id, and the others are whole.
    #[test]
    fn operations_are_read_one_by_one() {
        let set = |id, key: &str| kv::Operation {
            id,
            operation: Some(kv::operation::Operation::Set(kv::SetRequest {
                key: key.into(),
                ..Default::default()
            })),
        };
        let message = kv::PipelineRequest {
            operations: vec![set(1, "a"), kv::Operation::default(), set(300, "key")],
        };
        let mut bytes = message.encode_to_vec();
        assert_eq!(operations(&bytes), Some(message.clone()));
        assert_eq!(one_by_one::<kv::PipelineRequest>(&bytes), Some(message));
        assert_eq!(one_by_one::<kv::PipelineReply>(&bytes), None);
        let at = bytes.windows(3).position(|word| word == b"key").unwrap();
        bytes[at] = 0xff;
        assert!(kv::PipelineRequest::decode(&bytes[..]).is_err());
        let read = operations(&bytes).unwrap().operations;
        let nameless = kv::Operation {
            id: 300,
            operation: None,
        };
        assert_eq!(read, [set(1, "a"), kv::Operation::default(), nameless]);
        for nonsense in [&[0xff; 3][..], &[10, 9, 1], &[0x4b, 0x4c], &[10, 1, 0xff]] {
            assert_eq!(operations(nonsense), None, "{nonsense:?}");
        }
    }

    // Fields that nobody knows are no elements, within a group neither; whatever the bytes are, they
    // are counted to an end.
    #[test]
    fn what_is_no_element_is_not_counted() {
        let group = [[0x4b].as_slice(), &[10, 0].repeat(9_000), &[0x4c]].concat();
        assert!(check(&group, &OPERATIONS).is_ok());
        let others = [[18, 1, 7].repeat(9_000), [25].repeat(9), [0x45; 5].to_vec()].concat();
        assert!(check(&others, &OPERATIONS).is_ok());
        for nonsense in [&[0xff; 30][..], &[10, 0xff, 0xff], &[0x4c], &[7], &[10]] {
            assert!(check(nonsense, &OPERATIONS).is_ok(), "{nonsense:?}");
        }
        let broken_off = [[10, 0].repeat(9_000), vec![0xff; 30]].concat();
        assert!(check(&broken_off, &OPERATIONS).is_err());
    }

    // No request has a repeated field that is not bounded.
    #[test]
    fn every_repeated_field_of_a_request_is_known() {
        let set = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
        let mut messages = BTreeMap::new();
        let mut requests = BTreeSet::new();
        for file in &set.file {
            for message in &file.message_type {
                let name = format!(".{}.{}", file.package(), message.name());
                messages.insert(name, message);
            }
            let methods = file.service.iter().flat_map(|service| &service.method);
            requests.extend(methods.map(|method| method.input_type().to_owned()));
        }
        let mut found = BTreeSet::new();
        for request in &requests {
            find(&messages, request, &mut vec![request.clone()], &mut found);
        }
        let known = [
            ".raftkv.admin.v1.ChangeMembersRequest members",
            ".raftkv.admin.v1.CutLinksRequest peer_ids",
            ".raftkv.admin.v1.HealLinksRequest peer_ids",
            ".raftkv.raft.v1.Message append_entries entries",
            ".raftkv.raft.v1.Message request_vote_reply ended",
            ".raftkv.raft.v1.Message request_vote_reply owed promises",
            ".raftkv.v1.PipelineRequest operations",
        ];
        assert_eq!(found, known.map(str::to_owned).into());
    }

    /// Collects the ways to repeated fields. No message holds one of its own kind.
    fn find(
        messages: &BTreeMap<String, &DescriptorProto>,
        name: &str,
        way: &mut Vec<String>,
        found: &mut BTreeSet<String>,
    ) {
        for field in messages.get(name).map_or(&[][..], |it| &it.field) {
            way.push(field.name().to_owned());
            if field.label() == Label::Repeated {
                found.insert(way.join(" "));
            }
            find(messages, field.type_name(), way, found);
            way.pop();
        }
    }
}
