//! What a follower promises, what a voter tells of it, and what a new leader makes of that.

use super::*;

/// Goal: a lease is promised before anything is replied, for an append that is rejected as well,
/// because a rejection counts for the lease of the leader.
#[test]
fn every_append_of_a_leader_is_promised_a_lease() {
    for (base, entries) in [
        ((1, 1), vec![]),
        ((1, 1), vec![entry(2, 3)]),
        ((7, 3), vec![]),
    ] {
        let mut raft = follower(3, &[1]);
        let output = receive(&mut raft, 50, 2, append(3, base, entries, 0, 1));
        assert!(output.messages.is_empty(), "{:?}", output.messages);
        assert_eq!(output.messages_after_persist.len(), 1);
        let until_us = 50 + LEASE;
        let (leader, term) = (2, 3);
        let promise = Promise {
            leader,
            incarnation: 0,
            term,
            until_us,
        };
        assert_eq!(raft.promises(50), [promise], "{base:?}");
    }
}

/// Goal: the longer of two leases is promised, where a leader carries another than this node; but
/// never a longer one than a cluster may have.
#[test]
fn the_longer_lease_is_promised() {
    for (carried_ms, promised_us) in [
        (0, LEASE),
        (LEASE / MS - 1, LEASE),
        (5_000, 5_000 * MS),
        (u64::MAX, LEASE_US_MAX),
    ] {
        let mut raft = follower(3, &[1]);
        let mut message = heartbeat(1, (1, 1), 1);
        if let Message::Append { lease_ms, .. } = &mut message {
            *lease_ms = carried_ms;
        }
        receive(&mut raft, 50, 2, message);
        let until: Vec<Micros> = raft.promises(50).iter().map(|p| p.until_us).collect();
        assert_eq!(until, [50 + promised_us], "{carried_ms} ms");
    }
}

/// Goal: a vote tells what is left of the promises to others, rounded up; of those to the
/// candidate nothing, and of the one that was released for good nothing.
#[test]
fn a_vote_tells_what_is_left() {
    let left = |candidate, released, now| {
        let mut raft = follower(3, &[1]);
        receive(&mut raft, 0, 2, heartbeat(1, (1, 1), 1));
        let message = Message::Vote {
            term: 2,
            last_index: 1,
            last_term: 1,
            pre: false,
            released,
            incarnation: 0,
        };
        let output = receive(&mut raft, now, candidate, message);
        match &output.messages_after_persist[..] {
            [
                (
                    _,
                    Message::VoteReply {
                        promise_remaining_ms: Some(left),
                        ..
                    },
                ),
            ] => *left,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(left(3, None, 0), LEASE / MS);
    assert_eq!(left(3, None, 1), LEASE / MS, "rounded up");
    assert_eq!(left(3, None, 1_000), LEASE / MS - 1);
    assert_eq!(left(3, None, LEASE + 1), 0);
    assert_eq!(left(3, Some((2, 1)), 0), 0, "released");
    assert_eq!(left(3, Some((2, 2)), 0), LEASE / MS, "of another term");
    assert_eq!(left(2, None, 0), 0, "its own");
}

/// Goal: a new leader waits for the longest of what the voters told and what it promised itself;
/// who tells nothing counts with a whole lease, from the receipt of the reply.
#[test]
fn a_new_leader_waits_for_the_longest() {
    let waits_until = |own_until: Option<Micros>, told: Option<u64>| {
        let kept = own_until.map(|until_us| Promise {
            leader: 3,
            incarnation: 0,
            term: 1,
            until_us,
        });
        let recovered = Recovered {
            kept_promises: Some(kept.into_iter().collect()),
            ..recovered(&[1])
        };
        let mut raft = Raft::new(config(3), recovered, 0);
        raft.step(TIMEOUT, Input::Tick);
        let granted = Message::VoteReply {
            term: 2,
            granted: true,
            pre: true,
            promise_remaining_ms: None,
            owed: Default::default(),
        };
        receive(&mut raft, TIMEOUT, 2, granted);
        raft.step(TIMEOUT, Input::HardStatePersisted { term: 2 });
        vote(&mut raft, TIMEOUT + 1, 2, told);
        assert_eq!(raft.role(), Role::Leader);
        raft.lease_status().old_lease_until_us
    };
    let at = TIMEOUT + 1;
    assert_eq!(waits_until(None, Some(0)), 0);
    assert_eq!(waits_until(None, Some(1_500)), at + 1_500 * MS);
    assert_eq!(waits_until(None, None), at + LEASE, "nothing told");
    assert_eq!(waits_until(Some(900 * MS), Some(0)), 900 * MS, "its own");
    assert_eq!(waits_until(Some(900 * MS), Some(100)), 900 * MS);
    assert_eq!(waits_until(Some(900 * MS), Some(1_500)), at + 1_500 * MS);
}

/// Goal: while it waits, a leader replicates and commits nothing; at the end of the wait, not
/// before, all commits together.
#[test]
fn nothing_commits_during_the_wait() {
    let (mut raft, term) = candidate(3, &[1]);
    raft.step(TIMEOUT, Input::HardStatePersisted { term });
    vote(&mut raft, TIMEOUT, 2, Some(1_000));
    let end = TIMEOUT + 1_000 * MS;
    let index = raft.last_index();
    raft.step(TIMEOUT, Input::Persisted { index, term });
    receive(&mut raft, TIMEOUT, 2, accepted(term, 1, index));
    assert_eq!(raft.lease_status().old_lease_until_us, end);
    assert!(raft.wake_at() <= end, "it looks again in time");
    raft.step(end - 1, Input::Tick);
    assert_eq!(raft.commit_index(), 0);
    assert!(!raft.lease_status().own_term_committed);
    let over = raft.step(end, Input::Tick);
    assert_eq!(over.commit_index, Some(index));
    assert_eq!(raft.counters.deferred_commits, 2);
    assert_eq!(raft.lease_status().old_lease_until_us, 0);
    let told = Event::OldLeaseOver { term, deferred: 2 };
    assert!(over.events.contains(&told), "{:?}", over.events);
    let again = raft.step(end + 1, Input::Tick);
    assert!(
        !again
            .events
            .iter()
            .any(|e| matches!(e, Event::OldLeaseOver { .. }))
    );
}

/// Goal: a node that crashed counts the longest lease that it may have promised from its start,
/// one that never ran or stopped in good order none.
#[test]
fn what_a_start_may_have_forgotten() {
    let unknown_until = |recovered: Recovered| {
        let raft = Raft::new(config(3), recovered, 1_000);
        raft.lease_status().unknown_promises_until_us
    };
    let crashed = || Recovered {
        kept_promises: None,
        ..recovered(&[1])
    };
    assert_eq!(unknown_until(crashed()), 1_000 + LEASE);
    let longer = Recovered {
        former_lease_us: 3 * LEASE,
        ..crashed()
    };
    assert_eq!(unknown_until(longer), 1_000 + 3 * LEASE);
    assert_eq!(unknown_until(recovered(&[1])), 0);
    let new = Recovered {
        never_ran: true,
        ..crashed()
    };
    assert_eq!(unknown_until(new), 0);
}
