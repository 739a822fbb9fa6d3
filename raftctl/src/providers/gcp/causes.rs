//! What Terraform, Google's provider and gcloud say when something fails, turned into a cause and
//! the next command. Pure.
//!
//! The texts are not an interface that anybody has promised: where none of the known words occurs,
//! the operator sees the text itself.

mod google;
mod terraform;

use std::fmt;

pub use google::{MissingKind, quota_advice};

/// Why something failed at Google, or on the way there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Neither application default credentials nor a login of gcloud, or one that has expired.
    NoCredentials,
    /// An API is not enabled in the project.
    ApiDisabled {
        /// `compute.googleapis.com`.
        api: String,
    },
    /// A quota is used up.
    QuotaExceeded {
        /// `CPUS`.
        metric: String,
        /// The limit, where it is told.
        limit: Option<String>,
        /// The region, where it is told; some quotas are the project's.
        region: Option<String>,
    },
    /// A zone has no machine of the type left.
    ZoneExhausted {
        /// The zone, where it is told.
        zone: Option<String>,
    },
    /// Somebody else is changing the cluster, or was interrupted while doing so.
    StateLocked {
        /// The lock, for `force-unlock`.
        id: String,
        /// `user@host`.
        who: String,
        /// Since when, as Terraform writes it.
        since: String,
    },
    /// Google has something of this name that Terraform's state doesn't know.
    AlreadyExists {
        /// The resource.
        resource: String,
    },
    /// The account may not do this.
    Forbidden {
        /// The permission, where it is told.
        permission: Option<String>,
    },
    /// The project has no billing account that pays.
    NoBilling,
    /// The bucket that is to keep Terraform's state is not there.
    NoBucket,
    /// cluster.yaml has the state elsewhere than it is: `gcp.state_bucket` came, went or changed.
    StateElsewhere,
    /// Google asks to be asked again: so many requests, or trouble of its own; its answer in words.
    Passing(String),
    /// What Google tells is not all, because this zone or region does not answer.
    PlaceSilent(String),
    /// A policy of the organization forbids it, with this constraint.
    Policy(String),
    /// There is none of this name.
    Missing(MissingKind, String),
    /// It can't be deleted, because something else uses it.
    InUse {
        /// What should go.
        resource: String,
        /// What uses it.
        user: String,
    },
    /// There is no way to Google, or there was none for a while.
    ConnectionLost,
    /// Google's provider, a process of its own, ended or did not answer.
    ProviderDied,
    /// How far Google was could not be asked any more, so that Terraform has let go of what Google may
    /// go on to make or delete; in its own words.
    CutOff(String),
    /// Google's provider is another one than was fetched the first time.
    OtherChecksum,
    /// Another process uses the file of a provider that Terraform was about to write.
    ProviderBusy,
    /// Terraform can't fetch Google's provider.
    NoRegistry,
    /// Anything else, in its own words.
    Other(String),
}

/// What the next command may have to name.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The project.
    pub project: &'a str,
    /// The command that runs Terraform by hand where the state is.
    pub terraform: &'a str,
    /// The bucket of the state; empty where a file keeps it.
    pub bucket: &'a str,
}

