//! The failures that a test can order of Google's provider, in the words that Google and the provider
//! use, and when each strikes.

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
    /// The credentials are no longer valid: 401.
    Unauthorized,
    /// So many calls are taken in a minute, and no more: 403, for want of patience and not of a right.
    RateLimited,
    /// Google has trouble of its own: 503.
    Unavailable,
    /// Nobody answers at Google's address.
    Refused,
}

/// The step that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The call that begins a creation: nothing is made.
    #[default]
    Create,
    /// A question whether an operation is done: it goes on, and the provider knows nothing of its end.
    Poll,
    /// The call that begins a change.
    Update,
    /// The call that begins a deletion.
    Delete,
    /// The call that reads what is there, for a plan.
    Read,
}

/// One failure, and where it strikes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// The resource type, or the API that is disabled; every type where it is absent.
    pub resource: Option<String>,
    /// The resource's name; every one where it is absent.
    pub name: Option<String>,
    /// The step that fails.
    #[serde(default)]
    pub on: On,
    /// How often it strikes; always where it is absent.
    pub times: Option<u64>,
    /// How many steps it lets pass before.
    #[serde(default)]
    pub skip: u64,
    /// How long the provider tries again without a word before it says so, milliseconds: the real one
    /// does for more than five minutes with a rate limit and with 503.
    #[serde(default)]
    pub after_ms: u64,
}

/// A resource that a step is about.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its type.
    pub resource_type: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its zone; `global` where it lies in none.
    pub zone: &'a str,
    /// Its project.
    pub project: &'a str,
}

impl Fault {
    /// Whether it strikes such a step.
    #[must_use]
    pub fn fits(&self, on: On, target: &Target) -> bool {
        let is = |wanted: &Option<String>, there: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == there)
        };
        self.kind != Kind::NoCredentials
            && self.on == on
            && is(&self.resource, target.resource_type)
            && is(&self.name, target.name)
    }
}

/// What Google's provider says when credentials are missing.
pub const NO_CREDENTIALS: &str = "Attempted to load application default credentials since neither `credentials` nor \
`access_token` was set in the provider block.  No credentials loaded. To use your gcloud credentials, run \
'gcloud auth application-default login'";

impl Kind {
    /// What Google's provider says when this strikes a step. A poll's failure is what it could not
    /// find out; what it was waiting for stands before it.
    #[must_use]
    pub fn message(self, on: On, target: &Target) -> String {
        let cause = self.cause(on, target);
        match (on, self) {
            (On::Poll, _) => format!("error while retrieving operation: {cause}"),
            (_, Kind::QuotaExceeded | Kind::ZoneExhausted) => {
                format!("Error waiting for {} to create: {cause}", target.thing())
            }
            (On::Create, _) => format!("Error creating {}: {cause}", target.title()),
            (On::Update, _) => format!("Error updating {}: {cause}", target.title()),
            (On::Delete | On::Read, _) => {
                format!("Error when reading or editing {}: {cause}", target.title())
            }
        }
    }

    fn cause(self, on: On, target: &Target) -> String {
        let Target { project, zone, .. } = target;
        let region = zone.rsplit_once('-').map_or(*zone, |(region, _)| region);
        let verb = match on {
            On::Create => "create",
            On::Update => "update",
            On::Delete => "delete",
            On::Poll | On::Read => "get",
        };
        match self {
            Kind::QuotaExceeded => format!(
                "Quota 'CPUS' exceeded.  Limit: 8.0 in region {region}.\n\
                 \tmetric name = compute.googleapis.com/cpus\n\tlimit name = CPUS-per-project-region\n\
                 \tlimit = 8\n\tdimensions = map[region:{region}]\n"
            ),
            Kind::ServiceDisabled => format!(
                "googleapi: Error 403: Compute Engine API has not been used in project {project} \
                 before or it is disabled. Enable it by visiting \
                 https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project={project} \
                 then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our \
                 systems and retry.\nDetails:\n[\n  {{\n    \"@type\": \"type.googleapis.com/google.rpc.ErrorInfo\",\n    \
                 \"domain\": \"googleapis.com\",\n    \"reason\": \"SERVICE_DISABLED\"\n  }}\n]\n, accessNotConfigured"
            ),
            Kind::ZoneExhausted => format!(
                "The zone 'projects/{project}/zones/{zone}' does not have enough \
                 resources available to fulfill the request.  Try a different zone, or try again later. \
                 (ZONE_RESOURCE_POOL_EXHAUSTED)"
            ),
            Kind::Forbidden if on == On::Poll => format!(
                "googleapi: Error 403: Required 'compute.globalOperations.get' permission for \
                 'projects/{project}/global/operations/operation-1', forbidden"
            ),
            Kind::Forbidden => format!(
                "googleapi: Error 403: Required 'compute.{}s.{verb}' permission for '{}', forbidden",
                target.thing(),
                target.path()
            ),
            Kind::AlreadyExists => format!(
                "googleapi: Error 409: The resource '{}' already exists, alreadyExists",
                target.path()
            ),
            Kind::Unauthorized => "googleapi: Error 401: Request had invalid authentication credentials. Expected \
                                   OAuth 2 access token, login cookie or other valid authentication credential., authError"
                .into(),
            Kind::RateLimited => "googleapi: Error 403: Quota exceeded for quota metric 'Queries' and limit 'Queries \
                                  per minute' of service 'compute.googleapis.com' for consumer 'project_number:1'., \
                                  rateLimitExceeded"
                .into(),
            Kind::Unavailable => "googleapi: Error 503: Internal error. Please try again or contact Google Support., \
                                  backendError"
                .into(),
            Kind::Refused => format!(
                "Get \"https://compute.googleapis.com/compute/v1/{}?alt=json&prettyPrint=false\": dial tcp \
                 142.250.1.95:443: connect: connection refused",
                target.path()
            ),
            Kind::NoCredentials => NO_CREDENTIALS.into(),
        }
    }
}

