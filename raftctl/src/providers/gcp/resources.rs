//! What stands at Google under a cluster's names, and whose it is. Pure.
//!
//! Terraform's state can lack what Google has: whatever ends a question of its provider in the middle
//! makes it let go of what is being made. So everything that raftctl has made bears the mark of its
//! cluster's SSH key, and can be found again; what bears another mark, or none, is somebody else's and
//! is left alone.

use std::collections::BTreeSet;

use base64::Engine;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cluster::gcp::GcpSettings;
use crate::error::{Error, Result};
use crate::text::hex::hex;

/// What the module makes, in the order in which it can be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A machine.
    Machine,
    /// A data disk.
    Disk,
    /// An internal address.
    Address,
    /// A firewall rule.
    Rule,
    /// A subnet.
    Subnet,
    /// A network.
    Network,
}

impl Kind {
    /// All of them, each before what it needs.
    pub const ALL: [Kind; 6] = [
        Kind::Machine,
        Kind::Disk,
        Kind::Address,
        Kind::Rule,
        Kind::Subnet,
        Kind::Network,
    ];

    /// Those that a cluster with these settings is made of.
    #[must_use]
    pub fn of_settings(settings: &GcpSettings) -> BTreeSet<Kind> {
        let company = &settings.company;
        let is_made = |kind: &Kind| match kind {
            Kind::Machine | Kind::Disk | Kind::Address => true,
            Kind::Rule => company.firewall_rules != Some(false),
            Kind::Subnet => company.subnetwork.is_none(),
            Kind::Network => company.network.is_none(),
        };
        Kind::ALL.into_iter().filter(is_made).collect()
    }

    /// Its name in gcloud.
    #[must_use]
    pub fn gcloud(self) -> &'static [&'static str] {
        match self {
            Kind::Machine => &["compute", "instances"],
            Kind::Disk => &["compute", "disks"],
            Kind::Address => &["compute", "addresses"],
            Kind::Rule => &["compute", "firewall-rules"],
            Kind::Subnet => &["compute", "networks", "subnets"],
            Kind::Network => &["compute", "networks"],
        }
    }

    /// Its name in Google's paths.
    fn collection(self) -> &'static str {
        match self {
            Kind::Machine => "instances",
            Kind::Disk => "disks",
            Kind::Address => "addresses",
            Kind::Rule => "firewalls",
            Kind::Subnet => "subnetworks",
            Kind::Network => "networks",
        }
    }

    /// What Terraform calls it.
    fn resource_type(self) -> &'static str {
        match self {
            Kind::Machine => "google_compute_instance",
            Kind::Disk => "google_compute_disk",
            Kind::Address => "google_compute_address",
            Kind::Rule => "google_compute_firewall",
            Kind::Subnet => "google_compute_subnetwork",
            Kind::Network => "google_compute_network",
        }
    }

    /// In words.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Machine => "machine",
            Kind::Disk => "data disk",
            Kind::Address => "internal address",
            Kind::Rule => "firewall rule",
            Kind::Subnet => "subnet",
            Kind::Network => "network",
        }
    }

    /// The kind that Terraform calls so.
    #[must_use]
    pub fn of_type(resource_type: &str) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.resource_type() == resource_type)
    }
}

/// Where a resource is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// Everywhere.
    Global,
    /// In a region.
    Region(String),
    /// In a zone.
    Zone(String),
}

impl Location {
    /// The option that names it to gcloud.
    #[must_use]
    pub fn option(&self) -> Option<String> {
        match self {
            Location::Global => None,
            Location::Region(region) => Some(format!("--region={region}")),
            Location::Zone(zone) => Some(format!("--zone={zone}")),
        }
    }
}

/// One resource at Google.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoogleResource {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// Its path, which is its id in Terraform: `projects/P/zones/Z/instances/N`.
    pub id: String,
    /// The ranges that a firewall rule lets in.
    pub ranges: BTreeSet<String>,
    description: String,
    /// Labels `raft-cluster` and `raft-owner`.
    labels: [Option<String>; 2],
    /// The metadata item `ssh-keys` of a machine.
    keys: String,
}

impl GoogleResource {
    /// In words: `machine raft-demo-n3 (us-central1-a)`.
    #[must_use]
    pub fn describe(&self) -> String {
        let location = match &self.location {
            Location::Global => String::new(),
            Location::Region(location) | Location::Zone(location) => format!(" ({location})"),
        };
        format!("{} {}{location}", self.kind.noun(), self.name)
    }

