//! The section `gcp`: hosts as instances of Google Compute Engine.

pub mod company;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::nodes::Node;
use super::reader::{self, Report, Section};
use super::timing::Timing;
use super::yaml::{Kind, Value};
use company::Company;

/// How instances are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcpSettings {
    /// The project that pays.
    pub project: Option<String>,
    /// Zones to spread the nodes over, in turn.
    pub zones: Vec<String>,
    /// The machine type; absent: the module's default.
    pub machine_type: Option<String>,
    /// The boot image by its full path; absent: the module's default.
    pub image: Option<String>,
    /// The type of a boot disk; absent: the module's default.
    pub boot_disk_type: Option<String>,
    /// How SSH gets there; absent: straight where [`Self::operator_cidrs`] says from where, else
    /// through Identity-Aware Proxy, which needs no opening.
    pub ssh_via: Option<SshVia>,
    /// Ranges that may open SSH.
    pub operator_cidrs: Vec<String>,
    /// Ranges that may reach the client port.
    pub client_cidrs: Vec<String>,
    /// The size of a data disk, GB; absent: the module's default.
    pub data_disk_gb: Option<u64>,
    /// The type of a data disk; absent: the module's default.
    pub data_disk_type: Option<String>,
    /// After this long the instances delete themselves; absent: never.
    pub lifetime: Option<Duration>,
    /// Spot machines.
    pub spot: bool,
    /// Labels on everything that takes them.
    pub labels: BTreeMap<String, String>,
    /// The bucket that keeps Terraform's state; absent: a file beside the module.
    pub state_bucket: Option<String>,
    /// What a company may want.
    pub company: Company,
}

/// How SSH reaches an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshVia {
    /// By its external address.
    External,
    /// Through Identity-Aware Proxy.
    Iap,
}

impl SshVia {
    /// Every name, as written in cluster.yaml.
    pub const NAMES: &[&str] = &["external", "iap"];

    /// The name, as written in cluster.yaml.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SshVia::External => "external",
            SshVia::Iap => "iap",
        }
    }
}

const KEYS: &[&str] = &[
    "project",
    "zones",
    "machine_type",
    "image",
    "boot_disk_type",
    "ssh_via",
    "operator_cidrs",
    "client_cidrs",
    "data_disk_gb",
    "data_disk_type",
    "lifetime",
    "spot",
    "labels",
    "state_bucket",
];

/// Every key of the section.
fn keys() -> Vec<&'static str> {
    KEYS.iter().chain(&company::KEYS).copied().collect()
}

/// How long machines may live: at least what it takes to make them, at most Compute Engine's own bound.
pub const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(120 * 24 * 3600);
const DISK_GB_MAX: u64 = 65_536; // Compute Engine's own bound

impl GcpSettings {
    /// Reads the section.
    pub fn read(value: &Value, report: &mut Report<'_>) -> Self {
        let Some(section) = Section::open(value, "gcp.", &keys(), report) else {
            return GcpSettings::default();
        };
        let ssh_via = section.choice("ssh_via", SshVia::NAMES, report);
        GcpSettings {
            project: section.text("project", report),
            zones: zones(&section, report),
            machine_type: section.text("machine_type", report),
            image: image(&section, report),
            boot_disk_type: section.text("boot_disk_type", report),
            ssh_via: ssh_via.map(|name| match name.as_str() {
                "iap" => SshVia::Iap,
                _ => SshVia::External,
            }),
            operator_cidrs: ranges(&section, "operator_cidrs", report),
            client_cidrs: ranges(&section, "client_cidrs", report),
            data_disk_gb: section.integer("data_disk_gb", 10..=DISK_GB_MAX, report),
            data_disk_type: section.text("data_disk_type", report),
            lifetime: section.duration("lifetime", LIFETIMES, report),
            spot: section.boolean("spot", report).unwrap_or(false),
            labels: labels(&section, report),
            state_bucket: section.text("state_bucket", report),
            company: Company::read(&section, report),
        }
    }

