//! Whatever ends an `up` or `down` on Google Cloud, one command is enough afterwards: `up`, and Google holds
//! exactly what Terraform's state holds; or `down`, and nothing is left.
//!
//! Each test is a row of (what is being done) x (what ends it), with real Terraform, real gcloud and a Google
//! that goes on with what was asked of it, whoever is gone.

use harness::{Test, tests};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use crate::cloud::{Cloud, GCLOUD, TERRAFORM};
use crate::support::Ended;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        an_insisted_end_of_a_creation,
        a_question_that_fails,
        a_killed_terraform_and_down,
        a_state_that_was_being_written,
        an_insisted_end_of_down,
        a_change_whose_end_is_unknown,
        a_namesake_is_left_alone
    )
}

/// Longer than anything takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who insists within a second does not count.
pub const INSIST_AFTER: Duration = Duration::from_millis(1100);

const TYPES: [&str; 6] = [
    "google_compute_network",
    "google_compute_subnetwork",
    "google_compute_firewall",
    "google_compute_address",
    "google_compute_disk",
    "google_compute_instance",
];

pub fn yaml(nodes: u8, zones: &str) -> String {
    format!(
        "name: demo\nprovider: gcp\ntiming: wan\nnodes: {nodes}\nbinary: /bin/true\ngcp:\n  project: my-project\n  \
         zones: [{zones}]\n  ssh_via: external\n  operator_cidrs: [127.0.0.1/32]\n"
    )
}

/// A Google that holds nothing; `None` where a program is missing.
fn empty(nodes: u8, zones: &str) -> Cloud {
    Cloud::new(&yaml(nodes, zones))
}

/// The paths of everything that Google holds.
pub fn at_google(cloud: &Cloud) -> BTreeSet<String> {
    let google = &cloud.provider.google;
    let things = TYPES.iter().flat_map(|kind| google.of_type(kind));
    things.map(|(id, _)| id).collect()
}

fn terraform(cloud: &Cloud) -> PathBuf {
    cloud.folder.path().join(".raftctl/demo/terraform")
}

fn state_file(cloud: &Cloud) -> PathBuf {
    terraform(cloud).join("terraform.tfstate")
}

/// The paths of everything that the state holds.
pub fn in_state(cloud: &Cloud) -> BTreeSet<String> {
    let text = std::fs::read_to_string(state_file(cloud)).unwrap();
    // Who is killed while it writes the file leaves an empty one: it is emptied first.
    if text.is_empty() {
        return BTreeSet::new();
    }
    let state: Value = serde_json::from_str(&text).unwrap();
    let resources = state["resources"].as_array().unwrap().iter();
    let resources = resources.filter(|resource| resource["type"] != "terraform_data");
    let instances = resources.flat_map(|resource| resource["instances"].as_array().unwrap());
    let ids = instances.map(|instance| instance["attributes"]["id"].as_str().unwrap().to_owned());
    ids.collect()
}

/// `up` as far as it can get: nobody is at the addresses of the machines.
#[track_caller]
fn up(cloud: &Cloud) -> Ended {
    let up = cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    let up = up.says("not ready after 1 s");
    assert_eq!(at_google(cloud), in_state(cloud), "{}", up.stderr);
    up
}

#[track_caller]
fn down(cloud: &Cloud) {
    let down = cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(at_google(cloud), BTreeSet::new(), "{}", down.stderr);
    assert!(down.stdout.contains("nothing of it is left"), "{down:?}");
    assert!(!cloud.folder.path().join(".raftctl/demo").exists());
}

