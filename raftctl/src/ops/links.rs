//! Cutting nodes off from each other, and healing that.
//!
//! A cut is made at the nodes themselves, on both sides of each broken link, and every node undoes
//! its own after a time: no privilege is needed, and a cut that nobody heals is bounded. It can be
//! made with packet filters on their hosts as well.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Context;
use crate::admin::{self, AdminError};
use crate::cluster::NodeId;
use crate::cluster::outcomes::Outcomes;
use crate::error::Error;
use crate::hosts::packet_filter;

/// The longest that a cut lasts, as the nodes enforce it.
pub const CUT_MAX: Duration = Duration::from_secs(3600);

/// How long a node may take to obey.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whom each node has to be cut off from, so that no message passes between two groups. A node in
/// no group keeps all its links.
#[must_use]
pub fn cuts(groups: &[Vec<NodeId>]) -> BTreeMap<NodeId, Vec<NodeId>> {
    let mut cuts = BTreeMap::new();
    for (own, group) in groups.iter().enumerate() {
        let others = groups.iter().enumerate().filter(|(other, _)| *other != own);
        let mut peers: Vec<NodeId> = others.flat_map(|(_, ids)| ids.iter().copied()).collect();
        peers.sort_unstable();
        for id in group {
            cuts.insert(*id, peers.clone());
        }
    }
    cuts
}

impl Context {
    /// Lets no message pass between the groups for at most `length`. A node that is not running
    /// can't be told and fails here; its peers still cut their ends.
    pub async fn partition(&self, groups: &[Vec<NodeId>], length: Duration) -> Outcomes<()> {
        let mut running = JoinSet::new();
        for (id, peers) in cuts(groups) {
            let address = self.inventory.member(id).admin_address.clone();
            running.spawn(async move {
                let cut = admin::cut_links(&address, &peers, length, DEADLINE).await;
                (id, cut.map_err(|error| refused(&error)))
            });
        }
        running.join_all().await.into_iter().collect()
    }

    /// Undoes all cuts at `ids`. A node that is not running has none.
    pub async fn heal(&self, ids: &[NodeId]) -> Outcomes<()> {
        // No peer stands for every peer.
        self.heal_links(ids.iter().map(|id| (*id, Vec::new())))
            .await
    }

    /// Undoes the cuts between the groups, and no other.
    pub async fn rejoin(&self, groups: &[Vec<NodeId>]) -> Outcomes<()> {
        self.heal_links(cuts(groups)).await
    }

    async fn heal_links(
        &self,
        links: impl IntoIterator<Item = (NodeId, Vec<NodeId>)>,
    ) -> Outcomes<()> {
        let mut running = JoinSet::new();
        for (id, peers) in links {
            let address = self.inventory.member(id).admin_address.clone();
            running.spawn(async move {
                let healed = admin::heal_links(&address, &peers, DEADLINE).await;
                (id, healed.map_err(|error| refused(&error)))
            });
        }
        running.join_all().await.into_iter().collect()
    }
}

/// With packet filters on their hosts.
impl Context {
    /// Lets no packet between nodes pass between the groups for `length`. Both ends of each link
    /// are cut, so one host that does not obey changes nothing.
    pub async fn filter(&self, groups: &[Vec<NodeId>], length: Duration) -> Outcomes<()> {
        let cuts = cuts(groups);
        let ids: Vec<NodeId> = cuts.keys().copied().collect();
        let deadline = self.cluster.limits.step;
        self.on_hosts(&ids, |host, here| {
            let nodes: Vec<_> = here
                .iter()
                .map(|id| {
                    let peers = cuts[id].iter().filter_map(|peer| self.peer_address(*peer));
                    let table = packet_filter::table(&self.cluster.name, *id);
                    (
                        *id,
                        table,
                        self.cluster.ports.peer,
                        peers.collect::<Vec<_>>(),
                    )
                })
                .collect();
            async move {
                let mut done = Vec::new();
                for (id, table, port, peers) in nodes {
                    packet_filter::cut(&host, &table, port, &peers, length, deadline).await?;
                    done.push((id, ()));
                }
                Ok(done)
            }
        })
        .await
    }

    /// Takes the packet filters of nodes away; whether each had one. Hosts of this machine have
    /// none.
    pub async fn unfilter(&self, ids: &[NodeId]) -> Outcomes<bool> {
        let deadline = self.cluster.limits.step;
        let is_remote = |id: &NodeId| self.inventory.host_of(*id).layout.is_remote;
        let ids: Vec<NodeId> = ids.iter().copied().filter(is_remote).collect();
        self.on_hosts(&ids, |host, here| {
            let name = self.cluster.name.clone();
            async move {
                let mut found = Vec::new();
                for id in here {
                    let table = packet_filter::table(&name, id);
                    found.push((id, packet_filter::heal(&host, &table, deadline).await?));
                }
                Ok(found)
            }
        })
        .await
    }

    /// Where the other nodes reach a node, taken apart.
    fn peer_address(&self, id: NodeId) -> Option<(String, u16)> {
        let (name, port) = self.inventory.member(id).peer_address.rsplit_once(':')?;
        let name = name.trim_matches(['[', ']']).to_owned();
        Some((name, port.parse().ok()?))
    }
}

fn refused(error: &AdminError) -> Error {
    match error {
        AdminError::Refused(status) if status.code() == tonic::Code::PermissionDenied => {
            Error::Usage(
                "faults are not allowed at this node; write fault_injection: true in \
                 cluster.yaml and run `raftctl up`"
                    .into(),
            )
        }
        other => Error::NoLeader(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Both ends of every link between two groups are cut, and no link within one.
    #[test]
    fn groups_are_cut_from_each_other() {
        let cuts = cuts(&[vec![1, 2], vec![4, 3], vec![5]]);
        assert_eq!(cuts[&1], [3, 4, 5]);
        assert_eq!(cuts[&2], [3, 4, 5]);
        assert_eq!(cuts[&3], [1, 2, 5]);
        assert_eq!(cuts[&5], [1, 2, 3, 4]);
        assert_eq!(cuts.len(), 5);
    }
}
