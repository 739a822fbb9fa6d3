//! The command line of raft-node.

use std::path::Path;

use crate::cluster::id::ClusterId;
use crate::cluster::{Cluster, FORMAT_NEWEST, NodeId};
use crate::hosts::inventory::{Host, Inventory, Member};
use crate::scripts::{CLUSTER_ID, FORMAT_MAX, LATER, METRICS_LISTEN, SNAPSHOT_LOG, StartNode};

/// All that is needed to start a node: `executable` is the binary's path on this machine.
#[must_use]
pub fn start_node(
    cluster: &Cluster,
    inventory: &Inventory,
    cluster_id: Option<ClusterId>,
    id: NodeId,
    (executable, sha256): (&Path, &str),
) -> StartNode {
    let host = inventory.host_of(id);
    let mut arguments = arguments(cluster, host, inventory.member(id), &inventory.members);
    if let Some(id) = cluster_id {
        arguments.extend([CLUSTER_ID.to_owned(), id.to_string()]);
    }
    StartNode {
        layout: host.layout.node(id),
        executable: host.layout.executable(executable),
        arguments,
        sha256: sha256.to_owned(),
    }
}

/// The arguments of a node. Everything is said, nothing left to the node's defaults: what runs is
/// what the file of arguments shows, and a change in cluster.yaml is a difference to it.
fn arguments(cluster: &Cluster, host: &Host, own: &Member, members: &[Member]) -> Vec<String> {
    let timing = &cluster.timing;
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: String| {
        arguments.push(name.to_owned());
        arguments.push(value);
    };
    option("--id", own.id.to_string());
    option("--cluster", cluster.name.clone());
    option("--data-dir", host.layout.node(own.id).data_dir);
    option("--listen-peers", own.listen_peers.clone());
    option("--listen-clients", own.listen_clients.clone());
    if let Some(address) = cluster.metrics_listen(own.id, &own.listen_clients) {
        option(METRICS_LISTEN, address);
    }
    for member in members {
        let (peers, clients) = (&member.peer_address, &member.client_address);
        option(MEMBER, format!("{},{peers},{clients}", member.id));
    }
    let (min, max) = (
        timing.election_timeout_min_ms,
        timing.election_timeout_max_ms,
    );
    option("--election-timeout-ms", format!("{min}-{max}"));
    option("--heartbeat-ms", timing.heartbeat_ms.to_string());
    option("--lease-ms", timing.lease_ms.to_string());
    option(
        "--max-clock-drift-ppm",
        timing.max_clock_drift_ppm.to_string(),
    );
    option("--inherited-reads", cluster.inherited_reads.to_string());
    option(SNAPSHOT_LOG, cluster.snapshot_log_kib.to_string());
    let format_max = cluster.format_max.map(|format| format.to_string());
    let newest = || FORMAT_NEWEST.to_owned();
    option(FORMAT_MAX, format_max.unwrap_or_else(newest));
    if cluster.fault_injection {
        arguments.push("--allow-fault-injection".into());
    }
    arguments.push("--quiet".into());
    arguments
}

/// What changed between the arguments that a node runs with and those it is to have, for people:
/// "--lease-ms 2000 -> 3000". Addresses of the members in `guessed` tell nothing. Nor do options that came
/// later, where the node runs without: it gets them at its next start, if its binary takes them, and
/// works with the others until then.
#[must_use]
pub fn differences(running: &[String], wanted: &[String], guessed: &[NodeId]) -> Vec<String> {
    let sure = |arguments| without_members(options(arguments), guessed);
    let (mut running, mut wanted) = (sure(running), sure(wanted));
    let runs_without = |name: &str| !running.iter().any(|(other, _)| *other == name);
    wanted.retain(|(name, _)| !(LATER.contains(name) && runs_without(name)));
    if !wanted.iter().any(|(name, _)| *name == CLUSTER_ID) {
        // Nobody could tell what it is to be.
        running.retain(|(name, _)| *name != CLUSTER_ID);
    }
    let mut differences = Vec::new();
    for (name, values) in &wanted {
        match running.iter().find(|(other, _)| other == name) {
            None => differences.push(format!("{name} is new")),
            Some((_, old)) if old != values => {
                differences.push(format!("{name} {} -> {}", old.join(" "), values.join(" ")));
            }
            Some(_) => {}
        }
    }
    for (name, _) in &running {
        if !wanted.iter().any(|(other, _)| other == name) {
            differences.push(format!("{name} is gone"));
        }
    }
    differences
}

