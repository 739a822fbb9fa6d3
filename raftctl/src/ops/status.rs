//! What a cluster is doing: processes as their hosts see them, and what each node says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raftkv::admin::{Role, StatusReply};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Context;
use crate::admin::{self, AdminError};
use crate::cluster::NodeId;
use crate::cluster::id::{ClusterId, the_one};
use crate::cluster::outcomes::Outcomes;
use crate::hosts::control::{self, HostFacts, NodeFacts, ProcessState};
use crate::hosts::inventory::{Host, Member};
use crate::hosts::packet_filter;
use crate::plan::membership::Membership;
use crate::scripts::LookAt;

/// How long a node may take to answer before it counts as unreachable.
pub const ANSWER_DEADLINE: Duration = Duration::from_millis(700);

/// How long a host may take to tell of its processes before they count as unknown.
const HOST_DEADLINE: Duration = Duration::from_secs(3);

/// How long a host may take none of whose nodes answers.
const SILENT_HOST_DEADLINE: Duration = Duration::from_millis(1300);

/// What nodes say of themselves, each by itself.
type Replies = BTreeMap<NodeId, Result<StatusReply, AdminError>>;

/// A cluster at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The node that leads, where one says so; the one of the highest term where two do. It may be one that
    /// cluster.yaml does not name, as others say.
    pub leader: Option<NodeId>,
    /// The highest term that any node has seen.
    pub term: Option<u64>,
    /// Every node, by rising id.
    pub nodes: Vec<NodeStatus>,
}

/// A node at one moment.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// The node.
    pub id: NodeId,
    /// Where clients reach it.
    pub address: String,
    /// Its process; `None` where its host did not tell.
    pub process: Option<ProcessState>,
    /// Why its host did not tell.
    pub host_error: Option<String>,
    /// Whether a packet filter of raftctl cuts it off, as far as its host told.
    pub is_filtered: bool,
    /// What it says of itself; `Err` where it did not answer.
    pub reply: Result<StatusReply, AdminError>,
}

impl NodeStatus {
    /// `leader`, `follower`, `candidate`, or `unreachable`.
    #[must_use]
    pub fn role(&self) -> &'static str {
        match self.reply.as_ref().map(StatusReply::role) {
            Ok(Role::Leader) => "leader",
            Ok(Role::Follower) => "follower",
            Ok(Role::Candidate) => "candidate",
            Ok(Role::Unspecified) | Err(_) => "unreachable",
        }
    }
}

impl Snapshot {
    /// Puts together what is known.
    pub(super) fn new(nodes: Vec<NodeStatus>) -> Self {
        let replies = || nodes.iter().filter_map(|node| node.reply.as_ref().ok());
        let term = replies().map(|reply| reply.term).max();
        let latest = replies().filter(|reply| Some(reply.term) == term);
        let elsewhere = || {
            let named = latest.map(|reply| reply.leader_id).max()?;
            let is_here = nodes.iter().any(|node| node.id == named);
            (named != 0 && !is_here).then_some(named)
        };
        Snapshot {
            leader: leader(replies()).or_else(elsewhere),
            term,
            nodes,
        }
    }

    /// The ids of clusters that nodes say they belong to, each with who does. One, where all is well;
    /// nodes that know of none are left out.
    #[must_use]
    pub fn cluster_ids(&self) -> BTreeMap<ClusterId, Vec<NodeId>> {
        let mut ids: BTreeMap<ClusterId, Vec<NodeId>> = BTreeMap::new();
        for node in &self.nodes {
            let id = node.reply.as_ref().ok();
            if let Some(id) = id.and_then(|reply| ClusterId::parse(&reply.cluster_id)) {
                ids.entry(id).or_default().push(node.id);
            }
        }
        ids
    }

    /// Which nodes belong to another cluster of the same name than others, where some do.
    #[must_use]
    pub fn mixed_up(&self) -> Option<String> {
        let ids = self.cluster_ids();
        let name = |(id, nodes): (ClusterId, Vec<NodeId>)| {
            nodes
                .into_iter()
                .map(move |node| (id, format!("node {node}")))
        };
        let mixed = the_one(ids.into_iter().flat_map(name)).err()?;
        Some(mixed.to_string())
    }

