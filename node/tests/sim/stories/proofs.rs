//! Stories about runs that have ended, who knows that for certain, and what it waives.

use super::{MS, expect, three_nodes, world_with_leader};
use crate::disk::Disk;
use crate::oracle::{Checked, Failure};
use crate::plan::Plan;
use crate::world::{Fate, World};
use checker::Kind;
use raft_node::raft::{Message, Mutation, NodeId, Role, Run};

impl World {
    /// These nodes hear for certain that a run has ended, whether or not it has.
    fn testify(&mut self, run: Run, to: &[NodeId]) -> Checked {
        to.iter().for_each(|to| self.on_testimony(*to, run));
        self.run_ms(1)
    }

    /// The process dies, and is started again at once on its machine.
    fn kill_and_start(&mut self, id: NodeId) -> Checked {
        self.kill(id);
        self.start(id)
    }

    /// A new client sets the key through this node.
    fn ask_new(&mut self, id: NodeId) -> usize {
        let value = "new".into();
        self.ask(id, Kind::Set { value })
    }

    /// A node that leads does not commit for as long as another one may answer from its lease; then it
    /// does.
    fn waits_for(&mut self, next: NodeId, old: NodeId) -> Checked {
        let set = self.ask_new(next);
        self.run_ms(200)?;
        expect(self.may_answer(old), "the old lease lives")?;
        expect(self.outcome(set).is_none(), "the write is held back")?;
        let done = |world: &World| world.outcome(set).is_some();
        self.until("the write after the wait", 3_000, done)?;
        expect(!self.may_answer(old), "the old lease is over")
    }

    /// A node that leads commits within so many milliseconds.
    fn commits_within(&mut self, next: NodeId, max_ms: u64) -> Checked {
        let set = self.ask_new(next);
        self.due("a dead leader is not waited for", max_ms, |world| {
            world.outcome(set).is_some()
        })
    }

    fn may_answer(&self, id: NodeId) -> bool {
        self.machines[id as usize - 1].open_gate(self.now).is_some()
    }

    fn leads(&self, id: NodeId) -> bool {
        let running = self.machines[id as usize - 1].running.as_ref();
        running.is_some_and(|running| running.engine.raft().role() == Role::Leader)
    }

    fn owes(&mut self, id: NodeId, run: Run) -> bool {
        let now = self.now;
        let machine = self.machine(id);
        let own = machine.clock.at(now);
        let running = machine.running.as_ref();
        let promises = running.map(|running| running.engine.raft().promises(own));
        let is_it = |promise: &raft_node::raft::Promise| {
            (promise.leader, promise.incarnation) == (run.node, run.incarnation)
        };
        promises.unwrap_or_default().iter().any(is_it)
    }
}

/// A world with a leader, and the run that leads.
fn world_with_run(plan: Plan, mutation: Option<Mutation>) -> Result<(World, NodeId, Run), Failure> {
    let (world, leader) = world_with_leader(plan, mutation)?;
    let run = world.run_of(leader).unwrap_or(Run::UNKNOWN);
    expect(run.is_named(), "the leader has a name")?;
    Ok((world, leader, run))
}

/// # A leader that is killed costs no wait: who watched it says so, and its successor commits at once.
pub fn killed_leader(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        witness_us: Some(2 * MS..=2 * MS),
        ..three_nodes()
    };
    let (mut world, old, _) = world_with_run(plan, mutation)?;
    world.kill(old);
    let next = world.next_leader(old, 100)?;
    world.commits_within(next, 20)?;
    let waived = world.coverage.of("promises waived") + world.coverage.of("waits waived");
    expect(waived > 0, "something was waived")?;
    world.start(old)?;
    world.run_ms(1_000)?;
    world.judge()
}

