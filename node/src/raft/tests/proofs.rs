//! What the end of a run waives, at a voter and in the count of a candidate, and what it does not.

use super::*;

const OWN: Incarnation = 0xa1;

fn run(node: NodeId, incarnation: Incarnation) -> Run {
    Run { node, incarnation }
}

/// A follower, one of so many, that has a name.
fn named(voters: u64) -> Raft {
    let recovered = Recovered {
        incarnation: OWN,
        ..recovered(&[1])
    };
    Raft::new(config(voters), recovered, 0)
}

/// A heartbeat of a run of node 2.
fn heartbeat_of(incarnation: Incarnation, term: Term) -> Message {
    let mut message = heartbeat(term, (1, 1), 1);
    if let Message::Append {
        incarnation: of, ..
    } = &mut message
    {
        *of = incarnation;
    }
    message
}

fn ended(raft: &mut Raft, now: Micros, run: Run) -> Output {
    raft.step(now, Input::Ended { run })
}

/// What node 1 tells a run of node 3 that asks for its vote.
fn told(raft: &mut Raft, now: Micros, candidate: Incarnation) -> (u64, Owed) {
    let message = Message::Vote {
        term: raft.term() + 1,
        last_index: 1,
        last_term: 1,
        pre: false,
        released: None,
        incarnation: candidate,
    };
    let output = receive(raft, now, 3, message);
    match &output.messages_after_persist[..] {
        [
            (
                3,
                Message::VoteReply {
                    granted: true,
                    promise_remaining_ms: Some(longest_ms),
                    owed,
                    ..
                },
            ),
        ] => (*longest_ms, owed.clone()),
        other => panic!("{other:?}"),
    }
}

fn owes(leader: Run, term: Term, remaining_ms: u64) -> OpenPromise {
    OpenPromise {
        leader,
        term,
        remaining_ms,
    }
}

/// Goal: a vote names each promise; those to a run that has ended are gone, in each of its terms, and no
/// other is; the voter says which runs have ended.
#[test]
fn a_vote_names_its_promises() {
    let mut raft = named(3);
    receive(&mut raft, 0, 2, heartbeat_of(7, 1));
    receive(&mut raft, 100 * MS, 2, heartbeat_of(7, 2));
    receive(&mut raft, 200 * MS, 2, heartbeat_of(8, 3));
    assert!(ended(&mut raft, 300 * MS, run(2, 9)).events.len() == 1);
    let output = ended(&mut raft, 300 * MS, run(2, 7));
    let waived = output.events.iter().filter_map(|event| match event {
        Event::PromiseWaived {
            term, remaining_us, ..
        } => Some((*term, *remaining_us)),
        _ => None,
    });
    let waived: Vec<_> = waived.collect();
    assert_eq!(waived, [(1, LEASE - 300 * MS), (2, LEASE - 200 * MS)]);
    let (longest_ms, owed) = told(&mut raft, 300 * MS, 5);
    assert_eq!(longest_ms, 1_900);
    assert_eq!(owed.promises, Some(vec![owes(run(2, 8), 3, 1_900)]));
    assert_eq!(owed.ended, [run(2, 7), run(2, 9)], "the newest first");
    assert_eq!(raft.counters.promises_waived, 2);
}

/// Goal: what was promised to a leader without a name stands, whoever has ended, and is told as a
/// promise to anyone.
#[test]
fn nothing_waives_what_has_no_name() {
    let mut raft = named(3);
    receive(&mut raft, 0, 2, heartbeat_of(0, 1));
    for incarnation in [0, 7] {
        ended(&mut raft, 0, run(2, incarnation));
    }
    assert_eq!(raft.counters.proofs, 1, "one without a name is none");
    let (longest_ms, owed) = told(&mut raft, 0, 5);
    assert_eq!(longest_ms, LEASE / MS);
    let to_anyone = owes(run(2, 0), 1, LEASE / MS);
    assert_eq!(owed.promises, Some(vec![to_anyone]));
}

