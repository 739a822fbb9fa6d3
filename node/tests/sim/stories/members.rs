//! Stories about members that come and go.

use super::{MS, expect, world_with_leader};
use crate::oracle::{Checked, Failure, broken};
use crate::plan::Plan;
use crate::world::{Fate, World};
use checker::Kind;
use raft_node::command::{Command, Members};
use raft_node::raft::{Index, Message, Micros, Mutation, NodeId};

/// Voters, a leader among them, and nodes that wait to be added.
struct Cast {
    world: World,
    leader: NodeId,
    /// The other voters.
    rest: Vec<NodeId>,
    /// Those that wait.
    spare: Vec<NodeId>,
}

fn cast(voters: usize, spare: usize, mutation: Option<Mutation>) -> Result<Cast, Failure> {
    let nodes = voters + spare;
    let quiet = Plan::quiet(nodes);
    let plan = Plan {
        voters,
        raise_format_from: 0,
        election_timeout_us: 300 * MS..=400 * MS,
        ..quiet
    };
    let (world, leader) = world_with_leader(plan, mutation)?;
    let others = world.others(leader).into_iter();
    let (rest, spare) = others.partition(|id| *id <= voters as NodeId);
    Ok(Cast {
        world,
        leader,
        rest,
        spare,
    })
}

impl World {
    /// The configuration at a node, which runs.
    fn members_at(&self, id: NodeId) -> (Index, Members) {
        let (index, members) = self.members_of(id).expect("it runs");
        (index, Members::clone(&members))
    }

    /// An operator asks the leader for these voters and learners, and nobody else.
    fn ask_for(&mut self, leader: NodeId, voters: &[NodeId], learners: &[NodeId]) {
        let (base, members) = self.members_at(leader);
        self.ask_on(leader, base, &members, voters, learners);
    }

    fn ask_on(
        &mut self,
        leader: NodeId,
        base: Index,
        members: &Members,
        voters: &[NodeId],
        learners: &[NodeId],
    ) {
        let ids = voters.iter().chain(learners);
        let known = |id: &NodeId| members.nodes.get(id).cloned().unwrap_or_default();
        let target = Members {
            nodes: ids.map(|id| (*id, known(id))).collect(),
            voters: voters.iter().copied().collect(),
            ..Members::default()
        };
        self.change_members(leader, base, target);
    }

    /// Adds learners, and waits until they have caught up and answer.
    fn learn(&mut self, leader: NodeId, learners: &[NodeId]) -> Checked {
        let voters: Vec<NodeId> = self.members_at(leader).1.voters.into_iter().collect();
        for _ in 0..20 {
            self.ask_for(leader, &voters, learners);
            self.run_ms(50)?;
        }
        let caught_up = learners.iter().all(|id| {
            let raft = |id: NodeId| {
                let running = self.machines[id as usize - 1].running.as_ref();
                running.map(|it| it.engine.raft().last_index())
            };
            raft(*id).is_some() && raft(*id) == raft(leader)
        });
        expect(caught_up, "the learners have caught up")
    }

    /// Nothing passes between the two sides.
    fn split_sides(&mut self, one: &[NodeId], other: &[NodeId]) {
        for a in one {
            for b in other {
                self.network.cut(*a, *b);
                self.network.cut(*b, *a);
            }
        }
    }

    fn put(&mut self, id: NodeId, value: &str) -> usize {
        let value = value.into();
        self.ask(id, Kind::Set { value })
    }
}

fn holds_members(message: &Message) -> bool {
    match message {
        Message::Append { entries, .. } => entries
            .iter()
            .any(|entry| matches!(*entry.command, Command::Members(_))),
        _ => false,
    }
}

/// # A cluster grows from one node to five and shrinks to one of those that came, and whoever reads is served all the
/// time.
///
/// Who leads at last was no member at first: so leadership went over without a wait.
pub fn grow_and_shrink(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(1, 4, mutation)?;
    let world = &mut cast.world;
    let all: Vec<NodeId> = world.ids().collect();
    for wish in [&all[..3], &all[..], &all[2..], &all[4..]] {
        world.wish_for(wish);
        let deadline_us = world.now + 5_000 * MS;
        while !world.is_wish_fulfilled() {
            expect(world.now < deadline_us, "the change comes to its end")?;
            let since_us = world.now;
            while world.lease_holder().is_none() {
                world.run_to(world.now + MS)?;
                if world.now > since_us + 50 * MS {
                    return broken(
                        "members change without a wait for a lease",
                        format!("to {wish:?}"),
                    );
                }
            }
            world.run_to(world.now + MS)?;
        }
        let leader = world.lease_holder().unwrap_or(0);
        world.set(leader, &format!("with {}", wish.len()))?;
        // Of two that hand over within a lease, the next would wait for the first.
        world.run_ms(2_200)?;
    }
    expect(world.lease_holder() == Some(5), "the last one leads")?;
    world.judge()
}

