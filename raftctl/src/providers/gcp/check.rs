//! What can be known before anything is made: programs, credentials, project, API, names, quotas.
//!
//! Each question is a gcloud of its own, which takes a second or two, so they run side by side; what
//! only matters where something is short is asked then.
//!
//! ```text
//! credentials  what Terraform goes by        zones    zones, and the machine type in them
//! network      subnetworks, rules, who gets in    quotas   what is left; needs: what is needed
//! ```

mod credentials;
mod needs;
mod network;
mod quotas;
mod zones;

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::allocation::Allocation;
use super::gcloud::Gcloud;
use super::leftovers;
use super::spread;
use super::tool::Tool;
use crate::cluster::Cluster;
use crate::cluster::gcp::SshVia;
use crate::error::Error;
use crate::providers::{Finding, Verdict};
use network::reachability;
use zones::{type_finding, unknown_zones, zone_finding};

/// Questions at a time: a gcloud takes some 100 MB, and most of a processor while it starts.
const AT_ONCE: usize = 6;

/// Looks at everything that can be looked at, and says it in one order.
pub async fn findings(cluster: &Cluster, allocation: &Allocation) -> Vec<Finding> {
    let project = cluster.gcp.project.as_deref().unwrap_or_default();
    let asking = Asking {
        cluster,
        allocation,
        gcloud: Gcloud::of(cluster),
        turns: Arc::new(Semaphore::new(AT_ONCE)),
    };
    let (tool, credentials, quotas, regions, zones, rest) = tokio::join!(
        Tool::find(),
        asking.credentials(),
        asking.one(asking.gcloud.project_quotas()),
        asking.one(asking.gcloud.regions()),
        asking.zones_with_type(),
        asking.rest(),
    );
    let mut findings = vec![match tool {
        Ok(tool) => Finding::good("Terraform", format!("{} {}", tool.program, tool.version)),
        Err(error) => Finding::bad("Terraform", error.to_string()),
    }];
    findings.push(credentials);
    match (quotas, regions) {
        (Ok(quotas), Ok(regions)) => {
            findings.push(Finding::good(
                "project",
                format!("{project}, the Compute Engine API is enabled"),
            ));
            let unknown = unknown_zones(allocation, &regions);
            if unknown.is_empty() {
                findings.extend(type_finding(cluster, allocation, zones));
            }
            findings.extend(zone_finding(&unknown));
            let spread = spread::remark(allocation);
            findings.extend(spread.map(|(text, advice)| {
                Finding::new(Verdict::Doubtful, "zones", format!("{text}; {advice}"))
            }));
            findings.extend(asking.quotas(&quotas, &regions).await);
            findings.extend(rest);
            // What an earlier `up` has left. Later than the rest: what comes first may say why this fails.
            let remarks = leftovers::remarks(cluster).await.0.into_iter();
            findings.extend(remarks.map(|(text, advice)| {
                Finding::new(Verdict::Doubtful, "left over", format!("{text}; {advice}"))
            }));
        }
        // The rest would fail for the same reason.
        (Err(error), _) | (_, Err(error)) => {
            findings.push(Finding::bad("project", error.to_string()));
        }
    }
    findings.push(reachability(cluster));
    findings
}

/// What this account may not see may be there all the same.
fn judged(subject: &str, error: &Error) -> Finding {
    let text = error.to_string();
    let verdict = match text.contains("there is no ") {
        true => Verdict::Wrong,
        false => Verdict::Doubtful,
    };
    Finding::new(verdict, subject, text)
}

/// What is needed to ask.
struct Asking<'a> {
    cluster: &'a Cluster,
    allocation: &'a Allocation,
    gcloud: Gcloud,
    turns: Arc<Semaphore>,
}

/// The API of Identity-Aware Proxy.
const IAP: &str = "iap.googleapis.com";

/// The API of OS Login.
const OS_LOGIN: &str = "oslogin.googleapis.com";

impl Asking<'_> {
    /// Asks when it is this question's turn.
    async fn one<T>(&self, question: impl Future<Output = T>) -> T {
        // The semaphore is never closed, so there is always a turn.
        let _turn = self.turns.acquire().await;
        question.await
    }

    /// What only some clusters need.
    async fn rest(&self) -> Vec<Finding> {
        let (image, subnetworks, rules, iap, os_login) = tokio::join!(
            self.image(),
            self.subnetworks(),
            self.rules_elsewhere(),
            self.api(IAP, self.cluster.gcp.ssh_via() == SshVia::Iap),
            self.api(OS_LOGIN, self.cluster.gcp.company.os_login),
        );
        let found = image.into_iter().chain(subnetworks).chain(rules);
        found.chain(iap).chain(os_login).collect()
    }

    /// The boot image that cluster.yaml names.
    async fn image(&self) -> Option<Finding> {
        let path = self.cluster.gcp.image.as_deref()?;
        Some(match self.one(self.gcloud.check_image(path)).await {
            Ok(()) => Finding::good("image", format!("{path} exists")),
            Err(error) => judged("image", &error),
        })
    }

    /// Whether an API is enabled, where it is needed.
    async fn api(&self, api: &str, is_needed: bool) -> Option<Finding> {
        if !is_needed {
            return None;
        }
        let project = self.cluster.gcp.project.as_deref().unwrap_or_default();
        Some(match self.one(self.gcloud.is_enabled(api)).await {
            Ok(true) => Finding::good(api, "is enabled; SSH needs it"),
            Ok(false) => Finding::bad(
                api,
                format!(
                    "is not enabled, and SSH needs it; run `gcloud services enable {api} --project={project}`"
                ),
            ),
            // Who may use an API need not be allowed to list them.
            Err(error) => Finding::new(Verdict::Doubtful, api, error.to_string()),
        })
    }
}
