//! Nodes that trials bring to a cluster, and take away again.
//!
//! cluster.yaml does not name them, so whatever a trial leaves of them, the next `up` takes away as it does with any node
//! that is not in the file any more.

use std::time::Duration;

use super::{Context, run};
use crate::cluster::outcomes::all_or_partial;
use crate::cluster::{Node, NodeId, Provider};
use crate::error::{Error, Result};
use crate::local::binary::Binary;
use crate::local::known_nodes;
use crate::plan::membership::Membership;
use crate::terminal::progress::Progress;

/// The guests of a cluster.
pub struct Guests<'a> {
    /// The cluster as cluster.yaml has it.
    pub home: &'a Context,
    /// What they are started with.
    pub binary: &'a Binary,
    /// How long each step of a change may take.
    pub patience: Duration,
    /// Where it is told what could not be taken down.
    pub progress: &'a Progress,
}

impl Guests<'_> {
    /// Whether there can be any: elsewhere raftctl has no host for a node that cluster.yaml does not name.
    ///
    /// # Errors
    /// There can't.
    pub fn check(context: &Context) -> Result<()> {
        match context.cluster.provider {
            Provider::Local => Ok(()),
            other => Err(Error::Usage(format!(
                "nodes that come and go for a trial need a place, and with provider {} there is none but for those \
                 of cluster.yaml; use provider local",
                other.name()
            ))),
        }
    }

    /// The cluster with its guests.
    ///
    /// # Errors
    /// The provider can't tell where they are.
    pub async fn context(&self) -> Result<Context> {
        self.home.with_former().await
    }

    /// Those that are members.
    ///
    /// # Errors
    /// Nobody leads.
    pub async fn present(&self) -> Result<Vec<NodeId>> {
        let all = self.context().await?;
        Ok(self.of(&known(&all).await?))
    }

    fn of(&self, known: &Membership) -> Vec<NodeId> {
        let own = self.home.cluster.ids();
        let mut ids = known.ids();
        ids.retain(|id| !own.contains(id));
        ids
    }

    /// Brings `come` guests, and sends `go` away, by one change; the ids of those that came.
    ///
    /// # Errors
    /// It could not be done in time. It can be tried again, or something else.
    pub async fn change(&self, come: usize, go: &[NodeId]) -> Result<Vec<NodeId>> {
        Self::check(self.home)?;
        let before = self.context().await?;
        let known = known(&before).await?;
        let here = known_nodes::with_files_here(&self.home.cluster.state_dir());
        let used = known.members.keys().chain(&known.retired).chain(&here);
        let next = used.max().map_or(1, |id| id + 1);
        let new: Vec<NodeId> = (next..).take(come).collect();
        let nodes = new.iter().map(|id| Node {
            id: *id,
            ..Node::default()
        });
        let former = self.home.former().into_iter();
        let all = self.home.with_nodes(former.chain(nodes).collect()).await?;
        run::start(&all, &new, self.binary).await?;
        let mut members = known.ids();
        members.retain(|id| !go.contains(id));
        members.extend(&new);
        members.sort_unstable();
        all.reach(&members, self.patience).await?;
        self.take_away(&all, go).await?;
        Ok(new)
    }

    /// Sends all of them away, with what they left.
    ///
    /// # Errors
    /// It could not be done in time.
    pub async fn send_away(&self) -> Result<()> {
        let former: Vec<NodeId> = self.home.former().iter().map(|node| node.id).collect();
        if former.is_empty() || Self::check(self.home).is_err() {
            return Ok(());
        }
        let all = self.context().await?;
        all.reach(&self.home.cluster.ids(), self.patience).await?;
        self.take_away(&all, &former).await
    }

    async fn take_away(&self, all: &Context, ids: &[NodeId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        all_or_partial(all.take_down(ids, self.progress).await?, "taken down")?;
        all_or_partial(all.purge(ids).await, "deleted").map(drop)
    }
}

async fn known(all: &Context) -> Result<Membership> {
    let known = all.membership().await;
    known.ok_or_else(|| Error::NoLeader("there is no leader whose members could change".into()))
}
