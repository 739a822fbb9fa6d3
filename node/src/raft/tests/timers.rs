//! What happens by itself: elections, second tries, heartbeats, the word on a commit, the end of a
//! leadership whose disk stands still.

use super::*;

/// The longest delay of a first early try, in microseconds; the shortest is a millisecond.
const EARLY_MAX: Micros = 12 * MS;

fn pre_votes(output: &Output) -> Vec<(NodeId, Term)> {
    let asked = |(to, message): &(NodeId, Message)| match message {
        Message::Vote {
            pre: true, term, ..
        } => Some((*to, *term)),
        _ => None,
    };
    output.messages.iter().filter_map(asked).collect()
}

fn denied(raft: &mut Raft, now: Micros, from: NodeId, pre: bool) -> Output {
    let message = Message::VoteReply {
        term: raft.term(),
        granted: false,
        pre,
        promise_remaining_ms: None,
        owed: Default::default(),
    };
    receive(raft, now, from, message)
}

/// Goal: who hears nothing asks the others about the next term when its timer is over, not before;
/// what it hears of a leader, and the vote it gives, begin the timer anew.
#[test]
fn silence_is_followed_by_a_question() {
    let mut raft = follower(3, &[1]);
    assert_eq!(raft.wake_at(), TIMEOUT);
    assert_eq!(pre_votes(&raft.step(TIMEOUT - 1, Input::Tick)), []);
    assert_eq!(raft.role(), Role::Follower);
    let asks = raft.step(TIMEOUT, Input::Tick);
    assert_eq!(pre_votes(&asks), [(2, 2), (3, 2)]);
    assert_eq!((raft.role(), raft.leader()), (Role::Candidate, None));
    let again = raft.step(2 * TIMEOUT, Input::Tick);
    assert_eq!(pre_votes(&again), [(2, 2), (3, 2)], "of the same term");

    let mut raft = follower(3, &[1]);
    receive(&mut raft, 100 * MS, 2, heartbeat(1, (1, 1), 1));
    assert_eq!(raft.wake_at(), 100 * MS + TIMEOUT);
    let vote = Message::Vote {
        term: 2,
        last_index: 1,
        last_term: 1,
        pre: false,
        released: None,
        incarnation: 0,
    };
    receive(&mut raft, 200 * MS, 3, vote);
    assert_eq!(raft.wake_at(), 200 * MS + TIMEOUT);
}

/// Goal: the nodes of a new cluster find each other in a moment; who hears of a term, or has a
/// past, takes the usual time.
#[test]
fn only_a_new_node_is_in_a_hurry() {
    let start = |terms: &[Term], never_ran| {
        let recovered = Recovered {
            never_ran,
            ..recovered(terms)
        };
        Raft::new(config(3), recovered, 0)
    };
    let mut new = start(&[], true);
    assert!((20 * MS..=150 * MS).contains(&new.wake_at()));
    assert_eq!(start(&[], false).wake_at(), TIMEOUT);
    assert_eq!(start(&[1], true).wake_at(), TIMEOUT);
    let elsewhere = Message::VoteReply {
        term: 1,
        granted: false,
        pre: true,
        promise_remaining_ms: None,
        owed: Default::default(),
    };
    receive(&mut new, 10, 2, elsewhere);
    assert_eq!(new.wake_at(), 10 + TIMEOUT);
}

/// Goal: who gives up its candidacy waits its whole time again, and says so if it stood.
#[test]
fn who_steps_down_waits_anew() {
    let later = |raft: &mut Raft| denied(raft, 2 * TIMEOUT - 10, 2, false);
    let (mut stood, term) = candidate(3, &[1]);
    let message = Message::VoteReply {
        term: term + 1,
        granted: false,
        pre: false,
        promise_remaining_ms: None,
        owed: Default::default(),
    };
    let output = receive(&mut stood, 2 * TIMEOUT - 10, 2, message);
    assert_eq!(output.events, [Event::SteppedDown { term: term + 1 }]);
    assert_eq!(stood.wake_at(), 3 * TIMEOUT - 10);
    assert_eq!(
        later(&mut stood).events,
        [],
        "a follower has nothing to lose"
    );

    let mut asked = follower(3, &[1]);
    asked.step(TIMEOUT, Input::Tick);
    let heard = receive(&mut asked, TIMEOUT + 5, 3, heartbeat(4, (1, 1), 1));
    let stepped_down = |event: &Event| matches!(event, Event::SteppedDown { .. });
    assert!(!heard.events.iter().any(stepped_down), "{:?}", heard.events);
}

