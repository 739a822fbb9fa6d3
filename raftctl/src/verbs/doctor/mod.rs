//! `doctor`: what is not as it should be, and what to do about it.

mod finding;
mod hosts;

use std::collections::BTreeMap;

use serde_json::json;

use crate::cluster::id::the_one;
use crate::cluster::outcomes::Outcomes;
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::control::{HostFacts, NodeFacts, ProcessState};
use crate::local::binary::{self, Origin};
use crate::local::folder_lock::FolderLock;
use crate::ops::alarms::{self, Rule, Severity};
use crate::ops::status::{NodeStatus, Snapshot};
use crate::ops::{Context, target};
use crate::plan::{self, DISK_FREE_KIB_MIN, Facts};
use crate::providers;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::{certs, status};
use finding::Finding;

/// Below this much space a node is worth a warning.
const DISK_FREE_KIB_WARN: u64 = 512 << 10;

/// Looks at everything and says what is wrong; with `fix` removes what crashes left behind.
///
/// # Errors
/// Something serious is wrong.
pub async fn run(context: &Context, options: &Options, fix: bool) -> Result<()> {
    let mut findings = Vec::new();
    if fix {
        let _lock = FolderLock::take(&context.cluster, "doctor --fix").await?;
        let cleaned = context.clean(&context.cluster.ids()).await;
        // Hosts that do not answer are found below.
        let failed = cleaned.into_values().filter_map(Result::err);
        findings.extend(failed.filter_map(|error| match error {
            Error::Host { .. } => Some(Finding {
                is_serious: true,
                text: error.to_string(),
                advice: "mend that, and run this again".into(),
            }),
            _ => None,
        }));
    }
    let step = Progress::new().begin("look at the cluster");
    let (hosts, snapshot, overview) = tokio::join!(
        context.host_facts(),
        context.status(),
        providers::overview(&context.cluster)
    );
    findings.extend(overview.remarks.into_iter().map(|(text, advice)| Finding {
        is_serious: false,
        text,
        advice,
    }));
    findings.extend(
        providers::remarks(&context.cluster)
            .into_iter()
            .map(|(text, advice)| Finding {
                is_serious: false,
                text,
                advice: advice.into(),
            }),
    );
    look_at_binary(context, &hosts, &mut findings);
    let silent = hosts.values().any(Result::is_err);
    if let (true, Some(unseen)) = (silent, overview.unseen) {
        findings.push(Finding {
            is_serious: false,
            text: format!("how the machines are is not known: {unseen}"),
            advice: "hosts that do not answer may be off".into(),
        });
    }
    look_at_hosts(&hosts, &overview.not_running, &mut findings);
    look_at_arguments(context, &hosts, &mut findings);
    hosts::look(context, &hosts, &mut findings).await;
    let crashed: Vec<NodeId> = all_nodes(&hosts)
        .filter(|node| has_crashed(node))
        .map(|node| node.id)
        .collect();
    let silent = hosts.iter().filter(|(_, host)| host.is_err());
    let told: Vec<NodeId> = silent.map(|(id, _)| *id).chain(crashed).collect();
    look_at_nodes(&snapshot, &told, &mut findings);
    look_at_cluster(context, &snapshot, &mut findings);
    drop(step);
    print(&findings, options)?;
    match findings.iter().filter(|finding| finding.is_serious).count() {
        0 => Ok(()),
        1 => Err(Error::CheckFailed("1 thing is wrong".into())),
        count => Err(Error::CheckFailed(format!("{count} things are wrong"))),
    }
}

fn print(findings: &[Finding], options: &Options) -> Result<()> {
    if options.output == Output::Json {
        let one = |finding: &Finding| {
            json!({
                "serious": finding.is_serious,
                "text": finding.text,
                "advice": finding.advice,
            })
        };
        return out::json(&json!({ "findings": findings.iter().map(one).collect::<Vec<_>>() }));
    }
    if findings.is_empty() {
        return out::line("all is well");
    }
    for finding in findings {
        let kind = if finding.is_serious { "wrong" } else { "note" };
        out::line(&format!("{kind}: {}; {}", finding.text, finding.advice))?;
    }
    Ok(())
}

