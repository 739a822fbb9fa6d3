//! An end at each of the six kinds that a cluster is made of, in all the ways in which an end comes: whatever
//! was in the making, one command is enough.

use std::process::Child;
use std::time::{Duration, Instant};

use harness::{Test, tests};
use rustix::process::Signal;
use serde_json::json;
use testhosts::{HOSTS, WITH_SUDO};

use crate::cloud::{Cloud, GCLOUD, TERRAFORM};
use crate::farm::{PATIENCE, World};
use crate::interrupted::{
    INSIST_AFTER, at_google, in_state, said, signal, terraform_of, wait_until_begun,
    wait_until_made, yaml,
};

pub fn tests() -> Vec<Test> {
    let mut tests = tests!(
        [TERRAFORM, GCLOUD, HOSTS],
        up_goes_on_after_an_end_at_each_kind
    );
    tests.extend(tests!(
        [TERRAFORM, GCLOUD],
        down_goes_on_after_an_end_at_each_kind
    ));
    tests
}

/// What ends a raftctl that works.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The same signal twice, by somebody who means it.
    Insisted(Signal),
    /// Terraform is killed, and raftctl told of that.
    TerraformKilled,
    /// Both are killed, as when the machine loses its power.
    AllKilled,
}

impl End {
    /// Ends it, and waits until it has ended.
    fn strike(self, cloud: &Cloud, mut running: Child) {
        match self {
            End::Insisted(by) => {
                signal(running.id(), by);
                std::thread::sleep(INSIST_AFTER);
                signal(running.id(), by);
            }
            End::TerraformKilled => signal(terraform_of(cloud), Signal::KILL),
            End::AllKilled => {
                let terraform = terraform_of(cloud);
                running.kill().unwrap();
                signal(terraform, Signal::KILL);
            }
        }
        let (code, stderr) = said(running.wait_with_output().unwrap());
        let is_killed = matches!(self, End::AllKilled);
        assert_eq!(code, if is_killed { -1 } else { 10 }, "{self:?}: {stderr}");
    }
}

/// What is made at a time, with the way in which that ends; together all kinds, and all ways.
const CREATIONS: [(&[&str], End); 4] = [
    (
        &["google_compute_network", "google_compute_disk"],
        End::Insisted(Signal::INT),
    ),
    (
        &["google_compute_subnetwork", "google_compute_firewall"],
        End::TerraformKilled,
    ),
    (&["google_compute_address"], End::AllKilled),
    (&["google_compute_instance"], End::Insisted(Signal::TERM)),
];

/// What is deleted at a time, likewise.
const DELETIONS: [(&[&str], End); 4] = [
    (
        &["google_compute_firewall", "google_compute_instance"],
        End::Insisted(Signal::INT),
    ),
    (
        &["google_compute_address", "google_compute_disk"],
        End::AllKilled,
    ),
    (&["google_compute_subnetwork"], End::Insisted(Signal::TERM)),
    (&["google_compute_network"], End::TerraformKilled),
];

/// Lets what is done to some kinds last until the next order, and nothing else.
fn order(cloud: &Cloud, kinds: &[&str]) {
    cloud.order(&json!({"hold": kinds, "poll_ms": {"*": 50}}));
}

fn two_nodes() -> String {
    format!(
        "name: demo\nprovider: gcp\nnodes: 2\nssh: {{user: {WITH_SUDO}}}\ngcp:\n  project: my-project\n  zones: \
         [us-central1-a]\n  ssh_via: external\n  operator_cidrs: [127.0.0.1/32]\n"
    )
}

