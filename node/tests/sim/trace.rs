//! The conversation as text, kept only where somebody wants to read it or compare it.

use crate::tell::{tell_event, tell_message};
use raft_node::engine::Effects;
use raft_node::raft::{Event, Message, Micros, NodeId};
use std::hash::{DefaultHasher, Hash, Hasher};

/// See the module.
#[derive(Debug, Default)]
pub enum Trace {
    /// Nothing is kept.
    #[default]
    Off,
    /// All lines.
    Lines(Vec<String>),
    /// A sum over all lines.
    Digest(DefaultHasher),
}

impl Trace {
    /// A line, told only where it is wanted.
    pub fn say(&mut self, now: Micros, line: impl FnOnce() -> String) {
        match self {
            Trace::Off => {}
            Trace::Lines(lines) => {
                let ms = format!("{}.{:03}", now / 1_000, now % 1_000);
                lines.push(format!("{ms:>10} {}", line()));
            }
            Trace::Digest(hasher) => (now, line()).hash(hasher),
        }
    }

    /// A message that has come to its receiver.
    pub fn message(&mut self, now: Micros, from: NodeId, to: NodeId, message: &Message) {
        self.say(now, || {
            format!("n{from} -> n{to} {}", tell_message(message))
        });
    }

    /// What a step of a node came to, beside messages.
    pub fn step(&mut self, now: Micros, id: NodeId, effects: &Effects) {
        if matches!(self, Trace::Off) {
            return;
        }
        for event in &effects.events {
            if !matches!(
                event,
                Event::HeartbeatSent { .. } | Event::AppendAccepted { .. }
            ) {
                self.say(now, || format!("n{id} {}", tell_event(event)));
            }
        }
        if let Some(work) = &effects.disk {
            let (ticket, bytes) = (work.ticket, work.append.len());
            let cut = work
                .truncate_to
                .map_or(String::new(), |to| format!(" cut to {to},"));
            let metadata = if work.metadata.is_some() {
                ", metadata"
            } else {
                ""
            };
            self.say(now, || {
                format!("n{id} disk #{ticket}:{cut} {bytes} bytes{metadata}")
            });
        }
    }

    /// Prints what was kept.
    pub fn print(&self) {
        if let Trace::Lines(lines) = self {
            lines.iter().for_each(|line| crate::runner::tell(line));
        }
    }

    /// A number that differs where traces differ.
    pub fn digest(&self) -> u64 {
        match self {
            Trace::Digest(hasher) => hasher.finish(),
            Trace::Off | Trace::Lines(_) => 0,
        }
    }
}
