//! `doctor`: what is not as it should be, and what to do about it.

use serde_json::json;

use crate::binary::{self, Origin};
use crate::cli::{Options, Output};
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::control::{HostFacts, NodeFacts, ProcessState};
use crate::hosts::inventory::Inventory;
use crate::lock::Lock;
use crate::ops::status::{NodeStatus, Snapshot};
use crate::ops::wait::list;
use crate::ops::{Context, Outcomes};
use crate::out;
use crate::plan::{self, DISK_FREE_KIB_MIN, Facts};
use crate::verbs::{doctor_hosts, up};

/// Below this much space a node is worth a warning.
const DISK_FREE_KIB_WARN: u64 = 512 << 10;

/// A follower that is this many entries behind is worth a warning.
const LAG_MAX: u64 = 10_000;

/// One thing that is not as it should be.
pub(super) struct Finding {
    /// Whether it stops the cluster from working as promised.
    pub is_serious: bool,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}

/// Looks at everything and says what is wrong; with `fix` removes what crashes left behind.
///
/// # Errors
/// Something serious is wrong.
pub async fn run(context: &Context, options: &Options, fix: bool) -> Result<()> {
    let mut findings = Vec::new();
    if fix {
        let _lock = Lock::take(&context.cluster, "doctor --fix").await?;
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
    let (hosts, snapshot) = tokio::join!(context.host_facts(), context.status());
    findings.extend(
        Inventory::remarks(&context.cluster)
            .into_iter()
            .map(|(text, advice)| Finding {
                is_serious: false,
                text,
                advice: advice.into(),
            }),
    );
    look_at_binary(context, &hosts, &mut findings);
    look_at_hosts(&hosts, &mut findings);
    look_at_arguments(context, &hosts, &mut findings);
    doctor_hosts::look(context, &hosts, &mut findings).await;
    let crashed: Vec<NodeId> = all_nodes(&hosts)
        .filter(|node| has_crashed(node))
        .map(|node| node.id)
        .collect();
    let silent = hosts.iter().filter(|(_, host)| host.is_err());
    let told: Vec<NodeId> = silent.map(|(id, _)| *id).chain(crashed).collect();
    look_at_nodes(&snapshot, &told, &mut findings);
    look_at_cluster(context, &snapshot, &mut findings);
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
    // A binary that is missing has been told of.
    let Ok(target) = binary::locate(&context.cluster).and_then(|at| up::target(context, &at))
    else {
        return;
    };
    let answering = hosts.iter();
    let answering = answering.filter_map(|(id, host)| Some((*id, host.as_ref().ok()?.clone())));
    let facts = Facts {
        hosts: answering.collect(),
        ..Facts::default()
    };
    if let Err(changed) = plan::refuse_changed(&target, &facts) {
        findings.push(Finding {
            is_serious: true,
            text: changed.to_string(),
            advice: "`raftctl plan` says more".into(),
        });
    }
}

fn all_nodes(hosts: &Outcomes<HostFacts>) -> impl Iterator<Item = &NodeFacts> {
    hosts.values().flatten().flat_map(|host| &host.nodes)
}

fn look_at_hosts(hosts: &Outcomes<HostFacts>, findings: &mut Vec<Finding>) {
    for (id, outcome) in hosts {
        let host = match outcome {
            Ok(host) => host,
            Err(error) => {
                findings.push(Finding {
                    is_serious: true,
                    text: format!("nothing can be done on the host of node {id}: {error}"),
                    advice: "look at that, and run this again".into(),
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
                advice: "end that, or move `ports` in cluster.yaml".into(),
            });
        }
        if node.lost_data {
            findings.push(Finding {
                is_serious: true,
                text: format!("the log of node {id} is gone"),
                advice: format!("put logs_node_{id} back; `raftctl plan` says more"),
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
    for node in snapshot
        .nodes
        .iter()
        .filter(|node| !told.contains(&node.id))
    {
        let id = node.id;
        let text = match (node.process, &node.reply) {
            (Some(ProcessState::Stopped), _) => {
                findings.push(Finding {
                    is_serious: false,
                    text: format!("node {id} does not run"),
                    advice: format!("`raftctl start {id}`"),
                });
                continue;
            }
            (Some(ProcessState::Paused), _) => Some("is paused".to_owned()),
            (None, Err(error)) => Some(format!("does not answer: {error}")),
            (_, Err(error)) => Some(format!("runs but does not answer: {error}")),
            (_, Ok(_)) => None,
        };
        if let Some(text) = text {
            findings.push(Finding {
                is_serious: true,
                text: format!("node {id} {text}"),
                advice: format!("`raftctl resume {id}`, or `raftctl kill {id}` and start it"),
            });
        }
        look_at_reply(node, findings);
    }
}

fn look_at_reply(node: &NodeStatus, findings: &mut Vec<Finding>) {
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
    let Some(reply) = leader.and_then(|node| node.reply.as_ref().ok()) else {
        return findings.push(Finding {
            is_serious: true,
            text: "the cluster has no leader".into(),
            advice: format!(
                "{} of its nodes have to run and reach each other",
                context.cluster.majority()
            ),
        });
    };
    if reply.lease_remaining_ms.is_none() {
        findings.push(Finding {
            is_serious: true,
            text: format!("the leader, node {}, has no lease", reply.node_id),
            advice: "it can't reach a majority: look at the other nodes".into(),
        });
    }
    for node in &snapshot.nodes {
        let behind = node
            .reply
            .as_ref()
            .map_or(0, |own| reply.commit_index.saturating_sub(own.last_index));
        if behind > LAG_MAX {
            findings.push(Finding {
                is_serious: false,
                text: format!("node {} is {behind} entries behind", node.id),
                advice: "look again in a while: it should catch up".into(),
            });
        }
    }
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
            look_at_hosts(&Outcomes::from([(1, Ok(host))]), &mut findings);
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
}
