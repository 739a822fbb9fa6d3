//! How messages and connections come about in the world.

use crate::world::{Event, Fate, World};
use raft_node::command::{Command, FORMAT_MEMBERS};
use raft_node::engine::Input;
use raft_node::raft::{Message, Micros, NodeId};

const MS: Micros = 1_000;

impl World {
    /// A process sends to a node.
    pub(crate) fn send(&mut self, process: NodeId, to: NodeId, message: Message) {
        if !self.talks_with(process, to) {
            return self.coverage.count("messages lost or held", 1);
        }
        let from = self.node_of(process);
        let fate = match &mut self.filter {
            Some(filter) => filter(from, to, &message),
            None => Fate::Pass,
        };
        let extra_us = match fate {
            Fate::Pass => 0,
            Fate::Lose => return,
            Fate::Delay(extra_us) => extra_us,
        };
        let now = self.now;
        let behind = self.network.is_busy(from, to, now);
        self.coverage
            .count("messages behind others", u64::from(behind));
        let arrivals = self.network.send(now, from, to, &message, extra_us);
        match arrivals.len() {
            0 => self.coverage.count("messages lost or held", 1),
            1 => {}
            _ => self.coverage.count("messages doubled", 1),
        }
        for arrival in arrivals {
            let event = Event::Arrive {
                from,
                to,
                epoch: arrival.epoch,
                message: message.clone(),
            };
            self.schedule(arrival.at_us - now, event);
        }
    }

    pub(crate) fn on_arrival(&mut self, from: NodeId, to: NodeId, epoch: u64, message: Message) {
        if !self.network.is_current(from, to, epoch) {
            return;
        }
        self.trace.message(self.now, from, to, &message);
        if format_in(&message) > self.machine(to).reads_format {
            // Nonsense to that version: it closes the connection.
            return self.break_connection(from, to);
        }
        let to = self.process_for(from, to);
        self.hand(to, Input::Received { from, message });
    }

    /// The two try to connect, if they can.
    pub(crate) fn connect(&mut self, a: NodeId, b: NodeId) {
        let up = |world: &mut World, id| world.machine(id).running.is_some();
        if up(self, a) && up(self, b) && self.network.connect(a, b) {
            self.notify(a, b, true);
            self.notify(b, a, true);
        }
    }

    /// The connection of the two is found broken, and what was under way is lost.
    pub fn break_connection(&mut self, a: NodeId, b: NodeId) {
        if !self.network.disconnect(a, b) {
            return;
        }
        self.coverage.count("broken connections", 1);
        self.trace
            .say(self.now, || format!("n{a} and n{b} lose their connection"));
        self.network.lose(a, b);
        self.network.lose(b, a);
        self.notify(a, b, false);
        self.notify(b, a, false);
        let after_us = self.random.within(MS..=100 * MS);
        self.schedule(after_us, Event::Reconnect { a, b });
    }

    /// A dead process: its peers see the end of the stream after what it had sent, if the wire is
    /// whole; what was under way to it is lost.
    pub(crate) fn lose_connection_of_dead(&mut self, dead: NodeId, other: NodeId) {
        self.network.disconnect(dead, other);
        self.network.lose(other, dead);
        // Now and then a whole machine dies, and nobody says so.
        if !self.network.is_cut(dead, other) && !self.random.percent(15) {
            self.notify(other, dead, false);
        }
    }

    fn notify(&mut self, to: NodeId, peer: NodeId, connected: bool) {
        let life = self.machine(to).life;
        let now = self.now;
        let arrival = self.network.in_order(now, peer, to);
        let event = Event::Notice {
            to,
            life,
            peer,
            connected,
        };
        self.schedule(arrival.at_us - now, event);
    }

    pub(crate) fn on_notice(&mut self, to: NodeId, life: u64, peer: NodeId, connected: bool) {
        if self.machine(to).life != life {
            return;
        }
        let input = match connected {
            true => Input::Connected {
                peer,
                reads_format: self.machine(peer).reads_format,
            },
            false => Input::Disconnected { peer },
        };
        self.trace.say(self.now, || format!("n{to} {input:?}"));
        self.hand(to, input);
        if connected {
            self.hear_greeting(to, peer);
        }
    }

    /// Cuts one direction, silently at first.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.network.cut(from, to);
        if self.random.percent(50) {
            let after_us = self.random.within(50 * MS..=3_000 * MS);
            self.schedule(after_us, Event::Break { a: from, b: to });
        }
    }

    /// A connection that is cut still may be found dead by a keepalive.
    pub(crate) fn on_break(&mut self, a: NodeId, b: NodeId) {
        if self.network.is_cut(a, b) || self.network.is_cut(b, a) {
            self.break_connection(a, b);
        }
    }

    /// Takes a cut back. What was held comes through now, late.
    pub fn heal(&mut self, from: NodeId, to: NodeId) {
        let now = self.now;
        for message in self.network.heal(from, to) {
            self.coverage.count("messages held and delivered late", 1);
            let arrival = self.network.carry(now, from, to, &message, 0);
            let event = Event::Arrive {
                from,
                to,
                epoch: arrival.epoch,
                message,
            };
            self.schedule(arrival.at_us - now, event);
        }
        self.connect(from, to);
    }
}

/// The newest format that an append takes its receiver's log to.
fn format_in(message: &Message) -> u64 {
    let Message::Append { entries, .. } = message else {
        return 0;
    };
    let formats = entries.iter().map(|entry| match &*entry.command {
        Command::Format(format) => format.version,
        Command::Members(_) => FORMAT_MEMBERS,
        Command::NoOp | Command::Write(_) => 0,
    });
    formats.max().unwrap_or(0)
}
