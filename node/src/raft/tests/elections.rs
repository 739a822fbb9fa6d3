//! Who gets a vote, when a vote counts, and who stands.

use super::*;

fn ask(term: Term, last: (Index, Term), pre: bool) -> Message {
    Message::Vote {
        term,
        last_index: last.0,
        last_term: last.1,
        pre,
        released: None,
        incarnation: 0,
    }
}

/// The answer to a question for a vote, from wherever it leaves.
fn answer(output: &Output) -> (Term, bool) {
    let all = output.messages.iter().chain(&output.messages_after_persist);
    let mut answers = all.filter_map(|(_, message)| match message {
        Message::VoteReply { term, granted, .. } => Some((*term, *granted)),
        _ => None,
    });
    answers.next().expect("who is asked answers")
}

/// Goal: nobody learns of a candidacy before it is durable here, and the own vote counts only
/// then: who forgot it could help another in the same term.
#[test]
fn the_own_vote_counts_when_it_is_durable() {
    let mut raft = follower(3, &[1]);
    let asked = raft.step(TIMEOUT, Input::Tick);
    assert!(asked.hard_state.is_none(), "a pre-vote changes nothing");
    let granted = Message::VoteReply {
        term: 2,
        granted: true,
        pre: true,
        promise_remaining_ms: None,
        owed: Default::default(),
    };
    let stands = receive(&mut raft, TIMEOUT, 2, granted);
    let voted_for = Some(1);
    assert_eq!(stands.hard_state, Some(HardState { term: 2, voted_for }));
    assert!(stands.messages.is_empty(), "{:?}", stands.messages);
    let to: Vec<NodeId> = stands.messages_after_persist.iter().map(|m| m.0).collect();
    assert_eq!(to, [2, 3]);

    vote(&mut raft, TIMEOUT, 2, Some(0));
    assert_eq!(raft.role(), Role::Candidate, "one vote of three");
    raft.step(TIMEOUT, Input::HardStatePersisted { term: 1 });
    assert_eq!(raft.role(), Role::Candidate, "an earlier state is durable");
    raft.step(TIMEOUT, Input::HardStatePersisted { term: 2 });
    assert_eq!(raft.role(), Role::Leader);
}

/// Goal: a durable term is no vote for whom only asks whether it would get votes.
#[test]
fn a_pre_vote_is_no_vote() {
    let mut raft = follower(3, &[1]);
    raft.step(TIMEOUT, Input::Tick);
    raft.step(TIMEOUT, Input::HardStatePersisted { term: 1 });
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, 1));
    assert_eq!(raft.counters.elections_started, 0);
    // Votes of a round that is over, and of the other kind, count for nothing.
    vote(&mut raft, TIMEOUT, 2, Some(0));
    for (term, pre) in [(1, true), (3, true), (2, false)] {
        let message = Message::VoteReply {
            term,
            granted: true,
            pre,
            promise_remaining_ms: Some(0),
            owed: Default::default(),
        };
        receive(&mut raft, TIMEOUT, 3, message);
        assert_eq!(raft.counters.elections_started, 0, "{term} {pre}");
    }
}

/// Goal: a vote and what it promises leave when they are durable, and one term has one vote.
#[test]
fn a_vote_is_durable_before_it_is_told() {
    let mut raft = follower(3, &[1]);
    let given = receive(&mut raft, 10, 2, ask(2, (1, 1), false));
    let voted_for = Some(2);
    assert_eq!(given.hard_state, Some(HardState { term: 2, voted_for }));
    assert!(given.messages.is_empty(), "{:?}", given.messages);
    assert_eq!(answer(&given), (2, true));

    let other = receive(&mut raft, 20, 3, ask(2, (9, 9), false));
    assert_eq!(answer(&other), (2, false), "its vote is given");
    let again = receive(&mut raft, 30, 2, ask(2, (1, 1), false));
    assert_eq!(answer(&again), (2, true), "the answer was lost");
    let later = receive(&mut raft, 40, 3, ask(3, (1, 1), false));
    assert_eq!(answer(&later), (3, true), "another term");
}

