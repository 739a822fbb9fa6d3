//! The failures that a test orders, in the words that Google and its provider use.
//!
//! They stand in a JSON file that is read anew at each request, so that a test orders and lifts
//! them while the provider runs:
//! ```json
//! {"faults": [{"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n3"}],
//!  "slow_ms": {"google_compute_instance": 3000}, "stubborn_ms": {"google_compute_disk": 3000}}
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A quota of the region is used up.
    QuotaExceeded,
    /// The Compute Engine API is not enabled in the project.
    ServiceDisabled,
    /// The zone has no machine left of this type.
    ZoneExhausted,
    /// The account may not do this.
    Forbidden,
    /// The name is taken.
    AlreadyExists,
    /// No credentials were found; said when the provider is configured.
    NoCredentials,
}

/// One failure, and where it strikes.
#[derive(Debug, Clone, Deserialize)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// The resource type, or the API that is disabled; every type where it is absent.
    pub resource: Option<String>,
    /// The resource's name; every one where it is absent.
    pub name: Option<String>,
}

/// Everything that is ordered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The failures; the first that fits strikes.
    pub faults: Vec<Fault>,
    /// How much longer a creation or deletion takes, milliseconds, by resource type.
    pub slow_ms: BTreeMap<String, u64>,
    /// How much longer the answer to a creation takes once the resource exists, milliseconds, by
    /// resource type. It does not come earlier when Terraform asks for an end.
    pub stubborn_ms: BTreeMap<String, u64>,
}

impl Faults {
    /// Reads the file; no file orders nothing.
    ///
    /// # Errors
    /// When the file is there and can't be read or understood.
    pub fn read(path: Option<&Path>) -> Result<Faults, String> {
        let Some(path) = path else {
            return Ok(Faults::default());
        };
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| format!("{}: {error}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Faults::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Whether credentials are missing.
    #[must_use]
    pub fn no_credentials(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.kind == Kind::NoCredentials)
    }

    /// Whether an API is disabled by its name, as `compute.googleapis.com`.
    #[must_use]
    pub fn is_disabled(&self, api: &str) -> bool {
        self.faults.iter().any(|fault| {
            fault.kind == Kind::ServiceDisabled && fault.resource.as_deref() == Some(api)
        })
    }

    /// The failure that strikes the creation of a resource, if any.
    #[must_use]
    pub fn on_creation(&self, resource_type: &str, name: &str) -> Option<Kind> {
        self.faults
            .iter()
            .filter(|fault| fault.kind != Kind::NoCredentials)
            .find(|fault| {
                fault
                    .resource
                    .as_deref()
                    .is_none_or(|wanted| wanted == resource_type)
                    && fault.name.as_deref().is_none_or(|wanted| wanted == name)
            })
            .map(|fault| fault.kind)
    }
}

/// What Google's provider says when credentials are missing.
pub const NO_CREDENTIALS: &str = "Attempted to load application default credentials since neither `credentials` nor \
`access_token` was set in the provider block.  No credentials loaded. To use your gcloud credentials, run \
'gcloud auth application-default login'";

impl Kind {
    /// What Google's provider says when this strikes a creation.
    #[must_use]
    pub fn message(self, project: &str, resource_type: &str, zone: &str, name: &str) -> String {
        let thing = resource_type.trim_start_matches("google_compute_");
        let title = capitalized(thing);
        let region = zone.rsplit_once('-').map_or(zone, |(region, _)| region);
        match self {
            Kind::QuotaExceeded => format!(
                "Error waiting for {thing} to create: Quota 'CPUS' exceeded.  Limit: 8.0 in region {region}.\n\
                 \tmetric name = compute.googleapis.com/cpus\n\tlimit name = CPUS-per-project-region\n\
                 \tlimit = 8\n\tdimensions = map[region:{region}]\n"
            ),
            Kind::ServiceDisabled => format!(
                "Error creating {title}: googleapi: Error 403: Compute Engine API has not been used in project {project} \
                 before or it is disabled. Enable it by visiting \
                 https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project={project} \
                 then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our \
                 systems and retry.\nDetails:\n[\n  {{\n    \"@type\": \"type.googleapis.com/google.rpc.ErrorInfo\",\n    \
                 \"domain\": \"googleapis.com\",\n    \"reason\": \"SERVICE_DISABLED\"\n  }}\n]\n, accessNotConfigured"
            ),
            Kind::ZoneExhausted => format!(
                "Error waiting for {thing} to create: The zone 'projects/{project}/zones/{zone}' does not have enough \
                 resources available to fulfill the request.  Try a different zone, or try again later. \
                 (ZONE_RESOURCE_POOL_EXHAUSTED)"
            ),
            Kind::Forbidden => format!(
                "Error creating {title}: googleapi: Error 403: Required 'compute.{thing}s.create' permission for \
                 'projects/{project}/zones/{zone}/{thing}s/{name}', forbidden"
            ),
            Kind::AlreadyExists => already_exists(
                &title,
                &format!("projects/{project}/zones/{zone}/{thing}s/{name}"),
            ),
            Kind::NoCredentials => NO_CREDENTIALS.into(),
        }
    }
}

/// What Google's provider says when a name is taken.
#[must_use]
pub fn already_exists(title: &str, id: &str) -> String {
    format!(
        "Error creating {title}: googleapi: Error 409: The resource '{id}' already exists, alreadyExists"
    )
}

/// The first letter as a capital.
#[must_use]
pub fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}
