//! Whether all have come to the same state: who is told, who ends, and who is right.

use super::*;

const INDEX: Index = 5;
const RIGHT: u32 = 12;
const WRONG: u32 = 13;

fn after_a_snapshot(voters: u64) -> Raft {
    let snapshot = SnapshotId {
        index: INDEX,
        term: 2,
        format: 2,
        hash: RIGHT,
        bytes: 100,
    };
    let recovered = Recovered {
        hard_state: HardState {
            term: 2,
            voted_for: None,
        },
        snapshot: Some(snapshot),
        commit_index: INDEX,
        kept_promises: Some(Vec::new()),
        ..Recovered::default()
    };
    Raft::new(config(voters), recovered, 0)
}

/// A leader whose state after entry 5 has the hash `RIGHT`, as it believes.
fn leading(voters: u64) -> Raft {
    let mut raft = after_a_snapshot(voters);
    raft.step(TIMEOUT, Input::Tick);
    for peer in 2..=voters / 2 + 1 {
        let yes = Message::VoteReply {
            term: raft.term() + 1,
            granted: true,
            pre: true,
            promise_remaining_ms: None,
            owed: Default::default(),
        };
        receive(&mut raft, TIMEOUT, peer, yes);
    }
    let term = raft.term();
    raft.step(TIMEOUT, Input::HardStatePersisted { term });
    for peer in 2..=voters / 2 + 1 {
        vote(&mut raft, TIMEOUT, peer, Some(0));
    }
    assert_eq!(raft.role(), Role::Leader);
    raft
}

fn state(raft: &Raft, hash: u32, agreed: bool) -> Message {
    Message::State {
        term: raft.term(),
        index: INDEX,
        hash,
        agreed,
    }
}

/// A peer tells its state.
fn tells(raft: &mut Raft, peer: NodeId, hash: u32) -> Output {
    let message = state(raft, hash, false);
    receive(raft, TIMEOUT, peer, message)
}

/// Whom the leader tells that they have another state than a majority.
fn told(output: &Output) -> Vec<NodeId> {
    let messages = output.messages.iter();
    let verdicts = messages.filter(|(_, message)| {
        matches!(
            message,
            Message::State {
                hash: RIGHT,
                agreed: true,
                ..
            }
        )
    });
    verdicts.map(|(to, _)| *to).collect()
}

/// Whom it names, and whether a majority has one state.
fn named(output: &Output) -> Vec<(NodeId, bool)> {
    let named = output.events.iter().filter_map(|event| match event {
        Event::StateDiffers { peer, agreed, .. } => Some((*peer, *agreed)),
        _ => None,
    });
    named.collect()
}

// Who has another state than a majority is told each time that it tells it, and named once; until it
// tells another.
#[test]
fn who_has_another_state_is_told() {
    let mut raft = leading(3);
    assert!(told(&tells(&mut raft, 2, RIGHT)).is_empty());
    let first = tells(&mut raft, 3, WRONG);
    assert_eq!((told(&first), named(&first)), (vec![3], vec![(3, true)]));
    let second = tells(&mut raft, 3, WRONG);
    assert_eq!((told(&second), named(&second)), (vec![3], vec![]));
    assert!(second.contradiction.is_none());
    let differs = |raft: &Raft| raft.status().peers.iter().map(|p| p.state_differs_at).max();
    assert_eq!(differs(&raft), Some(INDEX));
    tells(&mut raft, 3, RIGHT);
    assert_eq!(differs(&raft), Some(0));
}

// A leader that is the one with another state ends itself, and nobody else.
#[test]
fn a_leader_with_another_state_ends() {
    let mut raft = leading(5);
    for peer in [2, 3] {
        let output = tells(&mut raft, peer, WRONG);
        assert!(told(&output).is_empty() && output.contradiction.is_none());
    }
    let output = tells(&mut raft, 4, WRONG);
    let expected = Contradiction::OtherState {
        index: INDEX,
        own: RIGHT,
        agreed: WRONG,
    };
    assert_eq!(output.contradiction, Some(expected));
    assert!(output.messages.is_empty(), "the others are right");
}

// Where no majority has one state, whoever differs is named, and goes on.
#[test]
fn without_a_majority_nobody_ends() {
    let mut raft = leading(3);
    let output = tells(&mut raft, 2, WRONG);
    assert_eq!((told(&output), named(&output)), (vec![], vec![(2, false)]));
    assert!(output.contradiction.is_none());
}

// A follower tells its state with its answers, and once a lease; what its leader says that a majority
// has ends it where it has another one.
#[test]
fn a_follower_tells_and_is_told() {
    let mut raft = after_a_snapshot(3);
    let told_state = |raft: &mut Raft, now: Micros| {
        let output = receive(raft, now, 2, heartbeat(3, (INDEX, 2), now));
        let mut messages = output.messages.into_iter();
        messages.any(|(to, message)| to == 2 && message == state(raft, RIGHT, false))
    };
    assert!(told_state(&mut raft, 10));
    assert!(!told_state(&mut raft, 11), "it knows");
    assert!(told_state(&mut raft, 10 + LEASE), "it may have got lost");

    let ends = |raft: &mut Raft, from: NodeId, hash: u32| {
        let message = state(raft, hash, true);
        receive(raft, 20 + LEASE, from, message)
            .contradiction
            .is_some()
    };
    assert!(!ends(&mut raft, 2, RIGHT));
    assert!(!ends(&mut raft, 3, WRONG), "it does not lead");
    assert!(ends(&mut raft, 2, WRONG));
}

// What was told of an earlier entry does not take back that a peer differs at a later one; what is told of a
// later one does.
#[test]
fn the_latest_entry_tells_whether_a_peer_differs() {
    let mut raft = leading(5);
    let later = INDEX + 4;
    let mut tells_of = |peer, index, hash| {
        let message = Message::State {
            term: raft.term(),
            index,
            hash,
            agreed: false,
        };
        receive(&mut raft, TIMEOUT, peer, message);
        let peers = raft.status().peers.into_iter();
        peers.map(|it| it.state_differs_at).max().unwrap_or(0)
    };
    for peer in [2, 3, 4] {
        tells_of(peer, INDEX, RIGHT);
        tells_of(peer, later, RIGHT);
    }
    assert_eq!(tells_of(5, INDEX, WRONG), INDEX);
    assert_eq!(tells_of(5, later, RIGHT), 0);
    assert_eq!(tells_of(5, later, WRONG), later);
    assert_eq!(tells_of(5, INDEX, RIGHT), later);
}

// Followers may take their snapshots later, so the last few are compared; no more are remembered.
#[test]
fn the_last_few_states_are_remembered() {
    let mut states = super::hashes::StateHashes::default();
    (1..=20).for_each(|index| states.note(2, index, RIGHT));
    let remembered: Vec<Index> = states.told.into_keys().collect();
    assert_eq!(remembered, (5..=20).collect::<Vec<_>>());
}
