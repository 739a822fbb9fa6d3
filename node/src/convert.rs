//! Messages between nodes: raft types to protobuf and back. Total: whatever a peer sends becomes
//! a message that makes sense by itself and whose numbers the core can count on from, or an error
//! that names what is wrong with it. Whether it fits what the receiver has sent is the core's to
//! know; it asserts that nobody acknowledges what was never sent.

use crate::command::{
    Command, FORMAT_NEWEST, Format, Members, Operation, RequestId, Write, cluster_text,
    parse_cluster, parse_voters, voters_text,
};
use crate::raft::{
    AppendOutcome, ENDED_MAX, Entry, Index, Message, OpenPromise, Owed, Run, SnapshotId, Term,
};
use raftkv::raft as wire;
use std::sync::Arc;
use wire::entry::Operation as WireOperation;
use wire::message::Body;

/// Highest index and term: what follows them can be counted without overflow.
const COUNT_MAX: u64 = u64::MAX / 2;
/// Longest time that a promise may last on: a day, where the longest lease is ten seconds.
const TIME_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// What is wrong with a message. The connection that brought it can't be trusted further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing in it that this version knows.
    #[error("a message without a body known here")]
    NoBody,
    /// An entry without an operation that this version knows.
    #[error("entry {0} has no operation known here")]
    NoOperation(Index),
    /// An entry that takes the log to a format which this version does not read.
    #[error("entry {0} goes over to format {1}; this version reads up to {FORMAT_NEWEST}")]
    Format(Index, u64),
    /// A piece of a snapshot that has no name.
    #[error("a piece of a snapshot without its name")]
    NoSnapshot,
    /// Entries that do not follow each other.
    #[error("entry {found} stands where {expected} should")]
    Gap {
        /// The index that should stand there.
        expected: Index,
        /// The index that does.
        found: Index,
    },
    /// An entry whose term is lower than that of the one before, or higher than its leader's.
    #[error("entry {0} is of an impossible term")]
    EntryTerm(Index),
    /// A number that leaves no room to count on from.
    #[error("{0} too large to count on from")]
    TooLarge(&'static str),
}

/// A message for the wire. `id` is this node's.
pub fn to_wire(id: u64, message: &Message) -> wire::Message {
    let body = match message {
        Message::Append {
            term,
            base_index,
            base_term,
            entries,
            commit_index,
            lease_ms,
            sequence,
            incarnation,
        } => Body::AppendEntries(wire::AppendEntries {
            incarnation: *incarnation,
            term: *term,
            leader_id: id,
            prev_log_index: *base_index,
            prev_log_term: *base_term,
            entries: entries.iter().map(entry_to_wire).collect(),
            leader_commit: *commit_index,
            lease_duration_ms: *lease_ms,
            sequence: *sequence,
        }),
        Message::AppendReply {
            term,
            sequence,
            outcome,
        } => Body::AppendEntriesReply(append_reply_to_wire(*term, *sequence, *outcome)),
        Message::InstallSnapshot {
            term,
            snapshot,
            offset,
            data,
            lease_ms,
            sequence,
            incarnation,
        } => Body::InstallSnapshot(wire::InstallSnapshot {
            incarnation: *incarnation,
            term: *term,
            leader_id: id,
            snapshot: Some(wire::SnapshotId {
                index: snapshot.index,
                term: snapshot.term,
                format: snapshot.format,
                hash: snapshot.hash,
                bytes: snapshot.bytes,
            }),
            offset: *offset,
            data: data.to_vec(),
            lease_duration_ms: *lease_ms,
            sequence: *sequence,
        }),
        Message::InstallReply {
            term,
            sequence,
            index,
            offset,
        } => Body::InstallSnapshotReply(wire::InstallSnapshotReply {
            term: *term,
            sequence: *sequence,
            index: *index,
            offset: *offset,
        }),
        Message::Vote {
            term,
            last_index,
            last_term,
            pre,
            released,
            incarnation,
        } => Body::RequestVote(wire::RequestVote {
            incarnation: *incarnation,
            term: *term,
            candidate_id: id,
            last_log_index: *last_index,
            last_log_term: *last_term,
            pre_vote: *pre,
            released_leader_id: released.map(|(leader, _)| leader),
            released_term: released.map_or(0, |(_, term)| term),
        }),
        Message::VoteReply {
            term,
            granted,
            pre,
            promise_remaining_ms,
            owed,
        } => Body::RequestVoteReply(wire::RequestVoteReply {
            owed: owed.promises.as_deref().map(owed_to_wire),
            ended: owed.ended.iter().map(run_to_wire).collect(),
            term: *term,
            vote_granted: *granted,
            pre_vote: *pre,
            longest_remaining_lease_ms: *promise_remaining_ms,
        }),
        Message::State {
            term,
            index,
            hash,
            agreed,
        } => Body::State(wire::State {
            term: *term,
            index: *index,
            hash: *hash,
            agreed: *agreed,
        }),
        Message::TimeoutNow {
            term,
            last_index,
            released,
        } => Body::TimeoutNow(wire::TimeoutNow {
            term: *term,
            last_log_index: *last_index,
            released: *released,
        }),
    };
    wire::Message { body: Some(body) }
}

