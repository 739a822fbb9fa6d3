//! `raftctl check` on Google Cloud: what is missing is said before anything is made.

use harness::{Test, tests};
use std::io::{BufRead, BufReader};

use crate::cloud::{Cloud, GCLOUD, TERRAFORM, ended, fault};
use serde_json::json;

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        a_check_tells_what_is_missing,
        missing_programs_are_named,
        the_api_of_identity_aware_proxy_is_checked,
        names_that_google_does_not_know_are_found,
        os_login_decides_whom_to_log_in_as,
        up_waits_for_a_machine_that_is_going_off
    )
}

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
fn a_check_tells_what_is_missing() {
    // Five of the seven nodes come to be in us-central1.
    let yaml = YAML
        .replace("timing: wan\n", "")
        .replace("nodes: 5", "nodes: 7");
    let cloud = Cloud::new(&yaml);
    let mut command = cloud.command(&["check"]);
    command
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env_remove("GOOGLE_OAUTH_ACCESS_TOKEN")
        .env("HOME", cloud.folder.path());
    let check = ended(command)
        .code(10)
        .says("see credentials, my-project, us-central1 above")
        .says("timing: wan");
    for words in [
        "ok    Terraform: terraform 1.",
        "WRONG credentials:",
        "gcloud auth application-default login",
        "ok    project: my-project",
        // Nothing of it stands, so `up` would be refused.
        "WRONG us-central1: quota CPUS: 10 needed, 8 of 8 left; ask for more CPUS",
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
fn the_api_of_identity_aware_proxy_is_checked() {
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

// Names that Google does not know are found before anything is made, each once with what to correct; and
// an access token in the environment is what Terraform takes, whatever gcloud knows.
fn names_that_google_does_not_know_are_found() {
    let others =
        "  machine_type: e2-smal\n  image: projects/debian-cloud/global/images/family/missing\n";
    let cloud = Cloud::new(&format!("{YAML}{others}"));
    let check = cloud
        .raftctl(&["check"])
        .code(10)
        .says("see machine type, image above");
    for words in [
        "ok    credentials: the access token in GOOGLE_OAUTH_ACCESS_TOKEN",
        "WRONG machine type: there is no e2-smal in any of the zones; correct gcp.machine_type",
        "WRONG image: cannot look at the boot image: there is no boot image missing\n  correct gcp.image",
    ] {
        assert!(check.stdout.contains(words), "{words}: {}", check.stdout);
    }
    cloud.write(&YAML.replace("us-east1-b", "us-east9-b"));
    let check = cloud.raftctl(&["check"]).code(10);
    let words = "WRONG zones: Google has no zone us-east9-b for this project; correct gcp.zones";
    assert!(check.stdout.contains(words), "{}", check.stdout);
    // A project that is not there is told once, and its step is no other check.
    cloud.write(YAML);
    cloud.order(&json!({"calls": [{"call": "*", "http": {
        "code": 404, "reason": "notFound", "message": "The resource 'projects/my-project' was not found"}}]}));
    let check = cloud.raftctl(&["check"]).code(10);
    let words = "WRONG project: cannot look at the project: there is no project my-project\n  correct gcp.project";
    assert!(check.stdout.contains(words), "{}", check.stdout);
    assert_eq!(
        check.stdout.matches("there is no project").count(),
        1,
        "{}",
        check.stdout
    );
    assert!(!check.stdout.contains("raftctl check"), "{}", check.stdout);
}

// Where OS Login is asked for, the cluster's key goes into the profile of whoever runs raftctl, which says
// whom to log in as; `down` takes it out again.
fn os_login_decides_whom_to_log_in_as() {
    let yaml = YAML
        .replace("nodes: 5", "nodes: 1")
        .replace("gcp:\n", "gcp:\n  os_login: true\n");
    let cloud = Cloud::new(&yaml);
    let run = |arguments: &[&str]| {
        let mut command = cloud.command(arguments);
        command.env("CLOUDSDK_CORE_ACCOUNT", "ann@example.com");
        ended(command)
    };
    // No host is behind the machine.
    let up = run(&["up", "--timeout", "1s"]);
    assert_ne!(up.code, 0, "{up:?}");
    let kept = |name: &str| {
        std::fs::read_to_string(cloud.folder.path().join(".raftctl/demo").join(name)).unwrap()
    };
    assert!(
        kept("ssh_config.machines").contains("User ann_example_com\n"),
        "{up:?}"
    );
    let keys = || {
        let mut command = cloud.program(
            "gcloud",
            &["compute", "os-login", "describe-profile", "--format=json"],
        );
        command.env("CLOUDSDK_CORE_ACCOUNT", "ann@example.com");
        ended(command).code(0).json()["sshPublicKeys"].to_string()
    };
    let public = kept("id_ed25519.pub");
    assert!(keys().contains(public.trim()), "{}", keys());
    run(&["down", "--yes"]).code(0);
    assert!(!keys().contains(public.trim()), "{}", keys());
}

// A machine that is just going off can't be switched on: `up` says so, waits, and then does.
fn up_waits_for_a_machine_that_is_going_off() {
    let cloud = Cloud::new(&YAML.replace("nodes: 5", "nodes: 1"));
    // No host is behind the machine, so that it is never ready.
    let up = || cloud.command(&["up", "--timeout", "1s"]);
    ended(up());
    let google = &cloud.provider.google;
    let id = google.of_type("google_compute_instance")[0].0.clone();
    google.switch(&id, "STOPPING").unwrap();
    let mut running = up().spawn().unwrap();
    let mut said = BufReader::new(running.stderr.take().unwrap()).lines();
    let waits = "waiting until the machines of node 1 are off";
    assert!(
        said.any(|line| line.unwrap().starts_with(waits)),
        "it does not wait"
    );
    google.switch(&id, "TERMINATED").unwrap();
    let rest: Vec<String> = said.map(|line| line.unwrap()).collect();
    running.wait().unwrap();
    let status = google.find(&id).unwrap().state["current_status"].clone();
    assert_eq!(status, "RUNNING", "{rest:?}");
}
