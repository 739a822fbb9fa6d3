//! Stories about snapshots: how they come to who lacks what the log does not have any more.

use super::{MS, expect, three_nodes, world_with_leader};
use crate::disk::FileOf;
use crate::fault::PausePoint;
use crate::oracle::{Checked, Failure, broken};
use crate::plan::Plan;
use crate::world::{Fate, World};
use checker::Kind;
use raft_node::engine::Input;
use raft_node::raft::{Index, Message, Mutation, NodeId};

/// Snapshots are taken all the time.
pub(super) fn many_snapshots() -> Plan {
    Plan {
        snapshot_log_bytes: Some(300),
        raise_format_from: 0,
        ..three_nodes()
    }
}

/// A world with a leader whose format has snapshots, on all nodes.
pub(super) fn begin(plan: Plan, mutation: Option<Mutation>) -> Result<(World, NodeId), Failure> {
    let (mut world, leader) = world_with_leader(plan, mutation)?;
    world.until("snapshots", 5_000, |world| {
        let mut nodes = world.machines.iter().filter_map(|m| m.running.as_ref());
        nodes.all(|node| node.view.with_store(|store| store.format() > 1))
    })?;
    Ok((world, leader))
}

pub(super) fn base_of(world: &World, id: NodeId) -> Index {
    let running = world.machines[id as usize - 1].running.as_ref();
    running.map_or(0, |running| running.engine.raft().base_index())
}

pub(super) fn last_of(world: &World, id: NodeId) -> Index {
    let running = world.machines[id as usize - 1].running.as_ref();
    running.map_or(0, |running| running.engine.raft().last_index())
}

pub(super) fn commit_of(world: &World, id: NodeId) -> Index {
    let running = world.machines[id as usize - 1].running.as_ref();
    running.map_or(0, |running| running.engine.raft().commit_index())
}

/// Writes until the leader has let go of all that the others lack.
pub(super) fn leave_behind(world: &mut World, leader: NodeId, last: Index) -> Checked {
    for number in 0..200 {
        if base_of(world, leader) > last {
            break;
        }
        world.set(leader, &format!("value {number}"))?;
        world.run_ms(5)?;
    }
    expect(base_of(world, leader) > last, "the log was cut")
}

/// A world in which one node is down, and the leader has let go of what it lacks: the leader, that node, and
/// the last entry that it has.
pub(super) fn one_left_behind(
    plan: Plan,
    mutation: Option<Mutation>,
) -> Result<(World, NodeId, NodeId, Index), Failure> {
    let (mut world, leader) = begin(plan, mutation)?;
    let late = world.others(leader)[0];
    let last = commit_of(&world, late);
    world.crash(late);
    leave_behind(&mut world, leader, last)?;
    Ok((world, leader, late, last))
}

/// # A node that comes back with nothing, or with an old log, gets the state and what follows, and
/// counts in the next majority.
pub fn empty_follower(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader, late, _) = one_left_behind(many_snapshots(), mutation)?;
    let other = world.others(leader)[1];
    world.start(late)?;
    let caught_up = |world: &World| commit_of(world, late) == commit_of(world, leader);
    world.until("it is brought up", 5_000, caught_up)?;
    expect(world.coverage.of("snapshots installed") > 0, "an install")?;
    world.crash(other);
    world.set(leader, "with it")?;
    world.judge()
}