/// Goal: a node that takes no part neither believes nor tells anything.
#[test]
fn a_node_without_a_name_takes_no_part() {
    let mut raft = follower(3, &[1]);
    receive(&mut raft, 0, 2, heartbeat_of(7, 1));
    assert_eq!(ended(&mut raft, 0, run(2, 7)).events, []);
    let (longest_ms, owed) = told(&mut raft, 0, 5);
    assert_eq!((longest_ms, owed), (LEASE / MS, Owed::default()));
    assert_eq!(raft.names(), Names::default());
}

/// Goal: the end of the leader's run is a reason to stand at once, and to help whoever does; that of
/// another run of its node is none.
#[test]
fn the_end_of_the_leader_is_a_reason_to_stand() {
    let pre_vote = |raft: &mut Raft| {
        let message = Message::Vote {
            term: raft.term() + 1,
            last_index: 1,
            last_term: 1,
            pre: true,
            released: None,
            incarnation: 5,
        };
        let output = receive(raft, 20 * MS, 3, message);
        let mut replies = output.messages.iter();
        replies.any(|(_, it)| matches!(it, Message::VoteReply { granted: true, .. }))
    };
    for (which, stands) in [(7, true), (6, false)] {
        let mut raft = named(3);
        receive(&mut raft, 0, 2, heartbeat_of(7, 1));
        ended(&mut raft, 10 * MS, run(2, which));
        assert_eq!(raft.wake_at() <= 22 * MS, stands, "run {which}");
        assert_eq!(pre_vote(&mut raft), stands, "run {which}");
    }
}

/// Goal: what a dead leader had sent is promised nothing any more, and is not taken for a sign of life.
#[test]
fn late_words_of_an_ended_run_count_for_nothing() {
    let mut raft = named(3);
    ended(&mut raft, 0, run(2, 7));
    let output = receive(&mut raft, 0, 2, heartbeat_of(7, 4));
    assert!(output.messages_after_persist.is_empty());
    assert_eq!((raft.term(), raft.promises(0)), (1, vec![]));
    let lives = receive(&mut raft, 0, 2, heartbeat_of(8, 4));
    assert_eq!(lives.messages_after_persist.len(), 1);
}

/// A candidate that has a name and its own vote, and gets one of node 2 that owes this.
fn elected(owed: Owed, longest_ms: u64) -> Raft {
    let mut raft = named(3);
    raft.step(TIMEOUT, Input::Tick);
    for pre in [true, false] {
        let message = Message::VoteReply {
            term: 2,
            granted: true,
            pre,
            promise_remaining_ms: Some(longest_ms),
            owed: owed.clone(),
        };
        receive(&mut raft, TIMEOUT, 2, message);
        raft.step(TIMEOUT, Input::HardStatePersisted { term: 2 });
    }
    assert_eq!(raft.role(), Role::Leader);
    raft
}

/// Goal: a candidate does not count what was promised to those that have ended, as it knows or is told
/// with the vote; the rest it waits for, and no longer when that one ends, too.
#[test]
fn a_wait_ends_with_those_who_were_waited_for() {
    let owed = || Owed {
        promises: Some(vec![owes(run(3, 7), 1, 1_500), owes(run(3, 8), 1, 1_000)]),
        ended: vec![run(3, 7)],
    };
    let mut raft = elected(owed(), 1_500);
    let until = |raft: &Raft| raft.lease_status().old_lease_until_us;
    assert_eq!(until(&raft), TIMEOUT + 1_000 * MS);
    let output = ended(&mut raft, TIMEOUT + MS, run(3, 6));
    assert_eq!(output.events.len(), 1);
    assert_eq!(until(&raft), TIMEOUT + 1_000 * MS, "another one");
    let output = ended(&mut raft, TIMEOUT + MS, run(3, 8));
    let waived = Event::WaitWaived {
        term: 2,
        remaining_us: 999 * MS,
    };
    assert!(output.events.contains(&waived), "{:?}", output.events);
    assert!(
        output
            .events
            .iter()
            .any(|it| matches!(it, Event::OldLeaseOver { .. })),
        "at once"
    );
    assert_eq!(until(&raft), 0);
    assert_eq!(raft.counters.waits_waived, 2, "one before it began");
}