impl Target<'_> {
    /// The type without its prefix.
    fn thing(&self) -> &str {
        self.resource_type.trim_start_matches("google_compute_")
    }

    /// The same with a capital.
    #[must_use]
    pub fn title(&self) -> String {
        capitalized(self.thing())
    }

    /// Its path, without the host.
    #[must_use]
    pub fn path(&self) -> String {
        let Target {
            project,
            zone,
            name,
            ..
        } = self;
        format!("projects/{project}/zones/{zone}/{}s/{name}", self.thing())
    }

    /// What the provider says before the cause when the end of a creation is not what it waited for.
    #[must_use]
    pub fn creating(&self) -> String {
        match self.title() {
            title if title == "Instance" => "Error waiting for instance to create".into(),
            title => {
                format!("Error waiting to create {title}: Error waiting for Creating {title}")
            }
        }
    }

    /// The same of a deletion.
    #[must_use]
    pub fn deleting(&self) -> String {
        match self.title() {
            title if title == "Instance" => "Error waiting for instance to delete".into(),
            title => format!("Error waiting for Deleting {title}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    // What fails at a poll names what was waited for, as Google's provider says it.
    #[test]
    fn a_broken_poll_is_told_as_the_provider_does() {
        let target = Target {
            resource_type: "google_compute_network",
            name: "raft-demo",
            zone: "global",
            project: "p",
        };
        let cause = Kind::Refused.message(On::Poll, &target);
        let said = format!("{}: {cause}", target.creating());
        assert!(
            said.starts_with(
                "Error waiting to create Network: Error waiting for Creating Network: error while retrieving operation: Get "
            ),
            "{said}"
        );
        assert!(said.ends_with("connect: connection refused"), "{said}");
    }

    // Each failure is said in words that whoever looks for its cause finds.
    #[test]
    fn failures_are_told_in_google_s_words() {
        let target = Target {
            resource_type: "google_compute_instance",
            name: "raft-demo-n1",
            zone: "us-central1-a",
            project: "p",
        };
        for (kind, words) in [
            (
                Kind::QuotaExceeded,
                "Quota 'CPUS' exceeded.  Limit: 8.0 in region us-central1",
            ),
            (Kind::ServiceDisabled, "accessNotConfigured"),
            (Kind::ZoneExhausted, "(ZONE_RESOURCE_POOL_EXHAUSTED)"),
            (
                Kind::Forbidden,
                "Error 403: Required 'compute.instances.create' permission",
            ),
            (Kind::AlreadyExists, "already exists, alreadyExists"),
            (
                Kind::Unauthorized,
                "Error 401: Request had invalid authentication credentials",
            ),
            (
                Kind::RateLimited,
                "Error 403: Quota exceeded for quota metric",
            ),
            (Kind::Unavailable, "Error 503"),
            (Kind::Refused, "connect: connection refused"),
        ] {
            let said = kind.message(On::Create, &target);
            assert!(said.contains(words), "{words}: {said}");
            assert!(said.starts_with("Error "), "{said}");
        }
        let said = Kind::Unavailable.message(On::Delete, &target);
        assert!(
            said.starts_with("Error when reading or editing Instance: "),
            "{said}"
        );
    }
}
