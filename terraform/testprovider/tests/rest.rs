//! The REST calls of the stand-in under the real gcloud: it lists, reads and deletes all kinds, and hides
//! failures as it does at Google.

use harness::{Need, Test, program_is_missing, tests};
use std::process::{Command, Output};

use crate::support::{TERRAFORM, Workspace};
use serde_json::{Value as Json, json};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        gcloud_lists_and_deletes_all_kinds,
        gcloud_hides_failures_here_as_at_google
    )
}

static GCLOUD: Need =
    Need::new(|| program_is_missing("gcloud", "see https://cloud.google.com/sdk/docs/install"));

fn gcloud(workspace: &Workspace, arguments: &[&str]) -> Output {
    command(workspace, arguments).output().unwrap()
}

fn command(workspace: &Workspace, arguments: &[&str]) -> Command {
    let folder = workspace.directory.path();
    std::fs::write(folder.join("token"), "no-real-token").unwrap();
    let mut command = Command::new("gcloud");
    command
        .args(["compute", "--project=example-project", "--quiet"])
        .args(arguments)
        .env("CLOUDSDK_CONFIG", folder.join("gcloud"))
        .env("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", folder.join("token"))
        .env("CLOUDSDK_CORE_DISABLE_USAGE_REPORTING", "1")
        .env(
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE",
            &workspace.provider.compute_endpoint,
        );
    command
}

/// The names that a list shows, sorted: the order is nobody's promise.
fn names(workspace: &Workspace, list: &[&str]) -> Vec<String> {
    let output = gcloud(workspace, &[list, &["list", "--format=json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{list:?}: {errors}");
    let items: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
    let names = items.iter().map(|item| item["name"].as_str().unwrap());
    let mut names: Vec<_> = names.map(String::from).collect();
    names.sort();
    names
}

// Each kind is listed as it is made, and goes by gcloud's own deletions, also several in one call.
fn gcloud_lists_and_deletes_all_kinds() {
    let mut workspace = Workspace::new();
    workspace.variables["nodes"] = json!({
        "n1": {"id": 1, "region": "us-central1", "zone": "us-central1-a"},
        "n2": {"id": 2, "region": "us-central1", "zone": "us-central1-a"},
    });
    workspace.variables["regions"] = json!({"us-central1": "10.80.0.0/24"});
    workspace.variables["owner"] = json!("3f9a1c20");
    workspace.apply();
    assert_eq!(names(&workspace, &["networks"]), ["raft-demo"]);
    assert_eq!(
        names(&workspace, &["networks", "subnets"]),
        ["raft-demo-us-central1"]
    );
    assert_eq!(
        names(&workspace, &["firewall-rules"]),
        ["raft-demo-peers", "raft-demo-ssh"]
    );
    assert_eq!(
        names(&workspace, &["addresses"]),
        ["raft-demo-n1", "raft-demo-n2"]
    );
    // Boot disks carry their machine's name, and go with it.
    assert_eq!(
        names(&workspace, &["disks"]),
        [
            "raft-demo-n1",
            "raft-demo-n1-data",
            "raft-demo-n2",
            "raft-demo-n2-data"
        ]
    );
    let machines = gcloud(&workspace, &["instances", "list", "--format=json"]);
    let machines: Json = serde_json::from_slice(&machines.stdout).unwrap();
    assert_eq!(
        machines[1]["description"],
        "Raft cluster demo, owner 3f9a1c20"
    );
    assert_eq!(machines[1]["labels"]["raft-owner"], "3f9a1c20");

    let in_use = gcloud(&workspace, &["networks", "delete", "raft-demo"]);
    let said = String::from_utf8_lossy(&in_use.stderr);
    assert!(!in_use.status.success(), "{said}");
    assert!(said.contains("is already being used by"), "{said}");
    for deletion in [
        &[
            "instances",
            "delete",
            "raft-demo-n1",
            "raft-demo-n2",
            "--zone=us-central1-a",
        ][..],
        &[
            "disks",
            "delete",
            "raft-demo-n1-data",
            "raft-demo-n2-data",
            "--zone=us-central1-a",
        ],
        &[
            "addresses",
            "delete",
            "raft-demo-n1",
            "raft-demo-n2",
            "--region=us-central1",
        ],
        &[
            "firewall-rules",
            "delete",
            "raft-demo-ssh",
            "raft-demo-peers",
        ],
        &[
            "networks",
            "subnets",
            "delete",
            "raft-demo-us-central1",
            "--region=us-central1",
        ],
        &["networks", "delete", "raft-demo"],
    ] {
        let output = gcloud(&workspace, deletion);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{deletion:?}: {said}");
    }
    assert_eq!(workspace.provider.google.count(), 0);
}

// A list that Google refuses, or a zone of which it knows nothing, is a success of gcloud's with less in
// it, unless it is told to take no part for the whole.
fn gcloud_hides_failures_here_as_at_google() {
    let workspace = Workspace::new();
    let list = ["instances", "list", "--format=json"];
    let refusal =
        json!({"code": 403, "reason": "forbidden", "message": "Required 'compute.instances.list'"});
    for orders in [
        json!({"calls": [{"call": "instances.aggregatedList", "http": refusal}]}),
        json!({"unreachable": ["zones/us-central1-a"]}),
    ] {
        workspace.order(&orders);
        let hidden = gcloud(&workspace, &list);
        assert!(hidden.status.success(), "{orders}: {hidden:?}");
        assert_eq!(String::from_utf8_lossy(&hidden.stdout).trim(), "[]");
        let mut strict = command(&workspace, &list);
        strict.env("CLOUDSDK_COMPUTE_ALLOW_PARTIAL_ERROR", "false");
        assert_eq!(strict.output().unwrap().status.code(), Some(1), "{orders}");
    }
}
