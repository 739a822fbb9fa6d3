//! Stories about elections.

use super::{MS, expect, three_nodes, world_with_leader};
use crate::oracle::Checked;
use crate::plan::Plan;
use raft_node::raft::Mutation;

/// # Equal timeouts do not split the votes for ever.
pub fn equal_timeouts(mutation: Option<Mutation>) -> Checked {
    for seed in 1..20 {
        let plan = Plan {
            seed,
            election_timeout_us: 800 * MS..=800 * MS,
            clocks: (0..5).map(|_| (0, Vec::new())).collect(),
            ..Plan::quiet(5)
        };
        let (mut world, _) = world_with_leader(plan, mutation)?;
        for id in world.ids() {
            world.crash(id);
        }
        for id in world.ids() {
            world.start(id)?;
        }
        world.until("a leader", 4_000, |world| world.leader().is_some())?;
        world.until("a lease", 3_000, |world| world.lease_holder().is_some())?;
    }
    Ok(())
}

/// # A node that comes back from a partition does not depose a healthy leader.
pub fn returning_node(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader) = world_with_leader(three_nodes(), mutation)?;
    let away = world.others(leader)[0];
    world.isolate(away);
    world.run_ms(5_000)?;
    for other in world.others(away) {
        world.heal(away, other);
        world.heal(other, away);
    }
    for _ in 0..200 {
        world.run_ms(10)?;
        expect(
            world.lease_holder() == Some(leader),
            "the leader keeps its lease",
        )?;
    }
    world.judge()
}
