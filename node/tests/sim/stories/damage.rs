//! Stories about files that were changed while nobody looked: nothing that was acknowledged is lost,
//! whatever byte it was, and who is whole again votes again.

use super::snapshots::{base_of, begin, commit_of, is_level, leave_behind, many_snapshots};
use super::{ASTRAY, expect, three_nodes, world_with_leader};
use crate::disk::FileOf;
use crate::oracle::{Checked, broken};
use crate::plan::Plan;
use crate::world::{Fate, World};
use checker::Kind;
use raft_node::raft::{Message, Mutation, NodeId};
use std::collections::BTreeSet;

/// All but one have acknowledged the last entries, and the leader is about to die.
struct Scene {
    world: World,
    leader: NodeId,
    voter: NodeId,
}

fn scene(mutation: Option<Mutation>) -> Result<Scene, crate::oracle::Failure> {
    let (mut world, leader) = begin(many_snapshots(), mutation)?;
    let others = world.others(leader);
    let (voter, behind) = (others[0], others[1]);
    let last = commit_of(&world, leader);
    leave_behind(&mut world, leader, last)?;
    world.until("a log that was cut", 1_000, |world| {
        base_of(world, voter) > 0
    })?;
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::Append { .. } if to == behind => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.set(leader, "new")?;
    world.set(leader, "newer")?;
    Ok(Scene {
        world,
        leader,
        voter,
    })
}

/// One place of each kind: each word and each byte between words, once for each kind of line, and all
/// of the last line.
fn places(text: &[u8]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    let mut begin = 0;
    let last_line = text.split_inclusive(|byte| *byte == b'\n').count();
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
        let verb: Vec<u8> = line.iter().copied().take_while(is_word).collect();
        let kind = if number + 1 == last_line { number } else { 0 };
        let mut word = 0;
        for (at, byte) in line.iter().enumerate() {
            let begins = at == 0 || is_word(byte) != is_word(&line[at - 1]);
            word += usize::from(begins);
            if begins && seen.insert((verb.clone(), kind, word)) {
                places.push(begin + at);
            }
        }
        // The newline itself, which a space may precede in no line.
        if seen.insert((verb, kind, 0)) {
            places.push(begin + line.len() - 1);
        }
        begin += line.len();
    }
    places
}

/// The voter comes back with a file that was changed, the leader is dead: whoever is elected holds what
/// was acknowledged, and with the leader all come to hold the same.
fn comes_back(scene: Scene) -> Checked {
    let Scene {
        mut world,
        leader,
        voter,
    } = scene;
    world.crash(leader);
    world.start(voter)?;
    world.run_ms(2_500)?;
    world.start(leader)?;
    world.filter = None;
    world.until("a lease", 10_000, |world| world.lease_holder().is_some())?;
    let next = world.lease_holder().unwrap_or(leader);
    let value = world.read(next).and_then(|read| read.0);
    if value.as_deref() != Some("newer") {
        return broken("what was acknowledged is there", format!("{value:?}"));
    }
    world.until("all are level", 10_000, |world| {
        is_level(world, voter, next)
    })?;
    world.judge()
}

/// # Any byte of any file changes while its node is down, at the worst moment: only that node and the
/// leader, which dies, have acknowledged the last entries.
pub fn any_byte_of_any_file(mutation: Option<Mutation>) -> Checked {
    let mut tried = 0;
    for file in [FileOf::Log, FileOf::Snapshot, FileOf::Mark] {
        let first = scene(mutation)?;
        let text = first.world.machines[first.voter as usize - 1]
            .disk
            .text_of(file);
        for at in places(text) {
            let mut scene = scene(mutation)?;
            let voter = scene.voter;
            scene.world.crash(voter);
            let bit = at as u32 % 7;
            expect(
                scene.world.machine(voter).disk.flip(file, at, bit),
                "a file of that length",
            )?;
            tried += 1;
            comes_back(scene).map_err(|mut failure| {
                failure.detail.push_str(&format!(" ({file:?}, byte {at})"));
                failure
            })?;
        }
    }
    expect(tried > 100, &format!("places to change: {tried}"))
}

/// # metadata.txt: without its term and vote a node does not start, and what it holds is untouched.
pub fn changed_metadata(mutation: Option<Mutation>) -> Checked {
    let mut scene = scene(mutation)?;
    let voter = scene.voter;
    scene.world.crash(voter);
    let length = scene
        .world
        .machine(voter)
        .disk
        .text_of(FileOf::Metadata)
        .len();
    for at in 0..length {
        let disk = &mut scene.world.machine(voter).disk;
        disk.flip(FileOf::Metadata, at, 1);
        let files = (
            disk.logs.clone(),
            disk.snapshot.clone(),
            disk.metadata.clone(),
        );
        let refused = scene.world.start(voter);
        let named =
            refused.is_err_and(|failure| failure.detail.contains("metadata.txt is damaged"));
        expect(named, "the node does not start")?;
        let disk = &mut scene.world.machine(voter).disk;
        let after = (
            disk.logs.clone(),
            disk.snapshot.clone(),
            disk.metadata.clone(),
        );
        expect(files == after, "nothing is touched")?;
        disk.flip(FileOf::Metadata, at, 1);
    }
    comes_back(scene)
}