    /// What only matters when the provider is `gcp`, and needs the rest of the file.
    pub(super) fn check(
        &self,
        nodes: &[Node],
        timing: &Timing,
        user: Option<&str>,
        line: u64,
        report: &mut Report<'_>,
    ) {
        if self.project.is_none() {
            let hint = "write gcp: {project: my-project-id}; `gcloud projects list` shows them";
            report.problem(line, "provider gcp needs a project", hint);
        }
        let homeless: Vec<_> = nodes.iter().filter(|node| node.zone.is_none()).collect();
        if let (true, Some(node)) = (self.zones.is_empty(), homeless.first()) {
            let message = format!("node {} has no zone", node.id);
            let hint =
                "write gcp: {zones: [us-central1-a, us-central1-b]}, or zone: for every node";
            report.problem(line, message, hint);
        }
        for node in nodes {
            if let Some(zone) = node
                .zone
                .as_deref()
                .filter(|zone| region_of(zone).is_none())
            {
                let message = format!("node {} has the zone {zone:?}", node.id);
                report.problem(line, message, ZONE_HINT);
            }
        }
        if self.ssh_via == Some(SshVia::External) && self.operator_cidrs.is_empty() {
            let hint = "write gcp.operator_cidrs: [YOUR.ADDRESS/32], or ssh_via: iap";
            report.problem(
                line,
                "with ssh_via: external, nobody is named who may open SSH",
                hint,
            );
        }
        let regions = self.regions(nodes);
        self.company.check(&regions, user, line, report);
        if regions.len() > 1 && timing.election_timeout_min_ms < Timing::WAN.election_timeout_min_ms
        {
            let message = format!("the nodes are in {} regions", regions.len());
            report.warning(
                line,
                message,
                "write timing: wan, or elections may come from mere distance",
            );
        }
    }

    /// How SSH gets there, decided.
    #[must_use]
    pub fn ssh_via(&self) -> SshVia {
        self.ssh_via.unwrap_or(if self.operator_cidrs.is_empty() {
            SshVia::Iap
        } else {
            SshVia::External
        })
    }

    /// Every region that a node can come to be in, without repetition.
    fn regions<'a>(&'a self, nodes: &'a [Node]) -> Vec<&'a str> {
        // The first zones are dealt first.
        let homeless = nodes.iter().filter(|node| node.zone.is_none()).count();
        let dealt = self.zones.iter().take(homeless);
        let named = nodes.iter().filter_map(|node| node.zone.as_ref());
        let mut regions: Vec<_> = dealt
            .chain(named)
            .filter_map(|zone| region_of(zone))
            .collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }
}

const ZONE_HINT: &str = "a zone looks like us-central1-a; `gcloud compute zones list` shows them";

/// The region that a zone lies in: `us-central1` for `us-central1-a`; `None` for what is no zone.
#[must_use]
pub fn region_of(zone: &str) -> Option<&str> {
    let (region, letter) = zone.rsplit_once('-')?;
    let is_letter = letter.len() == 1 && letter.chars().all(|c| c.is_ascii_lowercase());
    let is_region = region.contains('-')
        && region.starts_with(|c: char| c.is_ascii_lowercase())
        && region.ends_with(|c: char| c.is_ascii_digit())
        && region
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (is_letter && is_region).then_some(region)
}

fn zones(section: &Section<'_>, report: &mut Report<'_>) -> Vec<String> {
    let zones = section.texts("zones", report).unwrap_or_default();
    for zone in zones.iter().filter(|zone| region_of(zone).is_none()) {
        let message = format!("gcp.zones holds {zone:?}");
        report.problem(section.line_of("zones"), message, ZONE_HINT);
    }
    zones
}

fn image(section: &Section<'_>, report: &mut Report<'_>) -> Option<String> {
    let image = section.text("image", report)?;
    if !image.starts_with("projects/") {
        let message = format!("gcp.image is {image:?}");
        let hint =
            "write the full path, as in projects/debian-cloud/global/images/family/debian-12";
        report.problem(section.line_of("image"), message, hint);
        return None;
    }
    Some(image)
}

