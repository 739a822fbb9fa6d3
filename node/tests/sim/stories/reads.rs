//! Stories about what a new leader may answer.

use super::{expect, three_nodes, world_with_leader};
use crate::oracle::Checked;
use crate::plan::Plan;
use checker::Kind;
use raft_node::engine::ReadPath;
use raft_node::raft::Mutation;

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