/// # An entry of another term at the very place where the snapshot ends is not left in the way
/// (Raft paper, figure 13, rule 7).
///
/// The old leader has an entry that it could not replicate; the new one commits another at its place
/// and takes a snapshot that ends there.
pub fn conflict_at_the_last_entry(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        snapshot_log_bytes: Some(1),
        ..many_snapshots()
    };
    let (mut world, old) = begin(plan, mutation)?;
    world.isolate(old);
    for number in 0..4 {
        let value = format!("lost {number}");
        world.ask(old, Kind::Set { value });
    }
    world.run_ms(20)?;
    let next = world.next_leader(old, 5_000)?;
    world.until("it may commit", 5_000, |world| {
        world.lease_holder() == Some(next) && commit_of(world, next) > commit_of(world, old)
    })?;
    let last = commit_of(&world, old);
    leave_behind(&mut world, next, last)?;
    for other in world.others(old) {
        world.network.heal(old, other);
        world.network.heal(other, old);
        world.break_connection(old, other);
    }
    let caught_up = |world: &World| commit_of(world, old) == commit_of(world, next);
    world.until("the old leader is brought up", 10_000, caught_up)?;
    world.set(next, "after")?;
    world.run_ms(300)?;
    let after = commit_of(&world, next);
    expect(commit_of(&world, old) == after, "it goes on from there")?;
    world.judge()
}

/// # A second snapshot begins to arrive while the first is put in place.
pub fn two_in_a_row(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        flush_us: 40 * MS..=40 * MS,
        ..many_snapshots()
    };
    let (mut world, leader) = begin(plan, mutation)?;
    let late = world.others(leader)[0];
    for _ in 0..3 {
        let last = commit_of(&world, late);
        world.crash(late);
        leave_behind(&mut world, leader, last + 5)?;
        world.start(late)?;
        for number in 0..20 {
            world.set(leader, &format!("meanwhile {number}"))?;
        }
        let goes_on = |world: &World| commit_of(world, late) > last;
        world.until("it goes on", 5_000, goes_on)?;
    }
    let caught_up = |world: &World| commit_of(world, late) == commit_of(world, leader);
    world.until("it is brought up", 5_000, caught_up)?;
    expect(world.coverage.of("snapshots installed") > 2, "installs")?;
    world.judge()
}

/// # A second snapshot arrives while the first waits for a slow disk: one of them is put in place, and
/// not the one under the name of the other.
pub fn second_while_the_first_waits(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader, late, _) = one_left_behind(many_snapshots(), mutation)?;
    world.start(late)?;
    world.until("a first snapshot begins", 5_000, |world| {
        received_by(world, late) > 0
    })?;
    world.machine(late).disk.stalls += 1;
    let running = world.machines[late as usize - 1].running.as_ref();
    let first = running.and_then(|running| running.engine.raft().receiving());
    for number in 1..100 {
        // Of more than one piece.
        world.set(leader, &"x".repeat(100_000 + number))?;
        world.run_ms(20)?;
        let running = world.machines[late as usize - 1].running.as_ref();
        let second = running.and_then(|running| running.engine.raft().receiving());
        if second.map(|it| it.0) != first.map(|it| it.0) {
            break;
        }
        expect(number < 99, "a second snapshot begins")?;
    }
    world.unstall(late);
    world.due(BROUGHT_UP, 10_000, |world| is_level(world, late, leader))?;
    world.crash(late);
    world.start(late)?;
    world.due(BROUGHT_UP, 10_000, |world| is_level(world, late, leader))?;
    world.judge()
}

/// Who lacks what was let go is brought up.
pub(super) const BROUGHT_UP: &str = "who lacks what was let go is brought up";

pub(super) fn is_level(world: &World, id: NodeId, with: NodeId) -> bool {
    commit_of(world, id) == commit_of(world, with)
}

fn has_let_go_of_all(world: &World, id: NodeId) -> bool {
    let running = world.machines[id as usize - 1].running.as_ref();
    running.is_some_and(|running| {
        let raft = running.engine.raft();
        raft.base_index() == raft.last_index()
    })
}

