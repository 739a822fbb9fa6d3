//! What raftctl does with a machine itself: stop it, start it, give it a longer life, ask how it is.
//!
//! Through the gcloud command line, not the REST API directly: whoever uses Google Cloud has it (it
//! is how one gets credentials), it knows every kind of credential and refreshes them, and SSH
//! through Identity-Aware Proxy needs it anyway; the API would take a TLS stack and OAuth in this
//! program. The price is about a second a call. Terraform would do for stopping and starting, but
//! not for a longer life: Google's provider makes the machine anew for that.
//!
//! `CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE`, gcloud's own variable, leads to another endpoint.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::causes::{Cause, Names};
use super::machines::Machine;
use crate::error::{Error, Result};

/// A machine that does not react to the power button is cut off by Google after 90 s.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(300);

/// A question takes a second; the first one after an update of gcloud some more.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(60);

/// gcloud in one project.
#[derive(Debug, Clone)]
pub struct Gcloud {
    project: String,
}

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

#[derive(Deserialize)]
struct Quotas {
    #[serde(default)]
    quotas: Vec<Quota>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    name: String,
    status: String,
    #[serde(default)]
    machine_type: String,
    #[serde(default)]
    network_interfaces: Vec<Interface>,
    #[serde(default)]
    resource_status: Status,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    zone: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    #[serde(default)]
    access_configs: Vec<Access>,
}

#[derive(Deserialize)]
struct Access {
    #[serde(rename = "natIP")]
    nat_ip: Option<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    scheduling: Ending,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ending {
    termination_timestamp: Option<String>,
}

impl Gcloud {
    /// gcloud in `project`.
    #[must_use]
    pub fn new(project: &str) -> Self {
        Gcloud {
            project: project.to_owned(),
        }
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
        self.run(&purpose, &arguments, CHANGE_TIME_MAX)
            .await
            .map(drop)
    }

    /// Every machine of a cluster that exists, by its name at Google.
    ///
    /// # Errors
    /// Google refuses, or does not answer in time.
    pub async fn machines(&self, cluster: &str) -> Result<BTreeMap<String, MachineState>> {
        let filter = format!("--filter=labels.raft-cluster={cluster}");
        let arguments = ["compute", "instances", "list", &filter, "--format=json"];
        let json = self
            .run("list the machines", &arguments, QUESTION_TIME_MAX)
            .await?;
        let instances: Vec<Instance> = parsed(&json)?;
        Ok(instances
            .into_iter()
            .map(|instance| {
                let access = instance.network_interfaces.first();
                let access = access.and_then(|interface| interface.access_configs.first());
                let state = MachineState {
                    ends_at: instance
                        .resource_status
                        .scheduling
                        .termination_timestamp
                        .as_deref()
                        .and_then(time),
                    external_ip: access
                        .and_then(|access| access.nat_ip.clone())
                        .filter(|address| !address.is_empty()),
                    machine_type: last_part(&instance.machine_type).to_owned(),
                    status: instance.status,
                };
                (instance.name, state)
            })
            .collect())
    }

    /// The machines and disks of a cluster that exist.
    ///
    /// # Errors
    /// Google refuses, or does not answer in time.
    pub async fn labelled(&self, cluster: &str) -> Result<Vec<Labelled>> {
        let (machines, disks) = tokio::join!(
            self.labelled_of("instances", cluster),
            self.labelled_of("disks", cluster)
        );
        let mut found = machines?;
        found.extend(disks?);
        Ok(found)
    }

    async fn labelled_of(&self, kind: &'static str, cluster: &str) -> Result<Vec<Labelled>> {
        let filter = format!("--filter=labels.raft-cluster={cluster}");
        let arguments = ["compute", kind, "list", &filter, "--format=json"];
        let purpose = format!("list the {kind}");
        let json = self.run(&purpose, &arguments, QUESTION_TIME_MAX).await?;
        let found: Vec<Named> = parsed(&json)?;
        let found = found.into_iter().map(|named| Labelled {
            kind,
            zone: last_part(&named.zone).to_owned(),
            name: named.name,
        });
        Ok(found.collect())
    }

    /// The quotas of the project. Fails where credentials, project or API are not in order, too.
    ///
    /// # Errors
    /// As said.
    pub async fn project_quotas(&self) -> Result<Vec<Quota>> {
        let arguments = ["compute", "project-info", "describe", "--format=json"];
        let json = self
            .run("look at the project", &arguments, QUESTION_TIME_MAX)
            .await?;
        parsed::<Quotas>(&json).map(|quotas| quotas.quotas)
    }

    /// The quotas of a region.
    ///
    /// # Errors
    /// There is no such region, or Google does not answer.
    pub async fn region_quotas(&self, region: &str) -> Result<Vec<Quota>> {
        let arguments = ["compute", "regions", "describe", region, "--format=json"];
        let purpose = format!("look at region {region}");
        let json = self.run(&purpose, &arguments, QUESTION_TIME_MAX).await?;
        parsed::<Quotas>(&json).map(|quotas| quotas.quotas)
    }