/// # All nodes are killed and started again: each tells the others that its former run has ended.
pub fn all_killed(mutation: Option<Mutation>) -> Checked {
    let (mut world, old, run) = world_with_run(three_nodes(), mutation)?;
    let rest = world.others(old);
    world.ids().for_each(|id| world.kill(id));
    rest.iter().try_for_each(|id| world.start(*id))?;
    let next = world.next_leader(old, 1_000)?;
    expect(world.owes(next, run), "the next leader knows to whom")?;
    let set = world.ask_new(next);
    world.run_ms(100)?;
    expect(world.outcome(set).is_none(), "nobody knows yet")?;
    world.start(old)?;
    world.due("the wait ends with the greeting", 20, |world| {
        world.outcome(set).is_some()
    })?;
    expect(world.coverage.of("waits waived") > 0, "a wait was waived")?;
    world.judge()
}

/// # All nodes are killed and started again at once: nobody is left whose lease or whose timer is waited for.
pub fn all_started_at_once(mutation: Option<Mutation>) -> Checked {
    let (mut world, _, _) = world_with_run(three_nodes(), mutation)?;
    world.ids().for_each(|id| world.kill(id));
    world.ids().try_for_each(|id| world.start(id))?;
    let soon_ms = world.plan.election_timeout_us.start() / MS / 2;
    world.due("a leader before any timer", soon_ms, |world| {
        world.leader().is_some()
    })?;
    let leader = world.leader().expect("just waited for");
    world.commits_within(leader, 20)?;
    world.judge()
}

/// # The next run dies before it could tell anybody of the one before: the one after it tells of both,
/// because each has proved the end of the one before it.
pub fn two_runs_in_a_row(mutation: Option<Mutation>) -> Checked {
    let (mut world, old, first) = world_with_run(three_nodes(), mutation)?;
    world.kill(old);
    for other in world.others(old) {
        world.network.cut(old, other);
    }
    world.start(old)?;
    let second = world.run_of(old).unwrap_or(Run::UNKNOWN);
    world.kill_and_start(old)?;
    let next = world.next_leader(old, 1_000)?;
    expect(world.owes(next, first), "the first run is waited for")?;
    let set = world.ask_new(next);
    world.run_ms(100)?;
    expect(world.outcome(set).is_none(), "nobody knows yet")?;
    for other in world.others(old) {
        world.heal(old, other);
    }
    world.due("the wait ends with the greeting", 500, |world| {
        world.outcome(set).is_some()
    })?;
    let raft = world.machines[old as usize - 1].running.as_ref();
    let ended = raft.map(|running| running.engine.raft().own_ended());
    expect(ended == Some(vec![first, second]), "both are told")?;
    world.judge()
}

/// # A connection that breaks proves nothing: the leader may be alive behind it.
pub fn broken_connection(mutation: Option<Mutation>) -> Checked {
    let (mut world, old, _) = world_with_run(three_nodes(), mutation)?;
    world.isolate(old);
    for other in world.others(old) {
        world.break_connection(old, other);
    }
    let next = world.next_leader(old, 500)?;
    world.waits_for(next, old)?;
    world.judge()
}

/// # The node is started on a copy of its directory, or on its disk at another machine, while the old
/// process lives on and leads: that start proves nothing.
pub fn start_elsewhere(mutation: Option<Mutation>) -> Checked {
    for is_copy in [false, true] {
        let (mut world, old, run) = world_with_run(three_nodes(), mutation)?;
        let others = world.others(old);
        let (friend, voter) = (others[0], others[1]);
        let taken = match is_copy {
            true => world.copy_disk(old, [friend].into()),
            false => world.take_disk(old, [friend].into()),
        };
        expect(taken, "the disk of a living process")?;
        let ghost = world.ghost_id();
        world.start(old)?;
        expect(world.run_of(old) != Some(run), "another run")?;
        // Neither the old process nor the new one can win.
        let no_vote =
            move |from, message: &Message| from == old && matches!(message, Message::Vote { .. });
        world.filter = Some(Box::new(move |from, _, message| match message {
            _ if no_vote(from, message) => Fate::Lose,
            _ => Fate::Pass,
        }));
        world.run_ms(100)?;
        expect(world.may_answer(ghost), "it leads by its friend")?;
        world.filter = Some(Box::new(move |from, to, message| match message {
            _ if no_vote(from, message) => Fate::Lose,
            _ if (from, to) == (friend, old) || (from, to) == (old, friend) => Fate::Lose,
            _ => Fate::Pass,
        }));
        let leads = |world: &World| world.leads(friend) || world.leads(voter);
        world.until("the next leader", 1_000, leads)?;
        let next = if world.leads(voter) { voter } else { friend };
        world.waits_for(next, ghost)?;
        world.end_ghost()?;
        world.filter = None;
        world.run_ms(2_000)?;
        world.judge()?;
    }
    Ok(())
}