/// Goal: a log is behind whose last term is lower, or whose last term is equal and which is
/// shorter (Raft paper 5.4.1); to be asked costs the voter its term, not its vote.
#[test]
fn votes_go_to_logs_that_cover_the_own() {
    for (last, granted) in [
        ((2, 2), true),
        ((3, 2), true),
        ((1, 3), true),
        ((1, 2), false),
        ((9, 1), false),
    ] {
        let mut raft = follower(3, &[1, 2]);
        let pre = receive(&mut raft, 10, 2, ask(3, last, true));
        assert_eq!(answer(&pre).1, granted, "{last:?}");
        assert_eq!((pre.hard_state, raft.term()), (None, 2), "nothing changes");
        let vote = receive(&mut raft, 10, 2, ask(3, last, false));
        assert_eq!(answer(&vote), (3, granted), "{last:?}");
        let voted_for = granted.then_some(2);
        assert_eq!(raft.hard_state(), HardState { term: 3, voted_for });
    }
}

/// Goal: who has just heard the leader helps nobody to depose it; who has not for the shortest
/// timeout does, and so does at once who lost the connection.
#[test]
fn a_leader_that_is_heard_is_not_deposed() {
    let question = || ask(2, (1, 1), true);
    let heard = || {
        let mut raft = follower(3, &[1]);
        receive(&mut raft, 1_000, 3, heartbeat(1, (1, 1), 1));
        raft
    };
    let just = answer(&receive(&mut heard(), TIMEOUT + 999, 2, question()));
    assert_eq!(just, (1, false));
    let long_ago = answer(&receive(&mut heard(), TIMEOUT + 1_000, 2, question()));
    assert_eq!(long_ago, (2, true), "the term that was asked about");

    let mut raft = heard();
    raft.step(2_000, Input::Disconnected { peer: 2 });
    let other_link = answer(&receive(&mut raft, 2_000, 2, question()));
    assert_eq!(other_link, (1, false), "that was not the leader");
    raft.step(2_000, Input::Disconnected { peer: 3 });
    assert_eq!(answer(&receive(&mut raft, 2_000, 2, question())), (2, true));
    receive(&mut raft, 2_500, 3, heartbeat(1, (1, 1), 2));
    let lives = answer(&receive(&mut raft, 2_600, 2, question()));
    assert_eq!(lives, (1, false), "it is heard again");
}

/// Goal: a leader refuses to help another as long as it may have a majority; nobody votes for the
/// term that it leads.
#[test]
fn a_leader_helps_nobody() {
    let (mut raft, _) = leader(3, &[1]);
    let pre = receive(&mut raft, TIMEOUT + 1, 2, ask(3, (9, 9), true));
    assert_eq!(answer(&pre), (2, false));
    let vote = receive(&mut raft, TIMEOUT + 1, 2, ask(2, (9, 9), false));
    assert_eq!(answer(&vote), (2, false));
    assert_eq!(raft.role(), Role::Leader);
    let later = receive(&mut raft, TIMEOUT + 2, 2, ask(3, (9, 9), false));
    assert_eq!(answer(&later), (3, true));
    assert_eq!(raft.role(), Role::Follower);
    assert_eq!(raft.lease_status().lease_until_us, 0);

    for (now, helps) in [(TIMEOUT + LEASE - 1, false), (TIMEOUT + LEASE, true)] {
        let (mut raft, _) = leader(3, &[1]);
        let pre = receive(&mut raft, now, 2, ask(3, (9, 9), true));
        assert_eq!(answer(&pre).1, helps, "nobody has answered it until {now}");
    }
}

/// Goal: a term that is only asked about, and a yes to that, is no news of a term; a no is.
#[test]
fn only_a_term_that_is_there_is_adopted() {
    let mut raft = follower(3, &[1]);
    raft.step(TIMEOUT, Input::Tick);
    let reply = |term, granted, pre| Message::VoteReply {
        term,
        granted,
        pre,
        promise_remaining_ms: None,
        owed: Default::default(),
    };
    receive(&mut raft, TIMEOUT, 2, ask(7, (9, 9), true));
    receive(&mut raft, TIMEOUT, 2, reply(7, true, true));
    assert_eq!(raft.term(), 1);
    receive(&mut raft, TIMEOUT, 2, reply(7, false, true));
    assert_eq!((raft.term(), raft.role()), (7, Role::Follower));
    receive(&mut raft, TIMEOUT, 2, reply(9, true, false));
    assert_eq!(raft.term(), 9);
}