/// A list of IPv4 ranges in CIDR notation.
fn ranges(section: &Section<'_>, key: &str, report: &mut Report<'_>) -> Vec<String> {
    let ranges = section.texts(key, report).unwrap_or_default();
    for range in &ranges {
        let Some((address, length)) = range_of(range) else {
            let message = format!("{} holds {range:?}", section.name_of(key));
            let hint = "write a range such as 198.51.100.7/32; /32 is that address alone";
            report.problem(section.line_of(key), message, hint);
            continue;
        };
        let first = first_of(address, length);
        if first != address {
            // Google takes no such range, or another one than was meant.
            let message = format!(
                "{} holds {range:?}, which names an address within a range",
                section.name_of(key)
            );
            let hint = format!(
                "write {first}/{length} for the whole range, or {address}/32 for that address alone"
            );
            report.problem(section.line_of(key), message, &hint);
        } else if range.ends_with("/0") {
            let message = format!(
                "{} opens the port to the whole internet",
                section.name_of(key)
            );
            report.warning(
                section.line_of(key),
                message,
                "name the ranges that need it",
            );
        }
    }
    ranges
}

/// An IPv4 range: an address, and how many of its bits count.
fn range_of(range: &str) -> Option<(Ipv4Addr, u32)> {
    let (address, length) = range.split_once('/')?;
    let length = length.parse().ok().filter(|length| *length <= 32)?;
    Some((address.parse().ok()?, length))
}

