//! A change of voters on its way: joint, stuck, taken back, over; and who leaves.

use super::*;
use crate::command::{FORMAT_MEMBERS, Format, Members};

/// Four nodes, of which these vote; node 4 is a learner where it does not.
fn members(voters: &[NodeId]) -> Members {
    let mut members = Members::of_voters(1..=4);
    members.voters = voters.iter().copied().collect();
    members
}

/// These alone.
fn only(voters: &[NodeId]) -> Members {
    Members::of_voters(voters.iter().copied())
}

/// It is elected in the term after its log's, by these.
fn elect(raft: &mut Raft, voters: &[NodeId]) -> Output {
    raft.step(TIMEOUT, Input::Tick);
    let term = raft.term() + 1;
    for peer in voters.iter().copied() {
        let yes = Message::VoteReply {
            term,
            granted: true,
            pre: true,
            promise_remaining_ms: None,
            owed: Default::default(),
        };
        receive(raft, TIMEOUT, peer, yes);
    }
    raft.step(TIMEOUT, Input::HardStatePersisted { term });
    let votes = voters
        .iter()
        .map(|peer| vote(raft, TIMEOUT, *peer, Some(0)));
    let elected = votes.filter(|output| !output.append.is_empty()).last();
    assert_eq!(raft.role(), Role::Leader);
    elected.expect("it appends a NO-OP")
}

/// The own disk, and these peers, answer all that they are given, until nothing more comes.
fn answered(raft: &mut Raft, now: Micros, peers: &[NodeId], first: Output) -> Vec<Output> {
    let mut outputs = vec![first];
    let mut at = 0;
    while at < outputs.len() {
        assert!(at < 1_000, "it goes on for ever");
        let reply = |(to, message): &(NodeId, Message)| match message {
            Message::Append {
                term,
                sequence,
                base_index,
                entries,
                ..
            } if peers.contains(to) => {
                let match_index = base_index + entries.len() as Index;
                Some((*to, accepted(*term, *sequence, match_index)))
            }
            _ => None,
        };
        let replies: Vec<_> = outputs[at].messages.iter().filter_map(reply).collect();
        at += 1;
        raft.step(now, Input::Flushed { since_us: now });
        let (index, term) = (raft.last_index(), raft.log.last_term());
        outputs.push(raft.step(now, Input::Persisted { index, term }));
        if replies.is_empty() && outputs[at].messages.is_empty() {
            outputs.pop();
        }
        for (peer, reply) in replies {
            outputs.push(receive(raft, now, peer, reply));
        }
    }
    outputs
}

/// Time passes, with a heartbeat every 100 ms that these peers answer.
fn pass(raft: &mut Raft, times: std::ops::RangeInclusive<Micros>, peers: &[NodeId]) {
    for now in times.step_by(100 * MS as usize) {
        let beat = raft.step(now, Input::Tick);
        answered(raft, now, peers, beat);
    }
}

fn change(
    raft: &mut Raft,
    now: Micros,
    target: Members,
) -> (Output, Result<Index, MembersRefusal>) {
    let base = raft.members_index();
    let mut output = raft.step(now, Input::ChangeMembers { base, target });
    let answer = output.members_proposed.take();
    (output, answer.expect("each change is answered"))
}

/// The leader of 1, 2 and 3 since `TIMEOUT`, in term 2, with node 4 as a learner that has caught up. Its
/// entries are committed: a format, its NO-OP, and the configuration at 3.
fn leading() -> Raft {
    let begins = Command::Format(Format {
        version: FORMAT_MEMBERS,
        cluster: 0,
        voters: vec![1, 2, 3],
    });
    let mut recovered = recovered(&[1]);
    recovered.entries[0].command = Arc::new(begins);
    let mut raft = Raft::new(config(3), recovered, 0);
    for peer in 2..=4 {
        let reads_format = FORMAT_MEMBERS;
        raft.step(0, Input::Connected { peer, reads_format });
    }
    let elected = elect(&mut raft, &[2, 3]);
    answered(&mut raft, TIMEOUT, &[2, 3], elected);
    let (output, index) = change(&mut raft, TIMEOUT, members(&[1, 2, 3]));
    assert_eq!((index, raft.members_committed()), (Ok(3), false));
    assert_eq!(raft.committed_members_index(), 0);
    answered(&mut raft, TIMEOUT, &[2, 3, 4], output);
    assert!(raft.members_committed());
    assert_eq!(
        (raft.commit_index(), raft.committed_members_index()),
        (3, 3)
    );
    raft
}

fn refused_transfers(output: &Output) -> usize {
    output.transferred.len()
}

