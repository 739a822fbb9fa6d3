//! What a leader sends to whom, and where it goes on after an answer.

use super::log::Log;
use super::*;
use crate::command::Members;

/// The appends to one peer: base, and indexes of the entries.
fn sent(output: &Output, peer: NodeId) -> Vec<((Index, Term), Vec<Index>)> {
    let append = |(to, message): &(NodeId, Message)| match message {
        Message::Append {
            base_index,
            base_term,
            entries,
            ..
        } if *to == peer => {
            let indexes = entries.iter().map(|entry| entry.index).collect();
            Some(((*base_index, *base_term), indexes))
        }
        _ => None,
    };
    output.messages.iter().filter_map(append).collect()
}

fn propose(raft: &mut Raft, now: Micros, count: usize) -> Output {
    let commands = std::iter::repeat_with(|| Arc::new(Command::NoOp)).take(count);
    raft.step(now, Input::Propose(commands.collect()))
}

fn rejected(
    term: Term,
    sequence: u64,
    conflict_index: Index,
    conflict_term: Option<Term>,
) -> Message {
    let outcome = AppendOutcome::Rejected {
        conflict_index,
        conflict_term,
    };
    Message::AppendReply {
        term,
        sequence,
        outcome,
    }
}

/// Goal: until a peer has answered it gets one append with entries, then bare heartbeats; once it
/// has, all that it lacks, and each further entry at once.
#[test]
fn a_peer_is_asked_before_it_is_flooded() {
    let (mut raft, elected) = leader(3, &[1]);
    assert_eq!(sent(&elected, 2), [((1, 1), vec![2])]);
    let asks_for_a_lease = |(_, message): &(NodeId, Message)| matches!(message, Message::Append { lease_ms, .. } if *lease_ms == LEASE / MS);
    assert!(elected.messages.iter().all(asks_for_a_lease));
    assert_eq!(sent(&propose(&mut raft, TIMEOUT, 2), 2), []);
    let beat = raft.step(TIMEOUT + 100 * MS, Input::Tick);
    assert_eq!(sent(&beat, 2), [((1, 1), vec![])]);

    let now = TIMEOUT + 101 * MS;
    let answered = receive(&mut raft, now, 2, accepted(2, 1, 2));
    assert_eq!(sent(&answered, 2), [((2, 2), vec![3, 4])]);
    assert_eq!(sent(&answered, 3), [], "the other has not answered");
    assert_eq!(sent(&propose(&mut raft, now, 1), 2), [((4, 2), vec![5])]);
    assert_eq!(sent(&propose(&mut raft, now, 1), 2), [((5, 2), vec![6])]);
    let beat = raft.step(now + 100 * MS, Input::Tick);
    assert_eq!(sent(&beat, 2), [((6, 2), vec![])]);
}

/// Goal: after a rejection the next append begins where the logs may meet: where the follower's log
/// ends, behind the leader's last entry of its term, or where the term begins that the leader does
/// not have.
#[test]
fn a_rejection_is_followed_by_the_right_append() {
    let terms = [1, 1, 3, 3];
    for (conflict, base) in [
        ((3, None), (2, 1)),
        ((1, None), (0, 0)),
        ((1, Some(1)), (2, 1)),
        ((3, Some(2)), (2, 1)),
        ((3, Some(3)), (4, 3)),
        ((2, Some(2)), (1, 1)),
    ] {
        let (mut raft, elected) = leader(3, &terms);
        let sequence = sequences(&elected)[0].1;
        let reply = rejected(raft.term(), sequence, conflict.0, conflict.1);
        let next = receive(&mut raft, TIMEOUT, 2, reply);
        let entries = (base.0 + 1..=5).collect();
        assert_eq!(sent(&next, 2), [(base, entries)], "{conflict:?}");
    }
}

/// Goal: a rejection of what was sent before the last change of course changes nothing, and none
/// takes back what a follower was seen to hold, unless it says that its log is shorter.
#[test]
fn an_old_rejection_is_old_news() {
    let (mut raft, elected) = leader(3, &[1, 1, 1]);
    let (term, first) = (raft.term(), sequences(&elected)[0].1);
    let probe = receive(&mut raft, TIMEOUT, 2, rejected(term, first, 3, None));
    assert_eq!(sent(&probe, 2), [((2, 1), vec![3, 4])]);
    let again = receive(&mut raft, TIMEOUT, 2, rejected(term, first, 1, None));
    assert_eq!(sent(&again, 2), [], "the same one again");
    let newest = sequences(&probe)[0].1;
    for (conflict_index, entries) in [(3, 1), (1, 0)] {
        let reply = rejected(term, newest, conflict_index, None);
        let output = receive(&mut raft, TIMEOUT, 3, reply);
        assert_eq!(sent(&output, 3).len(), entries, "once");
    }
    let sequence = sequences(&probe)[0].1;
    receive(&mut raft, TIMEOUT, 2, accepted(term, sequence, 4));
    let match_index = |raft: &Raft| raft.status().peers[0].match_index;
    assert_eq!(match_index(&raft), 4);
    let late = receive(&mut raft, TIMEOUT, 2, rejected(term, sequence, 2, Some(9)));
    assert_eq!(
        (match_index(&raft), sent(&late, 2)),
        (4, vec![((4, 2), vec![])])
    );
    let shorter = receive(&mut raft, TIMEOUT, 2, rejected(term, 99, 2, None));
    assert_eq!(match_index(&raft), 1);
    assert_eq!(sent(&shorter, 2), [((1, 1), vec![2, 3, 4])]);
}