/// The first address of the range that an address is in.
fn first_of(address: Ipv4Addr, length: u32) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn labels(section: &Section<'_>, report: &mut Report<'_>) -> BTreeMap<String, String> {
    let Some(value) = section.value("labels") else {
        return BTreeMap::new();
    };
    let Kind::Map(entries) = &value.kind else {
        let message = format!("gcp.labels is {}, not a mapping", value.describe());
        report.problem(value.line, message, "write labels: {team: storage}");
        return BTreeMap::new();
    };
    let mut labels = BTreeMap::new();
    for (key, value) in entries {
        let Some(text) = reader::text(value, &format!("gcp.labels.{}", key.name), report) else {
            continue;
        };
        let fits = |text: &str| {
            text.len() <= 63
                && text
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
        };
        let starts_right = key.name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_right || !fits(&key.name) || !fits(&text) {
            let message = format!("the label {}: {text} is none that Google takes", key.name);
            let hint = "at most 63 of a-z, 0-9, - and _; the name begins with a letter";
            report.problem(key.line, message, hint);
        }
        labels.insert(key.name.clone(), text);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, parse};
    use std::path::PathBuf;

    fn read(gcp: &str) -> Result<Cluster, String> {
        let text = format!("name: demo\nprovider: gcp\nnodes: 3\n{gcp}\n");
        parse(&text, "cluster.yaml", PathBuf::from("."), &|_| None)
            .map_err(|problems| problems.to_string())
    }

    // The shortest section that works: a project and zones. Nothing is opened to anybody.
    #[test]
    fn the_shortest_section_opens_nothing() {
        let cluster = read("gcp: {project: my-project, zones: [us-central1-a]}").unwrap();
        assert_eq!(cluster.gcp.ssh_via(), SshVia::Iap);
        assert!(cluster.gcp.client_cidrs.is_empty());
    }

    // All that is wrong is said at once.
    #[test]
    fn everything_wrong_is_said_at_once() {
        let text = read(
            "gcp:\n  zones: [us-central1]\n  ssh_via: external\n  client_cidrs: [10.0.0.0]\n  image: debian\n  labels: {Team: x}",
        )
        .unwrap_err();
        for words in [
            "needs a project",
            "gcp.zones holds \"us-central1\"",
            "nobody is named",
            "client_cidrs holds \"10.0.0.0\"",
            "gcp.image is \"debian\"",
            "the label Team: x",
        ] {
            assert!(text.contains(words), "{words} is missing in:\n{text}");
        }
    }

    // A range begins where its bits end: an address within it is told with the range that is meant.
    #[test]
    fn a_range_has_no_host_bits() {
        let with = |range: &str| {
            read(&format!(
                "gcp: {{project: my-project, zones: [us-central1-a], client_cidrs: [{range}]}}"
            ))
        };
        for (range, right) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("198.51.100.7/0", "0.0.0.0/0"),
            ("198.51.100.7/31", "198.51.100.6/31"),
        ] {
            let text = with(range).unwrap_err();
            assert!(text.contains(&format!("write {right} ")), "{text}");
        }
        for range in ["10.0.0.0/8", "198.51.100.7/32", "0.0.0.0/0"] {
            with(range).unwrap();
        }
    }

    // A node without a home is named.
    #[test]
    fn nodes_need_zones() {
        let text = read("gcp: {project: my-project}").unwrap_err();
        assert!(text.contains("node 1 has no zone"), "{text}");
    }

    // Elections time out by mere distance between regions: the operator is told of `timing: wan`.
    #[test]
    fn several_regions_suggest_wan_timing() {
        let two = "gcp: {project: my-project, zones: [us-central1-a, europe-west1-b]}";
        let cluster = read(two).unwrap();
        assert!(
            cluster.warnings.to_string().contains("timing: wan"),
            "{}",
            cluster.warnings
        );
        let wide = read(&format!("timing: wan\n{two}")).unwrap();
        assert!(wide.warnings.list.is_empty(), "{}", wide.warnings);
        let one =
            read("gcp: {project: my-project, zones: [us-central1-a, us-central1-b]}").unwrap();
        assert!(one.warnings.list.is_empty(), "{}", one.warnings);
    }

    // A company's settings are read, and each that can't be right is told with what to write instead.
    #[test]
    fn a_company_s_settings_are_checked() {
        let full = "gcp:\n  project: my-project\n  zones: [us-central1-a]\n  os_login: true\n  network: corp\n  \
                    subnetwork: {us-central1: raft}\n  network_project: corp-net\n  \
                    kms_key: projects/p/locations/us-central1/keyRings/r/cryptoKeys/k\n  \
                    service_account: raft@my-project.iam.gserviceaccount.com\n  boot_disk_gb: 20\n  \
                    secure_boot: false\n  firewall_rules: false";
        let company = read(full).unwrap().gcp.company;
        assert!(company.os_login);
        let subnetwork = company.subnetwork.unwrap();
        assert_eq!(
            (subnetwork.of("us-central1"), subnetwork.of("us-east1")),
            (Some("raft"), None)
        );
        let wrong = |change: (&str, &str), words: &str| {
            let text = read(&full.replace(change.0, change.1)).unwrap_err();
            assert!(text.contains(words), "{words} is missing in:\n{text}");
        };
        wrong(
            ("network: corp\n", "network: projects/x/global/networks/y\n"),
            "gcp.network is",
        );
        wrong(
            ("  network: corp\n", ""),
            "gcp.subnetwork needs gcp.network",
        );
        wrong(
            ("subnetwork: {us-central1: raft}", "boot_disk_type: pd-ssd"),
            "gcp.network_project needs gcp.subnetwork",
        );
        wrong(
            ("{us-central1: raft}", "{us-east1: raft}"),
            "names none in us-central1",
        );
        wrong(
            ("locations/us-central1", "locations/us-east1"),
            "gcp.kms_key is in us-east1",
        );
        wrong(("/keyRings/r", ""), "gcp.kms_key is");
        wrong(
            ("raft@my-project.iam.gserviceaccount.com", "raft"),
            "gcp.service_account is",
        );
        wrong(("boot_disk_gb: 20", "boot_disk_gb: 5"), "boot_disk_gb");
        wrong(
            ("gcp:\n", "ssh: {user: ann}\ngcp:\n"),
            "Google decides whom",
        );
    }

    // The manual names every key.
    #[test]
    fn every_key_is_documented() {
        let manual = include_str!("../../../terraform/README.md");
        let section = manual.split("## The section `gcp`").nth(1).unwrap();
        let table = section.split("\n\n## ").next().unwrap();
        for key in keys() {
            assert!(table.contains(&format!("`{key}`")), "{key} is missing");
        }
    }

    // The region is the zone without its letter.
    #[test]
    fn zones_lie_in_regions() {
        assert_eq!(region_of("us-central1-a"), Some("us-central1"));
        assert_eq!(
            region_of("northamerica-northeast2-c"),
            Some("northamerica-northeast2")
        );
        for wrong in [
            "us-central1",
            "us-central1-",
            "US-central1-a",
            "a",
            "us-central1-ab",
        ] {
            assert_eq!(region_of(wrong), None, "{wrong}");
        }
    }
}
