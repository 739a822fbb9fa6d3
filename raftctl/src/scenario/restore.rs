//! Puts a cluster back as it was: whatever a scenario did to it, and wherever it was interrupted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::control::ProcessState;
use crate::local::binary::Binary;
use crate::local::interrupt::Interruptions;
use crate::ops::guests::Guests;
use crate::ops::{Context, run};
use crate::ops::{store, target};
use crate::terminal::out;
use crate::terminal::progress::Progress;

/// What a machine under load may add to what the cluster's timing makes reasonable.
const SLACK: Duration = Duration::from_secs(20);

/// What is told of an interruption, by what came of restoring the cluster after it.
pub fn after_interruption(restored: Result<()>) -> Error {
    match restored {
        Ok(()) => Error::Other("interrupted; the cluster is as it was before".into()),
        Err(error) => error.advise("interrupted, and the cluster is not as it was before".into()),
    }
}

/// Makes sure that a cluster has as many nodes as a scenario is for.
///
/// # Errors
/// It has not.
pub fn check_size(context: &Context, nodes: usize) -> Result<()> {
    let cluster = &context.cluster;
    if cluster.nodes.len() == nodes {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "this scenario is for {nodes} nodes, and cluster {} has {}; change `nodes` in a \
         cluster.yaml of its own, and run it there",
        cluster.name,
        cluster.nodes.len()
    )))
}

/// Makes sure that a run can begin: every node runs with what cluster.yaml says, and one leads. The
/// binary that nodes are started with.
///
/// # Errors
/// What is missing, and what to do; it was interrupted.
pub async fn prepare(context: &Context, interruptions: &mut Interruptions) -> Result<Binary> {
    let preparing = async {
        check_running(context).await?;
        let binary = target::obtain(context, &Progress::new()).await?;
        target::unchanged_facts(context, &binary).await?;
        Ok(binary)
    };
    tokio::select! {
        biased;
        () = interruptions.next() => Err(Error::Other("interrupted; nothing was done".into())),
        prepared = preparing => prepared,
    }
}

async fn check_running(context: &Context) -> Result<()> {
    let ids = context.cluster.ids();
    let facts = all_or_partial(context.node_facts(&ids).await, "looked at")?;
    let idle = |id: &NodeId| facts[id].state != ProcessState::Running;
    let idle: Vec<NodeId> = ids.iter().copied().filter(idle).collect();
    if idle.is_empty() {
        let limit = context.cluster.timing.recovery() + SLACK;
        return context.wait_for_leader(&ids, limit).await.map(drop);
    }
    Err(Error::NoLeader(format!(
        "scenarios need every node running, and {} of cluster {} {} not; bring it up first: \
         raftctl up",
        list(&idle),
        context.cluster.name,
        if idle.len() == 1 { "is" } else { "are" }
    )))
}

/// For how long hosts and nodes that do not answer, or do not obey, are tried again.
const TRIED_FOR: Duration = Duration::from_secs(20);

/// How long the next try waits: a host that could not be reached is left alone for a while anyway.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// What a person has to do where a fault could not be undone.
const LEFT_TO_DO: &str = "left to do, once that is mended: `raftctl resume all`, `raftctl start all`, \
                          `raftctl heal`";

/// What is done at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every fault is undone.
    PuttingBack,
    /// The keys of the run are removed.
    RemovingKeys,
}

impl Ending {
    /// Says what happens after the first interruption.
    pub fn tell_interruption(self) {
        out::say(match self {
            Ending::PuttingBack => {
                "interrupted: putting the cluster back (Ctrl-C again leaves it as it is)"
            }
            Ending::RemovingKeys => {
                "interrupted: removing the keys of the run (Ctrl-C again leaves them)"
            }
        });
    }

    /// The error of a run that was left as it is because its operator insisted.
    fn left_as_it_is(self) -> Error {
        let (what, advice) = match self {
            Ending::PuttingBack => ("everything was undone", LEFT_TO_DO),
            Ending::RemovingKeys => (
                "the keys of the run were removed",
                "`raftctl list scenario/` and `raftctl list chaos/` show what is left",
            ),
        };
        Error::Other(format!("interrupted before {what}")).advise(advice.into())
    }
}

