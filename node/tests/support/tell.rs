//! How messages, entries and events are told where a test shows a conversation as text.

use raft_node::raft::{AppendOutcome, Entry, Event, Message};
use raft_node::wal::write_words;

/// A message, in one line.
pub fn tell_message(message: &Message) -> String {
    match message {
        Message::Append {
            term,
            base_index,
            base_term,
            entries,
            commit_index,
            sequence,
            ..
        } => {
            let entries: Vec<String> = entries.iter().map(tell_entry).collect();
            format!(
                "Append term={term} base={base_index}@{base_term} [{}] commit={commit_index} \
                 sequence={sequence}",
                entries.join(", ")
            )
        }
        Message::AppendReply {
            term,
            sequence,
            outcome,
        } => {
            let outcome = match outcome {
                AppendOutcome::Accepted { match_index } => format!("match={match_index}"),
                AppendOutcome::Rejected {
                    conflict_index,
                    conflict_term: Some(term),
                } => format!("conflict={conflict_index}@{term}"),
                AppendOutcome::Rejected {
                    conflict_index,
                    conflict_term: None,
                } => format!("conflict={conflict_index}"),
            };
            format!("AppendReply term={term} sequence={sequence} {outcome}")
        }
        // Where nodes have no names there is nothing to tell of them.
        other => format!("{other:?}")
            .replace(", incarnation: 0", "")
            .replace(", owed: Owed { promises: None, ended: [] }", ""),
    }
}

/// An event, in one line.
pub fn tell_event(event: &Event) -> String {
    match event {
        Event::Committed { entry, as_leader } => {
            let role = if *as_leader { "leader" } else { "follower" };
            format!("commits as {role} {}", tell_entry(entry))
        }
        other => format!("{other:?}"),
    }
}

/// An entry: `index@term` and what it does, as its line in logs.txt begins.
fn tell_entry(entry: &Entry) -> String {
    let mut words = Vec::new();
    write_words(&entry.command, &mut words);
    let words = String::from_utf8(words).expect("the log is text");
    format!("{}@{} {words}", entry.index, entry.term)
}
