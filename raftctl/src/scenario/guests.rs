//! Steps about members: nodes that come for a scenario, and go again.

use super::notation::{ExpectMembers, Guest, Nodes, Replace};
use super::outcome::{Observed, Unmet};
use super::runner::{Runner, until};
use crate::cluster::{NodeId, list};
use crate::ops::guests::Guests;
use crate::terminal::progress::Progress;

impl Runner<'_> {
    pub(super) async fn add(&mut self, guest: &Guest) -> Observed {
        let new = self.change(1, &[]).await?;
        self.names.insert(guest.name.clone(), new.clone());
        Ok(format!("{} votes", list(&new)))
    }

    pub(super) async fn remove(&mut self, nodes: &Nodes) -> Observed {
        let ids = self.guests(nodes).await?;
        self.change(0, &ids).await?;
        Ok(format!("{} left", list(&ids)))
    }

    pub(super) async fn replace(&mut self, step: &Replace) -> Observed {
        let ids = self.guests(&step.node).await?;
        let new = self.change(ids.len(), &ids).await?;
        self.names.insert(step.name.clone(), new.clone());
        Ok(format!("{} in place of {}", list(&new), list(&ids)))
    }

    pub(super) async fn transfer(&mut self, nodes: &Nodes) -> Observed {
        let ids = self.resolve(nodes).await?;
        self.context.hand_over(&ids, self.limit(None)).await?;
        Ok(list(&ids))
    }

    pub(super) async fn expect_members(&mut self, step: &ExpectMembers) -> Observed {
        let wanted = self.resolve(&step.voters).await?;
        until(self.limit(step.within), async || {
            let expected = match step.survives {
                Some(count) => format!("{} vote, and {count} may fail", list(&wanted)),
                None => format!("{} vote", list(&wanted)),
            };
            let Some(known) = self.context.membership().await else {
                return Err(Unmet::expected(expected, "nobody leads"));
            };
            let survives = known.survives.unwrap_or_default();
            let seen = format!(
                "{} vote, {} learn, {survives} may fail",
                list(&known.voters()),
                list(&known.learners())
            );
            let is_so = known.voters() == wanted
                && known.ids() == wanted
                && known.is_committed
                && step.survives.is_none_or(|count| count == survives);
            match is_so {
                true => Ok(seen),
                false => Err(Unmet::expected(expected, seen)),
            }
        })
        .await
    }

    /// Nodes that may go: what cluster.yaml names has to be there at the end.
    async fn guests(&self, nodes: &Nodes) -> Result<Vec<NodeId>, Unmet> {
        let ids = self.resolve(nodes).await?;
        let own = self.home.cluster.ids();
        match ids.iter().find(|id| own.contains(id)) {
            None => Ok(ids),
            Some(id) => Err(Unmet::Failed(format!(
                "node {id} is in cluster.yaml: a scenario removes only nodes that it has added"
            ))),
        }
    }

    async fn change(&mut self, come: usize, go: &[NodeId]) -> Result<Vec<NodeId>, Unmet> {
        let progress = Progress::new();
        let guests = Guests {
            home: self.home,
            binary: self.binary,
            patience: self.limit(None),
            progress: &progress,
        };
        let new = guests.change(come, go).await?;
        self.context = guests.context().await?;
        Ok(new)
    }
}