/// Does what belongs to the end of a run, also when it is interrupted: only who insists ends it.
/// `interrupted` tells whether that has happened before, and is set where it happens now.
///
/// # Errors
/// Those of the work; the operator insisted.
pub async fn despite_interruption<T>(
    ending: Ending,
    work: impl Future<Output = Result<T>>,
    interruptions: &mut Interruptions,
    interrupted: &mut bool,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = interruptions.next() => {
                if *interrupted {
                    return Err(ending.left_as_it_is());
                }
                *interrupted = true;
                ending.tell_interruption();
            }
        }
    }
}

/// Heals, resumes and starts what a scenario left, on every host that answers, and waits until the
/// cluster is well. What can't be done at once is tried again for a while.
///
/// # Errors
/// What could not be put back, each node with the reason, and what is left to do.
pub async fn restore(context: &Context, binary: &Binary) -> Result<()> {
    let all = context.cluster.ids();
    let give_up = Instant::now() + TRIED_FOR;
    let mut outcomes: Outcomes<()> = all.iter().map(|id| (*id, Ok(()))).collect();
    let mut rest = all.clone();
    loop {
        outcomes.extend(undo(context, &rest, binary).await);
        let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err());
        rest = failed.map(|(id, _)| *id).collect();
        if rest.is_empty() || Instant::now() >= give_up {
            break;
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    all_or_partial(outcomes, "put back").map_err(|error| error.advise(LEFT_TO_DO.into()))?;
    let limit = context.cluster.timing.recovery() + SLACK;
    let progress = Progress::new();
    let guests = Guests {
        home: context,
        binary,
        patience: limit,
        progress: &progress,
    };
    guests.send_away().await?;
    context.wait_for_leader(&all, limit).await.map(drop)
}

/// Undoes what is there at each of these nodes. None waits for another's host, and what fails at one
/// keeps nobody from the rest.
async fn undo(context: &Context, ids: &[NodeId], binary: &Binary) -> Outcomes<()> {
    let mut outcomes = Outcomes::new();
    let mut in_state: BTreeMap<ProcessState, Vec<NodeId>> = BTreeMap::new();
    for (id, facts) in context.node_facts(ids).await {
        match facts {
            Ok(facts) => in_state.entry(facts.state).or_default().push(id),
            Err(error) => drop(outcomes.insert(id, Err(error))),
        }
        outcomes.entry(id).or_insert(Ok(()));
    }
    let those = |state| in_state.get(&state).cloned().unwrap_or_default();
    let (paused, stopped) = (those(ProcessState::Paused), those(ProcessState::Stopped));
    // A frozen node can't be healed before it goes on.
    let resumed = context.resume(&paused).await.into_iter();
    add_failed(
        &mut outcomes,
        resumed.map(|(id, done)| (id, done.map(drop))),
    );
    let (started, healed) = tokio::join!(
        run::start_each(context, &stopped, binary),
        heal(context, ids)
    );
    add_failed(&mut outcomes, started.into_iter().chain(healed));
    outcomes
}

/// Adds what failed, and keeps what failed before.
fn add_failed(outcomes: &mut Outcomes<()>, more: impl Iterator<Item = (NodeId, Result<()>)>) {
    for (id, outcome) in more {
        let known = outcomes.entry(id).or_insert(Ok(()));
        if known.is_ok() {
            *known = outcome;
        }
    }
}

/// Removes keys that a run has written.
///
/// # Errors
/// No leader within reasonable time.
pub async fn remove(context: &Context, keys: impl IntoIterator<Item = &String>) -> Result<()> {
    let limit = context.cluster.timing.recovery() + SLACK;
    let mut client = Client::new(&store::members(context)).with_timeout(limit);
    for key in keys {
        client.delete(key).await?;
    }
    Ok(())
}

/// Undoes the cuts that are there at nodes. Most scenarios make none, and nodes that do not allow
/// them have none.
async fn heal(context: &Context, ids: &[NodeId]) -> Outcomes<()> {
    let replies = context.replies(ids).await;
    let is_cut = |reply: &raftkv::admin::StatusReply| !reply.cut_links.is_empty();
    let cut = replies
        .into_iter()
        .filter(|(_, reply)| reply.as_ref().is_ok_and(is_cut));
    let cut: Vec<NodeId> = cut.map(|(id, _)| id).collect();
    context.heal(&cut).await
}
