//! Nodes that cluster.yaml does not name any more. Each leaves the cluster first, with its machine, disk and address as
//! they are; only then all of it goes. So until then what there is of a node is kept, and nothing that is gone is made
//! again: a machine that is lost for good is replaced, and not revived. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::allocation::{Allocation, Placement};
use super::changes::Change;
use super::events::{Action, Event};
use super::pulled::Pulled;
use super::terraform::Watch;
use crate::cluster::gcp::region_of;
use crate::cluster::{NodeId, list};

/// What a node has at Google.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Its internal address.
    Address,
    /// Its data disk.
    Disk,
    /// Its machine, which needs the other two.
    Machine,
}

impl Part {
    const ALL: [Part; 3] = [Part::Address, Part::Disk, Part::Machine];

    /// Its type in Terraform.
    fn resource_type(self) -> &'static str {
        match self {
            Part::Address => "google_compute_address",
            Part::Disk => "google_compute_disk",
            Part::Machine => "google_compute_instance",
        }
    }

    /// Its address in Terraform.
    fn address(self, name: &str) -> String {
        let label = match self {
            Part::Disk => "data",
            Part::Address | Part::Machine => "node",
        };
        format!("{}.{label}[\"{name}\"]", self.resource_type())
    }
}

/// What becomes of the nodes that cluster.yaml does not name any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Former {
    /// What there is of them stays as it is.
    #[default]
    Stay,
    /// Those whose disks are there get their machines back: nobody leads, and it may take them.
    Return,
    /// These have left the cluster, and all of them goes.
    Leave(BTreeSet<NodeId>),
}

impl Former {
    /// Takes the nodes that have left out of what is to be; where they were.
    pub fn take_from(&self, allocation: &mut Allocation) -> BTreeMap<NodeId, Placement> {
        let Former::Leave(ids) = self else {
            return BTreeMap::new();
        };
        let leaving = std::mem::take(&mut allocation.leaving).into_iter();
        let (gone, rest) = leaving.partition(|(id, _)| ids.contains(id));
        allocation.leaving = rest;
        gone
    }
}

/// The nodes that leave, by their names in Terraform, each with what is kept of it.
pub type Kept = BTreeMap<String, BTreeSet<Part>>;

/// What there is of the nodes that leave, as Terraform's state has it.
#[must_use]
pub fn kept(allocation: &Allocation, state: &Pulled, former: &Former) -> Kept {
    let parts = |(id, at): (&NodeId, &Placement)| {
        let is_there = |part: &Part| state.has(part.resource_type(), &at.name);
        let parts: BTreeSet<Part> = Part::ALL.into_iter().filter(is_there).collect();
        let is_own = !allocation.strangers.contains(id);
        let parts = match (former, parts.contains(&Part::Disk) && is_own) {
            (Former::Return, true) => Part::ALL.into(),
            _ => whole(parts),
        };
        (at.name.clone(), parts)
    };
    allocation.leaving.iter().map(parts).collect()
}

/// A machine is nothing without the others.
fn whole(mut parts: BTreeSet<Part>) -> BTreeSet<Part> {
    if parts.len() < Part::ALL.len() {
        parts.remove(&Part::Machine);
    }
    parts
}

/// The same without what a plan would make again: it is gone from Google.
#[must_use]
pub fn without_made(kept: &Kept, changes: &[Change]) -> Kept {
    let is_made = |name: &str, part: Part| {
        changes.iter().any(|change| {
            let is_it = change.resource_type == part.resource_type();
            is_it && change.action == Action::Create && change.key.as_deref() == Some(name)
        })
    };
    let left = |(name, parts): (&String, &BTreeSet<Part>)| {
        let parts = parts.iter().copied();
        let parts = parts.filter(|part| !is_made(name, *part)).collect();
        (name.clone(), whole(parts))
    };
    kept.iter().map(left).collect()
}

/// The machine types of nodes that leave, by their names in Terraform.
pub type Types = BTreeMap<String, String>;

/// Those that the machines of the nodes that leave have, as Terraform's state has it. They keep them: cluster.yaml may
/// ask for another one, for which a machine is stopped, and it may take theirs to let them leave.
#[must_use]
pub fn types(allocation: &Allocation, state: &Pulled) -> Types {
    let machines = state.of_type(Part::Machine.resource_type());
    let types = machines.filter_map(|(name, machine)| {
        // The state has names, or what they link to.
        let kind = machine["machine_type"].as_str()?.rsplit('/').next()?;
        Some((name.to_owned(), kind.to_owned()))
    });
    of_leaving(allocation, types.collect())
}

