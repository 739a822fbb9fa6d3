//! A change of membership, from the request to the reply.

use super::*;
use crate::command::{FORMAT_MEMBERS, Format, Members};

/// The leader of three in term 2, in the format of changes, with all of its log committed: entries 1 to 3.
fn leading() -> Engine {
    let begins = Command::Format(Format {
        version: FORMAT_MEMBERS,
        cluster: 7,
        voters: vec![1, 2, 3],
    });
    let mut engine = with_log(config(), 0, [begins, Command::NoOp]);
    let (peer, sequence) = elected(&mut engine)[0];
    settle(&mut engine, TIMEOUT, vec![accepted(peer, sequence, 3)]);
    assert_eq!(engine.applied_index(), 3);
    engine
}

/// Wants a fourth node that only gets the log.
fn change(token: Token) -> Input {
    Input::Request {
        token,
        request: Request::ChangeMembers {
            base: 0,
            target: target(),
        },
    }
}

fn target() -> Members {
    let mut members = Members::of_voters([1, 2, 3]);
    members.nodes.insert(4, Default::default());
    members
}

/// An append of node 3, which leads term 3.
fn of_next_leader(base: (Index, Term), entries: Vec<Entry>, commit_index: Index) -> Input {
    let message = Message::Append {
        term: 3,
        base_index: base.0,
        base_term: base.1,
        entries,
        commit_index,
        lease_ms: LEASE / MS,
        sequence: 1,
        incarnation: 0,
    };
    heard(3, message)
}

fn over() -> Result<Reply, RequestError> {
    Ok(Reply::MembersChanged {
        index: 4,
        members: Arc::new(target()),
    })
}

/// Goal: who asked for a change is told what it led to when that is committed, not before.
#[test]
fn a_change_is_answered_when_it_is_committed() {
    let mut engine = leading();
    let begun = settle(&mut engine, TIMEOUT, vec![change(5)]);
    assert_eq!(tokens(&begun), NOBODY);
    assert_eq!(engine.raft().members_index(), 4, "in force from the append");
    let done = settle(&mut engine, TIMEOUT, vec![accepted(2, 99, 4)]);
    assert_eq!(done.replies, [(5, over())]);
    let later = settle(&mut engine, TIMEOUT, vec![]);
    assert_eq!(tokens(&later), NOBODY, "once");
}

/// Goal: who waits no more is not answered, and who does is, whoever else has gone.
#[test]
fn an_abandoned_change_is_not_answered() {
    for (abandoned, answered) in [(5, vec![]), (6, vec![(5, over())])] {
        let mut engine = leading();
        settle(&mut engine, TIMEOUT, vec![change(5)]);
        let token = abandoned;
        settle(&mut engine, TIMEOUT, vec![Input::Abandoned { token }]);
        let done = settle(&mut engine, TIMEOUT, vec![accepted(2, 99, 4)]);
        assert_eq!(done.replies, answered);
    }
}

/// Goal: a change that the next leader goes on with is waited for; one that it cuts off is of unknown
/// outcome.
#[test]
fn the_next_leader_decides_about_a_change() {
    let mut engine = leading();
    settle(&mut engine, TIMEOUT, vec![change(5)]);
    let deposed = settle(
        &mut engine,
        TIMEOUT,
        vec![of_next_leader((3, 2), vec![], 3)],
    );
    assert_eq!(tokens(&deposed), NOBODY, "it still stands");
    let goes_on = settle(
        &mut engine,
        TIMEOUT,
        vec![of_next_leader((4, 2), vec![], 4)],
    );
    assert_eq!(goes_on.replies, [(5, over())]);

    let mut engine = leading();
    settle(&mut engine, TIMEOUT, vec![change(5)]);
    let other = Entry {
        index: 4,
        term: 3,
        command: Arc::new(Command::NoOp),
    };
    let cut = of_next_leader((3, 2), vec![other], 3);
    let cut = settle(&mut engine, TIMEOUT, vec![cut]);
    assert!(
        matches!(cut.replies[..], [(5, Err(RequestError::OutcomeUnknown(_)))]),
        "{:?}",
        cut.replies
    );
}
