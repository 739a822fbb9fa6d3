//! The command line of raft-node.
//!
//! The members that a node is *started* with count until its log names others. So a founder of the cluster
//! gets the same ids for ever, whatever cluster.yaml says by now, and whoever came later is started with
//! `--join`, and takes its voters from the log alone.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cluster::id::ClusterId;
use crate::cluster::{Cluster, FORMAT_NEWEST, NodeId, Tls};
use crate::hosts::control::NodeFacts;
use crate::hosts::inventory::{Host, Inventory, Member};
use crate::scripts::{
    CLUSTER_ID, FORMAT_MAX, JOIN, LATER, METRICS_LISTEN, PROOF_OF_DEATH, SNAPSHOT_LOG, StartNode,
    TLS, TLS_OPTIONAL,
};

/// With which nodes a cluster began, as far as those that have data were started with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Founders {
    /// Whether any node has data, and what it was started with is known.
    is_known: bool,
    /// What `--node` said of each.
    nodes: BTreeMap<NodeId, String>,
}

impl Founders {
    /// From what is known of nodes.
    #[must_use]
    pub fn of<'a>(nodes: impl Iterator<Item = &'a NodeFacts>) -> Self {
        let mut founders = Founders::default();
        for node in nodes.filter(|node| node.has_data && !node.arguments.is_empty()) {
            founders.is_known = true;
            if node.arguments.iter().any(|word| word == JOIN) {
                continue;
            }
            for member in members(&node.arguments) {
                if let Some(id) = member_id(member) {
                    founders.nodes.insert(id, member.to_owned());
                }
            }
        }
        founders
    }

    /// Where other nodes and clients reached a founder.
    #[must_use]
    pub fn addresses(&self, id: NodeId) -> Option<(&str, &str)> {
        let (_, addresses) = self.nodes.get(&id)?.split_once(',')?;
        addresses.split_once(',')
    }

    /// Whether a node came, or comes, to a cluster that was there before it.
    #[must_use]
    pub fn joins(&self, id: NodeId) -> bool {
        self.is_known && !self.nodes.contains_key(&id)
    }
}

