//! What the log holds: commands, plain values without behaviour.
//!
//! The consensus core carries them without looking inside; the state machine applies them; the
//! write-ahead log writes them as text; the wire turns them into protobuf. Values are shared
//! (`Arc`), because one entry stands at the same time in the log, in the queue of each peer and,
//! once applied, in the store. GETs never become commands: they are not logged.

mod members;

pub use members::{MEMBERS_MAX, Member, Members, RETIRED_MAX};

use std::sync::Arc;

/// The first format of logs, files and messages: what every version reads.
pub const FORMAT_FIRST: u64 = 1;
/// The newest format that this version reads and writes. What it adds to the one before:
///
/// * 2: snapshots, and logs that begin with one;
/// * 3: changes of membership.
pub const FORMAT_NEWEST: u64 = 3;

/// From this format on there are snapshots.
pub const FORMAT_SNAPSHOTS: u64 = 2;

/// From this format on the log may change who belongs to the cluster.
pub const FORMAT_MEMBERS: u64 = 3;

/// One command of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Appended by each new leader, so that it has an entry of its own term to commit
    /// (Raft dissertation 6.4).
    NoOp,
    /// From here on the cluster's files and messages may be of another format.
    Format(Format),
    /// From here on these belong to the cluster.
    Members(Arc<Members>),
    /// A client's write.
    Write(Write),
}

/// What begins a format, and what snapshots say of the cluster from there on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Format {
    /// The format: every voter reads it.
    pub version: u64,
    /// The cluster's id, as the leader knew it. 0: it has none.
    pub cluster: u128,
    /// The voters, by rising id.
    pub voters: Vec<u64>,
}

/// Where a cluster has no id.
const NO_ID: &str = "NULL";

/// A cluster's id as a word: 32 hexadecimal digits.
pub fn cluster_text(id: u128) -> String {
    match id {
        0 => NO_ID.to_owned(),
        id => format!("{id:032x}"),
    }
}

/// The id of [`cluster_text`]; nothing where it is not such a word.
pub fn parse_cluster(word: &str) -> Option<u128> {
    let id = match word {
        NO_ID => 0,
        digits => u128::from_str_radix(digits, 16).ok()?,
    };
    (cluster_text(id) == word).then_some(id)
}

/// Ids with commas between them.
pub fn voters_text(voters: &[u64]) -> String {
    let voters: Vec<String> = voters.iter().map(u64::to_string).collect();
    voters.join(",")
}

/// The ids of [`voters_text`]; nothing where it is not such a text.
pub fn parse_voters(text: &str) -> Option<Vec<u64>> {
    let ids = text.split(',').filter(|id| !id.is_empty());
    let voters: Vec<u64> = ids.map(|id| id.parse().ok()).collect::<Option<_>>()?;
    (voters_text(&voters) == text).then_some(voters)
}

/// A client's write, with the identity that makes a resent one apply once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Absent: the client did not ask for resend-once.
    pub request: Option<RequestId>,
    /// What to do.
    pub operation: Operation,
}

/// What a write does to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Bind the key to the value.
    Set {
        /// Key to bind.
        key: Arc<str>,
        /// New value.
        value: Arc<str>,
    },
    /// Remove the key, if it is there.
    Delete {
        /// Key to remove.
        key: Arc<str>,
    },
    /// Bind the key to the value if its present value is the expected one.
    CompareAndSet {
        /// Key to bind.
        key: Arc<str>,
        /// Expected present value; `None`: the key must not exist.
        expected: Option<Arc<str>>,
        /// New value.
        value: Arc<str>,
    },
}

impl Command {
    /// Roughly what the command takes in memory and on the wire: for bounds on queues and
    /// messages.
    pub fn size_bytes(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            Command::NoOp | Command::Format(_) => FIXED,
            Command::Members(members) => FIXED + members.nodes.len() * MEMBER_BYTES,
            Command::Write(write) => FIXED + write.operation.size_bytes(),
        }
    }
}

/// Roughly what a node takes in a configuration.
const MEMBER_BYTES: usize = 128;

