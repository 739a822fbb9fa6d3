//! What `down` deletes, and when it may say that nothing is left.

use harness::{Test, tests};
use std::io::Write;

use serde_json::json;

use super::{FIVE, down_on_a_terminal, made_of, read_until};
use crate::cloud::{Cloud, GCLOUD, TERRAFORM, fault, which};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        down_asks_and_leaves_nothing,
        a_state_with_resources_is_not_forgotten,
        what_no_state_knows_goes_with_the_cluster,
        down_wants_the_name
    )
}

// What destroys asks for the cluster's name; where nobody is there to ask, --yes is needed.
fn down_asks_and_leaves_nothing() {
    let cloud = made_of(FIVE);
    cloud.order(&json!({"faults": [
        {"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n3"}
    ]}));
    // The other four would do for a cluster, but these machines are none to log in to.
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    cloud.raftctl(&["down"]).code(2).says("--yes");
    assert_eq!(cloud.count(), 19);
    cloud.raftctl(&["down", "--keep-data", "--yes"]).code(0);
    assert_eq!(cloud.count(), 5, "the data disks");
    let down = ["down", "--yes", "--output", "json"];
    let down = cloud.raftctl(&down).code(0).json();
    assert_eq!(down, json!({"cluster": "demo", "data_disks": "deleted"}));
    assert_eq!(cloud.count(), 0);
    assert!(!cloud.folder.path().join(".raftctl/demo").exists());
}

// What is kept about a cluster goes only when Terraform's state is empty, however Terraform ended.
fn a_state_with_resources_is_not_forgotten() {
    let cloud = made_of(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    let lazy = format!(
        "#!/bin/sh\nif [ \"$1\" = apply ]; then exit 0; fi\nexec {} \"$@\"\n",
        which("terraform").display()
    );
    cloud.install("terraform", &lazy);
    cloud
        .raftctl(&["down", "--yes"])
        .code(10)
        .says("Terraform's state still has resources: ")
        .says("google_compute_disk.data[\"n5\"]");
    assert!(
        cloud
            .folder
            .path()
            .join(".raftctl/demo/id_ed25519")
            .exists()
    );
    cloud.install("terraform", &lazy.replace("exit 0", ":"));
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// Without its state Terraform knows of nothing, and yet machines and disks cost money: what bears the cluster's
// mark goes with it.
fn what_no_state_knows_goes_with_the_cluster() {
    let cloud = Cloud::new(FIVE);
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    std::fs::remove_dir_all(cloud.folder.path().join(".raftctl/demo/terraform")).unwrap();
    cloud
        .raftctl(&["down"])
        .code(2)
        .says("delete machine raft-demo-n1 (us-central1-a), which Terraform's state does not know");
    assert_eq!(cloud.count(), 20);
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// On a terminal the cluster's name has to be written; anything else changes nothing.
fn down_wants_the_name() {
    let cloud = made_of(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    let made = cloud.count();
    let answer = |answer: &str| {
        let mut terminal = down_on_a_terminal(&cloud);
        let mut said = read_until(terminal.stdout.as_mut().unwrap(), "name to go on: ");
        let mut stdin = terminal.stdin.take().unwrap();
        write!(stdin, "{answer}").unwrap();
        let output = terminal.wait_with_output().unwrap();
        drop(stdin);
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        (output.status.code(), said)
    };
    const CTRL_C: &str = "\u{3}";
    let (code, said) = answer(CTRL_C);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(cloud.count(), made);
    let (code, said) = answer("demi\n");
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("delete data disk n5") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(cloud.count(), made);
    let (code, said) = answer("demo\n");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(cloud.count(), 0);
}
