//! Runs the steps of a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::outcomes::{Outcomes, all_or_partial, no_majority};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::control::{ProcessState, Signalled};
use crate::local::authority::Authority;
use crate::local::binary::Binary;
use crate::ops::Context;
use crate::ops::certificates::Wanted;
use crate::plan::Step;
use crate::providers::Aftermath;
use crate::terminal::progress::{Hosts, Progress, Running};

/// How long nodes are waited for unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a node may take to hand over leadership, flush and exit.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// The nodes that were left behind, each with the reason.
pub type LeftBehind = BTreeMap<NodeId, Error>;

/// Runs steps one after the other, and stops at the first that fails: what is done stays done, and
/// a new plan begins there. Nodes whose host can't take the binary, that do not start, or that do
/// not come up, are left behind as long as the others make a majority; `left_behind` are those
/// that were before the first step.
///
/// Nodes that join or leave are never left behind: a change of members is one for all, and where one of its steps
/// fails, the next ones are not taken.
///
/// # Errors
/// Why a step failed.
pub async fn run(
    context: &Context,
    steps: &[Step],
    binary: &Binary,
    timeout: Duration,
    progress: &Progress,
    left_behind: LeftBehind,
) -> Result<LeftBehind> {
    let ids = context.cluster.ids();
    let mut run = Run {
        context,
        all: context.with_former().await?,
        binary,
        timeout,
        progress,
        hosts: progress.hosts(context.names(&ids)),
        left_behind,
    };
    let left: Vec<NodeId> = run.left_behind.keys().copied().collect();
    run.hosts.phase(&left, LEFT_BEHIND);
    for step in steps {
        let Some(step) = step.clone().without(|id| run.left_behind.contains_key(id)) else {
            continue; // Nobody is left to do it.
        };
        if matches!(step, Step::Build { .. }) {
            continue; // Built already: without the binary there is nothing to run.
        }
        let running = progress.begin(&step.to_string());
        let (phase, done) = step.phases();
        run.hosts.phase(step.nodes(), phase);
        run.one(&step, &running).await?;
        running.done();
        let step = step.without(|id| run.left_behind.contains_key(id));
        step.iter()
            .for_each(|step| run.hosts.phase(step.nodes(), done));
    }
    Ok(run.left_behind)
}

/// A plan on its way.
struct Run<'a> {
    context: &'a Context,
    /// With the nodes that cluster.yaml does not name any more.
    all: Context,
    binary: &'a Binary,
    timeout: Duration,
    progress: &'a Progress,
    hosts: Hosts,
    left_behind: LeftBehind,
}

/// What is told of a node that is left behind.
const LEFT_BEHIND: &str = "left behind";