/// # Voters leave, their leader among them: the next one leads at once.
pub fn leader_that_leaves(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(4, 0, mutation)?;
    let (world, leader) = (&mut cast.world, cast.leader);
    world.learn(leader, &[])?;
    world.wish_for(&cast.rest);
    world.due("a leader that leaves costs no wait", 400, |world| {
        world.is_wish_fulfilled() && world.lease_holder().is_some_and(|it| it != leader)
    })?;
    world.judge()
}

/// # A learner's disk counts for nothing.
pub fn learners_alone(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(3, 2, mutation)?;
    let (world, leader) = (&mut cast.world, cast.leader);
    world.learn(leader, &cast.spare)?;
    world.split_sides(&[leader], &cast.rest);
    let set = world.put(leader, "new");
    world.run_ms(200)?;
    expect(world.outcome(set).is_none(), "no voter has it")?;
    world.judge()
}

/// # Nothing is decided by the new voters alone, as long as the former ones do not know of them.
pub fn new_voters_alone(mutation: Option<Mutation>) -> Checked {
    changes_unheard(mutation, 1)
}

/// # A change waits until the one before is committed.
pub fn change_on_change(mutation: Option<Mutation>) -> Checked {
    changes_unheard(mutation, 2)
}

/// The leader, cut off with those that learn, is asked for so many changes, each with fewer of the former voters; these
/// elect another meanwhile.
fn changes_unheard(mutation: Option<Mutation>, changes: usize) -> Checked {
    let mut cast = cast(3, 2, mutation)?;
    let (world, leader) = (&mut cast.world, cast.leader);
    world.learn(leader, &cast.spare)?;
    let mut near = cast.spare.clone();
    near.push(leader);
    world.split_sides(&near, &cast.rest);
    for without in 0..changes {
        world.ask_for(leader, &near[without..], &[]);
        world.run_ms(100)?;
    }
    world.put(leader, "one");
    let next = world.next_leader(leader, 2_000)?;
    world.put(next, "other");
    world.run_ms(4_000)?;
    world.judge()
}

/// # The bug of 2015: two leaders change members, one after the other, before either knows what is committed.
///
/// The first adds a node and nobody hears of it; the second takes the first away, and one of its voters hears of
/// nothing; then the first comes back with that one and the node that it has added.
pub fn change_before_own_commit(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(4, 1, mutation)?;
    let (world, first) = (&mut cast.world, cast.leader);
    let (second, third, lagging) = (cast.rest[0], cast.rest[1], cast.rest[2]);
    let added = cast.spare[0];
    world.learn(first, &[added])?;
    world.filter = Some(Box::new(move |from, _, message| match message {
        Message::Append { .. } if from == first && holds_members(message) => Fate::Lose,
        _ => Fate::Pass,
    }));
    let all: Vec<NodeId> = world.ids().collect();
    world.ask_for(first, &all, &[]);
    world.run_ms(20)?;
    world.split_sides(&[first, added], &[second, third, lagging]);
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::Append { .. } | Message::InstallSnapshot { .. } if to == lagging => Fate::Lose,
        Message::Vote { .. } if from != second => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.until("the second leads", 3_000, |world| {
        world.leader() == Some(second)
    })?;
    for _ in 0..50 {
        world.ask_for(second, &[second, third, lagging], &[added]);
        world.run_ms(50)?;
    }
    world.split_sides(&[lagging], &[second, third]);
    for other in [first, added] {
        world.network.heal(other, lagging);
        world.network.heal(lagging, other);
    }
    world.filter = None;
    for other in [first, added] {
        world.break_connection(other, lagging);
    }
    world.run_ms(6_000)?;
    world.judge()
}

/// # What is cut from a log is not in force any more.
pub fn members_that_are_cut(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(3, 2, mutation)?;
    let (world, leader) = (&mut cast.world, cast.leader);
    world.learn(leader, &cast.spare)?;
    world.isolate(leader);
    let all: Vec<NodeId> = world.ids().collect();
    world.ask_for(leader, &all, &[]);
    let next = world.next_leader(leader, 2_000)?;
    world.set(next, "new")?;
    for other in world.others(leader) {
        world.network.heal(leader, other);
        world.network.heal(other, leader);
        world.break_connection(leader, other);
    }
    world.run_ms(2_000)?;
    let set = world.put(world.leader().unwrap_or(next), "last");
    world.run_ms(2_000)?;
    expect(world.outcome(set).is_some(), "it goes on")?;
    world.judge()
}

