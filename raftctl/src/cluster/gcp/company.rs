//! What a company may want of the section `gcp`: its own network, keys, accounts and policies.

use std::collections::BTreeMap;

use super::{DISK_GB_MAX, SshVia, region_of};
use crate::cluster::reader::{self, Report, Section};
use crate::cluster::yaml::Kind;

/// What the machines are to fit in with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Company {
    /// SSH goes by OS Login, with the rights of whoever logs in, instead of by a key in the metadata.
    pub os_login: bool,
    /// A network that exists; absent: the cluster has one of its own.
    pub network: Option<String>,
    /// Subnetworks in it that exist.
    pub subnetwork: Option<Subnetwork>,
    /// The project of the network, where it is another one's (shared VPC).
    pub network_project: Option<String>,
    /// A key of Cloud KMS for all disks.
    pub kms_key: Option<String>,
    /// The account that programs on the machines act as; absent: none.
    pub service_account: Option<String>,
    /// The size of a boot disk, GB; absent: the module's default.
    pub boot_disk_gb: Option<u64>,
    /// Whether the machines boot signed software only; absent: the module's default.
    pub secure_boot: Option<bool>,
    /// Whether firewall rules are made; absent: the module's default.
    pub firewall_rules: Option<bool>,
}

/// The subnetworks that the machines are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subnetwork {
    /// One of this name in each region.
    Everywhere(String),
    /// One for each region that is named.
    ByRegion(BTreeMap<String, String>),
}

impl Subnetwork {
    /// The one of a region.
    #[must_use]
    pub fn of(&self, region: &str) -> Option<&str> {
        match self {
            Subnetwork::Everywhere(name) => Some(name),
            Subnetwork::ByRegion(names) => names.get(region).map(String::as_str),
        }
    }
}

/// Every key of this part.
pub const KEYS: [&str; 9] = [
    "os_login",
    "network",
    "subnetwork",
    "network_project",
    "kms_key",
    "service_account",
    "boot_disk_gb",
    "secure_boot",
    "firewall_rules",
];

const SUBNETWORK_HINT: &str =
    "write gcp.subnetwork: my-subnet, or {us-central1: my-subnet, europe-west1: another}";

impl Company {
    /// Reads this part of the section.
    pub fn read(section: &Section<'_>, report: &mut Report<'_>) -> Self {
        let company = Company {
            os_login: section.boolean("os_login", report).unwrap_or(false),
            network: plain_name(section, "network", report),
            subnetwork: subnetwork(section, report),
            network_project: plain_name(section, "network_project", report),
            kms_key: kms_key(section, report),
            service_account: service_account(section, report),
            boot_disk_gb: section.integer("boot_disk_gb", 10..=DISK_GB_MAX, report),
            secure_boot: section.boolean("secure_boot", report),
            firewall_rules: section.boolean("firewall_rules", report),
        };
        company.check_network(section, report);
        company
    }

    fn check_network(&self, section: &Section<'_>, report: &mut Report<'_>) {
        let mut missing = |key: &str, needs: &str, hint: &str| {
            let message = format!("gcp.{key} needs gcp.{needs}");
            report.problem(section.line_of(key), message, hint);
        };
        // In a network of this project subnetworks are made; in another project's they have to be there.
        if self.network_project.is_some() && self.network.is_some() && self.subnetwork.is_none() {
            missing("network_project", "subnetwork", SUBNETWORK_HINT);
        }
        if self.network.is_none() {
            let hint = "write gcp.network: NAME, or leave both out: the cluster then has a network of its own";
            if self.subnetwork.is_some() {
                missing("subnetwork", "network", hint);
            }
            if self.network_project.is_some() {
                missing("network_project", "network", hint);
            }
            if self.firewall_rules == Some(false) {
                missing(
                    "firewall_rules: false",
                    "network",
                    "a network of the cluster's own is closed without rules",
                );
            }
        }
    }

