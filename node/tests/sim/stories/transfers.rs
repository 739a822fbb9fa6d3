//! Stories about handing leadership over.

use super::{MS, expect, three_nodes, world_with_leader};
use crate::oracle::Checked;
use crate::world::Fate;
use checker::Kind;
use raft_node::raft::{Message, Mutation};

/// # Who hands leadership over gives its lease up before the other can know.
///
/// The old leader hears nothing any more, so nobody but itself can end its lease.
pub fn stale_read_after_transfer(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::Vote { .. } | Message::Append { .. } if to == old => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.transfer(old, None);
    let next = world.next_leader(old, 500)?;
    let set = world.ask(
        next,
        Kind::Set {
            value: "new".into(),
        },
    );
    world.until("a commit without a wait", 100, |world| {
        world.outcome(set).is_some()
    })?;
    expect(world.read(old).is_none(), "the old leader has no lease")?;
    world.judge()
}

/// # The word to take over comes late, when another leads already.
pub fn late_word_to_take_over(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    let target = world.others(old)[0];
    world.filter = Some(Box::new(move |_, _, message| match message {
        Message::TimeoutNow { .. } => Fate::Delay(900 * MS),
        _ => Fate::Pass,
    }));
    world.transfer(old, Some(target));
    world.run_ms(100)?;
    expect(world.read(old).is_none(), "given up for good")?;
    world.until("somebody leads again", 5_000, |world| {
        world.lease_holder().is_some()
    })?;
    world.run_ms(2_000)?;
    let leader = world.leader().unwrap_or(old);
    world.set(leader, "new")?;
    world.judge()
}
