//! What can be known before anything is made: programs, credentials, project, API, quotas.

use std::collections::BTreeMap;

use super::allocation::Allocation;
use super::gcloud::{Gcloud, Quota};
use super::tfvars;
use super::tool::Tool;
use crate::cluster::Cluster;
use crate::cluster::gcp::{SshVia, region_of};
use crate::error::Result;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is: "Terraform".
    pub subject: String,
    /// How it is.
    pub text: String,
    /// What it means.
    pub verdict: Verdict,
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Good,
    /// It may be well, which the operator knows better.
    Doubtful,
    /// Nothing can be made like this.
    Wrong,
}

impl Finding {
    fn new(verdict: Verdict, subject: &str, text: impl Into<String>) -> Self {
        Finding {
            subject: subject.to_owned(),
            text: text.into(),
            verdict,
        }
    }

    fn good(subject: &str, text: impl Into<String>) -> Self {
        Finding::new(Verdict::Good, subject, text)
    }

    fn bad(subject: &str, text: impl Into<String>) -> Self {
        Finding::new(Verdict::Wrong, subject, text)
    }
}

/// Looks at everything that can be looked at; later findings need the earlier ones, so it ends at
/// the first that makes the rest pointless.
pub async fn findings(cluster: &Cluster, allocation: &Allocation) -> Vec<Finding> {
    let project = cluster.gcp.project.as_deref().unwrap_or_default();
    let gcloud = Gcloud::new(project);
    let (tool, credentials, quotas) = tokio::join!(
        Tool::find(),
        gcloud.check_default_credentials(),
        gcloud.project_quotas()
    );
    let mut findings = vec![match tool {
        Ok(tool) => Finding::good("Terraform", format!("{} {}", tool.program, tool.version)),
        Err(error) => Finding::bad("Terraform", error.to_string()),
    }];
    findings.push(match credentials {
        Ok(()) => Finding::good("credentials", "application default credentials are valid"),
        Err(error) => Finding::bad("credentials", error.to_string()),
    });
    match quotas {
        Ok(quotas) => {
            findings.push(Finding::good(
                "project",
                format!("{project}, the Compute Engine API is enabled"),
            ));
            findings.extend(quota_findings(project, &global_needs(cluster), &quotas));
            findings.extend(region_findings(&gcloud, cluster, allocation).await);
        }
        Err(error) => findings.push(Finding::bad("project", error.to_string())),
    }
    findings.extend(iap_finding(cluster, &gcloud).await);
    findings.push(reachability(cluster));
    findings
}

/// The API of Identity-Aware Proxy.
const IAP: &str = "iap.googleapis.com";

/// Whether SSH can come through Identity-Aware Proxy, where it has to.
async fn iap_finding(cluster: &Cluster, gcloud: &Gcloud) -> Option<Finding> {
    if cluster.gcp.ssh_via() != SshVia::Iap {
        return None;
    }
    let project = cluster.gcp.project.as_deref().unwrap_or_default();
    Some(match gcloud.is_enabled(IAP).await {
        Ok(true) => Finding::good(IAP, "is enabled; SSH needs it"),
        Ok(false) => Finding::bad(
            IAP,
            format!(
                "is not enabled, and SSH needs it; run `gcloud services enable {IAP} --project={project}`"
            ),
        ),
        // Who may use an API need not be allowed to list them.
        Err(error) => Finding::new(Verdict::Doubtful, IAP, error.to_string()),
    })
}

async fn region_findings(
    gcloud: &Gcloud,
    cluster: &Cluster,
    allocation: &Allocation,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (region, nodes) in nodes_by_region(allocation) {
        let quotas: Result<Vec<Quota>> = gcloud.region_quotas(&region).await;
        match quotas {
            Ok(quotas) => {
                let needs = regional_needs(cluster, nodes, &quotas);
                findings.extend(quota_findings(&region, &needs, &quotas));
            }
            Err(error) => findings.push(Finding::bad(&region, error.to_string())),
        }
    }
    findings
}

