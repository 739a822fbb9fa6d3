//! A node without peers: snapshots that are asked for, and how one gets to the disk while writes go on.

use super::*;
use crate::raft::Formats;

/// It leads, at one time, and its log is durable at once; what is written of snapshots is not.
struct Alone {
    engine: Engine,
    replies: Vec<(Token, Result<Reply, RequestError>)>,
    events: Vec<Event>,
}

const NOW: Micros = 10_000 * MS;

impl Alone {
    /// In this format, with snapshots on demand only.
    fn new(format: u64) -> Self {
        let raised = Formats {
            reads: format,
            raise_from: 1,
            hold_at: format,
        };
        let mut alone = Alone::with(raised, None);
        alone.step(vec![]);
        assert_eq!(alone.format(), format);
        alone
    }

    fn with(formats: Formats, snapshot_log_bytes: Option<u64>) -> Self {
        let config = Config {
            voters: vec![1],
            formats,
            ..config()
        };
        let recovered = Recovered {
            never_ran: true,
            ..Recovered::default()
        };
        let start = Start {
            snapshot_log_bytes,
            ..Start::default()
        };
        let mut alone = Alone {
            engine: Engine::behind(start, config, recovered, 0),
            replies: Vec::new(),
            events: Vec::new(),
        };
        alone.step(vec![]);
        assert_eq!(alone.engine.raft().role(), Role::Leader);
        alone
    }

    fn format(&self) -> u64 {
        self.engine.view().with_store(|store| store.format())
    }

    /// Returns the works on files of snapshots that came of it.
    fn step(&mut self, inputs: Vec<Input>) -> Vec<SnapshotWork> {
        let (mut works, mut next) = (Vec::new(), Some(inputs));
        while let Some(inputs) = next.take() {
            let effects = self.engine.step(NOW, inputs);
            self.replies.extend(effects.replies);
            self.events.extend(effects.events);
            works.extend(effects.snapshots);
            next = effects.disk.map(|work| {
                let ticket = work.ticket;
                vec![Input::Durable { ticket }]
            });
        }
        works
    }

    fn set(&mut self, value: &str) -> Vec<SnapshotWork> {
        let works = self.step(vec![write(1, set("k", value))]);
        assert!(matches!(self.replies.pop(), Some((1, Ok(_)))));
        works
    }

    fn ask(&mut self, token: Token) -> Vec<SnapshotWork> {
        let request = Request::TakeSnapshot;
        self.step(vec![Input::Request { token, request }])
    }

    /// These works are done.
    fn written(&mut self, works: &[SnapshotWork]) -> Vec<SnapshotWork> {
        let ticket = works.last().expect("there is something to do").ticket;
        self.step(vec![Input::SnapshotWritten { ticket }])
    }

    /// Until nothing more is to be done.
    fn write_all(&mut self, mut works: Vec<SnapshotWork>) {
        while !works.is_empty() {
            works = self.written(&works);
        }
    }

    fn answer(&mut self) -> (Token, Result<Reply, RequestError>) {
        let [answer] = &std::mem::take(&mut self.replies)[..] else {
            panic!("one is answered");
        };
        answer.clone()
    }

    /// The entry of the snapshot that was taken for this token.
    fn taken(&mut self, token: Token) -> Index {
        match self.answer() {
            (of, Ok(Reply::SnapshotTaken { snapshot })) if of == token => snapshot.index,
            other => panic!("{other:?}"),
        }
    }
}

fn refused(answer: (Token, Result<Reply, RequestError>), token: Token) -> bool {
    matches!(answer, (of, Err(RequestError::NotReady(_))) if of == token)
}

/// Goal: from the format on that snapshots need, one is taken of the state of now, and not twice of the same;
/// before, none is.
#[test]
fn a_snapshot_is_taken_on_demand() {
    let mut older = Alone::new(1);
    assert_eq!(older.ask(5), []);
    assert!(refused(older.answer(), 5));

    let mut alone = Alone::new(2);
    let works = alone.ask(5);
    assert!(alone.replies.is_empty(), "it is not durable yet");
    alone.write_all(works);
    let at = alone.engine.applied_index();
    assert_eq!(alone.taken(5), at);
    assert_eq!(alone.ask(6), [], "nothing has changed");
    assert_eq!(alone.taken(6), at);
    alone.set("later");
    let works = alone.ask(7);
    alone.write_all(works);
    assert_eq!(alone.taken(7), at + 1);
}

/// Goal: a log that has grown by as much as makes a snapshot asks for the format which those need, and not
/// before; how much is left is known.
#[test]
fn a_log_that_has_grown_asks_for_the_format() {
    let mut alone = Alone::with(Formats::default(), Some(1_000));
    let mut left = alone.engine.format_growth_left().expect("it is older");
    assert!((900..1_000).contains(&left), "a NO-OP is there: {left}");
    let value = "x".repeat(300);
    for _ in 0..3 {
        alone.set(&value);
        let now_left = alone.engine.format_growth_left().expect("it is older");
        assert!((300..400).contains(&(left - now_left)), "{left} {now_left}");
        left = now_left;
    }
    assert_eq!(alone.format(), 1);
    alone.set(&value);
    alone.step(vec![]);
    assert_eq!(alone.format(), Formats::default().reads);
    assert_eq!(alone.engine.format_growth_left(), None);
}

/// Goal: a place for a snapshot that is left out is told, in a format that has snapshots.
#[test]
fn a_place_that_is_left_out_is_told() {
    for (format, places) in [(1, 0), (2, 2)] {
        let raised = Formats {
            reads: format,
            raise_from: 1,
            hold_at: format,
        };
        let mut alone = Alone::with(raised, Some(1_000));
        alone.step(vec![]);
        // Each is a place; the first is taken, and its disk does not answer.
        (0..3).for_each(|_| drop(alone.set(&"x".repeat(1_500))));
        let is_told = |event: &&Event| matches!(event, Event::SnapshotSkipped { .. });
        assert_eq!(alone.events.iter().filter(is_told).count(), places);
    }
}

