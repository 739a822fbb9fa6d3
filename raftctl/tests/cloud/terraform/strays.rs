//! What is the cluster's at Google and in no state: named by `up`, deleted by `down`, and never passed over where
//! it can't be deleted.

use harness::{Test, tests};
use serde_json::json;

use super::{FIVE, made_of};
use crate::cloud::{Cloud, GCLOUD, TERRAFORM, ended};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        a_stray_that_stays_is_named,
        up_names_what_it_leaves_behind,
        nothing_is_deleted_beside_a_stray
    )
}

fn nodes(count: u8) -> String {
    FIVE.replace("nodes: 5", &format!("nodes: {count}"))
}

/// Everything that Google still has, by name.
fn left(cloud: &Cloud) -> Vec<String> {
    let google = &cloud.provider.google;
    let types = [
        "network",
        "subnetwork",
        "firewall",
        "address",
        "disk",
        "instance",
    ];
    let all = types
        .iter()
        .flat_map(|name| google.of_type(&format!("google_compute_{name}")));
    let name = |id: String| id.rsplit('/').next().unwrap().to_owned();
    all.map(|(id, _)| name(id)).collect()
}

// `down --keep-data` of a cluster whose state is lost: a machine that Google does not let go of is named with the
// command that deletes it, and key and disk stay; the next one goes on and keeps the disk, whatever is known of the
// last change.
fn a_stray_that_stays_is_named() {
    let cloud = made_of(&nodes(1));
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    let base = cloud.folder.path().join(".raftctl/demo");
    std::fs::remove_dir_all(base.join("terraform")).unwrap();
    cloud.order(&json!({"calls": [{"call": "instances.delete", "http": {
        "code": 403, "reason": "forbidden", "message": "Required 'compute.instances.delete' permission"}}]}));
    let down = ["down", "--keep-data", "--yes"];
    cloud
        .raftctl(&down)
        .code(10)
        .says("compute.instances.delete")
        .says("not all of cluster demo is gone, and what is left may cost money; run `raftctl down --keep-data` again")
        .says("gcloud compute instances delete raft-demo-n1 --zone=us-central1-a --project=my-project");
    let there = left(&cloud);
    for name in ["raft-demo-n1", "raft-demo-n1-data"] {
        assert!(there.iter().any(|there| there == name), "{name}: {there:?}");
    }
    assert!(base.join("id_ed25519").exists());
    cloud.order(&json!({}));
    cloud.raftctl(&down).code(0);
    assert_eq!(left(&cloud), ["raft-demo-n1-data"]);

    // The same where the state is lost to an end in the middle, so that what no state knows is deleted first.
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    std::fs::remove_dir_all(base.join("terraform")).unwrap();
    std::fs::create_dir(base.join("terraform")).unwrap();
    std::fs::write(base.join("terraform/events.jsonl"), "").unwrap();
    cloud.raftctl(&down).code(0);
    assert_eq!(left(&cloud), ["raft-demo-n1-data"]);
}

// What an interrupted `up` has left, and cluster.yaml asks for no more: `up` neither takes it in nor passes it over,
// but names it with the command that deletes it.
fn up_names_what_it_leaves_behind() {
    let cloud = made_of(&nodes(2));
    let lost = |kind: &str, name: &str| {
        json!({"kind": "refused", "on": "poll", "times": 1, "resource": format!("google_compute_{kind}"),
               "name": format!("raft-demo-{name}")})
    };
    let faults = [lost("address", "n2"), lost("disk", "n2-data")];
    cloud.order(&json!({"op_ms": {"*": 100}, "poll_ms": {"*": 50}, "faults": faults}));
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("let go of it");
    cloud.order(&json!({}));
    cloud.write(&nodes(1));
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("neither in Terraform's state nor planned, and what may cost money for as long as it is there")
        .says("\n  gcloud compute disks delete raft-demo-n2-data --zone=us-central1-b --project=my-project")
        .says("not ready after 1 s");
    assert!(left(&cloud).iter().any(|name| name == "raft-demo-n2-data"));
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(left(&cloud), Vec::<String>::new());
}

// A machine that no state knows stands beside disks that are to go, with its data: nothing is deleted before the
// machine is. What else there is of its node, which is not in the file any more, is kept until it has left.
fn nothing_is_deleted_beside_a_stray() {
    let cloud = made_of(&nodes(2));
    cloud.order(&json!({"op_ms": {"*": 100}, "poll_ms": {"*": 50}, "faults": [
        {"kind": "refused", "on": "poll", "times": 1, "resource": "google_compute_instance", "name": "raft-demo-n2"}
    ]}));
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("let go of it");
    cloud.order(&json!({}));
    cloud.write(&nodes(1).replace("gcp:\n", "gcp:\n  data_disk_type: pd-ssd\n"));
    let there = left(&cloud);
    let delete = "compute instances delete raft-demo-n2 --zone=us-central1-b --project=my-project";
    for verb in ["plan", "up"] {
        cloud
            .raftctl(&[verb, "--yes", "--allow-data-loss"])
            .code(2)
            .says("refused, nothing was changed: cluster.yaml asks to REPLACE data disk n1, REPLACE data disk n2")
            .says(&format!("\n  gcloud {delete}\n"));
        assert_eq!(left(&cloud), there);
    }
    let delete: Vec<&str> = delete.split(' ').chain(["--quiet"]).collect();
    ended(cloud.program("gcloud", &delete)).code(0);
    cloud.write(&nodes(1));
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("not ready after 1 s");
    let there = left(&cloud);
    let of_n2 = there.iter().filter(|name| name.contains("n2"));
    assert_eq!(of_n2.count(), 2, "{there:?}");
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(left(&cloud), Vec::<String>::new());
}