    /// What needs the rest of the file: the regions that nodes are in, the line of the section, whom
    /// SSH is to log in as.
    pub(in crate::cluster) fn check(
        &self,
        regions: &[&str],
        user: Option<&str>,
        line: u64,
        report: &mut Report<'_>,
    ) {
        if let Some(subnetwork) = &self.subnetwork {
            for region in regions
                .iter()
                .filter(|region| subnetwork.of(region).is_none())
            {
                let message = format!("gcp.subnetwork names none in {region}, where nodes are");
                report.problem(line, message, SUBNETWORK_HINT);
            }
        }
        if let (true, Some(user)) = (self.os_login, user) {
            let message = format!(
                "ssh.user is {user:?}, and with gcp.os_login Google decides whom one logs in as"
            );
            report.problem(line, message, "leave ssh.user out, or os_login");
        }
        let location = self
            .kms_key
            .as_deref()
            .and_then(|key| key.split('/').nth(3));
        if let Some(location) = location.filter(|location| *location != "global") {
            for region in regions.iter().filter(|region| **region != location) {
                let message = format!("gcp.kms_key is in {location}, and nodes are in {region}");
                let hint = "a disk takes a key of its own region, or a global one";
                report.problem(line, message, hint);
            }
        }
    }
}

/// A name as Compute Engine has them, not a path.
fn plain_name(section: &Section<'_>, key: &str, report: &mut Report<'_>) -> Option<String> {
    let name = section.text(key, report)?;
    if is_name(&name) {
        return Some(name);
    }
    let message = format!("{} is {name:?}", section.name_of(key));
    let hint = match key {
        "network_project" => "write the project's id alone, such as my-host-project",
        _ => {
            "write the name alone, such as my-network; the project that it is in is gcp.network_project"
        }
    };
    report.problem(section.line_of(key), message, hint);
    None
}

fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(is_plain)
}

fn subnetwork(section: &Section<'_>, report: &mut Report<'_>) -> Option<Subnetwork> {
    let value = section.value("subnetwork")?;
    let Kind::Map(entries) = &value.kind else {
        return plain_name(section, "subnetwork", report).map(Subnetwork::Everywhere);
    };
    let mut names = BTreeMap::new();
    for (region, value) in entries {
        let Some(name) = reader::text(value, &format!("gcp.subnetwork.{}", region.name), report)
        else {
            continue;
        };
        // A region is what makes a zone with a letter.
        let is_region = region_of(&format!("{}-a", region.name)).is_some();
        if !is_region || !is_name(&name) {
            let message = format!("gcp.subnetwork holds {}: {name}", region.name);
            report.problem(region.line, message, SUBNETWORK_HINT);
        }
        names.insert(region.name.clone(), name);
    }
    Some(Subnetwork::ByRegion(names))
}

fn kms_key(section: &Section<'_>, report: &mut Report<'_>) -> Option<String> {
    let key = section.text("kms_key", report)?;
    let parts: Vec<&str> = key.split('/').collect();
    if let [
        "projects",
        _,
        "locations",
        _,
        "keyRings",
        _,
        "cryptoKeys",
        _,
    ] = parts.as_slice()
        && parts.iter().all(|part| !part.is_empty())
    {
        return Some(key);
    }
    let message = format!("gcp.kms_key is {key:?}");
    let hint = "write the full path, without a version: projects/P/locations/L/keyRings/R/cryptoKeys/K; `gcloud kms \
                keys list --location=L --keyring=R` shows it";
    report.problem(section.line_of("kms_key"), message, hint);
    None
}

fn service_account(section: &Section<'_>, report: &mut Report<'_>) -> Option<String> {
    let account = section.text("service_account", report)?;
    let is_right = account
        .split_once('@')
        .is_some_and(|(name, at)| !name.is_empty() && at.ends_with("gserviceaccount.com"));
    if is_right {
        return Some(account);
    }
    let message = format!("gcp.service_account is {account:?}");
    let hint = "write its address, such as raft@my-project.iam.gserviceaccount.com; `gcloud iam service-accounts list` \
                shows them";
    report.problem(section.line_of("service_account"), message, hint);
    None
}

/// Whether SSH can come in at all where nobody makes firewall rules is the operator's to know; what is
/// needed is said.
#[must_use]
pub fn rules_needed(via: SshVia, peer_port: u16) -> String {
    let ssh = match via {
        SshVia::Iap => "35.235.240.0/20 (Identity-Aware Proxy)",
        SshVia::External => "gcp.operator_cidrs",
    };
    format!("tcp:22 from {ssh}, tcp:{peer_port} and icmp between the machines")
}