/// A run for the wire.
pub fn run_to_wire(run: &Run) -> wire::Run {
    wire::Run {
        node_id: run.node,
        incarnation: run.incarnation,
    }
}

fn owed_to_wire(promises: &[OpenPromise]) -> wire::Owed {
    let promise = |promise: &OpenPromise| wire::LeasePromise {
        leader: Some(run_to_wire(&promise.leader)),
        term: promise.term,
        remaining_ms: promise.remaining_ms,
    };
    wire::Owed {
        promises: promises.iter().map(promise).collect(),
    }
}

fn append_reply_to_wire(
    term: Term,
    sequence: u64,
    outcome: AppendOutcome,
) -> wire::AppendEntriesReply {
    let mut reply = wire::AppendEntriesReply {
        term,
        sequence,
        ..Default::default()
    };
    match outcome {
        AppendOutcome::Accepted { match_index } => {
            reply.success = true;
            reply.match_index = match_index;
        }
        AppendOutcome::Rejected {
            conflict_index,
            conflict_term,
        } => {
            reply.conflict_index = conflict_index;
            reply.conflict_term = conflict_term;
        }
    }
    reply
}

fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let (request, operation) = match &*entry.command {
        Command::NoOp => (None, WireOperation::NoOp(wire::NoOp {})),
        Command::Format(format) => {
            let format = wire::Format {
                version: format.version,
                cluster_id: cluster_text(format.cluster),
                voters: voters_text(&format.voters),
            };
            (None, WireOperation::Format(format))
        }
        Command::Members(members) => {
            let text = members.text();
            (None, WireOperation::Members(wire::Members { text }))
        }
        Command::Write(write) => (
            write.request.map(|request| wire::RequestId {
                client_id: request.client_id,
                sequence: request.sequence,
                since_index: request.since_index,
            }),
            operation_to_wire(&write.operation),
        ),
    };
    wire::Entry {
        term: entry.term,
        index: entry.index,
        request,
        operation: Some(operation),
    }
}

fn operation_to_wire(operation: &Operation) -> WireOperation {
    match operation {
        Operation::Set { key, value } => WireOperation::Set(wire::Set {
            key: key.to_string(),
            value: value.to_string(),
        }),
        Operation::Delete { key } => WireOperation::Delete(wire::Delete {
            key: key.to_string(),
        }),
        Operation::CompareAndSet {
            key,
            expected,
            value,
        } => WireOperation::CompareAndSet(wire::CompareAndSet {
            key: key.to_string(),
            expected: expected.as_deref().map(str::to_owned),
            value: value.to_string(),
        }),
    }
}