/// # Followers that are killed find on their disks to whom they may be bound, and are.
pub fn name_on_disk(mutation: Option<Mutation>) -> Checked {
    let (mut world, old, run) = world_with_run(three_nodes(), mutation)?;
    world.isolate(old);
    let rest = world.others(old);
    rest.iter().try_for_each(|id| world.kill_and_start(*id))?;
    if mutation.is_none() {
        let named = rest.iter().all(|id| world.owes(*id, run));
        expect(named, "they know to whom")?;
    }
    let next = world.next_leader(old, 1_500)?;
    world.waits_for(next, old)?;
    world.judge()
}

/// # The name is on the disk before the first promise is acknowledged, also where no vote has written it.
///
/// The first leader has one entry more than the others, so it gives the next one no vote. Then it
/// follows that one, which has its lease by it, and is killed at once. It is elected again by two that have
/// promised nothing to the next one.
pub fn name_on_disk_in_time(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        nodes: 5,
        voters: 5,
        ..Plan::quiet(5)
    };
    let plan = Plan {
        election_timeout_us: 300 * MS..=400 * MS,
        ..plan
    };
    let (mut world, first, _) = world_with_run(plan, mutation)?;
    let others = world.others(first);
    let (second, friend) = (others[0], others[1]);
    let apart = [others[2], others[3]];
    world.filter = Some(Box::new(move |from, _, _| match from == first {
        true => Fate::Lose,
        false => Fate::Pass,
    }));
    world.ask_new(first);
    world.run_ms(5)?;
    world.filter = Some(Box::new(move |from, to, message| match message {
        // The last one hears nobody.
        _ if from == apart[1] || to == apart[1] || from == first => Fate::Lose,
        Message::Vote { .. } if from != second => Fate::Lose,
        Message::Append { .. } if to != friend => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.until("the second leads", 1_500, |world| world.leads(second))?;
    world.filter = Some(Box::new(move |from, to, message| match message {
        _ if apart.contains(&from) || apart.contains(&to) => Fate::Lose,
        Message::Vote { .. } => Fate::Lose,
        _ => Fate::Pass,
    }));
    let run = world.run_of(second).unwrap_or(Run::UNKNOWN);
    let lease = |world: &World| world.may_answer(second);
    world.until("a lease by the first", 500, lease)?;
    expect(world.owes(first, run), "it has promised")?;
    world.kill_and_start(first)?;
    world.filter = Some(Box::new(move |from, to, message| {
        let among = |id| id == first || apart.contains(&id);
        let asks = matches!(message, Message::Vote { .. });
        match among(from) && among(to) && (!asks || from == first) {
            true => Fate::Pass,
            false if [from, to].contains(&friend) && [from, to].contains(&second) => Fate::Pass,
            false => Fate::Lose,
        }
    }));
    world.until("the first leads again", 1_200, |world| world.leads(first))?;
    world.waits_for(first, second)?;
    world.filter = None;
    world.run_ms(3_000)?;
    world.judge()
}

/// # A copy of a follower's directory, put back after its machine was lost, does not know whom that one
/// has promised since: what it says of promises is not believed.
pub fn restored_copy(mutation: Option<Mutation>) -> Checked {
    let (mut world, first, _) = world_with_run(three_nodes(), mutation)?;
    let (second, lost) = (world.others(first)[0], world.others(first)[1]);
    world.run_ms(1_500)?; // What was committed stands in metadata.txt.
    let machine = world.machine(lost);
    let (logs, lock) = (machine.disk.logs.clone(), machine.lock.clone());
    let copy = Disk::written(&logs, machine.disk.metadata.clone().unwrap_or_default());
    let apart = move |from, to| (from, to) == (second, first) || (from, to) == (first, second);
    // The second takes over, heard by the one alone that will be lost; nothing is committed any more.
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::TimeoutNow { .. } => Fate::Pass,
        Message::AppendReply { .. } if to == first => Fate::Pass,
        Message::Append { .. } if from == first => Fate::Pass,
        Message::Append { entries, .. } if !entries.is_empty() => Fate::Lose,
        _ if apart(from, to) => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.transfer(first, Some(second));
    let lease = |world: &World| world.leads(second) && world.may_answer(second);
    world.until("the second has a lease", 1_500, lease)?;
    world.isolate(second);
    world.kill(lost);
    let machine = world.machine(lost);
    (machine.disk, machine.lock) = (copy, lock);
    machine.file += 1;
    world.filter = None;
    world.start(lost)?;
    let next = |world: &World| world.leads(first) || world.leads(lost);
    world.until("the next leader", 1_500, next)?;
    let next = if world.leads(first) { first } else { lost };
    world.waits_for(next, second)?;
    world.judge()
}

/// # The end of one run proves nothing of the next run of that node, however late one hears of it.
pub fn proof_of_another_run(mutation: Option<Mutation>) -> Checked {
    let (mut world, old, run) = world_with_run(three_nodes(), mutation)?;
    world.kill_and_start(old)?;
    world.until("a leader again", 4_000, |world| {
        world.lease_holder().is_some()
    })?;
    let between = world.lease_holder().unwrap_or(old);
    if between != old {
        world.transfer(between, Some(old));
    }
    world.until("it leads again", 1_000, |world| {
        world.lease_holder() == Some(old)
    })?;
    world.run_ms(2_500)?; // Nothing is owed to others any more.
    let rest = world.others(old);
    world.isolate(old);
    // They forget of whom they have heard that it has ended.
    rest.iter().try_for_each(|id| world.kill_and_start(*id))?;
    world.run_ms(1)?;
    world.testify(run, &rest)?;
    let next = world.next_leader(old, 1_500)?;
    world.waits_for(next, old)?;
    world.judge()
}

/// # Who does not know whom it has promised waits for anyone, whoever has ended.
pub fn proof_for_nobody(mutation: Option<Mutation>) -> Checked {
    let (mut world, old, run) = world_with_run(three_nodes(), mutation)?;
    world.isolate(old);
    let rest = world.others(old);
    for id in &rest {
        world.kill(*id);
        world.reboot(*id);
        world.start(*id)?;
    }
    let former = Run {
        incarnation: run.incarnation + 77,
        ..run
    };
    world.testify(former, &rest)?;
    let next = world.next_leader(old, 1_500)?;
    world.waits_for(next, old)?;
    world.judge()
}

/// # The end of the last leader waives nothing that is owed to the one before, which lives.
///
/// As with two old leaders; the second is killed, and who watched it says so.
pub fn another_old_leader(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        witness_us: Some(2 * MS..=2 * MS),
        ..three_nodes()
    };
    let (mut world, first, _) = world_with_run(plan, mutation)?;
    let others = world.others(first);
    let (second, third) = (others[0], others[1]);
    let apart = move |from, to| (from, to) == (first, second) || (from, to) == (second, first);
    world.filter = Some(Box::new(move |from, to, _| match apart(from, to) {
        true => Fate::Lose,
        false => Fate::Pass,
    }));
    world.run_ms(2_500)?;
    world.filter = Some(Box::new(move |from, _, message| match message {
        Message::Vote { pre: true, .. } if from == third => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.isolate(first);
    world.until("the second leads", 1_000, |world| world.leads(second))?;
    world.run_ms(50)?;
    world.filter = None;
    world.kill(second);
    world.run_ms(10)?;
    world.start(second)?;
    let next = |world: &World| world.leads(third) || world.leads(second);
    world.until("the next leader", 800, next)?;
    let next = if world.leads(third) { third } else { second };
    world.waits_for(next, first)?;
    world.judge()
}
