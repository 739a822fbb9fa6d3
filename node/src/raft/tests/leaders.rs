//! What a leader counts, and when it gives up.

use super::*;

/// Goal: what is durable at an index says nothing about another entry that stands there now.
#[test]
fn what_was_flushed_counts_for_the_entry_that_was_flushed() {
    let mut raft = follower(3, &[1]);
    let entries = vec![entry(2, 1), entry(3, 1)];
    receive(&mut raft, 10, 2, append(1, (1, 1), entries, 0, 1));
    assert_eq!(raft.durable_index, 1);
    let cut = receive(&mut raft, 20, 3, append(2, (1, 1), vec![entry(2, 2)], 0, 1));
    assert_eq!(cut.truncate_after, Some(1));
    raft.step(30, Input::Persisted { index: 2, term: 1 });
    assert_eq!(raft.durable_index, 1, "that was the entry before");
    raft.step(30, Input::Persisted { index: 3, term: 1 });
    assert_eq!(raft.durable_index, 1, "nothing stands there now");
    raft.step(40, Input::Persisted { index: 2, term: 2 });
    assert_eq!(raft.durable_index, 2);
    raft.step(50, Input::Persisted { index: 1, term: 1 });
    assert_eq!(raft.durable_index, 2, "it does not go back");
}

/// Goal: an entry is committed when a majority holds it durably, this node only if its own disk
/// says so, and with it all before it.
#[test]
fn a_majority_commits() {
    for voters in [2, 3, 4, 5] {
        let (mut raft, elected) = leader(voters, &[1, 1]);
        let (term, index) = (raft.term(), raft.last_index());
        let others_needed = voters as usize / 2;
        for (number, (peer, sequence)) in (1..).zip(sequences(&elected)) {
            receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
            let committed = if number >= others_needed { index } else { 0 };
            assert_eq!(raft.commit_index(), committed, "{number} of {voters}");
        }
        raft.step(TIMEOUT, Input::Propose(vec![Arc::new(Command::NoOp)]));
        for peer in 2..2 + others_needed as NodeId {
            receive(&mut raft, TIMEOUT, peer, accepted(term, 99, index + 1));
        }
        assert_eq!(raft.commit_index(), index, "the own disk is missing");
        let index = index + 1;
        raft.step(TIMEOUT, Input::Persisted { index, term });
        assert_eq!(raft.commit_index(), index);
    }
}

/// Goal: copies of an entry of an earlier term commit nothing (Raft paper, figure 8).
#[test]
fn only_entries_of_the_own_term_are_counted() {
    let (mut raft, elected) = leader(3, &[1, 1]);
    let (peer, sequence) = sequences(&elected)[0];
    receive(&mut raft, TIMEOUT, peer, accepted(2, sequence, 2));
    assert_eq!(raft.commit_index(), 0);
    receive(&mut raft, TIMEOUT, peer, accepted(2, sequence, 3));
    assert_eq!(raft.commit_index(), 3);
}

/// Goal: an acknowledgement is worth the time of its send, whatever it says of the log, and the
/// lease ends when the newest send of a majority is a shortened lease old.
#[test]
fn the_lease_counts_from_the_send() {
    let (mut raft, elected) = leader(5, &[1]);
    let (term, index) = (raft.term(), raft.last_index());
    let sent = sequences(&elected);
    let lease = leader_lease_us(LEASE, 5_000);
    assert_eq!(raft.lease_status().lease_until_us, 0);
    let later = TIMEOUT + 50 * MS;
    raft.step(later, Input::Tick);
    receive(
        &mut raft,
        later,
        sent[0].0,
        accepted(term, sent[0].1, index),
    );
    assert_eq!(raft.lease_status().lease_until_us, 0, "two of five");
    let outcome = AppendOutcome::Rejected {
        conflict_index: 1,
        conflict_term: None,
    };
    for (peer, sequence) in [sent[1], sent[2]] {
        let rejected = Message::AppendReply {
            term,
            sequence,
            outcome,
        };
        receive(&mut raft, later, peer, rejected);
    }
    let until = raft.lease_status().lease_until_us;
    assert_eq!(until, TIMEOUT + lease, "from the send, by a rejection too");
}

