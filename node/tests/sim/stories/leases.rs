//! Stories about how long a lease lasts, and who must wait for it.

use super::{MS, expect, three_nodes, world_with_leader};
use crate::clock::Bend;
use crate::oracle::Checked;
use crate::plan::Plan;
use crate::world::{Fate, World};
use checker::Kind;
use raft_node::raft::{Message, Mutation, NodeId};

/// # A leader that is cut off keeps its lease to the end, and the next one waits for it.
pub fn isolated_leader(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    world.isolate(old);
    let next = world.next_leader(old, 1_500)?;
    let set = world.ask(
        next,
        Kind::Set {
            value: "new".into(),
        },
    );
    world.run_ms(200)?;
    expect(world.read(old).is_some(), "the old lease lives")?;
    expect(world.outcome(set).is_none(), "the write is held back")?;
    world.until("the write after the wait", 3_000, |world| {
        world.outcome(set).is_some()
    })?;
    expect(world.read(old).is_none(), "the old lease is over")?;
    expect(world.read(next).is_some(), "the new leader reads")?;
    world.judge()
}

/// # A restarted follower does not know what it promised, and says so.
pub fn restarted_followers(mutation: Option<Mutation>) -> Checked {
    crashed_followers(mutation, 1)
}

/// # Followers that come back with a shorter lease still owe the longer one that they promised.
pub fn shorter_lease_after_a_crash(mutation: Option<Mutation>) -> Checked {
    crashed_followers(mutation, 8)
}

/// All but the leader crash, and come back with a lease that is so many times shorter.
fn crashed_followers(mutation: Option<Mutation>, times_shorter: u64) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    world.isolate(old);
    let rest = world.others(old);
    rest.iter().for_each(|id| world.crash(*id));
    world.run_ms(20)?;
    world.plan.lease_us /= times_shorter;
    rest.iter().try_for_each(|id| world.start(*id))?;
    let next = world.next_leader(old, 1_500)?;
    expect(world.read(old).is_some(), "the old lease lives")?;
    world.set(next, "new")?;
    expect(world.read(old).is_none(), "the old lease is over")?;
    world.judge()
}

/// # A follower that was stopped in good order knows what it promised, and keeps it.
pub fn stopped_followers(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    world.isolate(old);
    world.run_ms(900)?;
    let rest = world.others(old);
    rest.iter().for_each(|id| world.stop(*id));
    rest.iter().try_for_each(|id| world.start(*id))?;
    let next = world.next_leader(old, 900)?;
    expect(world.read(old).is_some(), "the old lease lives")?;
    let value = "new".into();
    let set = world.ask(next, Kind::Set { value });
    let done = |world: &World| world.outcome(set).is_some();
    world.until("the write after the wait", 1_500, done)?;
    expect(world.read(old).is_none(), "the old lease is over")?;
    world.judge()
}

/// # Two old leaders may hold a lease at once; the third waits for both.
///
/// The second has heard nothing of the first for long, so only the third knows of both.
pub fn two_old_leaders(mutation: Option<Mutation>) -> Checked {
    let (mut world, first) = world_with_leader(three_nodes(), mutation)?;
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
    let leads = |id| move |world: &World| world.leader() == Some(id);
    world.until("the second leads", 1_000, leads(second))?;
    world.run_ms(50)?; // Its heartbeats make promises that come after those to the first.
    world.transfer(second, Some(third));
    world.until("the third leads", 500, leads(third))?;
    let value = "new".into();
    let set = world.ask(third, Kind::Set { value });
    world.run_ms(100)?;
    expect(world.read(first).is_some(), "the first lease lives")?;
    let done = |world: &World| world.outcome(set).is_some();
    world.until("the write after the wait", 3_000, done)?;
    world.judge()
}

