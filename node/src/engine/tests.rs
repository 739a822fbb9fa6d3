//! One whole node, one of three: what its gate says, who is answered when, and what waits for the
//! disk.

mod alone;
mod installs;
mod members;
mod starts;

use super::*;
use crate::command::{Command, Write};
use crate::raft::{
    AppendOutcome, Config, Entry, HardState, Promise, Recovered, Role, Term, leader_lease_us,
};
use crate::wal::LogWriter;
use std::sync::Arc;

const MS: Micros = 1_000;
const NOBODY: [Token; 0] = [];
const LEASE: Micros = 2_000 * MS;
const TIMEOUT: Micros = 300 * MS;

fn config() -> Config {
    Config {
        id: 1,
        voters: vec![1, 2, 3],
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

fn set(key: &str, value: &str) -> Operation {
    Operation::Set {
        key: key.into(),
        value: value.into(),
    }
}

fn write(token: Token, operation: Operation) -> Input {
    let request = None;
    Input::Request {
        token,
        request: Request::Write { request, operation },
    }
}

fn read(token: Token, key: &str, consistency: Consistency) -> Input {
    let query = Query::Get { key: key.into() };
    Input::Request {
        token,
        request: Request::Read { query, consistency },
    }
}

fn heard(from: NodeId, message: Message) -> Input {
    Input::Received { from, message }
}

/// A node of term 1 that is back: it knows that `k1` was set, and has an entry that sets `k2`, of
/// which it does not know whether it is committed. It has promised node 3 a lease up to `promised`.
fn follower(config: Config, promised: Micros) -> Engine {
    let command = |key| {
        let operation = set(key, "old");
        let request = None;
        Command::Write(Write { request, operation })
    };
    with_log(config, promised, [command("k1"), command("k2")])
}

/// The same, with these in its log.
fn with_log(config: Config, promised: Micros, commands: [Command; 2]) -> Engine {
    let mut log = LogWriter::default();
    let mut text = Vec::new();
    let mut entries = Vec::new();
    for (index, command) in (1..).zip(commands) {
        let command = Arc::new(command);
        let term = 1;
        let entry = Entry {
            index,
            term,
            command,
        };
        log.append(&entry, &mut text);
        entries.push(entry);
    }
    let promise = Promise {
        leader: 3,
        incarnation: 0,
        term: 1,
        until_us: promised,
    };
    let recovered = Recovered {
        hard_state: HardState {
            term: 1,
            voted_for: None,
        },
        entries,
        commit_index: 1,
        kept_promises: Some(vec![promise]),
        voters: config.voters.len() as u64,
        ..Recovered::default()
    };
    Engine::new(config, recovered, log, 0)
}

/// Steps, and has the disk answer at once as long as it is asked.
fn settle(engine: &mut Engine, now: Micros, inputs: Vec<Input>) -> Effects {
    let mut all = engine.step(now, inputs);
    let mut works = 0;
    while let Some(work) = all.disk.take() {
        works += 1;
        assert!(works < 100, "the disk is asked for ever");
        let ticket = work.ticket;
        let next = engine.step(now, vec![Input::Durable { ticket }]);
        all.messages.extend(next.messages);
        all.replies.extend(next.replies);
        all.disk = next.disk;
    }
    all
}

fn vote_reply(term: Term, pre: bool) -> Message {
    Message::VoteReply {
        term,
        granted: true,
        pre,
        promise_remaining_ms: Some(0),
        owed: Default::default(),
    }
}

/// Leads term 2 from `TIMEOUT` on; its NO-OP is durable here. Returns the sequences of its first
/// appends to node 2 and 3.
fn elected(engine: &mut Engine) -> Vec<(NodeId, u64)> {
    settle(engine, TIMEOUT, vec![]);
    settle(engine, TIMEOUT, vec![heard(2, vote_reply(2, true))]);
    let effects = settle(engine, TIMEOUT, vec![heard(2, vote_reply(2, false))]);
    assert_eq!(engine.status().lease.role, Role::Leader);
    let sequence = |(to, message): &(NodeId, Message)| match message {
        Message::Append { sequence, .. } => Some((*to, *sequence)),
        _ => None,
    };
    effects.messages.iter().filter_map(sequence).collect()
}

fn accepted(from: NodeId, sequence: u64, match_index: Index) -> Input {
    let outcome = AppendOutcome::Accepted { match_index };
    let message = Message::AppendReply {
        term: 2,
        sequence,
        outcome,
    };
    heard(from, message)
}

fn tokens(effects: &Effects) -> Vec<Token> {
    effects.replies.iter().map(|(token, _)| *token).collect()
}

/// What a lease read of each key comes to.
fn reads(engine: &Engine, now: Micros) -> Vec<LeaseRead> {
    let view = engine.view();
    let read = |key: &str| view.lease_read(&Query::Get { key: key.into() }, || now);
    ["k1", "k2", "k3"].into_iter().map(read).collect()
}

fn done(value: Option<&str>, applied_index: Index, path: ReadPath) -> LeaseRead {
    LeaseRead::Done {
        answer: Answer::Value(value.map(Into::into)),
        applied_index,
        path,
    }
}

/// Goal: before the end of an older lease a new leader answers what no entry in limbo touches, from
/// the first acknowledgement of a heartbeat of its own on; after it, all.
#[test]
fn the_gate_of_a_new_leader() {
    let old_lease = 1_500 * MS;
    let mut engine = follower(config(), old_lease);
    let not_leader = LeaseRead::NotLeader { leader: None };
    assert_eq!(reads(&engine, 10), vec![not_leader; 3]);
    let sent = elected(&mut engine);
    let now = TIMEOUT + MS;
    assert_eq!(reads(&engine, now), vec![LeaseRead::Wait; 3], "no lease");

    let (peer, sequence) = sent[0];
    engine.step(now, vec![accepted(peer, sequence, 3)]);
    let inherited = |value| done(value, 1, ReadPath::Inherited);
    let early = vec![inherited(Some("old")), LeaseRead::Wait, inherited(None)];
    assert_eq!(reads(&engine, now), early);
    assert_eq!(engine.status().lease.old_lease_until_us, old_lease);
    let lease_end = TIMEOUT + leader_lease_us(LEASE, 5_000);
    assert_eq!(reads(&engine, lease_end), vec![LeaseRead::Wait; 3]);

    engine.step(old_lease - 1, vec![]);
    assert_eq!(reads(&engine, old_lease - 1), early);
    engine.step(old_lease, vec![]);
    let own = |value| done(value, 3, ReadPath::Lease);
    let all = vec![own(Some("old")), own(Some("old")), own(None)];
    assert_eq!(reads(&engine, old_lease), all);
    assert_eq!(engine.view().gate().limbo, None, "nothing is in limbo");
}

/// Goal: whoever leads again looks at what is in limbo then, not at what was when it led before.
#[test]
fn each_leadership_has_its_own_limbo() {
    let mut engine = follower(config(), 1_500 * MS);
    elected(&mut engine);
    let operation = set("k3", "new");
    let request = None;
    let later = Entry {
        index: 4,
        term: 3,
        command: Arc::new(Command::Write(Write { request, operation })),
    };
    let append = Message::Append {
        term: 3,
        base_index: 3,
        base_term: 2,
        entries: vec![later],
        commit_index: 1,
        lease_ms: LEASE / MS,
        sequence: 1,
        incarnation: 0,
    };
    settle(&mut engine, TIMEOUT, vec![heard(3, append)]);
    let now = 2 * TIMEOUT;
    settle(&mut engine, now, vec![]);
    settle(&mut engine, now, vec![heard(2, vote_reply(4, true))]);
    let effects = settle(&mut engine, now, vec![heard(2, vote_reply(4, false))]);
    let sent = effects
        .messages
        .iter()
        .find_map(|(to, message)| match message {
            Message::Append { sequence, .. } if *to == 2 => Some(*sequence),
            _ => None,
        });
    let outcome = AppendOutcome::Accepted { match_index: 5 };
    let reply = Message::AppendReply {
        term: 4,
        sequence: sent.expect("it leads"),
        outcome,
    };
    settle(&mut engine, now, vec![heard(2, reply)]);
    let inherited = done(Some("old"), 1, ReadPath::Inherited);
    let expected = vec![inherited, LeaseRead::Wait, LeaseRead::Wait];
    assert_eq!(reads(&engine, now), expected);
}

/// Goal: where inherited reads are off, nothing is answered before the end of an older lease.
#[test]
fn no_inherited_reads_where_they_are_off() {
    let config = Config {
        inherited_reads: false,
        ..config()
    };
    let mut engine = follower(config, 1_500 * MS);
    let sent = elected(&mut engine);
    let (peer, sequence) = sent[0];
    engine.step(TIMEOUT, vec![accepted(peer, sequence, 3)]);
    assert_eq!(reads(&engine, TIMEOUT), vec![LeaseRead::Wait; 3]);
}

/// Goal: a lease read that waits is told to look again as soon as the gate would let it through,
/// no earlier, and when this node stops leading.
#[test]
fn who_waits_looks_again_in_time() {
    let old_lease = 1_500 * MS;
    let mut engine = follower(config(), old_lease);
    let sent = elected(&mut engine);
    let lease = Consistency::Lease;
    let wait = vec![read(1, "k1", lease), read(2, "k2", lease)];
    assert_eq!(tokens(&engine.step(TIMEOUT, wait)), NOBODY);
    let (peer, sequence) = sent[0];
    let opened = engine.step(TIMEOUT, vec![accepted(peer, sequence, 3)]);
    assert_eq!(opened.replies, [(1, Ok(Reply::LookAgain))]);
    assert_eq!(tokens(&engine.step(old_lease - 1, vec![])), NOBODY);
    let over = engine.step(old_lease, vec![]);
    assert_eq!(over.replies, [(2, Ok(Reply::LookAgain))]);

    let mut deposed = follower(config(), old_lease);
    elected(&mut deposed);
    deposed.step(TIMEOUT, vec![read(3, "k2", lease)]);
    let later = Message::Append {
        term: 9,
        base_index: 9,
        base_term: 9,
        entries: vec![],
        commit_index: 0,
        lease_ms: 2_000,
        sequence: 1,
        incarnation: 0,
    };
    let effects = deposed.step(TIMEOUT, vec![heard(3, later)]);
    assert_eq!(effects.replies, [(3, Ok(Reply::LookAgain))]);
    let leader = Some(3);
    let elsewhere = LeaseRead::NotLeader { leader };
    assert_eq!(reads(&deposed, TIMEOUT), vec![elsewhere; 3]);
}

/// Goal: reads that trust no lease: the own state at once, or a round of heartbeats.
#[test]
fn reads_without_a_lease() {
    let mut engine = follower(config(), 0);
    let stale = engine.step(10, vec![read(1, "k1", Consistency::Stale)]);
    let reply = |path, applied_index| {
        Ok(Reply::Read {
            answer: Answer::Value(Some("old".into())),
            applied_index,
            path,
        })
    };
    assert_eq!(stale.replies, [(1, reply(ReadPath::Stale, 1))]);
    let refused = engine.step(10, vec![read(2, "k1", Consistency::Quorum)]);
    let leader = None;
    assert_eq!(
        refused.replies,
        [(2, Err(RequestError::NotLeader { leader }))]
    );

    let sent = elected(&mut engine);
    let asked = engine.step(TIMEOUT, vec![read(3, "k1", Consistency::Quorum)]);
    assert_eq!(tokens(&asked), NOBODY);
    let (peer, sequence) = sent[0];
    engine.step(TIMEOUT, vec![accepted(peer, sequence, 3)]);
    let confirmed = engine.step(TIMEOUT, vec![accepted(peer, sequence + 9, 3)]);
    assert_eq!(confirmed.replies, [(3, reply(ReadPath::Quorum, 3))]);
}

/// Goal: a write is answered when a majority holds it durably, with what it found; until then not,
/// whoever else has answered.
#[test]
fn a_write_is_answered_when_it_is_committed() {
    let mut engine = follower(config(), 0);
    let sent = elected(&mut engine);
    for (peer, sequence) in &sent {
        engine.step(TIMEOUT, vec![accepted(*peer, *sequence, 3)]);
    }
    let delete = Operation::Delete { key: "k1".into() };
    let begun = engine.step(TIMEOUT, vec![write(1, set("k3", "new")), write(2, delete)]);
    assert_eq!(tokens(&begun), NOBODY);
    let one = engine.step(TIMEOUT, vec![accepted(2, 99, 5)]);
    assert_eq!(tokens(&one), NOBODY, "the own disk has not answered");
    let ticket = begun.disk.map_or(0, |work| work.ticket);
    let durable = engine.step(TIMEOUT, vec![Input::Durable { ticket }]);
    let written = |index, result| Ok(Reply::Written { index, result });
    let (set, deleted) = (
        written(4, crate::kv::WriteResult::Set),
        written(5, crate::kv::WriteResult::Deleted { existed: true }),
    );
    assert_eq!(durable.replies, [(1, set), (2, deleted)]);
}

/// Goal: a vote and the word that entries are held leave when the disk has them, not before; what
/// does not depend on the disk leaves at once.
#[test]
fn what_depends_on_the_disk_waits_for_it() {
    let mut engine = follower(config(), 0);
    let vote = |pre| Message::Vote {
        term: 5,
        last_index: 9,
        last_term: 4,
        pre,
        released: None,
        incarnation: 0,
    };
    settle(&mut engine, 5, vec![]); // Whatever a start writes.
    let asked = engine.step(10, vec![heard(2, vote(true))]);
    assert_eq!((asked.disk, asked.messages.len()), (None, 1));
    let voted = engine.step(10, vec![heard(2, vote(false))]);
    assert_eq!(voted.messages, []);
    let work = voted.disk.expect("the vote is written");
    assert!(
        work.metadata
            .is_some_and(|text| text.starts_with(b"currentTerm 5\nvotedFor 2\n"))
    );
    let held = engine.step(20, vec![heard(2, vote(false))]);
    assert_eq!(held.messages, [], "behind the first");
    let ticket = work.ticket;
    let told = engine.step(30, vec![Input::Durable { ticket }]);
    assert_eq!(told.messages.len(), 1);
    let ticket = held.disk.map_or(ticket, |work| work.ticket);
    let told = engine.step(30, vec![Input::Durable { ticket }]);
    assert_eq!(told.messages.len(), 1);
}

/// Goal: one transfer at a time; the one who asked is told how it ended.
#[test]
fn a_transfer_is_answered_once() {
    let mut engine = follower(config(), 0);
    let transfer = |token| Input::Request {
        token,
        request: Request::Transfer { target: None },
    };
    let refused = engine.step(10, vec![transfer(1)]);
    let leader = None;
    assert_eq!(
        refused.replies,
        [(1, Err(RequestError::NotLeader { leader }))]
    );
    engine.step(
        10,
        vec![Input::Connected {
            peer: 2,
            reads_format: 1,
        }],
    );
    let sent = elected(&mut engine);
    let begun = engine.step(TIMEOUT, vec![transfer(2), transfer(3)]);
    assert_eq!(tokens(&begun), [3], "{:?}", begun.replies);
    assert!(matches!(begun.replies[0].1, Err(RequestError::NotReady(_))));
    let (peer, sequence) = sent[0];
    let told = engine.step(TIMEOUT, vec![accepted(peer, sequence, 3)]);
    assert_eq!(tokens(&told), NOBODY);
    let next = Message::Append {
        term: 3,
        base_index: 3,
        base_term: 2,
        entries: vec![],
        commit_index: 0,
        lease_ms: 2_000,
        sequence: 1,
        incarnation: 0,
    };
    let heard_next = engine.step(TIMEOUT, vec![heard(2, next)]);
    assert_eq!(
        heard_next.replies,
        [(2, Ok(Reply::Transferred { leader: 2 }))]
    );
}

/// Goal: the engine asks to be woken for all that is due: an election, the word on writes of a lost
/// leadership, the record of the commit index.
#[test]
fn it_is_woken_for_what_is_due() {
    let mut engine = follower(config(), 0);
    assert_eq!(engine.wake_at(), TIMEOUT);
    let sent = elected(&mut engine);
    for (peer, sequence) in &sent {
        settle(&mut engine, TIMEOUT, vec![accepted(*peer, *sequence, 3)]);
    }
    let patience = 1_000 * MS;
    let next = |sequence| Message::Append {
        term: 3,
        base_index: 3,
        base_term: 2,
        entries: vec![],
        commit_index: 3,
        lease_ms: 2_000,
        sequence,
        incarnation: 0,
    };
    engine.step(TIMEOUT, vec![write(1, set("k3", "new"))]);
    let lost = TIMEOUT + 10 * MS;
    settle(&mut engine, lost, vec![heard(2, next(1))]);
    let mut now = lost;
    let mut told = None;
    while now < lost + patience + TIMEOUT && told.is_none() {
        now += 50 * MS;
        let effects = settle(&mut engine, now, vec![heard(2, next(now))]);
        assert!(engine.wake_at() > now, "nothing is due at once");
        told = effects.replies.into_iter().next();
    }
    assert!(
        matches!(told, Some((1, Err(RequestError::OutcomeUnknown(_))))),
        "{told:?}"
    );
    assert!(
        (lost + patience..lost + patience + 50 * MS).contains(&now),
        "{now}"
    );
}

/// Goal: a step that brings the end of the node and writes of clients refuses them.
#[test]
fn writes_beside_a_contradiction_are_refused() {
    let mut engine = follower(config(), 0);
    let lacks_what_is_committed = Message::Append {
        term: 2,
        base_index: 0,
        base_term: 0,
        entries: vec![Entry {
            index: 1,
            term: 2,
            command: Arc::new(Command::NoOp),
        }],
        commit_index: 0,
        lease_ms: LEASE / MS,
        sequence: 1,
        incarnation: 0,
    };
    let batch = vec![heard(3, lacks_what_is_committed), write(7, set("k", "v"))];
    let effects = engine.step(MS, batch);
    assert!(effects.contradiction.is_some());
    let refused = Err(RequestError::NotLeader { leader: None });
    assert_eq!(effects.replies, [(7, refused)]);
}

/// Goal: for how many voters an older version may have promised something stays unknown for as long
/// as that counts: on record it never looks known.
#[test]
fn an_unknown_number_of_voters_stays_unknown() {
    let recovered = Recovered {
        hard_state: HardState {
            term: 1,
            voted_for: None,
        },
        former_lease_us: LEASE,
        all_ended: true,
        ..Recovered::default()
    };
    let alone = Config {
        voters: vec![1],
        ..config()
    };
    let mut engine = Engine::new(alone, recovered, LogWriter::default(), 0);
    settle(&mut engine, MS, vec![]);
    assert_eq!(engine.raft().voters_on_record(), 0);
    settle(&mut engine, LEASE, vec![]);
    assert_eq!(engine.raft().voters_on_record(), 1);
}

/// Goal: a backup begins at once where all that it must hold is applied, and otherwise when it is; one
/// that nobody waits for any more does not begin at all. Its first line names the entry it is of.
#[test]
fn a_backup_begins_when_its_entries_are_applied() {
    let mut engine = follower(config(), 0);
    let backup = |token, not_before| Input::Request {
        token,
        request: Request::Backup { not_before },
    };
    let begun = engine.step(10, vec![backup(1, 1)]);
    let [(1, Ok(Reply::BackupBegun { head, .. }))] = &begun.replies[..] else {
        panic!("{:?}", begun.replies);
    };
    assert_eq!((head.state.applied_index, head.term), (1, 1));
    assert_eq!(Some(head.log_crc), engine.disk.log_crc(1));

    let waits = engine.step(10, vec![backup(2, 2), backup(3, 2)]);
    assert_eq!(tokens(&waits), [3], "{:?}", waits.replies);
    engine.step(10, vec![Input::Abandoned { token: 2 }, backup(4, 2)]);
    let append = Message::Append {
        term: 2,
        base_index: 2,
        base_term: 1,
        entries: Vec::new(),
        commit_index: 2,
        lease_ms: 2_000,
        sequence: 1,
        incarnation: 0,
    };
    let applied = engine.step(20, vec![heard(3, append)]);
    let [(4, Ok(Reply::BackupBegun { head, .. }))] = &applied.replies[..] else {
        panic!("{:?}", applied.replies);
    };
    assert_eq!((head.state.applied_index, head.state.keys), (2, 2));
}
