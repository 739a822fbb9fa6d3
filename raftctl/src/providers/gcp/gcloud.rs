//! What raftctl does with a machine itself: stop it, start it, give it a longer life, ask how it is.
//!
//! Through the gcloud command line, not the REST API directly: whoever uses Google Cloud has it (it
//! is how one gets credentials), it knows every kind of credential and refreshes them, and SSH
//! through Identity-Aware Proxy needs it anyway; the API would take a TLS stack and OAuth in this
//! program. The price is about a second a call. Terraform would do for stopping and starting, but
//! not for a longer life: Google's provider makes the machine anew for that.
//!
//! `CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE`, gcloud's own variable, leads to another endpoint.

mod answers;
mod command;
mod guests;
mod resources;

pub(super) use command::wait_and_tell;
pub use guests::{HostKey, Token};

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::machines::Machine;
use crate::cluster::Cluster;
use crate::error::Result;
use crate::terminal::out;
use answers::{Quotas, parsed};
use command::Call;

/// The label that everything of a cluster wears which can wear one.
const LABEL: &str = "raft-cluster";

/// gcloud in one project.
#[derive(Clone)]
pub struct Gcloud {
    project: String,
    /// The project of a shared VPC, where firewall rules are.
    network_project: Option<String>,
    /// Hears what is being waited for.
    tell: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Where a machine is: its zone, and its name there.
pub type ZoneAndName = (String, String);

/// A machine as Google sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineState {
    /// `RUNNING`, `TERMINATED`, ...
    pub status: String,
    /// When it will delete itself, if ever; only while it runs.
    pub ends_at: Option<SystemTime>,
    /// Its external address now, if any.
    pub external_ip: Option<String>,
    /// `e2-small`.
    pub machine_type: String,
}

/// Whether a machine of this status runs, or is about to.
#[must_use]
pub fn is_on(status: &str) -> bool {
    matches!(status, "RUNNING" | "STAGING" | "PROVISIONING" | "REPAIRING")
}

impl MachineState {
    /// Whether it runs, or is about to.
    #[must_use]
    pub fn is_on(&self) -> bool {
        is_on(&self.status)
    }

    /// Whether it is going off, and can't be switched on before it is.
    #[must_use]
    pub fn is_going_off(&self) -> bool {
        matches!(
            self.status.as_str(),
            "STOPPING" | "PENDING_STOP" | "SUSPENDING"
        )
    }
}

/// Something that costs money for as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// `instances` or `disks`.
    pub kind: &'static str,
    /// Its name at Google.
    pub name: String,
    /// Its zone.
    pub zone: String,
}

/// A quota of the project or of a region.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Quota {
    /// `CPUS`.
    pub metric: String,
    /// How much there may be.
    pub limit: f64,
    /// How much there is.
    pub usage: f64,
}

/// A region.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Its zones.
    pub zones: BTreeSet<String>,
    /// Its quotas.
    pub quotas: Vec<Quota>,
}

impl Gcloud {
    /// gcloud in `project`.
    #[must_use]
    pub fn new(project: &str) -> Self {
        Gcloud {
            project: project.to_owned(),
            network_project: None,
            tell: Arc::new(out::say),
        }
    }

