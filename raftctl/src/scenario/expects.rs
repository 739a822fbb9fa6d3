//! Steps that expect something of roles, state, logs, counters and dumps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raftkv::admin::{self, StatusReply};

use super::acts::{roles, settled};
use super::amounts::CounterRule;
use super::dumps::{self, LostLeader};
use super::notation::{
    ExpectCounters, ExpectDump, ExpectLeaseExpiry, ExpectLog, ExpectNoLeader, ExpectRole,
    ExpectState, Role, Within,
};
use super::outcome::{Observed, Unmet};
use super::runner::{LOOK_EVERY, Runner, until};
use crate::client::{Client, Read};
use crate::cluster::{NodeId, list};
use crate::ops::store;
use crate::text::records::{LogRecord, Operation};
use crate::text::words::quote;

impl Runner<'_> {
    pub(super) async fn expect_one_leader(&mut self, step: &Within) -> Observed {
        until(self.limit(step.within), async || {
            let replies = self.replies().await;
            let leader = settled(&replies, &[])?;
            Ok(format!("node {} in term {}", leader.node_id, leader.term))
        })
        .await
    }

    pub(super) async fn expect_no_leader(&mut self, step: &ExpectNoLeader) -> Observed {
        let length = step.length.resolve(&self.context.cluster.timing);
        let deadline = Instant::now() + length;
        let mut replies = self.replies().await;
        while Instant::now() < deadline {
            if replies
                .values()
                .any(|reply| reply.role() == admin::Role::Leader)
            {
                return Err(Unmet::expected("nobody leads", roles(&replies)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
            replies = self.replies().await;
        }
        let ids: Vec<NodeId> = replies.keys().copied().collect();
        let mark = self.marked(&step.since);
        let dumps = self.dumps(&ids, mark).await?;
        let became = "Node {id} became the leader for term *.";
        for (id, records) in &dumps {
            let mut lines = records.iter();
            if let Some(line) = lines.find(|line| dumps::says(&line.sentence, became, *id)) {
                return Err(Unmet::expected("nobody becomes the leader", &line.sentence));
            }
        }
        let length = humantime::format_duration(length);
        Ok(format!("for {length}; {}", roles(&replies)))
    }

    pub(super) async fn expect_role(&mut self, step: &ExpectRole) -> Observed {
        let ids = self.resolve(&step.nodes).await?;
        let wanted = match step.role {
            Role::Leader => admin::Role::Leader,
            Role::Follower => admin::Role::Follower,
        };
        until(self.limit(step.within), async || {
            let mut replies = self.replies().await;
            replies.retain(|id, _| ids.contains(id));
            let has_role = |reply: &StatusReply| reply.role() == wanted;
            if replies.len() == ids.len() && replies.values().all(has_role) {
                return Ok(roles(&replies));
            }
            let name = wanted
                .as_str_name()
                .trim_start_matches("ROLE_")
                .to_lowercase();
            Err(Unmet::expected(
                format!("{}: {name}", list(&ids)),
                roles(&replies),
            ))
        })
        .await
    }

    pub(super) async fn expect_log(&mut self, step: &ExpectLog) -> Observed {
        let ids = self.resolve(&step.nodes).await?;
        until(self.limit(step.within), async || {
            let term = match step.no_op {
                true => Some(settled(&self.replies().await, &[])?.term),
                false => None,
            };
            let written = step.writes.then_some(&self.written);
            for (id, records) in self.logs(&ids).await? {
                in_log(&records, term, written)
                    .map_err(|missing| Unmet::expected(missing, format!("not so at node {id}")))?;
            }
            let no_op = term.map(|term| format!("NO-OP of term {term}"));
            let sets = written.map(|written| format!("{} SET", written.len()));
            let what: Vec<String> = no_op.into_iter().chain(sets).collect();
            Ok(format!("{} in {} logs", what.join(" and "), ids.len()))
        })
        .await
    }

    pub(super) async fn expect_state(&mut self, step: &ExpectState) -> Observed {
        let ids = self.resolve(&step.nodes).await?;
        let limit = self.limit(step.within);
        let mut client = Client::new(&store::members(&self.context)).with_timeout(limit);
        until(limit, async || {
            let replies = self.replies().await;
            let committed = settled(&replies, &[])?.commit_index;
            for id in &ids {
                let applied = replies.get(id).map(|reply| reply.applied_index);
                if applied.is_none_or(|applied| applied < committed) {
                    let seen = applied.map_or("no answer".into(), |index| index.to_string());
                    let expected = format!("node {id} has applied up to index {committed}");
                    return Err(Unmet::expected(expected, seen));
                }
            }
            Ok(format!("{} applied up to index {committed}", list(&ids)))
        })
        .await?;
        for id in &ids {
            for (key, value) in &self.written {
                let reply = client.get(key, Read::Stale(Some(*id))).await;
                let reply = reply.map_err(|error| Unmet::Failed(error.to_string()))?;
                if reply.value != *value {
                    let expected = format!("{} {} at node {id}", quote(key), quote(value));
                    return Err(Unmet::expected(expected, quote(&reply.value)));
                }
            }
        }
        let values = match self.written.len() {
            0 => "nothing was set".to_owned(),
            1 => "with the one value set".to_owned(),
            count => format!("with all {count} values set"),
        };
        Ok(format!("{}, {values}", list(&ids)))
    }

    pub(super) async fn expect_counters(&mut self, step: &ExpectCounters) -> Observed {
        let ids = self.resolve(&step.nodes).await?;
        let replies = self.replies().await;
        let mark = self.marked(&step.since);
        let elapsed = mark.at.elapsed();
        let interval = Duration::from_millis(self.context.cluster.timing.heartbeat_ms);
        let mut told = Vec::new();
        for id in &ids {
            let (before, now) = (mark.replies.get(id), replies.get(id));
            let rises = rises(*id, before, now)?;
            for (name, rule) in rules(step) {
                let rise = rises[name];
                if !rule.allows(rise, elapsed, interval) {
                    let expected = rule.describe(elapsed, interval);
                    let expected = format!("{name} of node {id} {expected}");
                    return Err(Unmet::expected(expected, format!("+{rise}")));
                }
                told.push(format!("{name} +{rise}"));
            }
        }
        Ok(format!("{} in {} ms", told.join(", "), elapsed.as_millis()))
    }

    pub(super) async fn expect_dump(&mut self, step: &ExpectDump) -> Observed {
        let ids = self.resolve(&step.nodes).await?;
        let mark = self.marked(&step.since);
        until(self.limit(step.within), async || {
            let mut told = Vec::new();
            for (id, records) in self.dumps(&ids, mark).await? {
                let mut lines = records.iter();
                let found = lines.find(|line| dumps::says(&line.sentence, &step.says, id));
                match (found, step.never) {
                    (Some(line), false) => told.push(line.sentence.clone()),
                    (None, true) => told.push(format!("not at node {id}")),
                    (Some(line), true) => {
                        // It will not go away by waiting.
                        let text = format!("node {id} wrote {:?}", line.sentence);
                        return Err(Unmet::Failed(text));
                    }
                    (None, false) => {
                        let expected = format!("{:?} at node {id}", step.says);
                        return Err(Unmet::expected(expected, "no such line"));
                    }
                }
            }
            Ok(told.join("; "))
        })
        .await
    }

    pub(super) async fn expect_lease_expiry(&mut self, step: &ExpectLeaseExpiry) -> Observed {
        let leaders = self.resolve(&step.leader).await?;
        let [leader] = leaders[..] else {
            return Err(Unmet::Failed(format!(
                "{} can't all have led",
                list(&leaders)
            )));
        };
        let cluster = &self.context.cluster;
        let mark = self.marked(&step.since);
        let lost = LostLeader {
            leader,
            since: mark.dump_ends.get(&leader).copied(),
            majority: cluster.majority(),
            timing: &cluster.timing,
            tolerance: step.tolerance.resolve(&cluster.timing),
        };
        let before = lost.looks_back();
        until(self.limit(step.within), async || {
            let dumps = self.dumps_from(&cluster.ids(), mark, before).await?;
            dumps::lease_expiry(&dumps, lost)
        })
        .await
    }
}

/// Whether a log holds the NO-OP of a term and all these values; else what it lacks.
fn in_log(
    records: &[LogRecord],
    term: Option<u64>,
    written: Option<&BTreeMap<String, String>>,
) -> Result<(), String> {
    if let Some(term) = term {
        let is_no_op =
            |record: &LogRecord| record.operation == Operation::NoOp && record.term == term;
        if !records.iter().any(is_no_op) {
            return Err(format!("NO-OP {term} in logs.txt"));
        }
    }
    for (key, value) in written.into_iter().flatten() {
        let is_set = |record: &LogRecord| matches!(&record.operation, Operation::Set { key: k, value: v } if k == key && v == value);
        if !records.iter().any(is_set) {
            return Err(format!("SET {} {} in logs.txt", quote(key), quote(value)));
        }
    }
    Ok(())
}

fn rules(step: &ExpectCounters) -> Vec<(&'static str, CounterRule)> {
    let rules = [
        ("lease_reads", step.lease_reads),
        ("inherited_reads", step.inherited_reads),
        ("read_rounds", step.read_rounds),
        ("heartbeat_rounds", step.heartbeat_rounds),
        ("elections_started", step.elections_started),
    ];
    rules
        .into_iter()
        .filter_map(|(name, rule)| Some((name, rule?)))
        .collect()
}

/// How far the counters of a node rose.
fn rises(
    id: NodeId,
    before: Option<&StatusReply>,
    now: Option<&StatusReply>,
) -> Result<BTreeMap<&'static str, u64>, Unmet> {
    let (Some(before), Some(now)) = (before, now) else {
        return Err(Unmet::expected(format!("node {id} answers"), "it does not"));
    };
    let same_process = before.pid == now.pid && before.uptime_ms <= now.uptime_ms;
    let (Some(from), Some(to), true) = (before.counters, now.counters, same_process) else {
        return Err(Unmet::expected(
            format!("the counters of node {id} since the mark"),
            "it was started again",
        ));
    };
    Ok(BTreeMap::from([
        (
            "lease_reads",
            to.lease_reads.saturating_sub(from.lease_reads),
        ),
        (
            "inherited_reads",
            to.inherited_reads.saturating_sub(from.inherited_reads),
        ),
        (
            "read_rounds",
            to.read_rounds.saturating_sub(from.read_rounds),
        ),
        (
            "heartbeat_rounds",
            to.heartbeat_rounds.saturating_sub(from.heartbeat_rounds),
        ),
        (
            "elections_started",
            to.elections_started.saturating_sub(from.elections_started),
        ),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::records::parse_log;
    use raftkv::admin::Counters;

    /// A log must hold exactly what was acknowledged, and the NO-OP of the right term.
    #[test]
    fn a_log_is_searched_for_values_and_the_no_op() {
        let text = "NO-OP 2\tindex=1 crc=0\nSET a 1 2\tindex=2 crc=0\nSET a 2 2\tindex=3 crc=0\n";
        let records = parse_log(text, &|_| true).unwrap();
        let written = |entries: &[(&str, &str)]| -> BTreeMap<String, String> {
            entries
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        assert_eq!(
            in_log(&records, Some(2), Some(&written(&[("a", "1")]))),
            Ok(())
        );
        assert_eq!(
            in_log(&records, Some(3), None),
            Err("NO-OP 3 in logs.txt".into())
        );
        let lost = in_log(&records, None, Some(&written(&[("a", "2"), ("b", "x y")])));
        assert_eq!(lost, Err("SET b \"x y\" in logs.txt".into()));
        assert!(in_log(&records, None, Some(&written(&[("a", "3")]))).is_err());
    }

    /// Counters begin anew with a process, so across a restart they tell nothing.
    #[test]
    fn counters_are_compared_within_one_process() {
        let reply = |pid, lease_reads| StatusReply {
            pid,
            counters: Some(Counters {
                lease_reads,
                ..Counters::default()
            }),
            ..StatusReply::default()
        };
        let rose = rises(1, Some(&reply(7, 10)), Some(&reply(7, 13))).unwrap();
        assert_eq!((rose["lease_reads"], rose["read_rounds"]), (3, 0));
        assert!(rises(1, Some(&reply(7, 10)), Some(&reply(8, 13))).is_err());
        assert!(rises(1, None, Some(&reply(8, 13))).is_err());
    }
}
