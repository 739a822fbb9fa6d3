//! Stories about quorum reads: they trust no clock, so here the old leader's stands still, and it
//! goes on leading as long as nobody tells it better.

use super::{MS, expect, three_nodes, world_with_leader};
use crate::oracle::Checked;
use crate::plan::Plan;
use crate::world::{Fate, World};
use checker::Kind;
use raft_node::engine::Consistency;
use raft_node::raft::{Message, Mutation, NodeId};

/// # A quorum read needs a majority, and one node less is none.
///
/// The old leader is left with one follower, the other three elect the next.
pub fn read_of_a_minority(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        clocks_in_bound: false,
        election_timeout_us: 300 * MS..=400 * MS,
        ..Plan::quiet(5)
    };
    let (mut world, old) = world_with_leader(plan, mutation)?;
    let others = world.others(old);
    for near in [old, others[0]] {
        for away in &others[1..] {
            world.network.cut(near, *away);
            world.network.cut(*away, near);
        }
    }
    world.stop_clock(old);
    let next = world.next_leader(old, 1_500)?;
    world.set(next, "new")?;
    unconfirmed_read(world, old)
}

/// # A quorum read is confirmed by heartbeats that were sent after it came, by no earlier ones.
///
/// Those of the time before the old leader was cut off are acknowledged late.
pub fn read_and_earlier_heartbeats(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        clocks_in_bound: false,
        ..three_nodes()
    };
    let (mut world, old) = world_with_leader(plan, mutation)?;
    let late = move |to: NodeId, message: &Message| {
        to == old && matches!(message, Message::AppendReply { .. })
    };
    world.filter = Some(Box::new(move |_, to, message| match late(to, message) {
        true => Fate::Delay(4_000 * MS),
        false => Fate::Pass,
    }));
    world.run_ms(350)?;
    world.filter = Some(Box::new(move |from, to, message| match message {
        _ if late(to, message) => Fate::Delay(4_000 * MS),
        _ if from == old || to == old => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.stop_clock(old);
    let next = world.next_leader(old, 1_500)?;
    world.set(next, "new")?;
    unconfirmed_read(world, old)
}

fn unconfirmed_read(mut world: World, old: NodeId) -> Checked {
    let get = world.ask_with(old, Kind::Get, Consistency::Quorum);
    world.run_ms(4_000)?;
    let answered = world.outcome(get).cloned();
    world.judge()?;
    expect(answered.is_none(), "nobody confirms the read")
}