/// Goal: a broken connection to the leader is followed by quick tries, each within twice the time
/// of the one before, a few in a row; then the usual timer decides again.
#[test]
fn a_broken_connection_is_followed_by_quick_tries() {
    let mut raft = follower(3, &[1]);
    receive(&mut raft, 0, 2, heartbeat(1, (1, 1), 1));
    raft.step(10, Input::Disconnected { peer: 2 });
    let mut now = 10;
    for attempt in 0..5 {
        let delay = raft.wake_at() - now;
        let range = MS << attempt..=EARLY_MAX << attempt;
        assert!(range.contains(&delay), "try {attempt} after {delay} us");
        now = raft.wake_at();
        let asks = raft.step(now, Input::Tick);
        assert_eq!(pre_votes(&asks).len(), 2, "try {attempt}");
    }
    assert_eq!(raft.wake_at(), now + TIMEOUT);
    receive(&mut raft, now, 3, heartbeat(2, (1, 1), 1));
    raft.step(now, Input::Disconnected { peer: 3 });
    assert!(raft.wake_at() <= now + EARLY_MAX, "for the next leader too");
}

/// Goal: when no majority is left that could vote for it, a candidate tries again in a moment; as
/// long as one is, and while it only asks, it waits for its timer.
#[test]
fn a_lost_election_is_tried_again_soon() {
    let soon = |raft: &Raft| raft.wake_at() <= TIMEOUT + EARLY_MAX;
    let (mut raft, _) = candidate(5, &[1]);
    assert_eq!(raft.wake_at(), 2 * TIMEOUT);
    for from in [2, 2, 3] {
        denied(&mut raft, TIMEOUT, from, false);
        assert!(!soon(&raft), "three of five may vote for it");
    }
    denied(&mut raft, TIMEOUT, 4, false);
    assert!(soon(&raft));

    for (before, again) in [(4, true), (5, false)] {
        let (mut raft, _) = candidate(3, &[1]);
        raft.early_attempts = before;
        for from in [2, 3] {
            denied(&mut raft, TIMEOUT, from, false);
        }
        assert_eq!(raft.wake_at() < 2 * TIMEOUT, again, "a few in a row");
    }

    let (mut raft, _) = candidate(3, &[1]);
    raft.step(TIMEOUT, Input::Disconnected { peer: 3 });
    denied(&mut raft, TIMEOUT, 2, false);
    assert!(soon(&raft), "the third is gone");

    let (mut raft, _) = candidate(3, &[1]);
    raft.step(
        TIMEOUT,
        Input::Connected {
            peer: 3,
            reads_format: 1,
        },
    );
    denied(&mut raft, TIMEOUT, 2, false);
    assert!(!soon(&raft), "the third is there");

    let (mut raft, term) = candidate(3, &[1]);
    raft.step(TIMEOUT, Input::Disconnected { peer: 2 });
    raft.step(TIMEOUT, Input::HardStatePersisted { term });
    denied(&mut raft, TIMEOUT, 2, false);
    assert!(!soon(&raft), "who is gone and has refused is one");

    let mut asks = follower(3, &[1]);
    asks.step(TIMEOUT, Input::Tick);
    for from in [2, 3] {
        denied(&mut asks, TIMEOUT, from, true);
    }
    assert!(!soon(&asks));
}

