//! Which cluster this is: the id that its nodes keep, and that they are started with.
//!
//! The nodes' own metadata.txt is the truth, wherever `up`, `start`, `restart` or `upgrade` are run, so
//! all come to the same id. Where no node has one yet, it is minted: for a new cluster, and for one that
//! was made before there were ids as soon as every host answers. While one of those is silent its nodes go
//! on without: the silent one may be the first that was given one.

use std::sync::{Arc, Mutex, PoisonError};

use super::Context;
use crate::cluster::id::{ClusterId, the_one};
use crate::error::Result;
use crate::plan::Facts;
use crate::plan::arguments::Founders;

/// The id of a cluster, as far as its hosts were asked for it. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Identity(Arc<Mutex<Known>>);

/// What is known of it.
#[derive(Clone, Default)]
enum Known {
    /// Nobody was asked.
    #[default]
    Unasked,
    /// It has none yet, or this one; it began with these nodes; and whether they know an authority.
    Asked(Option<ClusterId>, Founders, bool),
}

impl Identity {
    /// The id, where the hosts were asked and have one, or where one was minted.
    #[must_use]
    pub fn known(&self) -> Option<ClusterId> {
        match self.get() {
            Known::Unasked => None,
            Known::Asked(id, _, _) => id,
        }
    }

    /// With which nodes the cluster began, as far as the hosts were asked.
    #[must_use]
    pub fn founders(&self) -> Founders {
        match self.get() {
            Known::Unasked => Founders::default(),
            Known::Asked(_, founders, _) => founders,
        }
    }

    /// Whether any node was told whom to trust, as far as the hosts were asked.
    #[must_use]
    pub(super) fn knows_authority(&self) -> bool {
        matches!(self.get(), Known::Asked(_, _, true))
    }

    /// Takes the id from what the hosts say, or mints one where that is safe.
    ///
    /// # Errors
    /// They have several.
    pub(super) fn settle(&self, facts: &Facts) -> Result<()> {
        let nodes = || facts.hosts.values().flat_map(|host| &host.nodes);
        let held = nodes().filter_map(|node| {
            let name = facts.names.get(&node.id);
            let at = name.map_or(String::new(), |name| format!(" on {name}"));
            Some((node.cluster_id?, format!("node {}{at}", node.id)))
        });
        let id = the_one(held)?.or_else(|| {
            let is_new = facts.hidden.is_empty() && !nodes().any(|node| node.has_data);
            let is_whole = facts.left_behind.is_empty();
            (is_new || is_whole).then(|| self.known().unwrap_or_else(ClusterId::mint))
        });
        let all = nodes().chain(facts.former.values());
        let founders = Founders::of(all);
        self.put(Known::Asked(id, founders, facts.knows_authority()));
        Ok(())
    }

    fn get(&self) -> Known {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn put(&self, known: Known) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl Context {
    /// The id that nodes are started with, and the nodes that the cluster began with. Asks the hosts, unless they
    /// were asked before.
    ///
    /// # Errors
    /// They have several.
    pub async fn origin(&self) -> Result<(Option<ClusterId>, Founders)> {
        if let Known::Asked(id, founders, _) = self.identity.get() {
            return Ok((id, founders));
        }
        let mut facts = Facts::default();
        for (id, outcome) in self.host_facts().await {
            match outcome {
                Ok(host) => drop(facts.hosts.insert(id, host)),
                Err(error) => drop(facts.left_behind.insert(id, error)),
            }
        }
        self.identity.settle(&facts)?;
        Ok((self.identity.known(), self.identity.founders()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeId;
    use crate::error::Error;
    use crate::hosts::control::HostFacts;

    fn facts(nodes: &[(NodeId, bool, Option<ClusterId>)], silent: &[NodeId]) -> Facts {
        let mut facts = Facts::default();
        for (id, has_data, cluster_id) in nodes {
            let mut host = HostFacts::blank(*id);
            host.nodes[0].has_data = *has_data;
            host.nodes[0].cluster_id = *cluster_id;
            facts.hosts.insert(*id, host);
        }
        let away = |id: &NodeId| (*id, Error::Other("silent".into()));
        facts.left_behind = silent.iter().map(away).collect();
        facts
    }

    fn settled(facts: &Facts) -> Option<ClusterId> {
        let identity = Identity::default();
        identity.settle(facts).unwrap();
        identity.known()
    }

    // A new cluster gets an id, and so does one from before there were any, once all of it answers.
    // Whoever has one already decides.
    #[test]
    fn an_id_is_minted_once() {
        let id = ClusterId::mint();
        let new = facts(&[(1, false, None), (2, false, None)], &[3]);
        assert!(settled(&new).is_some());
        assert_ne!(settled(&new), settled(&new));
        let older = |silent: &[NodeId]| facts(&[(1, true, None), (2, true, None)], silent);
        assert_eq!(settled(&older(&[3])), None, "3 may have one");
        assert!(settled(&older(&[])).is_some());
        let taken_over = facts(&[(1, true, None), (2, true, Some(id))], &[3]);
        assert_eq!(settled(&taken_over), Some(id));
        let mut hidden = facts(&[(1, false, None)], &[2, 3]);
        hidden.hidden = vec![2];
        assert_eq!(settled(&hidden), None, "2 had a log, and may have one");
    }

    // Looked at twice, as before and after a lock is taken, the same one is minted; but what another
    // operator has written down meanwhile counts.
    #[test]
    fn what_was_minted_stays_until_the_hosts_say_another() {
        let identity = Identity::default();
        let new = facts(&[(1, false, None)], &[]);
        identity.settle(&new).unwrap();
        let minted = identity.known();
        identity.settle(&new).unwrap();
        assert_eq!(identity.known(), minted);
        let other = ClusterId::mint();
        identity
            .settle(&facts(&[(1, true, Some(other))], &[]))
            .unwrap();
        assert_eq!(identity.known(), Some(other));
        let mixed = facts(&[(1, true, Some(other)), (2, true, minted)], &[]);
        assert_eq!(identity.settle(&mixed).unwrap_err().exit_code(), 2);
    }
}
