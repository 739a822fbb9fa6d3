//! What a start takes from the record, and what an operator gives up.

use super::*;
use crate::command::Members;
use crate::raft::{Names, ReadsSince, Run};

/// A record of the term of `five`, with something in each of its lines.
fn full_record() -> Metadata {
    let run = Run {
        node: 3,
        incarnation: 8,
    };
    Metadata {
        hard_state: HardState {
            term: 1,
            voted_for: Some(2),
        },
        commit_index: 4,
        applied_index: 4,
        accepted_until: 3,
        voters: 5,
        format: 2,
        ids: Ids {
            cluster: 7,
            directory: 9,
        },
        reads: ReadsSince {
            format: 3,
            index: 2,
        },
        names: Names {
            by: 6,
            runs: Some(vec![run]),
        },
    }
}

fn start(logs: &[u8], metadata: &Metadata) -> Recovery {
    recover(Files {
        logs: Some(logs),
        metadata: Some(&metadata.encode()),
        ..Files::default()
    })
    .unwrap()
}

/// Goal: the vote in the term of the last entry still counts after a restart, as does all else that is on
/// record.
#[test]
fn what_is_on_record_is_taken_up() {
    let record = full_record();
    let mut recovery = start(&log_of(&five()), &record);
    let recovered = &recovery.recovered;
    assert_eq!(recovered.hard_state, record.hard_state);
    assert_eq!(recovered.commit_index, record.commit_index);
    assert_eq!(recovered.accepted_until, record.accepted_until);
    assert_eq!(recovered.voters, record.voters);
    assert_eq!(recovered.format, record.format);
    assert_eq!(recovered.ids, record.ids);
    assert_eq!(recovered.reads, record.reads);
    assert_eq!(recovered.names, record.names);
    // There is nothing to give up: the record stays as it is.
    assert_eq!(recovery.accept(None), record);
    assert_eq!(recovery.accepted_until, 0);
}

/// Goal: what damage cost is given up once, as far as it reached, and the commit on record goes back to
/// what a leader has; nothing else of the record changes.
#[test]
fn what_is_given_up_is_on_record() {
    let logs = log_of(&five());
    let mut damaged = logs.clone();
    damaged[line_starts(&logs)[2]] ^= 1;
    let record = full_record();
    let mut recovery = start(&damaged, &record);
    assert_eq!(recovery.recovered.damaged_until, 5);
    let given_up = recovery.accept(None);
    let expected = Metadata {
        commit_index: 2,
        applied_index: 2,
        accepted_until: 5,
        ..record.clone()
    };
    assert_eq!(given_up, expected);
    assert_eq!(recovery.accepted_until, 5);
    assert_eq!(recovery.recovered.accepted_until, 5);
    assert_eq!(recovery.recovered.damaged_until, 0);

    for (keep, commit_index) in [(3, 3), (9, 4)] {
        let mut recovery = start(&logs, &record);
        let kept = recovery.accept(Some(keep));
        assert_eq!(kept.commit_index, commit_index, "{keep}");
        assert_eq!(kept.applied_index, commit_index, "{keep}");
        assert_eq!(recovery.recovered.commit_index, commit_index, "{keep}");
    }
}

/// Goal: a node whose log lost all of its entries has run, whatever its record says: it may have promised
/// something.
#[test]
fn a_damaged_node_has_run() {
    let mut damaged = log_of(&five()[..1]);
    damaged[0] ^= 1;
    let recovered = start(&damaged, &Metadata::default()).recovered;
    assert_eq!((recovered.damaged_until, recovered.never_ran), (1, false));
}

/// Goal: a configuration comes back from its line; and neither it nor a NO-OP is anybody's request, nor
/// has more words than it has.
#[test]
fn what_is_no_write_has_no_request() {
    let members = Command::Members(Arc::new(Members::of_voters([1, 2, 13])));
    let commands = [Command::NoOp, members];
    for command in commands {
        let written = entry(1, 1, command);
        let log = log_of(std::slice::from_ref(&written));
        assert_eq!(recover_log(&log).recovered.entries, [written]);
        let line = String::from_utf8(log).unwrap();
        let covered = line.split("crc=").next().unwrap();
        let (words, fields) = covered.split_once(" 1\t").unwrap();
        for other in [
            format!("{words} 1\t{fields}request=7/1 "),
            format!("{words} more 1\t{fields}"),
        ] {
            let covered = format!("{other}crc=");
            let sealed = format!("{covered}{:08x}\n", crc32c::crc32c(covered.as_bytes()));
            let entries = recover_log(sealed.as_bytes()).recovered.entries;
            assert_eq!(entries, [], "{other}");
        }
    }
}