/// Goal: a joint configuration whose new voters never make a majority is taken back after two leases, just
/// then, by who appended it.
#[test]
fn a_joint_configuration_that_is_stuck_is_taken_back() {
    let mut raft = leading();
    let begun = TIMEOUT + 30 * MS;
    let (output, index) = change(&mut raft, begun, members(&[1, 2, 3, 4]));
    assert_eq!(index, Ok(4));
    // One of the four, beside the leader: a majority of the former voters alone.
    answered(&mut raft, begun, &[3], output);
    assert_eq!((raft.commit_index(), raft.members().is_joint()), (3, true));
    pass(&mut raft, TIMEOUT + 100 * MS..=TIMEOUT + 2 * LEASE, &[3]);
    assert_eq!(raft.wake_at(), begun + 2 * LEASE, "it is woken for it");
    raft.step(begun + 2 * LEASE - 1, Input::Tick);
    assert!(raft.members().is_joint());
    raft.step(begun + 2 * LEASE, Input::Tick);
    assert_eq!(
        (raft.members_index(), raft.members().is_joint()),
        (5, false)
    );
    assert_eq!(**raft.members(), members(&[1, 2, 3]));
}

/// Goal: an entry before a change commits without it, by the majority that holds that entry.
#[test]
fn a_change_holds_up_no_entry_before_it() {
    let mut raft = leading();
    raft.step(TIMEOUT, Input::Propose(vec![Arc::new(Command::NoOp)]));
    let (_, index) = change(&mut raft, TIMEOUT, only(&[1, 2, 3]));
    assert_eq!(index, Ok(5));
    raft.step(TIMEOUT, Input::Persisted { index: 5, term: 2 });
    receive(&mut raft, TIMEOUT, 2, accepted(2, 99, 4));
    assert_eq!(raft.commit_index(), 4);
}

/// Goal: while leadership is handed over no change begins.
#[test]
fn no_change_begins_while_handing_over() {
    let mut raft = leading();
    raft.step(TIMEOUT, Input::Propose(vec![Arc::new(Command::NoOp)]));
    raft.step(TIMEOUT, Input::Transfer { target: Some(2) });
    let (_, refused) = change(&mut raft, TIMEOUT, only(&[1, 2, 3]));
    assert!(
        matches!(refused, Err(MembersRefusal::NotReady(_))),
        "{refused:?}"
    );
}

/// Goal: new voters are taken while the lease that they give lives, not at its end.
#[test]
fn new_voters_keep_the_lease() {
    let lease_end = TIMEOUT + leader_lease_us(LEASE, 5_000);
    for (now, taken) in [(lease_end - 1, true), (lease_end, false)] {
        let mut raft = leading();
        let (_, answer) = change(&mut raft, now, members(&[1, 2, 3, 4]));
        assert_eq!(raft.role(), Role::Leader);
        assert_eq!(answer.is_ok(), taken, "{answer:?}");
    }
}

/// Goal: a joint configuration that is committed while leadership is handed over stays: the target would lack
/// what follows it.
#[test]
fn a_handover_comes_before_the_end_of_joint() {
    let mut raft = leading();
    let (output, index) = change(&mut raft, TIMEOUT, members(&[1, 2, 3, 4]));
    assert_eq!(index, Ok(4));
    raft.step(TIMEOUT, Input::Transfer { target: Some(4) });
    answered(&mut raft, TIMEOUT, &[2, 3], output);
    assert_eq!((raft.commit_index(), raft.last_index()), (4, 4));
    raft.step(2 * TIMEOUT - 1, Input::Tick);
    assert_eq!(raft.last_index(), 4);
    raft.step(2 * TIMEOUT, Input::Tick);
    assert_eq!(raft.last_index(), 5, "that failed");
    assert!(!raft.members().is_joint());
}

/// Goal: a leader that leaves hands over as soon as that is committed, and where nobody is there, again from
/// time to time; nobody can take the change back any more.
#[test]
fn a_leader_that_leaves_tries_again() {
    let mut raft = leading();
    let begun = TIMEOUT + 30 * MS;
    let (output, index) = change(&mut raft, begun, only(&[2, 3, 4]));
    assert_eq!(index, Ok(4));
    for peer in 2..=4 {
        raft.step(begun, Input::Disconnected { peer });
    }
    let outputs = answered(&mut raft, begun, &[2, 3, 4], output);
    assert_eq!((raft.commit_index(), raft.members().is_joint()), (4, true));
    assert_eq!(outputs.iter().map(refused_transfers).sum::<usize>(), 1);
    let (output, back) = change(&mut raft, begun + 1, members(&[1, 2, 3]));
    assert_eq!(back, Err(MembersRefusal::UnderWay { entry: 4 }));
    assert_eq!(refused_transfers(&output), 0, "not at once");
    let last = TIMEOUT + 300 * MS;
    for now in (TIMEOUT + 100 * MS..=last).step_by(100 * MS as usize) {
        assert_eq!(refused_transfers(&raft.step(now, Input::Tick)), 0);
        raft.step(now, Input::Flushed { since_us: now });
    }
    assert_eq!(raft.wake_at(), begun + TIMEOUT, "it is woken for it");
    let again = raft.step(begun + TIMEOUT, Input::Tick);
    assert_eq!(refused_transfers(&again), 1);
}

