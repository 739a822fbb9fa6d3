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
    for (region, needs) in regional_needs(cluster, allocation) {
        let quotas: Result<Vec<Quota>> = gcloud.region_quotas(&region).await;
        match quotas {
            Ok(quotas) => findings.extend(quota_findings(&region, &needs, &quotas)),
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

type Needs = BTreeMap<&'static str, u32>;

fn cpus_each(cluster: &Cluster) -> Option<u32> {
    cpus(tfvars::machine_type(cluster))
}

/// What all nodes together need of the project.
fn global_needs(cluster: &Cluster) -> Needs {
    let nodes = u32::try_from(cluster.nodes.len()).unwrap_or(u32::MAX);
    cpus_each(cluster)
        .map(|cpus| ("CPUS_ALL_REGIONS", nodes.saturating_mul(cpus)))
        .into_iter()
        .collect()
}

/// What the nodes of each region need there.
fn regional_needs(cluster: &Cluster, allocation: &Allocation) -> BTreeMap<String, Needs> {
    let mut regions: BTreeMap<String, Needs> = BTreeMap::new();
    for placement in allocation.nodes.values() {
        let Some(region) = region_of(&placement.zone) else {
            continue;
        };
        let needs = regions.entry(region.into()).or_default();
        *needs.entry("INSTANCES").or_default() += 1;
        if let Some(cpus) = cpus_each(cluster) {
            *needs.entry("CPUS").or_default() += cpus;
        }
        if cluster.gcp.ssh_via() == SshVia::External {
            *needs.entry("IN_USE_ADDRESSES").or_default() += 1;
        }
    }
    regions
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
        if left >= f64::from(*needed) {
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

    // A quota is told with its numbers, and one that is too small by itself.
    #[test]
    fn a_small_quota_is_told() {
        let quota = |metric: &str, limit, usage| Quota {
            metric: metric.into(),
            limit,
            usage,
        };
        let quotas = [quota("CPUS", 8.0, 2.0), quota("INSTANCES", 100.0, 0.0)];
        let needs = Needs::from([("CPUS", 10), ("INSTANCES", 5)]);
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