/// Goal: a connection that comes up is asked at once, from what is known to be there; what was
/// under way on the one before is taken for lost.
#[test]
fn a_new_connection_begins_anew() {
    let (mut raft, elected) = leader(3, &[1]);
    let (term, sequence) = (raft.term(), sequences(&elected)[0].1);
    receive(&mut raft, TIMEOUT, 2, accepted(term, sequence, 2));
    propose(&mut raft, TIMEOUT, 1);
    propose(&mut raft, TIMEOUT, 1);
    let broke = raft.step(TIMEOUT, Input::Disconnected { peer: 2 });
    assert_eq!(sent(&broke, 2), []);
    assert!(!raft.status().peers[0].connected);
    let up = raft.step(
        TIMEOUT,
        Input::Connected {
            peer: 2,
            reads_format: 1,
        },
    );
    assert_eq!(sent(&up, 2), [((2, 2), vec![3, 4])]);
    assert!(raft.status().peers[0].connected);
    let last_before = sequences(&up)[0].1 - 1;
    let late = receive(&mut raft, TIMEOUT, 2, rejected(term, last_before, 1, None));
    assert_eq!(sent(&late, 2), [], "it was sent on the one before");
}

/// Goal: entries that fill an append to the byte go together, and one more byte makes two of them.
#[test]
fn an_append_is_filled_to_its_end() {
    let of_bytes = |bytes: usize| {
        let write = |value: String| {
            let (key, value) = ("k".into(), value.into());
            let operation = crate::command::Operation::Set { key, value };
            let request = None;
            Command::Write(crate::command::Write { request, operation })
        };
        let fixed = write(String::new()).size_bytes();
        Arc::new(write("x".repeat(bytes - fixed)))
    };
    let half = 32 * 1024;
    for (second, appends) in [(half, vec![vec![3, 4]]), (half + 1, vec![vec![3], vec![4]])] {
        let (mut raft, elected) = leader(3, &[1]);
        let (term, first) = (raft.term(), sequences(&elected)[0].1);
        let commands = vec![of_bytes(half), of_bytes(second)];
        raft.step(TIMEOUT, Input::Propose(commands));
        let output = receive(&mut raft, TIMEOUT, 2, accepted(term, first, 2));
        let sent: Vec<_> = sent(&output, 2).into_iter().map(|it| it.1).collect();
        assert_eq!(sent, appends);
    }
}

/// Goal: appends under way, and entries in one, are bounded.
#[test]
fn what_is_under_way_is_bounded() {
    let (mut raft, elected) = leader(3, &[1]);
    let (term, first) = (raft.term(), sequences(&elected)[0].1);
    receive(&mut raft, TIMEOUT, 2, accepted(term, first, 2));
    let mut under_way = Vec::new();
    for _ in 0..100 {
        let output = propose(&mut raft, TIMEOUT, 1);
        under_way.extend(sequences(&output).into_iter().filter(|(to, _)| *to == 2));
    }
    assert_eq!(under_way.len(), 64);
    for (index, (_, sequence)) in (3..).zip(&under_way[..3]) {
        let room = receive(&mut raft, TIMEOUT, 2, accepted(term, *sequence, index));
        assert_eq!(sent(&room, 2).len(), 1, "for each that is answered");
        let full = propose(&mut raft, TIMEOUT, 1);
        assert_eq!(sent(&full, 2), [], "and no more");
    }

    let (mut raft, elected) = leader(3, &[1]);
    let first = sequences(&elected)[0].1;
    propose(&mut raft, TIMEOUT, 3_000);
    let all = receive(&mut raft, TIMEOUT, 2, accepted(term, first, 2));
    let counts: Vec<usize> = sent(&all, 2).iter().map(|(_, e)| e.len()).collect();
    assert!(counts.iter().all(|count| *count <= 1024), "{counts:?}");
    let (last, earlier) = counts.split_last().expect("it is sent");
    assert!(*last > 0 && earlier.iter().all(|count| *count > 0));
}

/// Goal: the log answers for what it holds, and for nothing before or behind.
#[test]
fn what_the_log_knows_of_itself() {
    let terms = [1, 1, 3, 3, 4];
    let entries = (1..).zip(terms).map(|(index, term)| entry(index, term));
    let members = (0, Arc::new(Members::of_voters([1])));
    let log = Log::new(SnapshotId::default(), members, entries.collect());
    assert_eq!((log.last_index(), log.last_term()), (5, 4));
    let known: Vec<_> = (0..7).map(|index| log.term_at(index)).collect();
    let some = [0, 1, 1, 3, 3, 4].map(Some);
    assert_eq!(known, [&some[..], &[None]].concat());
    assert_eq!(log.entry(0), None);
    let indexes = |after, last| {
        let range = log.range(after, last).iter();
        range.map(|entry| entry.index).collect::<Vec<_>>()
    };
    assert_eq!(indexes(1, 3), [2, 3]);
    assert_eq!(indexes(3, 9), [4, 5]);
    assert_eq!(indexes(5, 5), Vec::<Index>::new());
    assert_eq!(indexes(7, 9), Vec::<Index>::new());
    let first: Vec<_> = (0..7).map(|i| log.first_index_of_term_at(i)).collect();
    assert_eq!(first, [1, 1, 1, 3, 3, 5, 6]);
    let last: Vec<_> = (0..6).map(|t| log.last_index_up_to_term(t)).collect();
    assert_eq!(last, [0, 2, 2, 4, 5, 5]);
}
