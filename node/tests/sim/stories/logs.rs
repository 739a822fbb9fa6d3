//! Stories about what is committed, and what is applied.

use super::{ASTRAY, KEY, MS, expect, three_nodes, world_with_leader};
use crate::disk::Disk;
use crate::oracle::{Checked, broken};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::{Fate, World};
use checker::{Kind, Outcome};
use raft_node::command::{Command, Operation, Write};
use raft_node::engine::Input;
use raft_node::raft::{Entry, HardState, Message, Mutation, NodeId, Term};
use raft_node::wal::{LogWriter, Metadata};
use std::sync::Arc;

/// # What was acknowledged survives the death of all nodes at that moment.
pub fn all_die_after_the_acknowledgement(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        flush_us: 30 * MS..=30 * MS,
        ..three_nodes()
    };
    let (mut world, leader) = world_with_leader(plan, mutation)?;
    world.set(leader, "new")?;
    for id in world.ids() {
        world.crash(id);
    }
    for id in world.ids() {
        world.start(id)?;
    }
    world.until("a leader again", 10_000, |world| {
        world.lease_holder().is_some()
    })?;
    let next = world.lease_holder().unwrap_or(leader);
    let value = world.read(next).and_then(|read| read.0);
    expect(value.as_deref() == Some("new"), "what was acknowledged")?;
    world.judge()
}

/// # A write that is sent again to the next leader applies once.
pub fn resend_across_a_change_of_leader(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    let first = world.ask(
        old,
        Kind::Set {
            value: "first".into(),
        },
    );
    let committed = world.oracle.committed_index();
    world.until("the commit", 1_000, |world| {
        world.oracle.committed_index() > committed
    })?;
    world.clients[first].attempt(old); // The answer to the attempt before is lost.
    world.crash(old);
    let next = world.next_leader(old, 1_500)?;
    world.until("it may read", 3_000, |world| {
        world.lease_holder() == Some(next)
    })?;
    let value = world.read(next).and_then(|read| read.0);
    expect(value.as_deref() == Some("first"), "the write was applied")?;
    world.set(next, "second")?;
    world.attempt(first, next);
    let done = |world: &World| world.clients[first].call.is_none();
    world.until("the answer to the resend", 3_000, done)?;
    let outcome = world.outcome(first);
    expect(
        outcome == Some(&Outcome::Written),
        "the answer of the first time",
    )?;
    let value = world.read(next).and_then(|read| read.0);
    expect(value.as_deref() == Some("second"), "the later write stands")?;
    world.judge()
}

/// # An entry of an earlier term is not committed by counting its copies (Raft paper, figure 8).
///
/// The leader of term 4 has an entry of term 2 on three of five nodes, but its own disk stalls on
/// the entry of term 4. A node with an entry of term 3 at the same place wins the next election.
pub fn figure_8(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        mutation,
        ..Plan {
            election_timeout_us: 300 * MS..=400 * MS,
            ..Plan::quiet(5)
        }
    };
    let terms: [&[Term]; 5] = [&[1, 2], &[1, 2], &[1], &[1], &[1, 3]];
    let disks = terms.iter().map(|terms| written_disk(terms, 3));
    let mut world = World::with_disks(plan, Trace::Off, disks.collect());
    let only = |candidate: NodeId, deaf: &'static [NodeId]| {
        Box::new(
            move |from: NodeId, to: NodeId, message: &Message| match message {
                Message::Vote { .. } if from != candidate => Fate::Lose,
                Message::Append { .. } if deaf.contains(&to) => Fate::Lose,
                _ => Fate::Pass,
            },
        )
    };
    world.filter = Some(only(1, &[4, 5]));
    world.until("node 1 leads", 5_000, |world| world.leader() == Some(1))?;
    world.machine(1).disk.stalls += 1;
    world.run_ms(1_900)?;
    let copies = |world: &World| {
        let holders = world
            .machines
            .iter()
            .filter(|m| m.disk.term_at(2) == Some(2));
        holders.count()
    };
    expect(copies(&world) == 3, "three copies of the entry of term 2")?;
    expect(world.machine(1).disk.term_at(3).is_none(), "a stalled disk")?;
    world.machine(1).disk.lose();
    world.crash(1);
    world.machine(1).disk.stalls = 0;
    world.filter = Some(only(5, &[]));
    world.start(1)?;
    expect(
        world.machine(1).disk.term_at(3).is_none(),
        "its last entry is lost",
    )?;
    world.until("node 5 leads", 5_000, |world| world.leader() == Some(5))?;
    world.until("all is overwritten", 5_000, |world| copies(world) == 0)?;
    world.filter = None;
    world.until("a lease", 5_000, |world| world.lease_holder() == Some(5))?;
    match world.leader() {
        Some(5) => world.judge(),
        other => broken(ASTRAY, format!("{other:?} leads")),
    }
}

