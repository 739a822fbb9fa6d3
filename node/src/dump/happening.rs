//! Each kind of happening and its sentence.

use crate::command::{Command, Operation, Write};
use crate::raft::{Event, Index, NodeId, Term};
use crate::wal::{Damage, TornTail, plain_or_quoted, write_words};
use std::fmt::Write as _;
use std::sync::Arc;

/// An operation in a sentence is shortened beyond this many characters.
const WORDS_CHARS_MAX: usize = 128;

/// Something worth a line.
#[derive(Clone, Debug)]
pub enum Happening {
    /// The consensus core says so.
    Raft(Event),
    /// The leader got a request.
    Received(Asked),
    /// The process started, and this is what its files held.
    Started {
        /// Term on disk.
        term: Term,
        /// Last entry on disk.
        last_index: Index,
        /// Committed as far as the disk says.
        commit_index: Index,
        /// The process.
        pid: u32,
    },
    /// A last write that a crash cut short was cut off.
    TornTail(TornTail),
    /// The log was found damaged.
    Damaged(Damage),
    /// The log was damaged at an earlier start and has not been refilled since.
    StillDamaged {
        /// It does not vote before it knows a commit that far.
        until: Index,
    },
    /// An operator gave up what damage cost.
    DamageAccepted {
        /// Entries up to here may have been lost.
        until: Index,
    },
    /// Both listeners are bound.
    Ready,
    /// A peer's connection came up.
    PeerConnected(NodeId),
    /// A peer's connection broke.
    PeerDisconnected(NodeId),
    /// What was to be sent to a peer could not be.
    SendFailed(NodeId),
    /// Links were cut on request.
    LinksCut {
        /// To whom.
        peers: Vec<NodeId>,
        /// For how long.
        for_ms: u64,
    },
    /// The clock was made to run wrong on request.
    ClockDisturbed {
        /// Forth or back.
        jump_ms: i64,
        /// Fast or slow from now on.
        rate_ppm: i64,
    },
    /// Cut links were healed on request.
    LinksHealed {
        /// To whom.
        peers: Vec<NodeId>,
    },
    /// The node can't go on.
    Failed(Arc<str>),
    /// The node was told to stop.
    Stopping,
    /// The node has stopped.
    Stopped,
}

/// What a client asked the leader for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A write.
    Write(Operation),
    /// A read of one key.
    Get(Arc<str>),
    /// A read of keys with a prefix.
    List(Arc<str>),
}

/// Kinds that come with each request or entry, and may be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frequent {
    Received,
    CommittedAsLeader,
    CommittedAsFollower,
    Accepted,
}

impl Happening {
    /// Which of the frequent kinds it is, and the index it is about (0: none).
    pub(super) fn frequent(&self) -> Option<(Frequent, Index)> {
        match self {
            Happening::Received(_) => Some((Frequent::Received, 0)),
            Happening::Raft(Event::Committed { entry, as_leader }) => {
                let kind = match as_leader {
                    true => Frequent::CommittedAsLeader,
                    false => Frequent::CommittedAsFollower,
                };
                Some((kind, entry.index))
            }
            Happening::Raft(Event::AppendAccepted { last_index, .. }) => {
                Some((Frequent::Accepted, *last_index))
            }
            _ => None,
        }
    }

    /// The sentence and the fields.
    pub(super) fn render(&self, id: NodeId) -> (String, String) {
        match self {
            Happening::Raft(event) => render_event(event, id),
            Happening::Received(asked) => (
                format!("Node {id} (leader) received an {} request.", asked.words()),
                String::new(),
            ),
            Happening::PeerConnected(peer) => (
                format!("Node {peer} connected to Node {id}."),
                format!("peer={peer}"),
            ),
            Happening::PeerDisconnected(peer) => (
                format!("Connection from Node {peer} to Node {id} broke."),
                format!("peer={peer}"),
            ),
            Happening::SendFailed(peer) => (
                format!("Error occurred while sending RPC to Node {peer}."),
                format!("peer={peer}"),
            ),
            Happening::LinksCut { peers, for_ms } => (
                format!("Node {id} cut its links to Nodes {}.", commas(peers)),
                format!("for_ms={for_ms}"),
            ),
            Happening::ClockDisturbed { jump_ms, rate_ppm } => (
                format!("The clock of Node {id} was made to run wrong."),
                format!("jump_ms={jump_ms} rate_ppm={rate_ppm}"),
            ),
            Happening::LinksHealed { peers } => (
                format!("Node {id} healed its links to Nodes {}.", commas(peers)),
                String::new(),
            ),
            _ => self.render_life(id),
        }
    }

    /// Start, faults and end of the process.
    fn render_life(&self, id: NodeId) -> (String, String) {
        let mut fields = String::new();
        let sentence = match self {
            Happening::Started {
                term,
                last_index,
                commit_index,
                pid,
            } => {
                fields = format!(
                    "pid={pid} term={term} last_index={last_index} commit_index={commit_index}"
                );
                format!("Node {id} started.")
            }
            Happening::TornTail(TornTail { line, bytes }) => {
                fields = format!("line={line} bytes={bytes}");
                format!("Node {id} cut off a torn last write in logs.txt.")
            }
            Happening::Damaged(Damage { line, until }) => {
                fields = format!("line={line} until={until}");
                format!(
                    "Node {id} found logs.txt damaged at line {line}. It does not vote until it \
                     is refilled."
                )
            }
            Happening::StillDamaged { until } => {
                fields = format!("until={until}");
                format!("Node {id} has not refilled its damaged log yet. It does not vote.")
            }
            Happening::DamageAccepted { until } => {
                fields = format!("until={until}");
                format!(
                    "Node {id} votes with what is left of its damaged log, as an operator said."
                )
            }
            Happening::Ready => format!("Node {id} is ready."),
            Happening::Failed(why) => format!("Node {id} failed: {why}."),
            Happening::Stopping => format!("Node {id} was told to stop."),
            Happening::Stopped => format!("Node {id} stopped."),
            other => unreachable!("{other:?} is rendered elsewhere"),
        };
        (sentence, fields)
    }
}