fn reachability(cluster: &Cluster) -> Finding {
    let settings = &cluster.gcp;
    let ssh = match settings.ssh_via() {
        SshVia::Iap => "SSH through Identity-Aware Proxy".to_owned(),
        SshVia::External => format!("SSH from {}", settings.operator_cidrs.join(", ")),
    };
    let clients = match settings.client_cidrs.as_slice() {
        [] => "clients through SSH only".to_owned(),
        ranges => format!("clients from {}", ranges.join(", ")),
    };
    Finding::good("open to", format!("{ssh}; {clients}"))
}

/// How many virtual CPUs a machine type counts for; `None` where its name does not tell.
fn cpus(machine_type: &str) -> Option<u32> {
    match machine_type {
        "e2-micro" | "e2-small" | "e2-medium" => Some(2),
        "f1-micro" | "g1-small" => Some(1),
        // n2-standard-4; n2-custom-6-3072 has its CPUs before its memory.
        other => other.split('-').skip(1).find_map(|part| part.parse().ok()),
    }
}

type Needs = BTreeMap<String, u64>;

fn cpus_each(cluster: &Cluster) -> Option<u64> {
    cpus(tfvars::machine_type(cluster)).map(u64::from)
}

/// What all nodes together need of the project.
fn global_needs(cluster: &Cluster) -> Needs {
    let nodes = cluster.nodes.len() as u64;
    cpus_each(cluster)
        .map(|cpus| ("CPUS_ALL_REGIONS".to_owned(), nodes.saturating_mul(cpus)))
        .into_iter()
        .collect()
}

fn nodes_by_region(allocation: &Allocation) -> BTreeMap<String, u64> {
    let mut regions = BTreeMap::new();
    for placement in allocation.nodes.values() {
        if let Some(region) = region_of(&placement.zone) {
            *regions.entry(region.to_owned()).or_default() += 1;
        }
    }
    regions
}

/// What so many nodes need of a region that has these quotas.
fn regional_needs(cluster: &Cluster, nodes: u64, quotas: &[Quota]) -> Needs {
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

/// Compares what is needed with what is left. Machines that run already count as used, so this
/// can be too strict for a cluster that is up; hence it says so rather than refuses.
fn quota_findings(place: &str, needs: &Needs, quotas: &[Quota]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut enough = Vec::new();
    for (metric, needed) in needs {
        let Some(quota) = quotas.iter().find(|quota| quota.metric == *metric) else {
            continue;
        };
        let left = quota.limit - quota.usage;
        if left >= *needed as f64 {
            enough.push(format!("{needed} of {left} {metric}"));
            continue;
        }
        let text = format!(
            "quota {metric}: {needed} needed, {left} of {} left; fine if this cluster is up already, else ask \
             for more under IAM & Admin > Quotas",
            quota.limit
        );
        findings.push(Finding::new(Verdict::Doubtful, place, text));
    }
    if !enough.is_empty() {
        let text = format!("quotas suffice: {}", enough.join(", "));
        findings.push(Finding::good(place, text));
    }
    findings
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

    // A quota is told with its numbers, and one that is too small by itself.
    #[test]
    fn a_small_quota_is_told() {
        let quota = |metric: &str, limit, usage| Quota {
            metric: metric.into(),
            limit,
            usage,
        };
        let quotas = [quota("CPUS", 8.0, 2.0), quota("INSTANCES", 100.0, 0.0)];
        let needs = Needs::from([("CPUS".to_owned(), 10), ("INSTANCES".to_owned(), 5)]);
        let findings = quota_findings("us-central1", &needs, &quotas);
        let verdicts: Vec<_> = findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Doubtful, Verdict::Good], "{findings:?}");
        assert_eq!(findings[1].text, "quotas suffice: 5 of 100 INSTANCES");
        assert!(
            findings[0]
                .text
                .contains("quota CPUS: 10 needed, 6 of 8 left"),
            "{findings:?}"
        );
    }
}
