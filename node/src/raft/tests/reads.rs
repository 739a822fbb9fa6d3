//! Quorum reads.

use super::*;

/// Goal: a quorum read is answered when a majority, this node included, has acknowledged appends
/// that were sent after it came; earlier ones prove nothing, nor does one follower twice.
#[test]
fn a_majority_confirms_a_read() {
    for voters in [3, 4, 5] {
        let (mut raft, elected) = leader(voters, &[1]);
        let (term, index) = (raft.term(), raft.last_index());
        let first = sequences(&elected);
        for (peer, sequence) in &first {
            receive(&mut raft, TIMEOUT, *peer, accepted(term, *sequence, index));
        }
        assert_eq!(raft.commit_index(), index);
        // A heartbeat that leaves before the read comes, and is answered after it.
        let now = TIMEOUT + 100 * MS;
        let earlier = sequences(&raft.step(now, Input::Tick));
        let asked = raft.step(now, Input::QuorumRead { token: 7 });
        let round = sequences(&asked);
        assert_eq!(round.len() as u64, voters - 1, "it asks all");
        for (peer, sequence) in &earlier {
            let output = receive(&mut raft, now, *peer, accepted(term, *sequence, index));
            assert_eq!(output.quorum_reads, [], "an earlier heartbeat");
        }
        let others_needed = voters as usize / 2;
        for (number, (peer, sequence)) in (1..=others_needed).zip(&round) {
            let mut output = receive(&mut raft, now, *peer, accepted(term, *sequence, index));
            if number < others_needed {
                assert_eq!(output.quorum_reads, [], "{number} of {others_needed}");
                output = receive(&mut raft, now, *peer, accepted(term, *sequence, index));
                assert_eq!(output.quorum_reads, [], "the same one twice");
            } else {
                assert_eq!(output.quorum_reads, [(7, Ok(index))], "{voters} voters");
            }
        }
    }
}

/// Goal: reads that come while a round is under way wait for the next; before an entry of the own
/// term is committed none begins; who stops leading refuses all that wait.
#[test]
fn reads_wait_for_a_round_of_their_own() {
    let (mut raft, elected) = leader(3, &[1]);
    let (term, index) = (raft.term(), raft.last_index());
    let (peer, sequence) = sequences(&elected)[0];
    let early = raft.step(TIMEOUT, Input::QuorumRead { token: 1 });
    assert!(
        early.messages.is_empty(),
        "nothing of its term is committed"
    );
    let begun = receive(&mut raft, TIMEOUT, peer, accepted(term, sequence, index));
    assert_eq!(begun.quorum_reads, []);
    assert_eq!(raft.counters.read_rounds, 1);
    let (peer, first) = sequences(&begun)[0];

    let meanwhile = raft.step(TIMEOUT, Input::QuorumRead { token: 2 });
    assert!(meanwhile.messages.is_empty(), "a round is under way");
    let confirmed = receive(&mut raft, TIMEOUT, peer, accepted(term, first, index));
    assert_eq!(confirmed.quorum_reads, [(1, Ok(index))]);
    assert_eq!(raft.counters.read_rounds, 2);
    raft.step(TIMEOUT, Input::QuorumRead { token: 3 });

    let deposed = receive(&mut raft, TIMEOUT, 3, heartbeat(9, (1, 1), 1));
    let refused = Err(Refusal::NotLeader { leader: None });
    assert_eq!(deposed.quorum_reads, [(2, refused), (3, refused)]);
    let late = raft.step(TIMEOUT, Input::QuorumRead { token: 4 });
    let refused = Err(Refusal::NotLeader { leader: Some(3) });
    assert_eq!(late.quorum_reads, [(4, refused)]);
}

/// Goal: reads that wait are bounded.
#[test]
fn waiting_reads_are_bounded() {
    let (mut raft, _) = leader(3, &[1]);
    for token in 0..16 * 1024 {
        assert_eq!(
            raft.step(TIMEOUT, Input::QuorumRead { token }).quorum_reads,
            []
        );
    }
    let token = 99_999;
    let refused = raft.step(TIMEOUT, Input::QuorumRead { token }).quorum_reads;
    assert_eq!(refused, [(token, Err(Refusal::Overloaded))]);
}
