//! A node whose operator gave up what damage had cost: others may hold it, and should lead.

use super::*;

const WAIT: Micros = 30_000 * MS;

/// Its log ends with entry 2, of term 2, and had reached up to entry 5.
fn accepted_damage(voters: u64) -> Raft {
    let recovered = Recovered {
        accepted_until: 5,
        ..recovered(&[1, 2])
    };
    Raft::new(config(voters), recovered, 0)
}

/// Goal: it leaves it to others to lead for a while, no longer; where there are none, not at all.
#[test]
fn it_is_left_to_others_to_lead_for_a_while() {
    let role_at = |voters, now| {
        let mut raft = accepted_damage(voters);
        raft.step(now, Input::Tick);
        raft.role()
    };
    assert_eq!(role_at(3, WAIT - 1), Role::Follower);
    assert_eq!(role_at(3, WAIT), Role::Candidate);
    assert_eq!(role_at(1, TIMEOUT), Role::Candidate, "there is nobody else");
    let refilled = Recovered {
        accepted_until: 2,
        ..recovered(&[1, 2])
    };
    let mut refilled = Raft::new(config(3), refilled, 0);
    refilled.step(TIMEOUT, Input::Tick);
    assert_eq!(refilled.role(), Role::Candidate, "nothing is missing");
}

/// Goal: what was given up is on record until somebody who was elected since has committed something; what
/// an earlier leader committed says nothing.
#[test]
fn what_was_given_up_is_remembered_until_an_election() {
    for (term, until) in [(2, 5), (3, 0)] {
        let mut raft = accepted_damage(3);
        assert_eq!(raft.log_state(), LogState::Accepted { until: 5 });
        let entries = vec![entry(3, term)];
        receive(&mut raft, MS, 2, append(term, (2, 2), entries, 3, 1));
        assert_eq!((raft.commit_index(), raft.accepted_until()), (3, until));
    }
}
