//! A step in words.

use std::fmt::{Display, Formatter, Result};

use super::notation::{Ask, Failing, Nodes, Role, Step};
use crate::text::words::quote;

impl Display for Nodes {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&self.0)
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Step::WaitForLeader(step) => match &step.not {
                Some(not) => write!(f, "wait for a leader other than {not}"),
                None => f.write_str("wait for a leader"),
            },
            Step::Choose(step) => write!(f, "choose {} from {}", step.name, step.from),
            Step::Kill(nodes) => write!(f, "kill {nodes}"),
            Step::Stop(nodes) => write!(f, "stop {nodes}"),
            Step::Start(nodes) => write!(f, "start {nodes}"),
            Step::Pause(nodes) => write!(f, "pause {nodes}"),
            Step::Resume(nodes) => write!(f, "resume {nodes}"),
            Step::Partition(step) => {
                let groups: Vec<&str> = step.groups.iter().map(|group| group.0.as_str()).collect();
                write!(f, "partition {}", groups.join(" | "))
            }
            Step::Heal(nodes) => write!(f, "heal {nodes}"),
            Step::Add(guest) => write!(f, "add a node, {}", guest.name),
            Step::Remove(nodes) => write!(f, "remove {nodes}"),
            Step::Replace(step) => write!(f, "replace {} by a new node, {}", step.node, step.name),
            Step::Transfer(nodes) => write!(f, "hand leadership over to {nodes}"),
            Step::Mark(name) => write!(f, "mark {name}"),
            Step::Set(ask) => {
                let entries: Vec<String> = ask.values.iter().map(entry).collect();
                asked(f, "SET", &entries, ask)
            }
            Step::Get(ask) => {
                let keys: Vec<String> = ask.values.keys().map(|key| quote(key)).collect();
                asked(f, "GET", &keys, ask)
            }
            Step::ExpectOneLeader(_) => f.write_str("one leader, and all follow it"),
            Step::ExpectNoLeader(_) => f.write_str("nobody leads"),
            Step::ExpectMembers(step) => {
                write!(f, "voters: {}", step.voters)?;
                match step.survives {
                    Some(count) => write!(f, ", and {count} may fail"),
                    None => Ok(()),
                }
            }
            Step::ExpectRole(step) => match step.role {
                Role::Leader => write!(f, "{} leads", step.nodes),
                Role::Follower => write!(f, "{} follows", step.nodes),
            },
            Step::ExpectLog(step) => {
                let what = match (step.no_op, step.writes) {
                    (true, true) => "the leader's NO-OP and every SET",
                    (true, false) => "the leader's NO-OP",
                    (false, true) => "every SET",
                    (false, false) => "whole lines",
                };
                write!(f, "logs.txt of {}: {what}", step.nodes)
            }
            Step::ExpectState(step) => write!(f, "state of {} up to date", step.nodes),
            Step::ExpectCounters(step) => {
                write!(f, "counters of {} since {}", step.nodes, step.since)
            }
            Step::ExpectDump(step) => {
                let never = if step.never { "never " } else { "" };
                write!(f, "dump.txt of {}: {never}{:?}", step.nodes, step.says)
            }
            Step::ExpectLeaseExpiry(step) => {
                write!(
                    f,
                    "dump.txt: {} stepped down when its lease was over",
                    step.leader
                )
            }
        }
    }
}

fn entry((key, value): (&String, &String)) -> String {
    format!("{} {}", quote(key), quote(value))
}

fn asked(f: &mut Formatter<'_>, verb: &str, what: &[String], ask: &Ask) -> Result {
    write!(f, "{verb} {}", what.join(", "))?;
    if let Some(to) = &ask.to {
        write!(f, " to {to}")?;
    }
    match ask.fails {
        Some(Failing::NoLeader) => f.write_str(", refused for want of a leader"),
        Some(Failing::OutcomeUnknown) => f.write_str(", outcome unknown"),
        None => Ok(()),
    }
}
