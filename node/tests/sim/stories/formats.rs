//! Versions that read different formats in one cluster: while it is upgraded, node by node.

use super::{expect, three_nodes, world_with_leader};
use crate::oracle::{Checked, broken};
use crate::plan::Plan;
use crate::world::World;
use raft_node::command::{Command, FORMAT_FIRST, FORMAT_NEWEST};
use raft_node::raft::{Index, Mutation, NodeId};

/// A cluster whose leaders go over to the newest format as soon as they may.
fn eager(mutation: Option<Mutation>) -> Result<(World, NodeId), crate::oracle::Failure> {
    let plan = Plan {
        raise_format_from: 0,
        ..three_nodes()
    };
    let oldest = |world: &mut World| {
        for id in 1..=3 {
            world.machine(id).reads_format = FORMAT_FIRST;
        }
    };
    // All begin with the old version.
    let (mut world, leader) = world_with_leader(
        Plan {
            raise_format_from: Index::MAX,
            ..plan.clone()
        },
        mutation,
    )?;
    oldest(&mut world);
    world.plan.raise_format_from = 0;
    for id in 1..=3 {
        world.restart(id)?;
    }
    let _ = leader;
    let leader = world.wait_for_lease()?;
    Ok((world, leader))
}

impl World {
    /// Stops a node and starts it again, with the version that is installed there now.
    fn restart(&mut self, id: NodeId) -> Checked {
        self.crash(id);
        self.run_ms(20)?;
        self.start(id)
    }

    fn wait_for_lease(&mut self) -> Result<NodeId, crate::oracle::Failure> {
        self.until("a leader with a lease", 10_000, |world| {
            world.lease_holder().is_some()
        })?;
        Ok(self.lease_holder().expect("just waited for"))
    }

    fn upgrade(&mut self, id: NodeId) -> Checked {
        self.machine(id).reads_format = FORMAT_NEWEST;
        self.restart(id)?;
        self.wait_for_lease().map(drop)
    }

    /// The format that a node's log holds, committed or not.
    fn format_of(&self, id: NodeId) -> u64 {
        let running = self.machines[id as usize - 1].running.as_ref();
        running.map_or(FORMAT_FIRST, |it| it.engine.raft().format_of_log())
    }

    fn expect_first_format(&self) -> Checked {
        for id in self.ids() {
            if self.format_of(id) > FORMAT_FIRST {
                let detail = format!("n{id} has written the new one");
                return broken("a format is raised only where all voters read it", detail);
            }
        }
        Ok(())
    }
}

/// Two of three nodes run the new version, and one of them leads: nothing new is written, however
/// long that lasts, until the third runs it, too. Then all go over, at one entry.
pub fn older_version_among_the_voters(mutation: Option<Mutation>) -> Checked {
    let (mut world, _) = eager(mutation)?;
    for id in [1, 2] {
        world.upgrade(id)?;
    }
    let leader = world.wait_for_lease()?;
    if leader == 3 {
        // Only a leader of the new version can go over.
        world.crash(3);
        world.next_leader(3, 10_000)?;
        world.start(3)?;
    }
    let leader = world.wait_for_lease()?;
    expect(leader != 3, "a leader of the new version")?;
    world.run_ms(3_000)?;
    world.expect_first_format()?;
    world.upgrade(3)?;
    let all = |world: &World| world.ids().all(|id| world.format_of(id) == FORMAT_NEWEST);
    world.until("all have gone over", 10_000, all)?;
    let raft = |id: NodeId| {
        world.machines[id as usize - 1]
            .running
            .as_ref()
            .map(|it| it.engine.raft())
    };
    let place = |id: NodeId| {
        let entries = raft(id)?.entries(0, Index::MAX);
        let format = |command: &Command| matches!(command, Command::Format(_));
        let mut named = entries.iter().filter(|entry| format(&entry.command));
        let first = named.next().map(|entry| entry.index);
        first.filter(|_| named.next().is_none())
    };
    expect(place(1).is_some(), "it is named once")?;
    expect(place(1) == place(2) && place(2) == place(3), "at one entry")
}

/// While one node still runs the old version, the others are taken back to it: they start on what the
/// new one has left, and go on.
pub fn version_taken_back(mutation: Option<Mutation>) -> Checked {
    let (mut world, _) = eager(mutation)?;
    for id in [1, 2] {
        world.upgrade(id)?;
    }
    world.run_ms(1_000)?;
    for id in [1, 2] {
        world.machine(id).reads_format = FORMAT_FIRST;
        world.restart(id)?;
        world.wait_for_lease()?;
    }
    let leader = world.wait_for_lease()?;
    world.set(leader, "after")
}
