//! What somebody should look at, by one look at the cluster: the conditions of `monitoring/rules.yml` that
//! one look can tell, under the same names. `top` shows them, `doctor` finds them. Pure.
//!
//! An alert there waits until its condition has lasted; whoever looks here is told at once.

use std::collections::BTreeMap;
use std::time::Duration;

use raftkv::admin::{LogState, StatusReply};

use super::rates::Rates;
use super::status::{NodeStatus, Snapshot};
use crate::cluster::NodeId;

/// A node that lacks more entries than this is behind.
pub const LAG_MAX: u64 = 10_000;

/// A flush takes no longer on a good disk, 99 times of 100.
pub const FSYNC_P99_MAX: Duration = Duration::from_millis(100);

/// With less room than so many times of what is kept for the node itself, a disk is nearly full.
const KEPT_TIMES: u64 = 2;

/// How soon somebody should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Now.
    Page,
    /// On the next working day.
    Ticket,
}

/// An alert of `monitoring/rules.yml` that one look can tell; those first that can wait least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Nobody has a lease.
    NoLease,
    /// The disk has no room for writes.
    DiskFull,
    /// Snapshots of one entry differ.
    StateDiffers,
    /// Entries were lost to damage.
    LogDamaged,
    /// One more failure, and nothing is written.
    NoToleranceLeft,
    /// A node does not answer.
    NodeDown,
    /// Flushes take long.
    SlowDisk,
    /// The disk has little room.
    DiskNearlyFull,
    /// A node lacks entries.
    FollowerBehind,
}

impl Rule {
    /// Its name there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rule::NoLease => "RaftkvNoLease",
            Rule::DiskFull => "RaftkvDiskFull",
            Rule::StateDiffers => "RaftkvStateDiffers",
            Rule::LogDamaged => "RaftkvLogDamaged",
            Rule::NoToleranceLeft => "RaftkvNoToleranceLeft",
            Rule::NodeDown => "RaftkvNodeDown",
            Rule::SlowDisk => "RaftkvSlowDisk",
            Rule::DiskNearlyFull => "RaftkvDiskNearlyFull",
            Rule::FollowerBehind => "RaftkvFollowerBehind",
        }
    }

    /// How soon somebody should look.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Rule::NoLease
            | Rule::DiskFull
            | Rule::StateDiffers
            | Rule::LogDamaged
            | Rule::NoToleranceLeft => Severity::Page,
            Rule::NodeDown | Rule::SlowDisk | Rule::DiskNearlyFull | Rule::FollowerBehind => {
                Severity::Ticket
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Rule::NoLease => {
                "nothing is read or written: a majority has to run and reach each other"
            }
            Rule::DiskFull => "free some: writes come back by themselves",
            Rule::StateDiffers => "docs/files.md says what to do",
            Rule::LogDamaged => {
                "a leader refills it; where there is none, docs/files.md says what to do"
            }
            Rule::NoToleranceLeft => "bring the others back before anything else fails",
            Rule::NodeDown => "the cluster goes on while a majority lives",
            Rule::SlowDisk => {
                "every write waits for the flushes of a majority: look for what else uses the disk"
            }
            Rule::DiskNearlyFull => "free some, or make the disk larger",
            Rule::FollowerBehind => "look again in a while: it should catch up",
        }
    }
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// By which rule.
    pub rule: Rule,
    /// Of which node; `None`: of the cluster.
    pub node: Option<NodeId>,
    /// What is wrong.
    pub text: String,
}

/// All that a look shows, what can wait least first.
#[must_use]
pub fn of(snapshot: &Snapshot, rates: &BTreeMap<NodeId, Rates>) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    of_cluster(snapshot, &mut alarms);
    for node in &snapshot.nodes {
        of_node(node, snapshot, rates.get(&node.id), &mut alarms);
    }
    alarms.sort_by_key(|alarm| (alarm.rule, alarm.node));
    alarms
}

fn of_cluster(snapshot: &Snapshot, alarms: &mut Vec<Alarm>) {
    let mut tell = |rule, text| {
        let node = None;
        alarms.push(Alarm { rule, node, text });
    };
    let replies = snapshot.nodes.iter();
    let mut replies = replies.filter_map(|node| node.reply.as_ref().ok());
    if replies.all(|reply| reply.lease_remaining_ms.is_none()) {
        tell(
            Rule::NoLease,
            match snapshot.leader {
                Some(id) => format!("the leader, node {id}, has no lease"),
                None => "the cluster has no leader".to_owned(),
            },
        );
    }
    let leader = snapshot.leader.and_then(|id| snapshot.node(id));
    let Some(leader) = leader.and_then(|node| node.reply.as_ref().ok()) else {
        return;
    };
    let members = leader.membership.iter().flat_map(|it| &it.members);
    let voters = members.filter(|it| it.voter || it.outgoing).count();
    if leader.survives_failures == Some(0) && voters > 2 {
        let text = "the cluster can't lose one more node".to_owned();
        tell(Rule::NoToleranceLeft, text);
    }
    for peer in leader.peers.iter().filter(|peer| peer.state_differs_at > 0) {
        tell(
            Rule::StateDiffers,
            format!("node {} has another state than the others", peer.node_id),
        );
    }
}