/// All that is needed to start a node: `executable` is the binary's path on this machine.
#[must_use]
pub fn start_node(
    cluster: &Cluster,
    inventory: &Inventory,
    (cluster_id, founders): (Option<ClusterId>, &Founders),
    id: NodeId,
    (executable, sha256): (&Path, &str),
) -> StartNode {
    let host = inventory.host_of(id);
    let own = inventory.member(id);
    let nodes = with_nodes(founders, own, &inventory.members);
    let mut arguments = arguments(cluster, host, own, nodes);
    if founders.joins(id) {
        arguments.push(JOIN.to_owned());
    }
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

/// What `--node` says: of a founder all founders, where they are now; of whoever joins, and of a new cluster, all
/// nodes that are there. Those that left are not among these: their hosts may be another node's.
fn with_nodes(founders: &Founders, own: &Member, members: &[Member]) -> Vec<String> {
    let is_founder = founders.nodes.contains_key(&own.id);
    let mut nodes = match is_founder {
        true => founders.nodes.clone(),
        false => BTreeMap::new(),
    };
    for member in members {
        if !is_founder || nodes.contains_key(&member.id) {
            let (peers, clients) = (&member.peer_address, &member.client_address);
            nodes.insert(member.id, format!("{},{peers},{clients}", member.id));
        }
    }
    nodes.into_values().collect()
}

/// The arguments of a node. Everything is said, nothing left to the node's defaults: what runs is
/// what the file of arguments shows, and a change in cluster.yaml is a difference to it.
fn arguments(cluster: &Cluster, host: &Host, own: &Member, nodes: Vec<String>) -> Vec<String> {
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
    if cluster.tls.needs_certificates() {
        option(TLS, host.layout.node(own.id).tls_dir);
    }
    for node in nodes {
        option(MEMBER, node);
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
    option(PROOF_OF_DEATH, cluster.proof_of_death.to_string());
    option(SNAPSHOT_LOG, cluster.snapshot_log_kib.to_string());
    let format_max = cluster.format_max.map(|format| format.to_string());
    let newest = || FORMAT_NEWEST.to_owned();
    option(FORMAT_MAX, format_max.unwrap_or_else(newest));
    if cluster.fault_injection {
        arguments.push("--allow-fault-injection".into());
    }
    if cluster.tls == Tls::Both {
        arguments.push(TLS_OPTIONAL.into());
    }
    arguments.push("--quiet".into());
    arguments
}

/// What changed between the arguments that a node runs with and those it is to have, for people:
/// "--lease-ms 2000 -> 3000". Addresses of the members in `guessed` tell nothing, and members that only one of both
/// names: who belongs to a cluster is a matter of its log. Nor do options that came
/// later, where the node runs without: it gets them at its next start, if its binary takes them, and
/// works with the others until then.
#[must_use]
pub fn differences(running: &[String], wanted: &[String], guessed: &[NodeId]) -> Vec<String> {
    let in_both = |id: &NodeId| {
        !guessed.contains(id) && member_ids(running).contains(id) && member_ids(wanted).contains(id)
    };
    let common: Vec<NodeId> = member_ids(wanted).into_iter().filter(in_both).collect();
    let sure = |arguments| of_members(options(arguments), &common);
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
    [SNAPSHOT_LOG, FORMAT_MAX, METRICS_LISTEN, PROOF_OF_DEATH]
        .map(Some)
        .contains(&name)
}

/// Whether a node goes over to TLS, or back, by way of speaking both: then nodes may differ in it for a
/// while, too.
#[must_use]
pub fn is_step_of_tls(difference: &str, running: &[String], wanted: &[String]) -> bool {
    let name = difference.split(' ').next();
    let speaks_both = |arguments: &[String]| arguments.iter().any(|word| word == TLS_OPTIONAL);
    [TLS, TLS_OPTIONAL].map(Some).contains(&name) && (speaks_both(running) || speaks_both(wanted))
}

/// Options with those members alone, and without [`JOIN`], which says of a node only how it came.
fn of_members<'a>(
    mut options: Vec<(&'a str, Vec<&'a str>)>,
    ids: &[NodeId],
) -> Vec<(&'a str, Vec<&'a str>)> {
    options.retain(|(name, _)| *name != JOIN);
    for (name, values) in &mut options {
        if *name == MEMBER {
            values.retain(|member| member_id(member).is_some_and(|id| ids.contains(&id)));
            values.sort_unstable();
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
    let members = members(arguments).into_iter();
    let mut ids: Vec<NodeId> = members.filter_map(member_id).collect();
    ids.sort_unstable();
    ids
}

fn members(arguments: &[String]) -> Vec<&str> {
    let options = options(arguments);
    let members = options.into_iter().find(|(name, _)| *name == MEMBER);
    members.map_or(Vec::new(), |(_, members)| members)
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

    // A cluster began with whom its first nodes were started with, wherever these are by now; whoever was started
    // to join came later. A founder gets the same ids for ever.
    #[test]
    fn founders_are_those_that_it_began_with() {
        let node = |id, arguments: &str, has_data| {
            let mut node = crate::hosts::control::HostFacts::blank(id).nodes.remove(0);
            node.arguments = words(arguments);
            node.has_data = has_data;
            node
        };
        let nodes = [
            node(1, "--id 1 --node 1,a,b --node 2,c,d", true),
            node(3, "--id 3 --node 1,a,b --node 3,e,f --join", true),
            node(4, "--id 4 --node 4,g,h", false),
        ];
        let founders = Founders::of(nodes.iter());
        assert_eq!(
            [1, 2, 3, 4].map(|id| founders.joins(id)),
            [false, false, true, true]
        );
        assert_eq!(founders.addresses(2), Some(("c", "d")));
        assert_eq!(founders.addresses(3), None);
        assert!(
            !Founders::default().joins(1),
            "a new cluster has only founders"
        );
        let member = |id, address: &str| Member {
            id,
            listen_peers: String::new(),
            listen_clients: String::new(),
            peer_address: address.into(),
            client_address: address.into(),
            admin_address: String::new(),
            is_tunnelled: false,
            is_address_known: true,
        };
        let now = [member(2, "moved"), member(3, "e")];
        assert_eq!(
            with_nodes(&founders, &now[0], &now),
            ["1,a,b", "2,moved,moved"]
        );
        assert_eq!(
            with_nodes(&founders, &now[1], &now),
            ["2,moved,moved", "3,e,e"]
        );
    }

    // Who belongs to a cluster is a matter of its log: nobody is stopped for other members, or for how it came, but for
    // another address.
    #[test]
    fn other_members_are_no_difference() {
        let running = words("--id 1 --node 1,a,b --node 2,c,d");
        let others = words("--id 1 --node 1,a,b --node 3,e,f --join");
        assert!(differences(&running, &others, &[]).is_empty());
        let moved = words("--id 1 --node 1,x,b --node 3,e,f");
        assert_eq!(
            differences(&running, &moved, &[]),
            ["--node 1,a,b -> 1,x,b"]
        );
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

    // To speak both is a step that nodes take one by one; from clear text to TLS alone is none.
    #[test]
    fn a_cluster_goes_over_to_tls_by_steps() {
        let (off, both, on) = (
            words("--id 1"),
            words("--id 1 --tls /t --tls-optional"),
            words("--id 1 --tls /t"),
        );
        let grave = |from: &[String], to: &[String]| {
            let differences = differences(from, to, &[]);
            assert!(!differences.is_empty());
            let is_grave = |difference: &String| !is_step_of_tls(difference, from, to);
            differences.iter().any(is_grave)
        };
        assert!(!grave(&off, &both) && !grave(&both, &on));
        assert!(!grave(&on, &both) && !grave(&both, &off));
        assert!(grave(&off, &on) && grave(&on, &off));
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
