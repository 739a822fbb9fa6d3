//! What an operator reads when a history is not linearizable.

mod support;

use support::{cas, delete, get, history, lost_set, set, verdict_of};

fn told(operations: Vec<checker::Operation>) -> String {
    let verdict = verdict_of(&history(operations));
    verdict.counter_example().unwrap().to_string()
}

// The table has all that matters and nothing else; the last sentence says what is impossible.
#[test]
fn a_stale_read() {
    let text = told(vec![
        set(1, 0, 900, "v1"),
        set(2, 1_000, 2_500, "v2"),
        get(4, 2_600, 2_700, Some("v2")),
        get(11, 3_000, 1_003_000, Some("v1")),
        set(1, 2_000_000, 2_000_900, "v3"),
    ]);
    let expected = r#"
key "k": stale read: a value was seen after it had been overwritten (or its write took effect twice)
  #  client    called     returned  operation  outcome
  1       1  0.000 ms     0.900 ms  set "v1"   written (*)
  2       2  1.000 ms     2.500 ms  set "v2"   written
  3      11  3.000 ms  1003.000 ms  get        "v1"
(*) tells where a value may have come from; its own outcome does not matter
The best order is 1, 2: then the key holds "v2", but 3 saw "v1".
"#;
    assert_eq!(text, expected.trim());
}

// A write of unknown outcome has no return.
#[test]
fn an_unknown_write_that_took_effect_twice() {
    let text = told(vec![
        lost_set(2, 100, "v2"),
        get(3, 1_000, 1_100, Some("v2")),
        cas(4, 1_200, 1_300, Some("v2"), "v3", true),
        get(5, 1_400, 1_500, Some("v2")),
    ]);
    let expected = r#"
key "k": stale read: a value was seen after it had been overwritten (or its write took effect twice)
  #  client    called  returned  operation           outcome
  1       2  0.100 ms     never  set "v2"            unknown (*)
  2       4  1.200 ms  1.300 ms  swap "v2" for "v3"  swapped
  3       5  1.400 ms  1.500 ms  get                 "v2"
(*) tells where a value may have come from; its own outcome does not matter
The best order is 1, 2: then the key holds "v3", but 3 saw "v2".
"#;
    assert_eq!(text, expected.trim());
}

// Absence is told in words.
#[test]
fn a_lost_write() {
    let text = told(vec![
        set(1, 0, 900, "v1"),
        cas(4, 1_200, 1_300, None, "v3", true),
    ]);
    let expected = r#"
key "k": wrong swap: a compare-and-set was answered wrongly
  #  client    called  returned  operation               outcome
  1       1  0.000 ms  0.900 ms  set "v1"                written
  2       4  1.200 ms  1.300 ms  swap no value for "v3"  swapped
The best order is 1: then the key holds "v1", but 2 found no value.
"#;
    assert_eq!(text, expected.trim());
}

// Whatever a value holds, a row stays a row.
#[test]
fn awkward_values_stay_on_their_line() {
    let long = "x".repeat(5_000);
    let text = told(vec![
        set(1, 0, 1, "line\nbreak \"and\" quotes"),
        delete(2, 2, 3, true),
        get(3, 4, 5, Some(&long)),
    ]);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains(r#""xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".. (5000 characters)"#));
    let text = told(vec![
        set(1, 0, 1, "line\nbreak \"and\" quotes"),
        delete(2, 2, 3, false),
    ]);
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.contains(r#"set "line\nbreak \"and\" quotes""#));
}
