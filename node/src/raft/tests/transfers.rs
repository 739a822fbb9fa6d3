//! Handing leadership over.

use super::*;

/// A leader of three whose followers hold its whole log.
fn followed() -> Raft {
    let (mut raft, elected) = leader(3, &[1]);
    let (term, index) = (raft.term(), raft.last_index());
    for peer in [2, 3] {
        raft.step(
            TIMEOUT,
            Input::Connected {
                peer,
                reads_format: 1,
            },
        );
    }
    for (peer, sequence) in sequences(&elected) {
        receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
    }
    assert_eq!(raft.commit_index(), index);
    raft
}

fn word(output: &Output) -> Option<&(NodeId, Message)> {
    let mut words = output.messages.iter();
    words.find(|(_, message)| matches!(message, Message::TimeoutNow { .. }))
}

/// Goal: the lease is given up for good in the step that tells the target, and the target that did
/// not take over in time costs the leadership: the word may still come.
#[test]
fn a_lease_is_given_up_for_good() {
    let mut raft = followed();
    let told = raft.step(TIMEOUT, Input::Transfer { target: Some(2) });
    let message = Message::TimeoutNow {
        term: 2,
        last_index: 2,
        released: true,
    };
    assert_eq!(word(&told), Some(&(2, message)));
    assert_eq!(raft.lease_status().lease_until_us, 0);
    let refused = raft.step(TIMEOUT, Input::Propose(vec![Arc::new(Command::NoOp)]));
    assert_eq!(refused.proposed, Some(Err(Refusal::Transferring)));
    let again = raft.step(TIMEOUT, Input::Transfer { target: Some(3) });
    assert_eq!(again.transferred, [Err(Refusal::Transferring)]);

    let pre_vote = Message::Vote {
        term: 3,
        last_index: 2,
        last_term: 2,
        pre: true,
        released: None,
        incarnation: 0,
    };
    let helps = receive(&mut raft, TIMEOUT, 3, pre_vote);
    let granted = |(_, message): &(NodeId, Message)| {
        matches!(message, Message::VoteReply { granted: true, .. })
    };
    assert!(
        helps.messages.iter().any(granted),
        "there is no lease to keep"
    );

    let deadline = TIMEOUT + TIMEOUT;
    raft.step(deadline - 1, Input::Tick);
    assert_eq!(raft.role(), Role::Leader);
    let over = raft.step(deadline, Input::Tick);
    assert_eq!(over.transferred, [Err(Refusal::TransferFailed)]);
    assert_eq!(raft.role(), Role::Follower);
}

/// Goal: a target that did not catch up in time was told nothing, so the leader leads on with its
/// lease, and takes writes again.
#[test]
fn a_target_that_lags_takes_nothing_away() {
    let mut raft = followed();
    raft.step(TIMEOUT, Input::Propose(vec![Arc::new(Command::NoOp)]));
    let begun = raft.step(TIMEOUT, Input::Transfer { target: Some(2) });
    assert_eq!(word(&begun), None, "it lacks an entry");
    let refused = raft.step(TIMEOUT, Input::Propose(vec![Arc::new(Command::NoOp)]));
    assert_eq!(refused.proposed, Some(Err(Refusal::Transferring)));
    let held = receive(&mut raft, TIMEOUT, 3, accepted(2, 9, 3));
    assert_eq!(word(&held), None, "that is another one");
    assert!(raft.lease_status().lease_until_us > TIMEOUT);
    let over = raft.step(TIMEOUT + TIMEOUT, Input::Tick);
    assert_eq!(over.transferred, [Err(Refusal::TransferFailed)]);
    assert_eq!(raft.role(), Role::Leader);
    let taken = raft.step(
        TIMEOUT + TIMEOUT,
        Input::Propose(vec![Arc::new(Command::NoOp)]),
    );
    assert!(
        matches!(taken.proposed, Some(Ok(_))),
        "{:?}",
        taken.proposed
    );
}