    /// Whether an API, such as `iap.googleapis.com`, is enabled in the project.
    ///
    /// # Errors
    /// The account may not know, or Google does not answer.
    pub async fn is_enabled(&self, api: &str) -> Result<bool> {
        let filter = format!("--filter=config.name={api}");
        let arguments = ["services", "list", "--enabled", &filter, "--format=json"];
        let purpose = format!("see whether {api} is enabled");
        let json = self.run(&purpose, &arguments, QUESTION_TIME_MAX).await?;
        parsed::<Vec<serde_json::Value>>(&json).map(|found| !found.is_empty())
    }

    /// Whether Terraform will find credentials. The token itself is thrown away.
    ///
    /// # Errors
    /// There are none, or they have expired.
    pub async fn check_default_credentials(&self) -> Result<()> {
        let arguments = ["auth", "application-default", "print-access-token"];
        self.run(
            "use the application default credentials",
            &arguments,
            QUESTION_TIME_MAX,
        )
        .await
        .map(drop)
    }

    async fn run(&self, purpose: &str, arguments: &[&str], time_max: Duration) -> Result<String> {
        let mut command = tokio::process::Command::new("gcloud");
        command
            .args(arguments)
            .arg(format!("--project={}", self.project))
            .arg("--quiet")
            .env("CLOUDSDK_CORE_DISABLE_PROMPTS", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = match tokio::time::timeout(time_max, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Cloud(format!(
                    "cannot {purpose}: gcloud is not installed; get it at https://cloud.google.com/sdk/docs/install"
                )));
            }
            Ok(Err(error)) => {
                return Err(Error::Cloud(format!("cannot {purpose}: gcloud: {error}")));
            }
            Err(_) => {
                let seconds = time_max.as_secs();
                return Err(Error::Cloud(format!(
                    "cannot {purpose}: no answer from Google within {seconds} s; see \
                     https://status.cloud.google.com and run this again"
                )));
            }
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let cause = Cause::of(&String::from_utf8_lossy(&output.stderr));
        let names = Names {
            project: &self.project,
            // gcloud knows no state.
            terraform: "terraform",
            bucket: "",
        };
        let next = cause.next(&names);
        Err(Error::Cloud(format!("cannot {purpose}: {cause}\n  {next}")))
    }
}

fn parsed<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json)
        .map_err(|error| Error::Other(format!("cannot read what gcloud answered: {error}")))
}

/// What a link of Google's ends with: the name.
fn last_part(link: &str) -> &str {
    link.rsplit('/').next().unwrap_or(link)
}

/// A point in time as Google writes it: RFC 3339 with any offset.
fn time(text: &str) -> Option<SystemTime> {
    let (local, offset) = match text.strip_suffix('Z') {
        Some(local) => (local, "+00:00"),
        None => text.split_at_checked(text.len().checked_sub(6)?)?,
    };
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let minutes = hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?;
    let offset_time = Duration::from_secs(minutes * 60);
    match offset.as_bytes().first()? {
        b'+' => local.checked_sub(offset_time),
        b'-' => local.checked_add(offset_time),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Google writes times with the offset of its own zone.
    #[test]
    fn times_have_offsets() {
        let noon = time("2026-11-21T12:00:00Z").unwrap();
        assert_eq!(time("2026-11-21T04:00:00.000-08:00"), Some(noon));
        assert_eq!(time("2026-11-21T13:30:00+01:30"), Some(noon));
        for wrong in ["", "noon", "2026-11-21", "2026-11-21T12:00:00*08:00"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    // What gcloud lists is read, with and without an end and an external address.
    #[test]
    fn a_list_is_read() {
        let json = r#"[{"name":"raft-demo-n1","status":"RUNNING","networkInterfaces":[{"accessConfigs":[{"natIP":"203.0.113.9"}]}],
            "resourceStatus":{"scheduling":{"terminationTimestamp":"2026-11-21T12:00:00Z"}}},
            {"name":"raft-demo-n2","status":"TERMINATED","networkInterfaces":[{}],"resourceStatus":{}}]"#;
        let list: Vec<Instance> = parsed(json).unwrap();
        assert_eq!(
            list[0]
                .resource_status
                .scheduling
                .termination_timestamp
                .as_deref(),
            Some("2026-11-21T12:00:00Z")
        );
        assert_eq!(
            list[0].network_interfaces[0].access_configs[0]
                .nat_ip
                .as_deref(),
            Some("203.0.113.9")
        );
        assert_eq!(list[1].status, "TERMINATED");
        assert!(
            list[1]
                .resource_status
                .scheduling
                .termination_timestamp
                .is_none()
        );
    }
}