/// Whether a difference, as [`differences`] tells it, is one that nodes may have from each other: they are
/// restarted one by one for it.
#[must_use]
pub fn is_mild(difference: &str) -> bool {
    let name = difference.split(' ').next();
    [SNAPSHOT_LOG, FORMAT_MAX, METRICS_LISTEN]
        .map(Some)
        .contains(&name)
}

fn without_members<'a>(
    mut options: Vec<(&'a str, Vec<&'a str>)>,
    ids: &[NodeId],
) -> Vec<(&'a str, Vec<&'a str>)> {
    for (name, values) in &mut options {
        if *name == MEMBER {
            values.retain(|member| !member_id(member).is_some_and(|id| ids.contains(&id)));
        }
    }
    options
}

/// The option that names a member, as `<id>,<peer address>,<client address>`.
const MEMBER: &str = "--node";

fn member_id(member: &str) -> Option<NodeId> {
    member.split(',').next()?.parse().ok()
}

/// The ids of the members that a node was started with, rising; none where there are no arguments.
#[must_use]
pub fn member_ids(arguments: &[String]) -> Vec<NodeId> {
    let options = options(arguments);
    let members = options.iter().find(|(name, _)| *name == MEMBER);
    let mut ids: Vec<NodeId> = members.map_or(Vec::new(), |(_, members)| {
        members
            .iter()
            .filter_map(|member| member_id(member))
            .collect()
    });
    ids.sort_unstable();
    ids
}

/// Options with all their values, in the order of the first of each.
fn options(arguments: &[String]) -> Vec<(&str, Vec<&str>)> {
    let mut options: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut current = None;
    for word in arguments {
        if word.starts_with("--") {
            let known = options.iter().position(|(name, _)| name == word);
            current = Some(known.unwrap_or_else(|| {
                options.push((word, Vec::new()));
                options.len() - 1
            }));
        } else if let Some(at) = current {
            options[at].1.push(word);
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    // Who runs without the cluster's id is not stopped for it; another id is another cluster.
    #[test]
    fn a_missing_id_is_no_difference() {
        let (without, with) = (words("--id 1"), words("--id 1 --cluster-id aa"));
        assert!(differences(&without, &with, &[]).is_empty());
        assert!(differences(&with, &without, &[]).is_empty());
        let other = words("--id 1 --cluster-id bb");
        assert_eq!(differences(&with, &other, &[]), ["--cluster-id aa -> bb"]);
    }

    // What an older release was started without is no difference; a change of it is one, for which
    // nodes need not be stopped together.
    #[test]
    fn a_later_option_is_missed_by_nobody() {
        let wanted = words("--id 1 --format-max 1 --snapshot-log-kib 16");
        assert!(differences(&words("--id 1"), &wanted, &[]).is_empty());
        let running = words("--id 1 --format-max newest --snapshot-log-kib 16");
        let changed = differences(&running, &wanted, &[]);
        assert_eq!(changed, ["--format-max newest -> 1"]);
        assert!(is_mild(&changed[0]) && !is_mild("--lease-ms 2000 -> 3000"));
    }

    // A change is told by its option, with both values; what did not change is not mentioned.
    #[test]
    fn differences_are_told() {
        let running = words("--id 1 --node 1,a,b --node 2,c,d --lease-ms 2000 --old x");
        let wanted = words("--id 1 --node 1,a,b --node 2,c,e --lease-ms 3000 --quiet");
        assert_eq!(
            differences(&running, &wanted, &[]),
            [
                "--node 1,a,b 2,c,d -> 1,a,b 2,c,e",
                "--lease-ms 2000 -> 3000",
                "--quiet is new",
                "--old is gone"
            ]
        );
        assert!(differences(&running, &running, &[]).is_empty());
        // Where an address is only guessed, it is not known to be another.
        let guessed = words("--id 1 --node 1,a,b --node 2,guessed,d --lease-ms 2000 --old x");
        assert!(differences(&running, &guessed, &[2]).is_empty());
        assert_eq!(differences(&running, &guessed, &[1]).len(), 1);
    }
}