/// # A node that lacks entries becomes no voter, so that nothing waits for it.
pub fn voter_that_lags(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(1, 1, mutation)?;
    let (world, leader, learner) = (&mut cast.world, cast.leader, cast.spare[0]);
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::Append { entries, .. } if to == learner && !entries.is_empty() => Fate::Lose,
        _ => Fate::Pass,
    }));
    for _ in 0..5 {
        world.ask_for(leader, &[leader], &[learner]);
        world.run_ms(50)?;
    }
    expect(world.members_at(leader).1.nodes.len() == 2, "it learns")?;
    world.ask_for(leader, &[leader, learner], &[]);
    world.run_ms(50)?;
    let set = world.put(leader, "new");
    world.due("nothing waits for a node that lags", 500, |world| {
        world.outcome(set).is_some()
    })?;
    world.judge()
}

/// # A node that does not answer becomes no voter, so that the leader keeps its lease.
pub fn voter_that_is_silent(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(1, 1, mutation)?;
    let (world, leader, learner) = (&mut cast.world, cast.leader, cast.spare[0]);
    world.learn(leader, &[learner])?;
    world.filter = Some(Box::new(move |from, _, message| match message {
        Message::AppendReply { .. } if from == learner => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.run_ms(2_200)?;
    world.ask_for(leader, &[leader, learner], &[]);
    for _ in 0..20 {
        world.run_ms(10)?;
        if world.read(leader).is_none() {
            return broken("growing costs no read", format!("at {}", world.now));
        }
    }
    world.judge()
}

/// # Nobody gets the id of a node that left.
pub fn id_used_again(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(3, 0, mutation)?;
    let (world, leader) = (&mut cast.world, cast.leader);
    world.learn(leader, &[])?;
    let (stays, leaves) = (cast.rest[0], cast.rest[1]);
    world.wish_for(&[leader, stays]);
    world.until("it left", 2_000, World::is_wish_fulfilled)?;
    world.ask_for(leader, &[leader, stays], &[leaves]);
    world.run_ms(10)?;
    match world.members_at(leader).1.nodes.contains_key(&leaves) {
        true => broken("an id is used once", format!("{leaves} is a member again")),
        false => world.judge(),
    }
}

/// # Two operators ask for changes, and both have seen the same members: one of them is told.
pub fn two_operators(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(3, 2, mutation)?;
    let (world, leader) = (&mut cast.world, cast.leader);
    world.learn(leader, &[])?;
    let (base, seen) = world.members_at(leader);
    let voters: Vec<NodeId> = seen.voters.iter().copied().collect();
    for learner in &cast.spare {
        world.ask_on(leader, base, &seen, &voters, &[*learner]);
        world.run_ms(100)?;
    }
    let nodes = world.members_at(leader).1.nodes;
    match nodes.contains_key(&cast.spare[0]) && nodes.len() == 4 {
        true => world.judge(),
        false => broken("no operator undoes another's change", format!("{nodes:?}")),
    }
}

/// # Only the leader that appended a joint configuration takes it back.
///
/// The first leader commits it and goes on to the new voters alone, which just one of them hears of. The second does not
/// know that it was committed, has no new voter any more, and would like to go back.
pub fn leader_that_would_go_back(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(3, 4, mutation)?;
    let (world, first) = (&mut cast.world, cast.leader);
    let old = cast.rest.clone();
    let (knows, others) = (cast.spare[0], cast.spare[1..].to_vec());
    world.learn(first, &cast.spare)?;
    let joint = world.members_at(first).0 + 1;
    let told = old.clone();
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::Append { commit_index, .. } if from == first => {
            let of_joint = *commit_index >= joint;
            // The former voters never hear that it is committed, and just one new voter what follows.
            match of_joint && (told.contains(&to) || to != knows) {
                true => Fate::Lose,
                false => Fate::Pass,
            }
        }
        Message::AppendReply { .. } if from == knows => Fate::Delay(30 * MS),
        _ => Fate::Pass,
    }));
    let mut new = cast.spare.clone();
    new.push(first);
    world.ask_for(first, &new, &[]);
    let went_on = |world: &World| {
        let members = world.members_of(knows).map(|it| it.1);
        members.is_some_and(|it| it.voters.len() == 5 && !it.is_joint())
    };
    world.until("one new voter hears of what follows", 2_000, went_on)?;
    world.crash(first);
    world.split_sides(&[knows], &world.others(knows));
    let next = old[0];
    let heirs = others.clone();
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::Vote { .. } if from != next => Fate::Lose,
        Message::Append { .. } if heirs.contains(&to) => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.until("the next one leads", 4_000, |world| {
        world.leader() == Some(next)
    })?;
    world.split_sides(&old, &others);
    world.run_ms(6_000)?;
    for other in &others {
        world.network.heal(*other, knows);
        world.network.heal(knows, *other);
        world.break_connection(*other, knows);
    }
    world.filter = None;
    world.run_ms(6_000)?;
    world.judge()
}

