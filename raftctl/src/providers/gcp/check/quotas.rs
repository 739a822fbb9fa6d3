//! Whether the quotas suffice.

use std::collections::{BTreeMap, BTreeSet};

use super::needs::{self, Needs};
use super::{Asking, Finding, Verdict};
use crate::providers::gcp::causes::quota_advice;
use crate::providers::gcp::gcloud::{Quota, Region};

impl Asking<'_> {
    /// Whether the quotas suffice. What stands already counts as used, so where one is short it is
    /// looked at what that is.
    pub(super) async fn quotas(
        &self,
        global: &[Quota],
        regions: &BTreeMap<String, Region>,
    ) -> Vec<Finding> {
        let nothing = Standing::default();
        let first = self.compared(global, regions, Some(&nothing));
        if first.iter().all(|finding| finding.verdict == Verdict::Good) {
            return first;
        }
        let name = &self.cluster.name;
        let network = format!("raft-{name}");
        let (machines, network) = tokio::join!(
            self.one(self.gcloud.machines(name)),
            self.one(self.gcloud.has_network(&network))
        );
        let standing = machines.and_then(|machines| {
            Ok(Standing {
                machines: machines.into_keys().map(|(_, name)| name).collect(),
                has_network: network?,
            })
        });
        self.compared(global, regions, standing.as_ref().ok())
    }

    /// With `None` it is not known what stands, so nothing is certain.
    fn compared(
        &self,
        global: &[Quota],
        regions: &BTreeMap<String, Region>,
        standing: Option<&Standing>,
    ) -> Vec<Finding> {
        let (project, is_certain) = (
            self.cluster.gcp.project.as_deref().unwrap_or_default(),
            standing.is_some(),
        );
        let nothing = Standing::default();
        let standing = standing.unwrap_or(&nothing);
        let mut missing = self.allocation.clone();
        missing.nodes.retain(|_, placement| {
            let instance = format!("raft-{}-{}", self.cluster.name, placement.name);
            !standing.machines.contains(&instance)
        });
        let by_region = needs::nodes_by_region(&missing);
        let all = missing.nodes.len() as u64;
        let regions_used = needs::nodes_by_region(self.allocation).len() as u64;
        let needs = needs::global(self.cluster, all, regions_used, !standing.has_network);
        let mut findings = quota_findings(project, &needs, global, is_certain);
        for (region, nodes) in by_region {
            // One that does not exist is told with its zones.
            if let Some(Region { quotas, .. }) = regions.get(&region) {
                let needs = needs::regional(self.cluster, nodes, quotas);
                findings.extend(quota_findings(&region, &needs, quotas, is_certain));
            }
        }
        findings
    }
}

/// What of the cluster is there already.
#[derive(Default)]
struct Standing {
    /// Machines, by their names at Google.
    machines: BTreeSet<String>,
    has_network: bool,
}

/// Compares what is needed with what is left. Where it is certain that what is needed is not there
/// yet, too little is wrong; disks may be kept from before.
fn quota_findings(place: &str, needs: &Needs, quotas: &[Quota], is_certain: bool) -> Vec<Finding> {
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
        let is_certain = is_certain && !metric.ends_with("_GB");
        let (verdict, doubt) = match is_certain {
            true => (Verdict::Wrong, ""),
            false => (
                Verdict::Doubtful,
                "fine if this cluster is up already, else ",
            ),
        };
        let text = format!(
            "quota {metric}: {needed} needed, {left} of {} left; {doubt}{}",
            quota.limit,
            quota_advice(metric)
        );
        findings.push(Finding::new(verdict, place, text));
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
        let findings = quota_findings("us-central1", &needs, &quotas, false);
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
    // Where nothing of the cluster stands, too little is wrong: `up` would be refused. What helps is
    // told by what is short: no smaller machine makes room for a network.
    #[test]
    fn what_would_be_refused_is_wrong() {
        let quota = |metric: &str, limit| Quota {
            metric: metric.into(),
            limit,
            usage: 0.0,
        };
        let told = |metric: &str| {
            let needs = Needs::from([(metric.to_owned(), 1)]);
            let findings = quota_findings("my-project", &needs, &[quota(metric, 0.0)], true);
            (findings[0].verdict, findings[0].text.clone())
        };
        let (verdict, text) = told("NETWORKS");
        assert_eq!(verdict, Verdict::Wrong);
        assert!(
            text.contains("gcp.network") && !text.contains("machine_type"),
            "{text}"
        );
        assert!(told("CPUS").1.contains("machine_type"));
        assert!(told("IN_USE_ADDRESSES").1.contains("ssh_via: iap"));
        // Data disks that were kept are used already.
        assert_eq!(told("SSD_TOTAL_GB").0, Verdict::Doubtful);
    }
}