/// A message from the wire.
pub fn from_wire(message: wire::Message) -> Result<Message, Malformed> {
    match message.body.ok_or(Malformed::NoBody)? {
        Body::AppendEntries(append) => append_from_wire(append),
        Body::AppendEntriesReply(reply) => Ok(Message::AppendReply {
            term: term(reply.term)?,
            sequence: reply.sequence,
            outcome: append_outcome(&reply)?,
        }),
        Body::InstallSnapshot(install) => install_from_wire(install),
        Body::InstallSnapshotReply(reply) => Ok(Message::InstallReply {
            term: term(reply.term)?,
            sequence: reply.sequence,
            index: index(reply.index)?,
            offset: at_most(COUNT_MAX, reply.offset, "offset")?,
        }),
        Body::RequestVote(vote) => Ok(Message::Vote {
            term: term(vote.term)?,
            last_index: index(vote.last_log_index)?,
            last_term: vote.last_log_term,
            pre: vote.pre_vote,
            released: vote
                .released_leader_id
                .map(|leader| (leader, vote.released_term)),
            incarnation: vote.incarnation,
        }),
        Body::RequestVoteReply(reply) => Ok(Message::VoteReply {
            term: term(reply.term)?,
            granted: reply.vote_granted,
            pre: reply.pre_vote,
            promise_remaining_ms: reply.longest_remaining_lease_ms.map(time_ms).transpose()?,
            owed: owed_from_wire(reply.owed, &reply.ended)?,
        }),
        Body::State(state) => Ok(Message::State {
            term: term(state.term)?,
            index: index(state.index)?,
            hash: state.hash,
            agreed: state.agreed,
        }),
        Body::TimeoutNow(timeout_now) => Ok(Message::TimeoutNow {
            term: term(timeout_now.term)?,
            last_index: index(timeout_now.last_log_index)?,
            released: timeout_now.released,
        }),
    }
}

/// A run from the wire. One without a name is any.
pub fn run_from_wire(run: &wire::Run) -> Run {
    match run.incarnation {
        0 => Run::UNKNOWN,
        incarnation => Run {
            node: run.node_id,
            incarnation,
        },
    }
}

fn owed_from_wire(owed: Option<wire::Owed>, ended: &[wire::Run]) -> Result<Owed, Malformed> {
    let promise = |promise: &wire::LeasePromise| {
        Ok(OpenPromise {
            leader: promise.leader.as_ref().map_or(Run::UNKNOWN, run_from_wire),
            term: term(promise.term)?,
            remaining_ms: time_ms(promise.remaining_ms)?,
        })
    };
    let promises = owed.map(|owed| owed.promises.iter().map(promise).collect());
    Ok(Owed {
        promises: promises.transpose()?,
        ended: ended.iter().take(ENDED_MAX).map(run_from_wire).collect(),
    })
}

fn append_outcome(reply: &wire::AppendEntriesReply) -> Result<AppendOutcome, Malformed> {
    Ok(match reply.success {
        true => AppendOutcome::Accepted {
            match_index: index(reply.match_index)?,
        },
        false => AppendOutcome::Rejected {
            conflict_index: index(reply.conflict_index)?,
            conflict_term: reply.conflict_term,
        },
    })
}

fn install_from_wire(install: wire::InstallSnapshot) -> Result<Message, Malformed> {
    let leader_term = term(install.term)?;
    let snapshot = install.snapshot.ok_or(Malformed::NoSnapshot)?;
    let snapshot = SnapshotId {
        index: index(snapshot.index)?,
        term: snapshot.term,
        format: snapshot.format,
        hash: snapshot.hash,
        bytes: at_most(COUNT_MAX, snapshot.bytes, "length")?,
    };
    if snapshot.format > FORMAT_NEWEST {
        return Err(Malformed::Format(snapshot.index, snapshot.format));
    }
    if snapshot.term > leader_term {
        return Err(Malformed::EntryTerm(snapshot.index));
    }
    Ok(Message::InstallSnapshot {
        term: leader_term,
        snapshot,
        offset: at_most(COUNT_MAX, install.offset, "offset")?,
        data: install.data.into(),
        lease_ms: install.lease_duration_ms,
        sequence: install.sequence,
        incarnation: install.incarnation,
    })
}

fn append_from_wire(append: wire::AppendEntries) -> Result<Message, Malformed> {
    let leader_term = term(append.term)?;
    let mut entries = Vec::with_capacity(append.entries.len());
    let (mut last_index, mut last_term) = (index(append.prev_log_index)?, append.prev_log_term);
    for entry in append.entries {
        last_index += 1;
        if entry.index != last_index {
            return Err(Malformed::Gap {
                expected: last_index,
                found: entry.index,
            });
        }
        if entry.term < last_term || entry.term > leader_term {
            return Err(Malformed::EntryTerm(last_index));
        }
        last_term = entry.term;
        entries.push(entry_from_wire(entry)?);
    }
    Ok(Message::Append {
        term: leader_term,
        base_index: append.prev_log_index,
        base_term: append.prev_log_term,
        entries,
        commit_index: append.leader_commit,
        lease_ms: append.lease_duration_ms,
        sequence: append.sequence,
        incarnation: append.incarnation,
    })
}

fn index(index: u64) -> Result<Index, Malformed> {
    at_most(COUNT_MAX, index, "index")
}