/// # A log that is cut behind its very last entry still brings up who lacks all of it, and goes on.
pub fn log_cut_to_its_end(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        snapshot_log_bytes: Some(1),
        ..many_snapshots()
    };
    let (mut world, leader, late, _) = one_left_behind(plan, mutation)?;
    for number in 0..50 {
        world.run_ms(100)?;
        if has_let_go_of_all(&world, leader) {
            break;
        }
        world.set(leader, &format!("one more {number}"))?;
    }
    expect(has_let_go_of_all(&world, leader), "nothing is left")?;
    world.start(late)?;
    world.due(BROUGHT_UP, 5_000, |world| is_level(world, late, leader))?;
    world.set(leader, "after")?;
    world.due(BROUGHT_UP, 5_000, |world| is_level(world, late, leader))?;
    world.judge()
}

/// # A snapshot for which there is no room costs nothing but itself: what was acknowledged is there,
/// and the next one is taken when there is room.
pub fn no_room_for_a_snapshot(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        flush_us: 20 * MS..=20 * MS,
        ..many_snapshots()
    };
    let (mut world, leader) = begin(plan, mutation)?;
    for id in world.ids() {
        world.machine(id).disk.has_no_room = true;
    }
    for number in 0..30 {
        world.set(leader, &format!("without room {number}"))?;
    }
    expect(world.coverage.of("snapshots left out") > 0, "no room")?;
    let last = commit_of(&world, leader);
    for id in world.ids() {
        world.machine(id).disk.has_no_room = false;
    }
    for number in 0..60 {
        world.set(leader, &format!("with room {number}"))?;
    }
    world.due("a log is cut once there is room", 1_000, |world| {
        world.ids().all(|id| base_of(world, id) > last)
    })?;
    world.judge()
}

/// # A received snapshot for which there is no room is not gone on from; with the room it comes again.
pub fn no_room_for_what_is_received(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        flush_us: 20 * MS..=20 * MS,
        ..many_snapshots()
    };
    let (mut world, leader, late, last) = one_left_behind(plan, mutation)?;
    world.machine(late).disk.has_no_room = true;
    world.start(late)?;
    world.run_ms(3_000)?;
    expect(commit_of(&world, late) <= last, "there is no room for it")?;
    world.machine(late).disk.has_no_room = false;
    world.due(BROUGHT_UP, 5_000, |world| is_level(world, late, leader))?;
    world.judge()
}

/// # Pieces of a snapshot that come once more, when the follower is further, change nothing.
pub fn pieces_that_come_late(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader, late, _) = one_left_behind(many_snapshots(), mutation)?;
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let pieces = std::rc::Rc::clone(&seen);
    world.filter = Some(Box::new(move |_, to, message| {
        if to == late && matches!(message, Message::InstallSnapshot { .. }) {
            pieces.borrow_mut().push(message.clone());
        }
        Fate::Pass
    }));
    world.start(late)?;
    world.until("it is brought up", 5_000, |world| {
        is_level(world, late, leader)
    })?;
    for number in 0..10 {
        world.set(leader, &format!("after it {number}"))?;
    }
    world.run_ms(100)?;
    let pieces = seen.borrow().clone();
    expect(!pieces.is_empty(), "a snapshot was sent")?;
    for message in pieces {
        let from = leader;
        world.hand(late, Input::Received { from, message });
        world.run_ms(20)?;
    }
    world.set(leader, "and on")?;
    world.until("it is level", 5_000, |world| is_level(world, late, leader))?;
    world.judge()
}

/// # All nodes start again on logs that were cut and went on.
pub fn restart_behind_a_cut(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader) = begin(many_snapshots(), mutation)?;
    let last = commit_of(&world, leader);
    leave_behind(&mut world, leader, last)?;
    let is_cut = |world: &World| {
        let mut disks = world.machines.iter().map(|machine| &machine.disk);
        disks.all(|disk| disk.base_index() > 0)
    };
    for number in 0..100 {
        if is_cut(&world) {
            break;
        }
        world.set(leader, &format!("and more {number}"))?;
        world.run_ms(20)?;
    }
    expect(is_cut(&world), "logs that were cut")?;
    for number in 0..3 {
        world.set(leader, &format!("behind it {number}"))?;
    }
    world.run_ms(50)?;
    for id in world.ids() {
        world.crash(id);
    }
    for id in world.ids() {
        world.start(id)?;
    }
    world.until("a lease", 10_000, |world| world.lease_holder().is_some())?;
    let next = world.lease_holder().unwrap_or(leader);
    let value = world.read(next).and_then(|read| read.0);
    expect(value.as_deref() == Some("behind it 2"), "the last value")?;
    world.judge()
}