// One `up` after the other is ended while it makes the next kind of thing, and the last one while its machines
// boot. What is lost is named meanwhile; each goes on where the one before was ended, and in the end the cluster
// serves, with a machine less and all its data as well.
fn up_goes_on_after_an_end_at_each_kind() {
    let world = World::new(&two_nodes(), 2);
    let cloud = &world.cloud;
    cloud.list_quickly();
    for (kinds, end) in CREATIONS {
        end_a_creation(cloud, kinds, end);
    }
    cloud.order(&json!({}));
    ended_while_machines_boot(cloud);
    let up = world.raftctl(&["up"]).code(0);
    assert!(up.stdout.contains("leader: node"), "{up:?}");
    assert_eq!(at_google(cloud), in_state(cloud));
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);

    // A machine is made again beside its disk, and that is ended as well.
    let delete =
        "compute instances delete raft-demo-n2 --zone=us-central1-a --project=my-project --quiet";
    let delete: Vec<&str> = delete.split(' ').collect();
    let at = world.farm.lock().unwrap().taken["raft-demo-n2"];
    crate::cloud::ended(cloud.program("gcloud", &delete)).code(0);
    world.farm.lock().unwrap().set.revive(at);
    order(cloud, &["google_compute_instance"]);
    let running = cloud.command(&["up"]).spawn().unwrap();
    wait_until_begun(cloud, "create", "google_compute_instance");
    wait_until(|| world.instances() == 2, "the machine is made again");
    End::AllKilled.strike(cloud, running);
    cloud.order(&json!({}));
    world.raftctl(&["up"]).code(0);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    let plan = world.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(cloud.changes(&plan), Vec::<String>::new());
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

/// Ends an `up` while it makes some kinds of things: each is lost, and named.
fn end_a_creation(cloud: &Cloud, kinds: &[&str], end: End) {
    order(cloud, kinds);
    let running = cloud.command(&["up"]).spawn().unwrap();
    for kind in kinds {
        wait_until_made(cloud, kind);
    }
    end.strike(cloud, running);
    let lost = &at_google(cloud) - &in_state(cloud);
    let status = ended_in_doubt(cloud);
    for kind in kinds {
        let of_kind = cloud.provider.google.of_type(kind);
        let mut of_kind = of_kind.iter();
        assert!(
            of_kind.any(|(id, _)| lost.contains(id)),
            "{kind}: {lost:?} after {end:?}"
        );
    }
    assert!(status.contains("create "), "{kinds:?}: {status}");
}

/// What `status` says of a change that did not end well.
fn ended_in_doubt(cloud: &Cloud) -> String {
    let status = cloud.raftctl(&["status"]);
    let told = format!("{}{}", status.stdout, status.stderr);
    let words = "`raftctl up` (or `raftctl down`) looks at Google for it";
    assert!(told.contains(words), "{told}");
    told
}

/// raftctl is killed when it has seen a machine, which is only then given its host key.
fn ended_while_machines_boot(cloud: &Cloud) {
    let mut running = cloud.command(&["up"]).spawn().unwrap();
    let known_hosts = cloud.folder.path().join(".raftctl/demo/known_hosts");
    let is_seen = || std::fs::read_to_string(&known_hosts).is_ok_and(|text| !text.is_empty());
    wait_until(is_seen, "a machine has shown a host key");
    running.kill().unwrap();
    running.wait().unwrap();
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool, what: &str) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "it never comes that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

// An `up` is ended while it makes something, for each kind, and the operator has had enough: one `down`, which
// deletes what no state knows. And one `down` after the other is ended while it deletes the next kind of thing.
fn down_goes_on_after_an_end_at_each_kind() {
    let cloud = Cloud::new(&yaml(1, "us-central1-a"));
    cloud.list_quickly();
    for (kinds, end) in CREATIONS {
        end_a_creation(&cloud, kinds, end);
        cloud.order(&json!({}));
        let down = cloud.raftctl(&["down", "--yes"]).code(0);
        assert!(down.stdout.contains("nothing of it is left"), "{down:?}");
        assert_eq!(cloud.count(), 0, "{kinds:?}");
    }
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    for (kinds, end) in DELETIONS {
        order(&cloud, kinds);
        let running = cloud.command(&["down", "--yes"]).spawn().unwrap();
        for kind in kinds {
            wait_until_begun(&cloud, "delete", kind);
        }
        end.strike(&cloud, running);
        let status = ended_in_doubt(&cloud);
        assert!(status.contains("delete "), "{kinds:?}: {status}");
    }
    cloud.order(&json!({}));
    let down = cloud.raftctl(&["down", "--yes"]).code(0);
    assert!(down.stdout.contains("nothing of it is left"), "{down:?}");
    assert_eq!(cloud.count(), 0);
}
