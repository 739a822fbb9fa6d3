//! Cutting nodes off from each other with packet filters on their hosts.

use std::time::Duration;

use super::links::cuts;
use super::{Context, Outcomes};
use crate::cluster::NodeId;
use crate::hosts::filter;

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
                    let table = filter::table(&self.cluster.name, *id);
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
                    filter::cut(&host, &table, port, &peers, length, deadline).await?;
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
                    let table = filter::table(&name, id);
                    found.push((id, filter::heal(&host, &table, deadline).await?));
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