/// Those among some machine types that belong to nodes that leave.
#[must_use]
pub fn of_leaving(allocation: &Allocation, mut types: Types) -> Types {
    let leaves = |name: &String| allocation.leaving.values().any(|at| at.name == *name);
    types.retain(|name, _| leaves(name));
    types
}

/// Whether anything is there of a node, as Terraform's state has it.
#[must_use]
pub fn is_there(state: &Pulled, name: &str) -> bool {
    let mut parts = Part::ALL.into_iter();
    parts.any(|part| state.has(part.resource_type(), name))
}

/// What goes once the nodes have left: all that is kept of them, and the subnets that only they were in. Nothing of a
/// stranger goes.
#[must_use]
pub fn deletions(allocation: &Allocation, state: &Pulled, kept: &Kept) -> Vec<Change> {
    const SUBNET: &str = "google_compute_subnetwork";
    let deletion = |resource_type: &str, address: String, key: &str| Change {
        address,
        resource_type: resource_type.to_owned(),
        key: Some(key.to_owned()),
        action: Action::Delete,
    };
    let mut stays = allocation.clone();
    stays.leaving.retain(|id, _| stays.strangers.contains(id));
    let going: BTreeSet<&str> = allocation
        .leaving
        .iter()
        .filter(|(id, _)| !allocation.strangers.contains(id))
        .map(|(_, at)| at.name.as_str())
        .collect();
    let used = stays.used_regions();
    let subnets = state.of_type(SUBNET).map(|(region, _)| region);
    let subnets = subnets.filter(|region| !going.is_empty() && !used.contains_key(region));
    let subnets = subnets.map(|region| {
        let address = format!("{SUBNET}.region[\"{region}\"]");
        deletion(SUBNET, address, region)
    });
    let parts = Part::ALL.into_iter().flat_map(|part| {
        let going = &going;
        let with = kept.iter();
        let with = with
            .filter(move |(name, parts)| going.contains(name.as_str()) && parts.contains(&part));
        with.map(move |(name, _)| deletion(part.resource_type(), part.address(name), name))
    });
    subnets.chain(parts).collect()
}

/// Tells of what this cluster.yaml has never named.
pub fn tell_strangers(allocation: &Allocation, watch: Watch<'_>) {
    if !allocation.strangers.is_empty() {
        let ids: Vec<NodeId> = allocation.strangers.iter().copied().collect();
        watch(&Event::Note(format!(
            "Terraform's state has what belongs to {}, which this cluster.yaml has never had: it is left as it is, and \
             costs money; whoever adds them has the file that names them",
            list(&ids)
        )));
    }
}

