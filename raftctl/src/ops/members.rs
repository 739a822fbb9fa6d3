//! Changes of who belongs to a cluster. Each function looks at the cluster first and does what is left to do, so
//! all can be run again.

use std::collections::BTreeMap;
use std::time::Duration;

use raftkv::admin::{self as wire, StatusReply};
use tokio::time::Instant;
use tonic::Code;

use super::{Context, run};
use crate::admin::{self, AdminError};
use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{Node, NodeId, Provider, list};
use crate::error::{Error, Result};
use crate::hosts::control::{self, ProcessState};
use crate::local::{guests, known_logs, known_nodes};
use crate::plan::change::too_few;
use crate::plan::membership::Membership;
use crate::providers::{self, Aftermath};
use crate::terminal::progress::Progress;

/// How long to wait before the cluster is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// How long a leader may take for one change.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a node that left may take to end by itself.
const ENDS_BY_ITSELF: Duration = Duration::from_secs(3);

/// Who lacks no more entries than this has caught up: raft-node asks for the same.
const BEHIND_MAX: u64 = 1_024;

/// Who leads, and whom it knows.
struct Lead {
    id: NodeId,
    reply: StatusReply,
    known: Membership,
    /// The nodes that answer.
    answering: Vec<NodeId>,
}

impl Context {
    /// The same cluster with the nodes that cluster.yaml does not name any more, and that may still be there.
    ///
    /// # Errors
    /// The provider can't tell where they are.
    pub async fn with_former(&self) -> Result<Context> {
        self.with_nodes(self.former()).await
    }

    /// The same with those whose files are left as well, where that can be seen.
    ///
    /// # Errors
    /// As [`Self::with_former`].
    pub async fn with_all_left(&self) -> Result<Context> {
        let mut all = self.former();
        if self.cluster.provider == Provider::Local {
            for id in known_nodes::with_files_here(&self.cluster.state_dir()) {
                let mut known = all.iter().chain(&self.cluster.nodes);
                if !known.any(|node| node.id == id) {
                    all.push(Node {
                        id,
                        ..Node::default()
                    });
                }
            }
        }
        self.with_nodes(all).await
    }

    /// The same with more nodes.
    ///
    /// # Errors
    /// As [`Self::with_former`].
    pub async fn with_nodes(&self, former: Vec<Node>) -> Result<Context> {
        if former.is_empty() {
            return Ok(self.clone());
        }
        let mut cluster = (*self.cluster).clone();
        cluster.nodes.extend(former);
        cluster.nodes.sort_by_key(|node| node.id);
        let mut all = Context::open(cluster).await?;
        all.identity = self.identity.clone();
        Ok(all)
    }

    /// The same with more nodes, for which hosts are made, or looked at for the first time, where they have to be.
    ///
    /// # Errors
    /// The provider can't make them, or can't tell where they are.
    pub async fn with_new_hosts(&self, more: Vec<Node>) -> Result<Context> {
        let mut cluster = (*self.cluster).clone();
        cluster.nodes.extend(more);
        cluster.nodes.sort_by_key(|node| node.id);
        providers::make_hosts(&cluster).await?;
        let mut all = Context::look(cluster, false).await?;
        all.identity = self.identity.clone();
        Ok(all)
    }

    /// The nodes that cluster.yaml does not name any more, as far as this machine knows of any.
    #[must_use]
    pub fn former(&self) -> Vec<Node> {
        let state_dir = self.cluster.state_dir();
        let mut known = known_nodes::load(&state_dir);
        if self.cluster.provider == Provider::Local {
            for id in known_nodes::started_here(&state_dir) {
                known.entry(id).or_insert(Node {
                    id,
                    ..Node::default()
                });
            }
        }
        for node in &self.cluster.nodes {
            known.remove(&node.id);
        }
        known.into_values().collect()
    }

    async fn lead(&self) -> Option<Lead> {
        let replies = self.replies(&self.cluster.ids()).await;
        let answers = replies.values().flatten();
        let with_lease = answers
            .clone()
            .filter(|reply| reply.lease_remaining_ms.is_some());
        let id = super::status::leader(with_lease)?;
        let known = Membership::of(Some(id), answers.clone())?;
        let answering = answers.map(|reply| reply.node_id).collect();
        let reply = replies.get(&id)?.as_ref().ok()?.clone();
        Some(Lead {
            id,
            reply,
            known,
            answering,
        })
    }