    /// Who belongs to the cluster, as far as any node says.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        let replies = self.nodes.iter();
        let replies = replies.filter_map(|node| node.reply.as_ref().ok());
        Membership::of(self.leader, replies)
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeStatus> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// The node that leads: of those that say so, the one of the highest term. An old leader that has
/// not heard of its successor yet still says so, too.
#[must_use]
pub fn leader<'a>(replies: impl Iterator<Item = &'a StatusReply>) -> Option<NodeId> {
    replies
        .filter(|reply| reply.role() == Role::Leader)
        .max_by_key(|reply| reply.term)
        .map(|reply| reply.node_id)
}

/// What a node says of itself, if it is the right one: ports move, and clusters share machines.
pub(super) async fn ask(
    cluster: &str,
    id: NodeId,
    address: &str,
) -> Result<StatusReply, AdminError> {
    let reply = admin::status(address, ANSWER_DEADLINE).await?;
    own(cluster, id, address, reply)
}

/// An answer, if it is that of the right node.
pub(super) fn own(
    cluster: &str,
    id: NodeId,
    address: &str,
    reply: StatusReply,
) -> Result<StatusReply, AdminError> {
    if reply.cluster != cluster || reply.node_id != id {
        return Err(stranger(address, &reply));
    }
    Ok(reply)
}

fn silent(host: &str) -> String {
    format!(
        "{host}: no answer within {} ms",
        SILENT_HOST_DEADLINE.as_millis()
    )
}

fn stranger(address: &str, reply: &StatusReply) -> AdminError {
    AdminError::Stranger {
        address: address.to_owned(),
        node_id: reply.node_id,
        cluster: reply.cluster.clone(),
    }
}

impl Context {
    /// What the cluster is doing. Takes no longer than the slowest of the deadlines, and no node
    /// waits for another.
    pub async fn status(&self) -> Snapshot {
        let ids = self.cluster.ids();
        let (mut replies, mut facts) = self.replies_and_facts(&ids).await;
        let nodes = self.inventory.members.iter().map(|member| {
            let facts = facts.remove(&member.id);
            let is_filtered = matches!(&facts, Some(Ok(facts)) if facts.is_filtered);
            let (process, host_error) = match facts {
                Some(Ok(facts)) => (Some(facts.state), None),
                Some(Err(error)) => (None, Some(error.to_string())),
                None => (None, Some(silent(self.inventory.host_of(member.id).name()))),
            };
            let reply = replies.remove(&member.id).unwrap_or_else(|| {
                Err(AdminError::Silent {
                    address: member.admin_address.clone(),
                    cause: "it was not asked".into(),
                })
            });
            NodeStatus {
                id: member.id,
                address: self.client_address(member),
                process,
                host_error,
                is_filtered,
                reply: match reply {
                    // A cluster of the same name somewhere else, on the same ports.
                    Ok(reply) if process == Some(ProcessState::Stopped) => {
                        Err(stranger(&member.admin_address, &reply))
                    }
                    reply => reply,
                },
            }
        });
        Snapshot::new(nodes.collect())
    }

    /// Where clients reach a node from this machine. The names of containers mean nothing here.
    pub(super) fn client_address(&self, member: &Member) -> String {
        match member.is_tunnelled {
            true => member.client_address.clone(),
            false => member.admin_address.clone(),
        }
    }