/// Goal: who is behind is told the term, and what it said is not done.
#[test]
fn who_is_behind_is_told() {
    let mut raft = follower(3, &[1, 5]);
    let stale = receive(&mut raft, 10, 2, append(3, (2, 3), vec![entry(3, 3)], 3, 8));
    let term = 5;
    let outcome = AppendOutcome::Rejected {
        conflict_index: 3,
        conflict_term: None,
    };
    let reply = Message::AppendReply {
        term,
        sequence: 8,
        outcome,
    };
    assert_eq!(stale.messages_after_persist, [(2, reply)]);
    assert_eq!((raft.leader(), raft.last_index()), (None, 2));
    assert_eq!(raft.promises(10), [], "nothing is promised");
    for pre in [true, false] {
        let vote = receive(&mut raft, 10, 2, ask(4, (9, 9), pre));
        assert_eq!(answer(&vote), (5, false));
        let candidate = 2;
        let term = 4;
        let told = vote.events.contains(&Event::VoteDenied { candidate, term });
        assert_eq!(told, !pre, "a question is no news");
    }
    let outdated = Message::TimeoutNow {
        term: 4,
        last_index: 0,
        released: true,
    };
    receive(&mut raft, 10, 2, outdated);
    assert_eq!(raft.counters.elections_started, 0);
}

/// Goal: a message in the own name is not listened to. Whoever else leads a later term is, whether or not the
/// own configuration names it: that one may be out of date, and the transport has refused strangers.
#[test]
fn only_others_are_heard() {
    for (from, followed) in [(1, (1, None)), (4, (6, Some(4)))] {
        let mut raft = follower(3, &[1]);
        receive(&mut raft, 10, from, heartbeat(6, (1, 1), 1));
        assert_eq!((raft.term(), raft.leader()), followed, "from {from}");
    }
}

/// Goal: a node whose log lost entries to damage neither votes nor stands, until a leader has refilled
/// it as far as it had come, committed or not.
#[test]
fn a_damaged_node_waits_to_be_refilled() {
    let damaged = || {
        let recovered = Recovered {
            damaged_until: 3,
            ..recovered(&[1])
        };
        Raft::new(config(3), recovered, 0)
    };
    let mut raft = damaged();
    for pre in [true, false] {
        let asked = receive(&mut raft, 10, 2, ask(2, (9, 9), pre));
        assert!(!answer(&asked).1, "pre {pre}");
    }
    assert!(raft.step(10 * TIMEOUT, Input::Tick).messages.is_empty());
    let word = Message::TimeoutNow {
        term: 2,
        last_index: 1,
        released: true,
    };
    receive(&mut raft, 10 * TIMEOUT, 2, word);
    assert_eq!(raft.counters.elections_started, 0);

    let mut refilled = damaged();
    let entries = vec![entry(2, 1)];
    receive(&mut refilled, 10, 2, append(1, (1, 1), entries, 0, 1));
    let still = receive(&mut refilled, TIMEOUT + 10, 3, ask(2, (9, 9), true));
    assert!(!answer(&still).1, "one entry is missing");
    let last = append(1, (2, 1), vec![entry(3, 1)], 0, 2);
    receive(&mut refilled, TIMEOUT + 20, 2, last);
    assert_eq!(
        refilled.commit_index(),
        0,
        "nobody said that it is committed"
    );
    let asked = receive(&mut refilled, 2 * TIMEOUT + 20, 3, ask(2, (9, 9), true));
    assert!(answer(&asked).1);
}

/// Goal: while the own vote waits for the disk, time brings no further election, which would wait for
/// it as well.
#[test]
fn one_election_at_a_time_waits_for_the_disk() {
    for voters in [1, 3] {
        let (mut raft, term) = candidate(voters, &[1]);
        for round in 2..100 {
            let output = raft.step(round * TIMEOUT, Input::Tick);
            assert_eq!((raft.term(), output.hard_state), (term, None));
        }
        raft.step(100 * TIMEOUT, Input::HardStatePersisted { term });
        match voters {
            1 => assert_eq!(raft.role(), Role::Leader),
            _ => {
                let asks = raft.step(102 * TIMEOUT, Input::Tick);
                assert!(!asks.messages.is_empty(), "the next question");
            }
        }
    }
}
