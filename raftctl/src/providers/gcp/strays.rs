//! What stands at Google and in no state: looked for, and deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::gcloud::{Gcloud, MachineState, ZoneAndName};
use super::resources::{GoogleResource, Kind, Location, Owner};
use crate::cluster::Cluster;
use crate::error::{Error, Result};

/// Each gcloud takes a second of a processor before it asks anything, and its time is counted meanwhile.
const AT_ONCE: usize = 3;

/// What Google has under a cluster's names.
#[derive(Debug, Default)]
pub struct Listing {
    /// What was seen, each kind before what it needs.
    pub resources: Vec<GoogleResource>,
    /// How the machines of exactly this cluster are, where machines were looked at.
    pub states: BTreeMap<ZoneAndName, MachineState>,
    /// The kinds that could not be looked at, each with the reason: nothing of them is known.
    pub blind: Vec<(Kind, Error)>,
}

/// What is in the cluster's own network, and can't outlive it.
const WITHIN: [Kind; 3] = [Kind::Address, Kind::Rule, Kind::Subnet];

impl Listing {
    /// Looks at some kinds, a few side by side. Where the cluster's own network was not found, nothing can be
    /// in it, and nobody asks for that.
    pub async fn at(gcloud: &Gcloud, cluster: &Cluster, kinds: &[Kind]) -> Listing {
        let (within, first): (Vec<Kind>, Vec<Kind>) =
            kinds.iter().partition(|kind| WITHIN.contains(kind));
        let mut look = Listing::all_of(gcloud, &cluster.name, &first).await;
        let has_own_network = cluster.gcp.company.network.is_none();
        if !(has_own_network && look.lacks(kinds, Kind::Network)) {
            let rest = Listing::all_of(gcloud, &cluster.name, &within).await;
            look.resources.extend(rest.resources);
            look.states.extend(rest.states);
            look.blind.extend(rest.blind);
        }
        look.resources
            .sort_by_key(|resource| (resource.kind, resource.name.clone()));
        look.blind.sort_by_key(|(kind, _)| *kind);
        look
    }

    /// Whether one of the kinds was looked at, and there is nothing of it.
    fn lacks(&self, kinds: &[Kind], kind: Kind) -> bool {
        let is_blind = self.blind.iter().any(|(blind, _)| *blind == kind);
        let has_any = self.resources.iter().any(|resource| resource.kind == kind);
        kinds.contains(&kind) && !is_blind && !has_any
    }

    async fn all_of(gcloud: &Gcloud, cluster: &str, kinds: &[Kind]) -> Listing {
        let bound = Arc::new(Semaphore::new(AT_ONCE));
        let mut looking = JoinSet::new();
        for kind in kinds.iter().copied() {
            let (gcloud, cluster) = (gcloud.clone(), cluster.to_owned());
            let bound = Arc::clone(&bound);
            looking.spawn(async move {
                // The semaphore is never closed, so there is always a turn.
                let _turn = bound.acquire_owned().await;
                let found = match kind {
                    Kind::Machine => gcloud.machines_and_states(&cluster).await,
                    _ => gcloud
                        .resources(kind, &cluster)
                        .await
                        .map(|resources| (resources, BTreeMap::new())),
                };
                (kind, found)
            });
        }
        let mut look = Listing::default();
        for (kind, found) in looking.join_all().await {
            match found {
                Ok((resources, states)) => {
                    look.resources.extend(resources);
                    look.states.extend(states);
                }
                Err(error) => look.blind.push((kind, error)),
            }
        }
        look
    }

    /// What is the owner's and in no state.
    #[must_use]
    pub fn strays(&self, owner: &Owner, in_state: &BTreeSet<String>) -> Vec<GoogleResource> {
        let is_stray = |resource: &&GoogleResource| {
            let is_known = in_state.contains(&resource.id) || self.is_boot_disk(resource, in_state);
            owner.owns(resource) && !is_known
        };
        self.resources.iter().filter(is_stray).cloned().collect()
    }

    /// Whether a disk is one that a machine boots from, and goes with it: it bears the machine's name.
    #[must_use]
    pub fn is_boot_disk(&self, disk: &GoogleResource, in_state: &BTreeSet<String>) -> bool {
        if disk.kind != Kind::Disk || disk.name.ends_with("-data") {
            return false;
        }
        let is_its = |resource: &GoogleResource| {
            resource.kind == Kind::Machine
                && resource.name == disk.name
                && resource.location == disk.location
        };
        // Where machines could not be seen, there may be one.
        self.resources.iter().any(is_its)
            || in_state.contains(&disk.id.replace("/disks/", "/instances/"))
            || self.blind.iter().any(|(kind, _)| *kind == Kind::Machine)
    }

    /// The names of the data disks that say that they are a cluster's; an error where none could be seen.
    ///
    /// # Errors
    /// The reason.
    pub fn disks_of(&self, cluster: &str) -> Result<BTreeSet<String>> {
        self.seen(Kind::Disk)?;
        let is_its = |resource: &&GoogleResource| {
            resource.kind == Kind::Disk && resource.cluster() == Some(cluster)
        };
        let disks = self.resources.iter().filter(is_its);
        Ok(disks.map(|disk| disk.name.clone()).collect())
    }