fn of_node(node: &NodeStatus, snapshot: &Snapshot, rates: Option<&Rates>, alarms: &mut Vec<Alarm>) {
    let id = node.id;
    let mut tell = |rule, text| {
        let node = Some(id);
        alarms.push(Alarm { rule, node, text });
    };
    let reply = match &node.reply {
        Ok(reply) => reply,
        Err(_) => return tell(Rule::NodeDown, format!("node {id} does not answer")),
    };
    if reply.log_state() == LogState::Damaged {
        let text = format!("the log of node {id} is damaged, and it does not vote");
        tell(Rule::LogDamaged, text);
    }
    if let Some(disk) = reply.disk {
        let left = format!(
            "node {id} has {} MiB left on its disk",
            disk.free_bytes >> 20
        );
        if disk.free_bytes < disk.kept_bytes {
            tell(Rule::DiskFull, format!("{left} and refuses writes"));
        } else if disk.free_bytes < disk.kept_bytes.saturating_mul(KEPT_TIMES) {
            tell(Rule::DiskNearlyFull, left);
        }
    }
    let behind = lag(snapshot, reply);
    if behind > LAG_MAX {
        tell(
            Rule::FollowerBehind,
            format!("node {id} is {behind} entries behind"),
        );
    }
    if let Some(p99) = rates
        .and_then(|rates| rates.fsync_p99)
        .filter(|p99| *p99 > FSYNC_P99_MAX)
    {
        let text = format!(
            "the disk of node {id} takes {} ms for a flush (p99)",
            p99.as_millis()
        );
        tell(Rule::SlowDisk, text);
    }
}

/// As many entries that are committed are not applied at a node.
#[must_use]
pub fn lag(snapshot: &Snapshot, reply: &StatusReply) -> u64 {
    let replies = snapshot.nodes.iter();
    let replies = replies.filter_map(|node| node.reply.as_ref().ok());
    let commit = replies.map(|reply| reply.commit_index).max();
    commit.unwrap_or(0).saturating_sub(reply.applied_index)
}

#[cfg(test)]
mod tests {
    use raftkv::admin::{DiskRoom, Member, Membership, PeerProgress, Role};

    use super::*;

    const ALL: [Rule; 9] = [
        Rule::NoLease,
        Rule::DiskFull,
        Rule::StateDiffers,
        Rule::LogDamaged,
        Rule::NoToleranceLeft,
        Rule::NodeDown,
        Rule::SlowDisk,
        Rule::DiskNearlyFull,
        Rule::FollowerBehind,
    ];

    /// Alerts that one look can't tell: they are about what happened in a while.
    const IN_A_WHILE: &[&str] = &[
        "RaftkvElections",
        "RaftkvDiskStalled",
        "RaftkvClockDrift",
        "RaftkvSnapshotOverdue",
        "RaftkvOverloaded",
    ];

    /// What the expression of a rule says, word by word.
    fn condition(rule: Rule) -> String {
        match rule {
            Rule::NoLease => "max by (job, cluster) (raftkv_lease_remaining_seconds) == 0".into(),
            Rule::DiskFull => "raftkv_disk_free_bytes < raftkv_disk_kept_bytes".into(),
            Rule::StateDiffers => "increase(raftkv_state_differences_total[1h]) > 0".into(),
            Rule::LogDamaged => "raftkv_log_damaged == 1".into(),
            Rule::NoToleranceLeft => {
                "(raftkv_failure_tolerance == 0) and (raftkv_leader == 1) and \
                                      (raftkv_voters > 2)"
                    .into()
            }
            Rule::NodeDown => "up{job=\"raftkv\"} == 0".into(),
            Rule::SlowDisk => format!(
                "histogram_quantile(0.99, sum by (job, cluster, instance, le) \
                 (rate(raftkv_fsync_duration_seconds_bucket[5m]))) > {}",
                FSYNC_P99_MAX.as_secs_f64()
            ),
            Rule::DiskNearlyFull => {
                format!("raftkv_disk_free_bytes < {KEPT_TIMES} * raftkv_disk_kept_bytes")
            }
            Rule::FollowerBehind => format!(
                "(max by (job, cluster) (raftkv_commit_index)) - on (job, cluster) group_right () \
                 raftkv_applied_index > {LAG_MAX}"
            ),
        }
    }