    /// The cluster that it says it is of.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        let described = || {
            let words = self.description.strip_prefix("Raft cluster ")?;
            words.split(',').next()
        };
        self.labels[0].as_deref().or_else(described)
    }

    /// Whether it bears anybody's mark; what was made before there were any bears none.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.labels[1].is_some() || self.description.contains(", owner ")
    }

    /// The project that it is in.
    fn project(&self) -> &str {
        self.id.split('/').nth(1).unwrap_or_default()
    }

    /// The command that deletes it.
    #[must_use]
    pub fn deletion(&self) -> String {
        let project = self.project();
        let location = self
            .location
            .option()
            .map(|location| format!(" {location}"));
        format!(
            "gcloud {} delete {}{} --project={project}",
            self.kind.gcloud().join(" "),
            self.name,
            location.unwrap_or_default()
        )
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    self_link: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    labels: Value,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    source_ranges: BTreeSet<String>,
}

/// Reads what gcloud lists of one kind: what bears the cluster's name, or one that begins with it.
///
/// # Errors
/// It is no such list.
pub fn read(kind: Kind, json: &str, cluster: &str) -> Result<Vec<GoogleResource>> {
    let listed: Vec<Listed> = serde_json::from_str(json)
        .map_err(|error| Error::Other(format!("cannot read what gcloud answered: {error}")))?;
    let (own, prefix) = (format!("raft-{cluster}"), format!("raft-{cluster}-"));
    let named = listed
        .into_iter()
        .filter(|one| one.name == own || one.name.starts_with(&prefix));
    let resource = |one: Listed| {
        let at = one
            .self_link
            .find("projects/")
            .ok_or_else(|| Error::Other(format!("gcloud names no location of {}", one.name)))?;
        let id = one.self_link[at..].to_owned();
        let text = |value: &Value| value.as_str().map(String::from);
        let items = one.metadata["items"].as_array();
        let mut items = items.into_iter().flatten();
        let keys = items.find(|item| item["key"] == "ssh-keys");
        Ok(GoogleResource {
            kind,
            location: location(&id),
            labels: ["raft-cluster", "raft-owner"].map(|label| text(&one.labels[label])),
            keys: keys
                .and_then(|item| text(&item["value"]))
                .unwrap_or_default(),
            name: one.name,
            id,
            ranges: one.source_ranges,
            description: one.description,
        })
    };
    named.map(resource).collect()
}

/// The location in a path.
fn location(id: &str) -> Location {
    let parts: Vec<&str> = id.split('/').collect();
    match parts[..] {
        [_, _, "zones", zone, ..] => Location::Zone(zone.to_owned()),
        [_, _, "regions", region, ..] => Location::Region(region.to_owned()),
        _ => Location::Global,
    }
}

/// The path that a resource will have, from what Terraform is to make.
#[must_use]
pub fn planned_id(kind: Kind, after: &Value, project: &str) -> Option<String> {
    let text = |name: &str| after[name].as_str();
    let project = text("project").unwrap_or(project);
    let location = match kind {
        Kind::Machine | Kind::Disk => format!("zones/{}", text("zone")?),
        Kind::Address | Kind::Subnet => format!("regions/{}", text("region")?),
        Kind::Rule | Kind::Network => "global".to_owned(),
    };
    let (collection, name) = (kind.collection(), text("name")?);
    Some(format!("projects/{project}/{location}/{collection}/{name}"))
}

/// The mark of whoever has a key: what Google takes as a label. The comment of the key does not count.
#[must_use]
pub fn mark(public_key: &str) -> String {
    let digest = Sha256::digest(blob(public_key).as_bytes());
    hex(&digest[..16])
}

/// The key itself, as it is written.
fn blob(public_key: &str) -> &str {
    public_key.split_whitespace().nth(1).unwrap_or_default()
}

/// Who a cluster's resources belong to.
#[derive(Debug, Clone)]
pub struct Owner {
    cluster: String,
    mark: String,
    blob: String,
}

impl Owner {
    /// The owner of a cluster with this public key.
    #[must_use]
    pub fn of(cluster: &str, public_key: &str) -> Self {
        Owner {
            cluster: cluster.to_owned(),
            mark: mark(public_key),
            blob: blob(public_key).to_owned(),
        }
    }

    /// Whether a resource is this cluster's. A machine that bears no mark, from before there were any, is
    /// known by the key that it lets in.
    #[must_use]
    pub fn owns(&self, resource: &GoogleResource) -> bool {
        let [cluster, owner] = &resource.labels;
        if cluster
            .as_ref()
            .is_some_and(|cluster| *cluster != self.cluster)
        {
            return false;
        }
        let words = format!("Raft cluster {}, owner {}", self.cluster, self.mark);
        let is_marked = owner.as_ref() == Some(&self.mark) || resource.description == words;
        // An empty key would be in every text.
        let is_key = base64::engine::general_purpose::STANDARD
            .decode(&self.blob)
            .is_ok();
        let mut keys = resource.keys.split_whitespace();
        let lets_in = is_key && !self.blob.is_empty() && keys.any(|word| word == self.blob);
        is_marked || (!resource.is_marked() && lets_in)
    }