/// Goal: a new leader that is to leave does not ask to be woken for what is past.
#[test]
fn what_is_past_wakes_nobody() {
    let mut joint = members(&[2, 3, 4]);
    joint.outgoing = [1, 2, 3].into();
    let recovered = Recovered {
        configuration: Some((1, Arc::new(joint))),
        commit_index: 1,
        ..recovered(&[1])
    };
    let mut raft = Raft::new(config(3), recovered, 0);
    elect(&mut raft, &[2, 3]);
    assert!(raft.wake_at() > TIMEOUT);
}

/// Goal: who was removed is sent to for one lease more, from the commit on, so that it hears of it.
#[test]
fn who_was_removed_hears_of_it() {
    let mut raft = leading();
    let is_sent_to = |raft: &Raft| raft.matched().any(|(peer, _)| peer == 4);
    let leading_on = raft.leadership().expect("it leads");
    assert_eq!(leading_on.departed_until_us, None, "nobody has left");
    let (_, index) = change(&mut raft, TIMEOUT, only(&[1, 2, 3]));
    assert_eq!(index, Ok(4));
    // Nobody answers for a while.
    let committed_at = TIMEOUT + 600 * MS;
    for now in (TIMEOUT + 100 * MS..committed_at).step_by(100 * MS as usize) {
        raft.step(now, Input::Tick);
        assert_eq!(raft.commit_index(), 3);
    }
    pass(
        &mut raft,
        committed_at..=committed_at + LEASE - 100 * MS,
        &[2, 3],
    );
    assert_eq!(raft.commit_index(), 4);
    assert_eq!(raft.log.members().1.retired, [4].into());
    raft.step(committed_at + LEASE - 1, Input::Tick);
    assert!(is_sent_to(&raft));
    raft.step(committed_at + LEASE, Input::Tick);
    assert!(!is_sent_to(&raft));
    assert_eq!(raft.role(), Role::Leader);
}

/// Goal: a learner never stands, whatever it hears or does not hear.
#[test]
fn a_learner_does_not_stand() {
    let config = Config { id: 4, ..config(3) };
    let mut raft = Raft::new(config, recovered(&[1]), 0);
    let told = Message::TimeoutNow {
        term: 1,
        last_index: 1,
        released: true,
    };
    let output = receive(&mut raft, MS, 2, told);
    assert_eq!((output.messages_after_persist, raft.term()), (vec![], 1));
    let output = raft.step(TIMEOUT, Input::Tick);
    assert_eq!((output.messages, raft.role()), (vec![], Role::Follower));
}

/// Goal: a node whose removal is committed ends; one that is not committed yet may still be undone.
#[test]
fn a_removed_node_ends() {
    let mut without = only(&[2, 3]);
    without.retired = [1].into();
    let removal = Entry {
        command: Arc::new(Command::Members(Arc::new(without))),
        ..entry(2, 2)
    };
    let mut raft = follower(3, &[1]);
    let appended = receive(&mut raft, 0, 2, append(2, (1, 1), vec![removal], 1, 1));
    assert_eq!(appended.contradiction, None);
    let committed = receive(&mut raft, 0, 2, append(2, (2, 2), vec![], 2, 2));
    let removed = Contradiction::Removed { entry: 2 };
    assert_eq!(committed.contradiction, Some(removed));

    // Whoever still asks is answered.
    let (base, target) = (2, only(&[2, 3]));
    let leader = None;
    let output = raft.step(0, Input::ChangeMembers { base, target });
    let refused = Some(Err(MembersRefusal::NotLeader { leader }));
    assert_eq!((output.members_proposed, output.proposed), (refused, None));
    let output = raft.step(0, Input::Propose(vec![Arc::new(Command::NoOp)]));
    let refused = Some(Err(Refusal::NotLeader { leader }));
    assert_eq!((output.members_proposed, output.proposed), (None, refused));
}
