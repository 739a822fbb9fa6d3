//! History files: what is written is read, and whatever is wrong is told with its line.

mod support;

use checker::{
    History, HistoryWriter, Kind, Operation, OperationError, Outcome, ReadError, read_history,
    write_history,
};
use support::generate::{Profile, linearizable};
use support::{cas, delete, get, history, lost_cas, set};

fn written(history: &History) -> String {
    let mut file = Vec::new();
    write_history(history, &mut file).unwrap();
    String::from_utf8(file).unwrap()
}

fn read(text: &str) -> Result<History, ReadError> {
    read_history(text.as_bytes())
}

fn told(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn example() -> History {
    history(vec![
        set(1, 10, 25, "v"),
        get(2, 12, 30, None),
        delete(1, 40, 44, true),
        lost_cas(2, 41, Some("v"), "w"),
        cas(3, 50, 51, None, "quote \" and\nline", false),
    ])
}

// The format is a promise: a file of today is read by a program of tomorrow.
#[test]
fn the_format_is_fixed() {
    let expected = r#"{"history":"raft-kv","version":1}
{"client":1,"call_us":10,"return_us":25,"key":"k","kind":{"set":{"value":"v"}},"outcome":"written"}
{"client":2,"call_us":12,"return_us":30,"key":"k","kind":"get","outcome":{"read":null}}
{"client":1,"call_us":40,"return_us":44,"key":"k","kind":"delete","outcome":{"existed":true}}
{"client":2,"call_us":41,"return_us":null,"key":"k","kind":{"compare_and_set":{"expected":"v","value":"w"}},"outcome":"unknown"}
{"client":3,"call_us":50,"return_us":51,"key":"k","kind":{"compare_and_set":{"expected":null,"value":"quote \" and\nline"}},"outcome":{"swapped":false}}
{"operations":5}
"#;
    assert_eq!(written(&example()), expected);
}

// What was written is what is read, for every kind of operation.
#[test]
fn a_round_trip_changes_nothing() {
    let profile = Profile {
        clients: 5,
        keys: 3,
        operations: 500,
        values: Some(20),
        unknown_percent: 10,
        get_percent: 40,
    };
    for history in [example(), History::new(), linearizable(profile, 1)] {
        assert_eq!(read(&written(&history)).unwrap(), history);
    }
}

// A file without its end is never taken for a whole one, wherever it was cut.
#[test]
fn a_cut_off_file_is_refused() {
    let text = written(&example());
    let header = text.find('\n').unwrap() + 1;
    for end in header..text.len() - 1 {
        match read(&text[..end]) {
            Err(ReadError::CutOff { .. }) => {}
            // The last line lacks nothing but its line break.
            Ok(history) => assert_eq!((history, end), (example(), text.len() - 1)),
            other => panic!("cut at {end}: {other:?}"),
        }
    }
    let cut = &text[..text.find(r#"{"operations""#).unwrap()];
    assert!(told(cut).starts_with("the history is cut off after 5 operations"));
}

// Whatever else is wrong is told with its line and what to do.
#[test]
fn errors_name_the_line() {
    let text = written(&example());
    assert!(told("").starts_with("this is not a history file"));
    assert!(told("SET name1 Jaggu 1\n").starts_with("this is not a history file"));
    let newer = text.replace("\"version\":1", "\"version\":2");
    assert!(told(&newer).contains("version 2 is not known"));
    let misspelt = text.replace("call_us\":12", "called\":12");
    assert!(told(&misspelt).starts_with("line 3: not an operation: unknown field `called`"));
    let wrong = text.replace(r#"{"existed":true}"#, r#""written""#);
    assert!(told(&wrong).starts_with("line 4: a delete cannot have the outcome written"));
    let backwards = text.replace("\"return_us\":25", "\"return_us\":5");
    assert!(told(&backwards).starts_with("line 2: returned at 5 us, before its call at 10 us"));
    let endless = text.replace("\"return_us\":30", "\"return_us\":null");
    assert!(told(&endless).starts_with("line 3: the outcome read needs a return time"));
    let fewer = text.replace("\"operations\":5", "\"operations\":6");
    assert!(told(&fewer).contains("says 6 operations, but there are 5"));
    let more = format!("{text}\n");
    assert!(told(&more).starts_with("line 8: nothing may follow"));
}

// A line without an end does not fill the memory.
#[test]
fn an_endless_line_is_refused() {
    let text = format!(
        "{{\"history\":\"raft-kv\",\"version\":1}}\n{}",
        " ".repeat(17 << 20)
    );
    assert!(matches!(
        read(&text),
        Err(ReadError::LineTooLong { line: 2 })
    ));
}

// An operation that makes no sense is refused before anything of it is written.
#[test]
fn nonsense_is_not_recorded() {
    let nonsense = Operation {
        kind: Kind::Get,
        outcome: Outcome::Swapped(true),
        ..set(1, 0, 1, "a")
    };
    let mut file = HistoryWriter::new(Vec::new()).unwrap();
    assert!(file.write(&nonsense).is_err());
    file.write(&set(1, 0, 1, "a")).unwrap();
    let text = String::from_utf8(file.finish().unwrap()).unwrap();
    assert_eq!(read(&text).unwrap(), history(vec![set(1, 0, 1, "a")]));

    let mut history = History::new();
    let refused = OperationError::WrongOutcome {
        kind: "get",
        outcome: "swapped",
    };
    assert_eq!(history.push(nonsense), Err(refused));
    assert!(history.is_empty());
}