impl Allocation {
    /// The same with what another operator has decided since, as Terraform's state has it.
    #[must_use]
    pub fn with_state(mut self, state: &Pulled) -> Self {
        for (region, subnet) in state.of_type("google_compute_subnetwork") {
            if let Some(range) = subnet["ip_cidr_range"].as_str() {
                let known = self.regions.entry(region.to_owned());
                known.or_insert_with(|| range.to_owned());
            }
        }
        for part in [Part::Disk, Part::Machine, Part::Address] {
            for (name, attributes) in state.of_type(part.resource_type()) {
                let Some(id) = name.strip_prefix('n').and_then(|id| id.parse().ok()) else {
                    continue;
                };
                // The state has names, or what they link to.
                let last = |key: &str| attributes[key].as_str()?.rsplit('/').next();
                let zone = match part {
                    Part::Address => last("region").map(|region| format!("{region}-a")),
                    Part::Disk | Part::Machine => last("zone").map(String::from),
                };
                let zone = zone.filter(|zone| region_of(zone).is_some());
                if let (Some(zone), None) = (zone, self.of(id)) {
                    let name = name.to_owned();
                    self.leaving.insert(id, Placement { name, zone });
                    self.strangers.insert(id);
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Cluster;

    fn cluster(nodes: &str) -> Cluster {
        let text = format!(
            "name: demo\nprovider: gcp\nnodes: {nodes}\ngcp: {{project: my-project, zones: [us-central1-a]}}\n"
        );
        crate::cluster::parse(&text, "x", ".".into(), &|_| None).unwrap()
    }

    fn state(nodes: &[(&str, &[Part])]) -> Pulled {
        let resource = |part: Part| {
            let with = nodes.iter().filter(|(_, parts)| parts.contains(&part));
            let instances = with.map(|(name, _)| {
                json!({"index_key": name, "attributes": {"zone": "z/us-east1-b", "region": "r/us-east1"}})
            });
            let instances: Vec<Value> = instances.collect();
            json!({"type": part.resource_type(), "instances": instances})
        };
        let subnets =
            json!([{"index_key": "us-east1", "attributes": {"ip_cidr_range": "10.80.7.0/24"}}]);
        let mut resources: Vec<Value> = Part::ALL.map(resource).into();
        resources.push(json!({"type": "google_compute_subnetwork", "instances": subnets}));
        Pulled::read(&json!({"version": 4, "resources": resources}).to_string())
    }

    // What is there of a node that leaves is kept, and what is gone is not made again; only where nobody leads, and its
    // disk is there, its machine is.
    #[test]
    fn what_is_there_is_kept() {
        let [address, disk, _] = Part::ALL;
        let state = state(&[
            ("n1", &Part::ALL),
            ("n2", &[address, disk]),
            ("n3", &[address]),
        ]);
        let allocation = Allocation::default().extended(&cluster("4")).unwrap();
        let allocation = allocation.extended(&cluster("[{id: 4}]")).unwrap();
        let stay = kept(&allocation, &state, &Former::Stay);
        let parts = |kept: &Kept| kept.values().map(BTreeSet::len).collect::<Vec<_>>();
        assert_eq!(parts(&stay), [3, 2, 1]);
        let back = kept(&allocation, &state, &Former::Return);
        assert_eq!(parts(&back), [3, 3, 1]);
        let made = |part: Part, name: &str| Change {
            address: part.address(name),
            resource_type: part.resource_type().into(),
            key: Some(name.into()),
            action: Action::Create,
        };
        let left = without_made(&stay, &[made(disk, "n1"), made(address, "n3")]);
        assert_eq!(left["n1"], [address].into(), "no machine without a disk");
        assert_eq!(parts(&left), [1, 2, 0]);
    }

    // Once they have left, all of it goes, with the subnet that nobody else is in.
    #[test]
    fn all_of_it_goes() {
        let mut before = Allocation::default();
        let (name, zone) = ("n9".to_owned(), "us-east1-b".to_owned());
        before.nodes.insert(9, Placement { name, zone });
        let allocation = before.extended(&cluster("1")).unwrap();
        let state = state(&[("n9", &Part::ALL)]);
        let kept = kept(&allocation, &state, &Former::Stay);
        let words: Vec<String> = deletions(&allocation, &state, &kept)
            .iter()
            .map(Change::describe)
            .collect();
        let expected = [
            "delete subnet us-east1",
            "delete internal address n9",
            "delete data disk n9",
            "delete machine n9",
        ];
        assert_eq!(words, expected);
    }

    // What this cluster.yaml has never named is another operator's, who may just be adding it: it is kept as it is,
    // never deleted from here, and nothing is remembered of it.
    #[test]
    fn what_others_add_is_theirs() {
        let [address, disk, _] = Part::ALL;
        let state = state(&[("n9", &[address, disk])]);
        let before = Allocation::default().extended(&cluster("1")).unwrap();
        let seen = before.clone().with_state(&state).extended(&cluster("1"));
        let seen = seen.unwrap();
        for former in [Former::Stay, Former::Return] {
            let kept = kept(&seen, &state, &former);
            assert_eq!(kept["n9"], [address, disk].into());
            assert_eq!(deletions(&seen, &state, &kept), []);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gcp.json");
        seen.save(&path).unwrap();
        assert!(Allocation::load(&path).unwrap().leaving.is_empty());
    }

    // What somebody else has decided is in the state: the zone of a node that this folder does not know, and the range
    // of a region. What is known here is not changed by it.
    #[test]
    fn the_state_tells_what_others_decided() {
        let before = Allocation::default().extended(&cluster("1")).unwrap();
        let state = state(&[("n1", &Part::ALL), ("n6", &[Part::Address])]);
        let seen = before.clone().with_state(&state);
        assert_eq!(seen.nodes, before.nodes);
        assert_eq!(seen.leaving[&6].zone, "us-east1-a");
        let list = "[{id: 1}, {id: 6}]";
        let next = seen.extended(&cluster(list)).unwrap();
        assert_eq!(next.regions["us-east1"], "10.80.7.0/24");
        assert_eq!(next.nodes[&1].zone, "us-central1-a");
    }
}