fn look_at_binary(context: &Context, hosts: &Outcomes<HostFacts>, findings: &mut Vec<Finding>) {
    let origin = match binary::locate(&context.cluster) {
        Ok(origin) => origin,
        Err(error) => {
            return findings.push(Finding {
                is_serious: true,
                text: error.to_string(),
                advice: "nodes that run are not concerned".into(),
            });
        }
    };
    let Origin::Present(_) = origin else {
        return findings.push(Finding {
            is_serious: false,
            text: "raft-node is not built yet".into(),
            advice: "`raftctl up` builds it".into(),
        });
    };
    let Ok(binary) = binary::obtain(&origin, |_| ()) else {
        return; // It went away just now.
    };
    let old = |node: &&NodeFacts| {
        node.sha256
            .as_ref()
            .is_some_and(|sha| *sha != binary.sha256)
    };
    let old: Vec<NodeId> = all_nodes(hosts).filter(old).map(|node| node.id).collect();
    if !old.is_empty() {
        findings.push(Finding {
            is_serious: false,
            text: format!(
                "another raft-node than {} runs as {}",
                binary.path.display(),
                list(&old)
            ),
            advice: "`raftctl up` restarts them one at a time".into(),
        });
    }
}

/// What runs has to be what cluster.yaml says: other members, or another lease, are no cluster.
fn look_at_arguments(context: &Context, hosts: &Outcomes<HostFacts>, findings: &mut Vec<Finding>) {
    let answering = hosts.iter();
    let answering = answering.filter_map(|(id, host)| Some((*id, host.as_ref().ok()?.clone())));
    let facts = Facts {
        hosts: answering.collect(),
        ..Facts::default()
    };
    let target = binary::locate(&context.cluster);
    // A binary that is missing has been told of.
    let Ok(target) = target.and_then(|at| target::target(context, &at, &facts)) else {
        return;
    };
    let held =
        all_nodes(hosts).filter_map(|node| Some((node.cluster_id?, format!("node {}", node.id))));
    if let Err(mixed) = the_one(held) {
        findings.push(Finding {
            is_serious: true,
            text: mixed.to_string(),
            advice: "until then `raftctl up` and `raftctl start` refuse".into(),
        });
    }
    if let Err(changed) = plan::refuse_changed(&target, &facts) {
        findings.push(Finding {
            is_serious: true,
            text: changed.to_string(),
            advice: "`raftctl plan` shows what `raftctl up` would do about it".into(),
        });
    }
}

fn all_nodes(hosts: &Outcomes<HostFacts>) -> impl Iterator<Item = &NodeFacts> {
    hosts.values().flatten().flat_map(|host| &host.nodes)
}

/// `machines` are those that do not run, each with what is seen of it and what to do: that is the
/// cause, whatever SSH says.
fn look_at_hosts(
    hosts: &Outcomes<HostFacts>,
    machines: &BTreeMap<NodeId, (String, String)>,
    findings: &mut Vec<Finding>,
) {
    for (id, outcome) in hosts {
        let host = match outcome {
            Ok(host) => host,
            Err(_) if machines.contains_key(id) => {
                let (seen, next) = &machines[id];
                findings.push(Finding {
                    is_serious: true,
                    text: format!("node {id}: {seen}"),
                    advice: next.clone(),
                });
                continue;
            }
            Err(error) => {
                findings.push(Finding {
                    is_serious: true,
                    text: format!("nothing can be done on the host of node {id}: {error}"),
                    advice:
                        "mend that, and run this again: whether its node runs could not be seen"
                            .into(),
                });
                continue;
            }
        };
        if host.disk_free_kib < DISK_FREE_KIB_WARN {
            findings.push(Finding {
                is_serious: host.disk_free_kib < DISK_FREE_KIB_MIN,
                text: format!(
                    "node {id} has {} MiB of disk space left",
                    host.disk_free_kib >> 10
                ),
                advice: "free some: a node stops when its disk is full".into(),
            });
        }
    }
    for node in all_nodes(hosts) {
        let id = node.id;
        for taken in &node.taken_ports {
            findings.push(Finding {
                is_serious: true,
                text: format!(
                    "port {} of node {id} is in use by {}",
                    taken.port, taken.owner
                ),
                advice: format!(
                    "end that, then `raftctl start {id}`; or move `ports` in cluster.yaml, then `raftctl up`"
                ),
            });
        }
        if node.lost_data {
            findings.push(Finding {
                is_serious: true,
                text: format!("the log of node {id} is gone"),
                advice: format!(
                    "put logs_node_{id} back and run `raftctl start {id}`; where it is lost for good, `raftctl plan` says \
                     what a new one may cost"
                ),
            });
        }
        if has_crashed(node) {
            findings.push(Finding {
                is_serious: true,
                text: format!("node {id} crashed, or its machine did: its process is gone"),
                advice: format!(
                    "`raftctl logs {id}` tells more, `raftctl start {id}` starts it, `raftctl \
                     doctor --fix` forgets it"
                ),
            });
        }
    }
}

/// Whoever stops a node takes its pid file away.
fn has_crashed(node: &NodeFacts) -> bool {
    node.state == ProcessState::Stopped && node.has_record
}

