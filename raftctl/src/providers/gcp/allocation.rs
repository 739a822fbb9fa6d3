//! What is decided once for a cluster and must stay: the range of each region's subnet, and the
//! name and zone of each node.
//!
//! A range that changes makes Google's provider replace the subnet with every machine in it, and a
//! zone that changes replaces the node's data disk. So neither is computed from the position in a
//! list: each is decided when it is first needed, and kept in `gcp.json`. What another operator has
//! decided since is in Terraform's state.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cluster::gcp::region_of;
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};
use crate::local::state_files;

/// The form of the file; a newer form is refused rather than misread.
const SCHEMA: u32 = 1;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Its name in Terraform.
    pub name: String,
    /// Its zone.
    pub zone: String,
}

/// Everything that is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    schema: u32,
    /// Region to CIDR. A region that is no longer in use keeps its range for when it comes back.
    pub regions: BTreeMap<String, String>,
    /// The nodes of cluster.yaml.
    pub nodes: BTreeMap<NodeId, Placement>,
    /// The nodes that cluster.yaml does not name any more. They leave the cluster first; until then, and until
    /// they are deleted, what there is of their machines is kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaving: BTreeMap<NodeId, Placement>,
    /// The nodes that may have data of each other, since the cluster has been up with them. None
    /// before that. Who is a member can't be changed by a file.
    #[serde(default)]
    pub members: BTreeSet<NodeId>,
    /// Machines that were made and have not been worked on since, by their names at Google: their host
    /// keys are not settled yet. Kept here, because whoever waits for them may be killed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub new_machines: BTreeSet<String>,
    /// Those of [`Self::leaving`] that this cluster.yaml has never named, and only Terraform's state knows: another
    /// operator may just be adding them. They are kept, and nothing is remembered of them.
    #[serde(skip)]
    pub strangers: BTreeSet<NodeId>,
}

impl Default for Allocation {
    fn default() -> Self {
        Allocation {
            schema: SCHEMA,
            regions: BTreeMap::new(),
            nodes: BTreeMap::new(),
            leaving: BTreeMap::new(),
            members: BTreeSet::new(),
            new_machines: BTreeSet::new(),
            strangers: BTreeSet::new(),
        }
    }
}

impl Allocation {
    /// What is decided so far; nothing where there is no file.
    ///
    /// # Errors
    /// The file can't be read or understood.
    pub fn load(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Error::file("read", path, &error)),
        };
        let wrong = |cause: String| {
            Error::Other(format!(
                "{} is damaged ({cause}); restore it: without it, ranges of subnets could change, \
                 which replaces machines",
                path.display()
            ))
        };
        let allocation: Self =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if allocation.schema != SCHEMA {
            return Err(wrong(format!(
                "form {} is newer than this raftctl",
                allocation.schema
            )));
        }
        Ok(allocation)
    }

    /// Keeps what is decided. The file is replaced as a whole.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut own = self.clone();
        own.leaving.retain(|id, _| !self.strangers.contains(id));
        let text =
            serde_json::to_string_pretty(&own).map_err(|error| Error::Other(error.to_string()))?;
        state_files::replace(path, &(text + "\n"))
    }

    /// The same, with a decision for all that the cluster needs.
    ///
    /// # Errors
    /// More regions than there are ranges.
    pub fn extended(&self, cluster: &Cluster) -> Result<Self> {
        let mut next = Allocation {
            nodes: BTreeMap::new(),
            leaving: BTreeMap::new(),
            ..self.clone()
        };
        self.keep_nodes(cluster, &mut next);
        deal_zones(cluster, &mut next);
        let former = self.leaving.iter().chain(&self.nodes);
        let former = former.filter(|(id, _)| !next.nodes.contains_key(id));
        next.leaving = former.map(|(id, at)| (*id, at.clone())).collect();
        next.strangers.retain(|id| next.leaving.contains_key(id));
        let regions: BTreeSet<_> = next
            .placements()
            .filter_map(|(_, at)| region_of(&at.zone))
            .collect();
        let regions: Vec<String> = regions.into_iter().map(String::from).collect();
        for region in regions {
            if !next.regions.contains_key(&region) {
                let range = free_range(&next.regions).ok_or_else(|| {
                    Error::Other("no range is left for another region; 256 are in use".into())
                })?;
                next.regions.insert(region, range);
            }
        }
        Ok(next)
    }

    /// Nodes that name their zone have it; the others keep what they were dealt, as long as it is
    /// still among the zones.
    fn keep_nodes(&self, cluster: &Cluster, next: &mut Self) {
        for node in &cluster.nodes {
            let before = self.of(node.id);
            let dealt = before.map(|before| &before.zone);
            let dealt = dealt.filter(|zone| cluster.gcp.zones.contains(zone));
            if let Some(zone) = node.zone.as_ref().or(dealt) {
                let name =
                    before.map_or_else(|| format!("n{}", node.id), |before| before.name.clone());
                next.nodes.insert(
                    node.id,
                    Placement {
                        name,
                        zone: zone.clone(),
                    },
                );
            }
        }
    }

    /// Where a node is, in cluster.yaml or not.
    #[must_use]
    pub fn of(&self, id: NodeId) -> Option<&Placement> {
        self.nodes.get(&id).or_else(|| self.leaving.get(&id))
    }

    /// Every node, in cluster.yaml or not.
    pub fn placements(&self) -> impl Iterator<Item = (NodeId, &Placement)> {
        let all = self.nodes.iter().chain(&self.leaving);
        all.map(|(id, at)| (*id, at))
    }

    /// The nodes whose zone is to be another one, in a cluster that has been up: their disks can't follow. A zone that
    /// was dealt stays as long as it is among the zones.
    #[must_use]
    pub fn moved(&self, cluster: &Cluster) -> Vec<NodeId> {
        if self.members.is_empty() {
            return Vec::new();
        }
        let moves = cluster.nodes.iter().filter(|node| {
            let is_to_be = |at: &Placement| match &node.zone {
                Some(zone) => *zone == at.zone,
                None => cluster.gcp.zones.contains(&at.zone),
            };
            self.of(node.id).is_some_and(|at| !is_to_be(at))
        });
        moves.map(|node| node.id).collect()
    }

    /// The regions in use, each with its range.
    #[must_use]
    pub fn used_regions(&self) -> BTreeMap<&str, &str> {
        let used = self.placements().filter_map(|(_, at)| region_of(&at.zone));
        used.filter_map(|region| Some((region, self.regions.get(region)?.as_str())))
            .collect()
    }
}