impl Cause {
    /// Finds the cause in a text. The more particular comes first: a quota comes as a 403, too.
    #[must_use]
    pub fn of(text: &str) -> Cause {
        // Terraform breaks long lines and draws frames where it writes for people.
        let text = text.replace(['│', '╷', '╵'], " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // Terraform frames a busy file as a failure of the registry.
        busy(&text)
            .or_else(|| terraform::checksum(&text))
            .or_else(|| registry(&text))
            .or_else(|| elsewhere(&text))
            .or_else(|| terraform::lock(&text))
            // Whatever ended the question is in it, too.
            .or_else(|| terraform::cut_off(&text))
            .or_else(|| bucket(&text))
            .or_else(|| credentials(&text))
            .or_else(|| billing(&text))
            .or_else(|| api(&text))
            .or_else(|| google::policy(&text))
            .or_else(|| google::unreachable(&text))
            .or_else(|| zone(&text))
            .or_else(|| google::passing(&text))
            .or_else(|| quota(&text))
            .or_else(|| google::in_use(&text))
            .or_else(|| conflict(&text))
            .or_else(|| google::missing(&text))
            .or_else(|| forbidden(&text))
            .or_else(|| google::provider_died(&text))
            .or_else(|| google::connection(&text))
            .unwrap_or(Cause::Other(text))
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self, names: &Names<'_>) -> String {
        let Names {
            project,
            terraform,
            bucket,
        } = names;
        match self {
            Cause::NoCredentials => {
                "run `gcloud auth application-default login` and `gcloud auth login`".into()
            }
            Cause::ApiDisabled { api } => {
                format!(
                    "run `gcloud services enable {api} --project={project}`, wait a minute, and run this again"
                )
            }
            Cause::QuotaExceeded { metric, region, .. } => {
                let look = match region {
                    Some(region) => {
                        format!("gcloud compute regions describe {region} --project={project}")
                    }
                    None => format!("gcloud compute project-info describe --project={project}"),
                };
                format!(
                    "see `{look}`; {}; then run this again: what was made stays",
                    quota_advice(metric)
                )
            }
            Cause::ZoneExhausted { .. } => {
                "run `raftctl up` again later, or take another machine_type in cluster.yaml, or give the node \
                another zone and say --allow-data-loss if it has no data yet (its disk moves); what was made stays"
                    .into()
            }
            Cause::StateLocked { id, .. } => terraform::unlock(id, terraform, bucket),
            Cause::CutOff(_) => "run this again: what Google has made meanwhile is looked for first, and `raftctl up` \
                takes it in, `raftctl down` deletes it"
                .into(),
            Cause::OtherChecksum => "what is fetched now is not what was fetched first: where the network is to be \
                trusted, delete .raftctl/<name>/terraform/.terraform.lock.hcl, and run this again"
                .into(),
            Cause::AlreadyExists { .. } => {
                "run this again: what this cluster has made is looked for at Google first, and taken in; what \
                another cluster of this name has made stays, and needs another name in cluster.yaml"
                    .into()
            }
            Cause::Forbidden {
                permission: Some(permission),
            } if permission.starts_with("storage.") => format!(
                "see who you are with `gcloud auth list`, and ask the owner of {project} for the role \
                 storage.objectUser on the bucket"
            ),
            Cause::Forbidden { .. } => format!(
                "see who you are with `gcloud auth list`, and ask the owner of {project} for the roles \
                 compute.instanceAdmin.v1, compute.networkAdmin and compute.securityAdmin"
            ),
            Cause::NoBilling => format!(
                "run `gcloud billing projects link {project} --billing-account=ACCOUNT_ID` (`gcloud \
                 billing accounts list` shows yours), wait a minute, and run this again"
            ),
            Cause::StateElsewhere => format!(
                "run `{terraform} init -migrate-state`, which asks before it copies the state to where cluster.yaml \
                 has it, or put gcp.state_bucket back; then run this again"
            ),
            Cause::ProviderBusy => {
                "wait until the other Terraform is done with it, then run this again".into()
            }
            Cause::NoBucket => format!(
                "correct gcp.state_bucket in cluster.yaml, or make it: `gcloud storage buckets create gs://{bucket} \
                 --project={project} --uniform-bucket-level-access`"
            ),
            Cause::NoRegistry => {
                "check the network and HTTPS_PROXY, then run this again; `curl -I \
                https://registry.terraform.io` must answer"
                    .into()
            }
            Cause::Passing(_) => "run this again in a minute; https://status.cloud.google.com tells of trouble \
                at Google, and what was made stays"
                .into(),
            Cause::PlaceSilent(_) => "run this again when it answers: https://status.cloud.google.com tells of \
                trouble at Google; nothing is taken for gone meanwhile"
                .into(),
            Cause::Policy(constraint) => google::policy_next(constraint, project),
            Cause::Missing(thing, _) => thing.next(project),
            Cause::InUse { .. } => format!(
                "see whether anybody needs it; what nobody needs is deleted with gcloud (--project={project}), and \
                 then this goes on where it is run again"
            ),
            Cause::ConnectionLost => "check the network and HTTPS_PROXY, then run this again".into(),
            Cause::ProviderDied => "run this again; where it happens again, see whether the machine has memory left \
                (`dmesg`); with `TF_LOG=error TF_LOG_PATH=terraform.log` before the command, more is written there"
                .into(),
            Cause::Other(text) if text.is_empty() => format!(
                "run this again; where it ends in the same way, `{terraform} version` must work by itself"
            ),
            Cause::Other(_) => format!(
                "`raftctl check` looks at credentials, project, names and quotas; `{terraform} plan` says more"
            ),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_place = |place: &Option<String>| {
            place
                .as_ref()
                .map_or(String::new(), |place| format!(" in {place}"))
        };
        match self {
            Cause::NoCredentials => write!(f, "there are no valid credentials for Google Cloud"),
            Cause::ApiDisabled { api } => write!(f, "the API {api} is not enabled in the project"),
            Cause::QuotaExceeded {
                metric,
                limit,
                region,
            } => {
                let limit = limit
                    .as_ref()
                    .map_or(String::new(), |limit| format!(" (limit {limit})"));
                write!(
                    f,
                    "the quota {metric}{limit} is used up{}",
                    in_place(region)
                )
            }
            Cause::ZoneExhausted { zone } => {
                write!(
                    f,
                    "Google has no machine of this type left{}",
                    in_place(zone)
                )
            }
            Cause::StateLocked { who, since, .. } => {
                write!(f, "{who} has been changing this cluster since {since}")
            }
            Cause::AlreadyExists { resource } => write!(f, "{resource} exists already"),
            Cause::Forbidden {
                permission: Some(permission),
            } => {
                write!(f, "your account lacks the permission {permission}")
            }
            Cause::Forbidden { permission: None } => write!(f, "your account may not do this"),
            Cause::NoBilling => write!(f, "the project has no billing account"),
            Cause::StateElsewhere => write!(
                f,
                "Terraform's state is not where gcp.state_bucket in cluster.yaml says"
            ),
            Cause::CutOff(text) => write!(
                f,
                "Terraform could not ask Google any more how far it was, and let go of it: {text}"
            ),
            Cause::OtherChecksum => write!(
                f,
                "Google's provider has another checksum than when it was fetched first"
            ),
            Cause::ProviderBusy => write!(f, "another Terraform is using Google's provider"),
            Cause::NoBucket => write!(f, "the bucket for Terraform's state does not exist"),
            Cause::NoRegistry => write!(
                f,
                "Terraform can't fetch Google's provider from its registry"
            ),
            Cause::Passing(answer) => write!(f, "Google answers {answer}"),
            Cause::PlaceSilent(place) => {
                write!(
                    f,
                    "{place} does not answer at Google, so nobody knows all that is there"
                )
            }
            Cause::Policy(constraint) => {
                write!(f, "a policy of your organization forbids it: {constraint}")
            }
            Cause::Missing(thing, name) => write!(f, "there is no {thing} {name}"),
            Cause::InUse { resource, user } => {
                write!(f, "{resource} can't be deleted: {user} uses it")
            }
            Cause::ConnectionLost => write!(f, "there is no way to Google from here"),
            Cause::ProviderDied => write!(f, "Google's provider for Terraform ended in the middle"),
            Cause::Other(text) if text.is_empty() => write!(f, "it ended without a word"),
            Cause::Other(text) => write!(f, "{text}"),
        }
    }
}

fn contains_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// What stands between two words; the first such place.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    let found = &rest[..rest.find(after)?];
    (!found.is_empty()).then_some(found)
}

/// The word that follows.
fn following<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    rest.split_whitespace().next()
}

