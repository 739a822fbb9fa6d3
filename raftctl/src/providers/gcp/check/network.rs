//! The network that cluster.yaml names, and who gets in.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Asking, Finding, Verdict, judged, needs};
use crate::cluster::Cluster;
use crate::cluster::gcp::SshVia;
use crate::cluster::gcp::company::rules_needed;
use crate::providers::gcp::resources::Kind;

impl Asking<'_> {
    /// The subnetworks that cluster.yaml names.
    pub(super) async fn subnetworks(&self) -> Vec<Finding> {
        let company = &self.cluster.gcp.company;
        let Some(subnetwork) = &company.subnetwork else {
            return Vec::new();
        };
        let mut looking = JoinSet::new();
        for region in needs::nodes_by_region(self.allocation).into_keys() {
            let Some(name) = subnetwork.of(&region).map(String::from) else {
                continue; // Told with the file.
            };
            let (gcloud, turns) = (self.gcloud.clone(), Arc::clone(&self.turns));
            let host = company.network_project.clone();
            looking.spawn(async move {
                // The semaphore is never closed, so there is always a turn.
                let _turn = turns.acquire_owned().await;
                let looked = gcloud.check_subnetwork(&name, &region, host.as_deref());
                let finding = match looked.await {
                    Ok(()) => Finding::good("subnetwork", format!("{name} exists in {region}")),
                    Err(error) => judged("subnetwork", &error),
                };
                (region, finding)
            });
        }
        let by_region: BTreeMap<String, Finding> = looking.join_all().await.into_iter().collect();
        by_region.into_values().collect()
    }

    /// The firewall rules that are made in the project of a shared VPC: whether they can be looked at there.
    pub(super) async fn rules_elsewhere(&self) -> Option<Finding> {
        let company = &self.cluster.gcp.company;
        let project = company.network_project.as_deref()?;
        if company.firewall_rules == Some(false) {
            return None; // What is needed is told with who gets in.
        }
        let name = &self.cluster.name;
        Some(
            match self.one(self.gcloud.resources(Kind::Rule, name)).await {
                Ok(rules) => {
                    let count = rules.len();
                    let text = format!(
                        "project {project} can be looked at, and has {count} of raft-{name}"
                    );
                    Finding::good("firewall rules", text)
                }
                Err(error) => {
                    let text = format!(
                        "those of project {project}, where `up` makes rules, could not be looked at: {error}\n  `gcloud \
                     compute firewall-rules list --project={project}` shows them to whoever may see them; or make the \
                     rules there by hand and set gcp.firewall_rules: false"
                    );
                    Finding::new(Verdict::Doubtful, "firewall rules", text)
                }
            },
        )
    }
}

pub(super) fn reachability(cluster: &Cluster) -> Finding {
    let settings = &cluster.gcp;
    if settings.company.firewall_rules == Some(false) {
        let needed = rules_needed(settings.ssh_via(), cluster.ports.peer);
        let network = settings.company.network.as_deref().unwrap_or_default();
        let project = settings.company.network_project.as_ref();
        let project = project.or(settings.project.as_ref());
        let text = format!(
            "whom the rules of network {network} let in, which raftctl does not look at; needed are {needed}; `gcloud \
             compute firewall-rules list --filter=network:{network} --project={}` shows what is there",
            project.map(String::as_str).unwrap_or_default()
        );
        return Finding::new(Verdict::Doubtful, "open to", text);
    }
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
