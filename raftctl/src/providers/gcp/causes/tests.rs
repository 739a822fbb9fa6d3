use super::*;

fn of(text: &str) -> (String, String) {
    let cause = Cause::of(text);
    let names = Names {
        project: "my-project",
        terraform: "terraform -chdir=/home/ann/.raftctl/demo/terraform",
        bucket: "my-state",
    };
    (cause.to_string(), cause.next(&names))
}

// Google's provider and gcloud say it in several ways.
#[test]
fn missing_credentials() {
    for text in [
        "Attempted to load application default credentials since neither `credentials` nor `access_token` was set in the provider block.  No credentials loaded. To use your gcloud credentials, run 'gcloud auth application-default login'",
        "google: could not find default credentials. See https://cloud.google.com/docs/authentication/external/set-up-adc for more information",
        "oauth2: \"invalid_grant\" \"reauth related error (invalid_rapt)\"",
        "ERROR: (gcloud.auth.application-default.print-access-token) Your default credentials were not found.",
        "ERROR: (gcloud.compute.instances.describe) You do not currently have an active account selected.",
    ] {
        assert_eq!(Cause::of(text), Cause::NoCredentials, "{text}");
    }
    let (_, next) = of("google: could not find default credentials");
    assert!(
        next.contains("gcloud auth application-default login"),
        "{next}"
    );
}

// The API is named, with the command that enables it.
#[test]
fn a_disabled_api() {
    let text = "Error creating Network: googleapi: Error 403: Compute Engine API has not been used in project 123456 before or it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project=123456 then retry.\nDetails:\n[\n  {\n    \"reason\": \"SERVICE_DISABLED\"\n  }\n]\n, accessNotConfigured";
    let (what, next) = of(text);
    assert_eq!(
        what,
        "the API compute.googleapis.com is not enabled in the project"
    );
    assert!(
        next.contains("gcloud services enable compute.googleapis.com --project=my-project"),
        "{next}"
    );
}

// Metric, limit and region are named, in both forms that Google uses.
#[test]
fn a_quota() {
    let text = "Error waiting for instance to create: Quota 'CPUS' exceeded.  Limit: 8.0 in region us-central1.\n\tmetric name = compute.googleapis.com/cpus\n\tlimit name = CPUS-per-project-region";
    let (what, next) = of(text);
    assert_eq!(what, "the quota CPUS (limit 8.0) is used up in us-central1");
    assert!(
        next.contains("gcloud compute regions describe us-central1 --project=my-project"),
        "{next}"
    );
    let (what, _) = of(
        "googleapi: Error 403: Quota 'IN_USE_ADDRESSES' exceeded. Limit: 4.0 in region europe-west1., quotaExceeded",
    );
    assert_eq!(
        what,
        "the quota IN_USE_ADDRESSES (limit 4.0) is used up in europe-west1"
    );
    let (what, next) = of(
        "googleapi: Error 403: Quota 'CPUS_ALL_REGIONS' exceeded. Limit: 12.0 globally., quotaExceeded",
    );
    assert_eq!(what, "the quota CPUS_ALL_REGIONS (limit 12.0) is used up");
    assert!(next.contains("project-info"), "{next}");
}

// Another zone helps, and it says which one is empty.
#[test]
fn an_empty_zone() {
    let text = "Error waiting for instance to create: The zone 'projects/my-project/zones/us-central1-a' does not have enough resources available to fulfill the request.  Try a different zone, or try again later.";
    let (what, next) = of(text);
    assert_eq!(
        what,
        "Google has no machine of this type left in us-central1-a"
    );
    assert!(next.contains("another zone"), "{next}");
}

const LOCKED: &str = "╷\n│ Error: Error acquiring the state lock\n│ \n│ Error message: resource temporarily unavailable\n│ Lock Info:\n│   ID:        0e1d5a2c-7b1f-6f8f-5d6e-0a9e0f1c2b3d\n│   Path:      terraform.tfstate\n│   Operation: OperationTypeApply\n│   Who:       ann@laptop\n│   Version:   1.11.4\n│   Created:   2026-11-21 09:56:18.9 +0000 UTC\n│   Info:      \n│ \n│ Terraform acquires a state lock to protect the state from being written\n╵";

