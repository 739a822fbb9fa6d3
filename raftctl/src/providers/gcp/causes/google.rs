//! What Google's own answers say: that it is in trouble just now, that a policy of the organization
//! forbids something, that there is no such thing, that something is in use.

use std::fmt;

use super::{Cause, between, contains_any};

/// What there is none of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKind {
    /// A project, or one that this account may not see.
    Project,
    /// A region.
    Region,
    /// A zone.
    Zone,
    /// A machine type, in a zone.
    MachineType,
    /// A boot image, or a family of them.
    Image,
    /// A network of the operator's own.
    Network,
    /// A subnetwork of the operator's own.
    Subnetwork,
}

impl MissingKind {
    /// The name of the collection in Google's paths, what it is called, and what to do without one.
    const ALL: [(MissingKind, &'static str, &'static str); 7] = [
        (MissingKind::MachineType, "machineTypes", "machine type"),
        (MissingKind::Image, "images", "boot image"),
        (MissingKind::Subnetwork, "subnetworks", "subnetwork"),
        (MissingKind::Network, "networks", "network"),
        (MissingKind::Zone, "zones", "zone"),
        (MissingKind::Region, "regions", "region"),
        (MissingKind::Project, "projects", "project"),
    ];

    fn noun(self) -> &'static str {
        let found = MissingKind::ALL
            .into_iter()
            .find(|(thing, _, _)| *thing == self);
        found.map_or("thing", |(_, _, noun)| noun)
    }

    pub(super) fn next(self, project: &str) -> String {
        match self {
            MissingKind::Project => format!(
                "correct gcp.project in cluster.yaml (it is {project}); `gcloud projects list` shows those that your \
                 account may see, `gcloud auth list` who you are"
            ),
            MissingKind::Region => "correct gcp.zones in cluster.yaml; `gcloud compute regions list` shows all".into(),
            MissingKind::Zone => "correct gcp.zones (or the node's zone) in cluster.yaml; `gcloud compute zones list` shows all"
                .into(),
            MissingKind::MachineType => "correct gcp.machine_type or gcp.zones in cluster.yaml; `gcloud compute machine-types \
                 list --zones=ZONE` shows what a zone has"
                .into(),
            MissingKind::Image => "correct gcp.image in cluster.yaml; `gcloud compute images list` shows the public ones with \
                 their families"
                .into(),
            MissingKind::Network => "correct gcp.network (and gcp.network_project) in cluster.yaml; `gcloud compute networks \
                 list --project=PROJECT` shows a project's"
                .into(),
            MissingKind::Subnetwork => "correct gcp.subnetwork (and gcp.network_project) in cluster.yaml; `gcloud compute \
                 networks subnets list --project=PROJECT` shows a project's"
                .into(),
        }
    }
}

impl fmt::Display for MissingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}

/// Whether Google asks to be asked again: too many requests, or trouble of its own. In words.
pub(super) fn passing(text: &str) -> Option<Cause> {
    // A limit of requests comes as a 403; its metric is no quota of things.
    const RATE: [&str; 5] = [
        "rateLimitExceeded",
        "RATE_LIMIT_EXCEEDED",
        "userRateLimitExceeded",
        "Quota exceeded for quota metric",
        "Rate Limit Exceeded",
    ];
    if contains_any(text, &RATE) {
        return Some(Cause::Passing("that there are too many requests".into()));
    }
    // Where gcloud describes something it leaves the number out.
    const SIGNS: [(&str, &[&str]); 4] = [
        ("429", &["Error 429", "Too Many Requests"]),
        ("500", &["Error 500", "Backend Error"]),
        ("502", &["Error 502", "Please try again in 30 seconds"]),
        (
            "503",
            &[
                "Error 503",
                "backendError",
                "Internal error. Please try again",
                "service is currently unavailable",
                "Service Unavailable",
            ],
        ),
    ];
    let code = SIGNS.iter().find(|(_, signs)| contains_any(text, signs));
    code.map(|(code, _)| Cause::Passing((*code).into()))
}

/// Whether a list is not whole, because a zone or region does not answer.
pub(super) fn unreachable(text: &str) -> Option<Cause> {
    let place = between(text, "Some resources of ", " could not be reached")
        .or_else(|| between(text, "ome resources in ", " could not be reached"))
        .or_else(|| between(text, "scope on the '", "'"))
        .map(|place| {
            place
                .trim_start_matches("zones/")
                .trim_start_matches("regions/")
        });
    if place.is_none() && !contains_any(text, &["could not be reached", "returnPartialSuccess"]) {
        return None;
    }
    Some(Cause::PlaceSilent(place.unwrap_or("a zone").to_owned()))
}

/// A policy of the organization, by its constraint, with the setting that agrees with it.
const POLICIES: [(&str, &str); 7] = [
    (
        "compute.requireOsLogin",
        "write gcp: {os_login: true} in cluster.yaml: SSH then goes by OS Login, with the roles \
         compute.osAdminLogin and iam.serviceAccountUser",
    ),
    (
        "compute.vmExternalIpAccess",
        "write gcp: {ssh_via: iap} in cluster.yaml: the machines then have no external address, and SSH comes \
         through Identity-Aware Proxy",
    ),
    (
        "gcp.restrictNonCmekServices",
        "write gcp: {kms_key: projects/P/locations/L/keyRings/R/cryptoKeys/K} in cluster.yaml, a key in the \
         machines' region that Compute Engine's service agent may use (roles/cloudkms.cryptoKeyEncrypterDecrypter)",
    ),
    (
        "gcp.restrictCmekCryptoKeyProjects",
        "take a key of an allowed project for gcp.kms_key in cluster.yaml",
    ),
    (
        "gcp.resourceLocations",
        "choose gcp.zones in cluster.yaml from the allowed locations",
    ),
    (
        "compute.requireShieldedVm",
        "write gcp: {secure_boot: true} in cluster.yaml, and take a gcp.image that is UEFI-compatible (the one that \
         is taken where none is named is)",
    ),
    (
        "compute.trustedImageProjects",
        "name a gcp.image of an allowed project in cluster.yaml",
    ),
];

