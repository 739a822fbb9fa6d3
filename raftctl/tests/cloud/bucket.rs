//! Terraform's state in a bucket: the backend is Terraform's own, the bucket a stand-in for Cloud
//! Storage, and lists of what Google has need no gcloud here.

use crate::cloud::{Cloud, GCLOUD, TERRAFORM, ended};
use harness::{Test, tests};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        the_state_lives_in_the_bucket,
        a_lock_in_the_bucket_is_told,
        another_folder_s_machines_keep_their_key,
        a_state_moves_when_the_operator_says_so,
        a_missing_bucket_is_told
    )
}

const YAML: &str = "\
name: demo
provider: gcp
nodes: 3
binary: /bin/true
gcp:
  project: my-project
  zones: [us-central1-a, us-central1-b]
  ssh_via: external
  operator_cidrs: [127.0.0.1/32]
  state_bucket: my-state
";

/// Where the backend keeps the state and its lock.
const STATE: &str = "raftctl/demo/default.tfstate";
const LOCK: &str = "raftctl/demo/default.tflock";

/// A Google with the bucket, and with all of the cluster but nodes: nobody is at the addresses of the
/// machines.
fn made() -> Cloud {
    let cloud = Cloud::new(YAML);
    cloud.list_quickly();
    cloud.provider.storage.make_bucket("my-state");
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("not ready after 1 s");
    cloud
}

/// How many things at Google the state knows; what the module keeps for itself is none.
fn resources(cloud: &Cloud) -> usize {
    let state = cloud.provider.storage.read("my-state", STATE).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let resources = state["resources"].as_array().unwrap().iter();
    resources
        .filter(|resource| resource["type"] != "terraform_data")
        .map(|resource| resource["instances"].as_array().unwrap().len())
        .sum()
}

// The state is in the bucket and nowhere else, also what a failed `up` has made: whoever has the
// folder's key and ranges goes on from it, on whatever machine.
fn the_state_lives_in_the_bucket() {
    let cloud = Cloud::new(YAML);
    cloud.list_quickly();
    cloud.provider.storage.make_bucket("my-state");
    cloud.order(&json!({"faults": [
        {"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n3"}
    ]}));
    // Two of three are enough to go on with; but nobody is at their addresses.
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("the quota CPUS");
    assert_eq!(resources(&cloud), cloud.count());
    let terraform = cloud.folder.path().join(".raftctl/demo/terraform");
    assert!(!terraform.join("terraform.tfstate").exists());
    assert_eq!(cloud.provider.storage.read("my-state", LOCK), None);

    // The rest of the folder is made anew.
    std::fs::remove_dir_all(&terraform).unwrap();
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(cloud.changes(&plan), ["create machine n3"]);

    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
    assert_eq!(resources(&cloud), 0);
}

// Somebody else's lock is told with who and since when, and can be broken by the command that is
// named.
fn a_lock_in_the_bucket_is_told() {
    let cloud = made();
    let lock = json!({
        "ID": "", "Operation": "OperationTypeApply", "Info": "", "Who": "ann@laptop", "Version": "1.11.4",
        "Created": "2026-11-21T09:56:18.9Z", "Path": format!("gs://my-state/{LOCK}"),
    });
    let storage = &cloud.provider.storage;
    storage.write("my-state", LOCK, &lock.to_string());
    let said = cloud
        .raftctl(&["up", "--timeout", "100ms"])
        .code(10)
        .says("ann@laptop has been changing this cluster since 2026-11-21 09:56:18.9 +0000 UTC");
    let command = said.stderr.split('`').find(|part| part.contains("unlock"));
    let words: Vec<&str> = command.unwrap().split(' ').collect();
    let [terraform, folder, verb, id] = words[..] else {
        panic!("{words:?}");
    };
    let unlock = ended(cloud.program(terraform, &[folder, verb, "-force", id]));
    assert_eq!(unlock.code, 0, "{unlock:?}");
    assert_eq!(storage.read("my-state", LOCK), None);
}

// Another folder has another key. To install it would shut the first one out, so that is refused,
// however often it is tried; to take the cluster down needs no key.
fn another_folder_s_machines_keep_their_key() {
    let cloud = made();
    cloud.forget_kept();
    for _ in 0..2 {
        cloud
            .raftctl(&["up", "--timeout", "1s"])
            .code(2)
            .says("were made from another folder")
            .says("ssh-keygen -q -t ed25519");
    }
    // Also while only the disks are there.
    cloud.raftctl(&["down", "--keep-data", "--yes"]).code(0);
    cloud.forget_kept();
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(2)
        .says("were made from another folder");
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// A bucket that comes to a cluster later, or goes again, moves no state behind the operator's back: the
// command that does is named, works, and nothing is made anew.
fn a_state_moves_when_the_operator_says_so() {
    let in_a_file = YAML.replace("  state_bucket: my-state\n", "");
    let cloud = Cloud::new(&in_a_file);
    cloud.list_quickly();
    cloud.provider.storage.make_bucket("my-state");
    cloud.order(&crate::cloud::fault(
        "quota_exceeded",
        "google_compute_instance",
    ));
    cloud.raftctl(&["up"]).code(10).says("the quota CPUS");
    cloud.order(&json!({}));
    let move_state = |yaml: &str| {
        cloud.write(yaml);
        let said = cloud
            .raftctl(&["plan"])
            .code(10)
            .says("Terraform's state is not where gcp.state_bucket in cluster.yaml says");
        let command = said.stderr.split('`').find(|part| part.contains("init"));
        let mut words: Vec<&str> = command.unwrap().split(' ').collect();
        assert_eq!(words[2..], ["init", "-migrate-state"]);
        // As an operator who answers yes.
        words.push("-force-copy");
        let moved = ended(cloud.program(words[0], &words[1..]));
        assert_eq!(moved.code, 0, "{moved:?}");
        let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
        let changes = cloud.changes(&plan);
        assert_eq!(
            changes,
            [
                "create machine n1",
                "create machine n2",
                "create machine n3"
            ]
        );
    };
    move_state(YAML);
    assert_eq!(resources(&cloud), cloud.count());
    move_state(&in_a_file);
}

// A bucket that is not there is named, with the command that makes it; and nothing was made.
fn a_missing_bucket_is_told() {
    let cloud = Cloud::new(YAML);
    cloud.list_quickly();
    cloud
        .raftctl(&["up"])
        .code(10)
        .says("the bucket for Terraform's state does not exist")
        .says("gcloud storage buckets create gs://my-state --project=my-project");
    assert_eq!(cloud.count(), 0);
}