    // Every alert is known here or is about a while, with the same condition, bounds and severity.
    #[test]
    fn the_rules_are_those_of_monitoring() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../monitoring/rules.yml");
        let text = std::fs::read_to_string(file).unwrap();
        let alerts: BTreeMap<String, String> = text
            .split("- alert: ")
            .skip(1)
            .map(|alert| {
                let (name, rest) = alert.split_once('\n').unwrap();
                let words: Vec<&str> = rest.split_whitespace().collect();
                (name.to_owned(), words.join(" "))
            })
            .collect();
        for rule in ALL {
            let alert = alerts
                .get(rule.name())
                .unwrap_or_else(|| panic!("{rule:?}"));
            let expression = alert
                .strip_prefix("expr: ")
                .unwrap()
                .trim_start_matches(">- ");
            let condition = condition(rule);
            let rest = expression.strip_prefix(&condition);
            let rest = rest
                .unwrap_or_else(|| panic!("{condition}\n{expression}"))
                .trim_start();
            assert!(
                rest.starts_with("for:") || rest.starts_with("labels:"),
                "{rest}"
            );
            let severity = match rule.severity() {
                Severity::Page => "{severity: page}",
                Severity::Ticket => "{severity: ticket}",
            };
            assert!(alert.contains(severity), "{rule:?}");
        }
        let known = ALL.iter().map(|rule| rule.name());
        let mut known: Vec<&str> = known.chain(IN_A_WHILE.iter().copied()).collect();
        known.sort_unstable();
        assert_eq!(known, alerts.keys().collect::<Vec<_>>());
    }

    fn node(id: NodeId, reply: StatusReply) -> NodeStatus {
        NodeStatus {
            id,
            address: String::new(),
            process: None,
            host_error: None,
            is_filtered: false,
            reply: Ok(reply),
        }
    }

    fn leader() -> StatusReply {
        let member = |node_id| Member {
            node_id,
            voter: true,
            ..Member::default()
        };
        StatusReply {
            node_id: 1,
            role: Role::Leader.into(),
            commit_index: 20_000,
            applied_index: 20_000,
            lease_remaining_ms: Some(1900),
            survives_failures: Some(1),
            disk: Some(DiskRoom {
                free_bytes: 1 << 30,
                kept_bytes: 64 << 20,
                refuses_writes: false,
            }),
            membership: Some(Membership {
                members: [1, 2, 3].map(member).to_vec(),
                ..Membership::default()
            }),
            ..StatusReply::default()
        }
    }

    fn names(change: impl Fn(&mut StatusReply), rates: Rates) -> Vec<Rule> {
        let mut reply = leader();
        change(&mut reply);
        let mut snapshot = Snapshot {
            leader: Some(1),
            term: Some(2),
            nodes: vec![node(1, reply)],
        };
        let follower = StatusReply {
            applied_index: 19_999,
            ..StatusReply::default()
        };
        snapshot.nodes.push(node(2, follower));
        let alarms = of(&snapshot, &BTreeMap::from([(1, rates)]));
        alarms.into_iter().map(|alarm| alarm.rule).collect()
    }

    // Each is raised for its cause, and none where all is well.
    #[test]
    fn each_is_raised_for_its_cause() {
        let quiet = Rates::default();
        assert_eq!(names(|_| (), quiet), []);
        assert_eq!(
            names(|it| it.lease_remaining_ms = None, quiet),
            [Rule::NoLease]
        );
        assert_eq!(
            names(|it| it.survives_failures = Some(0), quiet),
            [Rule::NoToleranceLeft]
        );
        let differs = |it: &mut StatusReply| {
            it.peers.push(PeerProgress {
                state_differs_at: 7,
                ..PeerProgress::default()
            })
        };
        assert_eq!(names(differs, quiet), [Rule::StateDiffers]);
        let damaged = |it: &mut StatusReply| it.log_state = LogState::Damaged.into();
        assert_eq!(names(damaged, quiet), [Rule::LogDamaged]);
        let free = |bytes| move |it: &mut StatusReply| it.disk.as_mut().unwrap().free_bytes = bytes;
        assert_eq!(names(free(63 << 20), quiet), [Rule::DiskFull]);
        assert_eq!(names(free(127 << 20), quiet), [Rule::DiskNearlyFull]);
        assert_eq!(
            names(|it| it.commit_index = 30_000, quiet),
            [Rule::FollowerBehind]
        );
        let slow = Rates {
            fsync_p99: Some(Duration::from_millis(101)),
            ..Rates::default()
        };
        assert_eq!(names(|_| (), slow), [Rule::SlowDisk]);
    }
}
