//! `status`: the cluster at a glance.

use raftkv::admin::StatusReply;
use serde_json::{Value, json};

use crate::cli::{Options, Output};
use crate::cluster::{Cluster, NodeId};
use crate::error::Result;
use crate::ops::Context;
use crate::ops::status::{NodeStatus, Snapshot};
use crate::ops::wait::list;
use crate::out;
use crate::verbs::gcp;

/// Prints what the cluster is doing.
///
/// # Errors
/// Standard output can't be written. A node that is down is no error.
pub async fn run(context: &Context, options: &Options) -> Result<()> {
    show(context, options, None).await
}

/// The same after `up`; programs learn which nodes were left behind, and why.
///
/// # Errors
/// As [`run`].
pub async fn after_up(
    context: &Context,
    options: &Options,
    left_behind: &[(NodeId, String)],
) -> Result<()> {
    show(context, options, Some(left_behind)).await
}

async fn show(
    context: &Context,
    options: &Options,
    left_behind: Option<&[(NodeId, String)]>,
) -> Result<()> {
    let (snapshot, machines) =
        tokio::join!(context.status(), gcp::machine_states(&context.cluster));
    match options.output {
        Output::Json => {
            let mut value = to_json(&context.cluster, &snapshot);
            if let Some(machines) = machines {
                value["machines"] = machines.json;
            }
            if let Some(left_behind) = left_behind {
                value["left_behind"] = left_behind_to_json(left_behind);
            }
            out::json(&value)
        }
        Output::Text => {
            print(&context.cluster, &snapshot, options)?;
            out::print(&machines.map_or(String::new(), |machines| machines.text))
        }
    }
}

/// Prints a snapshot as asked for.
///
/// # Errors
/// Standard output can't be written.
pub fn print(cluster: &Cluster, snapshot: &Snapshot, options: &Options) -> Result<()> {
    match options.output {
        Output::Json => out::json(&to_json(cluster, snapshot)),
        Output::Text => out::print(&to_text(cluster, snapshot)),
    }
}

/// The snapshot for programs.
#[must_use]
pub fn to_json(cluster: &Cluster, snapshot: &Snapshot) -> Value {
    let node = |node: &NodeStatus| {
        let reply = node.reply.as_ref().ok();
        let number = |field: fn(&StatusReply) -> u64| reply.map(field);
        json!({
            "id": node.id,
            "address": node.address,
            "process": node.process.map(|state| state.name()),
            "role": node.role(),
            "term": number(|reply| reply.term),
            "commit_index": number(|reply| reply.commit_index),
            "applied_index": number(|reply| reply.applied_index),
            "last_index": number(|reply| reply.last_index),
            "lease_remaining_ms": reply.and_then(|reply| reply.lease_remaining_ms),
            "host_error": node.host_error,
            "cut_off_from": reply.map_or(Vec::new(), cut_off_from),
            "packet_filter": node.is_filtered,
            "old_lease_remaining_ms": reply.and_then(|reply| reply.old_lease_remaining_ms),
        })
    };
    json!({
        "cluster": cluster.name,
        "provider": cluster.provider.name(),
        "leader": snapshot.leader,
        "term": snapshot.term,
        "nodes": snapshot.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn cut_off_from(reply: &StatusReply) -> Vec<NodeId> {
    reply.cut_links.iter().map(|cut| cut.peer_id).collect()
}

fn left_behind_to_json(left_behind: &[(NodeId, String)]) -> Value {
    let one = |(id, error): &(NodeId, String)| json!({ "id": id, "error": error });
    left_behind.iter().map(one).collect()
}

/// The snapshot for people.
#[must_use]
pub fn to_text(cluster: &Cluster, snapshot: &Snapshot) -> String {
    let leader = match snapshot.leader {
        Some(id) => format!("leader: node {id}"),
        None => "no leader".into(),
    };
    let term = snapshot
        .term
        .map_or(String::new(), |term| format!(", term {term}"));
    let mut text = format!(
        "cluster {} ({}), {leader}{term}\n",
        cluster.name,
        cluster.provider.name()
    );
    let head = [
        "NODE", "ADDRESS", "PROCESS", "ROLE", "TERM", "COMMIT", "APPLIED", "LAST", "LEASE",
    ];
    let rows: Vec<Vec<String>> = snapshot.nodes.iter().map(row).collect();
    text.push_str(&out::table(&head, &rows));
    for node in &snapshot.nodes {
        if let Some(note) = note(node) {
            text.push_str(&note);
            text.push('\n');
        }
    }
    text
}

fn row(node: &NodeStatus) -> Vec<String> {
    let reply = node.reply.as_ref().ok();
    let number = |field: fn(&StatusReply) -> u64| {
        reply.map_or("-".to_owned(), |reply| field(reply).to_string())
    };
    let lease = reply.and_then(|reply| reply.lease_remaining_ms);
    vec![
        node.id.to_string(),
        node.address.clone(),
        node.process
            .map_or("unknown", |state| state.name())
            .to_owned(),
        node.role().to_owned(),
        number(|reply| reply.term),
        number(|reply| reply.commit_index),
        number(|reply| reply.applied_index),
        number(|reply| reply.last_index),
        lease.map_or("-".to_owned(), |ms| format!("{ms} ms")),
    ]
}

/// What does not fit into the table: hosts that do not answer, faults that are injected, and leases
/// that are waited for.
fn note(node: &NodeStatus) -> Option<String> {
    if let Some(error) = &node.host_error {
        return Some(format!("node {}: {error}", node.id));
    }
    let mut notes = Vec::new();
    if node.is_filtered {
        notes.push("cut off by a packet filter of raftctl (`raftctl heal`)".to_owned());
    }
    let reply = node.reply.as_ref().ok();
    let left = |reply: &StatusReply| reply.cut_links.iter().map(|cut| cut.remaining_ms).max();
    if let Some((reply, left)) = reply.and_then(|reply| Some((reply, left(reply)?))) {
        notes.push(format!(
            "cut off from {}, {} s left (`raftctl heal`)",
            list(&cut_off_from(reply)),
            left.div_ceil(1000)
        ));
    }
    if let Some(left) = reply.and_then(|reply| reply.old_lease_remaining_ms) {
        notes.push(format!("waits up to {left} ms for an older lease to end"));
    }
    (!notes.is_empty()).then(|| format!("node {}: {}", node.id, notes.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Programs learn of every node that was left behind, with the reason; where none was, of none.
    #[test]
    fn nodes_left_behind_are_named() {
        let left_behind = [
            (2, "n2: no route".to_owned()),
            (5, "the disk is full".to_owned()),
        ];
        let expected = json!([
            { "id": 2, "error": "n2: no route" },
            { "id": 5, "error": "the disk is full" },
        ]);
        assert_eq!(left_behind_to_json(&left_behind), expected);
        assert_eq!(left_behind_to_json(&[]), json!([]));
    }
}
