//! What a plan shows, and what keeps it from being carried out.

use harness::{Test, tests};
use serde_json::json;

use super::{FIVE, made_of};
use crate::cloud::{GCLOUD, TERRAFORM, ended, fault, which};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        a_plan_shows_everything_and_makes_nothing,
        failures_become_causes,
        tofu_takes_terraform_s_place,
        a_missing_registry_is_told,
        a_quota_failure_can_be_gone_on_from,
        a_first_try_can_be_corrected,
        a_new_address_is_heeded,
        a_machine_that_leaves_keeps_its_type,
        another_zone_is_refused,
        the_private_key_stays_here,
        a_disk_deleted_by_hand_is_a_loss
    )
}

// Five machines in two regions, files and processes in one list; and nothing is made by a plan.
fn a_plan_shows_everything_and_makes_nothing() {
    let cloud = made_of(FIVE);
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    let changes = cloud.changes(&plan);
    assert_eq!(changes.len(), 20, "{changes:?}");
    assert_eq!(changes[0], "create network");
    for what in [
        "create subnet us-east1",
        "create data disk n5",
        "create machine n3",
        "create firewall rule ssh",
    ] {
        assert!(
            changes.iter().any(|change| change == what),
            "{what} is not in {changes:?}"
        );
    }
    let steps = plan.json()["steps"].as_array().unwrap().clone();
    let actions: Vec<_> = steps
        .iter()
        .map(|step| step["action"].as_str().unwrap())
        .collect();
    assert!(actions.ends_with(&["start", "wait"]), "{actions:?}");
    assert_eq!(cloud.count(), 0);
    assert!(
        !cloud.folder.path().join(".raftctl/demo/gcp.json").exists(),
        "a plan decides nothing"
    );
    // Where Terraform keeps Google's provider for all clusters.
    assert!(cloud.folder.path().join("cache/raftctl/terraform").is_dir());

    let text = cloud.raftctl(&["up", "--dry-run"]).code(0);
    assert!(
        text.stdout.contains("create machine n1") && text.stdout.contains("start"),
        "{}",
        text.stdout
    );
    assert_eq!(cloud.count(), 0);
}

// What is wrong at Google is told as a cause with the next command, from Terraform's own output.
fn failures_become_causes() {
    let cases = [
        (
            "no_credentials",
            "no valid credentials",
            "gcloud auth application-default login",
        ),
        (
            "service_disabled",
            "compute.googleapis.com is not enabled",
            "gcloud services enable",
        ),
        (
            "quota_exceeded",
            "the quota CPUS (limit 8.0) is used up",
            "smaller machine_type",
        ),
        (
            "zone_exhausted",
            "no machine of this type left",
            "another zone",
        ),
        (
            "forbidden",
            "lacks the permission compute.networks.create",
            "compute.networkAdmin",
        ),
        ("already_exists", "exists already", "another name"),
    ];
    let cloud = made_of(FIVE);
    for (kind, cause, next) in cases {
        cloud.order(&fault(kind, "google_compute_network"));
        cloud.raftctl(&["up"]).code(10).says(cause).says(next);
    }
}

// Where only OpenTofu is installed it is used. (Here it is Terraform by another name.)
fn tofu_takes_terraform_s_place() {
    let cloud = made_of(FIVE);
    let programs = cloud.folder.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for (name, program) in [("tofu", "terraform"), ("ssh-keygen", "ssh-keygen")] {
        std::os::unix::fs::symlink(which(program), programs.join(name)).unwrap();
    }
    let mut command = cloud.command(&["plan", "--output", "json"]);
    command.env("PATH", &programs);
    assert_eq!(cloud.changes(&ended(command).code(0)).len(), 20);
}

// Without a way to the registry, that is what is said.
fn a_missing_registry_is_told() {
    let cloud = made_of(FIVE);
    let mut command = cloud.command(&["plan"]);
    // Nobody listens there, and Terraform asks once.
    command
        .env_remove("TF_REATTACH_PROVIDERS")
        .env("HTTPS_PROXY", "http://127.0.0.1:9");
    command
        .env("TF_REGISTRY_DISCOVERY_RETRY", "0")
        .env("TF_REGISTRY_CLIENT_TIMEOUT", "2");
    ended(command)
        .code(10)
        .says("can't fetch Google's provider")
        .says("HTTPS_PROXY");
}

// A quota stops one machine of five: the cause is told, what was made is remembered, and the next
// plan makes the one that is missing.
fn a_quota_failure_can_be_gone_on_from() {
    let cloud = made_of(FIVE);
    cloud.order(&json!({"faults": [
        {"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n3"}
    ]}));
    // Four of five are enough to go on with; but nobody is at their addresses.
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("the quota CPUS (limit 8.0) is used up in us-east1")
        .says("not ready after 1 s")
        // A line for each resource as it is done, in words.
        .says("create subnet us-east1 (")
        .says("create machine n5 (");
    assert_eq!(cloud.count(), 19);
    cloud.order(&json!({}));
    let state = ended(cloud.program(
        "terraform",
        &["-chdir=.raftctl/demo/terraform", "plan", "-no-color"],
    ));
    assert!(
        state
            .stdout
            .contains("Plan: 1 to add, 0 to change, 0 to destroy"),
        "{}",
        state.stdout
    );
    assert!(
        state
            .stdout
            .contains("google_compute_instance.node[\"n3\"] will be created")
    );
}

