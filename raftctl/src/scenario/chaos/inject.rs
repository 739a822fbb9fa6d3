//! Makes faults happen, and undoes them.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::plan::{Kind, Planned};
use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::cluster::{NodeId, list};
use crate::error::Result;
use crate::local::binary::Binary;
use crate::ops::{Context, run};
use crate::scenario::outcome::ms;

/// A partition heals itself this long after it should have been healed, and a frozen node goes on,
/// whatever becomes of raftctl.
const SELF_HEAL_AFTER: Duration = Duration::from_secs(5);

/// A fault that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Injected {
    /// When it struck, in milliseconds from the beginning.
    pub at_ms: u64,
    /// When it was undone, likewise; null if the run was over before.
    pub until_ms: Option<u64>,
    /// `kill`, `pause`, `partition`, `restart-all`.
    pub kind: &'static str,
    /// Whom it struck.
    pub nodes: Vec<NodeId>,
    /// Who led when it struck; null if nobody did.
    pub leader: Option<NodeId>,
}

impl Injected {
    /// A line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let at = self.at_ms as f64 / 1000.0;
        let nodes = list(&self.nodes);
        let leader = match self.leader {
            Some(leader) if self.nodes.contains(&leader) => format!(", of which node {leader} led"),
            Some(leader) => format!(", while node {leader} led"),
            None => ", while nobody led".into(),
        };
        let until = self.until_ms.map_or(String::new(), |until_ms| {
            format!(" for {:.2} s", (until_ms - self.at_ms) as f64 / 1000.0)
        });
        format!("  {at:6.2} s  {} {nodes}{until}{leader}\n", self.kind)
    }
}

/// Faults against a cluster.
pub struct Injector<'a> {
    /// The cluster.
    pub context: &'a Context,
    /// What nodes are started with.
    pub binary: &'a Binary,
    /// What times count from.
    pub started: Instant,
}

impl Injector<'_> {
    /// Strikes now.
    ///
    /// # Errors
    /// A host or a node does not obey.
    pub async fn strike(
        &self,
        fault: &Planned,
        nodes: Vec<NodeId>,
        leader: Option<NodeId>,
    ) -> Result<Injected> {
        let at_ms = ms(self.started.elapsed());
        let context = self.context;
        match fault.kind {
            Kind::Member => unreachable!("none is planned"),
            Kind::Kill | Kind::RestartAll => {
                all_or_partial(context.kill(&nodes).await, "killed").map(drop)?;
            }
            Kind::Pause => {
                let length = fault.length + SELF_HEAL_AFTER;
                let paused = context.pause(&nodes, Some(length)).await;
                all_or_partial(paused, "paused").map(drop)?;
            }
            Kind::Partition => {
                let ids = context.cluster.ids().into_iter();
                let others: Vec<NodeId> = ids.filter(|id| !nodes.contains(id)).collect();
                let groups = [nodes.clone(), others];
                let length = fault.length + SELF_HEAL_AFTER;
                some(context.partition(&groups, length).await, "cut off")?;
            }
        }
        Ok(Injected {
            at_ms,
            until_ms: None,
            kind: name(fault.kind),
            nodes,
            leader,
        })
    }

    /// Undoes a fault.
    ///
    /// # Errors
    /// A host or a node does not obey.
    pub async fn undo(&self, fault: &Planned, injected: &mut Injected) -> Result<()> {
        let context = self.context;
        match fault.kind {
            Kind::Member => unreachable!("none is planned"),
            Kind::Kill | Kind::RestartAll => {
                run::start(context, &injected.nodes, self.binary).await?;
            }
            Kind::Pause => {
                all_or_partial(context.resume(&injected.nodes).await, "resumed").map(drop)?;
            }
            Kind::Partition => {
                some(context.heal(&context.cluster.ids()).await, "healed")?;
            }
        }
        injected.until_ms = Some(ms(self.started.elapsed()));
        Ok(())
    }
}

/// A node that is just starting can't be told of a cut; its peers keep theirs, and it has none to
/// heal. So one that obeys is enough.
fn some(outcomes: Outcomes<()>, done: &str) -> Result<()> {
    if outcomes.values().any(Result::is_ok) {
        return Ok(());
    }
    all_or_partial(outcomes, done).map(drop)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Kill => "kill",
        Kind::Pause => "pause",
        Kind::Partition => "partition",
        Kind::RestartAll => "restart-all",
        Kind::Member => "member",
    }
}