/// Goal: one at a time; who asked for one that is given up is told so, and the next can be taken.
#[test]
fn a_snapshot_that_is_given_up_is_told_of() {
    let mut alone = Alone::new(2);
    alone.ask(5);
    assert_eq!(alone.ask(6), []);
    assert!(refused(alone.answer(), 6));
    alone.step(vec![Input::SnapshotLost]);
    assert!(refused(alone.answer(), 5));
    let works = alone.ask(7);
    alone.write_all(works);
    alone.taken(7);
}

/// Goal: in place of a damaged snapshot another one is taken at once, unless nothing has changed since, or one
/// is under way.
#[test]
fn another_snapshot_takes_the_place_of_a_damaged_one() {
    let mut alone = Alone::new(2);
    let works = alone.ask(5);
    alone.write_all(works);
    alone.taken(5);
    let snapshot = alone.engine.raft().snapshot().expect("it was taken");
    let damaged = || vec![Input::SnapshotDamaged { snapshot }];
    assert_eq!(alone.step(damaged()), [], "nothing has changed");
    alone.set("later");
    let works = alone.step(damaged());
    assert!(!works.is_empty());
    assert_eq!(alone.step(damaged()), [], "one is under way");
    alone.write_all(works);
    let newer = alone.engine.raft().snapshot().expect("it was taken");
    assert_eq!(newer.index, snapshot.index + 1);
}

/// The parts of the log that works copy.
fn copied(works: &[SnapshotWork]) -> Vec<(u64, u64)> {
    let part = |work: &SnapshotWork| match work.task {
        SnapshotTask::Copy { from, to, .. } => Some((from, to)),
        SnapshotTask::Write { .. } | SnapshotTask::Look(_) => None,
    };
    works.iter().filter_map(part).collect()
}

/// Goal: a piece is written when the one before is on disk, and what is behind the snapshot is copied when all
/// of it is: so there is never more than one piece that only memory holds.
#[test]
fn a_snapshot_is_written_a_piece_at_a_time() {
    let mut alone = Alone::new(2);
    let value = "x".repeat(20 * 1024);
    for key in 0..40 {
        alone.step(vec![write(1, set(&format!("k{key}"), &value))]);
    }
    alone.replies.clear();
    let mut works = alone.ask(5);
    assert_eq!(works.len(), 2, "the first line, and a piece");
    let mut pieces = 1;
    loop {
        assert_eq!(alone.step(vec![]), [], "the last is not written yet");
        works = alone.written(&works);
        assert_eq!(works.len(), 1, "one at a time");
        if !copied(&works).is_empty() {
            break;
        }
        pieces += 1;
    }
    assert_eq!(pieces, 3);
    assert_eq!(alone.step(vec![]), [], "nor is this");
    alone.write_all(works);
    assert!(alone.engine.raft().snapshot().is_some());
}

/// Goal: what the log has grown by is copied in bounded parts, each behind the one before, until little is
/// left.
#[test]
fn the_rest_of_the_log_is_copied_in_parts() {
    let mut alone = Alone::new(2);
    let mut works = alone.ask(5);
    for _ in 0..9 {
        alone.set(&"x".repeat(300 * 1024));
    }
    let mut parts = Vec::new();
    while alone.engine.raft().snapshot().is_none() {
        works = alone.written(&works);
        parts.extend(copied(&works));
        assert!(parts.len() < 9, "{parts:?}");
    }
    let mebibyte = 1024 * 1024;
    let lengths: Vec<u64> = parts.iter().map(|(from, to)| to - from).collect();
    assert_eq!(lengths[..2], [mebibyte; 2], "{parts:?}");
    assert!(lengths.len() == 3 && lengths[2] < mebibyte, "{parts:?}");
    assert!(parts.windows(2).all(|pair| pair[0].1 == pair[1].0));
    alone.taken(5);
}

/// Goal: a log that grows faster than it is copied is cut all the same, after so many passes; one that grows
/// by little is cut at once.
#[test]
fn a_log_that_grows_on_is_cut_all_the_same() {
    for (grows_kib, passes) in [(200, 8), (100, 1)] {
        let mut alone = Alone::new(2);
        let mut works = alone.ask(5);
        let mut parts = Vec::new();
        while alone.engine.raft().snapshot().is_none() {
            alone.set(&"x".repeat(grows_kib * 1024));
            works = alone.written(&works);
            parts.extend(copied(&works));
            assert!(parts.len() <= 8, "{parts:?}");
        }
        assert_eq!(parts.len(), passes, "{parts:?}");
        alone.taken(5);
    }
}

/// Goal: whoever ends a backup ends that one.
#[test]
fn a_backup_is_ended_by_its_reader() {
    let mut alone = Alone::new(2);
    alone.set("v");
    let request = Request::Backup { not_before: 1 };
    alone.step(vec![Input::Request { token: 5, request }]);
    let (5, Ok(Reply::BackupBegun { walk, .. })) = alone.answer() else {
        panic!("it begins at once");
    };
    let view = alone.engine.view();
    let goes_on = |step| matches!(step, crate::kv::ExportStep::Records(_));
    view.end_backup(walk + 1);
    assert!(goes_on(view.backup_next(walk, 1)));
    view.end_backup(walk);
    assert_eq!(view.backup_next(walk, 1), crate::kv::ExportStep::GivenUp);
}