/// Goal: whoever asked is told of the next leader, or that this node does not lead.
#[test]
fn the_outcome_of_a_transfer_is_told() {
    let mut raft = followed();
    raft.step(TIMEOUT, Input::Transfer { target: Some(2) });
    let heard = receive(&mut raft, TIMEOUT + 1, 2, heartbeat(3, (2, 2), 1));
    assert_eq!(heard.transferred, [Ok(2)]);
    assert_eq!(raft.counters.transfers, 1);
    let again = receive(&mut raft, TIMEOUT + 2, 2, heartbeat(3, (2, 2), 2));
    assert_eq!(again.transferred, [], "once");
    let leader = Some(2);
    let late = raft.step(TIMEOUT + 3, Input::Transfer { target: None });
    assert_eq!(late.transferred, [Err(Refusal::NotLeader { leader })]);
}

/// Goal: leadership goes to another voter that is connected, and to nobody else.
#[test]
fn only_a_connected_voter_takes_over() {
    for target in [1, 4] {
        let refused = followed().step(
            TIMEOUT,
            Input::Transfer {
                target: Some(target),
            },
        );
        assert_eq!(
            refused.transferred,
            [Err(Refusal::TransferFailed)],
            "{target}"
        );
    }
    let mut raft = followed();
    raft.step(TIMEOUT, Input::Disconnected { peer: 2 });
    let target = Some(2);
    let refused = raft.step(TIMEOUT, Input::Transfer { target });
    assert_eq!(refused.transferred, [Err(Refusal::TransferFailed)]);
}

/// Goal: who is told to take over stands at once, if it follows and has the leader's whole log;
/// only what was released is left out by the voters.
#[test]
fn who_is_told_stands_at_once() {
    let tell = |raft: &mut Raft, last_index, released| {
        let term = 1;
        let message = Message::TimeoutNow {
            term,
            last_index,
            released,
        };
        receive(raft, 10, 2, message)
    };
    let asked = |output: &Output| match &output.messages_after_persist[..] {
        [(2, Message::Vote { released, .. }), (3, _)] => Some(*released),
        [] => None,
        other => panic!("{other:?}"),
    };
    let mut raft = follower(3, &[1]);
    assert_eq!(asked(&tell(&mut raft, 1, true)), Some(Some((2, 1))));
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, 2));
    assert_eq!(asked(&tell(&mut follower(3, &[1]), 1, false)), Some(None));
    assert_eq!(asked(&tell(&mut follower(3, &[1]), 2, true)), None, "a gap");
    let mut asks_already = follower(3, &[1]);
    asks_already.step(TIMEOUT, Input::Tick);
    let message = Message::TimeoutNow {
        term: 1,
        last_index: 1,
        released: true,
    };
    let output = receive(&mut asks_already, TIMEOUT, 2, message);
    assert_eq!(asked(&output), None);
}

/// Goal: where anybody may take over, it is who answers what was sent since, not what was sent before: that
/// one may stand still by now.
#[test]
fn who_takes_over_has_answered_since() {
    let mut raft = followed();
    let beat = raft.step(TIMEOUT + 100 * MS, Input::Tick);
    let now = TIMEOUT + 110 * MS;
    let begun = raft.step(now, Input::Transfer { target: None });
    for (peer, sequence) in sequences(&beat) {
        let output = receive(&mut raft, now, peer, accepted(2, sequence, 2));
        assert_eq!(word(&output), None, "sent before");
    }
    let (peer, sequence) = sequences(&begun)[0];
    let output = receive(&mut raft, now, peer, accepted(2, sequence, 2));
    assert_eq!(word(&output).map(|(to, _)| *to), Some(peer));
}

/// Goal: who answers and lacks an entry is not chosen: another one may hold all.
#[test]
fn who_takes_over_holds_the_whole_log() {
    let mut raft = followed();
    raft.step(TIMEOUT, Input::Propose(vec![Arc::new(Command::NoOp)]));
    let begun = raft.step(TIMEOUT, Input::Transfer { target: None });
    let sent = sequences(&begun);
    let lacks = receive(&mut raft, TIMEOUT, 2, accepted(2, sent[0].1, 2));
    assert_eq!(word(&lacks), None);
    let holds = receive(&mut raft, TIMEOUT, 3, accepted(2, sent[1].1, 3));
    assert_eq!(word(&holds).map(|(to, _)| *to), Some(3));
}
