//! `status`: the cluster at a glance.

use std::time::{Duration, Instant};

use raftkv::admin::{LogState, ProofOfDeath, StatusReply, TlsState, UnreachablePeer};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NodeId, Tls, list};
use crate::error::Result;
use crate::hosts::control::ProcessState;
use crate::ops::status::{NodeStatus, Snapshot};
use crate::ops::{Context, certificates};
use crate::plan::membership::{Membership, tolerance};
use crate::providers;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::verbs::{certs, membership};

/// How long to wait before the cluster is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long nodes that were started just now may take to have told their leader that they are there.
const ALL_HEARD: Duration = Duration::from_secs(3);

/// Prints what the cluster is doing. With `check` it is also looked at whether it survives as many failures
/// as cluster.yaml wants, again and again where a timeout is given; the last look is printed.
///
/// # Errors
/// Standard output can't be written. A node that is down is no error, unless `check` says so.
pub async fn run(context: &Context, options: &Options, check: bool) -> Result<()> {
    let patience = options.timeout.filter(|_| check).unwrap_or_default();
    let snapshot = show(context, options, patience, None).await?;
    let shortfall = membership::shortfall(&context.cluster, &snapshot).filter(|_| check);
    shortfall.map_or(Ok(()), Err)
}

/// Prints how the cluster is after `up`; programs learn which nodes were left behind, and why.
///
/// # Errors
/// As [`run`].
pub async fn after_up(
    context: &Context,
    options: &Options,
    left_behind: &[(NodeId, String)],
) -> Result<()> {
    let patience = match left_behind.is_empty() {
        true => ALL_HEARD,
        false => Duration::ZERO,
    };
    show(context, options, patience, Some(left_behind))
        .await
        .map(drop)
}