/// # Who is installed from a snapshot knows the members.
pub fn members_in_a_snapshot(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        voters: 3,
        raise_format_from: 0,
        snapshot_log_bytes: Some(1),
        election_timeout_us: 300 * MS..=400 * MS,
        ..Plan::quiet(5)
    };
    let (mut world, leader) = world_with_leader(plan, mutation)?;
    world.wish_for(&[1, 2, 3, 4]);
    world.until("one more", 3_000, World::is_wish_fulfilled)?;
    world.crash(5);
    world.wish_for(&[1, 2, 3, 4, 5]);
    world.run_ms(200)?;
    for number in 0..40 {
        world.set(leader, &format!("{number}"))?;
    }
    expect(world.members_at(leader).1.nodes.len() == 5, "it learns")?;
    world.start(5)?;
    let installed = |world: &World| world.coverage.of("snapshots installed") > 0;
    world.until("a snapshot is sent", 5_000, installed)?;
    world.run_ms(20)?;
    world.judge()
}

/// # A node that does not know of a change yet votes for one that it made a voter.
pub fn vote_for_a_stranger(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(3, 1, mutation)?;
    let (world, leader, new) = (&mut cast.world, cast.leader, cast.spare[0]);
    let lags = cast.rest[1];
    world.filter = Some(Box::new(move |_, to, message| {
        match holds_members(message) && to == lags {
            true => Fate::Lose,
            false => Fate::Pass,
        }
    }));
    let all: Vec<NodeId> = world.ids().collect();
    world.wish_for(&all);
    world.until("one more", 3_000, World::is_wish_fulfilled)?;
    expect(
        world.members_at(lags).1.nodes.len() == 3,
        "one does not know",
    )?;
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::Vote { .. } if from != new => Fate::Lose,
        Message::Append { .. } if to == lags && holds_members(message) => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.crash(leader);
    world.due("who is asked votes", 4_000, |world| {
        world.leader() == Some(new)
    })?;
    world.judge()
}

/// # A node that was removed while it was away comes back with old data, and disturbs nobody.
pub fn back_from_the_dead(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(3, 1, mutation)?;
    let (world, leader) = (&mut cast.world, cast.leader);
    let (stays, dead) = (cast.rest[0], cast.rest[1]);
    world.learn(leader, &[])?;
    world.crash(dead);
    world.wish_for(&[leader, stays, cast.spare[0]]);
    world.until("it is replaced", 6_000, World::is_wish_fulfilled)?;
    world.start(dead)?;
    for _ in 0..60 {
        world.run_ms(50)?;
        if world.lease_holder() != Some(leader) {
            return broken(
                "a removed node disturbs nobody",
                format!("at {}", world.now),
            );
        }
    }
    world.judge()
}

/// # A joint configuration whose new voters die before they make a majority is taken back, and the former voters go on.
pub fn way_back(mutation: Option<Mutation>) -> Checked {
    let mut cast = cast(3, 2, mutation)?;
    let (world, leader) = (&mut cast.world, cast.leader);
    world.learn(leader, &cast.spare)?;
    let mut new = cast.spare.clone();
    new.push(leader);
    for id in &cast.spare {
        world.machine(*id).disk.stalls += 1;
    }
    world.ask_for(leader, &new, &[]);
    world.run_ms(100)?;
    expect(world.members_at(leader).1.is_joint(), "the change begins")?;
    for id in &cast.spare {
        world.machine(*id).disk.stalls = 0;
        world.crash(*id);
    }
    let set = world.put(leader, "new");
    let lease_us: Micros = world.plan.lease_us;
    world.due(
        "a joint configuration that is stuck is taken back",
        3 * lease_us / MS,
        |world| world.outcome(set).is_some(),
    )?;
    world.run_ms(100)?;
    let members = world.members_at(leader).1;
    expect(
        !members.is_joint() && !members.voters.contains(&cast.spare[0]),
        "as before",
    )?;
    world.judge()
}
