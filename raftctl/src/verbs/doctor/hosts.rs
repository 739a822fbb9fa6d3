//! What `doctor` finds on hosts of their own: clocks, locks, packet filters, releases, containers.

use super::finding::Finding;
use crate::cluster::outcomes::Outcomes;
use crate::cluster::{NodeId, list};
use crate::hosts::control::HostFacts;
use crate::hosts::lock;
use crate::ops::Context;
use crate::providers;

/// A clock that is further off than this is worth a note. Leases trust no clock to be right, only
/// to run at the right speed; but times in dump.txt can't be compared any more.
const CLOCK_AHEAD_MS_MAX: i64 = 500;

/// Looks at all of it.
pub(super) async fn look(
    context: &Context,
    hosts: &Outcomes<HostFacts>,
    findings: &mut Vec<Finding>,
) {
    if !context.has_remote_hosts() {
        return;
    }
    let settings = hosts
        .iter()
        .filter_map(|(id, host)| Some((*id, host.as_ref().ok()?)));
    let settings: Vec<(NodeId, &HostFacts)> = settings.collect();
    look_at_clocks(&settings, findings);
    look_at_releases(&settings, findings);
    let answering: Vec<NodeId> = settings.iter().map(|(id, _)| *id).collect();
    look_at_filters(&settings, findings);
    look_for_locks(context, &answering, findings).await;
    look_for_orphans(context, findings);
}

fn look_at_clocks(hosts: &[(NodeId, &HostFacts)], findings: &mut Vec<Finding>) {
    for (id, host) in hosts {
        let Some(ahead_ms) = host.setting.clock_ahead_ms else {
            continue;
        };
        let within_ms = host.setting.clock_within_ms;
        if ahead_ms.abs() - within_ms <= CLOCK_AHEAD_MS_MAX {
            continue;
        }
        let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
        findings.push(Finding {
            is_serious: false,
            text: format!(
                "the clock of node {id} is {} ms {direction} this machine's, give or take \
                 {within_ms} ms",
                ahead_ms.abs()
            ),
            advice: "times in dump.txt can't be compared; set the clocks by NTP (with systemd: `timedatectl \
                     set-ntp true` there)"
                .into(),
        });
    }
}

fn look_at_releases(hosts: &[(NodeId, &HostFacts)], findings: &mut Vec<Finding>) {
    let is_way_back = |release: &str| {
        let mut settings = hosts.iter().map(|(_, host)| &host.setting);
        settings.any(|setting| {
            let has = |link: &Option<String>| link.as_deref() == Some(release);
            has(&setting.release) && has(&setting.previous)
        })
    };
    for (id, host) in hosts {
        let node = host.nodes.iter().find(|node| node.id == *id);
        let runs = node.and_then(|node| node.sha256.as_deref());
        let (Some(runs), Some(release)) = (runs, host.setting.release.as_deref()) else {
            continue;
        };
        if runs.starts_with(release) {
            continue;
        }
        let advice = if is_way_back(release) {
            "a way back was interrupted: `raftctl upgrade --rollback` goes on, `raftctl upgrade` \
             brings the binary of cluster.yaml"
        } else {
            "an upgrade was interrupted: `raftctl upgrade` goes on, `raftctl upgrade --rollback` \
             goes back"
        };
        findings.push(Finding {
            is_serious: false,
            text: format!("node {id} runs another release than the one that its host has"),
            advice: advice.into(),
        });
    }
}

fn look_at_filters(hosts: &[(NodeId, &HostFacts)], findings: &mut Vec<Finding>) {
    let nodes = hosts.iter().flat_map(|(_, host)| &host.nodes);
    let filtered = nodes.filter(|node| node.is_filtered);
    let filtered: Vec<NodeId> = filtered.map(|node| node.id).collect();
    if !filtered.is_empty() {
        findings.push(Finding {
            is_serious: false,
            text: format!("a packet filter of raftctl cuts off {}", list(&filtered)),
            advice: "`raftctl heal`; it takes itself away when its time is over".into(),
        });
    }
}

async fn look_for_locks(context: &Context, ids: &[NodeId], findings: &mut Vec<Finding>) {
    for id in ids {
        let host = context.inventory.host_of(*id);
        // A host that does not answer any more has been told of.
        let Ok(Some((holder, left_seconds))) = lock::show(host, context.cluster.limits.step).await
        else {
            continue;
        };
        findings.push(Finding {
            is_serious: false,
            text: format!("the cluster is locked by {holder}"),
            advice: format!(
                "wait until that is done; if it is over already, the lock ends by itself in {left_seconds} s"
            ),
        });
        return; // The same on every host.
    }
}

fn look_for_orphans(context: &Context, findings: &mut Vec<Finding>) {
    let orphans = providers::orphans(&context.cluster);
    if !orphans.is_empty() {
        findings.push(Finding {
            is_serious: false,
            text: format!(
                "containers of raftctl whose folder is gone: {}",
                orphans.join(", ")
            ),
            advice: format!(
                "if nobody needs their data: `docker rm --force --volumes {}`",
                orphans.join(" ")
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A node that runs another release than its host has was left in the middle of an upgrade, or of
    // the way back: what goes on is another command.
    #[test]
    fn an_upgrade_in_the_middle_is_told() {
        let told = |runs: &str, previous: &str| {
            let mut host = HostFacts::blank(1);
            host.setting.release = Some("0123456789ab".into());
            host.setting.previous = Some(previous.into());
            host.nodes[0].sha256 = Some(runs.into());
            let mut findings = Vec::new();
            look_at_releases(&[(1, &host)], &mut findings);
            findings.pop().map(|finding| finding.advice)
        };
        let (own, other) = ("0123456789abcdef", "fedcba9876543210");
        assert_eq!(told(own, "fedcba987654"), None);
        let forward = told(other, "fedcba987654").unwrap();
        assert!(forward.contains("`raftctl upgrade` goes on"), "{forward}");
        let back = told(other, "0123456789ab").unwrap();
        assert!(
            back.contains("`raftctl upgrade --rollback` goes on"),
            "{back}"
        );
    }

    // Only a clock that is off for certain is told: not one that just took long to answer.
    #[test]
    fn clocks_that_are_off_are_told() {
        let told = |ahead_ms, within_ms| {
            let mut host = HostFacts::blank(1);
            host.setting.clock_ahead_ms = Some(ahead_ms);
            host.setting.clock_within_ms = within_ms;
            let mut findings = Vec::new();
            look_at_clocks(&[(1, &host)], &mut findings);
            findings.pop().map(|finding| finding.text)
        };
        assert_eq!(told(400, 5), None);
        assert_eq!(told(2000, 1600), None);
        assert!(
            told(2000, 100)
                .unwrap()
                .contains("2000 ms ahead of this machine's")
        );
        assert!(told(-9000, 100).unwrap().contains("9000 ms behind"));
    }
}