fn registry(text: &str) -> Option<Cause> {
    const WORDS: [&str; 4] = [
        "Failed to query available provider packages",
        "Failed to install provider",
        "could not connect to registry",
        "Failed to resolve provider packages",
    ];
    contains_any(text, &WORDS).then_some(Cause::NoRegistry)
}

fn busy(text: &str) -> Option<Cause> {
    text.contains("text file busy")
        .then_some(Cause::ProviderBusy)
}

fn elsewhere(text: &str) -> Option<Cause> {
    const WORDS: [&str; 4] = [
        "asking for state migration action",
        "ask approval for state migration",
        "Backend configuration changed",
        "Backend initialization required",
    ];
    contains_any(text, &WORDS).then_some(Cause::StateElsewhere)
}

fn billing(text: &str) -> Option<Cause> {
    const WORDS: [&str; 4] = [
        "requires billing",
        "BILLING_DISABLED",
        "billing account for the owning project",
        "billing to be enabled",
    ];
    contains_any(text, &WORDS).then_some(Cause::NoBilling)
}

fn bucket(text: &str) -> Option<Cause> {
    const WORDS: [&str; 2] = [
        "storage: bucket doesn't exist",
        "The specified bucket does not exist",
    ];
    contains_any(text, &WORDS).then_some(Cause::NoBucket)
}