// Who, and since when; and a lock is only to be broken where that can be done: that of a file ends with
// its process.
#[test]
fn a_locked_state() {
    let (what, next) = of(LOCKED);
    assert_eq!(
        what,
        "ann@laptop has been changing this cluster since 2026-11-21 09:56:18.9 +0000 UTC"
    );
    let of_bucket = "run `terraform -chdir=/home/ann/.raftctl/demo/terraform force-unlock 0e1d5a2c-7b1f-6f8f-5d6e-0a9e0f1c2b3d`";
    assert!(next.contains(of_bucket), "{next}");
    let names = Names {
        project: "my-project",
        terraform: "terraform",
        bucket: "",
    };
    let next = Cause::of(LOCKED).next(&names);
    assert!(
        next.contains("ends with it") && !next.contains("force-unlock"),
        "{next}"
    );
}

// Whatever ends one single question how far Google is, that is the cause, and not the words in it: the
// next step finds what was made.
#[test]
fn an_answer_that_was_lost() {
    for text in [
        "Error waiting for Network: error while retrieving operation: unable to finish polling, context has been cancelled",
        "Error waiting for instance to create: error while retrieving operation: Get \"https://compute.googleapis.com/compute/v1/projects/p/zones/z/operations/o\": dial tcp 127.0.0.1:443: connect: connection refused",
        "Error waiting for Disk: error while retrieving operation: googleapi: Error 401: Request had invalid authentication credentials., authError",
        "Error waiting for Disk: error while retrieving operation: googleapi: Error 403: Required 'compute.zoneOperations.get' permission for 'x', forbidden",
    ] {
        assert!(matches!(Cause::of(text), Cause::CutOff(_)), "{text}");
        let (what, next) = of(text);
        assert!(what.contains("let go of it"), "{what}");
        assert!(
            next.contains("`raftctl up`") && next.contains("`raftctl down`"),
            "{next}"
        );
    }
}

// Another checksum is no question of the network.
#[test]
fn another_checksum() {
    let text = "Error: Failed to install provider Error while installing hashicorp/google v7.45.0: the current package for registry.terraform.io/hashicorp/google 7.45.0 doesn't match any of the checksums previously recorded in the dependency lock file; for more information: https://www.terraform.io/language/provider-checksum-verification";
    assert_eq!(Cause::of(text), Cause::OtherChecksum);
    assert!(of(text).1.contains(".terraform.lock.hcl"));
}

// A name that is taken.
#[test]
fn a_conflict() {
    let (what, next) = of(
        "Error creating Network: googleapi: Error 409: The resource 'projects/my-project/global/networks/raft-demo' already exists, alreadyExists",
    );
    assert_eq!(
        what,
        "projects/my-project/global/networks/raft-demo exists already"
    );
    assert!(next.contains("another name"), "{next}");
}

// A missing permission is named.
#[test]
fn a_missing_permission() {
    let (what, next) = of(
        "Error creating Firewall: googleapi: Error 403: Required 'compute.firewalls.create' permission for 'projects/my-project/global/firewalls/raft-demo-ssh', forbidden",
    );
    assert_eq!(
        what,
        "your account lacks the permission compute.firewalls.create"
    );
    assert!(next.contains("compute.securityAdmin"), "{next}");
}

// A bucket that is not there, or not open to this account.
#[test]
fn a_bucket_for_the_state() {
    let (what, next) = of(
        "Error: Failed to get existing workspaces: querying Cloud Storage failed: storage: bucket doesn't exist",
    );
    assert!(what.contains("bucket"), "{what}");
    assert!(
        next.contains("gcloud storage buckets create gs://my-state "),
        "{next}"
    );
    let (what, next) = of(
        "Error: Failed to get existing workspaces: querying Cloud Storage failed: googleapi: Error 403: \
         ann@example.com does not have storage.objects.list access to the Google Cloud Storage bucket. \
         Permission 'storage.objects.list' denied on resource (or it may not exist)., forbidden",
    );
    assert_eq!(
        what,
        "your account lacks the permission storage.objects.list"
    );
    assert!(next.contains("storage.objectUser"), "{next}");
}

// A project that nobody pays for is no matter of roles, in whatever of Google's words.
#[test]
fn a_project_without_billing() {
    for text in [
        "Error creating Network: googleapi: Error 403: This API method requires billing to be enabled. Please enable billing on project #123456 by visiting https://console.developers.google.com/billing/enable?project=123456 then retry.\nDetails:\n[\n  {\n    \"reason\": \"BILLING_DISABLED\"\n  }\n]\n",
        "ERROR: (gcloud.compute.instances.list) HTTPError 403: This API method requires billing to be enabled.",
        "googleapi: Error 403: The billing account for the owning project is disabled in state absent, accountDisabled",
    ] {
        let (what, next) = of(text);
        assert_eq!(what, "the project has no billing account", "{text}");
        assert!(
            next.contains("gcloud billing projects link my-project --billing-account="),
            "{next}"
        );
    }
}