fn render_event(event: &Event, id: NodeId) -> (String, String) {
    match event {
        Event::VoteGranted { candidate, term } => (
            format!("Vote granted for Node {candidate} in term {term}."),
            format!("candidate={candidate} term={term}"),
        ),
        Event::VoteDenied { candidate, term } => (
            format!("Vote denied for Node {candidate} in term {term}."),
            format!("candidate={candidate} term={term}"),
        ),
        Event::AppendAccepted {
            leader,
            term,
            entries,
            last_index,
        } => (
            format!("Node {id} accepted AppendEntries RPC from {leader}."),
            format!("term={term} entries={entries} last_index={last_index}"),
        ),
        Event::AppendRejected {
            leader,
            term,
            base_index,
        } => (
            format!("Node {id} rejected AppendEntries RPC from {leader}."),
            format!("term={term} base_index={base_index}"),
        ),
        Event::Committed { entry, as_leader } => {
            let role = if *as_leader { "leader" } else { "follower" };
            let words = command_words(&entry.command);
            (
                format!("Node {id} ({role}) committed the entry {words} to the state machine."),
                format!("term={} index={}", entry.term, entry.index),
            )
        }
        _ => render_leadership(event, id),
    }
}

/// Elections, leases and transfers.
fn render_leadership(event: &Event, id: NodeId) -> (String, String) {
    let (sentence, term, more) = match event {
        Event::ElectionStarted { term } => {
            let sentence = format!("Node {id} election timer timed out, Starting election.");
            (sentence, term, String::new())
        }
        Event::BecameLeader { term } => {
            let sentence = format!("Node {id} became the leader for term {term}.");
            (sentence, term, String::new())
        }
        Event::WaitingForOldLease { term, remaining_us } => {
            let sentence = "New Leader waiting for Old Leader Lease to timeout.".to_owned();
            (sentence, term, format!(" remaining_us={remaining_us}"))
        }
        Event::OldLeaseOver { term, deferred } => {
            let sentence = format!("Node {id} has waited out every older lease.");
            (sentence, term, format!(" deferred={deferred}"))
        }
        Event::HeartbeatSent { term } => {
            let sentence = format!("Leader {id} sending heartbeat & Renewing Lease");
            (sentence, term, String::new())
        }
        Event::LeaseRenewalFailed { term } => {
            let sentence = format!("Leader {id} lease renewal failed. Stepping Down.");
            (sentence, term, String::new())
        }
        Event::SteppedDown { term } => (format!("{id} Stepping down"), term, String::new()),
        Event::TransferStarted { target, term } => {
            let sentence = format!("Leader {id} hands leadership over to Node {target}.");
            (sentence, term, format!(" target={target}"))
        }
        Event::DiskStalled { term } => {
            let sentence = format!("Leader {id} gives up its lease because its disk has stalled.");
            (sentence, term, String::new())
        }
        Event::VoteGranted { .. }
        | Event::VoteDenied { .. }
        | Event::AppendAccepted { .. }
        | Event::AppendRejected { .. }
        | Event::Committed { .. } => unreachable!("rendered by the caller"),
    };
    (sentence, format!("term={term}{more}"))
}

impl Frequent {
    /// The sentence for several at once.
    pub(super) fn render_many(self, id: NodeId, count: u64) -> String {
        match self {
            Frequent::Received => format!("Node {id} (leader) received {count} requests."),
            Frequent::CommittedAsLeader => {
                format!("Node {id} (leader) committed {count} entries to the state machine.")
            }
            Frequent::CommittedAsFollower => {
                format!("Node {id} (follower) committed {count} entries to the state machine.")
            }
            Frequent::Accepted => format!("Node {id} accepted {count} AppendEntries RPCs."),
        }
    }
}

impl Asked {
    /// In the notation of the log: `GET key`.
    fn words(&self) -> String {
        match self {
            Asked::Write(operation) => command_words(&Command::Write(Write {
                request: None,
                operation: operation.clone(),
            })),
            Asked::Get(key) => verb_and_word("GET ", key),
            Asked::List(prefix) => verb_and_word("LIST ", prefix),
        }
    }
}

fn command_words(command: &Command) -> String {
    let mut words = Vec::new();
    write_words(command, &mut words);
    shorten(words)
}

fn verb_and_word(verb: &str, word: &str) -> String {
    let mut words = verb.as_bytes().to_vec();
    plain_or_quoted(word, &mut words);
    shorten(words)
}

fn shorten(words: Vec<u8>) -> String {
    let mut words = String::from_utf8_lossy(&words).into_owned();
    if let Some((cut, _)) = words.char_indices().nth(WORDS_CHARS_MAX) {
        words.truncate(cut);
        words.push('…');
    }
    words
}

fn commas(ids: &[NodeId]) -> String {
    let mut text = String::new();
    for (position, id) in ids.iter().enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        write!(text, "{separator}{id}").expect("a String takes every text");
    }
    text
}

#[cfg(test)]
mod tests;
