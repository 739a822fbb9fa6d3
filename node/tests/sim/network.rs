//! The wires between the nodes: who hears whom, and when.
//!
//! As *streams*, messages of a link come in order; a cut link holds them, until it heals or the
//! connection breaks; a narrow one takes time for each byte. As *datagrams*, each message is lost,
//! doubled or late on its own.

use crate::plan::NetworkPlan;
use crate::random::Random;
use raft_node::raft::{Message, Micros, NodeId};

/// Messages that a cut stream holds; further ones are lost.
const HELD_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Network {
    plan: NetworkPlan,
    random: Random,
    nodes: usize,
    links: Vec<Link>,
    /// By unordered pair, in the place of the smaller one's link.
    connected: Vec<bool>,
    /// No more loss and delay: the faults are over.
    pub calm: bool,
}

#[derive(Debug, Default)]
struct Link {
    cuts: u32,
    extra_us: Micros,
    held: Vec<Message>,
    last_arrival_us: Micros,
    /// Until then what was sent before is still on its way into the wire.
    busy_until_us: Micros,
    epoch: u64,
}

/// When a message arrives, on which connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrival {
    /// True time.
    pub at_us: Micros,
    /// Of the connection: when it has passed, the message is lost.
    pub epoch: u64,
}

impl Network {
    /// All wires are whole, none is connected.
    pub fn new(plan: NetworkPlan, nodes: usize, seed: u64) -> Self {
        Network {
            plan,
            random: Random::new(seed, 2),
            nodes,
            links: (0..nodes * nodes).map(|_| Link::default()).collect(),
            connected: vec![false; nodes * nodes],
            calm: false,
        }
    }

    fn at(&self, from: NodeId, to: NodeId) -> usize {
        (from as usize - 1) * self.nodes + to as usize - 1
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let at = self.at(from, to);
        &mut self.links[at]
    }

    /// Takes a message. Returns its arrivals: none, one or two.
    pub fn send(
        &mut self,
        now: Micros,
        from: NodeId,
        to: NodeId,
        message: &Message,
        extra_us: Micros,
    ) -> Vec<Arrival> {
        let is_cut = self.is_cut(from, to);
        let extra_us = extra_us + self.link(from, to).extra_us;
        if self.plan.streams {
            if !self.is_connected(from, to) {
                return Vec::new();
            }
            let link = self.link(from, to);
            if is_cut {
                if link.held.len() < HELD_MAX {
                    link.held.push(message.clone());
                }
                return Vec::new();
            }
            return vec![self.carry(now, from, to, message, extra_us)];
        }
        if is_cut || (!self.calm && self.random.percent(self.plan.loss_percent)) {
            return Vec::new();
        }
        let twice = !self.calm && self.random.percent(self.plan.duplicate_percent);
        let epoch = self.link(from, to).epoch;
        let copies = 1 + usize::from(twice);
        (0..copies)
            .map(|_| Arrival {
                at_us: now + extra_us + self.delay_us(),
                epoch,
            })
            .collect()
    }

    /// The arrival of a message on a link that keeps the order: behind what is sent already, and
    /// the later the longer it is.
    pub fn carry(
        &mut self,
        now: Micros,
        from: NodeId,
        to: NodeId,
        message: &Message,
        extra_us: Micros,
    ) -> Arrival {
        let bandwidth = self.plan.bytes_per_second;
        let takes_us =
            bandwidth.map_or(0, |per_second| size_bytes(message) * 1_000_000 / per_second);
        let link = self.link(from, to);
        link.busy_until_us = now.max(link.busy_until_us) + takes_us;
        let sent_us = link.busy_until_us;
        self.in_order(sent_us + extra_us, from, to)
    }

    /// Whether what was sent before is still on its way into the wire.
    pub fn is_busy(&self, from: NodeId, to: NodeId, now: Micros) -> bool {
        self.links[self.at(from, to)].busy_until_us > now
    }

    /// The next arrival on a link that keeps the order.
    pub fn in_order(&mut self, now: Micros, from: NodeId, to: NodeId) -> Arrival {
        let at_us = now + self.delay_us();
        let link = self.link(from, to);
        link.last_arrival_us = at_us.max(link.last_arrival_us + 1);
        Arrival {
            at_us: link.last_arrival_us,
            epoch: link.epoch,
        }
    }

    fn delay_us(&mut self) -> Micros {
        let slow = !self.calm && self.random.percent(self.plan.slow_percent);
        match slow {
            true => self.random.within(self.plan.slow_us.clone()),
            false => self.random.within(self.plan.delay_us.clone()),
        }
    }

    /// Whether a message on a connection of this epoch still arrives.
    pub fn is_current(&self, from: NodeId, to: NodeId, epoch: u64) -> bool {
        self.links[self.at(from, to)].epoch == epoch
    }

    /// From now on each direction of a stream carries so much; `None`: anything at once.
    pub fn narrow(&mut self, bytes_per_second: Option<u64>) {
        self.plan.bytes_per_second = bytes_per_second;
    }

    /// From now on what passes in this direction takes so much more.
    pub fn slow(&mut self, from: NodeId, to: NodeId, extra_us: Micros) {
        self.link(from, to).extra_us = extra_us;
    }

    /// Cuts one direction once more.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.link(from, to).cuts += 1;
    }

    /// Takes one cut back. What was held is returned when the way is free.
    pub fn heal(&mut self, from: NodeId, to: NodeId) -> Vec<Message> {
        let link = self.link(from, to);
        link.cuts = link.cuts.saturating_sub(1);
        match link.cuts {
            0 => std::mem::take(&mut link.held),
            _ => Vec::new(),
        }
    }

    /// Whether nothing passes in this direction.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.links[self.at(from, to)].cuts > 0
    }

    /// Whether the two hold a connection.
    pub fn is_connected(&self, a: NodeId, b: NodeId) -> bool {
        self.connected[self.at(a.min(b), a.max(b))]
    }

    /// The two get a connection. False: they have one, or the way is not free.
    pub fn connect(&mut self, a: NodeId, b: NodeId) -> bool {
        if self.is_connected(a, b) || self.is_cut(a, b) || self.is_cut(b, a) {
            return false;
        }
        let at = self.at(a.min(b), a.max(b));
        self.connected[at] = true;
        true
    }

    /// The connection between the two is gone. False: there was none.
    pub fn disconnect(&mut self, a: NodeId, b: NodeId) -> bool {
        let at = self.at(a.min(b), a.max(b));
        std::mem::replace(&mut self.connected[at], false)
    }

    /// What is under way and held in this direction is lost.
    pub fn lose(&mut self, from: NodeId, to: NodeId) {
        let link = self.link(from, to);
        link.epoch += 1;
        link.held.clear();
        link.busy_until_us = 0;
    }
}

/// What a message takes on the wire, roughly.
fn size_bytes(message: &Message) -> u64 {
    const FIXED: u64 = 100;
    match message {
        Message::Append { entries, .. } => {
            let sizes = entries
                .iter()
                .map(|entry| entry.command.size_bytes() as u64);
            FIXED + sizes.sum::<u64>()
        }
        Message::InstallSnapshot { data, .. } => FIXED + data.len() as u64,
        _ => FIXED,
    }
}