/// A leader whose snapshot has so many bytes, and a follower that lacks it and is down, and another.
fn with_a_large_state(
    bytes: usize,
    mutation: Option<Mutation>,
) -> Result<(World, NodeId, NodeId, NodeId), Failure> {
    let (mut world, leader) = begin(many_snapshots(), mutation)?;
    let others = world.others(leader);
    let (late, ahead) = (others[0], others[1]);
    let last = commit_of(&world, late);
    world.crash(late);
    // The second lets go of the first, which the one that is down lacks.
    for letter in ["x", "y"] {
        let before = world.oracle.committed_index();
        world.set(leader, &letter.repeat(bytes))?;
        world.until("both have taken a snapshot", 5_000, |world| {
            let taken_by = |id| snapshot_of(world, id) > before;
            taken_by(leader) && taken_by(ahead)
        })?;
    }
    world.until("both have cut their logs", 5_000, |world| {
        base_of(world, leader) > last && base_of(world, ahead) > last
    })?;
    world.set(leader, "small")?;
    Ok((world, leader, late, ahead))
}

pub(super) fn snapshot_of(world: &World, id: NodeId) -> Index {
    let running = world.machines[id as usize - 1].running.as_ref();
    let snapshot = running.and_then(|running| running.engine.raft().snapshot());
    snapshot.map_or(0, |snapshot| snapshot.index)
}

pub(super) fn received_by(world: &World, id: NodeId) -> u64 {
    let running = world.machines[id as usize - 1].running.as_ref();
    let receiving = running.and_then(|running| running.engine.raft().receiving());
    receiving.map_or(0, |(_, bytes)| bytes)
}

/// 1 Mbit/s.
const SLOW: Option<u64> = Some(125_000);

/// # A leader whose quorum needs the one that gets a snapshot over a slow link keeps its lease all the
/// while, though the transfer takes several leases.
pub fn slow_link(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader, late, ahead) = with_a_large_state(800_000, mutation)?;
    world.network.narrow(SLOW);
    world.start(late)?;
    world.run_ms(200)?;
    world.crash(ahead);
    let began_us = world.now;
    while !is_level(&world, late, leader) {
        world.run_ms(10)?;
        if world.lease_holder() != Some(leader) {
            let bytes = received_by(&world, late);
            let rule = "who receives a snapshot renews the lease";
            return broken(rule, format!("no lease after {bytes} bytes"));
        }
        let left = world.now < began_us + 20_000 * MS;
        expect(left, "the link is used")?;
    }
    let took_us = world.now - began_us;
    expect(took_us > 3 * world.plan.lease_us, "a long transfer")?;
    world.judge()
}

/// # A transfer goes on where it was when the connection breaks again and again.
pub fn connection_that_breaks(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader, late, _) = with_a_large_state(600_000, mutation)?;
    world.network.narrow(SLOW);
    world.start(late)?;
    for _ in 0..10 {
        world.run_ms(1_500)?;
        world.break_connection(leader, late);
    }
    let rule = "a transfer goes on where it broke off";
    world.due(rule, 100, |world| is_level(world, late, leader))?;
    world.judge()
}

