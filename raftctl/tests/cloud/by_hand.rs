//! What `plan` shows is what `up` does, whatever has become of the machines meanwhile.

use harness::{Test, tests};
use serde_json::json;
use testhosts::{HOSTS, WITH_SUDO};

use crate::cloud::{GCLOUD, TERRAFORM, ended};
use crate::farm::World;

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD, HOSTS],
        what_became_of_machines_is_planned_as_it_is_mended
    )
}

fn yaml() -> String {
    format!(
        "name: demo\nprovider: gcp\nnodes: 4\nssh: {{user: {WITH_SUDO}}}\ngcp:\n  project: my-project\n  zones: \
         [us-central1-a]\n  ssh_via: external\n  operator_cidrs: [127.0.0.1/32]\n"
    )
}

// One machine is off, one is gone, and one was deleted and made anew by hand, which has another host key: `plan`
// names each, and `up` does just that. Of the last, nothing is said a second time.
fn what_became_of_machines_is_planned_as_it_is_mended() {
    let world = World::new(&yaml(), 4);
    world.cloud.list_quickly();
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    world.raftctl(&["kill", "1", "--vm"]).code(0);
    let delete =
        "compute instances delete raft-demo-n2 --zone=us-central1-a --project=my-project --quiet";
    let delete: Vec<&str> = delete.split(' ').collect();
    let at = world.farm.lock().unwrap().taken["raft-demo-n2"];
    ended(world.cloud.program("gcloud", &delete)).code(0);
    world.farm.lock().unwrap().set.revive(at);
    world.replace_by_hand("raft-demo-n3");

    let plan = world.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(
        world.cloud.changes(&plan),
        [
            "change machine n1",
            "create machine n2",
            "take in machine n3"
        ]
    );
    let steps = plan.json()["steps"].as_array().unwrap().clone();
    assert_eq!(steps.len(), 2, "{steps:?}");
    let up = world
        .raftctl(&["up"])
        .code(0)
        .says("infrastructure: take in 1, create 1, change 1\n");
    for step in &steps {
        let text = step["text"].as_str().unwrap();
        assert!(up.stderr.contains(text), "{text:?} is not in {}", up.stderr);
    }
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    let plan = world.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(world.cloud.changes(&plan), Vec::<String>::new());
    assert_eq!(plan.json()["steps"], json!([]));
    world.raftctl(&["up"]).code(0).says("nothing to do");
    // None is new any more: whoever has another key from now on is somebody else.
    let decided = world.cloud.folder.path().join(".raftctl/demo/gcp.json");
    let decided = std::fs::read_to_string(decided).unwrap();
    assert!(!decided.contains("new_machines"), "{decided}");
    world.raftctl(&["down", "--yes"]).code(0);
}
