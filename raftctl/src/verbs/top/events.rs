//! What has happened between two looks. Pure.
//!
//! What came and went between them is not seen here; `raftctl timeline` tells all of it afterwards.

use raftkv::admin::{Role, StatusReply};

use super::model::Look;
use crate::cluster::{NodeId, list};
use crate::hosts::control::ProcessState;
use crate::ops::alarms::Alarm;
use crate::ops::status::NodeStatus;

/// In words, a line each.
#[must_use]
pub fn between(before: &Look, after: &Look) -> Vec<String> {
    let mut told = Vec::new();
    let (old, new) = (&before.snapshot, &after.snapshot);
    let term = new.term.unwrap_or(0);
    if old.leader != new.leader {
        told.push(match new.leader {
            Some(id) => format!("node {id} leads, term {term}"),
            None => "nobody leads".to_owned(),
        });
    }
    for node in &new.nodes {
        if let Some(known) = old.node(node.id) {
            of_process(known, node, &mut told);
            if let (Ok(known), Ok(reply)) = (&known.reply, &node.reply) {
                of_reply(node.id, known, reply, &mut told);
            }
        }
    }
    of_configuration(before, after, &mut told);
    let is_new = |alarm: &&Alarm| !holds(&before.alarms, alarm);
    let raised = after.alarms.iter().filter(is_new);
    told.extend(raised.map(|alarm| format!("{}: {}", alarm.rule.name(), alarm.text)));
    let is_over = |alarm: &&Alarm| !holds(&after.alarms, alarm);
    let over = before.alarms.iter().filter(is_over);
    told.extend(over.map(|alarm| match alarm.node {
        Some(id) => format!("{} of node {id} is over", alarm.rule.name()),
        None => format!("{} is over", alarm.rule.name()),
    }));
    told
}

/// Texts hold figures that change.
fn holds(alarms: &[Alarm], wanted: &Alarm) -> bool {
    let mut alarms = alarms.iter();
    alarms.any(|alarm| (alarm.rule, alarm.node) == (wanted.rule, wanted.node))
}

fn of_process(before: &NodeStatus, after: &NodeStatus, told: &mut Vec<String>) {
    let id = after.id;
    match (&before.reply, &after.reply) {
        (Ok(known), Ok(reply)) if known.pid != reply.pid => {
            told.push(format!("node {id} was started again"));
        }
        (Err(_), Ok(_)) => told.push(format!("node {id} answers")),
        // That it does not any more is an alarm.
        _ => {}
    }
    if before.process != after.process {
        match after.process {
            Some(ProcessState::Paused) => told.push(format!("node {id} is paused")),
            Some(ProcessState::Stopped) => told.push(format!("node {id} does not run")),
            Some(ProcessState::Running) | None => {}
        }
    }
}

fn of_reply(id: NodeId, before: &StatusReply, after: &StatusReply, told: &mut Vec<String>) {
    let mut tell = |text: String| told.push(format!("node {id} {text}"));
    let term = after.term;
    let came_to_stand = before.role() != Role::Candidate || before.term < term;
    if after.role() == Role::Candidate && came_to_stand {
        tell(format!("stands for election, term {term}"));
    }
    if before.role() == Role::Leader && after.role() != Role::Leader {
        tell("leads no more".to_owned());
    }
    match (before.lease_remaining_ms, after.lease_remaining_ms) {
        (None, Some(_)) => tell("has a lease".to_owned()),
        (Some(_), None) => tell("has no lease any more".to_owned()),
        _ => {}
    }
    match (before.old_lease_remaining_ms, after.old_lease_remaining_ms) {
        (None, Some(left)) => tell(format!("waits {left} ms for the lease before its own")),
        (Some(_), None) if after.role() == Role::Leader => {
            tell("has waited for the lease before its own".to_owned());
        }
        _ => {}
    }
    let cuts = |reply: &StatusReply| {
        let cut = reply.cut_links.iter().map(|cut| cut.peer_id);
        cut.collect::<Vec<NodeId>>()
    };
    match cuts(after) {
        cut if cut == cuts(before) => {}
        cut if cut.is_empty() => tell("is cut off from nobody any more".to_owned()),
        cut => tell(format!("is cut off from {}", list(&cut))),
    }
    let ends = |reply: &StatusReply| reply.proof_of_death.map_or(0, |proof| proof.ends_proved);
    if ends(after) > ends(before) {
        tell("knows for certain that a run of another has ended".to_owned());
    }
    let Some((known, figures)) = before.figures.as_ref().zip(after.figures.as_ref()) else {
        return;
    };
    if figures.snapshots_taken > known.snapshots_taken {
        tell(format!(
            "took a snapshot, up to entry {}",
            after.snapshot_index
        ));
    }
    if figures.disk_stalls > known.disk_stalls {
        tell("gave up the lead: its disk did not answer".to_owned());
    }
    if figures.lease_renewal_failures > known.lease_renewal_failures {
        tell("led, and no majority answered for a whole lease".to_owned());
    }
}

fn of_configuration(before: &Look, after: &Look, told: &mut Vec<String>) {
    let known = before.snapshot.membership();
    let (Some(known), Some(new)) = (known, after.snapshot.membership()) else {
        return;
    };
    if new.index > known.index {
        told.push(format!(
            "configuration {}: {} vote",
            new.index,
            list(&new.voters())
        ));
    }
}