// A first try with machines that are too large: the advice to take smaller ones can be followed, since
// there is no cluster yet that has to serve meanwhile.
fn a_first_try_can_be_corrected() {
    let cloud = made_of(FIVE);
    let fault = |name: &str| json!({"kind": "quota_exceeded", "resource": "google_compute_instance", "name": name});
    let faults = ["raft-demo-n3", "raft-demo-n4", "raft-demo-n5"].map(fault);
    cloud.order(&json!({"faults": faults}));
    cloud
        .raftctl(&["up"])
        .code(10)
        .says("a smaller machine_type");
    cloud.order(&json!({}));
    cloud.write(&FIVE.replace("gcp:\n", "gcp:\n  machine_type: e2-micro\n"));
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    let changes = cloud.changes(&plan);
    assert_eq!(
        changes,
        [
            "change machine n1",
            "change machine n2",
            "create machine n3",
            "create machine n4",
            "create machine n5"
        ]
    );
}

// An address that Google changed by itself is no change of a resource, and yet the next `up` goes by
// the new one.
fn a_new_address_is_heeded() {
    let cloud = made_of(FIVE);
    // Nobody is there: these addresses are set aside for examples.
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("not ready after 1 s");
    let id = "projects/my-project/zones/us-central1-a/instances/raft-demo-n1";
    let moved = json!("192.0.2.77");
    let google = &cloud.provider.google;
    let address = moved.clone();
    google
        .touch(id, |state| {
            state["network_interface"][0]["access_config"][0]["nat_ip"] = address
        })
        .unwrap();
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    let kept =
        std::fs::read_to_string(cloud.folder.path().join(".raftctl/demo/machines.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["nodes"]["n1"]["external_ip"], moved);
}

// Another machine type stops a machine that runs. Those of nodes that leave keep theirs, whoever has given it to them:
// it may take them to let the nodes leave.
fn a_machine_that_leaves_keeps_its_type() {
    let cloud = made_of(&FIVE.replace("nodes: 5", "nodes: 2"));
    let up = ["up", "--timeout", "1s"];
    cloud.raftctl(&up).code(10).says("not ready after 1 s");
    let one = FIVE.replace("nodes: 5", "nodes: 1");
    cloud.write(&one.replace("gcp:\n", "gcp:\n  machine_type: e2-medium\n"));
    let planned = || {
        let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
        cloud.changes(&plan)
    };
    assert_eq!(planned(), ["change machine n1"]);
    let google = &cloud.provider.google;
    let leaving = "projects/my-project/zones/us-central1-b/instances/raft-demo-n2";
    google
        .touch(leaving, |state| state["machine_type"] = "e2-large".into())
        .unwrap();
    assert_eq!(planned(), ["change machine n1"]);
    cloud
        .raftctl(&up)
        .code(10)
        .says("infrastructure: change 1\n");
    assert_eq!(
        google.find(leaving).unwrap().state["machine_type"],
        "e2-large"
    );
    cloud.raftctl(&["down", "--yes"]).code(0);
}

// Another zone would replace the node's data disk: refused before anything is done.
fn another_zone_is_refused() {
    let list = |zone: &str| {
        FIVE.replace(
            "nodes: 5",
            &format!("nodes: [{{id: 1, zone: {zone}}}, {{id: 2}}, {{id: 3}}]"),
        )
    };
    let cloud = made_of(&list("us-central1-a"));
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    let made = cloud.count();
    cloud.write(&list("us-central1-f"));
    cloud
        .raftctl(&["up"])
        .code(2)
        .says("REPLACE data disk n1")
        .says("--allow-data-loss");
    assert_eq!(cloud.count(), made);
    let plan = cloud
        .raftctl(&["plan", "--allow-data-loss", "--output", "json"])
        .code(0);
    assert!(
        cloud
            .changes(&plan)
            .contains(&"REPLACE data disk n1".to_owned())
    );
    // Where that is accepted, what goes is asked for all the same.
    let up = cloud.raftctl(&["up", "--allow-data-loss"]).code(2);
    up.says("--yes");
    assert_eq!(cloud.count(), made);
}

// The private key is for the operator alone: neither Terraform nor its state ever sees it.
fn the_private_key_stays_here() {
    use std::os::unix::fs::PermissionsExt;
    let cloud = made_of(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    let base = cloud.folder.path().join(".raftctl/demo");
    let key = base.join("id_ed25519");
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let secret = std::fs::read_to_string(&key).unwrap();
    let line = secret.lines().nth(1).unwrap();
    for entry in std::fs::read_dir(base.join("terraform")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&text);
            assert!(
                !text.contains(line),
                "the private key is in {}",
                path.display()
            );
        }
    }
}

// Somebody deletes the data disk of a member, whose machine runs on: `plan` and `up` call that a loss alike, and
// change nothing; where that is accepted the machine comes anew with its disk.
fn a_disk_deleted_by_hand_is_a_loss() {
    let cloud = made_of(&FIVE.replace("nodes: 5", "nodes: 1"));
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    let decided = cloud.folder.path().join(".raftctl/demo/gcp.json");
    let text = std::fs::read_to_string(&decided).unwrap();
    let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    kept["members"] = json!([1]);
    std::fs::write(&decided, kept.to_string()).unwrap();
    let google = &cloud.provider.google;
    let disk = google.of_type("google_compute_disk")[0].0.clone();
    google.detach(&disk).unwrap();
    google.delete(&disk).unwrap();
    let there = cloud.count();
    for verb in ["plan", "up"] {
        cloud
            .raftctl(&[verb, "--yes"])
            .code(2)
            .says("create data disk n1, with nothing on it: the one with the node's data is gone from Google")
            .says("bring the disk back from a snapshot")
            .says("--allow-data-loss");
        assert_eq!(cloud.count(), there);
    }
    cloud
        .raftctl(&["up", "--yes", "--allow-data-loss", "--timeout", "1s"])
        .code(10)
        .says("infrastructure: create 1, replace 1\n");
    cloud.raftctl(&["down", "--yes"]).code(0);
}
