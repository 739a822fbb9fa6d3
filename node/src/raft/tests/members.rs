//! Changes of membership that are refused, each for its reason, and what a change that is taken leads to.

use super::*;
use crate::command::{Command, FORMAT_MEMBERS, Format, Member, Members};
use crate::raft::MembersRefusal;

fn member(id: NodeId) -> Member {
    Member {
        directory: u128::from(id) + 10,
        peer_address: format!("host{id}:7400").into(),
        client_address: format!("host{id}:7500").into(),
    }
}

fn members(voters: &[NodeId], learners: &[NodeId]) -> Members {
    let all = voters.iter().chain(learners);
    Members {
        nodes: all.map(|id| (*id, member(*id))).collect(),
        voters: voters.iter().copied().collect(),
        ..Members::default()
    }
}

/// A node without peers that leads, in the format of changes, with its own entries committed: 1 and 2.
fn alone() -> Raft {
    let config = Config {
        voters: vec![1],
        ..config(1)
    };
    let recovered = Recovered {
        never_ran: true,
        ..Recovered::default()
    };
    let mut raft = Raft::new(config, recovered, 0);
    raft.step(5_000_000, Input::Tick);
    let term = raft.term();
    raft.step(5_000_000, Input::HardStatePersisted { term });
    persist(&mut raft, 5_000_010);
    raft.step(5_000_020, Input::Tick);
    let format = Format {
        version: FORMAT_MEMBERS,
        cluster: 0,
        voters: vec![1],
    };
    raft.step(
        5_000_030,
        Input::Propose(vec![Arc::new(Command::Format(format))]),
    );
    persist(&mut raft, 5_000_040);
    assert_eq!((raft.role(), raft.commit_index()), (Role::Leader, 2));
    raft
}

/// All that it has appended is durable, and was just flushed.
fn persist(raft: &mut Raft, now: Micros) {
    raft.step(now, Input::Flushed { since_us: now });
    let (index, term) = (raft.last_index(), raft.term());
    raft.step(now, Input::Persisted { index, term });
}

fn change(raft: &mut Raft, base: Index, target: Members) -> Result<Index, MembersRefusal> {
    let output = raft.step(5_000_100, Input::ChangeMembers { base, target });
    output.members_proposed.expect("each change is answered")
}

/// Goal: what can't be done is refused by name, and nothing is appended.
#[test]
fn bad_changes_are_refused_by_name() {
    let mut raft = alone();
    let at = change(&mut raft, 0, members(&[1], &[2, 3])).unwrap();
    assert_eq!(
        (at, raft.members_index()),
        (3, 3),
        "in force from the append"
    );
    let next = members(&[1], &[2]);
    assert_eq!(
        change(&mut raft, 3, next.clone()),
        Err(MembersRefusal::UnderWay { entry: 3 })
    );
    persist(&mut raft, 5_000_110);
    assert!(raft.members_committed());
    assert_eq!(
        change(&mut raft, 0, next.clone()),
        Err(MembersRefusal::Changed { in_force: 3 })
    );
    assert_eq!(
        change(&mut raft, 3, members(&[1], &[2, 3])),
        Ok(3),
        "as it is"
    );
    assert_eq!(change(&mut raft, 3, next), Ok(4));
    persist(&mut raft, 5_000_120);
    assert_eq!(raft.members().retired, [3].into());

    let other_disk = |id: NodeId| {
        let mut target = members(&[1], &[id]);
        target.nodes.entry(id).or_default().directory = 99;
        target
    };
    let same_address = || {
        let mut target = members(&[1], &[2, 4]);
        target.nodes.entry(4).or_default().peer_address = "host2:7500".into();
        target
    };
    let last = raft.last_index();
    for (target, refusal) in [
        (members(&[1], &[2, 3]), MembersRefusal::IdUsed(3)),
        (other_disk(2), MembersRefusal::OtherDirectory(2)),
        (same_address(), MembersRefusal::AddressTaken(2, 4)),
        (members(&[1, 5], &[2]), MembersRefusal::NotLearner(5)),
        (members(&[1, 2], &[]), MembersRefusal::Behind(2)),
        (members(&[], &[1, 2]), MembersRefusal::VoterToLearner(1)),
        (
            members(&[], &[2]),
            MembersRefusal::Impossible("it has no voters"),
        ),
    ] {
        assert_eq!(change(&mut raft, 4, target), Err(refusal));
    }
    assert_eq!(raft.last_index(), last, "nothing was appended");
}