/// Goal: a leader that no majority acknowledges gives up one lease after its election, or after
/// the newest send that one acknowledged; never later.
#[test]
fn a_leader_without_a_majority_gives_up() {
    let (mut raft, _) = leader(3, &[1]);
    raft.step(TIMEOUT + LEASE - 1, Input::Tick);
    assert_eq!(raft.role(), Role::Leader);
    assert!(raft.wake_at() <= TIMEOUT + LEASE);
    let over = raft.step(TIMEOUT + LEASE, Input::Tick);
    let told = Event::LeaseRenewalFailed { term: 2 };
    assert!(over.events.contains(&told), "{:?}", over.events);
    assert_eq!(raft.role(), Role::Follower);
}

/// Goal: what a majority acknowledged prolongs a leadership to one lease after its send, no longer.
#[test]
fn a_leader_that_nobody_answers_any_more_gives_up() {
    let (mut raft, elected) = leader(3, &[1]);
    let (term, index) = (raft.term(), raft.last_index());
    for (peer, sequence) in sequences(&elected) {
        receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
    }
    let sent_us = TIMEOUT + 500 * MS;
    let beat = sequences(&raft.step(sent_us, Input::Tick));
    for (peer, sequence) in beat {
        receive(
            &mut raft,
            sent_us + 90 * MS,
            peer,
            accepted(term, sequence, index),
        );
    }
    raft.step(sent_us + LEASE - 1, Input::Tick);
    assert_eq!(raft.role(), Role::Leader);
    raft.step(sent_us + LEASE, Input::Tick);
    assert_eq!(raft.role(), Role::Follower);
}

/// Goal: a follower takes for committed only what the append has shown to be equal.
#[test]
fn a_follower_commits_what_it_was_shown() {
    let mut raft = follower(3, &[1, 1, 1]);
    let shown = receive(&mut raft, 10, 2, append(2, (1, 1), vec![], 3, 1));
    assert_eq!(shown.commit_index, Some(1));
    let entries = vec![entry(2, 1), entry(3, 2)];
    let shown = receive(&mut raft, 20, 2, append(2, (1, 1), entries, 2, 2));
    assert_eq!(shown.truncate_after, Some(2), "the second is equal");
    assert_eq!(shown.append, [entry(3, 2)]);
    assert_eq!(shown.commit_index, Some(2));
    let again = receive(&mut raft, 30, 2, append(2, (3, 2), vec![], 2, 3));
    assert_eq!(again.commit_index, None, "known");
    let entries = vec![entry(4, 2)];
    let behind = receive(&mut raft, 40, 2, append(2, (3, 2), entries, 2, 4));
    assert_eq!(behind.truncate_after, None, "nothing is cut for it");
    assert_eq!(behind.append, [entry(4, 2)]);
    assert_eq!(raft.counters.conflicts, 1);
}

/// Goal: a follower says where the logs may meet: behind its end, or where the term begins that
/// does not fit.
#[test]
fn a_rejection_says_where_to_go_on() {
    let outcome = |base| {
        let mut raft = follower(3, &[1, 2, 2, 2]);
        let output = receive(&mut raft, 10, 2, heartbeat(5, base, 1));
        match output.messages_after_persist[0].1 {
            Message::AppendReply { outcome, .. } => outcome,
            ref other => panic!("{other:?}"),
        }
    };
    let rejected = |conflict_index, conflict_term| AppendOutcome::Rejected {
        conflict_index,
        conflict_term,
    };
    assert_eq!(outcome((9, 5)), rejected(5, None));
    assert_eq!(outcome((5, 5)), rejected(5, None));
    assert_eq!(outcome((4, 5)), rejected(2, Some(2)));
    assert_eq!(outcome((1, 5)), rejected(1, Some(1)));
    assert_eq!(outcome((4, 2)), AppendOutcome::Accepted { match_index: 4 });
    assert_eq!(outcome((0, 0)), AppendOutcome::Accepted { match_index: 0 });
}