/// # A node whose log lost entries to damage elects nobody before it has been refilled.
///
/// It was the one that had acknowledged them, and the only other node that is left lacks them too.
pub fn damaged_voter(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader) = world_with_leader(three_nodes(), mutation)?;
    let others = world.others(leader);
    let (voter, behind) = (others[0], others[1]);
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::Append { .. } if to == behind => Fate::Lose,
        _ => Fate::Pass,
    }));
    for value in ["new", "newer", "newest"] {
        world.set(leader, value)?;
    }
    world.damage(voter);
    expect(world.damaged, "a damaged log")?;
    world.crash(leader);
    world.start(voter)?;
    world.run_ms(3_000)?;
    expect(world.leader().is_none(), "nobody can be elected")?;
    world.start(leader)?;
    world.filter = None;
    world.until("a lease", 10_000, |world| world.lease_holder().is_some())?;
    let next = world.lease_holder().unwrap_or(leader);
    let value = world.read(next).and_then(|read| read.0);
    expect(value.as_deref() == Some("newest"), "what was acknowledged")?;
    world.run_ms(1_000)?;
    let refilled = world.machine(voter).disk.last_index() == world.oracle.committed_index();
    expect(refilled, "the damaged log is whole again")?;
    world.judge()
}

/// # What was flushed at an index says nothing about the entry that stands there now.
///
/// Two entries of the old leader reach its own disk alone, late, when one of another leader stands
/// in their place. Later it leads again; its next entry stands where its second one stood.
pub fn flushed_but_replaced(mutation: Option<Mutation>) -> Checked {
    let (mut world, old) = world_with_leader(three_nodes(), mutation)?;
    let before = world.machine(old).disk.last_index();
    world.machine(old).disk.stalls += 1;
    world.filter = Some(Box::new(move |from, to, message| match message {
        _ if from == old => Fate::Lose,
        Message::Vote { .. } if to == old => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.set_together(old, &["lost", "lost too"]);
    let next = world.next_leader(old, 1_500)?;
    world.run_ms(200)?;
    world.filter = None;
    let last_index = |world: &World, id: NodeId| {
        let running = world.machines[id as usize - 1].running.as_ref();
        running.map_or(0, |running| running.engine.raft().last_index())
    };
    expect(last_index(&world, old) == before + 1, "one entry for two")?;
    world.unstall(old);
    world.until("a lease", 3_000, |world| world.lease_holder() == Some(next))?;
    expect(last_index(&world, old) == before + 1, "nothing was written")?;

    let third = world.others(next).into_iter().find(|id| *id != old);
    world.crash(third.unwrap_or(next));
    world.transfer(next, Some(old));
    world.until("it leads again", 1_000, |world| world.leader() == Some(old))?;
    world.machine(old).disk.stalls += 1;
    world.run_ms(200)?;
    let durable = world.machine(old).disk.last_index();
    expect(durable == before + 1, "its own entry is not durable")?;
    expect(
        world.oracle.committed_index() == before + 1,
        "so that it is not committed",
    )?;
    world.unstall(old);
    world.set(old, "new")?;
    world.judge()
}

/// # Two of three logs are damaged, and an operator gives up on both what damage cost. The third log
/// is whole, and comes back a little later: it leads, and nothing was lost.
pub fn accepted_damage(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader) = world_with_leader(three_nodes(), mutation)?;
    for value in ["new", "newer", "newest"] {
        world.set(leader, value)?;
    }
    world.run_ms(1_500)?;
    let others = world.others(leader);
    let whole = others[1];
    world.crash(whole);
    for id in [leader, others[0]] {
        world.damaged = false;
        world.damage(id);
        expect(world.damaged, "a damaged log")?;
        world.machine(id).accepts_damage = true;
        world.start(id)?;
    }
    world.run_ms(5_000)?;
    world.start(whole)?;
    world.until("a lease", 10_000, |world| world.lease_holder().is_some())?;
    expect(world.lease_holder() == Some(whole), "the whole log leads")?;
    let value = world.read(whole).and_then(|read| read.0);
    expect(value.as_deref() == Some("newest"), "nothing was lost")?;
    world.set(whole, "and on")?;
    world.run_ms(1_000)?;
    // Where the whole log never comes, the wait has an end.
    for id in world.ids() {
        world.crash(id);
    }
    for id in others.iter().take(1).chain([&leader]) {
        world.start(*id)?;
    }
    world.until("those two go on", 5_000, |world| {
        world.lease_holder().is_some()
    })?;
    world.start(whole)?;
    world.run_ms(1_000)?;
    world.judge()
}

/// # All nodes lose power in the middle of large writes, of which some sectors got to the disk and
/// others before them did not: nobody was told that they are durable, so nobody calls it damage.
pub fn power_loss_leaves_holes(mutation: Option<Mutation>) -> Checked {
    let mut holes = 0;
    for seed in 1..30 {
        let plan = Plan {
            seed,
            ..three_nodes()
        };
        let (mut world, leader) = world_with_leader(plan, mutation)?;
        let value: String = "x".repeat(700);
        for _ in 0..4 {
            let value = value.clone();
            world.ask(leader, Kind::Set { value });
        }
        world.run_ms(1)?;
        for id in world.ids() {
            world.crash(id);
            let logs = &world.machine(id).disk.logs;
            let filled = logs.iter().rposition(|byte| *byte != 0);
            holes += usize::from(logs.iter().position(|byte| *byte == 0) < filled);
        }
        for id in world.ids() {
            world.start(id)?;
        }
        world.until("a lease", 10_000, |world| world.lease_holder().is_some())?;
        world.judge()?;
    }
    expect(holes > 3, "holes in torn tails")
}

/// A disk with entries of these terms, whose node has seen `term`.
fn written_disk(terms: &[Term], term: Term) -> Disk {
    let mut writer = LogWriter::default();
    let mut logs = Vec::new();
    for (index, entry_term) in (1..).zip(terms) {
        let operation = Operation::Set {
            key: KEY.into(),
            value: format!("of-term-{entry_term}").into(),
        };
        let write = Write {
            request: None,
            operation,
        };
        let entry = Entry {
            index,
            term: *entry_term,
            command: Arc::new(Command::Write(write)),
        };
        writer.append(&entry, &mut logs);
    }
    let hard_state = HardState {
        term,
        voted_for: None,
    };
    let metadata = Metadata {
        hard_state,
        ..Metadata::default()
    };
    Disk::written(&logs, metadata.encode())
}

impl World {
    /// New clients set the key through this node; the sets come in at once, for one flush.
    fn set_together(&mut self, id: NodeId, values: &[&str]) {
        for value in values {
            let value = value.to_string();
            let number = self.ask(id, Kind::Set { value });
            let client = &mut self.clients[number];
            let call = client.call.as_mut().expect("just asked");
            call.arrived = true; // Not once more by the wire.
            let (attempt, request) = (call.attempt, call.request());
            let token = client.token(attempt);
            self.hand(id, Input::Request { token, request });
        }
    }
}