/// Goal: whose end becomes known while votes are counted is not waited for either.
#[test]
fn an_end_while_votes_are_counted_shortens_the_wait() {
    for (which, wait_ms) in [(7, 0), (8, 1_500)] {
        let mut raft = named(3);
        raft.step(TIMEOUT, Input::Tick);
        let yes = |pre| Message::VoteReply {
            term: 2,
            granted: true,
            pre,
            promise_remaining_ms: Some(1_500),
            owed: Owed {
                promises: Some(vec![owes(run(3, 7), 1, 1_500)]),
                ended: Vec::new(),
            },
        };
        receive(&mut raft, TIMEOUT, 2, yes(true));
        receive(&mut raft, TIMEOUT, 2, yes(false));
        assert_eq!(raft.role(), Role::Candidate, "its own vote is not durable");
        ended(&mut raft, TIMEOUT, run(3, which));
        let output = raft.step(TIMEOUT, Input::HardStatePersisted { term: 2 });
        assert_eq!(raft.role(), Role::Leader);
        let until_us = raft.lease_status().old_lease_until_us;
        let expected = if wait_ms == 0 {
            0
        } else {
            TIMEOUT + wait_ms * MS
        };
        assert_eq!(until_us, expected, "run {which}");
        let told = |it: &Event| matches!(it, Event::WaitWaived { .. });
        assert_eq!(output.events.iter().any(told), wait_ms == 0);
    }
}

/// Goal: an end that comes when the wait is over, or the promise is, has waived nothing.
#[test]
fn what_is_over_is_not_waived() {
    let owed = Owed {
        promises: Some(vec![owes(run(3, 7), 1, 1_000)]),
        ended: Vec::new(),
    };
    for (early, waits) in [(1, 1), (0, 0)] {
        let mut raft = elected(owed.clone(), 1_000);
        ended(&mut raft, TIMEOUT + 1_000 * MS - early, run(3, 7));
        assert_eq!(raft.counters.waits_waived, waits, "{early}");

        let mut raft = named(3);
        receive(&mut raft, 0, 2, heartbeat_of(7, 1));
        ended(&mut raft, LEASE - early, run(2, 7));
        assert_eq!(raft.counters.promises_waived, waits, "{early}");
    }
}

/// Goal: what a voter of an older version tells counts as a promise to anyone.
#[test]
fn what_is_not_named_is_waited_for() {
    let mut raft = elected(Owed::default(), 1_500);
    for node in [2, 3] {
        ended(&mut raft, TIMEOUT, run(node, 7));
    }
    let until_us = raft.lease_status().old_lease_until_us;
    assert_eq!(until_us, TIMEOUT + 1_500 * MS);
}

/// Goal: after a crash a node is bound to those whom its disk names, if the run that wrote that was the
/// last one and has ended for certain; otherwise to anyone. Its own former run is one of them.
#[test]
fn a_disk_names_those_whom_a_node_may_have_promised() {
    let start_as = |incarnation, former_run, by, former_run_ended| {
        let names = Names {
            by,
            runs: Some(vec![run(1, 5), run(2, 7)]),
        };
        let recovered = Recovered {
            kept_promises: None,
            incarnation,
            former_run,
            former_run_ended,
            ended: Vec::from_iter(former_run_ended.then_some(5)),
            names,
            ..recovered(&[1])
        };
        Raft::new(config(3), recovered, 0)
    };
    let start = |by, former_run_ended| start_as(OWN, 5, by, former_run_ended);
    let mut raft = start(5, true);
    assert_eq!(raft.own_ended(), [run(1, 5)]);
    let (_, owed) = told(&mut raft, 0, 9);
    assert_eq!(owed.promises, Some(vec![owes(run(2, 7), 0, LEASE / MS)]));
    assert_eq!(raft.names().runs, Some(vec![run(2, 7), run(3, 9)]));
    ended(&mut raft, 0, run(2, 7));
    assert_eq!(raft.names().runs, Some(vec![run(3, 9)]), "the candidate");
    let nameless = start_as(0, 5, 5, true);
    assert_eq!(nameless.promises(0)[0].leader, 0, "it takes no part");
    for mut raft in [start(4, true), start(5, false), start_as(OWN, 0, 0, true)] {
        ended(&mut raft, 0, run(2, 7));
        let (_, owed) = told(&mut raft, 0, 9);
        let to_anyone = owes(Run::UNKNOWN, 0, LEASE / MS);
        assert_eq!(owed.promises, Some(vec![to_anyone]));
        assert_eq!(raft.names().runs, None);
    }
}

