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

// Who, since when, and how to break it; as Terraform frames it.
#[test]
fn a_locked_state() {
    let text = "╷\n│ Error: Error acquiring the state lock\n│ \n│ Error message: resource temporarily unavailable\n│ Lock Info:\n│   ID:        0e1d5a2c-7b1f-6f8f-5d6e-0a9e0f1c2b3d\n│   Path:      terraform.tfstate\n│   Operation: OperationTypeApply\n│   Who:       ann@laptop\n│   Version:   1.11.4\n│   Created:   2026-11-21 09:56:18.9 +0000 UTC\n│   Info:      \n│ \n│ Terraform acquires a state lock to protect the state from being written\n╵";
    let (what, next) = of(text);
    assert_eq!(
        what,
        "ann@laptop has been changing this cluster since 2026-11-21 09:56:18.9 +0000 UTC"
    );
    assert!(
        next.contains(
            "run `terraform -chdir=/home/ann/.raftctl/demo/terraform force-unlock \
             0e1d5a2c-7b1f-6f8f-5d6e-0a9e0f1c2b3d`"
        ),
        "{next}"
    );
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