impl Run<'_> {
    async fn one(&mut self, step: &Step, running: &Running) -> Result<()> {
        let context = self.context;
        match step {
            Step::Build { .. } => Ok(()),
            Step::Ship { nodes, .. } => self.ship(nodes).await,
            Step::MakeAuthority { .. } => Authority::of(&context.cluster).ensure().map(drop),
            Step::Certify { nodes, .. } => self.certify(nodes).await,
            Step::Resume { nodes } => {
                all_or_partial(context.resume(nodes).await, "resumed").map(drop)
            }
            Step::Stop { nodes, .. } => {
                let ended = end(context, nodes, self.progress).await;
                // Those that could not be reached refuse the others with their new arguments.
                self.leave_failed(ended, "stopped").map_err(|error| {
                    error.advise("the others are stopped now; `raftctl up` goes on".into())
                })
            }
            Step::Start { nodes, .. } => {
                self.leave_failed(start_each(&self.all, nodes, self.binary).await, "started")
            }
            Step::Join { nodes } => start(context, nodes, self.binary).await,
            Step::Learn { nodes } => self.all.add_learners(nodes, self.timeout).await,
            Step::CatchUp { nodes, .. } => {
                let tell = |done, all| running.amount(done, all, "entries");
                self.all.catch_up(nodes, self.timeout, tell).await
            }
            Step::HandOver { from } => {
                let mut stay = context.cluster.ids();
                stay.retain(|id| id != from);
                self.all.hand_over(&stay, self.timeout).await
            }
            Step::ChangeVoters { members, .. } => {
                self.all.change_voters(members, self.timeout).await
            }
            Step::TakeDown { nodes } => self.take_down(nodes).await,
            Step::Restart { node, .. } => restart(context, *node, self.binary, self.timeout).await,
            Step::WaitForLeader { nodes } => self.wait_for_leader(nodes).await,
        }
    }

    /// Whoever left counts no more: what is left of it is told, and hinders nothing.
    async fn take_down(&self, nodes: &[NodeId]) -> Result<()> {
        for (id, outcome) in self.all.take_down(nodes, self.progress).await? {
            self.progress.note(&match outcome {
                Ok(Aftermath::Deleted) => format!("node {id} has left; its host is deleted"),
                Ok(Aftermath::DeletedNext) => {
                    format!("node {id} has left; what there is of its machine is deleted next")
                }
                Ok(Aftermath::Stays) => format!(
                    "node {id} has left; its files stay in {}, and nobody needs them any more \
                     (`raftctl remove {id} --purge` deletes them)",
                    self.all.files_of(id)
                ),
                Err(error) => format!(
                    "node {id} has left; it could not be taken down ({error}), and ends by itself where it hears of \
                     that"
                ),
            });
        }
        Ok(())
    }

    /// Sends the binary; those hosts that can't take it are left behind.
    async fn ship(&mut self, nodes: &[NodeId]) -> Result<()> {
        let outcomes = self
            .context
            .ship(nodes, self.binary, self.hosts.watch())
            .await?;
        self.leave_failed(outcomes, "shipped")
    }

    /// Gives nodes certificates, and waits until those that run use them. While the authority changes, all have to trust
    /// both before any shows what the next one has signed.
    async fn certify(&mut self, nodes: &[NodeId]) -> Result<()> {
        let authority = Authority::of(&self.context.cluster);
        if authority.is_here() && authority.is_changing()? {
            let mut all = self.context.cluster.ids();
            all.retain(|id| !self.left_behind.contains_key(id));
            self.give(&all, Wanted::Trust).await?;
        }
        self.give(nodes, Wanted::Missing).await
    }

    async fn give(&mut self, nodes: &[NodeId], wanted: Wanted) -> Result<()> {
        let given = self.context.certify(nodes, &self.binary.path, wanted).await;
        let replies = self.context.replies(nodes).await;
        let speaks =
            |id: &NodeId| matches!(replies.get(id), Some(Ok(reply)) if reply.tls.is_some());
        let running = given.iter().filter(|(id, _)| speaks(id));
        let running = running.filter_map(|(id, given)| Some((*id, given.clone().ok()?)));
        let running = running.collect();
        self.leave_failed(given, "given its certificate")?;
        self.context.await_certificates(&running).await
    }

    /// Waits for a leader; nodes that end meanwhile, or do not follow in time, are left behind.
    async fn wait_for_leader(&mut self, nodes: &[NodeId]) -> Result<()> {
        // Who leads may be on its way out.
        let (context, timeout) = (&self.all.clone(), self.timeout);
        let wait =
            async |nodes: &[NodeId], left| context.wait_for_leader(nodes, left).await.map(drop);
        let leave = |lost: LeftBehind| {
            if !self.can_leave(lost.len()) {
                return Err(self.too_few(lost, "brought up"));
            }
            self.leave(lost);
            Ok(())
        };
        context
            .wait_without_stragglers(nodes, timeout, wait, leave)
            .await
    }

    /// Whether the cluster has a majority without so many more nodes.
    fn can_leave(&self, more: usize) -> bool {
        let cluster = &self.context.cluster;
        self.left_behind.len() + more <= cluster.nodes.len() - cluster.majority()
    }

    fn leave(&mut self, lost: LeftBehind) {
        for (id, error) in &lost {
            self.progress
                .note(&format!("going on without node {id}: {error}"));
            self.hosts.phase(&[*id], LEFT_BEHIND);
        }
        self.left_behind.extend(lost);
    }

    /// Leaves behind the nodes that failed.
    ///
    /// # Errors
    /// The others are no majority.
    fn leave_failed<T>(&mut self, outcomes: Outcomes<T>, done: &str) -> Result<()> {
        let failed = outcomes.into_iter();
        let failed: LeftBehind = failed
            .filter_map(|(id, outcome)| Some((id, outcome.err()?)))
            .collect();
        if !self.can_leave(failed.len()) {
            return Err(self.too_few(failed, done));
        }
        self.leave(failed);
        Ok(())
    }

    /// The error of these nodes, and those that were left behind before.
    fn too_few(&self, failed: LeftBehind, done: &str) -> Error {
        let before = self.left_behind.iter();
        let before = before.map(|(id, error)| (*id, error.clone()));
        let failed = failed.into_iter().chain(before);
        no_majority(
            failed
                .map(|(id, error)| (id, Err::<(), _>(error)))
                .collect(),
            done,
        )
    }
}