/// Goal: promises that were kept through a stop in good order have a name again where only one run of
/// the leader's node can be meant.
#[test]
fn kept_promises_are_named_by_the_record() {
    let kept = Promise {
        leader: 2,
        incarnation: 0,
        term: 1,
        until_us: LEASE,
    };
    for (named, waived) in [(vec![run(2, 7)], true), (vec![run(2, 7), run(2, 8)], false)] {
        let recovered = Recovered {
            kept_promises: Some(vec![kept]),
            incarnation: OWN,
            former_run: 5,
            former_run_ended: true,
            names: Names {
                by: 5,
                runs: Some(named),
            },
            ..recovered(&[1])
        };
        let mut raft = Raft::new(config(3), recovered, 0);
        ended(&mut raft, 0, run(2, 7));
        assert_eq!(raft.promises(0).is_empty(), waived);
    }
}

/// Goal: a leader names itself on disk with its own vote, before its first heartbeat.
#[test]
fn a_leader_names_itself() {
    let mut raft = named(3);
    raft.step(TIMEOUT, Input::Tick);
    let granted = Message::VoteReply {
        term: 2,
        granted: true,
        pre: true,
        promise_remaining_ms: None,
        owed: Owed::default(),
    };
    let output = receive(&mut raft, TIMEOUT, 2, granted);
    assert!(output.hard_state.is_some(), "it votes for itself");
    assert_eq!(raft.names().runs, Some(vec![run(1, OWN)]));
}

/// As node 1 starts after a crash: its disk names its own former run, which has ended, and one of node 2.
fn after_a_crash() -> Raft {
    let recovered = Recovered {
        kept_promises: None,
        incarnation: OWN,
        former_run: 5,
        former_run_ended: true,
        ended: vec![5],
        names: Names {
            by: 5,
            runs: Some(vec![run(1, 5), run(2, 7)]),
        },
        ..recovered(&[1])
    };
    Raft::new(config(3), recovered, 0)
}

fn connected(raft: &mut Raft, now: Micros, peer: NodeId) {
    let reads_format = 1;
    raft.step(now, Input::Connected { peer, reads_format });
}

/// Goal: a node that starts stands as soon as it can be heard, once all have ended whom its disk names, and no
/// sooner: the end of another run, or a connection alone, is no reason.
#[test]
fn who_starts_stands_when_no_leader_is_left() {
    const SOON: Micros = 12 * MS;
    let mut raft = after_a_crash();
    let waits = |raft: &Raft, now| raft.wake_at() > now + SOON;
    connected(&mut raft, 0, 3);
    ended(&mut raft, 0, run(2, 6));
    assert!(waits(&raft, 0), "one may be left");
    ended(&mut raft, MS, run(2, 7));
    assert!(!waits(&raft, MS), "the last has ended");
    let mut raft = after_a_crash();
    ended(&mut raft, 0, run(2, 7));
    // Nobody was there to hear it when it stood.
    (0..250).for_each(|ms| drop(raft.step(ms * MS, Input::Tick)));
    assert!(waits(&raft, 250 * MS), "not for ever");
    connected(&mut raft, 250 * MS, 3);
    assert!(!waits(&raft, 250 * MS), "here is somebody");
}

/// Goal: where a leader was heard since the start, or a later term, connections and ends of former runs are no
/// reason to stand: the others have had an election.
#[test]
fn who_starts_stands_early_once() {
    let heard = |raft: &mut Raft| drop(receive(raft, 20 * MS, 3, heartbeat_of(8, 1)));
    let voted = |raft: &mut Raft| drop(told(raft, 20 * MS, 9));
    for since in [&heard as &dyn Fn(&mut Raft), &voted] {
        let mut raft = after_a_crash();
        since(&mut raft);
        ended(&mut raft, 20 * MS, run(2, 7));
        connected(&mut raft, 20 * MS, 2);
        assert_eq!(raft.wake_at(), 20 * MS + TIMEOUT);
    }
}