/// # A lease counts from the send that was acknowledged, however late the acknowledgement comes.
pub fn late_acknowledgements(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::AppendReply { .. } if to == old => Fate::Delay(1_200 * MS),
        _ => Fate::Pass,
    }));
    world.run_ms(1_000)?;
    // From now on no heartbeat gets through, but what was acknowledged before still comes in.
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::AppendReply { .. } if to == old => Fate::Delay(1_200 * MS),
        _ if from == old || to == old => Fate::Lose,
        _ => Fate::Pass,
    }));
    let next = world.next_leader(old, 1_500)?;
    world.set(next, "new")?;
    world.run_ms(3_000)?;
    world.judge()
}

/// # The slowest leader clock and the fastest follower clocks that the bound allows.
pub fn slow_leader_clock(mutation: Option<Mutation>) -> Checked {
    for slow in 1..=3 {
        let rate = |id| Bend {
            true_us: 0,
            rate_ppm: if id == slow { -5_000 } else { 5_000 },
            jump_us: 0,
        };
        let clocks = (1..=3)
            .map(|id| (id * 7_000_000_000, vec![rate(id)]))
            .collect();
        let plan = Plan {
            clocks,
            ..three_nodes()
        };
        let (mut world, old) = world_with_leader(plan, mutation)?;
        if old != slow {
            world.transfer(old, Some(slow));
            world.until("the slow clock leads", 2_000, |w| {
                w.lease_holder() == Some(slow)
            })?;
        }
        world.isolate(slow);
        let next = world.next_leader(slow, 1_500)?;
        world.set(next, "new")?;
        world.judge()?;
    }
    Ok(())
}

/// # A leader whose only follower catches up over a narrow wire keeps its lease: what is sent at a
/// time leaves room for the heartbeats behind it.
pub fn narrow_wire(mutation: Option<Mutation>) -> Checked {
    let mut plan = three_nodes();
    plan.network.bytes_per_second = Some(1_250_000); // 10 Mbit/s.
    let (mut world, leader) = world_with_leader(plan, mutation)?;
    let others = world.others(leader);
    let (late, ahead) = (others[0], others[1]);
    world.crash(late);
    let value = "x".repeat(16 * 1024);
    for _ in 0..400 {
        world.set(leader, &value)?;
    }
    let needed = world.oracle.committed_index();
    world.start(late)?;
    world.run_ms(200)?;
    world.crash(ahead);
    let began_us = world.now;
    while world.machines[late as usize - 1].disk.last_index() < needed {
        world.run_ms(10)?;
        let holder = world.lease_holder();
        expect(holder == Some(leader), "the leader keeps its lease")?;
        expect(world.now < began_us + 10_000 * MS, "the wire is used")?;
    }
    let took_us = world.now - began_us;
    expect(
        took_us > 4_000 * MS,
        "catching up takes longer than a lease",
    )?;
    world.judge()
}