    /// Whether a kind could be seen.
    ///
    /// # Errors
    /// The reason why not.
    pub fn seen(&self, kind: Kind) -> Result<()> {
        let blind = self.blind.iter().find(|(blind, _)| *blind == kind);
        blind.map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// What could not be seen, in words; `None` where all was.
    #[must_use]
    pub fn unseen(&self) -> Option<String> {
        let (_, first) = self.blind.first()?;
        let nouns: Vec<&str> = self.blind.iter().map(|(kind, _)| kind.noun()).collect();
        Some(format!("{}: {first}", nouns.join(", ")))
    }
}

/// Deletes resources, each kind before what it needs; those of one place at once. What can't be deleted is
/// told by the next look.
pub async fn delete(
    gcloud: &Gcloud,
    strays: &[GoogleResource],
    tell: &mut (dyn FnMut(String) + Send),
) {
    for kind in Kind::ALL {
        let mut places: BTreeMap<&Location, Vec<&str>> = BTreeMap::new();
        for resource in strays.iter().filter(|resource| resource.kind == kind) {
            places
                .entry(&resource.location)
                .or_default()
                .push(&resource.name);
            tell(format!(
                "delete {}, which Terraform's state does not know",
                resource.describe()
            ));
        }
        let mut deleting = JoinSet::new();
        for (place, names) in places {
            let names: Vec<String> = names.into_iter().map(String::from).collect();
            let (gcloud, place) = (gcloud.clone(), place.clone());
            deleting.spawn(async move { gcloud.delete(kind, &place, &names).await });
        }
        for outcome in deleting.join_all().await {
            if let Err(error) = outcome {
                tell(error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::gcp::resources::{self, mark};

    // Only a look that was whole, and found no network, says that nothing is in it.
    #[test]
    fn a_network_that_was_not_seen_may_be_there() {
        let all = &Kind::ALL;
        let mut look = Listing::default();
        assert!(look.lacks(all, Kind::Network));
        assert!(!look.lacks(&[Kind::Disk], Kind::Network), "nobody asked");
        look.blind
            .push((Kind::Network, Error::Cloud("Google answers 503".into())));
        assert!(!look.lacks(all, Kind::Network));
        let json = r#"[{"name":"raft-demo","selfLink":"https://www.googleapis.com/compute/v1/projects/p/global/networks/raft-demo"}]"#;
        let resources = resources::read(Kind::Network, json, "demo").unwrap();
        let look = Listing {
            resources,
            ..Listing::default()
        };
        assert!(!look.lacks(all, Kind::Network));
    }

    // What the state knows is no stray, and what is another's is none either.
    #[test]
    fn strays_are_ours_and_unknown() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ== x";
        let disk = |name: &str, owner: &str| {
            format!(
                r#"{{"name":"raft-demo-{name}-data","labels":{{"raft-cluster":"demo","raft-owner":"{owner}"}},
                   "selfLink":"https://www.googleapis.com/compute/v1/projects/p/zones/z/disks/raft-demo-{name}-data"}}"#
            )
        };
        let own = mark(key);
        let json = format!(
            "[{},{},{}]",
            disk("n1", &own),
            disk("n2", &own),
            disk("n3", "other")
        );
        let look = Listing {
            resources: resources::read(Kind::Disk, &json, "demo").unwrap(),
            blind: vec![(Kind::Machine, Error::Cloud("Google answers 503".into()))],
            ..Listing::default()
        };
        let known = BTreeSet::from(["projects/p/zones/z/disks/raft-demo-n1-data".to_owned()]);
        let strays = look.strays(&Owner::of("demo", key), &known);
        let names: Vec<_> = strays.iter().map(|stray| stray.name.as_str()).collect();
        assert_eq!(names, ["raft-demo-n2-data"]);
        assert_eq!(look.unseen().unwrap(), "machine: Google answers 503");
    }

    // The disk that a machine boots from goes with the machine, and is no stray beside it: whether the
    // machine is known to the state, or a stray itself. Left alone, or in another zone, it is one.
    #[test]
    fn a_boot_disk_belongs_to_its_machine() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ== x";
        let resource = |kind: Kind, zone: &str| {
            let collection = if kind == Kind::Disk {
                "disks"
            } else {
                "instances"
            };
            let json = format!(
                r#"[{{"name":"raft-demo-n1","labels":{{"raft-cluster":"demo","raft-owner":"{}"}},
                   "selfLink":"https://www.googleapis.com/compute/v1/projects/p/zones/{zone}/{collection}/raft-demo-n1"}}]"#,
                mark(key)
            );
            resources::read(kind, &json, "demo").unwrap().remove(0)
        };
        let strays = |resources: &[GoogleResource], in_state: &[&str]| -> Vec<String> {
            let look = Listing {
                resources: resources.to_vec(),
                ..Listing::default()
            };
            let in_state = in_state.iter().map(|id| (*id).to_owned()).collect();
            let strays = look.strays(&Owner::of("demo", key), &in_state);
            strays.iter().map(GoogleResource::describe).collect()
        };
        let (machine, disk) = (resource(Kind::Machine, "a"), resource(Kind::Disk, "a"));
        let known = "projects/p/zones/a/instances/raft-demo-n1";
        let none: [&str; 0] = [];
        assert_eq!(strays(&[machine.clone(), disk.clone()], &[known]), none);
        assert_eq!(strays(std::slice::from_ref(&disk), &[known]), none);
        let both = [machine.clone(), disk.clone()];
        assert_eq!(strays(&both, &[]), ["machine raft-demo-n1 (a)"]);
        assert_eq!(
            strays(&[machine, resource(Kind::Disk, "b")], &[known]),
            ["data disk raft-demo-n1 (b)"]
        );
        assert_eq!(strays(&[disk], &[]), ["data disk raft-demo-n1 (a)"]);
    }
}
