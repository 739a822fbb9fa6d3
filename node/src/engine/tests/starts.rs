//! What an engine starts from, and what it writes down first.

use super::*;
use crate::command::Members;
use crate::kv::Store;
use crate::wal::Metadata;

/// One that has run, and has forgotten what it promised.
fn after_a_crash(voters_on_record: u64) -> Recovered {
    Recovered {
        hard_state: HardState {
            term: 1,
            voted_for: None,
        },
        former_lease_us: LEASE,
        voters: voters_on_record,
        ..Recovered::default()
    }
}

fn on_record(effects: Effects) -> Option<Metadata> {
    let metadata = effects.disk?.metadata?;
    Some(Metadata::decode(&metadata).expect("it was just written"))
}

/// Goal: that there are more voters than before is on disk before anything is promised to the new ones;
/// where there are not, a start writes nothing.
#[test]
fn more_voters_are_on_record_at_once() {
    for (before, written) in [(1, Some(3)), (3, None), (5, None)] {
        let writer = LogWriter::default();
        let mut engine = Engine::new(config(), after_a_crash(before), writer, 0);
        let written_now = on_record(engine.step(MS, vec![]));
        let voters = written_now.map(|metadata| metadata.voters);
        assert_eq!(voters, written, "{before}");
    }
    let never_ran = Recovered {
        never_ran: true,
        ..Recovered::default()
    };
    let mut engine = Engine::new(config(), never_ran, LogWriter::default(), 0);
    assert_eq!(on_record(engine.step(MS, vec![])), None);
}

/// Goal: who belongs to the cluster is what the state says that the log goes on from.
#[test]
fn the_configuration_of_the_state_is_in_force() {
    let members = Arc::new(Members::of_voters([1, 2, 3, 4, 5]));
    let mut store = Store::default();
    store.apply(1, &Command::Members(Arc::clone(&members)));
    let snapshot = SnapshotId {
        index: 1,
        term: 1,
        ..SnapshotId::default()
    };
    let recovered = Recovered {
        snapshot: Some(snapshot),
        commit_index: 1,
        ..after_a_crash(3)
    };
    let start = Start {
        store,
        ..Start::default()
    };
    let engine = Engine::behind(start, config(), recovered, 0);
    assert_eq!(engine.raft().members(), &members);
    assert_eq!(
        (engine.raft().members_index(), engine.applied_index()),
        (1, 1)
    );
}

/// Goal: the id of the cluster that a node joins is on disk before anything that depends on the disk leaves.
#[test]
fn the_cluster_that_is_joined_is_on_record() {
    let mut engine = follower(config(), 0);
    settle(&mut engine, MS, vec![]);
    let vote = Message::Vote {
        term: 5,
        last_index: 9,
        last_term: 4,
        pre: false,
        released: None,
        incarnation: 0,
    };
    let joined = Input::JoinedCluster { cluster: 9 };
    let effects = engine.step(TIMEOUT - 1, vec![joined, heard(2, vote)]);
    assert_eq!(effects.messages, []);
    let metadata = on_record(effects).expect("it is written");
    assert_eq!((metadata.ids.cluster, metadata.hard_state.term), (9, 5));

    let mut engine = follower(config(), 0);
    settle(&mut engine, MS, vec![]);
    let joined = Input::JoinedCluster { cluster: 9 };
    let metadata = on_record(engine.step(MS, vec![joined]));
    assert_eq!(metadata.map(|it| it.ids.cluster), Some(9), "by itself");
}
