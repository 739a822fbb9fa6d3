//! `raftctl check` on Google Cloud: what is missing is said before anything is made.

#[path = "support/cloud.rs"]
mod cloud;

use cloud::{Cloud, ended, fault, gcloud_is_missing, terraform_is_missing};
use serde_json::json;

const YAML: &str = "\
name: demo
provider: gcp
timing: wan
nodes: 5
gcp:
  project: my-project
  zones: [us-central1-a, us-central1-b, us-east1-b]
  ssh_via: external
  operator_cidrs: [127.0.0.1/32]
";

// What is missing is said before anything is made: here gcloud finds the project and its quotas, but
// Terraform would find no credentials.
#[test]
fn a_check_tells_what_is_missing() {
    if terraform_is_missing() || gcloud_is_missing() {
        return;
    }
    // Five of the seven nodes come to be in us-central1.
    let yaml = YAML
        .replace("timing: wan\n", "")
        .replace("nodes: 5", "nodes: 7");
    let cloud = Cloud::new(&yaml);
    let mut command = cloud.command(&["check"]);
    command
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env("HOME", cloud.folder.path());
    let check = ended(command)
        .code(10)
        .says("see credentials above")
        .says("timing: wan");
    for words in [
        "ok    Terraform: terraform 1.",
        "WRONG credentials:",
        "gcloud auth application-default login",
        "ok    project: my-project",
        "us-central1: quota CPUS: 10 needed, 8 of 8 left",
        "ok    open to: SSH from 127.0.0.1/32; clients through SSH only",
    ] {
        assert!(
            check.stdout.contains(words),
            "{words} is not in {}",
            check.stdout
        );
    }
    let enough = "us-east1: quotas suffice: 4 of 8 CPUS, 2 of 24 INSTANCES, 2 of 4 IN_USE_ADDRESSES, 40 of 480 SSD_TOTAL_GB";
    assert!(check.stdout.contains(enough), "{}", check.stdout);
    assert_eq!(cloud.count(), 0);
}

// Without Terraform, OpenTofu and gcloud each is named, with where to get it.
#[test]
fn missing_programs_are_named() {
    let cloud = Cloud::new(YAML);
    let mut command = cloud.command(&["check"]);
    let nothing = cloud.folder.path().join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    command.env("PATH", nothing);
    let check = ended(command).code(10);
    assert!(
        check
            .stdout
            .contains("neither terraform nor tofu is installed"),
        "{}",
        check.stdout
    );
    assert!(
        check.stdout.contains("gcloud is not installed"),
        "{}",
        check.stdout
    );
}

// Where SSH comes through Identity-Aware Proxy, its API has to be enabled; where it doesn't, nobody
// asks.
#[test]
fn the_api_of_identity_aware_proxy_is_checked() {
    if terraform_is_missing() || gcloud_is_missing() {
        return;
    }
    let iap = YAML
        .replace("ssh_via: external", "ssh_via: iap")
        .replace("  operator_cidrs: [127.0.0.1/32]\n", "");
    let cloud = Cloud::new(&iap);
    let finding = || {
        let check = cloud.raftctl(&["check", "--output", "json"]).json();
        let findings = check["findings"].as_array().unwrap().clone();
        let about = |finding: &&serde_json::Value| finding["subject"] == "iap.googleapis.com";
        findings.iter().find(about).cloned()
    };
    assert_eq!(finding().unwrap()["ok"], json!(true));
    cloud.order(&fault("service_disabled", "iap.googleapis.com"));
    let disabled = finding().unwrap();
    assert_eq!(disabled["ok"], json!(false));
    let enable = "gcloud services enable iap.googleapis.com --project=my-project";
    assert!(
        disabled["text"].as_str().unwrap().contains(enable),
        "{disabled}"
    );
    cloud.write(YAML);
    assert_eq!(finding(), None);
}
