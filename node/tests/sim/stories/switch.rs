//! Stories about the switch from a log to a snapshot and the rest of the log: what is written beside the log
//! for it, and the moment in which it takes the log's place.

use super::snapshots::{
    BROUGHT_UP, begin, commit_of, is_level, last_of, leave_behind, many_snapshots, one_left_behind,
    received_by,
};
use super::{MS, expect};
use crate::disk::Disk;
use crate::oracle::{Checked, Failure};
use crate::plan::Plan;
use checker::Kind;
use raft_node::engine::{Input, Request};
use raft_node::raft::Mutation;

/// # A snapshot that begins to arrive while the files of the one before are put in place does not get into
/// these.
pub fn received_during_the_switch(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        flush_us: 5 * MS..=5 * MS,
        ..many_snapshots()
    };
    let (mut world, leader, late, _) = one_left_behind(plan, mutation)?;
    world.start(late)?;
    for _ in 0..5_000 {
        if world.machine(late).disk.is_switching() {
            break;
        }
        world.run_ms(1)?;
    }
    expect(world.machine(late).disk.is_switching(), "a log is cut")?;
    world.machine(late).disk.stalls += 1;
    world.machine(late).disk.ahead_goes_on = true;
    let last = last_of(&world, leader);
    leave_behind(&mut world, leader, last)?;
    world.until("a next snapshot arrives", 10_000, |world| {
        received_by(world, late) > 0
    })?;
    world.run_ms(50)?;
    world.unstall(late);
    world.due(BROUGHT_UP, 10_000, |world| is_level(world, late, leader))?;
    world.crash(late);
    world.start(late)?;
    world.due(BROUGHT_UP, 10_000, |world| is_level(world, late, leader))?;
    world.judge()
}

/// A moment of a disk.
type Moment = fn(&Disk) -> bool;
/// Whether the node receives the snapshot, when it loses power, and what must be found after it.
type Scene = (bool, Moment, &'static [(bool, bool)]);

/// # A node that loses power while it copies its log, or at any write of the switch, starts with all that
/// it had: on the former log, on the new one whose snapshot has its old name still, and on both in place.
/// So does one that was putting a received snapshot in place.
pub fn crash_at_every_write_of_the_switch(mutation: Option<Mutation>) -> Checked {
    let scenes: [Scene; 3] = [
        (false, Disk::is_copying, &[(false, true)]),
        (false, Disk::is_switching, &STEPS),
        (true, Disk::is_switching, &STEPS),
    ];
    for (receives, moment, steps) in scenes {
        let mut found = std::collections::BTreeSet::new();
        for seed in 1..80 {
            found.insert(crash_at(seed, receives, moment, mutation)?);
        }
        let all = steps.iter().all(|step| found.contains(step));
        expect(all, &format!("each step of the switch: {found:?}"))?;
    }
    Ok(())
}

/// What is found after a crash: whether the log is the new one, and whether the snapshot has its old name.
const STEPS: [(bool, bool); 3] = [(false, true), (true, true), (true, false)];

fn crash_at(
    seed: u64,
    receives: bool,
    moment: Moment,
    mutation: Option<Mutation>,
) -> Result<(bool, bool), Failure> {
    let plan = Plan {
        seed,
        flush_us: 5 * MS..=5 * MS,
        ..many_snapshots()
    };
    let (mut world, leader, id) = if receives {
        let (mut world, leader, late, _) = one_left_behind(plan, mutation)?;
        world.start(late)?;
        (world, leader, late)
    } else {
        let (world, leader) = begin(plan, mutation)?;
        let id = world.others(leader)[0];
        (world, leader, id)
    };
    let mut number = 0;
    while !moment(&world.machine(id).disk) {
        number += 1;
        expect(number < 5_000, "a log is cut")?;
        if number % 10 == 0 && !receives {
            let value = format!("value {number}");
            world.ask(leader, Kind::Set { value });
        }
        world.run_ms(1)?;
    }
    let before = world.machine(id).disk.base_index();
    world.crash(id);
    let disk = &world.machine(id).disk;
    let found = (disk.base_index() > before, disk.snapshot_new.is_some());
    world.start(id)?;
    world.until("it is brought up", 5_000, |world| {
        is_level(world, id, leader)
    })?;
    world.set(leader, "after")?;
    world.judge()?;
    Ok(found)
}

/// # What another leader replaces while a node copies its log for the switch is not in the new log.
///
/// The old leader has entries that nobody else has. It takes a snapshot of what is committed, and while
/// its disk stands still in the middle of the copy, the new leader's entries take their place.
pub fn replaced_while_it_is_copied(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        flush_us: 5 * MS..=5 * MS,
        ..many_snapshots()
    };
    let (mut world, old) = begin(plan, mutation)?;
    world.run_ms(100)?;
    world.set(old, "behind the last snapshot")?;
    world.isolate(old);
    for number in 0..4 {
        let value = format!("lost {number}");
        world.ask(old, Kind::Set { value });
    }
    world.run_ms(50)?;
    world.hand(
        old,
        Input::Request {
            token: world.operator_token,
            request: Request::TakeSnapshot,
        },
    );
    for _ in 0..1_000 {
        if world.machine(old).disk.is_copying() {
            break;
        }
        world.run_ms(1)?;
    }
    expect(world.machine(old).disk.is_copying(), "the log is copied")?;
    world.machine(old).disk.ahead_stalls = true;
    let next = world.next_leader(old, 5_000)?;
    world.until("it may commit", 5_000, |world| {
        world.lease_holder() == Some(next)
    })?;
    world.set(next, "instead")?;
    for other in world.others(old) {
        world.heal(old, other);
        world.heal(other, old);
    }
    let last = commit_of(&world, next);
    world.until("it follows", 5_000, |world| commit_of(world, old) >= last)?;
    world.unstall_ahead(old);
    world.until("the log is cut", 5_000, |world| {
        let machine = &world.machines[old as usize - 1];
        machine.disk.base_index() > 0 && !machine.disk.is_copying() && !machine.disk.is_switching()
    })?;
    world.run_ms(100)?;
    world.crash(old);
    world.start(old)?;
    world.set(next, "after")?;
    world.until("it is level", 5_000, |world| is_level(world, old, next))?;
    world.judge()
}
