//! Stories about what a new leader may answer.

use super::{KEY, expect, three_nodes, world_with_leader};
use crate::oracle::{Checked, Failure, broken};
use crate::plan::Plan;
use crate::world::{Fate, World};
use checker::Kind;
use raft_node::engine::{Answer, LeaseRead, Query, ReadPath};
use raft_node::raft::{Message, Mutation, NodeId};
use std::sync::Arc;

/// # A new leader does not know yet what was acknowledged, so it does not answer.
///
/// The set is acknowledged and its leader dies before it has told anybody that it is committed.
pub fn read_before_own_commit(mutation: Option<Mutation>) -> Checked {
    unknown_commit(mutation, false)
}

/// # With inherited reads a new leader answers early, but not for keys in limbo.
pub fn key_in_limbo(mutation: Option<Mutation>) -> Checked {
    unknown_commit(mutation, true)
}

fn unknown_commit(mutation: Option<Mutation>, inherited_reads: bool) -> Checked {
    let plan = Plan {
        inherited_reads,
        ..three_nodes()
    };
    let (mut world, old) = world_with_leader(plan, mutation)?;
    let set = world.ask(
        old,
        Kind::Set {
            value: "new".into(),
        },
    );
    world.until("the set is acknowledged", 1_000, |world| {
        world.outcome(set).is_some()
    })?;
    world.crash(old);
    let next = world.next_leader(old, 1_500)?;
    world.run_ms(5)?; // A round of heartbeats: it has a lease of its own.
    expect(world.lease_holder().is_none(), "it waits for the old lease")?;
    let early = world.read(next);
    expect(early.is_none(), "the key is in limbo")?;
    world.until("the wait is over", 3_000, |world| {
        world.lease_holder() == Some(next)
    })?;
    let value = world.read(next).and_then(|read| read.0);
    expect(value.as_deref() == Some("new"), "what was acknowledged")?;
    world.judge()
}

/// # A key that is not in limbo is answered by a new leader before the old lease is over.
pub fn inherited_read(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    world.run_ms(200)?; // All know that the set is committed.
    world.isolate(old);
    let next = world.next_leader(old, 1_500)?;
    world.run_ms(5)?;
    let inherited = Some((Some("old".into()), ReadPath::Inherited));
    expect(world.read(next) == inherited, "an inherited read")?;
    expect(
        world.read(old).is_some(),
        "beside a read under the old lease",
    )?;
    let set = world.ask(
        next,
        Kind::Set {
            value: "new".into(),
        },
    );
    world.run_ms(100)?;
    expect(
        world.read(next) == inherited,
        "the held back write is not seen",
    )?;
    world.until("the held back write", 3_000, |world| {
        world.outcome(set).is_some()
    })?;
    let value = world.read(next).and_then(|read| read.0);
    expect(value.as_deref() == Some("new"), "the new value")?;
    world.judge()
}

/// # A new leader that nobody has acknowledged yet answers nothing, however sure it is of the key.
///
/// The first and the third elect another beside it, which owes it no wait.
pub fn nobody_acknowledges_the_new_leader(mutation: Option<Mutation>) -> Checked {
    let (mut world, first) = world_with_leader(three_nodes(), mutation)?;
    world.run_ms(200)?; // All know that the set is committed.
    let (second, third) = (world.others(first)[0], world.others(first)[1]);
    world.filter = Some(Box::new(move |from, to, message| match message {
        _ if from == first || to == first => Fate::Lose,
        Message::Vote { .. } if from == third => Fate::Lose,
        Message::Append { .. } if from == second => Fate::Lose,
        _ => Fate::Pass,
    }));
    let leads = |world: &World| world.leader() == Some(second);
    world.until("the second leads", 1_500, leads)?;
    world.filter = Some(Box::new(move |from, to, _| match [from, to] {
        ends if ends.contains(&second) => Fate::Lose,
        _ => Fate::Pass,
    }));
    let next = world.next_leader(second, 1_500)?;
    world.set(next, "new")?;
    let leads = world.machines[second as usize - 1].running.as_ref();
    let leads = leads.and_then(|running| running.leads_in()).is_some();
    expect(leads, "the second still takes itself for the leader")?;
    expect(world.read(second).is_none(), "without a lease")?;
    world.judge()
}

/// The rule that the next story is about.
const ORDER: &str = "a read takes the value, then looks at the clock";

/// # A reader that is held up has taken its value before, and looks at the clock after.
///
/// Held up within the lease it answers what it has taken, though a later value is acknowledged
/// meanwhile; held up beyond the lease it does not answer, though its node has a lease again.
pub fn reader_held_up_between_value_and_clock(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader) = world_with_leader(three_nodes(), mutation)?;
    let read = world.read_held_up(leader, |world| world.set(leader, "new"))?;
    match read {
        LeaseRead::Done {
            answer: Answer::Value(Some(value)),
            ..
        } if &*value == "old" => {}
        other => return broken(ORDER, format!("within the lease: {other:?}")),
    }
    let read = world.read_held_up(leader, |world| world.run_ms(3_000))?;
    if read != LeaseRead::Wait {
        return broken(ORDER, format!("beyond the lease: {read:?}"));
    }
    expect(world.lease_holder() == Some(leader), "it has a lease again")?;
    world.judge()
}

impl World {
    /// A reader takes the value now, is held up while this happens, and looks at the clock then.
    fn read_held_up(
        &mut self,
        id: NodeId,
        meanwhile: impl FnOnce(&mut World) -> Checked,
    ) -> Result<LeaseRead, Failure> {
        let running = self.machine(id).running.as_ref();
        let view = Arc::clone(&running.expect("it runs").view);
        let (call_us, mut held_up) = (self.now, Ok(()));
        let read = view.lease_read(&Query::Get { key: KEY.into() }, || {
            held_up = meanwhile(self);
            let now = self.now;
            self.machine(id).clock.at(now)
        });
        held_up?;
        if let LeaseRead::Done {
            answer: Answer::Value(value),
            ..
        } = &read
        {
            let value = value.as_ref().map(|value| value.to_string());
            self.remember_read(value, call_us);
        }
        Ok(read)
    }
}