/// Looks until the cluster survives as much as it should, for as long as that may take.
async fn look(context: &Context, patience: Duration) -> Snapshot {
    let deadline = Instant::now() + patience;
    loop {
        let snapshot = context.status().await;
        let falls_short = || membership::shortfall(&context.cluster, &snapshot).is_some();
        if Instant::now() >= deadline || !falls_short() {
            return snapshot;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn show(
    context: &Context,
    options: &Options,
    patience: Duration,
    left_behind: Option<&[(NodeId, String)]>,
) -> Result<Snapshot> {
    let (snapshot, machines) = tokio::join!(
        look(context, patience),
        providers::machine_states(&context.cluster)
    );
    match options.output {
        Output::Json => {
            let mut value = to_json(&context.cluster, &snapshot);
            if let Some(machines) = machines {
                value["machines"] = machines.json;
                value["in_doubt"] = json!(machines.in_doubt);
            }
            if let Some(left_behind) = left_behind {
                value["left_behind"] = left_behind_to_json(left_behind);
            }
            out::json(&value)?;
        }
        Output::Text => {
            // Why a node was left behind is told once, with the error that ends the verb.
            let told =
                |id| left_behind.is_some_and(|left| left.iter().any(|(other, _)| *other == id));
            out::print(&to_text_without(&context.cluster, &snapshot, told))?;
            out::print(&machines.map_or(String::new(), |machines| machines.text))?;
        }
    }
    Ok(snapshot)
}

/// The snapshot for programs.
#[must_use]
pub fn to_json(cluster: &Cluster, snapshot: &Snapshot) -> Value {
    let known = snapshot.membership();
    let node = |node: &NodeStatus| {
        let reply = node.reply.as_ref().ok();
        let number = |field: fn(&StatusReply) -> u64| reply.map(field);
        json!({
            "id": node.id,
            "address": node.address,
            "process": node.process.map(|state| state.name()),
            "role": node.role(),
            "member": known.as_ref().map(|known| membership::seat(known, node.id)),
            "behind": known.as_ref().and_then(|known| known.behind.get(&node.id)),
            "term": number(|reply| reply.term),
            "commit_index": number(|reply| reply.commit_index),
            "applied_index": number(|reply| reply.applied_index),
            "last_index": number(|reply| reply.last_index),
            "lease_remaining_ms": reply.and_then(|reply| reply.lease_remaining_ms),
            "host_error": node.host_error,
            "cut_off_from": reply.map_or(Vec::new(), cut_off_from),
            "packet_filter": node.is_filtered,
            "log": reply.map(log_state),
            "log_damaged_until": number(|reply| reply.log_damaged_until),
            "old_lease_remaining_ms": reply.and_then(|reply| reply.old_lease_remaining_ms),
            "unreachable": reply.map_or(Vec::new(), unreachable),
            "disk_free_bytes": reply.and_then(|reply| Some(reply.disk?.free_bytes)),
            "refuses_writes": reply.is_some_and(refuses_writes),
            "format": number(|reply| reply.format),
            "reads_format": number(|reply| reply.reads_format),
            "format_max": number(|reply| reply.format_max),
            "format_due_bytes": reply.and_then(|reply| reply.format_due_bytes),
            "cluster_id": reply.map(|reply| &reply.cluster_id),
            "directory_id": reply.map(|reply| &reply.directory_id),
            "metrics": cluster.metrics_listen(node.id, &node.address),
            "proof_of_death": reply.and_then(|reply| reply.proof_of_death.as_ref()).map(proof),
            "tls": reply.and_then(|reply| reply.tls.as_ref()).map(tls),
        })
    };
    let ids = snapshot.cluster_ids();
    json!({
        "cluster": cluster.name,
        "cluster_ids": ids.keys().map(ToString::to_string).collect::<Vec<_>>(),
        "provider": cluster.provider.name(),
        "tls": cluster.tls.name(),
        "leader": snapshot.leader,
        "term": snapshot.term,
        "survives_failures": known.as_ref().and_then(|known| known.survives),
        "survives_failures_wanted": tolerance(cluster.nodes.len()),
        "membership": known.as_ref().map(membership::to_json),
        "nodes": snapshot.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn proof(proof: &ProofOfDeath) -> Value {
    json!({
        "run": format!("{:016x}", proof.incarnation),
        "watched": proof.watched,
        "ends_proved": proof.ends_proved,
        "promises_waived": proof.promises_waived,
        "waits_waived": proof.waits_waived,
    })
}

fn tls(tls: &TlsState) -> Value {
    json!({
        "certificate_ends_unix_s": tls.certificate_ends_unix_s,
        "authority_ends_unix_s": tls.authority_ends_unix_s,
        "clear_too": tls.clear_too,
        "trouble": tls.trouble,
    })
}

/// What the cluster speaks, where that is worth a word.
fn tls_note(cluster: &Cluster, snapshot: &Snapshot) -> Option<String> {
    let replies = snapshot
        .nodes
        .iter()
        .filter_map(|node| node.reply.as_ref().ok());
    let ends = replies.filter_map(|reply| Some(certificates::ends(reply.tls.as_ref()?)));
    let first = ends.min().map_or(String::new(), |ends| {
        format!("; the first certificate ends in {}", certs::days(ends))
    });
    match cluster.tls {
        Tls::Off => cluster.clear_text_reminder().map(|problem| problem.message),
        Tls::Both => Some(format!(
            "TLS and clear text are both spoken, while the cluster goes over (`tls: both`){first}"
        )),
        Tls::On => Some(format!("TLS{first}")),
    }
}

fn cut_off_from(reply: &StatusReply) -> Vec<NodeId> {
    reply.cut_links.iter().map(|cut| cut.peer_id).collect()
}

/// The peers that a node can't reach, as it says itself.
fn unreachable(reply: &StatusReply) -> Vec<Value> {
    let peers = reply.unreachable_peers.iter();
    peers
        .map(|peer| {
            json!({
                "id": peer.peer_id,
                "address": peer.address,
                "reason": peer.reason,
                "text": peer.text,
            })
        })
        .collect()
}

fn refuses_writes(reply: &StatusReply) -> bool {
    reply.disk.is_some_and(|disk| disk.refuses_writes)
}

/// How whole the node says that its log is; a node of an older version does not say.
fn log_state(reply: &StatusReply) -> &'static str {
    match reply.log_state() {
        LogState::Unspecified => "unknown",
        LogState::Whole => "whole",
        LogState::Damaged => "damaged",
        LogState::Accepted => "accepted",
    }
}

/// What is not as it should be with the node's log, and with those of its followers.
#[must_use]
pub(super) fn log_notes(reply: &StatusReply) -> Vec<String> {
    let (from, until) = (reply.log_damaged_from, reply.log_damaged_until);
    let own = match reply.log_state() {
        LogState::Damaged => Some(format!(
            "its log is damaged from line {from} until entry {until}: it does not vote until a \
             leader has refilled it"
        )),
        LogState::Accepted => Some(format!(
            "an operator gave up entries up to {until} of its damaged log: it leaves it to others \
             to lead for a while"
        )),
        LogState::Unspecified | LogState::Whole => None,
    };
    let lost = reply.peers.iter().filter(|peer| peer.lost_until > 0);
    let lost = lost.map(|peer| {
        format!(
            "node {} lacks entries up to {} that it had acknowledged: its log was damaged, or its \
             directory was put back from an older copy",
            peer.node_id, peer.lost_until
        )
    });
    let astray = reply.peers.iter().filter(|peer| peer.state_differs_at > 0);
    let astray = astray.map(|peer| {
        format!(
            "node {} has come to another state than the others after entry {}, by the hashes of their \
             snapshots: it ends as soon as a majority agrees, and its output says what to do",
            peer.node_id, peer.state_differs_at
        )
    });
    let snapshot = reply.snapshot_damaged.then(|| {
        "its snapshot.txt is not as it was written: nodes that need it get none of it until the next \
         snapshot has taken its place"
            .to_owned()
    });
    let own = own.into_iter().chain(snapshot);
    own.chain(lost).chain(astray).collect()
}

fn left_behind_to_json(left_behind: &[(NodeId, String)]) -> Value {
    let one = |(id, error): &(NodeId, String)| json!({ "id": id, "error": error });
    left_behind.iter().map(one).collect()
}

/// The snapshot for people.
#[must_use]
pub fn to_text(cluster: &Cluster, snapshot: &Snapshot) -> String {
    to_text_without(cluster, snapshot, |_| false)
}

/// The snapshot for people, without notes on nodes whose trouble is told elsewhere.
fn to_text_without(
    cluster: &Cluster,
    snapshot: &Snapshot,
    is_told: impl Fn(NodeId) -> bool,
) -> String {
    let leader = match snapshot.leader {
        Some(id) if snapshot.node(id).is_none() => {
            format!("leader: node {id}, which is not in cluster.yaml")
        }
        Some(id) => format!("leader: node {id}"),
        None => "no leader".into(),
    };
    let term = snapshot
        .term
        .map_or(String::new(), |term| format!(", term {term}"));
    let ids = snapshot.cluster_ids();
    let id = match ids.keys().next() {
        Some(id) if ids.len() == 1 => format!(", id {}", id.short()),
        _ => String::new(),
    };
    let mut text = format!(
        "cluster {} ({}), {leader}{term}{id}\n",
        cluster.name,
        cluster.provider.name()
    );
    let head = [
        "NODE", "ADDRESS", "PROCESS", "ROLE", "TERM", "COMMIT", "APPLIED", "LAST", "LEASE",
    ];
    let known = snapshot.membership();
    let rows = snapshot.nodes.iter().map(|node| row(known.as_ref(), node));
    let rows: Vec<Vec<String>> = rows.collect();
    text.push_str(&out::table(&head, &rows));
    for line in known
        .iter()
        .flat_map(|known| membership::lines(cluster, known))
    {
        text.push_str(&format!("{line}\n"));
    }
    if let Some(mixed) = snapshot.mixed_up() {
        text.push_str(&format!("{mixed}\n"));
    }
    if let Some(note) = tls_note(cluster, snapshot) {
        text.push_str(&format!("{note}\n"));
    }
    if let Some(note) = format_note(snapshot) {
        text.push_str(&format!("{note}\n"));
    }
    for node in &snapshot.nodes {
        if let Some(note) = note(snapshot, node).filter(|_| !is_told(node.id)) {
            text.push_str(&note);
            text.push('\n');
        }
    }
    text
}

/// Whether the way back to a release that reads no newer format is open, and what ends it. Nothing where
/// it has ended, or where there is no newer format.
#[must_use]
pub(super) fn format_note(snapshot: &Snapshot) -> Option<String> {
    let replies = || {
        snapshot
            .nodes
            .iter()
            .filter_map(|node| node.reply.as_ref().ok())
    };
    let format = replies()
        .map(|reply| reply.format)
        .max()
        .filter(|format| *format > 0)?;
    let newest = replies().map(|reply| reply.reads_format).max()?;
    if format >= newest {
        return None;
    }
    let older = replies().filter(|reply| reply.reads_format < newest);
    let older: Vec<NodeId> = older.map(|reply| reply.node_id).collect();
    let open = "a release that reads no newer one can still be gone back to";
    if !older.is_empty() {
        let run = if older.len() == 1 { "runs" } else { "run" };
        return Some(format!(
            "format {format}: {open}; {} {run} one",
            list(&older)
        ));
    }
    let leader = replies().find(|reply| Some(reply.node_id) == snapshot.leader)?;
    if leader.format_max <= format {
        return Some(format!(
            "format {format}: {open}, as long as `format_max` in cluster.yaml holds it; there are no \
             snapshots until then"
        ));
    }
    let left = leader.format_due_bytes?;
    Some(format!(
        "format {format}: {open}, until the log has grown by {} (`format_max: {format}` holds it)",
        amount(left)
    ))
}

fn amount(bytes: u64) -> String {
    match bytes.div_ceil(1 << 10) {
        kib if kib < 10 << 10 => format!("{kib} KiB"),
        kib => format!("{} MiB", kib.div_ceil(1 << 10)),
    }
}

fn row(known: Option<&Membership>, node: &NodeStatus) -> Vec<String> {
    let reply = node.reply.as_ref().ok();
    let learns = known.is_some_and(|known| known.learners().contains(&node.id));
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
        match node.role() {
            "follower" if learns => "learner".to_owned(),
            role => role.to_owned(),
        },
        number(|reply| reply.term),
        number(|reply| reply.commit_index),
        number(|reply| reply.applied_index),
        number(|reply| reply.last_index),
        lease.map_or("-".to_owned(), |ms| format!("{ms} ms")),
    ]
}

/// What does not fit into the table: hosts that do not answer, faults that are injected, and leases
/// that are waited for.
fn note(snapshot: &Snapshot, node: &NodeStatus) -> Option<String> {
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
    notes.extend(reply.map_or(Vec::new(), log_notes));
    if let Some(left) = reply.and_then(|reply| reply.old_lease_remaining_ms) {
        notes.push(format!("waits up to {left} ms for an older lease to end"));
    }
    let proof = reply.and_then(|reply| reply.proof_of_death.as_ref());
    if proof.is_some_and(|proof| !proof.watched) {
        notes.push("no process watches it: if it is killed, its lease is waited for".to_owned());
    }
    if let Some(note) = reply.and_then(|reply| certs::note(reply.tls.as_ref()?)) {
        notes.push(note);
    }
    if let Some(reply) = reply {
        notes.extend(troubles(snapshot, reply));
    }
    (!notes.is_empty()).then(|| format!("node {}: {}", node.id, notes.join("; ")))
}

/// What a node says that it can't do: reach members whose processes run as far as is known, and take
/// writes.
fn troubles(snapshot: &Snapshot, reply: &StatusReply) -> Vec<String> {
    let known = snapshot.membership();
    let has_left = |id: &NodeId| {
        let members = known.as_ref().map(|known| &known.members);
        members.is_some_and(|members| !members.is_empty() && !members.contains_key(id))
    };
    let runs = |id: NodeId| {
        let peer = snapshot.node(id);
        !has_left(&id) && peer.is_none_or(|peer| peer.process != Some(ProcessState::Stopped))
    };
    let mut told = unreached(reply, runs);
    if let Some(disk) = reply.disk.filter(|disk| disk.refuses_writes) {
        told.push(format!(
            "refuses writes: {} MiB are free on its disk",
            disk.free_bytes >> 20
        ));
    }
    told
}

/// Which of the peers that run a node can't reach, those with the same reason together.
fn unreached(reply: &StatusReply, runs: impl Fn(NodeId) -> bool) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&UnreachablePeer>)> = Vec::new();
    for peer in reply.unreachable_peers.iter().filter(|it| runs(it.peer_id)) {
        match reasons.iter_mut().find(|(text, _)| *text == peer.text) {
            Some((_, peers)) => peers.push(peer),
            None => reasons.push((&peer.text, vec![peer])),
        }
    }
    let told = |(text, peers): (&str, Vec<&UnreachablePeer>)| match peers[..] {
        [peer] => format!(
            "can't reach node {} at {}: {text}",
            peer.peer_id, peer.address
        ),
        _ => {
            let ids: Vec<NodeId> = peers.iter().map(|peer| peer.peer_id).collect();
            format!("can't reach {}: {text}", list(&ids))
        }
    };
    reasons.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv::admin::DiskRoom;

    // Whom a node can't reach is said with the reason, unless that peer does not run: that is told
    // already. So is a disk without room.
    #[test]
    fn what_a_node_says_of_itself_is_told() {
        let peer = |peer_id| UnreachablePeer {
            peer_id,
            address: format!("n{peer_id}:7400"),
            reason: "name_not_resolved".into(),
            text: "its name does not resolve".into(),
        };
        let node = |id, process| NodeStatus {
            id,
            address: String::new(),
            process: Some(process),
            host_error: None,
            is_filtered: false,
            reply: Ok(StatusReply::default()),
        };
        let mut first = node(1, ProcessState::Running);
        first.reply = Ok(StatusReply {
            unreachable_peers: vec![peer(2), peer(3)],
            disk: Some(DiskRoom {
                free_bytes: 5 << 20,
                kept_bytes: 9 << 20,
                refuses_writes: true,
            }),
            ..StatusReply::default()
        });
        let others = [
            node(2, ProcessState::Running),
            node(3, ProcessState::Stopped),
        ];
        let snapshot = Snapshot {
            leader: None,
            term: None,
            nodes: [vec![first], others.into()].concat(),
        };
        let told = note(&snapshot, &snapshot.nodes[0]).unwrap();
        assert_eq!(
            told,
            "node 1: can't reach node 2 at n2:7400: its name does not resolve; refuses writes: 5 \
             MiB are free on its disk"
        );
        assert_eq!(note(&snapshot, &snapshot.nodes[1]), None);
        let all = StatusReply {
            unreachable_peers: vec![peer(2), peer(3)],
            ..StatusReply::default()
        };
        let told = unreached(&all, |_| true);
        assert_eq!(
            told,
            ["can't reach nodes 2 and 3: its name does not resolve"]
        );
    }

    // A node whose snapshot was changed on its disk is named, by status and by doctor, until another is there.
    #[test]
    fn a_damaged_snapshot_is_told() {
        let whole = StatusReply::default();
        assert_eq!(log_notes(&whole), Vec::<String>::new());
        let damaged = StatusReply {
            snapshot_damaged: true,
            ..whole
        };
        let told = log_notes(&damaged);
        assert!(told[0].starts_with("its snapshot.txt is not as it was written"));
    }

    // Until what the way back is open, and what holds it, is told; once it has ended, nothing is.
    #[test]
    fn the_way_back_is_told() {
        let of = |reads: [u64; 2], reply: StatusReply| {
            let node = |(id, reads_format)| NodeStatus {
                id,
                address: String::new(),
                process: Some(ProcessState::Running),
                host_error: None,
                is_filtered: false,
                reply: Ok(StatusReply {
                    node_id: id,
                    reads_format,
                    ..reply.clone()
                }),
            };
            format_note(&Snapshot {
                leader: Some(1),
                term: None,
                nodes: (1..).zip(reads).map(node).collect(),
            })
        };
        let open = StatusReply {
            format: 1,
            format_max: 2,
            format_due_bytes: Some(15 << 20),
            ..StatusReply::default()
        };
        let told = of([2, 2], open.clone()).unwrap();
        assert!(
            told.contains("grown by 15 MiB (") && told.contains("`format_max: 1`"),
            "{told}"
        );
        let told = of([2, 1], open.clone()).unwrap();
        assert!(told.ends_with("gone back to; node 2 runs one"), "{told}");
        let held = StatusReply {
            format_max: 1,
            ..open.clone()
        };
        let told = of([2, 2], held).unwrap();
        assert!(told.contains("holds it"), "{told}");
        assert_eq!(of([2, 2], StatusReply { format: 2, ..open }), None);
    }

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