    /// What nodes and hosts say. Where nodes do not answer, their hosts are not waited for as long
    /// as others: most likely neither is there.
    async fn replies_and_facts(&self, ids: &[NodeId]) -> (Replies, Outcomes<NodeFacts>) {
        let give_up = Instant::now() + SILENT_HOST_DEADLINE;
        let mut looking = JoinSet::new();
        let mut waiting: BTreeSet<NodeId> = ids.iter().copied().collect();
        for host in &self.inventory.hosts {
            let (context, here) = (self.clone(), host.nodes.clone());
            looking.spawn(async move { context.node_facts(&here).await });
        }
        let replies = self.replies(ids).await;
        let mut facts = Outcomes::new();
        loop {
            let answers = |id: &NodeId| matches!(replies.get(id), Some(Ok(_)));
            let is_worth_it = waiting.iter().any(answers);
            tokio::select! {
                found = looking.join_next() => match found {
                    Some(Ok(found)) => {
                        waiting.retain(|id| !found.contains_key(id));
                        facts.extend(found);
                    }
                    Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                    None => return (replies, facts),
                },
                () = tokio::time::sleep_until(give_up), if !is_worth_it => return (replies, facts),
            }
        }
    }

    /// The node that leads now, if any says so. One with a lease is believed at once: nobody else
    /// has one.
    pub async fn leader(&self) -> Option<NodeId> {
        let mut asked = self.asking(&self.cluster.ids());
        let mut replies = Vec::new();
        while let Some(joined) = asked.join_next().await {
            match joined {
                Ok((id, Ok(reply))) => {
                    if reply.role() == Role::Leader && reply.lease_remaining_ms.is_some() {
                        return Some(id);
                    }
                    replies.push(reply);
                }
                Ok((_, Err(_))) => {} // It may be dead.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        leader(replies.iter())
    }

    /// What nodes say of themselves.
    pub async fn replies(
        &self,
        ids: &[NodeId],
    ) -> BTreeMap<NodeId, Result<StatusReply, AdminError>> {
        self.asking(ids).join_all().await.into_iter().collect()
    }

    fn asking(&self, ids: &[NodeId]) -> JoinSet<(NodeId, Result<StatusReply, AdminError>)> {
        // Addresses of tunnels are made as they are needed.
        self.note_security();
        let mut asked = JoinSet::new();
        for id in ids.iter().copied() {
            let address = self.inventory.member(id).admin_address.clone();
            let cluster = self.cluster.name.clone();
            asked.spawn(async move { (id, ask(&cluster, id, &address).await) });
        }
        asked
    }

    /// What the hosts say of the nodes' processes.
    pub async fn node_facts(&self, ids: &[NodeId]) -> Outcomes<NodeFacts> {
        self.on_hosts(ids, |host, here| {
            let nodes = here.iter().map(|id| self.look_at(&host, *id, Vec::new()));
            let nodes: Vec<LookAt> = nodes.collect();
            async move {
                let facts = control::facts(&host, &nodes, HOST_DEADLINE).await?;
                Ok(facts
                    .nodes
                    .into_iter()
                    .map(|node| (node.id, node))
                    .collect())
            }
        })
        .await
    }

    /// What the hosts say of themselves, their nodes, and of the ports that nodes need. Each node
    /// stands for its host.
    pub async fn host_facts(&self) -> Outcomes<HostFacts> {
        // ssh itself is to give up first: it tells the cause.
        let deadline = self.cluster.limits.login();
        self.on_hosts(&self.cluster.ids(), |host, here| {
            let nodes = here
                .iter()
                .map(|id| self.look_at(&host, *id, self.ports(*id)));
            let nodes: Vec<LookAt> = nodes.collect();
            async move {
                let facts = control::facts(&host, &nodes, deadline).await?;
                Ok(facts.split())
            }
        })
        .await
    }

    fn look_at(&self, host: &Host, id: NodeId, ports: Vec<u16>) -> LookAt {
        let table = || packet_filter::table(&self.cluster.name, id);
        LookAt {
            layout: host.layout.node(id),
            ports,
            filter: host.layout.is_remote.then(table),
        }
    }

    /// The ports that a node listens on.
    fn ports(&self, id: NodeId) -> Vec<u16> {
        let member = self.inventory.member(id);
        let port = |address: &String| address.rsplit_once(':')?.1.parse().ok();
        let metrics = self.cluster.metrics_listen(id, &member.listen_clients);
        [&member.listen_peers, &member.listen_clients]
            .into_iter()
            .chain(&metrics)
            .filter_map(port)
            .collect()
    }
}
