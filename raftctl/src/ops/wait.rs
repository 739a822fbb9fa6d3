//! Waiting for a cluster to come up, and finding out why it doesn't.

use std::collections::BTreeMap;
use std::time::Duration;

use raftkv::admin::StatusReply;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Context;
use super::status::{ask, leader};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::control::{self, ProcessState};

/// How often a node is asked.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// How often processes are looked at that do not answer.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Context {
    /// Waits until some node leads with a lease and all of `ids` know it; the leader.
    ///
    /// # Errors
    /// One of `ids` is not running any more: the error shows what it printed last. Or the time is
    /// over: the error tells what each node is doing.
    pub async fn wait_for_leader(&self, ids: &[NodeId], timeout: Duration) -> Result<NodeId> {
        let is_up = |latest: &LatestReplies| latest.common_leader(ids);
        self.wait_until(ids, timeout, is_up).await
    }

    /// Waits until all of `ids` answer, and, where enough nodes run to have one, for a leader with
    /// a lease.
    ///
    /// # Errors
    /// As [`Self::wait_for_leader`].
    pub async fn wait_until_back(&self, ids: &[NodeId], timeout: Duration) -> Result<()> {
        let replies = self.replies(&self.cluster.ids()).await;
        let runs = |id: &&NodeId| ids.contains(id) || matches!(replies.get(id), Some(Ok(_)));
        if self.cluster.ids().iter().filter(runs).count() >= self.cluster.majority() {
            return self.wait_for_leader(ids, timeout).await.map(drop);
        }
        let answer = |latest: &LatestReplies| latest.silent(ids).is_empty().then_some(());
        self.wait_until(ids, timeout, answer).await
    }

    /// Waits until a node has applied all that is committed now.
    ///
    /// # Errors
    /// As [`Self::wait_for_leader`].
    pub async fn wait_until_caught_up(&self, id: NodeId, timeout: Duration) -> Result<()> {
        let replies = self.replies(&self.cluster.ids()).await;
        let commits = replies.values().flatten().map(|reply| reply.commit_index);
        let committed = commits.max().unwrap_or(0);
        let has_all = |latest: &LatestReplies| match latest.replies.get(&id) {
            Some(Ok(reply)) => (reply.applied_index >= committed).then_some(()),
            _ => None,
        };
        self.wait_until(&[id], timeout, has_all).await
    }

    /// Waits until every node that answers, but for one, knows all promises that it has made.
    ///
    /// A node that came back from a crash can't know whom it had promised a lease, so a leader that
    /// is elected by such nodes has to wait a lease. Whoever restarts node after node waits here
    /// before the leader's turn, while the leader still serves. Takes a lease at most: after that
    /// there is nothing more to gain.
    pub async fn wait_for_seasoned(&self, without: NodeId) {
        let others: Vec<NodeId> = self
            .cluster
            .ids()
            .into_iter()
            .filter(|id| *id != without)
            .collect();
        let is_seasoned = |latest: &LatestReplies, id: &NodeId| match latest.replies.get(id) {
            Some(Ok(reply)) => reply.forgotten_promises_remaining_ms.is_none(),
            Some(Err(_)) => true,
            None => false,
        };
        let all = |latest: &LatestReplies| {
            others
                .iter()
                .all(|id| is_seasoned(latest, id))
                .then_some(())
        };
        let lease = Duration::from_millis(self.cluster.timing.lease_ms);
        // Not in time: then the next leader waits instead.
        let _ = tokio::time::timeout(lease, self.wait_until(&[], lease, all)).await;
    }

    /// Waits until `is_up` finds what it wants in what the nodes say.
    async fn wait_until<T>(
        &self,
        ids: &[NodeId],
        timeout: Duration,
        is_up: impl Fn(&LatestReplies) -> Option<T>,
    ) -> Result<T> {
        let mut latest = LatestReplies::new(self);
        let deadline = Instant::now() + timeout;
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            tokio::select! {
                () = latest.next() => {
                    if let Some(found) = is_up(&latest) {
                        return Ok(found);
                    }
                }
                _ = look.tick() => self.check_alive(&latest.silent(ids)).await?,
                () = tokio::time::sleep_until(deadline) => {
                    return Err(self.explain(&latest, ids, timeout).await);
                }
            }
        }
    }

    /// Fails when one of the nodes has no process, with its last words.
    async fn check_alive(&self, silent: &[NodeId]) -> Result<()> {
        if silent.is_empty() {
            return Ok(());
        }
        let facts = self.node_facts(silent).await;
        let stopped = |id: &NodeId| matches!(facts.get(id), Some(Ok(facts)) if facts.state == ProcessState::Stopped);
        let dead: Vec<NodeId> = silent.iter().copied().filter(stopped).collect();
        if dead.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = self
            .last_words(&dead)
            .await
            .into_values()
            .map(|error| error.to_string())
            .collect();
        Err(Error::NoLeader(words.join("\n")))
    }

    /// What nodes that are not running printed last, as an error for each.
    pub async fn last_words(&self, dead: &[NodeId]) -> BTreeMap<NodeId, Error> {
        let deadline = self.cluster.limits.step;
        let tails = self
            .on_hosts(dead, |host, here| async move {
                let tails = control::tail(&host, &here, deadline).await?;
                Ok(tails.into_iter().collect())
            })
            .await;
        let words = |(id, tail): (NodeId, Result<Vec<String>>)| {
            let mut text = format!("node {id} on {} ended", self.inventory.host_of(id).name());
            match tail {
                Ok(lines) if lines.is_empty() => text.push_str(" without a word"),
                Ok(lines) => {
                    text.push_str("; it printed last:");
                    lines
                        .iter()
                        .for_each(|line| text.push_str(&format!("\n  {line}")));
                }
                Err(error) => text.push_str(&format!("; its output can't be read: {error}")),
            }
            (id, Error::NoLeader(text))
        };
        tails.into_iter().map(words).collect()
    }

    /// Of these nodes, those without which the others would be up: the ones that ended, each with
    /// its last words; or, where none did and a leader has its lease, the ones that do not follow.
    pub async fn stragglers(&self, ids: &[NodeId]) -> BTreeMap<NodeId, Error> {
        let facts = self.node_facts(ids).await;
        let stopped = |id: &NodeId| matches!(facts.get(id), Some(Ok(facts)) if facts.state == ProcessState::Stopped);
        let dead: Vec<NodeId> = ids.iter().copied().filter(stopped).collect();
        if !dead.is_empty() {
            return self.last_words(&dead).await;
        }
        let replies = self.replies(&self.cluster.ids()).await;
        let answers = replies.values().flatten();
        let with_lease = answers.filter(|reply| reply.lease_remaining_ms.is_some());
        let Some(leader) = leader(with_lease) else {
            return BTreeMap::new(); // Nobody is up.
        };
        let lags = |id: &NodeId| {
            let says = match replies.get(id) {
                Some(Ok(reply)) if reply.leader_id == leader => return None,
                Some(Ok(reply)) => {
                    format!("{:?} in term {}", reply.role(), reply.term).to_lowercase()
                }
                Some(Err(error)) => error.to_string(),
                None => "no answer".into(),
            };
            let text = format!("it does not follow the leader, node {leader}: {says}");
            Some((*id, Error::NoLeader(text)))
        };
        ids.iter().filter_map(lags).collect()
    }

    /// Waits with `wait` for nodes, and goes on without those that keep the others from being up: `leave`
    /// is handed them, each with the reason, and may fail instead.
    ///
    /// # Errors
    /// What `leave` fails with; or what `wait` does, where no node is to blame.
    pub async fn wait_without_stragglers(
        &self,
        ids: &[NodeId],
        timeout: Duration,
        wait: impl AsyncFn(&[NodeId], Duration) -> Result<()>,
        mut leave: impl FnMut(BTreeMap<NodeId, Error>) -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut waiting = ids.to_vec();
        // Each round leaves a node behind, or is the last.
        while !waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Err(error) = wait(&waiting, left).await else {
                break;
            };
            let stragglers = self.stragglers(&waiting).await;
            if stragglers.is_empty() {
                return Err(error);
            }
            waiting.retain(|id| !stragglers.contains_key(id));
            leave(stragglers)?;
            if Instant::now() >= deadline {
                break; // All others follow: that is how the stragglers were found.
            }
        }
        Ok(())
    }

    async fn explain(&self, latest: &LatestReplies, ids: &[NodeId], timeout: Duration) -> Error {
        let facts = self.node_facts(&self.cluster.ids()).await;
        let mut text = format!(
            "no leader with a lease that {} would follow, within {:.1} s:",
            list(ids),
            timeout.as_secs_f64()
        );
        for member in &self.inventory.members {
            let process = match facts.get(&member.id) {
                Some(Ok(facts)) => facts.state.name().to_owned(),
                Some(Err(error)) => error.to_string(),
                None => "unknown".into(),
            };
            let says = match latest.replies.get(&member.id) {
                Some(Ok(reply)) => {
                    format!("{:?} in term {}", reply.role(), reply.term).to_lowercase()
                }
                Some(Err(cause)) => cause.clone(),
                None => "no answer yet".into(),
            };
            text.push_str(&format!("\n  node {}: {process}; {says}", member.id));
        }
        text.push_str(&unnamed_leader(latest, &self.cluster.ids()));
        text.push_str("\nlook at `raftctl status` and `raftctl doctor`");
        Error::NoLeader(text)
    }
}

