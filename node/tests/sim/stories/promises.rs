//! Stories about who has promised a lease to whom.

use super::{expect, three_nodes, world_with_leader};
use crate::oracle::Checked;
use crate::world::{Fate, World};
use checker::Kind;
use raft_node::raft::{Message, Mutation, NodeId};

/// # An append that is rejected is promised a lease like any other, because it counts for one.
///
/// The second leader has its lease by a follower that lacks an entry and says so. That follower is
/// then asked for its vote by the first leader, which stopped in good order and owes nothing.
pub fn rejected_append(mutation: Option<Mutation>) -> Checked {
    let (mut world, first) = world_with_leader(three_nodes(), mutation)?;
    let (second, behind) = (world.others(first)[0], world.others(first)[1]);
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::Append { entries, .. } if to == behind && !entries.is_empty() => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.set(first, "newer")?;
    world.run_ms(100)?; // The second knows that this is committed.
    let last = |world: &World, id: NodeId| {
        let running = world.machines[id as usize - 1].running.as_ref();
        running.map_or(0, |running| running.engine.raft().last_index())
    };
    let whole = last(&world, second);
    expect(last(&world, behind) < whole, "one lacks an entry")?;

    world.stop(first);
    let apart = move |from, to| (from, to) == (first, second) || (from, to) == (second, first);
    world.filter = Some(Box::new(move |from, to, message| match message {
        _ if apart(from, to) => Fate::Lose,
        Message::Append { base_index, .. } if from == second && *base_index < whole => Fate::Lose,
        _ => Fate::Pass,
    }));
    let leads = |id| move |world: &World| world.leader() == Some(id);
    world.until("the second leads", 1_500, leads(second))?;
    world.run_ms(10)?;
    expect(last(&world, behind) < whole, "it has accepted nothing")?;
    expect(world.read(second).is_some(), "a lease by a rejection")?;

    world.start(first)?;
    world.until("the first leads again", 2_000, leads(first))?;
    let value = "newest".into();
    let set = world.ask(first, Kind::Set { value });
    world.run_ms(200)?;
    expect(world.read(second).is_some(), "that lease lives")?;
    expect(world.outcome(set).is_none(), "the write is held back")?;
    let done = |world: &World| world.outcome(set).is_some();
    world.until("the write after the wait", 3_000, done)?;
    expect(world.read(second).is_none(), "that lease is over")?;
    world.judge()
}
