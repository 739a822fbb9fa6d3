//! The core by itself: one node, what it is told, and what it does then. What whole clusters do is
//! told by the scripts and the simulator; here stands what they would rarely meet.

mod agreement;
mod damage;
mod elections;
mod formats;
mod installs;
mod joint;
mod leaders;
mod logs;
mod members;
mod promises;
mod proofs;
mod reads;
mod replication;
mod timers;
mod transfers;

use super::*;

const MS: Micros = 1_000;
const LEASE: Micros = 2_000 * MS;
/// From the shortest election timeout on a silent leader is no leader.
const TIMEOUT: Micros = 300 * MS;

/// Node 1 of so many, with timers that are no matter of luck.
fn config(voters: u64) -> Config {
    Config {
        id: 1,
        voters: (1..=voters).collect(),
        lease_us: LEASE,
        max_clock_drift_ppm: 5_000,
        election_timeout_us: TIMEOUT..=TIMEOUT,
        heartbeat_us: 100 * MS,
        inherited_reads: true,
        formats: Default::default(),
        seed: 1,
        mutation: None,
    }
}

fn entry(index: Index, term: Term) -> Entry {
    Entry {
        index,
        term,
        command: Arc::new(Command::NoOp),
    }
}

/// What a former run of a node leaves: a log with entries of these terms, of which none is known
/// to be committed, and nothing that it has promised.
fn recovered(terms: &[Term]) -> Recovered {
    Recovered {
        hard_state: HardState {
            term: terms.last().copied().unwrap_or(0),
            voted_for: None,
        },
        entries: (1..).zip(terms).map(|(i, term)| entry(i, *term)).collect(),
        kept_promises: Some(Vec::new()),
        ..Recovered::default()
    }
}

/// A follower, one of so many, whose log has entries of these terms.
fn follower(voters: u64, terms: &[Term]) -> Raft {
    Raft::new(config(voters), recovered(terms), 0)
}

/// The same as leader of the next term since `TIMEOUT`, elected by all; its NO-OP is durable here
/// and its appends to all others have left. Returns what it did when it was elected.
fn leader(voters: u64, terms: &[Term]) -> (Raft, Output) {
    let (mut raft, term) = candidate(voters, terms);
    raft.step(TIMEOUT, Input::HardStatePersisted { term });
    let mut outputs = Vec::new();
    for peer in 2..=voters {
        outputs.push(vote(&mut raft, TIMEOUT, peer, Some(0)));
    }
    assert_eq!(raft.role(), Role::Leader);
    let index = raft.last_index();
    let since_us = TIMEOUT;
    raft.step(TIMEOUT, Input::Flushed { since_us });
    raft.step(TIMEOUT, Input::Persisted { index, term });
    let elected = outputs.into_iter().find(|output| !output.append.is_empty());
    (raft, elected.expect("it appends a NO-OP"))
}

/// The same as candidate at `TIMEOUT`; its own vote is not durable yet. Returns its term.
fn candidate(voters: u64, terms: &[Term]) -> (Raft, Term) {
    let mut raft = follower(voters, terms);
    raft.step(TIMEOUT, Input::Tick);
    for peer in 2..=voters {
        let message = Message::VoteReply {
            term: raft.term() + 1,
            granted: true,
            pre: true,
            promise_remaining_ms: None,
            owed: Default::default(),
        };
        if raft.counters.elections_started == 0 {
            receive(&mut raft, TIMEOUT, peer, message);
        }
    }
    assert_eq!(raft.counters.elections_started, 1);
    let term = raft.term();
    (raft, term)
}

fn receive(raft: &mut Raft, now: Micros, from: NodeId, message: Message) -> Output {
    raft.step(now, Input::Received { from, message })
}

/// A vote for this node in its term.
fn vote(raft: &mut Raft, now: Micros, from: NodeId, remaining_ms: Option<u64>) -> Output {
    let message = Message::VoteReply {
        term: raft.term(),
        granted: true,
        pre: false,
        promise_remaining_ms: remaining_ms,
        owed: Default::default(),
    };
    receive(raft, now, from, message)
}

/// A bare heartbeat of another leader, behind an entry.
fn heartbeat(term: Term, base: (Index, Term), sequence: u64) -> Message {
    append(term, base, Vec::new(), 0, sequence)
}

fn append(
    term: Term,
    (base_index, base_term): (Index, Term),
    entries: Vec<Entry>,
    commit_index: Index,
    sequence: u64,
) -> Message {
    Message::Append {
        term,
        base_index,
        base_term,
        entries,
        commit_index,
        lease_ms: LEASE / MS,
        sequence,
        incarnation: 0,
    }
}

/// A follower's answer to its leader of this term.
fn accepted(term: Term, sequence: u64, match_index: Index) -> Message {
    Message::AppendReply {
        term,
        sequence,
        outcome: AppendOutcome::Accepted { match_index },
    }
}

/// The sequences of the appends in an output, by peer.
fn sequences(output: &Output) -> Vec<(NodeId, u64)> {
    let sequence = |(to, message): &(NodeId, Message)| match message {
        Message::Append { sequence, .. } => Some((*to, *sequence)),
        _ => None,
    };
    output.messages.iter().filter_map(sequence).collect()
}
