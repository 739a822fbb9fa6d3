//! Whoever stands between an operator and a machine is found out: by what Google knows of a new machine's host
//! key, and by what was seen of one that has been worked on.

use std::collections::BTreeMap;

use harness::{Test, tests};
use serde_json::json;
use testhosts::{HOSTS, WITH_SUDO};

use crate::cloud::{CURL, GCLOUD, TERRAFORM, ended};
use crate::farm::World;
use crate::interrupted::{said, wait_until_made};

pub fn tests() -> Vec<Test> {
    let mut tests = tests!(
        [TERRAFORM, GCLOUD, CURL, HOSTS],
        who_shows_another_key_is_not_worked_on
    );
    tests.extend(tests!(
        [TERRAFORM, GCLOUD, HOSTS],
        google_is_asked_by_gcloud_where_curl_is_not_there
    ));
    tests
}

const MACHINE: &str = "raft-demo-n1";
const STRANGER: &str = "raft-demo-n1 has shown another host key than the one that its guest agent has written down at \
                        Google: somebody may stand between, so it is not worked on";
const CHANGED: &str = "its host key is not the one that was seen before";

/// A host key, as a file of sshd's and as Google and ssh know it.
struct HostKey {
    private: String,
    public: String,
}

impl HostKey {
    fn new(world: &World) -> HostKey {
        let folder = tempfile::tempdir_in(world.cloud.folder.path()).unwrap();
        let file = folder.path().join("key");
        let path = file.to_str().unwrap();
        let make = ["-q", "-t", "ed25519", "-N", "", "-f", path];
        ended(world.cloud.program("ssh-keygen", &make)).code(0);
        let line = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        HostKey {
            private: std::fs::read_to_string(&file).unwrap(),
            public: line.split_whitespace().nth(1).unwrap().to_owned(),
        }
    }

    /// What the guest agent writes down at Google.
    fn tell_google(&self, world: &World) {
        let google = &world.cloud.provider.google;
        let (id, _) = google.of_type("google_compute_instance").remove(0);
        let told = BTreeMap::from([("hostkeys/ssh-ed25519".to_owned(), self.public.clone())]);
        google.tell(&id, told).unwrap();
    }

    /// What the machine shows from now on, to whoever connects anew.
    fn show(&self, world: &World) {
        let farm = world.farm.lock().unwrap();
        let host = &farm.set.hosts[farm.taken[MACHINE]];
        host.must_run(&format!(
            "rm /etc/ssh/testhost_key*; umask 077; cat >/etc/ssh/testhost_key <<'end'\n{}end",
            self.private
        ));
        host.restart_sshd();
        host.cut_sessions();
    }
}

/// A cluster of one machine, which does not exist yet.
fn one_machine() -> World {
    let yaml = format!(
        "name: demo\nprovider: gcp\nnodes: 1\nssh: {{user: {WITH_SUDO}}}\ngcp:\n  project: my-project\n  zones: \
         [us-central1-a]\n  ssh_via: external\n  operator_cidrs: [127.0.0.1/32]\n"
    );
    let world = World::new(&yaml, 1);
    world.cloud.list_quickly();
    world
}

/// Makes the machine, of which Google knows a key that it does not show.
fn met_by_a_stranger(world: &World) -> HostKey {
    let key = HostKey::new(world);
    world
        .cloud
        .order(&json!({"hold": ["google_compute_instance"]}));
    let running = world.cloud.command(&["up"]).spawn().unwrap();
    wait_until_made(&world.cloud, "google_compute_instance");
    key.tell_google(world);
    world.cloud.order(&json!({}));
    let (code, stderr) = said(running.wait_with_output().unwrap());
    assert_eq!(code, 10, "{stderr}");
    assert!(stderr.contains(STRANGER), "{stderr}");
    let known = world.cloud.folder.path().join(".raftctl/demo/known_hosts");
    let known = std::fs::read_to_string(known).unwrap();
    assert_eq!(known, format!("{MACHINE} ssh-ed25519 {}\n", key.public));
    key
}

/// How often gcloud was called for something.
fn calls(world: &World, what: &str) -> usize {
    let calls = world.cloud.calls();
    calls.iter().filter(|call| call.contains(what)).count()
}

// A new machine shows another key than Google knows of: nothing is done there, and from then on ssh takes none but
// Google's. It shows that one: the cluster comes up. Its key changes later on, and nobody says that it is new:
// whatever the verb, it is refused, and the command that is named leads on, where Google knows the key.
fn who_shows_another_key_is_not_worked_on() {
    let world = one_machine();
    let key = met_by_a_stranger(&world);
    assert_eq!(calls(&world, "get-guest-attributes"), 0);
    world.raftctl(&["up"]).code(10).says(CHANGED);
    key.show(&world);
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    world.cloud.calls();

    let other = HostKey::new(&world);
    other.show(&world);
    for verb in [["exec", "1", "--", "true"].as_slice(), &["up"]] {
        let refused = world.raftctl(verb);
        assert_ne!(refused.code, 0, "{verb:?}");
        refused.says(CHANGED);
    }
    assert_eq!(calls(&world, "token"), 0); // It is not new.
    // Somebody follows the advice without knowing: Google knows better.
    follow_advice(&world);
    world.raftctl(&["up"]).code(10).says(STRANGER);
    other.tell_google(&world);
    follow_advice(&world);
    world.raftctl(&["up"]).code(0);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["down", "--yes"]).code(0);
}

/// Does what is said of a changed host key.
fn follow_advice(world: &World) {
    let refused = world
        .raftctl(&["up"])
        .code(10)
        .says(CHANGED)
        .says("`, then `raftctl up`, which finds out whether its new key is the right one");
    let advice = refused
        .stderr
        .split('`')
        .find(|words| words.starts_with("ssh-keygen -R"));
    let advice = advice.unwrap_or_else(|| panic!("no advice in {}", refused.stderr));
    ended(world.cloud.program("sh", &["-c", advice])).code(0);
}

// Without curl gcloud is asked for each machine, and what it says counts as much.
fn google_is_asked_by_gcloud_where_curl_is_not_there() {
    let world = one_machine();
    world.cloud.install("curl", "#!/bin/sh\nexit 127\n");
    met_by_a_stranger(&world);
    assert_eq!(calls(&world, "get-guest-attributes"), 1);
    world.raftctl(&["down", "--yes"]).code(0);
}