/// Goal: a leader that hears of a later term stops, and says so.
#[test]
fn a_later_term_ends_a_leadership() {
    let (mut raft, _) = leader(3, &[1]);
    let stepped_down = receive(&mut raft, TIMEOUT, 3, heartbeat(7, (1, 1), 1));
    let told = Event::SteppedDown { term: 7 };
    assert!(stepped_down.events.contains(&told));
    assert_eq!((raft.role(), raft.leader()), (Role::Follower, Some(3)));
    assert_eq!(raft.lease_status().lease_until_us, 0);
}

/// Goal: what is uncommitted is bounded in bytes, to the byte, and what commits makes room.
#[test]
fn the_backlog_is_bounded_in_bytes() {
    let (mut raft, elected) = leader(3, &[1]);
    let (term, index) = (raft.term(), raft.last_index());
    let (peer, sequence) = sequences(&elected)[0];
    receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
    assert_eq!(raft.commit_index(), index);
    let of_bytes = |bytes: usize| {
        let key: Arc<str> = "k".into();
        let fixed = Command::Write(crate::command::Write {
            request: None,
            operation: crate::command::Operation::Delete { key: key.clone() },
        });
        let value = "x".repeat(bytes - fixed.size_bytes());
        let value = value.into();
        let operation = crate::command::Operation::Set { key, value };
        let request = None;
        Arc::new(Command::Write(crate::command::Write { request, operation }))
    };
    let half = 32 * 1024 * 1024;
    let mut propose = |commands: Vec<Arc<Command>>| {
        let proposed = raft.step(TIMEOUT, Input::Propose(commands)).proposed;
        proposed
            .expect("a proposal is answered")
            .map(|at| at.first_index)
    };
    assert_eq!(propose(vec![of_bytes(half)]), Ok(index + 1));
    let too_much = propose(vec![of_bytes(half + 1)]);
    assert_eq!(too_much, Err(Refusal::Overloaded));
    let all_or_none = propose(vec![of_bytes(half), of_bytes(100)]);
    assert_eq!(all_or_none, Err(Refusal::Overloaded));
    assert_eq!(propose(vec![of_bytes(half)]), Ok(index + 2));
    assert_eq!(propose(vec![of_bytes(100)]), Err(Refusal::Overloaded));
    assert_eq!(raft.counters.proposals, 2);

    let persisted = index + 1;
    raft.step(
        TIMEOUT,
        Input::Persisted {
            index: persisted,
            term,
        },
    );
    receive(&mut raft, TIMEOUT, peer, accepted(term, 99, persisted));
    assert_eq!(raft.commit_index(), persisted);
    let taken = raft
        .step(TIMEOUT, Input::Propose(vec![of_bytes(half)]))
        .proposed;
    assert!(matches!(taken, Some(Ok(_))), "{taken:?}");
    let full = raft.step(TIMEOUT, Input::Propose(vec![of_bytes(100)]));
    let refused = Some(Err(Refusal::Overloaded));
    assert_eq!(full.proposed, refused, "no more room than was made");
}

/// Goal: a follower that lacks what it had acknowledged in an earlier leadership is named: its log is not the
/// one that it was. One that has just that is not.
#[test]
fn what_was_acknowledged_is_remembered_beyond_a_leadership() {
    for (conflict_index, lacks) in [(3, false), (2, true)] {
        let (mut raft, elected) = leader(3, &[1]);
        for (peer, sequence) in sequences(&elected) {
            receive(&mut raft, TIMEOUT, peer, accepted(2, sequence, 2));
        }
        assert_eq!(raft.commit_index(), 2);
        receive(&mut raft, TIMEOUT, 3, heartbeat(3, (2, 2), 1));
        let now = 2 * TIMEOUT;
        raft.step(now, Input::Tick);
        let yes = Message::VoteReply {
            term: 4,
            granted: true,
            pre: true,
            promise_remaining_ms: None,
            owed: Default::default(),
        };
        receive(&mut raft, now, 2, yes);
        raft.step(now, Input::HardStatePersisted { term: 4 });
        let elected = vote(&mut raft, now, 2, Some(0));
        let (peer, sequence) = sequences(&elected)[0];
        let outcome = AppendOutcome::Rejected {
            conflict_index,
            conflict_term: None,
        };
        let reply = Message::AppendReply {
            term: 4,
            sequence,
            outcome,
        };
        let output = receive(&mut raft, now, peer, reply);
        let named = Event::PeerLostEntries {
            peer,
            term: 4,
            acknowledged: 2,
            last_index: 1,
        };
        assert_eq!(output.events.contains(&named), lacks, "{:?}", output.events);
        let told = |it: &Event| matches!(it, Event::PeerLostEntries { .. });
        assert_eq!(output.events.iter().any(told), lacks);
    }
}

