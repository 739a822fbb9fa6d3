//! Stories about handing leadership over.

use super::{MS, expect, three_nodes, world_with_leader};
use crate::oracle::Checked;
use crate::plan::{NetworkPlan, Plan};
use crate::world::{Fate, World};
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

/// # Leadership may be handed over again and again: what one leader gave up is waited for by none of those that
/// follow, within the time of that lease too. A later leader that is cut off is waited for.
pub fn handed_over_and_over(mutation: Option<Mutation>) -> Checked {
    let (mut world, first) = world_with_leader(three_nodes(), mutation)?;
    let others = world.others(first);
    let mut leader = first;
    for next in [others[0], others[1], first, others[1]] {
        world.transfer(leader, Some(next));
        let leads = move |world: &World| world.leader() == Some(next);
        world.until("the next one leads", 100, leads)?;
        let value = format!("of {next}");
        let set = world.ask(next, Kind::Set { value });
        let done = |world: &World| world.outcome(set).is_some();
        world.until("a commit without a wait", 100, done)?;
        leader = next;
    }
    world.until("a lease", 100, |world| world.lease_holder() == Some(leader))?;
    world.isolate(leader);
    let next = world.next_leader(leader, 1_500)?;
    let value = "last".into();
    let set = world.ask(next, Kind::Set { value });
    world.run_ms(100)?;
    expect(world.read(leader).is_some(), "the last lease lives")?;
    let done = |world: &World| world.outcome(set).is_some();
    world.until("the write after the wait", 2_500, done)?;
    world.judge()
}

/// # Who hands leadership over to anybody hands it to one who answers, not to one that stands still
/// and seems to be connected; where nobody answers it does not wait long.
pub fn frozen_follower(mutation: Option<Mutation>) -> Checked {
    for frozen in 0..2 {
        let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
        let others = world.others(old);
        let point = crate::fault::PausePoint::BeforeClock;
        world.run_ms(200)?;
        world.pause(others[frozen], 5_000 * MS, point)?;
        world.transfer(old, None);
        let next = world.next_leader(old, 50)?;
        expect(next == others[1 - frozen], "the one that answers")?;
        world.set(next, "new")?;
        world.pause(old, 5_000 * MS, point)?;
        world.run_ms(50)?;
        world.transfer(next, None);
        world.run_ms(20)?;
        let ask = |world: &mut World| world.ask(next, Kind::Set { value: "no".into() });
        let refused = ask(&mut world);
        world.run_ms(20)?;
        let told = world.clients[refused].call.is_none();
        expect(told, "refused while somebody may take over")?;
        world.run_ms(60)?;
        let taken = ask(&mut world);
        world.run_ms(20)?;
        let waits = world.clients[taken].call.is_some();
        expect(waits, "taken in, as nobody is to take over any more")?;
        expect(world.lease_holder() == Some(next), "its lease lives")?;
        world.run_ms(6_000)?;
        world.judge()?;
    }
    Ok(())
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

/// # Who has told another to take over never counts on its lease again, though nobody took over in
/// time: the word may still come, and the voters then leave out just that lease.
///
/// Each message takes its own way here, so that only the word is late.
pub fn lease_given_up_for_good(mutation: Option<Mutation>) -> Checked {
    let plan = three_nodes();
    let network = NetworkPlan {
        streams: false,
        ..plan.network.clone()
    };
    let (mut world, old) = world_with_leader(Plan { network, ..plan }, mutation)?;
    let target = world.others(old)[0];
    world.filter = Some(Box::new(move |_, _, message| match message {
        Message::TimeoutNow { .. } => Fate::Delay(900 * MS),
        _ => Fate::Pass,
    }));
    world.transfer(old, Some(target));
    world.run_ms(100)?;
    expect(world.read(old).is_none(), "given up")?;
    world.run_ms(750)?;
    let leader = world.leader().unwrap_or(old);
    world.filter = Some(Box::new(move |from, to, _| match [from, to] {
        ends if ends.contains(&leader) => Fate::Lose,
        _ => Fate::Pass,
    }));
    let next = world.next_leader(leader, 1_500)?;
    world.set(next, "new")?;
    world.judge()
}