/// # Who receives a snapshot promises a lease with each piece: nobody else commits while the leader
/// may rest on it.
///
/// The heartbeats to the one that receives are lost, so its pieces are all that the lease rests on.
/// The third node has long forgotten the leader, takes over where that one broke off, and is quick.
pub fn promise_by_pieces(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader, late, third) = with_a_large_state(800_000, mutation)?;
    world.network.narrow(SLOW);
    world.isolate(third);
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::Append { .. } if (from, to) == (leader, late) => Fate::Lose,
        Message::Vote { .. } if from == late => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.start(late)?;
    world.until("most of it is there", 20_000, |world| {
        received_by(world, late) > 600_000
    })?;
    expect(
        world.lease_holder() == Some(leader),
        "its lease rests on pieces",
    )?;
    world.filter = Some(Box::new(move |from, to, message| match message {
        _ if from == leader || to == leader => Fate::Lose,
        Message::Vote { .. } if from == late => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.network.narrow(None);
    for (from, to) in [(third, late), (late, third)] {
        world.heal(from, to);
    }
    world.next_leader(leader, 3_000)?;
    world.filter = Some(Box::new(move |from, to, _| {
        match from == leader || to == leader {
            true => Fate::Lose,
            false => Fate::Pass,
        }
    }));
    world.until("it commits", 5_000, |world| {
        world.lease_holder() == Some(third) && is_level(world, late, third)
    })?;
    world.judge()
}

/// # A snapshot that ends before what damage cost heals nothing.
///
/// The voter's state is lost with entries that it alone had acknowledged to the leader, and all that
/// gets through to it then is a snapshot that is older than they are.
pub fn damage_beyond_the_snapshot(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader) = begin(many_snapshots(), mutation)?;
    let others = world.others(leader);
    let (voter, behind) = (others[0], others[1]);
    let last = commit_of(&world, leader);
    leave_behind(&mut world, leader, last)?;
    world.run_ms(100)?;
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::Append { .. } if to == behind => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.set(leader, "new")?;
    world.set(leader, "newer")?;
    world.crash(voter);
    expect(
        world.machine(voter).disk.flip(FileOf::Snapshot, 20, 0),
        "damage",
    )?;
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::Append { .. } if to == behind => Fate::Lose,
        Message::Append { entries, .. } if to == voter && !entries.is_empty() => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.start(voter)?;
    world.until("an older snapshot", 5_000, |world| {
        base_of(world, voter) > 0
    })?;
    expect(
        commit_of(&world, voter) < commit_of(&world, leader),
        "it lacks what it had",
    )?;
    world.crash(leader);
    world.filter = None;
    world.run_ms(5_000)?;
    expect(world.leader().is_none(), "nobody can be elected")?;
    world.start(leader)?;
    world.until("a lease", 10_000, |world| world.lease_holder().is_some())?;
    let next = world.lease_holder().unwrap_or(leader);
    let value = world.read(next).and_then(|read| read.0);
    expect(value.as_deref() == Some("newer"), "what was acknowledged")?;
    world.judge()
}

/// # A write that is sent again to a leader that got its state by a snapshot applies once.
pub fn resend_after_an_install(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader) = begin(many_snapshots(), mutation)?;
    let late = world.others(leader)[0];
    let last = commit_of(&world, late);
    world.crash(late);
    let value = "first".into();
    let first = world.ask(leader, Kind::Set { value });
    let committed = world.oracle.committed_index();
    world.until("the commit", 1_000, |world| {
        world.oracle.committed_index() > committed
    })?;
    world.clients[first].attempt(leader); // The answer to the attempt before is lost.
    leave_behind(&mut world, leader, last + 3)?;
    world.set(leader, "last")?;
    world.start(late)?;
    world.until("it is brought up", 5_000, |world| {
        is_level(world, late, leader)
    })?;
    expect(world.coverage.of("snapshots installed") > 0, "an install")?;
    world.transfer(leader, Some(late));
    world.until("it leads", 5_000, |world| {
        world.lease_holder() == Some(late)
    })?;
    world.attempt(first, late);
    let done = |world: &World| world.clients[first].call.is_none();
    world.until("the answer to the resend", 3_000, done)?;
    let value = world.read(late).and_then(|read| read.0);
    expect(value.as_deref() == Some("last"), "the later write stands")?;
    world.judge()
}

