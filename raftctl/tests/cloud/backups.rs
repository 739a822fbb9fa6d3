//! Backups at Google: the cluster of a backup stands on machines that `restore` makes.

use harness::{Test, tests};
use rustix::process::Signal;
use serde_json::json;
use testhosts::HOSTS;

use crate::cloud::{GCLOUD, TERRAFORM};
use crate::interrupted::{at_google, in_state, said, signal, wait_until_made};
use crate::members::three;

pub fn tests() -> Vec<Test> {
    tests!([TERRAFORM, GCLOUD, HOSTS], a_backup_becomes_machines)
}

// Over a cluster that is there nothing is restored. Where nothing is, the machines are made first, also when raftctl is
// killed meanwhile and asked again; and then every node has the state of the backup, under another id.
fn a_backup_becomes_machines() {
    let world = three(3);
    let id = || {
        let status = world.raftctl(&["status", "--output", "json"]).code(0);
        status.json()["cluster_ids"][0].as_str().unwrap().to_owned()
    };
    world.raftctl(&["backup", "a"]).code(0);
    let before = id();
    let there = at_google(&world.cloud);
    world.raftctl(&["restore", "a"]).code(2).says("is there");
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
    world.farm.lock().unwrap().empty();

    world
        .cloud
        .order(&json!({"hold": ["google_compute_instance"]}));
    let running = world.cloud.command(&["restore", "a"]).spawn().unwrap();
    wait_until_made(&world.cloud, "google_compute_instance");
    signal(running.id(), Signal::KILL);
    let (code, stderr) = said(running.wait_with_output().unwrap());
    assert_eq!(code, -1, "{stderr}");
    world.cloud.order(&json!({}));
    let restored = world.raftctl(&["restore", "a", "--output", "json"]).code(0);
    let restored = restored.json();
    assert_eq!(restored["left_behind"], json!([]));
    let after = id();
    assert_eq!(restored["cluster_id"], after.as_str());
    assert_ne!(before, after);
    assert_eq!(at_google(&world.cloud), there);
    assert_eq!(at_google(&world.cloud), in_state(&world.cloud));
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["up"]).code(0).says("nothing to do");
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
}