/// Looks at nodes, but for those of which the cause has been told already.
fn look_at_nodes(snapshot: &Snapshot, told: &[NodeId], findings: &mut Vec<Finding>) {
    let silent = snapshot.nodes.iter().filter(|node| node.reply.is_err());
    let silent: Vec<NodeId> = silent.map(|node| node.id).collect();
    let nodes = snapshot.nodes.iter();
    for node in nodes.filter(|node| !told.contains(&node.id)) {
        findings.extend(look_at_process(node));
        look_at_reply(node, &silent, findings);
        let tls = node
            .reply
            .as_ref()
            .ok()
            .and_then(|reply| reply.tls.as_ref());
        findings.extend(tls.and_then(certs::note).map(|note| Finding {
            is_serious: true,
            text: format!("node {}: {note}", node.id),
            advice: "with a certificate that has ended nobody lets it in".into(),
        }));
    }
}

/// What its process does, and what that calls for: each state has its own way out. Of a process that was
/// not seen nothing is advised but to look.
fn look_at_process(node: &NodeStatus) -> Option<Finding> {
    let id = node.id;
    let (is_serious, text, advice) = match (node.process, &node.reply) {
        (Some(ProcessState::Stopped), _) => (
            false,
            "does not run".to_owned(),
            format!("`raftctl start {id}`"),
        ),
        (Some(ProcessState::Paused), _) => (
            true,
            "is paused".to_owned(),
            format!("`raftctl resume {id}`"),
        ),
        (Some(ProcessState::Running), Err(error)) => (
            true,
            format!("runs but does not answer: {error}"),
            format!(
                "`raftctl logs {id}` tells what it did last; if it hangs, `raftctl restart {id}` ends and starts it"
            ),
        ),
        (None, Err(error)) => (
            true,
            format!("does not answer, and what its process does could not be seen: {error}"),
            "look whether its host is up and reached from here, and run this again".to_owned(),
        ),
        (Some(ProcessState::Running) | None, Ok(_)) => return None,
    };
    Some(Finding {
        is_serious,
        text: format!("node {id} {text}"),
        advice,
    })
}

/// What to do where a node can't reach a peer that runs.
fn unreachable_advice(reason: &str, id: NodeId) -> String {
    match reason {
        "name_not_resolved" => format!(
            "the addresses in cluster.yaml have to mean something on the host of node {id}, not only \
             here: add the name there, or give an address"
        ),
        "rejected" => "the nodes were started as members of different clusters, or with different \
                       members, leases or versions, or on copies of one directory: `raftctl plan` \
                       says more"
            .into(),
        "not_member" => {
            "it was started to join the cluster, and has to be added: `raftctl up` does it".into()
        }
        "timed_out" | "no_route" => {
            "let nodes reach each other's peer ports: firewalls, routes".into()
        }
        _ => "does it listen there? `raftctl plan` shows the addresses".into(),
    }
}

fn look_at_reply(node: &NodeStatus, silent: &[NodeId], findings: &mut Vec<Finding>) {
    let Ok(reply) = &node.reply else {
        return;
    };
    let id = node.id;
    if !reply.cut_links.is_empty() {
        let peers: Vec<NodeId> = reply.cut_links.iter().map(|cut| cut.peer_id).collect();
        findings.push(Finding {
            is_serious: false,
            text: format!("node {id} is cut off from {}", list(&peers)),
            advice: "`raftctl heal`".into(),
        });
    }
    for peer in &reply.unreachable_peers {
        // Of one that does not answer itself the cause is told there.
        if silent.contains(&peer.peer_id) {
            continue;
        }
        let (peer_id, address) = (peer.peer_id, &peer.address);
        findings.push(Finding {
            is_serious: true,
            text: format!(
                "node {id} can't reach node {peer_id} at {address}: {}",
                peer.text
            ),
            advice: unreachable_advice(&peer.reason, id),
        });
    }
    if let Some(disk) = reply.disk.filter(|disk| disk.refuses_writes) {
        findings.push(Finding {
            is_serious: true,
            text: format!(
                "node {id} refuses writes: {} MiB are free on its disk",
                disk.free_bytes >> 20
            ),
            advice: "free some: writes come back by themselves; if it leads, `raftctl transfer` \
                     hands the lead to a node with more"
                .into(),
        });
    }
    for text in status::log_notes(reply) {
        findings.push(Finding {
            is_serious: true,
            text: format!("node {id}: {text}"),
            advice: "a leader refills such a log by itself: `raftctl status` shows when that is \
                     done"
                .into(),
        });
    }
    if reply.version != env!("CARGO_PKG_VERSION") {
        findings.push(Finding {
            is_serious: false,
            text: format!(
                "node {id} has version {}, raftctl {}",
                reply.version,
                env!("CARGO_PKG_VERSION")
            ),
            advice: "bring both to the same".into(),
        });
    }
}