    /// gcloud in the project of a cluster, and of its shared VPC.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let settings = &cluster.gcp;
        Gcloud {
            network_project: settings.company.network_project.clone(),
            ..Gcloud::new(settings.project.as_deref().unwrap_or_default())
        }
    }

    /// The same, where `tell` hears what is being waited for; standard error otherwise.
    #[must_use]
    pub fn reporting_to(mut self, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.tell = Arc::new(tell);
        self
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Switches a machine off. Its disks and internal address stay.
    ///
    /// # Errors
    /// Google refuses, or does not answer in time.
    pub async fn stop(&self, machine: &Machine) -> Result<()> {
        self.change("stop", machine, &[]).await
    }

    /// Switches a machine on.
    ///
    /// # Errors
    /// As above.
    pub async fn start(&self, machine: &Machine) -> Result<()> {
        self.change("start", machine, &[]).await
    }

    /// Gives a machine that is switched off this long a life from its next start.
    ///
    /// # Errors
    /// As above.
    pub async fn set_lifetime(&self, machine: &Machine, lifetime: Duration) -> Result<()> {
        let duration = format!("--max-run-duration={}s", lifetime.as_secs());
        let options = [duration.as_str(), "--instance-termination-action=DELETE"];
        self.change("set-scheduling", machine, &options).await
    }

    /// Gives a machine that is switched off another machine type.
    ///
    /// # Errors
    /// As above.
    pub async fn set_machine_type(&self, machine: &Machine, machine_type: &str) -> Result<()> {
        let option = format!("--machine-type={machine_type}");
        self.change("set-machine-type", machine, &[&option]).await
    }

    async fn change(&self, verb: &str, machine: &Machine, options: &[&str]) -> Result<()> {
        let zone = format!("--zone={}", machine.zone);
        let mut arguments = vec!["compute", "instances", verb, &machine.instance, &zone];
        arguments.extend(options);
        let purpose = format!("{verb} machine {}", machine.instance);
        self.run(&Call::change(&purpose, &arguments))
            .await
            .map(drop)
    }

    /// Every machine of a cluster that exists, by where it is at Google.
    ///
    /// # Errors
    /// Google refuses, or does not answer in time.
    pub async fn machines(&self, cluster: &str) -> Result<BTreeMap<ZoneAndName, MachineState>> {
        let filter = label_filter(cluster);
        let arguments = ["compute", "instances", "list", &filter, "--format=json"];
        let json = self
            .run(&Call::question("list the machines", &arguments))
            .await?;
        answers::machines(&json, cluster)
    }

    async fn labelled_of(&self, kind: &'static str, cluster: &str) -> Result<Vec<Labelled>> {
        let filter = label_filter(cluster);
        let arguments = ["compute", kind, "list", &filter, "--format=json"];
        let purpose = format!("list the {kind}");
        let json = self.run(&Call::question(&purpose, &arguments)).await?;
        answers::labelled(&json, kind, cluster)
    }

    /// The quotas of the project. Fails where credentials, project or API are not in order, too.
    ///
    /// # Errors
    /// As said.
    pub async fn project_quotas(&self) -> Result<Vec<Quota>> {
        let arguments = ["compute", "project-info", "describe", "--format=json"];
        let json = self
            .run(&Call::question("look at the project", &arguments))
            .await?;
        parsed::<Quotas>(&json).map(|quotas| quotas.quotas)
    }

    /// Every region that the project may use.
    ///
    /// # Errors
    /// Google refuses, or does not answer in time.
    pub async fn regions(&self) -> Result<BTreeMap<String, Region>> {
        let arguments = ["compute", "regions", "list", "--format=json"];
        let json = self
            .run(&Call::question("list the regions", &arguments))
            .await?;
        answers::regions(&json)
    }

    /// Those of some zones that have a machine type.
    ///
    /// # Errors
    /// One of the zones does not exist, or Google does not answer.
    pub async fn zones_with(&self, machine_type: &str, zones: &[&str]) -> Result<Vec<String>> {
        let zones = format!("--zones={}", zones.join(","));
        let filter = format!("--filter=name={machine_type}");
        let arguments = [
            "compute",
            "machine-types",
            "list",
            &zones,
            &filter,
            "--format=json",
        ];
        let purpose = format!("see which zones have {machine_type}");
        let json = self.run(&Call::question(&purpose, &arguments)).await?;
        answers::zones_of(&json, machine_type)
    }

    /// Looks at a boot image, or at the newest of a family, by its full path.
    ///
    /// # Errors
    /// There is none, or this account may not see it.
    pub async fn check_image(&self, path: &str) -> Result<()> {
        let parts: Vec<&str> = path.split('/').collect();
        let (verb, project, name) = match parts.as_slice() {
            ["projects", project, "global", "images", "family", name] => {
                ("describe-from-family", project, name)
            }
            ["projects", project, "global", "images", name] => ("describe", project, name),
            _ => return Ok(()), // A form that is not known here may still be right.
        };
        let project = format!("--project={project}");
        let arguments = ["compute", "images", verb, name, &project, "--format=json"];
        let call = Call::question("look at the boot image", &arguments).anywhere();
        self.run(&call).await.map(drop)
    }

    /// Looks at a subnetwork, of this project or of `host`.
    ///
    /// # Errors
    /// There is none, or this account may not see it.
    pub async fn check_subnetwork(
        &self,
        name: &str,
        region: &str,
        host: Option<&str>,
    ) -> Result<()> {
        let region = format!("--region={region}");
        let project = format!("--project={}", host.unwrap_or(&self.project));
        let arguments = [
            "compute",
            "networks",
            "subnets",
            "describe",
            name,
            &region,
            &project,
            "--format=json",
        ];
        let purpose = format!("look at subnetwork {name}");
        let call = Call::question(&purpose, &arguments).anywhere();
        self.run(&call).await.map(drop)
    }

    /// Whether there is a network of this name.
    ///
    /// # Errors
    /// Google refuses, or does not answer in time.
    pub async fn has_network(&self, name: &str) -> Result<bool> {
        let filter = format!("--filter=name={name}");
        let arguments = ["compute", "networks", "list", &filter, "--format=json"];
        let json = self
            .run(&Call::question("list the networks", &arguments))
            .await?;
        Ok(answers::names(&json)?.iter().any(|found| found == name))
    }

    /// The names of a cluster's disks that exist.
    ///
    /// # Errors
    /// Google refuses, or does not answer in time.
    pub async fn disks(&self, cluster: &str) -> Result<BTreeSet<String>> {
        let disks = self.labelled_of("disks", cluster).await?;
        Ok(disks.into_iter().map(|disk| disk.name).collect())
    }

    /// Lets the key in a file log in by OS Login; the name of the account that it logs in as.
    ///
    /// # Errors
    /// The account may not do this, or Google does not answer.
    pub async fn add_login_key(&self, key: &Path) -> Result<String> {
        let file = format!("--key-file={}", key.display());
        let arguments = [
            "compute",
            "os-login",
            "ssh-keys",
            "add",
            &file,
            "--format=json",
        ];
        let json = self
            .run(&Call::change(
                "add the cluster's key to your OS Login profile",
                &arguments,
            ))
            .await?;
        answers::login_name(&json)
    }

    /// Takes the key in a file out of the OS Login profile again.
    ///
    /// # Errors
    /// It is not there, or Google does not answer.
    pub async fn remove_login_key(&self, key: &Path) -> Result<()> {
        let file = format!("--key-file={}", key.display());
        let arguments = ["compute", "os-login", "ssh-keys", "remove", &file];
        let purpose = "take the cluster's key out of your OS Login profile";
        self.run(&Call::change(purpose, &arguments)).await.map(drop)
    }

    /// Whether an API, such as `iap.googleapis.com`, is enabled in the project.
    ///
    /// # Errors
    /// The account may not know, or Google does not answer.
    pub async fn is_enabled(&self, api: &str) -> Result<bool> {
        let filter = format!("--filter=config.name={api}");
        let arguments = ["services", "list", "--enabled", &filter, "--format=json"];
        let purpose = format!("see whether {api} is enabled");
        let json = self.run(&Call::question(&purpose, &arguments)).await?;
        parsed::<Vec<serde_json::Value>>(&json).map(|found| !found.is_empty())
    }

    /// Whether Terraform will find credentials. The token itself is thrown away.
    ///
    /// # Errors
    /// There are none, or they have expired.
    pub async fn check_default_credentials(&self) -> Result<()> {
        let arguments = ["auth", "application-default", "print-access-token"];
        let purpose = "use the application default credentials";
        self.run(&Call::question(purpose, &arguments))
            .await
            .map(drop)
    }
}

/// Machines and disks of exactly this cluster: `=` would also find demo-2 where demo is asked for.
fn label_filter(cluster: &str) -> String {
    format!("--filter=labels.{LABEL}~^{cluster}$")
}