/// Deals zones to the nodes that have none: always the zone with the fewest, the first of these.
fn deal_zones(cluster: &Cluster, next: &mut Allocation) {
    for node in &cluster.nodes {
        if next.nodes.contains_key(&node.id) {
            continue;
        }
        let load = |zone: &String| {
            next.nodes
                .values()
                .filter(|placed| placed.zone == *zone)
                .count()
        };
        // Checked with the file: a node without a zone means that there are zones.
        let Some(zone) = cluster.gcp.zones.iter().min_by_key(|zone| load(zone)) else {
            continue;
        };
        let placement = Placement {
            name: format!("n{}", node.id),
            zone: zone.clone(),
        };
        next.nodes.insert(node.id, placement);
    }
}

/// The first range of 10.80.0.0/16 that no region has.
fn free_range(regions: &BTreeMap<String, String>) -> Option<String> {
    (0..=255)
        .map(|third| format!("10.80.{third}.0/24"))
        .find(|range| !regions.values().any(|taken| taken == range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn cluster(nodes: &str, zones: &str) -> Cluster {
        let text = format!(
            "name: demo\nprovider: gcp\nnodes: {nodes}\ngcp: {{project: my-project, zones: [{zones}]}}\n"
        );
        crate::cluster::parse(&text, "cluster.yaml", PathBuf::from("."), &|_| None).unwrap()
    }

    fn zones(allocation: &Allocation) -> Vec<&str> {
        allocation
            .nodes
            .values()
            .map(|node| node.zone.as_str())
            .collect()
    }

    // Five nodes over two zones: in turn, evenly.
    #[test]
    fn zones_are_dealt_in_turn() {
        let cluster = cluster("5", "us-central1-a, us-east1-b");
        let allocation = Allocation::default().extended(&cluster).unwrap();
        let (a, b) = ("us-central1-a", "us-east1-b");
        assert_eq!(zones(&allocation), [a, b, a, b, a]);
        let regions: Vec<_> = allocation.used_regions().into_iter().collect();
        assert_eq!(
            regions,
            [
                ("us-central1", "10.80.0.0/24"),
                ("us-east1", "10.80.1.0/24")
            ]
        );
    }

    // Another zone in the list, and another node: nobody who is there moves.
    #[test]
    fn what_is_decided_stays() {
        let before = cluster("3", "us-central1-a, us-east1-b");
        let before = Allocation::default().extended(&before).unwrap();
        let after = cluster("5", "asia-east1-a, us-central1-a, us-east1-b");
        let after = before.extended(&after).unwrap();
        assert_eq!(zones(&after)[..3], zones(&before)[..]);
        assert_eq!(after.regions["us-central1"], before.regions["us-central1"]);
        assert_eq!(after.regions["asia-east1"], "10.80.2.0/24");
        // The new zone had none yet.
        assert_eq!(zones(&after)[3], "asia-east1-a");
    }

    // A zone that a node names wins over what it was dealt.
    #[test]
    fn a_named_zone_wins() {
        let before = Allocation::default()
            .extended(&cluster("3", "us-central1-a"))
            .unwrap();
        let list = "[{id: 1, zone: us-central1-f}, {id: 2}, {id: 3}]";
        let after = before.extended(&cluster(list, "us-central1-a")).unwrap();
        assert_eq!(
            zones(&after),
            ["us-central1-f", "us-central1-a", "us-central1-a"]
        );
    }

    // Who leaves stays where it is until it is deleted, counts for nothing where zones are dealt, and comes back to
    // where it was.
    #[test]
    fn who_leaves_keeps_its_place() {
        let before = Allocation::default()
            .extended(&cluster("3", "us-central1-a, us-east1-b"))
            .unwrap();
        let list = "[{id: 2}, {id: 3}, {id: 4}]";
        let after = before
            .extended(&cluster(list, "us-central1-a, us-east1-b"))
            .unwrap();
        let (a, b) = ("us-central1-a", "us-east1-b");
        assert_eq!(zones(&after), [b, a, a], "nobody moves");
        assert_eq!(after.leaving[&1], before.nodes[&1]);
        let later = after.extended(&cluster(list, b)).unwrap();
        assert!(later.used_regions().contains_key("us-central1"));
        let back = later.extended(&cluster("4", "us-central1-a, us-east1-b"));
        let back = back.unwrap();
        assert_eq!(zones(&back), [a, b, b, b]);
        assert!(back.leaving.is_empty());
    }

    // A node of a cluster that has been up moves where its own zone is another one, or the one that it was dealt is
    // not among the zones any more; a list in another order moves nobody.
    #[test]
    fn moves_are_known() {
        let zones = "us-central1-a, us-east1-b";
        let mut before = Allocation::default()
            .extended(&cluster("3", zones))
            .unwrap();
        let other = cluster("[{id: 1, zone: us-central1-f}, {id: 2}, {id: 3}]", zones);
        assert!(before.moved(&other).is_empty(), "nothing has data yet");
        before.members = [1, 2, 3].into();
        assert_eq!(before.moved(&other), [1]);
        let same = "[{id: 1, zone: us-central1-a}, {id: 2}, {id: 3}, {id: 4, zone: asia-east1-a}]";
        assert!(before.moved(&cluster(same, zones)).is_empty());
        let turned = cluster("4", "asia-east1-a, us-east1-b, us-central1-a");
        assert!(before.moved(&turned).is_empty());
        assert_eq!(before.moved(&cluster("3", "us-central1-a")), [2]);
    }

    // A region that was left and comes back has its old range; nobody else got it meanwhile.
    #[test]
    fn a_region_keeps_its_range() {
        let two = cluster("2", "us-central1-a, us-east1-b");
        let first = Allocation::default().extended(&two).unwrap();
        let one = first
            .extended(&cluster("2", "europe-west1-b, us-east1-b"))
            .unwrap();
        assert_eq!(one.regions["europe-west1"], "10.80.2.0/24");
        assert!(!one.used_regions().contains_key("us-central1"));
        let again = one.extended(&two).unwrap();
        assert_eq!(again.regions["us-central1"], "10.80.0.0/24");
    }

    // A damaged file is an error, never a fresh start: that would move subnets.
    #[test]
    fn a_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gcp.json");
        assert_eq!(Allocation::load(&path).unwrap(), Allocation::default());
        let allocation = Allocation::default()
            .extended(&cluster("3", "us-central1-a"))
            .unwrap();
        allocation.save(&path).unwrap();
        assert_eq!(Allocation::load(&path).unwrap(), allocation);
        for wrong in [
            "{\"schema\":1,",
            "{\"schema\":2,\"regions\":{},\"nodes\":{}}",
        ] {
            std::fs::write(&path, wrong).unwrap();
            assert!(
                Allocation::load(&path)
                    .unwrap_err()
                    .to_string()
                    .contains("damaged")
            );
        }
    }
}