/// How an operation is written. Its number goes into digests, so it stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// [`Operation::Set`].
    Set = 0,
    /// [`Operation::Delete`].
    Delete = 1,
    /// [`Operation::CompareAndSet`] with an expected value.
    CompareAndSet = 2,
    /// [`Operation::CompareAndSet`] of a key that must not exist.
    Create = 3,
}

impl Verb {
    /// All there are.
    pub const ALL: [Verb; 4] = [Verb::Set, Verb::Delete, Verb::CompareAndSet, Verb::Create];

    /// As `logs.txt` has it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Set => "SET",
            Verb::Delete => "DEL",
            Verb::CompareAndSet => "CAS",
            Verb::Create => "CREATE",
        }
    }
}

impl Operation {
    /// The operation in its notation: the verb, the key, and the words that follow. Text, size and
    /// digest of every operation are made from this.
    pub fn parts(&self) -> (Verb, &Arc<str>, [Option<&Arc<str>>; 2]) {
        match self {
            Operation::Set { key, value } => (Verb::Set, key, [Some(value), None]),
            Operation::Delete { key } => (Verb::Delete, key, [None, None]),
            Operation::CompareAndSet {
                key,
                expected: Some(expected),
                value,
            } => (Verb::CompareAndSet, key, [Some(expected), Some(value)]),
            Operation::CompareAndSet {
                key,
                expected: None,
                value,
            } => (Verb::Create, key, [Some(value), None]),
        }
    }

    /// The operation from its notation, whose words come one after the other; `None`: there are too
    /// few.
    pub fn from_words(verb: Verb, mut next: impl FnMut() -> Option<Arc<str>>) -> Option<Self> {
        Some(match verb {
            Verb::Set => Operation::Set {
                key: next()?,
                value: next()?,
            },
            Verb::Delete => Operation::Delete { key: next()? },
            Verb::CompareAndSet => Operation::CompareAndSet {
                key: next()?,
                expected: Some(next()?),
                value: next()?,
            },
            Verb::Create => Operation::CompareAndSet {
                key: next()?,
                expected: None,
                value: next()?,
            },
        })
    }

    /// Its words in their order, the key first.
    pub fn words(&self) -> impl Iterator<Item = &Arc<str>> {
        let (_, key, rest) = self.parts();
        std::iter::once(key).chain(rest.into_iter().flatten())
    }

    /// Bytes of its words.
    pub fn size_bytes(&self) -> usize {
        self.words().map(|word| word.len()).sum()
    }

    /// The same operation with other words in it.
    pub fn with_words(&self, change: impl Fn(&Arc<str>) -> Arc<str>) -> Self {
        let mut words = self.words().map(change);
        let changed = Operation::from_words(self.parts().0, || words.next());
        changed.expect("as many words as before")
    }

    /// The one key that the operation reads or changes.
    pub fn key(&self) -> &Arc<str> {
        self.parts().1
    }
}

/// Names one write of one client for good: the same three numbers, the same write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The client.
    pub client_id: u64,
    /// Counted up from 1 by the client.
    pub sequence: u64,
    /// A log index that the client had learnt of before it first sent this request. A session
    /// that ended after it may have held this write, one that ended before it can not have:
    /// that is how a resend to an expired session is told from a new client.
    pub since_index: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    // What an operation is made of makes the same operation again, and no verb is like another.
    #[test]
    fn operations_come_back_from_their_words() {
        let mut names = Vec::new();
        for (number, verb) in Verb::ALL.into_iter().enumerate() {
            let mut letters = ["a", "b", "c"].into_iter().map(Arc::from);
            let operation = Operation::from_words(verb, || letters.next()).unwrap();
            assert_eq!((operation.parts().0, verb as usize), (verb, number));
            let mut words = operation.words().map(Arc::clone);
            let again = Operation::from_words(verb, || words.next());
            assert_eq!(again.as_ref(), Some(&operation));
            assert_eq!((&**operation.key(), words.next()), ("a", None));
            assert_eq!(Operation::from_words(verb, || None), None);
            let longer = operation.with_words(|word| format!("{word}{word}").into());
            assert_eq!(longer.size_bytes(), 2 * operation.size_bytes());
            names.push(verb.name());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Verb::ALL.len());
    }
}
