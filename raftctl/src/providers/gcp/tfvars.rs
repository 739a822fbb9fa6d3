//! The variables of the module, as cluster.yaml and the allocation give them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::allocation::Allocation;
use super::leaving::{Kept, Part, Types};
use super::resources;
use crate::cluster::Cluster;
use crate::cluster::gcp::region_of;

/// The file that Terraform reads of itself.
pub const FILE: &str = "raftctl.auto.tfvars.json";

/// The account that the cluster's key logs in as, where cluster.yaml names none.
pub const SSH_USER: &str = "raft";

#[derive(Serialize)]
struct Node<'a> {
    id: u64,
    zone: &'a str,
    region: &'a str,
    start: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<&'a BTreeSet<Part>>,
}

/// Which machines there are to be.
pub struct Machines<'a> {
    /// Where each node is.
    pub allocation: &'a Allocation,
    /// The nodes whose machines are to be started where they are off, by their names.
    pub started: &'a BTreeSet<String>,
    /// What is kept of the nodes that leave.
    pub kept: &'a Kept,
    /// The types that their machines keep.
    pub types: &'a Types,
    /// Nothing but data disks.
    pub data_disks_only: bool,
}

#[derive(Serialize)]
struct Variables<'a> {
    project_id: &'a str,
    cluster: &'a str,
    regions: BTreeMap<&'a str, &'a str>,
    nodes: BTreeMap<&'a str, Node<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_disk_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_disk_gb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_disk_type: Option<&'a str>,
    ssh_user: &'a str,
    ssh_public_key: &'a str,
    owner: String,
    ssh_via: &'a str,
    operator_cidrs: &'a [String],
    client_cidrs: &'a [String],
    peer_port: u16,
    client_port: u16,
    lifetime_seconds: u64,
    spot: bool,
    labels: &'a BTreeMap<String, String>,
    data_disks_only: bool,
    #[serde(flatten)]
    company: CompanyVariables<'a>,
}

#[derive(Serialize)]
struct ServiceAccount<'a> {
    email: &'a str,
}

/// What is absent keeps the module's default.
#[derive(Serialize)]
struct CompanyVariables<'a> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    os_login: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subnetworks: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<ServiceAccount<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_disk_gb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_boot: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firewall_rules: Option<bool>,
}

fn company<'a>(cluster: &'a Cluster, regions: &BTreeMap<&'a str, &'a str>) -> CompanyVariables<'a> {
    let company = &cluster.gcp.company;
    let project = cluster.gcp.project.as_deref().unwrap_or_default();
    let host = company.network_project.as_deref().unwrap_or(project);
    let subnetworks = regions.keys().filter_map(|region| {
        let name = company.subnetwork.as_ref()?.of(region)?;
        let id = format!("projects/{host}/regions/{region}/subnetworks/{name}");
        Some((*region, id))
    });
    let network = company.network.as_ref();
    CompanyVariables {
        os_login: company.os_login,
        network: network.map(|name| format!("projects/{host}/global/networks/{name}")),
        subnetworks: subnetworks.collect(),
        network_project: company.network_project.as_deref(),
        kms_key: company.kms_key.as_deref(),
        service_account: company
            .service_account
            .as_deref()
            .map(|email| ServiceAccount { email }),
        boot_disk_gb: company.boot_disk_gb,
        secure_boot: company.secure_boot,
        firewall_rules: company.firewall_rules,
    }
}

/// The account that the cluster's key logs in as.
#[must_use]
pub fn ssh_user(cluster: &Cluster) -> &str {
    cluster.ssh.user.as_deref().unwrap_or(SSH_USER)
}

/// The machine type where cluster.yaml names none: the module's default.
const MACHINE_TYPE: &str = "e2-small";

/// The machine type of all nodes.
#[must_use]
pub fn machine_type(cluster: &Cluster) -> &str {
    cluster.gcp.machine_type.as_deref().unwrap_or(MACHINE_TYPE)
}

/// What the module gives a disk where cluster.yaml says nothing.
const DISK_TYPE: &str = "pd-balanced";
const DISK_GB: u64 = 10;

/// The type and size in GB of each disk of a machine: the one that it boots from, and the data's.
#[must_use]
pub fn disks(cluster: &Cluster) -> [(&str, u64); 2] {
    let settings = &cluster.gcp;
    [
        (
            settings.boot_disk_type.as_deref().unwrap_or(DISK_TYPE),
            settings.company.boot_disk_gb.unwrap_or(DISK_GB),
        ),
        (
            settings.data_disk_type.as_deref().unwrap_or(DISK_TYPE),
            settings.data_disk_gb.unwrap_or(DISK_GB),
        ),
    ]
}

