//! A snapshot that a leader sends.

use super::*;
use crate::kv::{ExportStep, Store};
use crate::wal::SnapshotWriter;

/// The text of a state after entry 5, and its name.
fn text() -> (Vec<u8>, SnapshotId) {
    let mut store = Store::default();
    for index in 1..=5 {
        let operation = set("k", "sent");
        let request = None;
        store.apply(index, &Command::Write(Write { request, operation }));
    }
    let head = SnapshotHead {
        state: store.begin_export(),
        term: 1,
        log_crc: 9,
    };
    let mut text = Vec::new();
    let mut writer = SnapshotWriter::begin(head, &mut text);
    while let ExportStep::Records(records) = store.export_next(9) {
        records.iter().for_each(|it| writer.record(it, &mut text));
    }
    let id = writer.end(&mut text);
    (text, id)
}

/// A follower is sent all of it under this name, and its disk has it.
fn installed(text: Vec<u8>, snapshot: SnapshotId) -> (Engine, Effects) {
    let mut engine = follower(config(), 0);
    let message = Message::InstallSnapshot {
        term: 2,
        snapshot,
        offset: 0,
        data: text.into(),
        lease_ms: LEASE / MS,
        sequence: 1,
        incarnation: 0,
    };
    let received = settle(&mut engine, MS, vec![heard(3, message)]);
    assert_eq!(received.messages, [], "it is not on disk yet");
    let written = Input::SnapshotWritten { ticket: 1 };
    let effects = engine.step(MS, vec![written]);
    (engine, effects)
}

/// Goal: what a leader sends takes the place of state and log when the disk has all of it.
#[test]
fn a_sent_snapshot_takes_the_place_of_the_log() {
    let (text, snapshot) = text();
    let (engine, effects) = installed(text, snapshot);
    let work = effects.disk.expect("the log is cut");
    assert_eq!(work.cut.map(|cut| cut.snapshot), Some(snapshot));
    assert_eq!((engine.applied_index(), engine.raft().last_index()), (5, 5));
    let query = Query::Get { key: "k".into() };
    let answer = Answer::Value(Some("sent".into()));
    assert_eq!(engine.view().stale_read(&query), (answer, 5));
}

/// Goal: a whole state of another name is not the one that was announced: nothing is put in place, and it is
/// asked for from the beginning.
#[test]
fn a_snapshot_under_another_name_is_refused() {
    let (text, snapshot) = text();
    for other in [
        SnapshotId {
            hash: snapshot.hash ^ 1,
            ..snapshot
        },
        SnapshotId {
            index: 6,
            ..snapshot
        },
        SnapshotId {
            term: 2,
            ..snapshot
        },
    ] {
        let (engine, effects) = installed(text.clone(), other);
        let cut = effects.disk.and_then(|work| work.cut);
        assert_eq!((cut, engine.applied_index()), (None, 1), "{other:?}");
        assert_eq!(engine.raft().receiving(), None, "{other:?}");
    }
}
