//! By how much the clocks of the hosts were apart.
//!
//! A message is not received before it was sent. So what passes from node a to node b bounds how far b's
//! clock was ahead of a's from above, and what passes from b to a bounds it from below. All such bounds
//! together, along every way between two nodes, give the tightest ones; the middle is what the picture is
//! drawn with, and half the width is what stays unknown.
//!
//! A clock is taken to be wrong by the same amount through the whole record.
//!
//! Nodes of one machine have one clock, and nothing is left to be found out: messages of a young cluster, which has not
//! sent many, would put their lanes apart by as much as a heartbeat.

use std::collections::BTreeMap;

use super::record::Record;
use super::{Micros, Node};

/// How far each clock was ahead of that of the reference, and how sure that is.
#[derive(Debug, Default)]
pub struct Clocks {
    is_one: bool,
    reference: Option<Node>,
    of: BTreeMap<Node, Clock>,
}

/// One node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Ahead of the reference.
    pub ahead_us: Micros,
    /// At most so much more or less; `None`: no two messages say.
    pub unsure_us: Option<Micros>,
}

const EXACT: Clock = Clock {
    ahead_us: 0,
    unsure_us: Some(0),
};

/// How far the second clock may be ahead of the first at most.
type Bounds = BTreeMap<(Node, Node), Micros>;

impl Clocks {
    /// The one clock of nodes that ran on one machine.
    pub fn one(nodes: impl Iterator<Item = Node>) -> Clocks {
        Clocks {
            is_one: true,
            reference: None,
            of: nodes.map(|node| (node, EXACT)).collect(),
        }
    }

    /// Whether all nodes have the same clock, and none had to be compared.
    pub fn is_one(&self) -> bool {
        self.is_one
    }

    /// Compares the clocks of all nodes that have a record.
    pub fn compare(records: &BTreeMap<Node, Record>) -> Clocks {
        let nodes: Vec<Node> = records.keys().copied().collect();
        let mut bounds = Bounds::new();
        for (leader, of_leader) in records {
            for (follower, of_follower) in records {
                if leader != follower {
                    bound(&mut bounds, (*leader, of_leader), (*follower, of_follower));
                }
            }
        }
        tighten(&mut bounds, &nodes);
        // Whoever exchanged messages with most.
        let met = |node: &Node| bounds.keys().filter(|(from, _)| from == node).count();
        let reference = nodes.iter().copied().rev().max_by_key(met);
        let of = nodes
            .iter()
            .map(|node| (*node, clock(&bounds, reference, *node)));
        Clocks {
            is_one: false,
            reference,
            of: of.collect(),
        }
    }

    /// How far a node's clock is taken to be ahead.
    pub fn ahead_us(&self, node: Node) -> Micros {
        self.of.get(&node).map_or(0, |clock| clock.ahead_us)
    }

    /// What is known of a node's clock.
    pub fn of(&self, node: Node) -> Option<Clock> {
        self.of.get(&node).copied()
    }

    /// The node whose clock the others are compared with.
    pub fn reference(&self) -> Option<Node> {
        self.reference
    }

    /// By how much moments of two nodes may be apart in truth and seem to be in the other order; `None`:
    /// not known.
    pub fn unsure_us(&self, one: Node, other: Node) -> Option<Micros> {
        if one == other {
            return Some(0);
        }
        let of = |node| self.of(node)?.unsure_us;
        Some(of(one)? + of(other)?)
    }
}

/// What the messages between a leader and one follower say.
fn bound(bounds: &mut Bounds, leader: (Node, &Record), follower: (Node, &Record)) {
    let (leader, of_leader) = leader;
    let (follower, of_follower) = follower;
    let mut accepted: BTreeMap<(u64, u64), Micros> = BTreeMap::new();
    for append in &of_follower.accepted {
        if append.leader == leader {
            accepted.insert((append.term, append.sequence), append.at);
        }
    }
    let mut rounds: BTreeMap<(u64, u64), Micros> = BTreeMap::new();
    for round in &of_leader.rounds {
        rounds.insert((round.term, round.sequence), round.at);
        let Some((_, newest)) = round
            .acknowledged
            .iter()
            .find(|(peer, _)| *peer == follower)
        else {
            continue;
        };
        // The answer to this append, or to an earlier one, was here when the round began.
        let key = (round.term, *newest);
        let answered = accepted.range((round.term, 0)..=key).next_back();
        if let Some((_, at)) = answered.filter(|_| *newest > 0) {
            note(bounds, (follower, leader), round.at - at);
        }
    }
    for ((term, sequence), at) in &accepted {
        // The append left after the round of its sequence had begun.
        let sent = rounds.range((*term, 0)..=(*term, *sequence)).next_back();
        if let Some((_, sent)) = sent {
            note(bounds, (leader, follower), at - sent);
        }
    }
}

fn note(bounds: &mut Bounds, way: (Node, Node), ahead_us: Micros) {
    let bound = bounds.entry(way).or_insert(ahead_us);
    *bound = (*bound).min(ahead_us);
}

/// Bounds add up along a way (Floyd and Warshall's shortest paths).
fn tighten(bounds: &mut Bounds, nodes: &[Node]) {
    for by in nodes {
        for from in nodes {
            for to in nodes {
                let first = bounds.get(&(*from, *by)).copied();
                let second = bounds.get(&(*by, *to)).copied();
                if let (Some(first), Some(second)) = (first, second)
                    && from != to
                    && by != from
                    && by != to
                {
                    note(bounds, (*from, *to), first + second);
                }
            }
        }
    }
}

fn clock(bounds: &Bounds, reference: Option<Node>, node: Node) -> Clock {
    let Some(reference) = reference.filter(|reference| *reference != node) else {
        return EXACT;
    };
    let most = bounds.get(&(reference, node)).copied();
    let least = bounds.get(&(node, reference)).map(|bound| -bound);
    match (least, most) {
        (Some(least), Some(most)) => Clock {
            ahead_us: i64::midpoint(least, most),
            // Where they contradict each other, a clock was set meanwhile.
            unsure_us: Some((most - least).abs() / 2 + 1),
        },
        _ => Clock {
            ahead_us: 0,
            unsure_us: None,
        },
    }
}