/// Goal: a leader sends each peer something in every interval, whether or not it answers.
#[test]
fn heartbeats_keep_their_interval() {
    let (mut raft, elected) = leader(3, &[1]);
    assert_eq!(sequences(&elected), [(2, 1), (3, 2)]);
    assert!(raft.wake_at() <= TIMEOUT + 100 * MS);
    let early = raft.step(TIMEOUT + 100 * MS - 1, Input::Tick);
    assert_eq!(sequences(&early), []);
    let due = raft.step(TIMEOUT + 100 * MS, Input::Tick);
    assert_eq!(sequences(&due), [(2, 3), (3, 4)]);
    let round = Event::HeartbeatSent {
        term: 2,
        sequence: 3,
        lease_us: 0,
        acknowledged: vec![(2, 0), (3, 0)],
    };
    assert!(due.events.contains(&round));
    assert_eq!(raft.counters.heartbeat_rounds, 2);
    assert!(raft.wake_at() <= TIMEOUT + 200 * MS);
}

/// Goal: followers hear of a commit within milliseconds, once, unless an append has told them.
#[test]
fn a_commit_is_told_soon() {
    let (mut raft, elected) = leader(3, &[1]);
    let (term, index) = (raft.term(), raft.last_index());
    for (peer, sequence) in sequences(&elected) {
        receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
    }
    assert!(raft.wake_at() <= TIMEOUT + 5 * MS);
    assert_eq!(sequences(&raft.step(TIMEOUT + 5 * MS - 1, Input::Tick)), []);
    let told = raft.step(TIMEOUT + 5 * MS, Input::Tick);
    assert_eq!(sequences(&told), [(2, 3), (3, 4)]);
    let commit = |(_, message): &(NodeId, Message)| match message {
        Message::Append { commit_index, .. } => Some(*commit_index),
        _ => None,
    };
    assert!(told.messages.iter().all(|m| commit(m) == Some(index)));
    assert_eq!(sequences(&raft.step(TIMEOUT + 50 * MS, Input::Tick)), []);

    let (mut raft, elected) = leader(3, &[1]);
    for (peer, sequence) in sequences(&elected) {
        receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
    }
    let told = raft.step(TIMEOUT + MS, Input::Propose(vec![Arc::new(Command::NoOp)]));
    assert_eq!(sequences(&told), [(2, 3), (3, 4)]);
    assert_eq!(sequences(&raft.step(TIMEOUT + 50 * MS, Input::Tick)), []);
}

/// Goal: a leader whose disk has not answered for a lease gives up, just then; one whose disk has
/// answered goes on.
#[test]
fn a_stalled_disk_ends_a_leadership() {
    for stalls in [true, false] {
        let (mut raft, _) = leader(3, &[1]);
        let begun = TIMEOUT + 50 * MS;
        raft.step(begun, Input::Propose(vec![Arc::new(Command::NoOp)]));
        let (term, index) = (raft.term(), raft.last_index());
        let mut ended = None;
        for now in (begun..begun + 2 * LEASE).step_by(50 * MS as usize) {
            if !stalls {
                raft.step(now, Input::Persisted { index, term });
            }
            let output = raft.step(now, Input::Tick);
            for (peer, sequence) in sequences(&output) {
                receive(&mut raft, now, peer, accepted(term, sequence, index));
            }
            if ended.is_none() && output.events.contains(&Event::DiskStalled { term }) {
                assert_eq!(raft.role(), Role::Follower);
                ended = Some(now);
            }
        }
        // The news that the disk is there at all may be asked for more often than writes come.
        match stalls {
            true => assert_eq!(ended, Some(begun + LEASE)),
            false => assert!(ended != Some(begun + LEASE), "{ended:?}"),
        }
    }
}

/// Goal: a time that goes back is not gone back to.
#[test]
fn time_goes_on() {
    let mut raft = follower(3, &[1]);
    raft.step(100 * MS, Input::Tick);
    raft.step(50 * MS, Input::Tick);
    assert_eq!(raft.now(), 100 * MS);
}