fn credentials(text: &str) -> Option<Cause> {
    const WORDS: [&str; 12] = [
        "invalid authentication credentials",
        "UNAUTHENTICATED",
        "Token has been expired or revoked",
        "could not find default credentials",
        "default credentials were not found",
        "No credentials loaded",
        "invalid_grant",
        "reauth related error",
        "Reauthentication failed",
        "do not currently have an active account selected",
        "Error 401",
        "CREDENTIALS_MISSING",
    ];
    contains_any(text, &WORDS).then_some(Cause::NoCredentials)
}

fn api(text: &str) -> Option<Cause> {
    const WORDS: [&str; 3] = [
        "SERVICE_DISABLED",
        "accessNotConfigured",
        "has not been used in project",
    ];
    if !contains_any(text, &WORDS) {
        return None;
    }
    let named = between(text, "/apis/api/", "/").or_else(|| between(text, "/apis/library/", "?"));
    let api = named.filter(|api| api.ends_with(".googleapis.com"));
    Some(Cause::ApiDisabled {
        api: api.unwrap_or("compute.googleapis.com").into(),
    })
}

fn quota(text: &str) -> Option<Cause> {
    let is_told = text.contains("Quota '") && text.contains("exceeded");
    if !is_told && !contains_any(text, &["quotaExceeded", "QUOTA_EXCEEDED"]) {
        return None;
    }
    let metric = between(text, "Quota '", "'").unwrap_or("of Compute Engine");
    let region =
        following(text, "in region ").map(|region| region.trim_end_matches(['.', ',']).to_owned());
    let limit =
        following(text, "Limit: ").map(|limit| limit.trim_end_matches(['.', ',']).to_owned());
    Some(Cause::QuotaExceeded {
        metric: metric.into(),
        limit,
        region,
    })
}

fn zone(text: &str) -> Option<Cause> {
    const WORDS: [&str; 2] = [
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "does not have enough resources available",
    ];
    if !contains_any(text, &WORDS) {
        return None;
    }
    let zone = between(text, "/zones/", "'");
    Some(Cause::ZoneExhausted {
        zone: zone.map(String::from),
    })
}

fn conflict(text: &str) -> Option<Cause> {
    if !contains_any(text, &["Error 409", "alreadyExists"]) {
        return None;
    }
    let resource = between(text, "The resource '", "'").unwrap_or("a resource of this name");
    Some(Cause::AlreadyExists {
        resource: resource.into(),
    })
}

fn forbidden(text: &str) -> Option<Cause> {
    if !contains_any(
        text,
        &[
            "Error 403",
            "PERMISSION_DENIED",
            "HTTPError 403",
            "Required '",
        ],
    ) {
        return None;
    }
    let permission = between(text, "Required '", "'")
        // Cloud Storage has words of its own.
        .or_else(|| between(text, "does not have ", " access"));
    Some(Cause::Forbidden {
        permission: permission.map(String::from),
    })
}

#[cfg(test)]
mod tests;
