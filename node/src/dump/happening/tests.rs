use super::*;
use crate::raft::Entry;

const ID: NodeId = 1;

fn sentence(happening: Happening) -> String {
    happening.render(ID).0
}

fn committed(as_leader: bool) -> Happening {
    let operation = Operation::Set {
        key: "name1".into(),
        value: "two words".into(),
    };
    let write = Write {
        request: None,
        operation,
    };
    let entry = Entry {
        index: 17,
        term: 3,
        command: Arc::new(Command::Write(write)),
    };
    Happening::Raft(Event::Committed { entry, as_leader })
}

// The sentences that users look for, word for word.
#[test]
fn sentences_are_verbatim() {
    let (leader, candidate, term, base_index) = (2, 2, 3, 1);
    let (entries, last_index, remaining_us) = (0, 1, 5);
    let (sequence, promise_us) = (9, 2_000_000);
    for (event, expected) in [
        (
            Event::HeartbeatSent {
                term,
                sequence,
                lease_us: 0,
                acknowledged: vec![],
            },
            "Leader 1 sending heartbeat & Renewing Lease",
        ),
        (
            Event::LeaseRenewalFailed { term },
            "Leader 1 lease renewal failed. Stepping Down.",
        ),
        (
            Event::WaitingForOldLease { term, remaining_us },
            "New Leader waiting for Old Leader Lease to timeout.",
        ),
        (
            Event::ElectionStarted { term },
            "Node 1 election timer timed out, Starting election.",
        ),
        (
            Event::BecameLeader { term },
            "Node 1 became the leader for term 3.",
        ),
        (
            Event::AppendAccepted {
                leader,
                term,
                entries,
                last_index,
                sequence,
                promise_us,
            },
            "Node 1 accepted AppendEntries RPC from 2.",
        ),
        (
            Event::AppendRejected {
                leader,
                term,
                base_index,
                sequence,
                promise_us,
            },
            "Node 1 rejected AppendEntries RPC from 2.",
        ),
        (
            Event::VoteGranted {
                candidate,
                term,
                promise_us,
            },
            "Vote granted for Node 2 in term 3.",
        ),
        (
            Event::VoteDenied { candidate, term },
            "Vote denied for Node 2 in term 3.",
        ),
        (Event::SteppedDown { term }, "1 Stepping down"),
    ] {
        assert_eq!(sentence(Happening::Raft(event)), expected);
    }
    assert_eq!(
        sentence(committed(true)),
        "Node 1 (leader) committed the entry SET name1 \"two words\" to the state machine."
    );
    assert_eq!(
        sentence(committed(false)),
        "Node 1 (follower) committed the entry SET name1 \"two words\" to the state machine."
    );
    assert_eq!(
        sentence(Happening::Received(Asked::Get("name1".into()))),
        "Node 1 (leader) received an GET name1 request."
    );
    assert_eq!(
        sentence(Happening::SendFailed(2)),
        "Error occurred while sending RPC to Node 2."
    );
}

// A program reads the fields behind the tab.
#[test]
fn fields_are_machine_readable() {
    assert_eq!(committed(true).render(ID).1, "term=3 index=17");
    let waiting = Event::WaitingForOldLease {
        term: 4,
        remaining_us: 1_200,
    };
    let fields = Happening::Raft(waiting).render(ID).1;
    assert_eq!(fields, "term=4 remaining_us=1200");
    let granted = Happening::LeaseGranted {
        term: 4,
        lease_us: 1_940_000,
    };
    let expected = ("Leader 1 holds its lease.", "term=4 lease_us=1940000");
    let (sentence, fields) = granted.render(ID);
    assert_eq!((&*sentence, &*fields), expected);
    let round = Event::HeartbeatSent {
        term: 4,
        sequence: 41,
        lease_us: 1_990_000,
        acknowledged: vec![(2, 40), (3, 37)],
    };
    assert_eq!(
        Happening::Raft(round).render(ID).1,
        "term=4 sequence=41 lease_us=1990000 acknowledged=2:40,3:37"
    );
    let accepted = Event::AppendAccepted {
        leader: 2,
        term: 4,
        entries: 1,
        last_index: 17,
        sequence: 42,
        promise_us: 2_000_000,
    };
    assert_eq!(
        Happening::Raft(accepted).render(ID).1,
        "term=4 entries=1 last_index=17 peer=2 sequence=42 promise_us=2000000"
    );
}

// A large value makes no large line, and a cut never falls within a character.
#[test]
fn long_operations_are_shortened() {
    let operation = Operation::Set {
        key: "k".into(),
        value: "é".repeat(500_000).into(),
    };
    let line = sentence(Happening::Received(Asked::Write(operation)));
    assert!(line.chars().count() < 200, "{line}");
    assert!(line.contains("SET k \"éé") && line.contains('…'), "{line}");
}

// Whatever is in a key, a happening stays one line with one tab.
#[test]
fn control_characters_are_written_out() {
    let line = sentence(Happening::Received(Asked::Get("a\tb\nc".into())));
    assert_eq!(
        line,
        "Node 1 (leader) received an GET \"a\\tb\\nc\" request."
    );
}

// Of a long word no more is looked at than is shown: the rest, which would have to be quoted here, is
// cut off before anything is rendered. What waits in the queue does not hold it either.
#[test]
fn what_is_not_shown_is_not_rendered() {
    let long: Arc<str> = format!("{} two words", "x".repeat(1_000)).into();
    let swap = Operation::CompareAndSet {
        key: Arc::clone(&long),
        expected: Some(Arc::clone(&long)),
        value: Arc::clone(&long),
    };
    let shown = format!("request.CAS {}", "x".repeat(120));
    let asked = Asked::write(&swap);
    let Asked::Write(Operation::CompareAndSet { value, .. }) = &asked else {
        panic!("{asked:?}");
    };
    assert!(value.len() < 200, "{} bytes wait", value.len());
    for asked in [asked, Asked::Write(swap)] {
        let line = sentence(Happening::Received(asked)).replace("received an ", "request.");
        assert!(line.contains(&shown), "{line}");
    }
    let line = sentence(Happening::Received(Asked::Get(long)));
    assert!(line.contains("GET xxx") && line.contains("x…"), "{line}");
}

// Who belongs to the cluster, and in which part: as far as there is somebody in it.
#[test]
fn configurations_are_told() {
    let told = |members: Members| {
        let members = Arc::new(members);
        Happening::Configuration { index: 17, members }.render(ID)
    };
    let mut members = Members::of_voters([1, 2, 3]);
    let (sentence, fields) = told(members.clone());
    assert_eq!(sentence, "Configuration 17: voters 1,2,3.");
    assert_eq!(fields, "index=17 voters=1,2,3");
    members.outgoing = [1, 2].into();
    for id in [4, 5] {
        members.nodes.insert(id, Default::default());
    }
    let (sentence, fields) = told(members);
    assert_eq!(
        sentence,
        "Configuration 17: voters 1,2,3; former voters 1,2; learners 4,5."
    );
    assert_eq!(fields, "index=17 voters=1,2,3 outgoing=1,2 learners=4,5");
}