/// Waits until Google has something of a type: it is in the making for as long as was ordered.
#[track_caller]
pub fn wait_until_made(cloud: &Cloud, resource_type: &str) {
    let give_up = Instant::now() + PATIENCE * 3;
    while cloud.provider.google.of_type(resource_type).is_empty() {
        assert!(Instant::now() < give_up, "no {resource_type} is made");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until Terraform has begun to do something to one of a type. What the record holds of an earlier run
/// is of another action.
#[track_caller]
pub fn wait_until_begun(cloud: &Cloud, action: &str, resource_type: &str) {
    let record = terraform(cloud).join("events.jsonl");
    let words = [
        "\"apply_start\"",
        resource_type,
        &format!("\"action\":\"{action}\""),
    ];
    let has_begun = || {
        let text = std::fs::read_to_string(&record).unwrap_or_default();
        let mut lines = text.lines();
        lines.any(|line| words.iter().all(|word| line.contains(word)))
    };
    let give_up = Instant::now() + PATIENCE * 3;
    while !has_begun() {
        assert!(Instant::now() < give_up, "no {resource_type} is begun");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Ctrl-C, and once more by somebody who means it.
fn insist(running: Child) -> (i32, String) {
    signal(running.id(), Signal::INT);
    std::thread::sleep(INSIST_AFTER);
    signal(running.id(), Signal::INT);
    said(running.wait_with_output().unwrap())
}

pub fn said(output: Output) -> (i32, String) {
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap_or(-1), stderr)
}

/// The Terraform that works in a cluster's folder.
#[track_caller]
pub fn terraform_of(cloud: &Cloud) -> u32 {
    let folder = terraform(cloud).canonicalize().unwrap();
    let is_it = |process: &PathBuf| {
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let is_apply = String::from_utf8_lossy(&command).contains("\0apply\0");
        is_apply && std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut processes = processes.map(|entry| entry.path()).filter(is_it);
    let found = processes.next().expect("a Terraform applies there");
    found
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

// The network is being made when the operator insists. It stands at Google and in no state; it is named, and
// `up` takes it in.
fn an_insisted_end_of_a_creation() {
    let cloud = empty(1, "us-central1-a");
    cloud.order(&json!({"hold": ["google_compute_network"], "poll_ms": {"*": 50}}));
    let running = cloud.command(&["up"]).spawn().unwrap();
    wait_until_made(&cloud, "google_compute_network");
    let (code, stderr) = insist(running);
    assert_eq!(code, 10, "{stderr}");
    for words in [
        "raftctl ends when Terraform is done with ",
        "Terraform is asked to let go of: ",
        "in doubt, because nobody has told an end of it: create network; `raftctl up` looks at Google for it, and goes on",
    ] {
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }
    let lost = &at_google(&cloud) - &in_state(&cloud);
    assert_eq!(lost.len(), 1, "{lost:?}");
    cloud.order(&json!({}));
    cloud
        .raftctl(&["status"])
        .code(2)
        .says("in doubt: create network; `raftctl up` (or `raftctl down`) looks at Google for it");
    let check = cloud.raftctl(&["check"]).code(0).stdout;
    assert!(
        check.contains("not in Terraform's state, so that it may cost money unseen: network raft-demo; `raftctl up` takes"),
        "{check}"
    );
    let plan = cloud.raftctl(&["plan"]).code(0);
    assert!(plan.stdout.contains("1. take in network\n"), "{plan:?}");
    up(&cloud).says("take in 1");
    down(&cloud);
}

// One single question to Google goes wrong for each kind of thing at the same time, in a way of its own: all
// five stand at Google and in no state, and `up` takes them in and makes the rest.
fn a_question_that_fails() {
    let cloud = empty(3, "us-central1-a, us-east1-b, us-central1-c");
    let fault = |kind: &str, resource: &str, name: &str| {
        json!({"kind": kind, "on": "poll", "times": 1, "name": format!("raft-demo{name}"),
               "resource": format!("google_compute_{resource}")})
    };
    let orders = json!({
        // The machine comes last, and Terraform begins nothing more once something has failed.
        "op_ms": {"google_compute_instance": 300, "*": 100}, "poll_ms": {"*": 50},
        "faults": [
            fault("unauthorized", "subnetwork", "-us-east1"),
            fault("forbidden", "firewall", "-ssh"),
            fault("refused", "address", "-n1"),
            fault("refused", "disk", "-n3-data"),
        ],
    });
    cloud.order(&orders);
    cloud
        .raftctl(&["up"])
        .code(10)
        .says("let go of it")
        .says("create subnet us-east1")
        .says("`raftctl up` takes it in");
    let lost: BTreeSet<_> = &at_google(&cloud) - &in_state(&cloud);
    assert!(lost.len() >= 3, "{lost:?}");
    cloud.order(
        &json!({"op_ms": {"*": 100}, "poll_ms": {"*": 50}, "faults": [
            fault("refused", "instance", "-n1"), fault("unauthorized", "instance", "-n2"),
        ]}),
    );
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("let go of it");
    let lost: BTreeSet<_> = &at_google(&cloud) - &in_state(&cloud);
    assert!(
        lost.iter().any(|id| id.ends_with("instances/raft-demo-n1")),
        "{lost:?}"
    );
    cloud.order(&json!({}));
    let status = cloud.raftctl(&["status"]).code(0).stdout;
    assert!(
        status.contains("did not end well; in doubt: create machine n1, create machine n2; "),
        "{status}"
    );
    let doctor = cloud.raftctl(&["doctor"]).code(40).stdout;
    assert!(
        doctor.contains("machine raft-demo-n1 (us-central1-a), machine raft-demo-n2 (us-east1-b); `raftctl up` takes in"),
        "{doctor}"
    );
    up(&cloud).says("take in 2");
}

// Terraform is killed while it makes machines, disks and addresses; and the operator has had enough: `down`
// deletes also what no state knows.
fn a_killed_terraform_and_down() {
    let cloud = empty(1, "us-central1-a");
    cloud.order(&json!({"hold": ["google_compute_disk"], "poll_ms": {"*": 50}}));
    let running = cloud.command(&["up"]).spawn().unwrap();
    wait_until_made(&cloud, "google_compute_disk");
    signal(terraform_of(&cloud), Signal::KILL);
    let (code, stderr) = said(running.wait_with_output().unwrap());
    assert_eq!(code, 10, "{stderr}");
    for words in [
        "ended from outside (signal 9)",
        "create data disk n1",
        "`raftctl up` looks at Google",
    ] {
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }
    cloud.order(&json!({}));
    cloud.raftctl(&["down"]).code(2).says("--yes");
    down(&cloud);
}

// Terraform is killed between emptying its state's file and filling it, or the machine loses its power then:
// everything that Google has is taken in again, and nothing is made twice or anew.
fn a_state_that_was_being_written() {
    let cloud = empty(2, "us-central1-a");
    up(&cloud);
    let before = at_google(&cloud);
    let whole = std::fs::read(state_file(&cloud)).unwrap();
    std::fs::write(state_file(&cloud), "").unwrap();
    let plan = cloud.raftctl(&["plan"]).code(0);
    assert!(plan.stdout.contains("take in machine n2\n"), "{plan:?}");
    up(&cloud).says("take in 10");
    assert_eq!(at_google(&cloud), before);

    // A full disk, too, leaves a part of one.
    std::fs::write(state_file(&cloud), &whole[..whole.len() / 2]).unwrap();
    let remark = "Terraform's state is damaged, as by an end while it was written; `raftctl up` (or `raftctl down`)";
    let check = cloud.raftctl(&["check"]).code(0).stdout;
    assert!(check.contains(remark), "{check}");
    let doctor = cloud.raftctl(&["doctor"]).code(40).stdout;
    assert!(doctor.contains(remark), "{doctor}");
    up(&cloud)
        .says("what Google has is taken in again")
        .says("take in 10");
    assert_eq!(at_google(&cloud), before);

    std::fs::write(state_file(&cloud), &whole[..whole.len() / 2]).unwrap();
    down(&cloud);
}

// `down` is cut off by one who insists; the next one goes on. And while Google can't be asked whether anything
// is left, nobody says that nothing is: key and state stay for the next try.
fn an_insisted_end_of_down() {
    let cloud = empty(1, "us-central1-a");
    up(&cloud);
    cloud.order(&json!({"hold": ["google_compute_instance"], "poll_ms": {"*": 50}}));
    let running = cloud.command(&["down", "--yes"]).spawn().unwrap();
    wait_until_begun(&cloud, "delete", "google_compute_instance");
    let (code, stderr) = insist(running);
    assert_eq!(code, 10, "{stderr}");
    assert!(
        stderr.contains("delete machine n1; `raftctl down` looks at Google"),
        "{stderr}"
    );
    cloud.order(&json!({"calls": [{"call": "networks.list", "http":
        {"code": 403, "reason": "forbidden", "message": "Required 'compute.networks.list' permission"}}]}));
    cloud
        .raftctl(&["down", "--yes"])
        .code(10)
        .says("costs money, is not known")
        .says("run `raftctl down` again");
    assert!(
        cloud
            .folder
            .path()
            .join(".raftctl/demo/id_ed25519")
            .exists()
    );
    cloud.order(&json!({}));
    down(&cloud);
}

// A disk grows, and its machine gets another type, when nobody can be asked how far it is: the same `up` goes
// on, and nothing is made anew.
fn a_change_whose_end_is_unknown() {
    let cloud = empty(1, "us-central1-a");
    up(&cloud);
    let before = at_google(&cloud);
    let larger = yaml(1, "us-central1-a");
    cloud.write(&larger.replace(
        "gcp:\n",
        "gcp:\n  data_disk_gb: 20\n  machine_type: e2-medium\n",
    ));
    let fault =
        |resource: &str| json!({"kind": "refused", "on": "poll", "times": 1, "resource": resource});
    cloud.order(
        &json!({"op_ms": {"*": 100}, "poll_ms": {"*": 30}, "faults": [
            fault("google_compute_disk"), fault("google_compute_instance")
        ]}),
    );
    cloud.raftctl(&["up"]).code(10).says("let go of it");
    cloud.order(&json!({}));
    up(&cloud);
    assert_eq!(at_google(&cloud), before);
    let disks = cloud.provider.google.of_type("google_compute_disk");
    assert_eq!(disks[0].1.state["size"], 20);
    down(&cloud);
}

// Another folder's cluster of the same name: nothing of it is taken in, changed, or named for deletion, by
// `up` or by `down`.
fn a_namesake_is_left_alone() {
    let cloud = empty(1, "us-central1-a");
    up(&cloud);
    let theirs = at_google(&cloud);
    cloud.forget_kept();
    let refused = cloud
        .raftctl(&["up"])
        .code(2)
        .says("refused, nothing was changed")
        .says("network raft-demo");
    assert!(!refused.stderr.contains("delete"), "{}", refused.stderr);
    assert_eq!(at_google(&cloud), theirs);
    // From here nobody can tell whose it is, so nobody says that nothing is left: neither with the key that
    // `up` has made, nor without any, however often.
    for is_without_key in [false, true] {
        if is_without_key {
            let _ = std::fs::remove_dir_all(cloud.folder.path().join(".raftctl"));
        }
        for _ in 0..2 {
            let down = cloud
                .raftctl(&["down", "--yes"])
                .code(10)
                .says("1 machine and 1 data disk of this name are there and cost money")
                .says("gcloud compute instances list")
                .says("bring ");
            assert!(!down.stderr.contains(" delete "), "{}", down.stderr);
            assert!(!down.stdout.contains("nothing of it"), "{down:?}");
        }
        assert_eq!(at_google(&cloud), theirs);
    }
}