// The file of a provider that is in use says nothing about the registry.
#[test]
fn a_provider_in_use() {
    let text = "╷\n│ Error: Failed to install provider\n│ \n│ Error while installing hashicorp/google v7.45.0: open /home/ann/.cache/raftctl/terraform/registry.terraform.io/hashicorp/google/7.45.0/linux_amd64/terraform-provider-google_v7.45.0_x5: text file busy\n╵";
    assert_eq!(Cause::of(text), Cause::ProviderBusy);
}

// The provider can't be fetched.
#[test]
fn no_registry() {
    let text = "╷\n│ Error: Failed to query available provider packages\n│ \n│ Could not retrieve the list of available versions for provider\n│ hashicorp/google: could not connect to registry.terraform.io\n╵";
    assert_eq!(Cause::of(text), Cause::NoRegistry);
}

// What nobody has foreseen is shown as it is.
#[test]
fn anything_else_is_shown() {
    let cause = Cause::of("Error: something\n  new");
    assert_eq!(cause, Cause::Other("Error: something new".into()));
}

// Trouble of Google's own, and a limit of requests (which comes as a 403), is no lack of permission: time
// helps, and nothing else.
#[test]
fn what_passes_is_no_lack_of_permission() {
    let metric = "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of service \
                  'compute.googleapis.com' for consumer 'project_number:1'.";
    for (text, answer) in [
        (format!("ERROR: (gcloud.compute.instances.stop) HTTPError 403: {metric}"), "that there are too many requests"),
        (format!("Error creating Network: googleapi: Error 403: {metric}, rateLimitExceeded"), "that there are too many requests"),
        ("ERROR: (gcloud.compute.project-info.describe) Could not fetch resource:\n - Internal error. Please try again or contact Google Support.".into(), "503"),
        ("ERROR: (gcloud.compute.instances.stop) HTTPError 503: Internal error.".into(), "503"),
        ("Error creating instance: googleapi: Error 503: Internal error. Please try again or contact Google Support., backendError".into(), "503"),
        ("ERROR: (gcloud.compute.instances.stop) HTTPError 500: Backend Error".into(), "500"),
        ("ERROR: (gcloud.compute.instances.stop) HTTPError 429: Too many".into(), "429"),
    ] {
        let (what, next) = of(&text);
        assert_eq!(what, format!("Google answers {answer}"), "{text}");
        assert!(next.contains("in a minute") && !next.contains("permission"), "{next}");
    }
    // What is really forbidden stays so, and a quota of things is one.
    assert!(matches!(
        Cause::of(
            "googleapi: Error 403: Quota 'NETWORKS' exceeded.  Limit: 5.0 globally., quotaExceeded"
        ),
        Cause::QuotaExceeded { .. }
    ));
}

// Each policy of an organization that forbids what the module does is told with the setting that agrees
// with it.
#[test]
fn policies_name_their_setting() {
    for (text, setting) in [
        (
            "Error 412: Constraint constraints/compute.requireOsLogin violated for project p. The enable-oslogin metadata key may not be set to FALSE.",
            "os_login: true",
        ),
        (
            "Error 412: Constraint constraints/compute.vmExternalIpAccess violated for project 123456789012. Add instance projects/p/zones/z/instances/raft-demo-n1 to the constraint",
            "ssh_via: iap",
        ),
        (
            "Error 412: Constraint constraints/gcp.restrictNonCmekServices violated for projects/p attempting to create or modify a disk without CMEK.",
            "kms_key:",
        ),
        (
            "Error 412: Location ZONE:us-central1-a violates constraint constraints/gcp.resourceLocations on the resource projects/p/zones/z/disks/d.",
            "gcp.zones",
        ),
        (
            "Error 412: Constraint constraints/compute.requireShieldedVm violated for project projects/p. Secure Boot is not enabled",
            "secure_boot: true",
        ),
        (
            "Error 412: Constraint constraints/compute.trustedImageProjects violated for project p. Use of images from project debian-cloud is prohibited.",
            "gcp.image",
        ),
        (
            "HTTPError 412: Constraint constraints/compute.somethingNew violated for project p.",
            "looks after the organization's policies",
        ),
    ] {
        let (what, next) = of(text);
        let name = text
            .split("constraints/")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        assert_eq!(
            what,
            format!("a policy of your organization forbids it: {name}")
        );
        assert!(next.contains(setting), "{next}");
        let show =
            format!("`gcloud org-policies describe {name} --effective --project=my-project`");
        assert!(next.contains(&show), "{next}");
    }
}

