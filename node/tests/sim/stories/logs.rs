//! Stories about what is committed, and what is applied.

use super::{ASTRAY, KEY, MS, expect, three_nodes, world_with_leader};
use crate::disk::Disk;
use crate::oracle::{Checked, broken};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::{Fate, World};
use checker::{Kind, Outcome};
use raft_node::command::{Command, Operation, Write};
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