/// Stops nodes, and kills those that do not stop.
pub async fn end(context: &Context, ids: &[NodeId], progress: &Progress) -> Outcomes<()> {
    let stopped = context.stop(ids, STOP_GRACE).await;
    let disobeyed = |error: &Error| matches!(error, Error::Host { .. });
    let stubborn: Vec<NodeId> = stopped
        .iter()
        .filter(|(_, outcome)| outcome.as_ref().is_err_and(disobeyed))
        .map(|(id, _)| *id)
        .collect();
    let drop_answer = |(id, outcome): (NodeId, Result<Signalled>)| (id, outcome.map(drop));
    let mut outcomes: Outcomes<()> = stopped.into_iter().map(drop_answer).collect();
    if !stubborn.is_empty() {
        progress.note(&format!("{} did not stop: killing", list(&stubborn)));
        outcomes.extend(context.kill(&stubborn).await.into_iter().map(drop_answer));
    }
    outcomes
}

/// Starts nodes, all or it is an error.
///
/// # Errors
/// As [`start_each`], for every node that failed.
pub async fn start(context: &Context, nodes: &[NodeId], binary: &Binary) -> Result<()> {
    all_or_partial(start_each(context, nodes, binary).await, "started").map(drop)
}

/// Starts nodes; for one that ended right away the error shows what it printed.
pub async fn start_each(context: &Context, nodes: &[NodeId], binary: &Binary) -> Outcomes<()> {
    let started = context.start(nodes, binary).await;
    let mut outcomes = Outcomes::new();
    let mut dead = Vec::new();
    for (id, outcome) in started {
        match outcome {
            Ok((_, facts)) if facts.state == ProcessState::Stopped => dead.push(id),
            Ok(_) => drop(outcomes.insert(id, Ok(()))),
            Err(error) => drop(outcomes.insert(id, Err(error))),
        }
    }
    let words = context.last_words(&dead).await.into_iter();
    outcomes.extend(words.map(|(id, error)| (id, Err(error))));
    outcomes
}

/// Stops one node in order, starts it, and waits until it is back. A leader hands over first, at a
/// moment when its successor need not wait for an older lease.
///
/// # Errors
/// It does not stop, start or come back.
pub async fn restart(
    context: &Context,
    node: NodeId,
    binary: &Binary,
    timeout: Duration,
) -> Result<()> {
    if context.leader().await == Some(node) {
        context.wait_for_seasoned(node).await;
    }
    if context.cluster.tls.needs_certificates() {
        // What could not be started again is not stopped.
        let wanted = Wanted::Missing;
        let given = context.certify(&[node], &binary.path, wanted).await;
        all_or_partial(given, "given its certificate")?;
    }
    all_or_partial(context.stop(&[node], STOP_GRACE).await, "stopped")?;
    start(context, &[node], binary).await?;
    context.wait_until_back(&[node], timeout).await
}