/// # What is written while a snapshot is taken is not in it: all nodes have the same, however long
/// each takes for it, and however much each takes in at a time.
pub fn writes_during_a_snapshot(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        flush_us: MS..=10 * MS,
        // Seldom enough that no node leaves one out.
        snapshot_log_bytes: Some(1_500),
        ..many_snapshots()
    };
    let (mut world, leader) = begin(plan, mutation)?;
    let other = world.others(leader)[0];
    for number in 0..200 {
        let value = format!("value {number}");
        world.ask(leader, Kind::Set { value });
        if number % 5 == 0 {
            // Then it takes in all that came meanwhile, at once.
            world.pause(other, 15 * MS, PausePoint::BeforeClock)?;
        }
        world.run_ms(4)?;
    }
    world.run_ms(500)?;
    expect(world.coverage.of("snapshots taken") > 10, "snapshots")?;
    world.judge()
}

/// # A follower that makes another state of the log than the others is named by its leader and ends, by
/// nothing but the hashes of their snapshots: nobody reads from it, and nobody outside compares.
pub fn state_goes_astray(mutation: Option<Mutation>) -> Checked {
    const ASTRAY_NODE: NodeId = 2;
    for seed in 1..20 {
        let plan = Plan {
            seed,
            nodes_compare_states: true,
            snapshot_log_bytes: Some(2_000),
            ..many_snapshots()
        };
        let Ok((mut world, leader)) = begin(plan, mutation) else {
            continue; // What it leads with is noticed by other rules.
        };
        if leader == ASTRAY_NODE {
            continue;
        }
        let told = is_named_by_hashes(&mut world, leader);
        let named = world.coverage.of("states found to differ") > 0;
        expect(named == told.is_err(), "it is named before it ends")?;
        let ends = |failure: &Failure| {
            failure.rule == "no node contradicts another"
                && failure
                    .detail
                    .starts_with(&format!("node {ASTRAY_NODE}: After entry"))
        };
        expect(
            told.as_ref().err().is_none_or(ends),
            "that one ends, and why",
        )?;
        return told;
    }
    expect(false, "another node leads")
}

fn is_named_by_hashes(world: &mut World, leader: NodeId) -> Checked {
    let taken = world.coverage.of("snapshots taken");
    for number in 0..300 {
        if world.coverage.of("snapshots taken") >= taken + 3 {
            break;
        }
        world.set(leader, &format!("value {number}"))?;
        world.run_ms(5)?;
    }
    expect(
        world.coverage.of("snapshots taken") >= taken + 3,
        "snapshots",
    )?;
    // A heartbeat, its answer, and the leader's word.
    world.run_ms(300)?;
    world.judge()
}

/// # A leader whose snapshot was changed on its disk while it runs notices when a follower needs it, says
/// so, and takes another: the follower is brought up though nobody writes any more.
pub fn leader_with_a_damaged_snapshot(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader, late, _) = one_left_behind(many_snapshots(), mutation)?;
    for number in 0..50 {
        if snapshot_of(&world, leader) < commit_of(&world, leader) {
            break;
        }
        world.set(leader, &format!("behind it {number}"))?;
        world.run_ms(50)?;
    }
    let damaged = snapshot_of(&world, leader);
    expect(damaged < commit_of(&world, leader), "something is new")?;
    let disk = &mut world.machine(leader).disk;
    expect(disk.flip(FileOf::Snapshot, 20, 0), "damage")?;
    world.start(late)?;
    world.due(BROUGHT_UP, 5_000, |world| is_level(world, late, leader))?;
    expect(world.coverage.of("snapshots found damaged") == 1, "told")?;
    expect(snapshot_of(&world, leader) > damaged, "another one")?;
    // What was changed is gone.
    world.machine(leader).disk.corrupt = false;
    world.crash(leader);
    world.start(leader)?;
    world.judge()
}
