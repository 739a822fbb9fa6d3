//! Each kind of happening and its sentence.

mod proofs;

use crate::command::{Command, Members, Operation, Write};
use crate::raft::{Event, Incarnation, Index, Micros, NodeId, SnapshotId, Term};
use crate::wal::{Damage, LostNote, TornTail, plain_or_quoted, write_words};
use std::collections::BTreeSet;
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
    /// A leader has a lease that had none: it may die before a heartbeat tells of it.
    LeaseGranted {
        /// Its term.
        term: Term,
        /// What is left of the lease.
        lease_us: Micros,
    },
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
        /// The name of this run; 0: it has none.
        run: Incarnation,
    },
    /// A last write that a crash cut short was cut off.
    TornTail(TornTail),
    /// A line of the log was changed where it is known what stood there.
    Mended {
        /// Which, from 1.
        line: u64,
    },
    /// A small file is lost.
    NoteLost(LostNote),
    /// The log was found damaged.
    Damaged(Damage),
    /// The log was damaged at an earlier start and has not been refilled since.
    StillDamaged {
        /// It does not vote before it is refilled that far.
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
    /// A peer can't be reached, for a reason that is new.
    Unreachable {
        /// Whom.
        peer: NodeId,
        /// Where it was looked for.
        address: String,
        /// The name of the reason.
        reason: &'static str,
    },
    /// The disk has so little room that writes of clients are refused, or enough again.
    Space {
        /// Bytes that can still be written.
        free_bytes: u64,
        /// Below this many, writes are refused.
        mark_bytes: u64,
        /// Refused, or taken again.
        refused: bool,
    },
    /// Connections to a port were refused.
    ConnectionRefused {
        /// Where the last of them came from.
        from: String,
        /// For whom the port is.
        port: &'static str,
        /// The name of the reason.
        reason: &'static str,
        /// How many there were since this was last told.
        count: u64,
    },
    /// Calls were refused for want of a role.
    AccessDenied {
        /// Who made the last of them.
        who: Arc<str>,
        /// Which call that was.
        call: String,
        /// The role that is missing.
        missing: &'static str,
        /// How many there were since this was last told.
        count: u64,
    },
    /// Another certificate is in use, or other authorities are trusted.
    CertificateTaken {
        /// When it ends, in seconds since 1970.
        ends_unix_s: u64,
    },
    /// The newest files can't be used, and the last good ones stay.
    CertificateKept(Arc<str>),
    /// The certificate in use ends soon, or has ended.
    CertificateEnds {
        /// When, in seconds since 1970.
        ends_unix_s: u64,
    },
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
    /// A configuration has come into force.
    Configuration {
        /// Its entry.
        index: Index,
        /// Who belongs to the cluster.
        members: Arc<Members>,
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
    /// Appends of one leader in one term, and what each of them was promised.
    Accepted {
        leader: NodeId,
        term: Term,
        promise_us: Micros,
    },
}

impl Happening {
    /// What programs know it by: the name of its kind.
    pub(super) fn name(&self) -> String {
        let text = match self {
            Happening::Raft(event) => format!("{event:?}"),
            other => format!("{other:?}"),
        };
        let is_name = |char: &char| char.is_ascii_alphanumeric();
        text.chars().take_while(is_name).collect()
    }

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
            Happening::Raft(Event::AppendAccepted {
                leader,
                term,
                last_index,
                promise_us,
                ..
            }) => {
                let (leader, term, promise_us) = (*leader, *term, *promise_us);
                let kind = Frequent::Accepted {
                    leader,
                    term,
                    promise_us,
                };
                Some((kind, *last_index))
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
            Happening::LeaseGranted { term, lease_us } => (
                format!("Leader {id} holds its lease."),
                format!("term={term} lease_us={lease_us}"),
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
            Happening::Unreachable {
                peer,
                address,
                reason,
            } => (
                format!("Error occurred while sending RPC to Node {peer}."),
                format!("peer={peer} address={address} reason={reason}"),
            ),
            Happening::Space {
                free_bytes,
                mark_bytes,
                refused,
            } => (
                match refused {
                    true => format!("Node {id} refuses writes: its disk is nearly full."),
                    false => format!("Node {id} takes writes again: its disk has room."),
                },
                format!("free_bytes={free_bytes} mark_bytes={mark_bytes}"),
            ),
            Happening::Configuration { index, members } => configuration(*index, members),
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
            _ => self.render_access(id),
        }
    }

    /// Who came, and was refused; and the node's own certificate.
    fn render_access(&self, id: NodeId) -> (String, String) {
        match self {
            Happening::ConnectionRefused {
                from,
                port,
                reason,
                count,
            } => (
                format!("Node {id} refused a connection to its port for {port}."),
                format!("from={from} reason={reason} count={count}"),
            ),
            Happening::AccessDenied {
                who,
                call,
                missing,
                count,
            } => (
                format!("Node {id} refused a call of '{who}', who lacks a role."),
                format!("call={call} missing={missing} count={count}"),
            ),
            Happening::CertificateTaken { ends_unix_s } => (
                format!("Node {id} uses another certificate, or trusts other authorities."),
                format!("ends_unix_s={ends_unix_s}"),
            ),
            Happening::CertificateKept(why) => (
                format!("Node {id} keeps its last good certificate: {why}."),
                String::new(),
            ),
            Happening::CertificateEnds { ends_unix_s } => (
                format!("The certificate of Node {id} ends soon, or has ended."),
                format!("ends_unix_s={ends_unix_s}"),
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
                run,
            } => {
                fields = format!(
                    "pid={pid} term={term} last_index={last_index} commit_index={commit_index}"
                ) + &proofs::run_field(*run);
                format!("Node {id} started.")
            }
            Happening::TornTail(TornTail { line, bytes }) => {
                fields = format!("line={line} bytes={bytes}");
                format!("Node {id} cut off a torn last write in logs.txt.")
            }
            Happening::Mended { line } => {
                fields = format!("line={line}");
                format!("Node {id} mended line {line} of logs.txt. Nothing of it was lost.")
            }
            Happening::NoteLost(lost) => format!("Node {id} misses a file: {lost}."),
            Happening::Damaged(Damage {
                until,
                snapshot: Some(snapshot),
                ..
            }) => {
                fields = format!("until={until}");
                format!(
                    "Node {id} has no state: {snapshot}. It does not vote until it is refilled."
                )
            }
            Happening::Damaged(Damage { line, until, .. }) => {
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

/// Who belongs to the cluster, and in which part.
fn configuration(index: Index, members: &Members) -> (String, String) {
    let ids = |ids: &BTreeSet<u64>| with_commas(ids.iter().map(u64::to_string));
    let mut sentence = format!("Configuration {index}: voters {}", ids(&members.voters));
    let mut fields = format!("index={index} voters={}", ids(&members.voters));
    let learners: BTreeSet<u64> = members.learners().collect();
    for (words, name, nodes) in [
        ("former voters", "outgoing", &members.outgoing),
        ("learners", "learners", &learners),
    ] {
        if !nodes.is_empty() {
            sentence += &format!("; {words} {}", ids(nodes));
            fields += &format!(" {name}={}", ids(nodes));
        }
    }
    (sentence + ".", fields)
}

fn render_event(event: &Event, id: NodeId) -> (String, String) {
    match event {
        Event::VoteGranted {
            candidate,
            term,
            promise_us,
        } => (
            format!("Vote granted for Node {candidate} in term {term}."),
            format!("candidate={candidate} term={term} promise_us={promise_us}"),
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
            sequence,
            promise_us,
        } => (
            format!("Node {id} accepted AppendEntries RPC from {leader}."),
            format!(
                "term={term} entries={entries} last_index={last_index} peer={leader} \
                 sequence={sequence} promise_us={promise_us}"
            ),
        ),
        Event::AppendRejected {
            leader,
            term,
            base_index,
            sequence,
            promise_us,
        } => (
            format!("Node {id} rejected AppendEntries RPC from {leader}."),
            format!(
                "term={term} base_index={base_index} peer={leader} sequence={sequence} \
                 promise_us={promise_us}"
            ),
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
        Event::RunEnded { .. } | Event::PromiseWaived { .. } | Event::WaitWaived { .. } => {
            return proofs::render(event, id);
        }
        Event::HeartbeatSent {
            term,
            sequence,
            lease_us,
            acknowledged,
        } => {
            let sentence = format!("Leader {id} sending heartbeat & Renewing Lease");
            let mut more = format!(" sequence={sequence} lease_us={lease_us}");
            if !acknowledged.is_empty() {
                more += " acknowledged=";
                more += &with_commas(acknowledged.iter().map(|(peer, of)| format!("{peer}:{of}")));
            }
            (sentence, term, more)
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
        Event::LeaseReleased { target, term } => {
            let sentence =
                format!("Leader {id} gives up its lease for good: Node {target} need not wait.");
            (sentence, term, format!(" target={target}"))
        }
        Event::PeerLostEntries {
            peer,
            term,
            acknowledged,
            last_index,
        } => {
            let sentence = format!(
                "Node {peer} lacks entries that it had acknowledged: its log was damaged, or its \
                 directory was put back from an older copy."
            );
            let more = format!(" peer={peer} acknowledged={acknowledged} last_index={last_index}");
            (sentence, term, more)
        }
        Event::Implausible {
            peer,
            term,
            acknowledged,
        } => {
            let sentence = format!("Node {peer} acknowledged an entry that it was never sent.");
            (
                sentence,
                term,
                format!(" peer={peer} acknowledged={acknowledged}"),
            )
        }
        Event::SnapshotSent {
            peer,
            term,
            snapshot,
        } => {
            let sentence = format!(
                "Leader {id} sends its snapshot to Node {peer}, which lacks what the log does not \
                 have any more."
            );
            (
                sentence,
                term,
                format!(" peer={peer}{}", tell_snapshot(snapshot)),
            )
        }
        Event::SnapshotInstalled { term, snapshot } => {
            let sentence = format!("Node {id} goes on from a snapshot of the leader.");
            (sentence, term, tell_snapshot(snapshot))
        }
        Event::SnapshotTaken { term, snapshot } => {
            let sentence = format!("Node {id} took a snapshot and cut its log.");
            (sentence, term, tell_snapshot(snapshot))
        }
        Event::SnapshotDamaged { term, snapshot } => {
            let sentence = format!(
                "Node {id} finds its snapshot.txt damaged: it sends none of it, and takes another."
            );
            (sentence, term, tell_snapshot(snapshot))
        }
        Event::SnapshotSkipped { term, index } => {
            let sentence = format!(
                "Node {id} left a snapshot out: too much changed meanwhile, or there was no room."
            );
            (sentence, term, format!(" index={index}"))
        }
        Event::StateDiffers {
            peer,
            term,
            index,
            agreed,
        } => {
            let who = match agreed {
                true => "a majority has another, so it ends",
                false => "no majority has one of them",
            };
            let sentence =
                format!("Node {peer} has come to another state than Leader {id}: {who}.");
            (sentence, term, format!(" peer={peer} index={index}"))
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
            Frequent::Accepted { .. } => {
                format!("Node {id} accepted {count} AppendEntries RPCs.")
            }
        }
    }

    /// The fields that all of them have in common.
    pub(super) fn common_fields(self) -> String {
        match self {
            Frequent::Accepted {
                leader,
                term,
                promise_us,
            } => format!(" term={term} peer={leader} promise_us={promise_us}"),
            _ => String::new(),
        }
    }
}

impl Asked {
    /// A write, without what would not be shown of it: it waits in the queue, and the long values of
    /// writes that are refused would wait there with it.
    pub fn write(operation: &Operation) -> Self {
        Asked::Write(operation.with_words(begin))
    }

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

/// Cut first, then rendered: a value may be a thousand times as long as what is shown of it.
fn command_words(command: &Command) -> String {
    let mut words = Vec::new();
    match command {
        Command::NoOp | Command::Format(_) | Command::Members(_) => {
            write_words(command, &mut words)
        }
        Command::Write(write) => {
            let operation = write.operation.with_words(begin);
            let request = write.request;
            write_words(&Command::Write(Write { request, operation }), &mut words);
        }
    }
    shorten(words)
}

fn verb_and_word(verb: &str, word: &Arc<str>) -> String {
    let mut words = verb.as_bytes().to_vec();
    plain_or_quoted(&begin(word), &mut words);
    shorten(words)
}

/// As much of a word as may be shown of it, and a little more, so that it is cut once more, and
/// marked, behind what is shown. Whether it is quoted depends on this part alone.
fn begin(word: &Arc<str>) -> Arc<str> {
    match word.char_indices().nth(WORDS_CHARS_MAX + 1) {
        Some((cut, _)) => word[..cut].into(),
        None => Arc::clone(word),
    }
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
    let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
    ids.join(", ")
}

/// Without spaces, for a field.
fn with_commas(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(",")
}

/// Nodes with the same index have the same hash.
fn tell_snapshot(snapshot: &SnapshotId) -> String {
    let SnapshotId {
        index, hash, bytes, ..
    } = snapshot;
    format!(" index={index} hash={hash:08x} bytes={bytes}")
}

#[cfg(test)]
mod tests;