/// Goal: as many nodes may fail as are more than a majority of those that answered lately: of both sets of
/// voters, where there are two.
#[test]
fn how_many_nodes_may_fail() {
    assert_eq!(follower(5, &[1]).spare_nodes(), 0);
    let (mut raft, elected) = leader(5, &[1]);
    let (term, index) = (raft.term(), raft.last_index());
    assert_eq!(raft.spare_nodes(), 0, "nobody has answered");
    for ((peer, sequence), spare) in sequences(&elected).into_iter().zip([0, 0, 1, 2]) {
        receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
        assert_eq!(raft.spare_nodes(), spare, "{peer}");
    }
    assert_eq!(raft.status().survives_failures, Some(2));
    // Two of them answer on.
    let now = TIMEOUT + 500 * MS;
    for (peer, sequence) in sequences(&raft.step(now, Input::Tick)) {
        if peer <= 3 {
            receive(&mut raft, now, peer, accepted(term, sequence, index));
        }
    }
    let since_us = TIMEOUT + LEASE;
    raft.step(since_us, Input::Flushed { since_us });
    assert_eq!(raft.spare_nodes(), 2, "that was within a lease");
    raft.step(since_us + 1, Input::Tick);
    assert_eq!(raft.spare_nodes(), 0);

    let mut joint = crate::command::Members::of_voters(1..=5);
    joint.voters = [1, 2, 3].into();
    joint.outgoing = [1, 2, 3, 4, 5].into();
    let recovered = Recovered {
        configuration: Some((1, Arc::new(joint))),
        ..recovered(&[1])
    };
    let mut raft = Raft::new(config(5), recovered, 0);
    raft.step(TIMEOUT, Input::Tick);
    for pre in [true, false] {
        for peer in [2, 3] {
            let message = Message::VoteReply {
                term: 2,
                granted: true,
                pre,
                promise_remaining_ms: Some(0),
                owed: Default::default(),
            };
            let output = receive(&mut raft, TIMEOUT, peer, message);
            let all = sequences(&output).into_iter().map(|(peer, _)| peer);
            let all: Vec<NodeId> = all.collect();
            if raft.role() == Role::Leader && !all.is_empty() {
                assert_eq!(all, [2, 3, 4, 5]);
            }
        }
        raft.step(TIMEOUT, Input::HardStatePersisted { term: 2 });
    }
    assert_eq!(raft.role(), Role::Leader);
    for (sequence, peer) in (1..).zip([2, 3]) {
        receive(&mut raft, TIMEOUT, peer, accepted(2, sequence, 1));
    }
    assert_eq!(raft.spare_nodes(), 0, "three of five, and three of three");
    for (sequence, peer) in (3..).zip([4, 5]) {
        receive(&mut raft, TIMEOUT, peer, accepted(2, sequence, 1));
    }
    assert_eq!(raft.spare_nodes(), 1, "by the smaller set");
}