/// # lease.txt, promises.txt: what they said counts as forgotten, so a full lease is waited for, the
/// longest that there is where nobody knows which.
pub fn changed_promises(mutation: Option<Mutation>) -> Checked {
    for of_lease in [true, false] {
        let (mut world, leader) = world_with_leader(three_nodes(), mutation)?;
        let others = world.others(leader);
        for id in &others {
            match of_lease {
                true => world.crash(*id),
                false => world.stop(*id),
            }
            let machine = world.machine(*id);
            match (of_lease, &mut machine.kept_promises) {
                (true, _) => machine.lease[17] ^= 1,
                (false, Some(text)) => text[10] ^= 1,
                (false, None) => expect(false, "promises that were written down")?,
            }
        }
        world.isolate(leader);
        for id in &others {
            world.start(*id)?;
        }
        let (began_us, waits_us) = match of_lease {
            true => (world.now, 9_000_000),
            false => (world.now, 1_500_000),
        };
        world.until("they go on", 15_000, |world| {
            let holder = world.lease_holder();
            holder.is_some_and(|holder| holder != leader)
        })?;
        if world.now < began_us + waits_us {
            let waited_ms = (world.now - began_us) / 1_000;
            return broken(ASTRAY, format!("they waited for {waited_ms} ms only"));
        }
        world.judge()?;
    }
    Ok(())
}

/// # A node whose log was damaged votes again once it has been refilled, although the leader that did
/// so dies before it can say what is committed.
pub fn refilled_but_not_told(mutation: Option<Mutation>) -> Checked {
    let (mut world, leader) = world_with_leader(three_nodes(), mutation)?;
    world.run_ms(300)?;
    let others = world.others(leader);
    let (voter, behind) = (others[0], others[1]);
    world.filter = Some(Box::new(move |from, to, message| match message {
        Message::Append { .. } if to == behind => Fate::Lose,
        Message::AppendReply { .. } if from == voter => Fate::Lose,
        _ => Fate::Pass,
    }));
    let value = "acknowledged".into();
    world.ask(leader, Kind::Set { value });
    let value = "as well".into();
    world.ask(leader, Kind::Set { value });
    world.run_ms(50)?;
    let (had, committed) = (
        world.machine(voter).disk.last_index(),
        commit_of(&world, leader),
    );
    expect(had == committed + 2, "entries that are not committed")?;
    world.crash(voter);
    let logs = &world.machine(voter).disk.logs;
    let line = logs.iter().rposition(|byte| *byte == b'=').unwrap_or(0);
    expect(
        world.machine(voter).disk.flip(FileOf::Log, line, 0),
        "damage",
    )?;
    world.start(voter)?;
    world.run_ms(300)?;
    let refilled = world.machine(voter).disk.last_index();
    expect(refilled == had, "it is refilled")?;
    expect(
        commit_of(&world, voter) < had,
        "it does not know the commit",
    )?;
    world.crash(leader);
    world.filter = None;
    let rule = "who is whole again votes again";
    world.due(rule, 15_000, |world| world.lease_holder().is_some())?;
    let next = world.lease_holder().unwrap_or(leader);
    let value = world.read(next).and_then(|read| read.0);
    let had = ["acknowledged", "as well"];
    expect(had.map(Some).contains(&value.as_deref()), "what it had")?;
    world.start(leader)?;
    world.run_ms(500)?;
    world.judge()
}

/// # A changed last newline costs no entry, also where nothing says yet that it was durable.
pub fn last_newline(mutation: Option<Mutation>) -> Checked {
    let plan = Plan {
        seed: 7,
        ..three_nodes()
    };
    let (mut world, leader) = world_with_leader(plan, mutation)?;
    let others = world.others(leader);
    let (voter, behind) = (others[0], others[1]);
    world.filter = Some(Box::new(move |_, to, message| match message {
        Message::Append { .. } if to == behind => Fate::Lose,
        _ => Fate::Pass,
    }));
    world.set(leader, "newest")?;
    world.crash(voter);
    world.crash(leader);
    let disk = &mut world.machine(voter).disk;
    let last = disk.logs.len() - 1;
    expect(disk.flip(FileOf::Log, last, 2), "damage")?;
    world.filter = None;
    world.start(voter)?;
    world.until("the two go on", 10_000, |world| {
        world.lease_holder().is_some()
    })?;
    let next = world.lease_holder().unwrap_or(leader);
    let value = world.read(next).and_then(|read| read.0);
    if value.as_deref() != Some("newest") {
        return broken("what was acknowledged is there", format!("{value:?}"));
    }
    world.start(leader)?;
    world.run_ms(500)?;
    world.judge()
}
