//! What gcloud prints, read. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::{LABEL, Labelled, MachineState, Quota, Region, ZoneAndName};
use crate::error::{Error, Result};

#[derive(Deserialize)]
pub(super) struct Quotas {
    #[serde(default)]
    pub(super) quotas: Vec<Quota>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(flatten)]
    named: Named,
    status: String,
    #[serde(default, rename = "machineType")]
    machine_type: String,
    #[serde(default, rename = "networkInterfaces")]
    network_interfaces: Vec<Interface>,
    #[serde(default, rename = "resourceStatus")]
    resource_status: Status,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
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

#[derive(Deserialize)]
struct RegionShown {
    name: String,
    #[serde(default)]
    quotas: Vec<Quota>,
    #[serde(default)]
    zones: Vec<String>,
}

/// Any of gcloud's answers.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json)
        .map_err(|error| Error::Other(format!("cannot read what gcloud answered: {error}")))
}

/// The machines of exactly this cluster, by zone and name: a filter is gcloud's, and its meaning has changed
/// before.
pub(super) fn machines(json: &str, cluster: &str) -> Result<BTreeMap<ZoneAndName, MachineState>> {
    let instances: Vec<Instance> = parsed(json)?;
    let own = instances
        .into_iter()
        .filter(|instance| is_of(&instance.named, cluster));
    let state = |instance: Instance| {
        let access = instance.network_interfaces.first();
        let access = access.and_then(|interface| interface.access_configs.first());
        let ends_at = instance.resource_status.scheduling.termination_timestamp;
        let state = MachineState {
            ends_at: ends_at.as_deref().and_then(time),
            external_ip: access
                .and_then(|access| access.nat_ip.clone())
                .filter(|address| !address.is_empty()),
            machine_type: last_part(&instance.machine_type).to_owned(),
            status: instance.status,
        };
        let zone = last_part(&instance.named.zone).to_owned();
        ((zone, instance.named.name), state)
    };
    Ok(own.map(state).collect())
}

/// What of a list wears exactly this cluster's label.
pub(super) fn labelled(json: &str, kind: &'static str, cluster: &str) -> Result<Vec<Labelled>> {
    let found: Vec<Named> = parsed(json)?;
    let own = found.into_iter().filter(|named| is_of(named, cluster));
    let labelled = own.map(|named| Labelled {
        kind,
        zone: last_part(&named.zone).to_owned(),
        name: named.name,
    });
    Ok(labelled.collect())
}

fn is_of(named: &Named, cluster: &str) -> bool {
    named
        .labels
        .get(LABEL)
        .is_some_and(|label| label == cluster)
}

/// The names in a list.
pub(super) fn names(json: &str) -> Result<Vec<String>> {
    let found: Vec<Named> = parsed(json)?;
    Ok(found.into_iter().map(|named| named.name).collect())
}

/// The zones in a list of things of which each may be in several, where they have this very name.
pub(super) fn zones_of(json: &str, name: &str) -> Result<Vec<String>> {
    let found: Vec<Named> = parsed(json)?;
    let fitting = found.into_iter().filter(|named| named.name == name);
    Ok(fitting
        .map(|named| last_part(&named.zone).to_owned())
        .collect())
}

/// Every region with its zones and quotas.
pub(super) fn regions(json: &str) -> Result<BTreeMap<String, Region>> {
    let shown: Vec<RegionShown> = parsed(json)?;
    let region = |shown: RegionShown| {
        let zones = shown.zones.iter().map(|zone| last_part(zone).to_owned());
        let region = Region {
            zones: zones.collect(),
            quotas: shown.quotas,
        };
        (shown.name, region)
    };
    Ok(shown.into_iter().map(region).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Added {
    login_profile: Profile,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    posix_accounts: Vec<Posix>,
}

#[derive(Deserialize)]
struct Posix {
    username: String,
    #[serde(default)]
    primary: bool,
}

/// Whom an OS Login profile logs in as: its primary account.
pub(super) fn login_name(json: &str) -> Result<String> {
    let accounts = parsed::<Added>(json)?.login_profile.posix_accounts;
    let primary = accounts.iter().find(|account| account.primary);
    let account = primary.or(accounts.first());
    account.map(|account| account.username.clone()).ok_or_else(|| {
        Error::Cloud(
            "your OS Login profile has no POSIX account, so nobody can log in by it; `gcloud compute os-login \
             describe-profile` shows it, and whoever administers the organization's users can add one"
                .into(),
        )
    })
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

    // What gcloud lists is read, with and without an end and an external address; machines of a cluster
    // whose name begins in the same way are no machines of this one.
    #[test]
    fn a_list_is_read() {
        let json = r#"[{"name":"raft-demo-n1","status":"RUNNING","labels":{"raft-cluster":"demo"},
            "zone":"https://www.googleapis.com/compute/v1/projects/p/zones/us-central1-a",
            "machineType":"https://www.googleapis.com/compute/v1/projects/p/zones/z/machineTypes/e2-small",
            "networkInterfaces":[{"accessConfigs":[{"natIP":"203.0.113.9"}]}],
            "resourceStatus":{"scheduling":{"terminationTimestamp":"2026-11-21T12:00:00Z"}}},
            {"name":"raft-demo-n1","status":"TERMINATED","labels":{"raft-cluster":"demo"},"zone":"zones/us-east1-b"},
            {"name":"raft-demo-n2","status":"TERMINATED","labels":{"raft-cluster":"demo"},"networkInterfaces":[{}],
            "resourceStatus":{}},
            {"name":"raft-demo-2-n1","status":"RUNNING","labels":{"raft-cluster":"demo-2"}},
            {"name":"somebody-s","status":"RUNNING"}]"#;
        let machines = machines(json, "demo").unwrap();
        let at = |zone: &str, name: &str| (zone.to_owned(), name.to_owned());
        assert_eq!(machines.len(), 3);
        // The same name in another zone is another machine.
        assert!(!machines[&at("us-east1-b", "raft-demo-n1")].is_on());
        let one = &machines[&at("us-central1-a", "raft-demo-n1")];
        assert_eq!(one.ends_at, time("2026-11-21T12:00:00Z"));
        assert_eq!(one.external_ip.as_deref(), Some("203.0.113.9"));
        assert_eq!(one.machine_type, "e2-small");
        assert_eq!(machines[&at("", "raft-demo-n2")].external_ip, None);
        let others = labelled(json, "instances", "demo-2").unwrap();
        assert_eq!(others.len(), 1, "{others:?}");
    }

    // Regions tell their zones by links.
    #[test]
    fn regions_have_zones() {
        let json = r#"[{"name":"us-east1","quotas":[{"metric":"CPUS","limit":8.0,"usage":0.0}],
            "zones":["https://www.googleapis.com/compute/v1/projects/p/zones/us-east1-b"]}]"#;
        let regions = regions(json).unwrap();
        assert!(regions["us-east1"].zones.contains("us-east1-b"));
        assert_eq!(regions["us-east1"].quotas.len(), 1);
    }
}