/// Goal: what a leader shows of itself and its followers, and that it commits as leader.
#[test]
fn what_a_leader_shows() {
    let mut raft = follower(3, &[1]);
    assert_eq!(raft.status().peers, []);
    let (mut leading, elected) = leader(3, &[1]);
    let (term, index) = (leading.term(), leading.last_index());
    leading.step(
        TIMEOUT,
        Input::Connected {
            peer: 3,
            reads_format: 1,
        },
    );
    let (peer, sequence) = sequences(&elected)[0];
    let output = receive(&mut leading, TIMEOUT, peer, accepted(term, sequence, index));
    let committed = |output: &Output| {
        let by = |event: &Event| match event {
            Event::Committed { entry, as_leader } => Some((entry.index, *as_leader)),
            _ => None,
        };
        output.events.iter().filter_map(by).collect::<Vec<_>>()
    };
    assert_eq!(committed(&output), [(1, true), (2, true)]);
    let shown = |raft: &Raft| {
        let peers = raft.status().peers.into_iter();
        peers
            .map(|peer| (peer.id, peer.match_index, peer.connected))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&leading), [(2, index, false), (3, 0, true)]);
    assert!(leading.lease_status().own_term_committed);

    let output = receive(&mut raft, 10, 2, append(1, (1, 1), vec![], 1, 1));
    assert_eq!(committed(&output), [(1, false)]);
}

/// Goal: what is in limbo is what stands above the commit index with an earlier term.
#[test]
fn what_is_in_limbo() {
    let limbo = |raft: &Raft| raft.limbo().map(|entry| entry.index).collect::<Vec<_>>();
    let (mut raft, elected) = leader(3, &[1, 1]);
    assert_eq!(limbo(&raft), [1, 2], "not its own NO-OP");
    let (peer, sequence) = sequences(&elected)[0];
    receive(&mut raft, TIMEOUT, peer, accepted(2, sequence, 3));
    assert_eq!(limbo(&raft), Vec::<Index>::new());
}

/// Goal: how long a new leader will wait at most is told when it is elected, and counted; who need
/// not wait says nothing of it.
#[test]
fn a_wait_is_told() {
    for left_ms in [0, 700] {
        let (mut raft, term) = candidate(3, &[1]);
        raft.step(TIMEOUT, Input::HardStatePersisted { term });
        let elected = vote(&mut raft, TIMEOUT, 2, Some(left_ms));
        let waits = elected.events.iter().find_map(|event| match event {
            Event::WaitingForOldLease { remaining_us, .. } => Some(*remaining_us),
            _ => None,
        });
        let expected = (left_ms > 0).then_some(left_ms * MS);
        assert_eq!(waits, expected);
        assert_eq!(raft.counters.old_lease_waits, u64::from(left_ms > 0));
        assert!(elected.events.contains(&Event::BecameLeader { term }));
    }
}

/// Goal: a disk whose flushes take most of a lease, or a pause of a node that is alone, ends no
/// leadership; a flush that has not come back for a lease does.
#[test]
fn a_slow_disk_ends_no_leadership() {
    for voters in [1, 3] {
        let (mut raft, _) = candidate(voters, &[1]);
        let term = raft.term();
        let mut elected = raft.step(TIMEOUT, Input::HardStatePersisted { term });
        for peer in 2..=voters {
            let output = vote(&mut raft, TIMEOUT, peer, Some(0));
            if !output.append.is_empty() {
                elected = output;
            }
        }
        assert_eq!(raft.role(), Role::Leader);
        let index = raft.last_index();
        let mut sent = sequences(&elected);
        let mut asked_us = TIMEOUT;
        for now in (TIMEOUT..TIMEOUT + 6 * LEASE).step_by(100 * MS as usize) {
            for (peer, sequence) in std::mem::take(&mut sent) {
                let answer = receive(&mut raft, now, peer, accepted(term, sequence, index));
                sent.extend(sequences(&answer));
            }
            if now >= asked_us + LEASE * 3 / 4 {
                let since_us = asked_us;
                raft.step(now, Input::Flushed { since_us });
                raft.step(now, Input::Persisted { index, term });
                asked_us = now;
            }
            sent.extend(sequences(&raft.step(now, Input::Tick)));
            assert_eq!(raft.role(), Role::Leader, "{voters} after {now}");
        }
        raft.step(asked_us + 2 * LEASE, Input::Tick);
        assert_eq!(raft.role(), Role::Follower, "it hangs");
    }
}
