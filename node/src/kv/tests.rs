//! The store as its callers see it.

use super::*;
use crate::command::{Format, RequestId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

fn set(key: &str, value: &str) -> Operation {
    Operation::Set {
        key: key.into(),
        value: value.into(),
    }
}

fn compare_and_set(key: &str, expected: Option<&str>, value: &str) -> Operation {
    Operation::CompareAndSet {
        key: key.into(),
        expected: expected.map(Arc::from),
        value: value.into(),
    }
}

fn request(client_id: u64, sequence: u64, since_index: Index) -> Option<RequestId> {
    Some(RequestId {
        client_id,
        sequence,
        since_index,
    })
}

/// Applies one write behind all others.
fn apply(store: &mut Store, request: Option<RequestId>, operation: Operation) -> Applied {
    let write = Command::Write(Write { request, operation });
    store.apply(store.applied_index() + 1, &write)
}

fn fresh(result: WriteResult) -> Applied {
    Applied::Written {
        result,
        resent: false,
    }
}

fn resent(result: WriteResult) -> Applied {
    Applied::Written {
        result,
        resent: true,
    }
}

fn get(store: &Store, key: &str) -> Option<String> {
    match store.read(&Query::Get { key: key.into() }) {
        Answer::Value(value) => value.map(|value| value.to_string()),
        Answer::Page(_) => panic!("a get is answered by a value"),
    }
}

fn list(store: &Store, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
    let query = Query::List {
        prefix: prefix.into(),
        after: after.map(Arc::from),
        limit,
    };
    match store.read(&query) {
        Answer::Page(page) => (
            page.entries
                .iter()
                .map(|(key, _)| key.to_string())
                .collect(),
            page.more,
        ),
        Answer::Value(_) => panic!("a list is answered by a page"),
    }
}

fn begins(version: u64) -> Command {
    Command::Format(Format {
        version,
        ..Format::default()
    })
}

// The format in force is a function of the log: it begins with the first and never goes down.
#[test]
fn the_format_follows_the_log() {
    let mut store = Store::default();
    assert_eq!(store.format(), 1);
    for (index, named, in_force) in [(1, 2, 2), (2, 3, 3), (3, 2, 3)] {
        assert_eq!(store.apply(index, &begins(named)), Applied::Nothing);
        assert_eq!(store.format(), in_force);
    }
}

// What began a format stays: a second entry of the same format says nothing of cluster and members.
#[test]
fn a_format_begins_once() {
    let mut store = Store::default();
    let begins = |cluster| {
        Command::Format(Format {
            version: 2,
            cluster,
            voters: vec![1, 2, 3],
        })
    };
    store.apply(1, &begins(7));
    let head = store.begin_export();
    store.apply(2, &begins(8));
    assert_eq!(store.begin_export().cluster, head.cluster);
    assert_eq!(head.cluster, 7);
}

// The configuration in force is that of the last entry that names one, with its index.
#[test]
fn the_configuration_follows_the_log() {
    let mut store = Store::default();
    assert_eq!(store.configuration(), None);
    for (index, voters) in [(1, 3), (2, 4)] {
        let members = Arc::new(Members::of_voters(1..=voters));
        store.apply(index, &Command::Members(Arc::clone(&members)));
        assert_eq!(store.configuration(), Some(&(index, members)));
    }
}

// What the state takes depends on nothing but the state: each key with its value, and what is beside them.
#[test]
fn live_bytes_are_those_of_the_state() {
    let mut store = Store::default();
    let beside = 24;
    apply(&mut store, None, set("key", "value"));
    assert_eq!(store.live_bytes(), 8 + beside);
    apply(&mut store, None, set("key2", ""));
    apply(&mut store, None, set("key", "v"));
    assert_eq!(store.live_bytes(), 4 + 4 + 2 * beside);
    apply(&mut store, None, Operation::Delete { key: "key2".into() });
    assert_eq!(store.live_bytes(), 4 + beside);
}

// Each operation does what it says and reports what it found.
#[test]
fn operations_and_what_they_find() {
    let mut store = Store::default();
    assert_eq!(store.apply(1, &Command::NoOp), Applied::Nothing);
    assert_eq!(
        apply(&mut store, None, set("k", "1")),
        fresh(WriteResult::Set)
    );
    assert_eq!(get(&store, "k").as_deref(), Some("1"));
    for (expected, swapped) in [(None, false), (Some("0"), false), (Some("1"), true)] {
        let applied = apply(&mut store, None, compare_and_set("k", expected, "2"));
        assert_eq!(applied, fresh(WriteResult::Swapped { swapped }));
    }
    for existed in [true, false] {
        let applied = apply(&mut store, None, Operation::Delete { key: "k".into() });
        assert_eq!(applied, fresh(WriteResult::Deleted { existed }));
    }
    assert_eq!(get(&store, "k"), None);
    let applied = apply(&mut store, None, compare_and_set("k", None, "3"));
    assert_eq!(applied, fresh(WriteResult::Swapped { swapped: true }));
    assert_eq!((store.key_count(), store.applied_index()), (1, 8));
}

// A gap in the log must never be applied over.
#[test]
#[should_panic(expected = "entry 2 applied after 0")]
fn a_gap_is_a_bug() {
    Store::default().apply(2, &Command::NoOp);
}

// A list pages through exactly the keys with the prefix, in byte order.
#[test]
fn list_pages_through_a_prefix() {
    let mut store = Store::default();
    for key in ["a", "b", "b/1", "b/2", "b/3", "b/\u{10ffff}", "c"] {
        apply(&mut store, None, set(key, "v"));
    }
    let all = ["b/1", "b/2", "b/3", "b/\u{10ffff}"].map(String::from);
    assert_eq!(list(&store, "b/", None, 10), (all.to_vec(), false));
    assert_eq!(list(&store, "b/", None, 2), (all[..2].to_vec(), true));
    assert_eq!(
        list(&store, "b/", Some("b/2"), 2),
        (all[2..].to_vec(), false)
    );
    assert_eq!(list(&store, "b/", Some("a"), 1), (all[..1].to_vec(), true));
    assert_eq!(list(&store, "b/", Some("c"), 10), (vec![], false));
    assert_eq!(list(&store, "", None, usize::MAX).0.len(), 7);
    assert_eq!(list(&store, "zz", None, 10), (vec![], false));
}

// A page stays below its bounds in entries and bytes, and paging on reaches every key.
#[test]
fn pages_are_bounded() {
    let mut store = Store::default();
    for number in 0..PAGE_ENTRIES_MAX + 5 {
        apply(&mut store, None, set(&format!("small/{number:05}"), ""));
    }
    let (keys, more) = list(&store, "small/", None, usize::MAX);
    assert_eq!((keys.len(), more), (PAGE_ENTRIES_MAX, true));

    // Four of these would fit in a message, but not with other replies beside them.
    let large = "x".repeat(1_000_000);
    for number in 0..9 {
        apply(&mut store, None, set(&format!("large/{number}"), &large));
    }
    let (mut seen, mut after) = (0, None::<String>);
    loop {
        let (keys, more) = list(&store, "large/", after.as_deref(), usize::MAX);
        assert_eq!(keys.len(), 3, "a page");
        seen += keys.len();
        after = keys.last().cloned();
        if !more {
            break;
        }
    }
    assert_eq!(seen, 9);
}

// What just fills a page is in it.
#[test]
fn a_page_is_filled_to_its_end() {
    let half = PAGE_BYTES_MAX / 2 - "k/1".len() - PAGE_ENTRY_OVERHEAD_BYTES;
    for (last, whole) in [(half, true), (half + 1, false)] {
        let mut store = Store::default();
        apply(&mut store, None, set("k/1", &"x".repeat(half)));
        apply(&mut store, None, set("k/2", &"x".repeat(last)));
        let (keys, more) = list(&store, "k/", None, 10);
        assert_eq!((keys.len() == 2, more), (whole, !whole));
    }
}

// A write that is sent again takes effect once and gets the first result, whatever was written
// between the two.
#[test]
fn a_resent_write_applies_once() {
    let mut store = Store::default();
    let first = apply(
        &mut store,
        request(7, 1, 0),
        compare_and_set("k", None, "1"),
    );
    assert_eq!(first, fresh(WriteResult::Swapped { swapped: true }));
    apply(
        &mut store,
        request(8, 1, 0),
        Operation::Delete { key: "k".into() },
    );
    let again = apply(
        &mut store,
        request(7, 1, 0),
        compare_and_set("k", None, "1"),
    );
    assert_eq!(again, resent(WriteResult::Swapped { swapped: true }));
    assert_eq!(get(&store, "k"), None);
}

// An id stands for one write: another one under it, of the same kind or not, does nothing and is
// told so, and the first one is still answered. A node that applies the same log later agrees.
#[test]
fn an_id_stands_for_one_write() {
    let writes = [
        set("k", "1"),
        set("k", "2"),
        set("l", "1"),
        Operation::Delete { key: "k".into() },
        Operation::Delete { key: "l".into() },
        compare_and_set("k", None, "1"),
        compare_and_set("k", Some("1"), "1"),
        compare_and_set("k", Some(""), "1"),
    ];
    for first in &writes {
        let (mut store, mut later) = (Store::default(), Store::default());
        apply(&mut store, None, set("l", "before"));
        let answer = apply(&mut store, request(7, 1, 0), first.clone());
        let Applied::Written { result, .. } = answer else {
            panic!("{answer:?}");
        };
        let state = [get(&store, "k"), get(&store, "l")];
        for other in &writes {
            let applied = apply(&mut store, request(7, 1, 0), other.clone());
            let expected = match other == first {
                true => resent(result),
                false => Applied::IdReused,
            };
            assert_eq!(applied, expected, "{first:?}, then {other:?}");
            assert_eq!([get(&store, "k"), get(&store, "l")], state);
        }
        apply(&mut later, None, set("l", "before"));
        apply(&mut later, request(7, 1, 0), first.clone());
        for other in writes.iter().filter(|other| *other != first) {
            let applied = apply(&mut later, request(7, 1, 0), other.clone());
            assert_eq!(applied, Applied::IdReused);
        }
    }
}

// A write that did nothing is as much of an answer as one that did: sent again when it would do
// something, it still does nothing and says so.
#[test]
fn a_resent_write_that_had_failed_fails_again() {
    let mut store = Store::default();
    apply(&mut store, None, set("k", "1"));
    let swap = || compare_and_set("k", Some("2"), "mine");
    let delete = || Operation::Delete { key: "gone".into() };
    let failed = fresh(WriteResult::Swapped { swapped: false });
    assert_eq!(apply(&mut store, request(7, 1, 0), swap()), failed);
    let nothing = fresh(WriteResult::Deleted { existed: false });
    assert_eq!(apply(&mut store, request(7, 2, 0), delete()), nothing);

    apply(&mut store, request(8, 1, 0), set("k", "2"));
    apply(&mut store, request(8, 2, 0), set("gone", "back"));
    let again = resent(WriteResult::Swapped { swapped: false });
    assert_eq!(apply(&mut store, request(7, 1, 0), swap()), again);
    let again = resent(WriteResult::Deleted { existed: false });
    assert_eq!(apply(&mut store, request(7, 2, 0), delete()), again);
    assert_eq!(get(&store, "k").as_deref(), Some("2"));
    assert_eq!(get(&store, "gone").as_deref(), Some("back"));
}

// The switch that lets a test show that it would notice a resend applied twice.
#[test]
fn the_mutation_applies_a_resend_twice() {
    let mut store = Store::default().mutated(Some(Mutation::ResendAppliedTwice));
    apply(&mut store, request(7, 1, 0), set("k", "1"));
    apply(&mut store, None, Operation::Delete { key: "k".into() });
    apply(&mut store, request(7, 1, 0), set("k", "1"));
    assert_eq!(get(&store, "k").as_deref(), Some("1"));
}

// Pipelined writes arrive in any order; a session tells the newest 256 apart and refuses what it
// no longer knows.
#[test]
fn a_session_keeps_a_window() {
    let mut store = Store::default();
    for sequence in (1..=SESSION_WINDOW as u64).rev() {
        let applied = apply(&mut store, request(7, sequence, 0), set("k", "v"));
        assert_eq!(applied, fresh(WriteResult::Set));
    }
    let oldest = apply(&mut store, request(7, 1, 0), set("k", "v"));
    assert_eq!(oldest, resent(WriteResult::Set));
    apply(&mut store, request(7, 257, 0), set("k", "v"));
    let dropped = apply(&mut store, request(7, 1, 0), set("k", "v"));
    assert_eq!(dropped, Applied::SessionExpired);
    let kept = apply(&mut store, request(7, 2, 0), set("k", "v"));
    assert_eq!(kept, resent(WriteResult::Set));
}

/// Uses as many sessions as there can be, so that those before are evicted.
fn crowd_out(store: &mut Store) {
    for client in 0..SESSIONS_MAX as u64 {
        let since = store.applied_index();
        let applied = apply(store, request(1_000_000 + client, 1, since), set("k", "v"));
        assert_eq!(applied, fresh(WriteResult::Set));
    }
    assert_eq!(store.session_count(), SESSIONS_MAX);
}

// After an eviction, a resend is refused and a new client is not.
#[test]
fn an_evicted_session_is_told_from_a_new_one() {
    let mut store = Store::default();
    apply(&mut store, request(7, 1, 0), set("k", "mine"));
    crowd_out(&mut store);
    let resend = apply(&mut store, request(7, 1, 0), set("k", "mine"));
    assert_eq!(resend, Applied::SessionExpired);
    assert_eq!(get(&store, "k").as_deref(), Some("v"));
    let newcomer = apply(&mut store, request(9, 1, 1), set("k", "new"));
    assert_eq!(newcomer, fresh(WriteResult::Set));
}

// An evicted client that goes on with newer writes gets a session again, but a write that it had
// sent before the eviction is still refused in it.
#[test]
fn a_session_made_anew_knows_what_it_cannot_know() {
    let mut store = Store::default();
    apply(&mut store, request(7, 1, 0), set("k", "first"));
    crowd_out(&mut store);
    let since = store.applied_index();
    let going_on = apply(&mut store, request(7, 2, since), set("k", "second"));
    assert_eq!(going_on, fresh(WriteResult::Set));
    let resend = apply(&mut store, request(7, 1, 0), set("k", "first"));
    assert_eq!(resend, Applied::SessionExpired);
    assert_eq!(get(&store, "k").as_deref(), Some("second"));
}

// A session in use is not the one that is evicted.
#[test]
fn the_least_recently_used_session_goes_first() {
    let mut store = Store::default();
    apply(&mut store, request(7, 1, 0), set("k", "v"));
    apply(&mut store, request(8, 1, 0), set("k", "v"));
    for client in 0..SESSIONS_MAX as u64 - 1 {
        let since = store.applied_index();
        apply(&mut store, request(7, 1, 0), set("k", "v"));
        apply(
            &mut store,
            request(1_000_000 + client, 1, since),
            set("k", "v"),
        );
    }
    let used = apply(&mut store, request(7, 1, 0), set("k", "v"));
    assert_eq!(used, resent(WriteResult::Set));
    let unused = apply(&mut store, request(8, 1, 0), set("k", "v"));
    assert_eq!(unused, Applied::SessionExpired);
}

// Whatever is sent again, in whatever order, with however many clients: nothing applies twice, a
// resend that is answered gets the first result, and the same log gives the same store.
#[test]
fn nothing_applies_twice() {
    for seed in 0..3 {
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut store, mut twin) = (Store::default(), Store::default());
        let mut sent: Vec<RequestId> = Vec::new();
        let mut first_results = HashMap::new();
        let (mut resends, mut refusals) = (0, 0);
        for _ in 0..40_000 {
            let again = !sent.is_empty() && random.random_ratio(1, 3);
            let id = if again {
                sent[random.random_range(0..sent.len())]
            } else {
                RequestId {
                    client_id: random.random_range(0..SESSIONS_MAX as u64 + 2_000),
                    sequence: sent.len() as u64 + 1,
                    since_index: store.applied_index(),
                }
            };
            if !again {
                sent.push(id);
            }
            let key = format!("{}/{}", id.client_id, id.sequence);
            let operation = compare_and_set(&key, None, "v");
            let applied = apply(&mut store, Some(id), operation.clone());
            assert_eq!(applied, apply(&mut twin, Some(id), operation));
            match applied {
                Applied::Written { result, resent } => {
                    let first = *first_results.entry(key).or_insert(result);
                    assert_eq!((result, resent), (first, resent), "seed {seed}: {id:?}");
                    assert_eq!(
                        result,
                        WriteResult::Swapped { swapped: true },
                        "seed {seed}"
                    );
                    resends += u64::from(resent);
                }
                Applied::SessionExpired => refusals += 1,
                Applied::IdReused => panic!("each id has its own key here"),
                Applied::Nothing => panic!("a write is not a no-op"),
            }
        }
        assert_eq!(store.key_count(), first_results.len());
        assert!(resends > 100 && refusals > 100, "{resends} {refusals}");
    }
}
