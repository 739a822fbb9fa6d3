//! When a leader takes the cluster to a newer format, and what keeps it from that.

use super::*;
use crate::command::FORMAT_NEWEST;

fn connect(raft: &mut Raft, peers: &[NodeId], reads_format: u64) {
    for peer in peers.iter().copied() {
        raft.step(TIMEOUT, Input::Connected { peer, reads_format });
    }
}

/// The leader of so many, with its NO-OP committed, while these are connected.
fn leading(voters: u64, peers: &[NodeId]) -> Raft {
    let (mut raft, elected) = leader(voters, &[1]);
    connect(&mut raft, peers, FORMAT_NEWEST);
    commit(&mut raft, &elected);
    raft
}

/// All answer what they were sent first.
fn commit(raft: &mut Raft, elected: &Output) {
    let (term, index) = (raft.term(), raft.last_index());
    for (peer, sequence) in sequences(elected) {
        receive(raft, TIMEOUT, peer, accepted(term, sequence, index));
    }
    assert_eq!(raft.commit_index(), index);
}

/// Goal: what keeps the cluster from a newer format is told by name, by who leads.
#[test]
fn what_hinders_a_format_is_named() {
    assert_eq!(follower(3, &[1]).format_hindrance(), None, "it can't know");
    let mut raft = leading(3, &[2]);
    let hindrance = |raft: &Raft| raft.format_hindrance().expect("it leads");
    assert_eq!(hindrance(&raft), Err(FormatHindrance::Away));
    connect(&mut raft, &[3], FORMAT_NEWEST - 1);
    assert_eq!(hindrance(&raft), Err(FormatHindrance::Older));
    connect(&mut raft, &[3], FORMAT_NEWEST);
    assert_eq!(hindrance(&raft), Ok(()));
    assert_eq!(raft.format_held_at(), FORMAT_NEWEST);
    raft.config.formats.hold_at = FORMAT_NEWEST - 1;
    assert_eq!(hindrance(&raft), Err(FormatHindrance::Held));
    assert_eq!(raft.format_held_at(), FORMAT_NEWEST - 1);
    raft.step(TIMEOUT, Input::Disconnected { peer: 2 });
    let held = Err(FormatHindrance::Held);
    assert_eq!(hindrance(&raft), held, "that is an operator's to change");
}

/// Goal: a format that is wanted comes once something of the own term is committed, and not while leadership
/// is handed over. Its entry names the cluster and who votes.
#[test]
fn a_format_comes_when_the_leader_knows_what_is_agreed() {
    let (mut raft, elected) = leader(3, &[1]);
    connect(&mut raft, &[2, 3], FORMAT_NEWEST);
    raft.join_cluster(7);
    raft.want_newer_format();
    raft.step(TIMEOUT, Input::Tick);
    assert_eq!(raft.format_of_log(), 1, "nothing of its term is committed");
    commit(&mut raft, &elected);
    raft.step(TIMEOUT, Input::Tick);
    assert_eq!(raft.format_of_log(), FORMAT_NEWEST);
    let begins = raft.entry(3).map(|entry| Command::clone(&entry.command));
    let named = crate::command::Format {
        version: FORMAT_NEWEST,
        cluster: 7,
        voters: vec![1, 2, 3],
    };
    assert_eq!(begins, Some(Command::Format(named)));

    let mut leaves = leading(3, &[2, 3]);
    leaves.step(TIMEOUT, Input::Propose(vec![Arc::new(Command::NoOp)]));
    leaves.step(TIMEOUT, Input::Transfer { target: Some(2) });
    leaves.want_newer_format();
    leaves.step(TIMEOUT, Input::Tick);
    assert_eq!(leaves.format_of_log(), 1, "it is handing over");
    leaves.step(2 * TIMEOUT, Input::Tick);
    assert_eq!(leaves.format_of_log(), FORMAT_NEWEST, "that failed");
}

/// Goal: a change of membership does not wait for all to be there, but for a majority.
#[test]
fn a_change_of_members_waits_for_a_majority() {
    let mut raft = leading(5, &[2]);
    let target = Arc::unwrap_or_clone(Arc::clone(raft.members()));
    let output = raft.step(TIMEOUT, Input::ChangeMembers { base: 0, target });
    let asked = output.members_proposed.expect("each change is answered");
    assert!(
        matches!(asked, Err(MembersRefusal::NotReady(_))),
        "{asked:?}"
    );
    raft.step(TIMEOUT, Input::Tick);
    assert_eq!(raft.format_of_log(), 1, "two of five");
    connect(&mut raft, &[3], FORMAT_NEWEST);
    raft.step(TIMEOUT, Input::Tick);
    assert_eq!(raft.format_of_log(), FORMAT_NEWEST);
}