/// Goal: what no node could read is not appended: the former and the new nodes together are bounded, too.
#[test]
fn former_and_new_nodes_together_are_bounded() {
    let mut raft = alone();
    let learners: Vec<NodeId> = (2..=32).collect();
    let full = change(&mut raft, 0, members(&[1], &learners)).unwrap();
    persist(&mut raft, 5_000_110);
    let one_more = members(&[1], &(2..=33).collect::<Vec<_>>());
    let refused = Err(MembersRefusal::Impossible("it has too many nodes"));
    assert_eq!(change(&mut raft, full, one_more), refused.clone());
    // Alone the target fits; together with the voter that goes it does not.
    let connected = Input::Connected {
        peer: 2,
        reads_format: FORMAT_MEMBERS,
    };
    let output = raft.step(5_000_120, connected);
    let sent = output
        .messages
        .iter()
        .find_map(|(to, message)| match message {
            Message::Append { sequence, .. } if *to == 2 => Some(*sequence),
            _ => None,
        });
    let reply = Message::AppendReply {
        term: raft.term(),
        sequence: sent.expect("it is sent to at once"),
        outcome: AppendOutcome::Accepted {
            match_index: raft.last_index(),
        },
    };
    receive(&mut raft, 5_000_130, 2, reply);
    let swap = |learners: std::ops::RangeInclusive<NodeId>| {
        let learners: Vec<NodeId> = learners.collect();
        members(&[2], &learners)
    };
    assert_eq!(change(&mut raft, full, swap(3..=33)), refused);
    assert_eq!(change(&mut raft, full, swap(3..=32)), Ok(full + 1));
}

/// Goal: who does not lead changes nothing and names the leader; a leader in an older format asks for the newer.
#[test]
fn changes_need_a_leader_and_their_format() {
    let mut follower = follower(3, &[1]);
    receive(&mut follower, 10, 2, heartbeat(6, (1, 1), 1));
    let refused = follower.step(
        20,
        Input::ChangeMembers {
            base: 0,
            target: members(&[1, 2, 3], &[]),
        },
    );
    let leader = Some(2);
    assert_eq!(
        refused.members_proposed,
        Some(Err(MembersRefusal::NotLeader { leader }))
    );

    let config = Config {
        voters: vec![1],
        ..config(1)
    };
    let mut raft = Raft::new(
        config,
        Recovered {
            never_ran: true,
            ..Recovered::default()
        },
        0,
    );
    raft.step(5_000_000, Input::Tick);
    let term = raft.term();
    raft.step(5_000_000, Input::HardStatePersisted { term });
    persist(&mut raft, 5_000_010);
    raft.step(5_000_020, Input::Tick);
    let refused = change(&mut raft, 0, members(&[1], &[2]));
    assert!(
        matches!(refused, Err(MembersRefusal::NotReady(_))),
        "{refused:?}"
    );
    raft.step(5_000_200, Input::Tick);
    persist(&mut raft, 5_000_210);
    assert_eq!(raft.format_of_log(), FORMAT_MEMBERS, "it was asked for");
    assert!(change(&mut raft, 0, members(&[1], &[2])).is_ok());
}

/// Goal: while an operator holds the format, a change is refused with that reason, and asks for nothing.
#[test]
fn a_held_format_has_no_changes() {
    let (mut raft, elected) = leader(3, &[1]);
    raft.config.formats.hold_at = FORMAT_MEMBERS - 1;
    let (term, index) = (raft.term(), raft.last_index());
    for (peer, sequence) in sequences(&elected) {
        receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
    }
    let (base, target) = (0, members(&[1, 2, 3], &[4]));
    let output = raft.step(TIMEOUT, Input::ChangeMembers { base, target });
    let refused = output.members_proposed.expect("each change is answered");
    assert!(
        matches!(refused, Err(MembersRefusal::Impossible(_))),
        "{refused:?}"
    );
    assert!(!raft.newer_format_wanted);
}