/// What shows the policy itself.
fn show_policy(constraint: &str, project: &str) -> String {
    format!(
        "`gcloud org-policies describe {constraint} --effective --project={project}` shows the policy"
    )
}

pub(super) fn policy_next(constraint: &str, project: &str) -> String {
    let known = POLICIES.iter().find(|(name, _)| *name == constraint);
    let show = show_policy(constraint, project);
    match known {
        Some((_, setting)) => format!("{setting}; {show}"),
        None => format!("ask whoever looks after the organization's policies; {show}"),
    }
}

/// A policy of the organization forbids it.
pub(super) fn policy(text: &str) -> Option<Cause> {
    let after = text
        .split("constraints/")
        .nth(1)
        .filter(|_| text.contains("violate"))?;
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_');
    let name = &after[..end.unwrap_or(after.len())];
    let constraint = name.trim_end_matches('.').to_owned();
    (!constraint.is_empty()).then_some(Cause::Policy(constraint))
}

/// There is no such machine type, image, zone, ...: told without the place, so that what is wrong in
/// each zone is said once.
pub(super) fn missing(text: &str) -> Option<Cause> {
    let is_missing = contains_any(
        text,
        &[
            "was not found",
            "does not exist in zone",
            "Unknown zone",
            "Unknown region",
            "notFound",
        ],
    );
    if !is_missing {
        return None;
    }
    if let Some(family) = between(text, "Could not find image or family ", " ") {
        return Some(Cause::Missing(
            MissingKind::Image,
            family.trim_matches('\'').to_owned(),
        ));
    }
    // "Invalid value for field 'zone': 'us-central9-a'. Unknown zone."
    for (field, thing) in [
        ("'zone': '", MissingKind::Zone),
        ("'region': '", MissingKind::Region),
    ] {
        if let Some(name) = between(text, field, "'").filter(|_| text.contains("Unknown")) {
            return Some(Cause::Missing(thing, name.to_owned()));
        }
    }
    let path = between(text, "The resource '", "'")
        .or_else(|| between(text, "resource.machineType': '", "'"))
        .or_else(|| between(text, "Machine type with name '", "'"))?;
    named(path, text)
}

/// What a path leads to: the last collection in it that is known.
fn named(path: &str, text: &str) -> Option<Cause> {
    if !path.contains('/') && text.contains("Machine type with name") {
        return Some(Cause::Missing(MissingKind::MachineType, path.to_owned()));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let collection = match parts.as_slice() {
        [.., images, "family", _] => *images,
        [.., collection, _] => *collection,
        _ => return None,
    };
    let (thing, _, _) = MissingKind::ALL
        .into_iter()
        .find(|(_, name, _)| *name == collection)?;
    // What the module makes itself is no matter of cluster.yaml.
    let name = *parts.last()?;
    let is_own = name.starts_with("raft-")
        && matches!(thing, MissingKind::Network | MissingKind::Subnetwork);
    (!is_own).then(|| Cause::Missing(thing, name.to_owned()))
}

/// Something can't go because another thing uses it; by their names.
pub(super) fn in_use(text: &str) -> Option<Cause> {
    let (before, user) = text.split_once("is already being used by '")?;
    let resource = between(before, "resource '", "'")?;
    let user = user.split('\'').next().unwrap_or_default();
    Some(Cause::InUse {
        resource: resource.to_owned(),
        user: user.to_owned(),
    })
}

/// The connection broke off, or was never made.
pub(super) fn connection(text: &str) -> Option<Cause> {
    const WORDS: [&str; 9] = [
        "connection refused",
        "Connection refused",
        "connection reset by peer",
        "i/o timeout",
        "TLS handshake timeout",
        "no such host",
        "network is unreachable",
        "Failed to establish a new connection",
        "There was a problem refreshing your current auth tokens: HTTPSConnectionPool",
    ];
    contains_any(text, &WORDS).then_some(Cause::ConnectionLost)
}

/// Google's provider, a process of its own, has ended or hangs.
pub(super) fn provider_died(text: &str) -> Option<Cause> {
    const WORDS: [&str; 5] = [
        "Plugin did not respond",
        // What Terraform says where it has seen the end before the question left.
        "request was cancelled",
        "plugin process exited",
        "The plugin encountered an error, and failed to respond",
        "plugin crashed",
    ];
    contains_any(text, &WORDS).then_some(Cause::ProviderDied)
}

/// What helps against a quota that is too small.
#[must_use]
pub fn quota_advice(metric: &str) -> String {
    let instead = match metric {
        "NETWORKS" | "SUBNETWORKS" | "FIREWALLS" | "ROUTES" => {
            "delete a network that nobody needs, or name one that exists: gcp.network and gcp.subnetwork in \
             cluster.yaml"
        }
        metric if metric.contains("IN_USE_ADDRESSES") => {
            "take ssh_via: iap in cluster.yaml (it needs no external addresses), fewer nodes or other zones"
        }
        metric if metric.contains("ADDRESSES") => "take fewer nodes, or other zones",
        metric if metric.ends_with("_GB") => {
            "take smaller disks (data_disk_gb), fewer nodes or other zones"
        }
        _ => "take a smaller machine_type, fewer nodes or other zones",
    };
    format!("ask for more {metric} under IAM & Admin > Quotas, or {instead}")
}
