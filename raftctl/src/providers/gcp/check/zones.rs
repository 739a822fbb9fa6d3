//! Zones, and whether they have the machine type.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asking, Finding, Verdict};
use crate::cluster::Cluster;
use crate::cluster::gcp::region_of;
use crate::error::Result;
use crate::providers::gcp::allocation::Allocation;
use crate::providers::gcp::gcloud::Region;
use crate::providers::gcp::tfvars;

impl Asking<'_> {
    /// Which of the zones have the machine type; `None` where lists of types have none of its kind.
    pub(super) async fn zones_with_type(&self) -> Option<Result<Vec<String>>> {
        let machine_type = tfvars::machine_type(self.cluster);
        if machine_type.contains("custom") {
            return None;
        }
        let zones: Vec<&str> = zones(self.allocation).into_iter().collect();
        Some(self.one(self.gcloud.zones_with(machine_type, &zones)).await)
    }
}

fn zones(allocation: &Allocation) -> BTreeSet<&str> {
    let nodes = allocation.nodes.values();
    nodes.map(|placement| placement.zone.as_str()).collect()
}

/// The zones of nodes that Google has not, or has not for this project.
pub(super) fn unknown_zones<'a>(
    allocation: &'a Allocation,
    regions: &BTreeMap<String, Region>,
) -> Vec<&'a str> {
    let is_known = |zone: &str| {
        let region = region_of(zone).and_then(|region| regions.get(region));
        region.is_some_and(|region| region.zones.contains(zone))
    };
    let all = zones(allocation).into_iter();
    all.filter(|zone| !is_known(zone)).collect()
}

pub(super) fn zone_finding(unknown: &[&str]) -> Option<Finding> {
    (!unknown.is_empty()).then(|| {
        Finding::bad(
            "zones",
            format!(
                "Google has no zone {} for this project; correct gcp.zones (or the node's zone) in cluster.yaml; \
                 `gcloud compute zones list` shows all",
                unknown.join(" and no ")
            ),
        )
    })
}

/// Whether each zone has the machine type.
pub(super) fn type_finding(
    cluster: &Cluster,
    allocation: &Allocation,
    found: Option<Result<Vec<String>>>,
) -> Option<Finding> {
    let machine_type = tfvars::machine_type(cluster);
    let found = match found? {
        Ok(found) => found,
        Err(error) => {
            return Some(Finding::new(
                Verdict::Doubtful,
                "machine type",
                error.to_string(),
            ));
        }
    };
    let all = zones(allocation);
    let without: Vec<&str> = all
        .iter()
        .copied()
        .filter(|zone| !found.iter().any(|with| with == zone))
        .collect();
    if without.is_empty() {
        return None; // It is told with the quotas that it needs.
    }
    let place = match without.len() == all.len() {
        true => "any of the zones".to_owned(),
        false => without.join(" or "),
    };
    Some(Finding::bad(
        "machine type",
        format!(
            "there is no {machine_type} in {place}; correct gcp.machine_type or gcp.zones in cluster.yaml; `gcloud \
             compute machine-types list --zones={}` shows what is there",
            without.join(",")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A zone is known by its region's list; a machine type is missing by zone.
    #[test]
    fn zones_and_types_that_are_not_there_are_told() {
        let yaml = "name: demo\nprovider: gcp\ntiming: wan\nnodes: 3\ngcp: {project: my-project, machine_type: e2-smal, \
                    zones: [us-central1-a, us-central1-z, us-east9-b]}\n";
        let cluster = crate::cluster::parse(yaml, "x", ".".into(), &|_| None).unwrap();
        let allocation = Allocation::default().extended(&cluster).unwrap();
        let region = Region {
            zones: BTreeSet::from(["us-central1-a".to_owned()]),
            quotas: Vec::new(),
        };
        let regions = BTreeMap::from([("us-central1".to_owned(), region)]);
        let unknown = unknown_zones(&allocation, &regions);
        assert_eq!(unknown, ["us-central1-z", "us-east9-b"]);
        let text = zone_finding(&unknown).unwrap().text;
        assert!(
            text.contains("no zone us-central1-z and no us-east9-b"),
            "{text}"
        );
        let text = type_finding(&cluster, &allocation, Some(Ok(Vec::new())))
            .unwrap()
            .text;
        assert!(text.contains("no e2-smal in any of the zones"), "{text}");
        let some = vec!["us-central1-a".to_owned(), "us-central1-z".to_owned()];
        let text = type_finding(&cluster, &allocation, Some(Ok(some)))
            .unwrap()
            .text;
        assert!(text.contains("no e2-smal in us-east9-b"), "{text}");
    }
}
