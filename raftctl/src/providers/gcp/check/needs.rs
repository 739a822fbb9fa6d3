//! How much of each quota the machines of a cluster need. Pure.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::cluster::gcp::{SshVia, region_of};
use crate::providers::gcp::allocation::Allocation;
use crate::providers::gcp::gcloud::Quota;
use crate::providers::gcp::tfvars;

/// How many virtual CPUs a machine type counts for; `None` where its name does not tell.
fn cpus(machine_type: &str) -> Option<u32> {
    match machine_type {
        "e2-micro" | "e2-small" | "e2-medium" => Some(2),
        "f1-micro" | "g1-small" => Some(1),
        // n2-standard-4; n2-custom-6-3072 has its CPUs before its memory.
        other => other.split('-').skip(1).find_map(|part| part.parse().ok()),
    }
}

/// How much of which quota.
pub(super) type Needs = BTreeMap<String, u64>;

fn cpus_each(cluster: &Cluster) -> Option<u64> {
    cpus(tfvars::machine_type(cluster)).map(u64::from)
}

/// What `nodes` machines, and a network of the cluster's own where it is yet to be made, need of the
/// project.
pub(super) fn global(cluster: &Cluster, nodes: u64, regions: u64, is_network_new: bool) -> Needs {
    let mut needs = Needs::new();
    if let Some(cpus) = cpus_each(cluster) {
        needs.insert("CPUS_ALL_REGIONS".into(), nodes.saturating_mul(cpus));
    }
    let company = &cluster.gcp.company;
    if is_network_new && company.network.is_none() {
        needs.insert("NETWORKS".into(), 1);
    }
    if is_network_new && company.subnetwork.is_none() {
        needs.insert("SUBNETWORKS".into(), regions);
    }
    // With a shared VPC they count in the other project.
    let makes_rules = company.firewall_rules.unwrap_or(true) && company.network_project.is_none();
    if is_network_new && makes_rules {
        // SSH, peers, and clients where they may come.
        let clients = u64::from(!cluster.gcp.client_cidrs.is_empty());
        needs.insert("FIREWALLS".into(), 2 + clients);
    }
    needs
}

/// How many nodes each region has.
pub(super) fn nodes_by_region(allocation: &Allocation) -> BTreeMap<String, u64> {
    let mut regions = BTreeMap::new();
    for placement in allocation.nodes.values() {
        if let Some(region) = region_of(&placement.zone) {
            *regions.entry(region.to_owned()).or_default() += 1;
        }
    }
    regions
}

/// What so many nodes need of a region that has these quotas.
pub(super) fn regional(cluster: &Cluster, nodes: u64, quotas: &[Quota]) -> Needs {
    let settings = &cluster.gcp;
    let mut needs = Needs::from([("INSTANCES".to_owned(), nodes)]);
    let mut need = |metric: &str, count: u64| *needs.entry(metric.to_owned()).or_default() += count;
    if let Some(cpus) = cpus_each(cluster) {
        let metric = cpu_metric(tfvars::machine_type(cluster), settings.spot, quotas);
        need(&metric, nodes.saturating_mul(cpus));
    }
    if settings.ssh_via() == SshVia::External {
        need("IN_USE_ADDRESSES", nodes);
    }
    for (disk_type, gigabytes) in tfvars::disks(cluster) {
        if let Some(metric) = disk_metric(disk_type) {
            need(metric, nodes.saturating_mul(gigabytes));
        }
    }
    needs
}

/// The quota that the processors of a machine type count for: older families share one, the others
/// have their own, and spot machines have one of theirs where a project was given any of it.
/// (<https://cloud.google.com/compute/resource-usage>)
fn cpu_metric(machine_type: &str, is_spot: bool, quotas: &[Quota]) -> String {
    let limit = |metric: &str| quotas.iter().find(|quota| quota.metric == metric);
    const SPOT: &str = "PREEMPTIBLE_CPUS";
    if is_spot && limit(SPOT).is_some_and(|quota| quota.limit > 0.0) {
        return SPOT.to_owned();
    }
    let family = machine_type.split('-').next().unwrap_or_default();
    let own = format!("{}_CPUS", family.to_uppercase());
    if limit(&own).is_some() {
        own
    } else {
        "CPUS".to_owned()
    }
}

/// The quota that a disk's gigabytes count for; `None` where its type has one that is not told by region.
fn disk_metric(disk_type: &str) -> Option<&'static str> {
    match disk_type {
        "pd-balanced" | "pd-ssd" => Some("SSD_TOTAL_GB"),
        "pd-standard" => Some("DISKS_TOTAL_GB"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Shared-core types count for two, others for the number in their name.
    #[test]
    fn machine_types_count_cpus() {
        assert_eq!(cpus("e2-small"), Some(2));
        assert_eq!(cpus("n2-standard-4"), Some(4));
        assert_eq!(cpus("n2-custom-6-3072"), Some(6));
        assert_eq!(cpus("mystery"), None);
    }

    // The families that have a quota of their own count for that one.
    #[test]
    fn processors_count_for_their_family() {
        let quota = |metric: &str, limit| Quota {
            metric: metric.into(),
            limit,
            usage: 0.0,
        };
        let quotas = [
            quota("CPUS", 24.0),
            quota("N2_CPUS", 8.0),
            quota("PREEMPTIBLE_CPUS", 0.0),
        ];
        assert_eq!(cpu_metric("e2-small", false, &quotas), "CPUS");
        assert_eq!(cpu_metric("n2-standard-4", false, &quotas), "N2_CPUS");
        assert_eq!(cpu_metric("n2-standard-4", true, &quotas), "N2_CPUS");
        let spot = [quota("N2_CPUS", 8.0), quota("PREEMPTIBLE_CPUS", 4.0)];
        assert_eq!(cpu_metric("n2-standard-4", true, &spot), "PREEMPTIBLE_CPUS");
    }
}