    /// Asks the leader for a change until it is made, or refused for good.
    async fn change(
        &self,
        what: &str,
        patience: Duration,
        target: impl Fn(&Lead) -> Result<Option<Vec<wire::Member>>>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut why = "there is no leader with a lease".to_owned();
        loop {
            if let Some(lead) = self.lead().await {
                let Some(members) = target(&lead)? else {
                    return Ok(());
                };
                let address = &self.inventory.member(lead.id).admin_address;
                let base = lead.known.index;
                match admin::change_members(address, base, members, CHANGE_DEADLINE).await {
                    Ok(()) => continue, // Until it is seen to be so.
                    Err(AdminError::Refused(status)) if is_final(&status, &lead) => {
                        return Err(Error::Usage(format!("{what}: {}", status.message())));
                    }
                    Err(error) => why = error.to_string(),
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::NoLeader(format!(
                    "{what}: not within {} s: {why}; `raftctl up` goes on from there",
                    patience.as_secs()
                )));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Adds nodes as learners.
    ///
    /// # Errors
    /// The leader refuses, or there is none in time.
    pub async fn add_learners(&self, ids: &[NodeId], patience: Duration) -> Result<()> {
        let what = format!("{} can't be added", list(ids));
        let replies = self.replies(ids).await;
        let directory = |id: &NodeId| match replies.get(id) {
            Some(Ok(reply)) => reply.directory_id.clone(),
            _ => String::new(),
        };
        let target = |lead: &Lead| {
            let missing = ids.iter().filter(|id| !lead.known.members.contains_key(id));
            let new: Vec<wire::Member> = missing
                .map(|id| self.as_member(*id, directory(id)))
                .collect();
            if new.is_empty() {
                return Ok(None);
            }
            let members = lead.known.members.values().cloned();
            Ok(Some(by_id(members.chain(new))))
        };
        self.change(&what, patience, target).await
    }

    fn as_member(&self, id: NodeId, directory_id: String) -> wire::Member {
        let member = self.inventory.member(id);
        wire::Member {
            node_id: id,
            directory_id,
            peer_address: member.peer_address.clone(),
            client_address: member.client_address.clone(),
            voter: false,
            outgoing: false,
        }
    }

    /// Waits until learners lack next to nothing, for as long as they come nearer; `tell` is told how many
    /// entries they have, of how many.
    ///
    /// # Errors
    /// One does not come nearer for `patience`.
    pub async fn catch_up(
        &self,
        ids: &[NodeId],
        patience: Duration,
        tell: impl Fn(u64, u64),
    ) -> Result<()> {
        let mut least = u64::MAX;
        let mut deadline = Instant::now() + patience;
        loop {
            let mut lacking = Vec::new();
            if let Some(lead) = self.lead().await {
                let behind = |id: &NodeId| lead.known.behind.get(id).copied();
                let peers = lead.reply.peers.iter();
                let connected: Vec<NodeId> = peers
                    .filter(|peer| peer.connected && peer.match_index > 0)
                    .map(|peer| peer.node_id)
                    .collect();
                let has_all = |id: &&NodeId| {
                    behind(id).is_some_and(|behind| behind <= BEHIND_MAX) && connected.contains(id)
                };
                lacking = ids.iter().filter(|id| !has_all(id)).copied().collect();
                if lacking.is_empty() {
                    return Ok(());
                }
                let left = lacking
                    .iter()
                    .map(|id| behind(id).unwrap_or(lead.reply.last_index));
                let left: u64 = left.sum();
                let all = lead.reply.last_index * ids.len() as u64;
                tell(all.saturating_sub(left), all);
                if left < least {
                    least = left;
                    deadline = Instant::now() + patience;
                }
            }
            if Instant::now() >= deadline {
                return Err(self.stuck(&lacking, least, patience).await);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn stuck(&self, lacking: &[NodeId], left: u64, patience: Duration) -> Error {
        let dead = self.node_facts(lacking).await;
        let dead = dead.iter().filter(|(_, facts)| {
            facts
                .as_ref()
                .is_ok_and(|facts| facts.state == ProcessState::Stopped)
        });
        let dead: Vec<NodeId> = dead.map(|(id, _)| *id).collect();
        let words = self.last_words(&dead).await.into_values();
        let words: Vec<String> = words.map(|error| format!("\n{error}")).collect();
        let far = match left {
            u64::MAX => "there is no leader".to_owned(),
            left => format!("{left} entries are left"),
        };
        Error::NoLeader(format!(
            "{} came no nearer for {} s: {far}; nothing else has changed, and `raftctl up` goes on from there{}",
            list(lacking),
            patience.as_secs(),
            words.concat()
        ))
    }

    /// Hands leadership over from a node to one of those that stay.
    ///
    /// # Errors
    /// Nobody takes it in time.
    pub async fn hand_over(&self, stay: &[NodeId], patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut why = "there is no leader with a lease".to_owned();
        loop {
            if let Some(lead) = self.lead().await {
                if stay.contains(&lead.id) {
                    return Ok(());
                }
                match self.hand_over_from(&lead, stay).await {
                    Ok(()) => continue,
                    Err(reason) => why = reason,
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::NoLeader(format!(
                    "leadership was not handed over to any of {} within {} s: {why}; `raftctl up` goes on from there",
                    list(stay),
                    patience.as_secs()
                )));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn hand_over_from(&self, lead: &Lead, stay: &[NodeId]) -> Result<(), String> {
        let voters = lead.known.voters();
        let may = |peer: &&wire::PeerProgress| {
            peer.connected && stay.contains(&peer.node_id) && voters.contains(&peer.node_id)
        };
        let peers = lead.reply.peers.iter().filter(may);
        let Some(heir) = peers.max_by_key(|peer| peer.match_index) else {
            return Err(format!(
                "none of them votes and is connected to node {}",
                lead.id
            ));
        };
        let address = &self.inventory.member(lead.id).admin_address;
        let done = admin::transfer(address, Some(heir.node_id), CHANGE_DEADLINE).await;
        done.map(drop).map_err(|error| error.to_string())
    }

    /// Who belongs to the cluster, where somebody leads.
    pub async fn membership(&self) -> Option<Membership> {
        self.lead().await.map(|lead| lead.known)
    }

    /// Makes `members` the voters of the cluster; those that are new run already.
    ///
    /// # Errors
    /// As of each of the steps.
    pub async fn reach(&self, members: &[NodeId], patience: Duration) -> Result<()> {
        self.add_learners(members, patience).await?;
        let lead = self.lead().await;
        let voters = lead.as_ref().map_or(Vec::new(), |lead| lead.known.voters());
        let learning = members.iter().copied().filter(|id| !voters.contains(id));
        let learning: Vec<NodeId> = learning.collect();
        if !learning.is_empty() {
            self.catch_up(&learning, patience, |_, _| ()).await?;
        }
        if lead.is_some_and(|lead| !members.contains(&lead.id)) {
            self.hand_over(members, patience).await?;
        }
        self.change_voters(members, patience).await
    }

    /// Makes `members` the voters of the cluster, and nobody else, in one change.
    ///
    /// # Errors
    /// Too many of them are dead; the leader refuses, or there is none in time.
    pub async fn change_voters(&self, members: &[NodeId], patience: Duration) -> Result<()> {
        let what = format!("{} can't be made the voters", list(members));
        let target = |lead: &Lead| {
            let known = &lead.known;
            if known.ids() == members && known.voters() == members && known.is_committed {
                return Ok(None);
            }
            let lives = |id| lead.answering.contains(&id);
            if let Some(refused) = too_few(known, members, lives) {
                return Err(Error::Usage(refused));
            }
            let voter = |id: &NodeId| match known.members.get(id) {
                Some(member) => wire::Member {
                    voter: true,
                    outgoing: false,
                    ..member.clone()
                },
                None => wire::Member {
                    voter: true,
                    ..self.as_member(*id, String::new())
                },
            };
            Ok(Some(members.iter().map(voter).collect()))
        };
        self.change(&what, patience, target).await
    }

    /// Ends the processes of nodes that left, which do so by themselves where they hear of it, and forgets them.
    /// What becomes of their hosts is told of each. What could not be done is told, and is no error: whoever left counts
    /// no more.
    ///
    /// # Errors
    /// A local file can't be written; the provider refuses.
    pub async fn take_down(
        &self,
        ids: &[NodeId],
        progress: &Progress,
    ) -> Result<Outcomes<Aftermath>> {
        let deadline = Instant::now() + ENDS_BY_ITSELF;
        let runs = async || {
            let facts = self.node_facts(ids).await;
            facts
                .values()
                .flatten()
                .any(|node| node.state == ProcessState::Running)
        };
        while Instant::now() < deadline && runs().await {
            tokio::time::sleep(AGAIN).await;
        }
        let mut outcomes = run::end(self, ids, progress).await;
        let ended: Vec<NodeId> = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(id, _)| *id)
            .collect();
        let limit = self.cluster.limits.step;
        let retired = self
            .on_hosts(&ended, |host, here| async move {
                control::retire(&host, &here, limit).await?;
                Ok(here.into_iter().map(|id| (id, ())).collect())
            })
            .await;
        outcomes.extend(retired);
        let aftermath = providers::take_away(&self.cluster, ids)?;
        known_nodes::remove(&self.cluster.state_dir(), ids)?;
        guests::remove(&self.cluster.state_dir(), ids)?;
        if aftermath == Aftermath::Stays {
            let nodes = self.cluster.nodes.iter();
            let ended = |node: &&Node| outcomes.get(&node.id).is_some_and(Result::is_ok);
            let left: Vec<Node> = nodes.filter(ended).cloned().collect();
            known_nodes::note_left(&self.cluster.state_dir(), &left)?;
        }
        let told = |(id, outcome): (NodeId, Result<()>)| match aftermath {
            Aftermath::Stays => (id, outcome.map(|()| aftermath)),
            Aftermath::Deleted | Aftermath::DeletedNext => (id, Ok(aftermath)),
        };
        Ok(outcomes.into_iter().map(told).collect())
    }

    /// Deletes the files of nodes that left; this context knows their places.
    ///
    /// # Errors
    /// One is a member, as the leader says, or nobody leads who could say; or files are still there: each is named.
    pub async fn purge_left(&self, ids: &[NodeId]) -> Result<()> {
        let Some(known) = self.membership().await else {
            return Err(Error::NoLeader(format!(
                "nobody leads who could say that {} left, so no file is deleted; look at `raftctl status`",
                list(ids)
            )));
        };
        let members = ids
            .iter()
            .copied()
            .filter(|id| known.members.contains_key(id));
        let members: Vec<NodeId> = members.collect();
        if !members.is_empty() {
            return Err(Error::Usage(format!(
                "the cluster needs the files of {}, which it has as members; `raftctl up` makes them leave, if \
                 cluster.yaml does not name them",
                list(&members)
            )));
        }
        let outcomes = self.purge(ids).await;
        let purged = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
        let purged: Vec<NodeId> = purged.map(|(id, _)| *id).collect();
        known_logs::remove(&self.cluster.state_dir(), &purged)?;
        known_nodes::forget_left(&self.cluster.state_dir(), &purged)?;
        all_or_partial(outcomes, "deleted").map(drop)
    }

    /// Where the files of a node lie, for people.
    #[must_use]
    pub fn files_of(&self, id: NodeId) -> String {
        let host = self.inventory.host_of(id);
        let folder = host.layout.node(id).data_dir;
        match host.layout.is_remote {
            true => format!("{folder} on {}", host.name()),
            false => folder,
        }
    }

    /// Remembers where the nodes of cluster.yaml are, for when it does not name them any more.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn remember_nodes(&self) -> Result<()> {
        known_nodes::add(&self.cluster.state_dir(), &self.cluster.nodes)
    }
}

/// Whether asking again would not help. Who has not caught up yet may have a moment later.
fn is_final(status: &tonic::Status, lead: &Lead) -> bool {
    let learners = lead.known.learners();
    let is_behind = learners
        .iter()
        .any(|id| lead.known.behind.get(id).is_none_or(|behind| *behind > 0));
    match status.code() {
        Code::InvalidArgument | Code::Unimplemented => true,
        Code::FailedPrecondition => !is_behind && !lead.known.is_joint && lead.known.is_committed,
        _ => false,
    }
}

fn by_id(members: impl Iterator<Item = wire::Member>) -> Vec<wire::Member> {
    let members: BTreeMap<NodeId, wire::Member> =
        members.map(|member| (member.node_id, member)).collect();
    members.into_values().collect()
}