fn term(term: u64) -> Result<Term, Malformed> {
    at_most(COUNT_MAX, term, "term")
}

fn time_ms(ms: u64) -> Result<u64, Malformed> {
    at_most(TIME_MS_MAX, ms, "time")
}

fn at_most(most: u64, number: u64, what: &'static str) -> Result<u64, Malformed> {
    match number <= most {
        true => Ok(number),
        false => Err(Malformed::TooLarge(what)),
    }
}

fn entry_from_wire(entry: wire::Entry) -> Result<Entry, Malformed> {
    let request = entry.request.map(|request| RequestId {
        client_id: request.client_id,
        sequence: request.sequence,
        since_index: request.since_index,
    });
    let write = |operation| Command::Write(Write { request, operation });
    let command = match entry.operation.ok_or(Malformed::NoOperation(entry.index))? {
        WireOperation::NoOp(wire::NoOp {}) => Command::NoOp,
        WireOperation::Format(format) if format.version > FORMAT_NEWEST => {
            return Err(Malformed::Format(entry.index, format.version));
        }
        WireOperation::Format(format) => Command::Format(Format {
            version: format.version,
            cluster: parse_cluster(&format.cluster_id)
                .ok_or(Malformed::NoOperation(entry.index))?,
            voters: parse_voters(&format.voters).ok_or(Malformed::NoOperation(entry.index))?,
        }),
        WireOperation::Members(members) => {
            let members =
                Members::parse(&members.text).ok_or(Malformed::NoOperation(entry.index))?;
            Command::Members(Arc::new(members))
        }
        WireOperation::Set(set) => write(Operation::Set {
            key: set.key.into(),
            value: set.value.into(),
        }),
        WireOperation::Delete(delete) => write(Operation::Delete {
            key: delete.key.into(),
        }),
        WireOperation::CompareAndSet(swap) => write(Operation::CompareAndSet {
            key: swap.key.into(),
            expected: swap.expected.map(Arc::from),
            value: swap.value.into(),
        }),
    };
    Ok(Entry {
        index: entry.index,
        term: entry.term,
        command: Arc::new(command),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(index: Index, term: Term, operation: Operation) -> Entry {
        let request = Some(RequestId {
            client_id: 1,
            sequence: 2,
            since_index: 3,
        });
        Entry {
            index,
            term,
            command: Arc::new(Command::Write(Write { request, operation })),
        }
    }

    fn append() -> Message {
        let swap = |expected: Option<&str>| Operation::CompareAndSet {
            key: "k".into(),
            expected: expected.map(Arc::from),
            value: "v".into(),
        };
        let no_op = Entry {
            index: 8,
            term: 2,
            command: Arc::new(Command::NoOp),
        };
        let set = Operation::Set {
            key: "k".into(),
            value: "".into(),
        };
        Message::Append {
            term: 3,
            base_index: 7,
            base_term: 2,
            entries: vec![
                no_op,
                write(9, 2, set),
                write(10, 3, Operation::Delete { key: "".into() }),
                write(11, 3, swap(None)),
                write(12, 3, swap(Some(""))),
                Entry {
                    index: 13,
                    term: 3,
                    command: Arc::new(Command::Format(Format {
                        version: FORMAT_NEWEST,
                        cluster: 7,
                        voters: vec![1, 2, 13],
                    })),
                },
            ],
            commit_index: 6,
            lease_ms: 2000,
            sequence: 99,
            incarnation: 0xab,
        }
    }

    // Every kind of message comes over the wire as it was; absent and empty are told apart.
    #[test]
    fn messages_round_trip() {
        let reply = |outcome| Message::AppendReply {
            term: 3,
            sequence: 99,
            outcome,
        };
        let rejected = |conflict_term| AppendOutcome::Rejected {
            conflict_index: 4,
            conflict_term,
        };
        let run = |node| Run {
            node,
            incarnation: 0xcd,
        };
        let open = |leader| OpenPromise {
            leader,
            term: 3,
            remaining_ms: 7,
        };
        let owed = |remaining_ms: Option<u64>| Owed {
            promises: remaining_ms.map(|_| vec![open(run(1)), open(Run::UNKNOWN)]),
            ended: vec![run(3)],
        };
        let vote = |pre, released| Message::Vote {
            term: 4,
            last_index: 12,
            last_term: 3,
            pre,
            released,
            incarnation: 0xab,
        };
        let vote_reply = |promise_remaining_ms| Message::VoteReply {
            term: 4,
            granted: true,
            pre: false,
            promise_remaining_ms,
            owed: owed(promise_remaining_ms.map(|_| 7)),
        };
        for message in [
            append(),
            reply(AppendOutcome::Accepted { match_index: 12 }),
            reply(rejected(None)),
            reply(rejected(Some(0))),
            vote(true, None),
            vote(false, Some((1, 3))),
            vote_reply(None),
            vote_reply(Some(0)),
            Message::State {
                term: 3,
                index: 12,
                hash: 0xdead_beef,
                agreed: true,
            },
            Message::TimeoutNow {
                term: 4,
                last_index: 12,
                released: true,
            },
        ] {
            assert_eq!(from_wire(to_wire(1, &message)), Ok(message));
        }
    }

    // A peer's nonsense is named, and never reaches the core.
    #[test]
    fn nonsense_is_refused() {
        let broken = |break_it: fn(&mut wire::AppendEntries)| {
            let mut message = to_wire(1, &append());
            match &mut message.body {
                Some(Body::AppendEntries(append)) => break_it(append),
                _ => unreachable!("an append"),
            }
            from_wire(message).unwrap_err()
        };
        let nothing = wire::Message { body: None };
        assert_eq!(from_wire(nothing), Err(Malformed::NoBody));
        let gap = broken(|append| drop(append.entries.remove(1)));
        let expected = Malformed::Gap {
            expected: 9,
            found: 10,
        };
        assert_eq!(gap, expected);
        let unknown = broken(|append| append.entries[0].operation = None);
        assert_eq!(unknown, Malformed::NoOperation(8));
        let later = broken(|append| {
            let format = wire::Format {
                version: FORMAT_NEWEST + 1,
                ..wire::Format::default()
            };
            append.entries[5].operation = Some(WireOperation::Format(format));
        });
        assert_eq!(later, Malformed::Format(13, FORMAT_NEWEST + 1));
        let backwards = broken(|append| append.entries[0].term = 1);
        assert_eq!(backwards, Malformed::EntryTerm(8));
        let ahead = broken(|append| append.entries[4].term = 4);
        assert_eq!(ahead, Malformed::EntryTerm(12));
        let huge = broken(|append| append.prev_log_index = u64::MAX);
        assert!(matches!(huge, Malformed::TooLarge(_)));
    }

    // No number is taken from which the core could not count on: each is refused by name.
    #[test]
    fn huge_numbers_are_refused() {
        const HUGE: u64 = u64::MAX;
        let reply = |term, outcome| Message::AppendReply {
            term,
            sequence: 1,
            outcome,
        };
        let rejected = |conflict_index| AppendOutcome::Rejected {
            conflict_index,
            conflict_term: None,
        };
        let vote = |term, last_index| Message::Vote {
            term,
            last_index,
            last_term: 1,
            pre: false,
            released: None,
            incarnation: 0,
        };
        let vote_reply = |term, promise_remaining_ms| Message::VoteReply {
            term,
            granted: true,
            pre: false,
            promise_remaining_ms: Some(promise_remaining_ms),
            owed: Owed::default(),
        };
        let timeout_now = |term, last_index| Message::TimeoutNow {
            term,
            last_index,
            released: true,
        };
        let accepted = |match_index| AppendOutcome::Accepted { match_index };
        for (message, what) in [
            (reply(1, accepted(HUGE)), "index"),
            (reply(HUGE, accepted(1)), "term"),
            (reply(1, rejected(HUGE)), "index"),
            (vote(1, HUGE), "index"),
            (vote(HUGE, 1), "term"),
            (vote_reply(1, HUGE), "time"),
            (vote_reply(HUGE, 1), "term"),
            (timeout_now(1, HUGE), "index"),
            (timeout_now(HUGE, 1), "term"),
        ] {
            let refused = from_wire(to_wire(1, &message));
            assert_eq!(refused, Err(Malformed::TooLarge(what)), "{message:?}");
        }
        let mut heartbeat = to_wire(1, &append());
        if let Some(Body::AppendEntries(append)) = &mut heartbeat.body {
            (append.term, append.entries) = (HUGE, Vec::new());
        }
        assert_eq!(from_wire(heartbeat), Err(Malformed::TooLarge("term")));
    }
}