/// The leader that nodes follow, where cluster.yaml does not name it: then nothing that waits for one of its nodes ends.
fn unnamed_leader(latest: &LatestReplies, named: &[NodeId]) -> String {
    let replies = latest.replies.values().flatten();
    let mut leaders = replies.map(|reply| reply.leader_id).filter(|id| *id != 0);
    match leaders.find(|id| !named.contains(id)) {
        Some(id) => format!(
            "\nnode {id} leads, which is not in cluster.yaml: `raftctl up` removes it, or name it there"
        ),
        None => String::new(),
    }
}

/// What every node said last, asked again and again in the background. Ends with its value.
struct LatestReplies {
    replies: BTreeMap<NodeId, Result<StatusReply, String>>,
    inbox: mpsc::Receiver<(NodeId, Result<StatusReply, String>)>,
    _asking: JoinSet<()>,
}

impl LatestReplies {
    fn new(context: &Context) -> Self {
        let (outbox, inbox) = mpsc::channel(context.inventory.members.len());
        let mut asking = JoinSet::new();
        for member in &context.inventory.members {
            let (id, address) = (member.id, member.admin_address.clone());
            let (outbox, cluster) = (outbox.clone(), context.cluster.name.clone());
            asking.spawn(async move {
                loop {
                    let reply = ask(&cluster, id, &address).await;
                    let reply = reply.map_err(|error| error.to_string());
                    if outbox.send((id, reply)).await.is_err() {
                        return; // Nobody listens any more.
                    }
                    tokio::time::sleep(ASK_EVERY).await;
                }
            });
        }
        LatestReplies {
            replies: BTreeMap::new(),
            inbox,
            _asking: asking,
        }
    }

    /// Waits for the next answer of any node.
    async fn next(&mut self) {
        match self.inbox.recv().await {
            Some((id, reply)) => drop(self.replies.insert(id, reply)),
            // Every asker keeps its sender for as long as this value lives.
            None => std::future::pending().await,
        }
    }

    fn silent(&self, ids: &[NodeId]) -> Vec<NodeId> {
        let answers = |id: &&NodeId| matches!(self.replies.get(id), Some(Ok(_)));
        ids.iter().filter(|id| !answers(id)).copied().collect()
    }

    /// The leader, if it has a lease and all of `ids` follow it. A node that has not heard of it
    /// yet might still stand for election.
    fn common_leader(&self, ids: &[NodeId]) -> Option<NodeId> {
        let reply = |id: &NodeId| self.replies.get(id)?.as_ref().ok();
        let leader = leader(
            self.replies
                .values()
                .filter_map(|reply| reply.as_ref().ok()),
        )?;
        let own = reply(&leader)?;
        let follows = |id: &NodeId| {
            reply(id).is_some_and(|reply| reply.leader_id == leader && reply.term == own.term)
        };
        (own.lease_remaining_ms.is_some() && ids.iter().all(follows)).then_some(leader)
    }
}
