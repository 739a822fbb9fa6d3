//! Nodes that trials bring to a cluster, and take away again.
//!
//! cluster.yaml does not name them, so whatever a trial leaves of them, the next `up` takes away as it does with any node
//! that is not in the file any more.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, run};
use crate::cluster::outcomes::all_or_partial;
use crate::cluster::{Node, NodeId, Provider};
use crate::error::{Error, Result};
use crate::local::binary::Binary;
use crate::local::{guests, known_nodes};
use crate::plan::membership::Membership;
use crate::providers::Aftermath;
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
    /// How many there can be at a time. On this machine, and in containers, as many as one likes; with provider ssh as
    /// many as there are spare hosts.
    ///
    /// # Errors
    /// There can be none: nobody knows of a host for a node that cluster.yaml does not name.
    pub fn room(context: &Context) -> Result<usize> {
        let spare = context.cluster.ssh.spare.len();
        match context.cluster.provider {
            Provider::Local | Provider::Docker => Ok(usize::MAX),
            Provider::Ssh if spare > 0 => Ok(spare),
            Provider::Ssh => Err(Error::Usage(
                "nodes that come and go for a trial need hosts that no node of cluster.yaml has: name some there, as in \
                 `ssh: {spare: [n6.example, n7.example]}`"
                    .into(),
            )),
            Provider::Gcp => Err(Error::Usage(
                "nodes that come and go for a trial would each be a machine at Google, made and deleted within the trial; \
                 use provider local, docker or ssh"
                    .into(),
            )),
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
        let brought = guests::load(&self.home.cluster.state_dir());
        let mut ids = known.ids();
        ids.retain(|id| brought.contains(id));
        ids
    }

    /// Brings `come` guests, and sends `go` away, by one change; the ids of those that came.
    ///
    /// # Errors
    /// It could not be done in time, or there is no host left. It can be tried again, or something else.
    pub async fn change(&self, come: usize, go: &[NodeId]) -> Result<Vec<NodeId>> {
        Self::room(self.home)?;
        let before = self.context().await?;
        let known = known(&before).await?;
        self.clear(&before, &known).await?;
        let here = known_nodes::with_files_here(&self.home.cluster.state_dir());
        let used = known.members.keys().chain(&known.retired).chain(&here);
        let next = used.max().map_or(1, |id| id + 1);
        let new: Vec<NodeId> = (next..).take(come).collect();
        let all = self.invite(&new).await?;
        self.bring(&all, &new).await?;
        let mut members = known.ids();
        members.retain(|id| !go.contains(id));
        members.extend(&new);
        members.sort_unstable();
        all.reach(&members, self.patience).await?;
        self.take_away(&all, go).await?;
        Ok(new)
    }

    /// Those that came for a change that was given up, and never became members: their places are free.
    async fn clear(&self, before: &Context, known: &Membership) -> Result<()> {
        let mut stale = self.brought();
        stale.retain(|id| !known.members.contains_key(id));
        self.take_away(before, &stale).await
    }

    /// The nodes that trials have brought, and that may still be there. Others that cluster.yaml does not name are not
    /// theirs to take away.
    fn brought(&self) -> Vec<NodeId> {
        let brought = guests::load(&self.home.cluster.state_dir());
        let former = self.home.former().into_iter().map(|node| node.id);
        former.filter(|id| brought.contains(id)).collect()
    }

    /// The cluster with new guests, each with a place. That is remembered before anything is there: wherever this is
    /// interrupted, the next `up` finds them.
    async fn invite(&self, new: &[NodeId]) -> Result<Context> {
        let mut all = self.home.former();
        let mut places = self.places(&all);
        let mut invited = Vec::new();
        for id in new {
            let host = match self.home.cluster.provider {
                Provider::Ssh => Some(places.next().ok_or_else(no_place)?),
                _ => None,
            };
            invited.push(Node {
                id: *id,
                host,
                ..Node::default()
            });
        }
        drop(places);
        let state_dir = self.home.cluster.state_dir();
        guests::add(&state_dir, new)?;
        if self.home.has_remote_hosts() {
            known_nodes::add(&state_dir, &invited)?;
        }
        all.extend(invited);
        self.home.with_new_hosts(all).await
    }

    /// The spare hosts on which no guest is.
    fn places(&self, guests: &[Node]) -> impl Iterator<Item = String> + use<> {
        let taken: Vec<&str> = guests
            .iter()
            .filter_map(|node| node.host.as_deref())
            .collect();
        let spare = self.home.cluster.ssh.spare.iter();
        let free = spare.filter(|host| !taken.contains(&host.as_str()));
        free.cloned().collect::<Vec<_>>().into_iter()
    }

    /// Starts guests, with the binary where they have none yet.
    async fn bring(&self, all: &Context, new: &[NodeId]) -> Result<()> {
        if all.has_remote_hosts() && !new.is_empty() {
            let watch = Arc::new(|_, _| ());
            all_or_partial(all.ship(new, self.binary, watch).await?, "shipped")?;
        }
        run::start(all, new, self.binary).await
    }

    /// Sends all of them away, with what they left.
    ///
    /// # Errors
    /// It could not be done in time.
    pub async fn send_away(&self) -> Result<()> {
        let brought = self.brought();
        if brought.is_empty() {
            return Ok(());
        }
        let all = self.context().await?;
        all.wait_for_leader(&self.home.cluster.ids(), self.patience)
            .await?;
        let mut members = known(&all).await?.ids();
        members.retain(|id| !brought.contains(id));
        all.reach(&members, self.patience).await?;
        self.take_away(&all, &brought).await
    }

    async fn take_away(&self, all: &Context, ids: &[NodeId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let taken = all_or_partial(all.take_down(ids, self.progress).await?, "taken down")?;
        let left = taken
            .into_iter()
            .filter(|(_, host)| *host == Aftermath::Stays);
        let left: Vec<NodeId> = left.map(|(id, _)| id).collect();
        all_or_partial(all.purge(&left).await, "deleted")?;
        known_nodes::forget_left(&self.home.cluster.state_dir(), &left)
    }
}

fn no_place() -> Error {
    Error::Usage(
        "every host of `ssh: {spare: ..}` has a guest; name more of them in cluster.yaml".into(),
    )
}

async fn known(all: &Context) -> Result<Membership> {
    let known = all.membership().await;
    known.ok_or_else(|| Error::NoLeader("there is no leader whose members could change".into()))
}
