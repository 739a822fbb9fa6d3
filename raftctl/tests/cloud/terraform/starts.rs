//! Which machines are started: those that are off, and no others. A new one is not waited for, and one that runs
//! is not touched.

use harness::{Test, tests};
use serde_json::{Value, json};

use super::{FIVE, made_of};
use crate::cloud::{Cloud, GCLOUD, TERRAFORM, ended};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        who_is_off_is_started_and_nobody_else,
        a_machine_without_an_external_address_is_started_as_well,
        a_cluster_of_an_older_raftctl_is_not_changed
    )
}

/// `up` as far as it can get: nobody is at the addresses of the machines.
#[track_caller]
fn up(cloud: &Cloud) -> String {
    let up = cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    up.says("not ready after 1 s").stderr
}

#[track_caller]
fn planned(cloud: &Cloud) -> Vec<String> {
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    cloud.changes(&plan)
}

/// Whom Terraform was asked to start, by node, as its state has it.
fn asked_to_start(cloud: &Cloud) -> Vec<(String, Value)> {
    let state = cloud
        .folder
        .path()
        .join(".raftctl/demo/terraform/terraform.tfstate");
    let state: Value = serde_json::from_str(&std::fs::read_to_string(state).unwrap()).unwrap();
    let resources = state["resources"].as_array().unwrap().iter();
    let machines = resources.filter(|resource| resource["type"] == "google_compute_instance");
    let machines = machines.flat_map(|resource| resource["instances"].as_array().unwrap());
    let asked = machines.map(|machine| {
        let name = machine["index_key"].as_str().unwrap().to_owned();
        (name, machine["attributes"]["desired_status"].clone())
    });
    asked.filter(|(_, status)| !status.is_null()).collect()
}

fn machine(node: &str, zone: &str) -> String {
    format!("projects/my-project/zones/{zone}/instances/raft-demo-{node}")
}

// A fresh cluster asks Google's provider to start nobody, which would take it five seconds for each machine, and
// gcloud for no more than whose the names are, and one token for all host keys. A machine that goes off is the one that `plan` shows and `up`
// starts; after that there is nothing to do.
fn who_is_off_is_started_and_nobody_else() {
    let cloud = made_of(FIVE);
    up(&cloud);
    assert_eq!(asked_to_start(&cloud), []);
    let (tokens, mut calls): (Vec<String>, Vec<String>) = cloud
        .calls()
        .into_iter()
        .partition(|call| call.starts_with("auth print-access-token"));
    assert!(tokens.len() <= 1, "{tokens:?}");
    calls.sort();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[0].starts_with("compute disks list "), "{calls:?}");
    assert!(calls[1].starts_with("compute networks list "), "{calls:?}");
    assert_eq!(planned(&cloud), Vec::<String>::new());
    up(&cloud);
    assert_eq!(asked_to_start(&cloud), []);

    let google = &cloud.provider.google;
    let off = machine("n2", "us-central1-b");
    google.switch(&off, "TERMINATED").unwrap();
    assert_eq!(planned(&cloud), ["change machine n2"]);
    let said = up(&cloud);
    assert!(said.contains("infrastructure: change 1\n"), "{said}");
    assert_eq!(
        google.find(&off).unwrap().state["current_status"],
        "RUNNING"
    );
    let started = [("n2".to_owned(), json!("RUNNING"))];
    assert_eq!(asked_to_start(&cloud), started);
    assert_eq!(planned(&cloud), Vec::<String>::new());
    // It keeps what it has, and a new one beside it has none.
    google.switch(&off, "TERMINATED").unwrap();
    assert_eq!(planned(&cloud), ["change machine n2"]);
}

// Without external addresses nothing of a machine that is off shows in what Terraform compares; and a machine
// that is going off is switched on, too, once it is off.
fn a_machine_without_an_external_address_is_started_as_well() {
    let iap = FIVE.replace("nodes: 5", "nodes: 1");
    let iap = iap.replace(
        "  ssh_via: external\n  operator_cidrs: [127.0.0.1/32]\n",
        "",
    );
    let cloud = made_of(&iap);
    up(&cloud);
    assert_eq!(planned(&cloud), Vec::<String>::new());
    let google = &cloud.provider.google;
    let only = machine("n1", "us-central1-a");
    google.switch(&only, "TERMINATED").unwrap();
    assert_eq!(planned(&cloud), ["change machine n1"]);
    google.switch(&only, "STOPPING").unwrap();
    assert_eq!(planned(&cloud), ["change machine n1"]);
    google.switch(&only, "RUNNING").unwrap();
    assert_eq!(planned(&cloud), Vec::<String>::new());
}

// Where an older raftctl has asked for the start of every machine, nothing is changed, and nothing is left
// undone.
fn a_cluster_of_an_older_raftctl_is_not_changed() {
    let three = FIVE.replace("nodes: 5", "nodes: 3");
    let cloud = made_of(&three);
    up(&cloud);
    let variables = cloud
        .folder
        .path()
        .join(".raftctl/demo/terraform/raftctl.auto.tfvars.json");
    let mut older: Value =
        serde_json::from_str(&std::fs::read_to_string(&variables).unwrap()).unwrap();
    for node in older["nodes"].as_object_mut().unwrap().values_mut() {
        assert_eq!(
            node.as_object_mut().unwrap().remove("start"),
            Some(json!(false))
        );
    }
    std::fs::write(&variables, older.to_string()).unwrap();
    let apply = ["-chdir=.raftctl/demo/terraform", "apply", "-auto-approve"];
    ended(cloud.program("terraform", &apply)).code(0);
    let all = ["n1", "n2", "n3"].map(|name| (name.to_owned(), json!("RUNNING")));
    assert_eq!(asked_to_start(&cloud), all);

    assert_eq!(planned(&cloud), Vec::<String>::new());
    up(&cloud);
    assert_eq!(asked_to_start(&cloud), all);
    let google = &cloud.provider.google;
    google
        .switch(&machine("n3", "us-east1-b"), "TERMINATED")
        .unwrap();
    assert_eq!(planned(&cloud), ["change machine n3"]);
}