    /// The mark.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }
}

/// The text of a file that makes Terraform take resources in: (its address, its path at Google).
#[must_use]
pub fn imports(resources: &[(String, String)]) -> String {
    let block = |(address, id): &(String, String)| {
        // Quoted as JSON, which HCL reads alike for names without templates.
        let id = Value::from(id.as_str());
        format!("import {{\n  to = {address}\n  id = {id}\n}}\n")
    };
    resources.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ== raftctl-demo";
    const LINK: &str = "https://www.googleapis.com/compute/v1/projects/my-project";

    fn machine(more: &str) -> GoogleResource {
        let json = format!(
            r#"[{{"name":"raft-demo-n1","selfLink":"{LINK}/zones/us-central1-a/instances/raft-demo-n1"{more}}}]"#
        );
        read(Kind::Machine, &json, "demo").unwrap().remove(0)
    }

    // What gcloud lists is found by the cluster's exact name, and the path is what Terraform calls it.
    #[test]
    fn a_list_is_read() {
        let json = format!(
            r#"[{{"name":"raft-demo","selfLink":"{LINK}/global/networks/raft-demo"}},
                {{"name":"raft-demo2","selfLink":"{LINK}/global/networks/raft-demo2"}},
                {{"name":"my-raft-demo","selfLink":"{LINK}/global/networks/my-raft-demo"}}]"#
        );
        let networks = read(Kind::Network, &json, "demo").unwrap();
        assert_eq!(networks.len(), 1);
        assert_eq!(
            networks[0].id,
            "projects/my-project/global/networks/raft-demo"
        );
        assert_eq!(
            networks[0].deletion(),
            "gcloud compute networks delete raft-demo --project=my-project"
        );
        let machine = machine("");
        assert_eq!(machine.location, Location::Zone("us-central1-a".into()));
        assert_eq!(machine.describe(), "machine raft-demo-n1 (us-central1-a)");
        let after = serde_json::json!({"name": "raft-demo-n1", "zone": "us-central1-a"});
        assert_eq!(
            planned_id(Kind::Machine, &after, "my-project"),
            Some(machine.id)
        );
        assert!(read(Kind::Disk, "{}", "demo").is_err());
    }

    // Ours is what bears our mark, in whichever location there is for it, and a machine of older days that
    // lets our key in; nobody else's ever is.
    #[test]
    fn a_thing_is_known_by_its_mark() {
        let owner = Owner::of("demo", KEY);
        let mark = mark(KEY);
        assert_eq!(mark.len(), 32);
        let key = blob(KEY);
        let described = format!(r#","description":"Raft cluster demo, owner {mark}""#);
        let labelled = format!(r#","labels":{{"raft-cluster":"demo","raft-owner":"{mark}"}}"#);
        let keyed = format!(
            r#","metadata":{{"items":[{{"key":"ssh-keys","value":"raft:ssh-ed25519 {key} x"}}]}}"#
        );
        for ours in [&described, &labelled, &keyed] {
            assert!(owner.owns(&machine(ours)), "{ours}");
        }
        let others_mark = r#","description":"Raft cluster demo, owner 0123""#.to_owned();
        let foreign = [
            String::new(),
            others_mark.clone(),
            others_mark + &keyed,
            described.replace("demo,", "demo-2,"),
            labelled.replace(r#""raft-cluster":"demo""#, r#""raft-cluster":"demo-2""#),
            keyed.replace(key, "AAAA"),
        ];
        for foreign in &foreign {
            assert!(!owner.owns(&machine(foreign)), "{foreign}");
        }
        assert!(!Owner::of("demo", "").owns(&machine(&keyed)));
        let other_comment = KEY.replace("raftctl-demo", "ann@laptop");
        assert_eq!(super::mark(&other_comment), mark);
    }

    // What Terraform reads to take a machine in.
    #[test]
    fn a_machine_is_taken_in() {
        let machine = (
            r#"google_compute_instance.node["n3"]"#.to_owned(),
            "projects/p/zones/z/instances/raft-demo-n3".to_owned(),
        );
        assert_eq!(
            imports(&[machine]),
            "import {\n  to = google_compute_instance.node[\"n3\"]\n  id = \"projects/p/zones/z/instances/raft-demo-n3\"\n}\n"
        );
    }
}