// What there is none of is the same in each zone, and its step is a correction, not another look.
#[test]
fn what_is_not_there_is_named() {
    for (text, what, next) in [
        (
            "googleapi: Error 404: The resource 'projects/my-projekt' was not found, notFound",
            "there is no project my-projekt",
            "gcp.project",
        ),
        (
            "ERROR: (gcloud.compute.project-info.describe) Could not fetch resource:\n - The resource 'projects/my-projekt' was not found",
            "there is no project my-projekt",
            "gcloud projects list",
        ),
        (
            "googleapi: Error 400: Invalid value for field 'zone': 'us-central9-a'. Unknown zone., invalid",
            "there is no zone us-central9-a",
            "zones list",
        ),
        (
            "ERROR: - The resource 'projects/p/zones/us-central1-a/machineTypes/e2-smal' was not found",
            "there is no machine type e2-smal",
            "gcp.machine_type",
        ),
        (
            "googleapi: Error 400: Invalid value for field 'resource.machineType': 'https://www.googleapis.com/compute/v1/projects/p/zones/us-central1-b/machineTypes/e2-smal'. Machine type was not found",
            "there is no machine type e2-smal",
            "gcp.machine_type",
        ),
        (
            "Error: googleapi: Error 404: The resource 'projects/debian-cloud/global/images/family/debian-99' was not found, notFound",
            "there is no boot image debian-99",
            "gcp.image",
        ),
        (
            "googleapi: Error 404: The resource 'projects/host/regions/us-central1/subnetworks/corp' was not found, notFound",
            "there is no subnetwork corp",
            "gcp.subnetwork (and",
        ),
    ] {
        let (told, advice) = of(text);
        assert_eq!(told, what, "{text}");
        assert!(advice.contains(next), "{advice}");
    }
    let in_zone = |zone: &str| {
        Cause::of(&format!(
            "The resource 'projects/p/zones/{zone}/machineTypes/e2-smal' was not found"
        ))
    };
    assert_eq!(in_zone("us-central1-a"), in_zone("us-east1-b"));
    // What the cluster made itself is no matter of cluster.yaml.
    let own = Cause::of("The resource 'projects/p/global/networks/raft-demo' was not found");
    assert!(matches!(own, Cause::Other(_)), "{own:?}");
}

// A zone that does not answer leaves a list incomplete; an expired token is no riddle; what is in use
// names its user.
#[test]
fn other_answers_of_google() {
    let silent = "ERROR: (gcloud.compute.instances.list) Some requests did not succeed:\n - Some resources of zones/us-central1-a could not be reached.";
    assert_eq!(
        Cause::of(silent),
        Cause::PlaceSilent("us-central1-a".into())
    );
    let expired = "UNAUTHENTICATED: Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.";
    assert_eq!(Cause::of(expired), Cause::NoCredentials);
    let used = "googleapi: Error 400: The disk resource 'projects/p/zones/z/disks/raft-demo-n1-data' is already being used by 'projects/p/zones/z/instances/somebody-s', resourceInUseByAnotherResource";
    let (what, next) = of(used);
    assert!(
        what.contains("projects/p/zones/z/instances/somebody-s uses it"),
        "{what}"
    );
    assert!(next.contains("gcloud"), "{next}");
    let cancelled =
        "Request cancelled The plugin6.(*GRPCProvider).ApplyResourceChange request was cancelled.";
    for died in ["Plugin did not respond", cancelled] {
        assert_eq!(Cause::of(died), Cause::ProviderDied);
    }
    let (_, next) = of(cancelled);
    assert!(next.contains("run this again"), "{next}");
}

// No advice leads back to the verb that gives it, and none is empty.
#[test]
fn nothing_ends_in_nothing() {
    let (what, next) = of("");
    assert_eq!(what, "it ended without a word");
    assert!(!next.is_empty());
}
