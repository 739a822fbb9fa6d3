//! Stories about votes that a crash wipes out.

use super::{expect, three_nodes, world_with_leader};
use crate::oracle::Checked;
use crate::world::{Fate, World};
use raft_node::raft::{Message, Mutation, NodeId};

/// # A candidate asks for votes, and counts its own, when its own is durable.
///
/// One that dies before has forgotten the vote, and is free to help another in the same term.
pub fn candidate_that_dies(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    let (candidate, voter) = (world.others(old)[0], world.others(old)[1]);
    world.only_stands(candidate);
    let known = world.forgets_from_now(candidate);
    world.crash(old);
    world.run_ms(600)?;
    world.dies_and_forgets(candidate, known);
    world.isolate(voter);
    second_leader_of_the_term(world, old, candidate)
}

/// # A voter replies when its vote is durable.
///
/// One that dies before has forgotten the vote, and is free to give it to another.
pub fn voter_that_dies(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    let (candidate, voter) = (world.others(old)[0], world.others(old)[1]);
    world.only_stands(candidate);
    let known = world.forgets_from_now(voter);
    world.crash(old);
    world.run_ms(600)?;
    world.dies_and_forgets(voter, known);
    world.isolate(candidate);
    second_leader_of_the_term(world, old, voter)
}

/// The old leader comes back and stands in the term of the candidate; the node that has forgotten
/// votes for it.
fn second_leader_of_the_term(mut world: World, old: NodeId, forgetful: NodeId) -> Checked {
    world.only_stands(old);
    world.start(old)?;
    world.start(forgetful)?;
    world.until("it leads again", 3_000, |world| world.leader() == Some(old))?;
    let term = world.machines[old as usize - 1].running.as_ref();
    let term = term.map_or(0, |running| running.engine.raft().term());
    expect(term == 2, "in the term of the candidate")?;
    world.run_ms(100)?;
    world.judge()
}

impl World {
    /// Nobody hears another ask for votes.
    fn only_stands(&mut self, candidate: NodeId) {
        self.filter = Some(Box::new(move |from, _, message| match message {
            Message::Vote { .. } if from != candidate => Fate::Lose,
            _ => Fate::Pass,
        }));
    }

    /// From now on the disk of this node only seems to work; returns what it holds.
    fn forgets_from_now(&mut self, id: NodeId) -> Option<Vec<u8>> {
        let disk = &mut self.machine(id).disk;
        disk.stalls += 1;
        disk.metadata.clone()
    }

    /// The node dies, and of the flush under way nothing has reached its metadata.
    fn dies_and_forgets(&mut self, id: NodeId, known: Option<Vec<u8>>) {
        self.crash(id);
        let disk = &mut self.machine(id).disk;
        disk.stalls = 0;
        disk.metadata = known;
    }
}