/// # A leader that votes for another gives up its lease first.
///
/// The candidate has promised nothing to the leader for long, and only the leader's own vote
/// makes it win, so nobody reports a promise and there is no wait.
pub fn vote_of_the_leader(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    let others = world.others(old);
    let (candidate, voter) = (others[0], others[1]);
    let apart = move |from: NodeId, to: NodeId| from == candidate || to == candidate;
    world.filter = Some(Box::new(move |from, to, _| match apart(from, to) {
        true => Fate::Lose,
        false => Fate::Pass,
    }));
    world.run_ms(2_500)?;
    let heartbeat_lost = move |from: NodeId, to: NodeId, message: &Message| {
        from == old && to == voter && matches!(message, Message::Append { .. })
    };
    world.filter = Some(Box::new(move |from, to, message| match message {
        _ if apart(from, to) || heartbeat_lost(from, to, message) => Fate::Lose,
        Message::Vote { .. } if from == voter => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.run_ms(350)?; // The voter would now help another candidate; the old lease lives on.
    expect(world.read(old).is_some(), "the old lease lives")?;
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::Vote { pre: false, .. } if to == voter => Fate::Lose,
        Message::Append { .. } if from == old => Fate::Lose,
        Message::Vote { .. } if from == voter => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.until("the candidate leads", 1_000, |world| {
        world.leader() == Some(candidate)
    })?;
    let set = world.ask(
        candidate,
        Kind::Set {
            value: "new".into(),
        },
    );
    world.until("a commit without a wait", 300, |world| {
        world.outcome(set).is_some()
    })?;
    expect(world.read(old).is_none(), "no lease beside the vote")?;
    world.judge()
}

/// # A heartbeat proves nothing about the disk: one that stalls for a lease ends it.
pub fn stalled_disk(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    world.machine(old).disk.stalls += 1;
    let set = world.ask(
        old,
        Kind::Set {
            value: "new".into(),
        },
    );
    world.run_ms(1_900)?;
    expect(world.lease_holder() == Some(old), "the others acknowledge")?;
    world.run_ms(200)?;
    expect(world.lease_holder() != Some(old), "no lease on a dead disk")?;
    let next = world.next_leader(old, 2_000)?;
    expect(world.outcome(set).is_some(), "the others had committed")?;
    world.set(next, "newer")?;
    world.judge()
}

/// # A leader that has nothing to write notices as well that its disk does not answer.
pub fn idle_stalled_disk(mutation: Option<Mutation>) -> Checked {
    for nodes in [1, 3] {
        let plan = Plan {
            election_timeout_us: 300 * MS..=400 * MS,
            ..Plan::quiet(nodes)
        };
        let (mut world, old) = world_with_leader(plan, mutation)?;
        world.run_ms(10_000)?;
        expect(world.lease_holder() == Some(old), "idle for long")?;
        world.machine(old).disk.stalls += 1;
        world.run_ms(2_300)?;
        expect(world.lease_holder() != Some(old), "no lease without a disk")?;
        world.unstall(old);
        world.until("a lease again", 10_000, |world| {
            world.lease_holder().is_some()
        })?;
        world.judge()?;
    }
    Ok(())
}

/// # The disk of a leader is taken to another machine, and its node is started there. The old
/// process needs no disk to be heard by one follower; the node elsewhere wins with the other.
pub fn disk_taken_away(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    let others = world.others(old);
    let (friend, voter) = (others[0], others[1]);
    // Not just after a flush, when the own acknowledgement is young in any case.
    world.run_ms(2_200)?;
    expect(
        world.take_disk(old, [friend].into()),
        "the disk of a living process",
    )?;
    let ghost = world.ghost_id();
    world.start(old)?;
    world.filter = Some(Box::new(move |from, to, _| {
        // The two followers do not hear each other, nor does the friend hear the new process.
        match (from, to) == (friend, voter) || (from, to) == (voter, friend) {
            true => Fate::Lose,
            false => Fate::Pass,
        }
    }));
    world.run_ms(500)?;
    expect(world.read(ghost).is_some(), "the old lease lives")?;
    let elsewhere = move |world: &World| {
        let leader = world.leader();
        leader == Some(old) || leader == Some(voter)
    };
    world.until("the next leader", 1_500, elsewhere)?;
    let next = world.leader().unwrap_or(old);
    world.set(next, "new")?;
    expect(world.read(ghost).is_none(), "the old lease is over")?;
    world.run_ms(2_000)?;
    world.end_ghost()?;
    world.filter = None;
    world.run_ms(2_000)?;
    world.judge()
}

/// # The same where nobody else votes: the node elsewhere can't know that the old process is dead.
pub fn only_disk_taken_away(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        election_timeout_us: 300 * MS..=400 * MS,
        ..Plan::quiet(1)
    };
    let (mut world, only) = world_with_leader(plan, mutation)?;
    world.run_ms(2_200)?;
    expect(world.take_disk(only, [].into()), "its disk is taken")?;
    let ghost = world.ghost_id();
    world.start(only)?;
    world.run_ms(1_000)?;
    expect(world.read(ghost).is_some(), "the old lease lives")?;
    world.set(only, "new")?;
    expect(world.read(ghost).is_none(), "the old lease is over")?;
    world.end_ghost()?;
    // On the same machine it is known, once nothing is owed to the old process.
    world.run_ms(1_500)?;
    world.kill(only);
    world.start(only)?;
    world.until("no wait", 500, |world| world.lease_holder() == Some(only))?;
    world.judge()
}

/// # The same, and the node elsewhere dies and is started once more: that its own former run is dead says
/// nothing of the one before, whether or not it names its runs.
pub fn only_disk_taken_away_and_a_crash(mutation: Option<Mutation>) -> Checked {
    for names_runs in [0, u64::MAX] {
        let plan = Plan {
            names_runs,
            election_timeout_us: 300 * MS..=400 * MS,
            ..Plan::quiet(1)
        };
        let (mut world, only) = world_with_leader(plan, mutation)?;
        world.run_ms(2_200)?;
        expect(world.take_disk(only, [].into()), "its disk is taken")?;
        let ghost = world.ghost_id();
        for _ in 0..2 {
            world.start(only)?;
            world.run_ms(450)?;
            world.kill(only);
        }
        world.start(only)?;
        world.run_ms(450)?;
        expect(world.read(ghost).is_some(), "the old lease lives")?;
        world.set(only, "new")?;
        expect(world.read(ghost).is_none(), "the old lease is over")?;
        world.end_ghost()?;
        world.judge()?;
    }
    Ok(())
}

/// # A leader that is stopped beyond its lease, with a read in flight, does not answer it.
pub fn paused_leader(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    let get = world.ask(old, Kind::Get);
    world.pause(old, 6_000 * MS, crate::fault::PausePoint::BeforeClock)?;
    expect(
        world.coverage.of("reads caught by a pause") == 1,
        "a read in flight",
    )?;
    let next = world.next_leader(old, 1_500)?;
    world.set(next, "new")?;
    expect(world.outcome(get).is_none(), "the reader stands still")?;
    world.run_ms(7_000)?;
    expect(
        world.outcome(get).is_some(),
        "the reader was told something",
    )?;
    world.judge()
}

/// What the stories above rest on is the order: value, then clock. Returns what the judges say of
/// a reader that looks at the clock first.
pub fn reader_that_looks_at_the_clock_first() -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), None)?;
    let now = world.now;
    let own = world.machine(old).clock.at(now);
    world.pause(old, 6_000 * MS, crate::fault::PausePoint::BeforeClock)?;
    let next = world.next_leader(old, 1_500)?;
    world.set(next, "new")?;
    let call_us = world.now;
    world.run_ms(10)?;
    let value = stale_value(&mut world, old, own);
    expect(
        value.as_deref() == Some("old"),
        "the wrong order gives the old value",
    )?;
    world.remember_read(value, call_us);
    world.judge()
}

fn stale_value(world: &mut World, id: NodeId, own: u64) -> Option<String> {
    use raft_node::engine::{Answer, LeaseRead, Query};
    let query = Query::Get {
        key: super::KEY.into(),
    };
    let view = &world.machine(id).running.as_ref()?.view;
    match view.lease_read(&query, || own) {
        LeaseRead::Done {
            answer: Answer::Value(value),
            ..
        } => value.map(|value| value.to_string()),
        _ => None,
    }
}

/// Returns what the judges say of a leader whose clock is far slower than the bound allows. With
/// `leases` off only the clients' history can tell.
pub fn clock_beyond_the_bound(leases: bool) -> Checked {
    let plan = Plan {
        clocks: (0..3).map(|_| (5_000_000, vec![])).collect(),
        clocks_in_bound: leases,
        ..three_nodes()
    };
    let (mut world, old) = world_with_leader(plan, None)?;
    world.stop_clock(old);
    world.isolate(old);
    let next = world.next_leader(old, 1_500)?;
    world.set(next, "new")?;
    let stale = world.read(old);
    expect(stale.is_some(), "the slow clock still shows a lease")?;
    world.judge()
}
