//! The log in memory behind a snapshot, and what it knows of formats and members.

use super::log::Log;
use super::*;
use crate::command::{Format, Members};

/// Behind entry 5 of term 2: two of that term, two of term 4.
fn behind_a_snapshot() -> Log {
    let base = SnapshotId {
        index: 5,
        term: 2,
        ..SnapshotId::default()
    };
    let entries = (6..).zip([2, 2, 4, 4]);
    let entries = entries.map(|(index, term)| entry(index, term)).collect();
    Log::new(base, (0, Arc::new(Members::of_voters([1]))), entries)
}

/// Goal: what was let go is there, whatever its term; where the log begins the term counts.
#[test]
fn what_was_let_go_is_there() {
    let log = behind_a_snapshot();
    let known = [(4, 9), (5, 2), (6, 2), (9, 4)];
    assert!(known.iter().all(|(index, term)| log.has(*index, *term)));
    let unknown = [(5, 1), (6, 1), (9, 2), (10, 4)];
    assert!(!unknown.iter().any(|(index, term)| log.has(*index, *term)));
}

/// Goal: a run of entries of one term begins where it begins in the log, and at the base where it reaches back
/// behind that.
#[test]
fn a_run_begins_at_the_base_at_the_earliest() {
    let log = behind_a_snapshot();
    let first: Vec<_> = (5..11).map(|i| log.first_index_of_term_at(i)).collect();
    assert_eq!(first, [5, 5, 5, 8, 8, 10]);
    let base = SnapshotId {
        index: 5,
        term: 2,
        ..SnapshotId::default()
    };
    let members = (0, Arc::new(Members::of_voters([1])));
    let later = Log::new(base, members, vec![entry(6, 3), entry(7, 3)]);
    assert_eq!(later.first_index_of_term_at(7), 6, "none of it was let go");
}

fn with(index: Index, command: Command) -> Entry {
    Entry {
        command: Arc::new(command),
        ..entry(index, 1)
    }
}

fn of_voters(count: u64) -> Members {
    Members::of_voters(1..=count)
}

/// A log that comes to a configuration at 2 and 4, and to a format at 3 and 5.
fn with_changes() -> Log {
    let members = |count| Command::Members(Arc::new(of_voters(count)));
    let format = |version| {
        Command::Format(Format {
            version,
            ..Format::default()
        })
    };
    let entries = vec![
        with(1, Command::NoOp),
        with(2, members(2)),
        with(3, format(2)),
        with(4, members(4)),
        with(5, format(3)),
        with(6, Command::NoOp),
    ];
    Log::new(SnapshotId::default(), (0, Arc::new(of_voters(1))), entries)
}

/// Goal: what was in force where the log begins stays known when what came before is let go.
#[test]
fn what_was_in_force_stays_known() {
    let mut log = with_changes();
    for (let_go, first) in [(1, 0), (3, 2), (4, 4), (5, 4)] {
        log.let_go(let_go);
        let voters = if first == 0 { 1 } else { first };
        let known = log.members_at(let_go);
        assert_eq!(
            (known.0, &*known.1),
            (first, &of_voters(voters)),
            "{let_go}"
        );
        assert_eq!(log.members().0, 4);
        assert_eq!(
            log.members_since(let_go).count(),
            if first == 4 {
                1
            } else {
                (4 - first) as usize / 2 + 1
            }
        );
        assert_eq!(log.format(), 3);
        assert_eq!(log.format_at(let_go), [1, 1, 2, 2, 3][let_go as usize - 1]);
    }
}

/// Goal: what is cut off is not in force any more, and what is not cut is.
#[test]
fn what_is_cut_is_not_in_force() {
    for (keep, members_index, format) in [(6, 4, 3), (4, 4, 2), (3, 2, 2), (2, 2, 1), (1, 0, 1)] {
        let mut log = with_changes();
        log.truncate_after(keep, false);
        let in_force = (log.members().0, log.format(), log.last_index());
        assert_eq!(in_force, (members_index, format, keep));
    }
    let mut log = with_changes();
    log.let_go(2);
    log.truncate_after(3, false);
    let in_force = (log.members().0, log.format(), log.last_index());
    assert_eq!(in_force, (2, 2, 3));
}
