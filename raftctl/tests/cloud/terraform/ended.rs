//! Whatever ends an `up` or `down`: Terraform does what it has begun.

use harness::{Test, tests};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{FIVE, interrupt, made_of, read_until, signal};
use crate::cloud::{Cloud, GCLOUD, TERRAFORM, ended, fault};
use crate::interrupted::{wait_until_begun, wait_until_made};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        an_interrupted_up_leaves_a_usable_state,
        an_ended_up_leaves_a_usable_state,
        an_interrupted_down_names_down,
        terraform_outlives_raftctl,
        waiting_for_machines_can_be_interrupted
    )
}

// Ctrl-C, even pressed twice by a hand that shakes, cuts nothing off: Terraform does what it has begun, raftctl
// says at once what that is, and what Google holds is what Terraform remembers.
fn an_interrupted_up_leaves_a_usable_state() {
    interrupted_with([Signal::INT, Signal::INT]);
}

// Nor does a service manager that ends raftctl, or a terminal that is closed.
fn an_ended_up_leaves_a_usable_state() {
    interrupted_with([Signal::HUP, Signal::TERM]);
}

fn interrupted_with(signals: [Signal; 2]) {
    let cloud = made_of(FIVE);
    // Disks are in the making at both.
    cloud.order(&json!({"hold": ["google_compute_disk"], "poll_ms": {"*": 50}}));
    let up = cloud.command(&["up"]).spawn().unwrap();
    wait_until_made(&cloud, "google_compute_disk");
    signal(up.id(), signals[0]);
    std::thread::sleep(Duration::from_millis(200)); // as fast as a person presses it again
    signal(up.id(), signals[1]);
    let (code, stderr) = let_go_when_told(&cloud, up);
    assert_eq!(code, Some(10), "{stderr}");
    for words in [
        "raftctl ends when Terraform is done with ",
        "interrupted while about to change the infrastructure",
        "`raftctl up` goes on from there",
    ] {
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }

    assert_eq!(cloud.count(), 20);
    let list = ended(cloud.program(
        "terraform",
        &["-chdir=.raftctl/demo/terraform", "state", "list"],
    ));
    let known = list
        .stdout
        .lines()
        .filter(|line| line.starts_with("google_"));
    assert_eq!(known.count(), 20, "{}", list.stdout);
    cloud.order(&json!({}));
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(cloud.changes(&plan), Vec::<String>::new());
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

/// Lets Google end what it does once raftctl has said that it waits for that; the exit code, and all it said.
fn let_go_when_told(cloud: &Cloud, mut running: Child) -> (Option<i32>, String) {
    let words = "raftctl ends when Terraform is done with ";
    let mut stderr = read_until(running.stderr.as_mut().unwrap(), words);
    cloud.order(&json!({}));
    let output = running.wait_with_output().unwrap();
    stderr += &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), stderr)
}

// An interrupted `down` is gone on with by `down`.
fn an_interrupted_down_names_down() {
    let cloud = made_of(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    cloud.order(&json!({"hold": ["google_compute_disk"], "poll_ms": {"*": 50}}));
    let down = cloud.command(&["down", "--yes"]).spawn().unwrap();
    wait_until_begun(&cloud, "delete", "google_compute_disk");
    interrupt(down.id());
    let (code, stderr) = let_go_when_told(&cloud, down);
    assert_eq!(code, Some(10), "{stderr}");
    assert!(stderr.contains("delete data disk n1"), "{stderr}");
    assert!(
        stderr.contains("`raftctl down` goes on from there"),
        "{stderr}"
    );
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// Where raftctl itself is killed, Terraform goes on, and what Google holds is what it remembers.
fn terraform_outlives_raftctl() {
    let cloud = made_of(FIVE);
    cloud.order(&json!({"hold": ["google_compute_disk"], "poll_ms": {"*": 50}}));
    let mut up = cloud.command(&["up"]).spawn().unwrap();
    wait_until_made(&cloud, "google_compute_disk");
    up.kill().unwrap();
    up.wait().unwrap();
    let terraform = cloud.folder.path().join(".raftctl/demo/terraform");
    let record = terraform.join("events.jsonl");
    assert!(
        record.exists(),
        "what is done is written down while it is done"
    );
    // The next one waits for it, and says so.
    let plan = ["plan", "--output", "json"];
    let mut waiting = cloud.command(&plan).spawn().unwrap();
    let words = "has been changing this cluster since";
    let told = read_until(waiting.stderr.as_mut().unwrap(), words);
    assert!(told.contains("waiting for Terraform's state: "), "{told}");
    cloud.order(&json!({}));
    assert!(waiting.wait_with_output().unwrap().status.success());
    let plan = cloud.raftctl(&plan).code(0);
    assert_eq!(cloud.changes(&plan), Vec::<String>::new());
    assert_eq!(cloud.count(), 20);
    let list = ["-chdir=.raftctl/demo/terraform", "state", "list"];
    let list = ended(cloud.program("terraform", &list));
    let known = list
        .stdout
        .lines()
        .filter(|line| line.starts_with("google_"));
    assert_eq!(known.count(), 20, "{}", list.stdout);
    let text = std::fs::read_to_string(&record).unwrap();
    let done = |line: &&str| line.contains("\"apply_complete\"") && line.contains("google_compute");
    assert_eq!(text.lines().filter(done).count(), 20, "{text}");
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// Once the machines are there raftctl waits for them, and Ctrl-C ends that at once.
fn waiting_for_machines_can_be_interrupted() {
    let cloud = made_of(FIVE);
    let up = cloud.command(&["up"]).spawn().unwrap();
    let made = cloud.folder.path().join(".raftctl/demo/machines.json");
    let give_up = Instant::now() + Duration::from_secs(60);
    while !made.exists() {
        assert!(Instant::now() < give_up, "no machine is made");
        std::thread::sleep(Duration::from_millis(10));
    }
    let started = Instant::now();
    interrupt(up.id());
    let output = up.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("interrupted; what was done stays done, and `raftctl up` goes on"),
        "{stderr}"
    );
    assert!(started.elapsed() < Duration::from_secs(10), "{stderr}");
}