/// The file's text.
#[must_use]
pub fn text(cluster: &Cluster, public_key: &str, machines: &Machines<'_>) -> String {
    let settings = &cluster.gcp;
    let allocation = machines.allocation;
    let nodes = allocation.placements().filter_map(|(id, placement)| {
        let parts = machines.kept.get(&placement.name);
        let node = Node {
            id,
            zone: &placement.zone,
            region: region_of(&placement.zone)?,
            start: machines.started.contains(&placement.name),
            machine_type: machines.types.get(&placement.name).map(String::as_str),
            parts,
        };
        let is_there = parts.is_none_or(|parts| !parts.is_empty());
        is_there.then_some((placement.name.as_str(), node))
    });
    let regions = allocation.used_regions();
    let variables = Variables {
        company: company(cluster, &regions),
        // Checked with the file: provider gcp has a project.
        project_id: settings.project.as_deref().unwrap_or_default(),
        cluster: &cluster.name,
        regions,
        nodes: nodes.collect(),
        machine_type: settings.machine_type.as_deref(),
        image: settings.image.as_deref(),
        boot_disk_type: settings.boot_disk_type.as_deref(),
        data_disk_gb: settings.data_disk_gb,
        data_disk_type: settings.data_disk_type.as_deref(),
        ssh_user: ssh_user(cluster),
        ssh_public_key: public_key.trim(),
        owner: resources::mark(public_key),
        ssh_via: settings.ssh_via().name(),
        operator_cidrs: &settings.operator_cidrs,
        client_cidrs: &settings.client_cidrs,
        peer_port: cluster.ports.peer,
        client_port: cluster.ports.client,
        lifetime_seconds: settings.lifetime.map_or(0, |lifetime| lifetime.as_secs()),
        spot: settings.spot,
        labels: &settings.labels,
        data_disks_only: machines.data_disks_only,
    };
    let text = serde_json::to_string_pretty(&variables);
    text.expect("plain text and numbers under text keys are always JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ raftctl-demo\n";

    fn golden(yaml: &str, expected: &str) {
        let cluster =
            crate::cluster::parse(yaml, "cluster.yaml", PathBuf::from("."), &|_| None).unwrap();
        let allocation = Allocation::default().extended(&cluster).unwrap();
        let started = BTreeSet::from(["n2".to_owned()]);
        let machines = Machines {
            allocation: &allocation,
            started: &started,
            kept: &Kept::new(),
            types: &Types::new(),
            data_disks_only: false,
        };
        let text = text(&cluster, KEY, &machines);
        assert_eq!(text, expected);
    }

    // What a whole cluster.yaml becomes, to the letter.
    #[test]
    fn a_full_file_becomes_these_variables() {
        golden(
            include_str!("testdata/full.yaml"),
            include_str!("testdata/full.tfvars.json"),
        );
    }

    // What a company's cluster.yaml becomes: its network and keys, and no range of raftctl's own making
    // matters.
    #[test]
    fn a_company_s_file_becomes_these_variables() {
        golden(
            include_str!("testdata/company.yaml"),
            include_str!("testdata/company.tfvars.json"),
        );
    }

    // Of a node that leaves what is kept is told, with the type of its machine, and of one with nothing left nothing; all
    // others have all.
    #[test]
    fn who_leaves_has_what_is_kept() {
        let cluster = |nodes: &str| {
            let yaml = include_str!("testdata/short.yaml").replace("nodes: 1", nodes);
            crate::cluster::parse(&yaml, "x", ".".into(), &|_| None).unwrap()
        };
        let before = Allocation::default().extended(&cluster("nodes: 3"));
        let allocation = before.unwrap().extended(&cluster("nodes: 1")).unwrap();
        assert_eq!(allocation.leaving.len(), 2);
        let kept = Kept::from([
            ("n2".to_owned(), BTreeSet::new()),
            ("n3".to_owned(), [Part::Address, Part::Disk].into()),
        ]);
        let types = Types::from([("n3".to_owned(), "e2-micro".to_owned())]);
        let machines = Machines {
            allocation: &allocation,
            started: &BTreeSet::new(),
            kept: &kept,
            types: &types,
            data_disks_only: false,
        };
        let text = text(&cluster("nodes: 1"), KEY, &machines);
        let variables: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nodes = &variables["nodes"];
        assert!(nodes["n1"]["parts"].is_null() && nodes["n2"].is_null());
        assert_eq!(nodes["n3"]["parts"], serde_json::json!(["address", "disk"]));
        assert_eq!(nodes["n3"]["machine_type"], "e2-micro");
        assert!(nodes["n1"]["machine_type"].is_null());
    }

    // What the shortest cluster.yaml becomes: the module's own defaults hold, and nothing is open.
    #[test]
    fn the_shortest_file_becomes_these_variables() {
        golden(
            include_str!("testdata/short.yaml"),
            include_str!("testdata/short.tfvars.json"),
        );
    }
}
