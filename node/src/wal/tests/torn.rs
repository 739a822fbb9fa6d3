//! The end of a log: a write that a crash cut short, told from what was durable and is damaged.

use super::*;

/// Goal: the operator is told in which line a write was cut short, and how much of it goes.
#[test]
fn a_torn_line_is_named() {
    let logs = log_of(&five());
    let starts = line_starts(&logs);
    for (number, start) in (1..).zip(&starts[..5]) {
        let torn = recover_log(&logs[..start + 4]).torn;
        assert_eq!(
            torn,
            Some(TornTail {
                line: number,
                bytes: 4
            })
        );
    }
}

fn marked(logs: &[u8], mark: Mark) -> Recovery {
    recover(Files {
        logs: Some(logs),
        metadata: Some(&metadata(3, 0)),
        mark: Some(&mark.encode()),
        ..Files::default()
    })
    .unwrap()
}

fn durable_until(durable_index: Index) -> Mark {
    Mark {
        durable_index,
        term: 3,
        ..Mark::default()
    }
}

/// Goal: what looks like a torn write is damage where it was durable for certain, and where it was is
/// not known any more; a line that is there in full is neither.
#[test]
fn what_was_durable_is_not_torn() {
    let file = log_of(&five());
    let fourth = line_starts(&file)[4];
    let mut changed = file.clone();
    *changed.last_mut().unwrap() = b' ';
    let whole = marked(&changed, durable_until(4));
    assert_eq!((whole.recovered.last_index(), whole.damage), (5, None));
    for logs in [&file[..fourth], &file[..file.len() - 3]] {
        let recovery = marked(logs, durable_until(5));
        assert_eq!(recovery.damage, Some(at_line(5, 5)));
        assert!(recovery.torn.is_none());
        let recovery = marked(logs, durable_until(4));
        assert_eq!(recovery.damage, None);
        // A version that knows no marks may have cut it in a later term.
        let old = Mark {
            term: 2,
            ..durable_until(5)
        };
        assert_eq!(marked(logs, old).damage, None);
    }
    let committed = Mark {
        commit_index: 5,
        ..Mark::default()
    };
    let shorter = &file[..file.len() - 3];
    assert!(marked(shorter, committed).damage.is_some());
    for (mark, damaged) in [(&b"damaged"[..], true), (&[0; 9], false), (&[], false)] {
        let recovery = recover(Files {
            logs: Some(shorter),
            metadata: Some(&metadata(3, 0)),
            mark: Some(mark),
            ..Files::default()
        });
        let recovery = recovery.unwrap();
        let damage = damaged.then(|| at_line(5, 5));
        assert_eq!(recovery.damage, damage, "{mark:?}");
        assert_eq!(recovery.lost_notes.contains(&LostNote::Mark), damaged);
    }
    assert_eq!(marked(&file, committed).recovered.commit_index, 5);
}

/// Goal: sectors that a crash left out read as zeros up to their end, also before others that it
/// wrote: a torn write, unless it was durable or the zeros end elsewhere.
#[test]
fn a_hole_in_a_torn_write_is_no_damage() {
    let value = "x".repeat(300);
    let entries: Vec<_> = (1..=6).map(|index| set(index, 3, "k", &value)).collect();
    let file = log_of(&entries);
    let starts = line_starts(&file);
    assert!(starts[2] < 1024 && starts[4] > 1024 + 100, "{starts:?}");
    let hole = |begin: usize, end: usize| {
        let mut logs = file.clone();
        logs[begin..end].fill(0);
        logs
    };
    for begin in [starts[2], starts[2] + 7, 1023] {
        let logs = hole(begin, 1024);
        for durable in 0..=2 {
            let recovery = marked(&logs, durable_until(durable));
            assert_eq!(recovery.damage, None, "from {begin}");
            assert_eq!(recovery.recovered.entries, entries[..2]);
            let bytes = (file.len() - starts[2]) as u64;
            assert_eq!(recovery.torn, Some(TornTail { line: 3, bytes }));
        }
        assert!(marked(&logs, durable_until(3)).damage.is_some());
    }
    assert!(
        marked(&hole(starts[2], 1023), durable_until(2))
            .damage
            .is_some()
    );
    // Without a mark, or with one of an older term, nobody vouches that it was not durable.
    let logs = hole(1023, 1024);
    let old = Mark {
        term: 2,
        ..durable_until(2)
    };
    let no_mark = recover(Files {
        logs: Some(&logs),
        metadata: Some(&metadata(3, 0)),
        ..Files::default()
    });
    assert!(no_mark.unwrap().damage.is_some());
    assert!(marked(&logs, old).damage.is_some());
    let mut also_changed = hole(1023, 1024);
    also_changed[starts[1]] ^= 1;
    assert!(marked(&also_changed, durable_until(0)).damage.is_some());
}

/// Goal: the mark of damage falls as soon as a leader that was elected since has committed
/// something here, however far the damage was thought to have reached.
#[test]
fn damage_ends_with_a_later_leader() {
    let mut damaged = log_of(&five());
    let third = line_starts(&damaged)[2];
    damaged[third] ^= 1;
    let recovery = recover(Files {
        logs: Some(&damaged),
        metadata: Some(&metadata(3, 0)),
        ..Files::default()
    })
    .unwrap();
    assert_eq!(recovery.recovered.damaged_term, 3);
    let DamageMark::Write(mark) = recovery.damage_mark else {
        panic!("damage leaves a mark");
    };
    for (last_term, commit, until) in [(3, 4, 5), (4, 3, 5), (4, 4, 0)] {
        let mut entries = five()[..3].to_vec();
        entries.push(entry(4, last_term, Command::NoOp));
        let recovery = recover(Files {
            logs: Some(&log_of(&entries)),
            metadata: Some(&metadata(4, commit)),
            damaged: Some(&mark),
            mark: None,
        })
        .unwrap();
        assert_eq!(
            recovery.recovered.damaged_until, until,
            "{last_term} {commit}"
        );
        assert_eq!(recovery.damage_mark == DamageMark::Remove, until == 0);
    }
}

/// Goal: lines that were written twice are damage of one entry more than there is, at least: what stood in
/// their place is not known.
#[test]
fn lines_from_before_count_as_the_next() {
    let file = log_of(&five());
    let starts = line_starts(&file);
    let doubled = [&file[..], &file[starts[1]..starts[3]]].concat();
    assert_eq!(recover_log(&doubled).damage, Some(at_line(6, 6)));
}

/// Goal: a line counts where its beginning can't be read and its end can, too.
#[test]
fn the_end_of_a_line_counts() {
    let mut file = log_of(&five());
    let starts = line_starts(&file);
    file[starts[3]] ^= 1;
    let fields = file[starts[4]..].iter().position(|byte| *byte == b'\t');
    file[starts[4] + fields.unwrap()] ^= 1;
    assert_eq!(recover_log(&file).damage, Some(at_line(4, 5)));
}