fn look_at_cluster(context: &Context, snapshot: &Snapshot, findings: &mut Vec<Finding>) {
    let leader = snapshot.leader.and_then(|id| snapshot.node(id));
    if leader.is_none_or(|node| node.reply.is_err()) {
        return findings.push(Finding {
            is_serious: true,
            text: "the cluster has no leader".into(),
            advice: leaderless(context.cluster.majority(), snapshot),
        });
    }
    // What else is told here says more of the others than their alarms.
    let is_told_here = |rule| {
        matches!(
            rule,
            Rule::NoLease | Rule::NoToleranceLeft | Rule::DiskNearlyFull | Rule::FollowerBehind
        )
    };
    let alarms = alarms::of(snapshot, &BTreeMap::new()).into_iter();
    findings.extend(alarms.filter(|it| is_told_here(it.rule)).map(|it| Finding {
        is_serious: it.rule.severity() == Severity::Page,
        text: it.text,
        advice: it.rule.advice().into(),
    }));
}

/// What a cluster without a leader needs, as far as its nodes were seen.
fn leaderless(majority: usize, snapshot: &Snapshot) -> String {
    let ids = |fits: &dyn Fn(&NodeStatus) -> bool| {
        let fitting = snapshot.nodes.iter().filter(|node| fits(node));
        fitting.map(|node| node.id).collect::<Vec<NodeId>>()
    };
    let answering = ids(&|node| node.reply.is_ok());
    let stopped = ids(&|node| node.process == Some(ProcessState::Stopped));
    let paused = ids(&|node| node.process == Some(ProcessState::Paused));
    if stopped.len() == snapshot.nodes.len() {
        return "none of its nodes runs: `raftctl up`".into();
    }
    if answering.len() >= majority {
        return format!(
            "{} answer, which is enough for an election: `raftctl status` shows whether they reach each other; a leader \
             comes within a few seconds where they do",
            list(&answering)
        );
    }
    let need = format!("{majority} of its nodes have to run and reach each other");
    if answering.len() + stopped.len() >= majority {
        return format!("{need}: `raftctl start all`");
    }
    if answering.len() + stopped.len() + paused.len() >= majority {
        return format!("{need}: `raftctl resume all`, then `raftctl start all`");
    }
    format!("{need}, and too few were seen: mend the hosts that are told above first")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Little space is a note, too little to start is wrong; so is a log that is gone, and a host of
    // which nothing is known is not called a node that runs.
    #[test]
    fn hosts_in_need_are_told() {
        let told = |change: &dyn Fn(&mut HostFacts)| {
            let mut host = HostFacts::blank(1);
            change(&mut host);
            let mut findings = Vec::new();
            look_at_hosts(
                &Outcomes::from([(1, Ok(host))]),
                &BTreeMap::new(),
                &mut findings,
            );
            let one = |finding: Finding| (finding.is_serious, finding.text);
            findings.into_iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(told(&|_| ()), []);
        let space = |kib| told(&move |host: &mut HostFacts| host.disk_free_kib = kib);
        let text = "node 1 has 100 MiB of disk space left".to_owned();
        assert_eq!(space(100 << 10), [(false, text)]);
        assert!(space(DISK_FREE_KIB_MIN - 1)[0].0);
        let lost = told(&|host| host.nodes[0].lost_data = true);
        assert_eq!(lost, [(true, "the log of node 1 is gone".to_owned())]);
    }
    // A machine that is off or gone is the cause of its host's silence, and has a next step of its own.
    #[test]
    fn a_machine_that_is_off_is_told_instead_of_its_silence() {
        let silent = || {
            Err(Error::Cloud(
                "is it switched on, and does a firewall let you in?".into(),
            ))
        };
        let seen = (
            "its machine is off (TERMINATED)",
            "`raftctl restart 1 --vm` switches it on",
        );
        let machines = BTreeMap::from([(1, (seen.0.to_owned(), seen.1.to_owned()))]);
        let mut findings = Vec::new();
        look_at_hosts(
            &Outcomes::from([(1, silent()), (2, silent())]),
            &machines,
            &mut findings,
        );
        assert_eq!(findings[0].text, "node 1: its machine is off (TERMINATED)");
        assert_eq!(findings[0].advice, seen.1);
        assert!(
            findings[1].text.contains("firewall"),
            "{}",
            findings[1].text
        );
    }
}
