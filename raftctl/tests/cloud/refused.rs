//! Lists that Google refuses, or does not answer in full: nothing is taken for gone because of that.

use crate::cloud::{Cloud, TERRAFORM};
use harness::{Test, tests};

pub fn tests() -> Vec<Test> {
    let mut tests = tests!(
        [],
        what_is_not_seen_is_not_gone,
        trouble_that_passes_is_waited_out,
        a_silent_google_is_told,
        doctor_lists_the_machines_once
    );
    tests.extend(tests!(
        [TERRAFORM],
        down_keeps_what_is_needed_until_it_has_seen_that_nothing_is_left
    ));
    tests
}

const YAML: &str = "\
name: demo
provider: gcp
nodes: 1
gcp:
  project: my-project
  zones: [us-central1-a]
  ssh_via: external
  operator_cidrs: [127.0.0.1/32]
";

/// What the real gcloud does with a list of things that was refused: it ends well with nothing, but
/// where it is told to take that for a failure. It is refused as often as the file `refusals` has
/// lines.
const GCLOUD: &str = r#"#!/bin/sh
cd "$(dirname "$0")/.." || exit 9
echo "$*" >>calls
if [ -s refusals ]; then
    echo '[]'
    sed -i 1d refusals
    if [ "$CLOUDSDK_COMPUTE_ALLOW_PARTIAL_ERROR" = false ]; then
        printf 'ERROR: (gcloud.compute.%s.list) Some requests did not succeed:\n - %s\n\n' "$2" "$(cat words)" >&2
        exit 1
    fi
    exit 0
fi
if [ "$2" = instances ]; then cat instances.json; else echo '[]'; fi
"#;

const MACHINES: &str = r#"{"schema": 1, "project_id": "my-project", "ssh_user": "raft", "nodes": {"n1": {
    "instance": "raft-demo-n1", "zone": "us-central1-a", "region": "us-central1", "internal_ip": "10.80.0.2",
    "external_ip": null, "data_disk": "raft-demo-n1-data"}}}"#;

const RUNNING: &str = r#"[{"name": "raft-demo-n1", "status": "RUNNING", "labels": {"raft-cluster": "demo"},
    "zone": "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-central1-a",
    "machineType": "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-central1-a/machineTypes/e2-small"}]"#;

const FORBIDDEN: &str =
    "Required 'compute.instances.list' permission for 'projects/my-project/global/instances/'";
const EXPIRED: &str = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                       other valid authentication credential.";
const SILENT: &str = "Some resources of zones/us-central1-a could not be reached.";
const BUSY: &str = "Internal error. Please try again or contact Google Support.";
const RATE: &str = "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of service \
                    'compute.googleapis.com' for consumer 'project_number:1'.";

struct Refused(Cloud);

impl Refused {
    /// A cluster of one machine, which runs; nothing is refused.
    fn new() -> Self {
        let cloud = Cloud::new(YAML);
        cloud.install("gcloud", GCLOUD);
        let refused = Refused(cloud);
        refused.write("instances.json", RUNNING);
        refused.write(".raftctl/demo/machines.json", MACHINES);
        refused
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Refuses the next lists with these words.
    fn order(&self, words: &str, times: usize) {
        self.write("words", words);
        self.write("refusals", &"once\n".repeat(times));
    }
}

const FOR_EVER: usize = 100;

// Whatever keeps a look from being whole is told with its own next step; no machine is called gone, none
// is restarted, and what is known of it stays.
fn what_is_not_seen_is_not_gone() {
    let refused = Refused::new();
    for (words, cause, next) in [
        (
            FORBIDDEN,
            "your account lacks the permission compute.instances.list",
            "compute.instanceAdmin.v1",
        ),
        (
            EXPIRED,
            "there are no valid credentials",
            "gcloud auth login",
        ),
        (
            SILENT,
            "us-central1-a does not answer at Google",
            "when it answers",
        ),
    ] {
        refused.order(words, FOR_EVER);
        let status = refused.0.raftctl(&["status"]).code(0);
        for words in ["machines unknown: cannot list the machines", cause, next] {
            assert!(status.stdout.contains(words), "{words}: {status:?}");
        }
        assert!(!status.stdout.contains("is gone"), "{status:?}");
        let restart = refused
            .0
            .raftctl(&["restart", "1", "--vm"])
            .code(10)
            .says(cause)
            .says(next);
        assert!(!restart.stderr.contains("is gone"), "{restart:?}");
    }
    let calls = std::fs::read_to_string(refused.path("calls")).unwrap();
    assert!(
        !calls.contains("instances stop") && !calls.contains("instances start"),
        "{calls}"
    );
    let kept = std::fs::read_to_string(refused.path(".raftctl/demo/machines.json")).unwrap();
    assert_eq!(kept, MACHINES);
    // A look that was whole may say so.
    refused.order("", 0);
    let status = refused.0.raftctl(&["status", "--output", "json"]).code(0);
    assert_eq!(status.json()["machines"]["1"]["machine"], "RUNNING");
    refused.write("instances.json", "[]");
    let status = refused.0.raftctl(&["status"]).code(0);
    assert!(
        status
            .stdout
            .contains("its machine is gone, and so is its data disk"),
        "{status:?}"
    );
}

// One list tells `doctor` what no state knows, and why a host does not answer; without it `doctor` says so.
fn doctor_lists_the_machines_once() {
    let refused = Refused::new();
    refused.write(
        ".raftctl/demo/id_ed25519.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ== x",
    );
    let off = "\"status\": \"TERMINATED\", \"selfLink\": \"https://www.googleapis.com/compute/v1/projects/\
               my-project/zones/us-central1-a/instances/raft-demo-n1\"";
    refused.write(
        "instances.json",
        &RUNNING.replace("\"status\": \"RUNNING\"", off),
    );
    let doctor = refused.0.raftctl(&["doctor"]).code(40).stdout;
    let words = "node 1: its machine is off (TERMINATED); `raftctl restart 1 --vm` switches it on";
    assert!(doctor.contains(words), "{doctor}");
    let calls = std::fs::read_to_string(refused.path("calls")).unwrap();
    assert_eq!(calls.matches("instances list").count(), 1, "{calls}");
    // Where that list is refused nobody's machine is called gone.
    refused.order(FORBIDDEN, FOR_EVER);
    let doctor = refused.0.raftctl(&["doctor"]).code(40).stdout;
    let cause = "your account lacks the permission compute.instances.list";
    assert!(doctor.contains(cause), "{doctor}");
    assert!(!doctor.contains("is gone"), "{doctor}");
}

// Whoever waits for Google hears of it, soon, and before there is an answer.
fn a_silent_google_is_told() {
    let refused = Refused::new();
    // Longer than nobody may hear anything.
    let slow = GCLOUD.replace(
        "if [ \"$2\" = instances ]",
        "sleep 4; if [ \"$2\" = instances ]",
    );
    assert_ne!(slow, GCLOUD);
    refused.0.install("gcloud", &slow);
    refused
        .0
        .raftctl(&["status"])
        .code(0)
        .says("list the machines: no answer from Google for 2 s");
}

// Google's trouble, and its limit of requests, are waited out where that is safe, told while they last,
// and never called a lack of permission.
fn trouble_that_passes_is_waited_out() {
    let refused = Refused::new();
    for (words, answer) in [(BUSY, "503"), (RATE, "that there are too many requests")] {
        refused.order(words, 1);
        let told = format!("list the machines: Google answers {answer}; again in ");
        let status = refused
            .0
            .raftctl(&["status", "--output", "json"])
            .code(0)
            .says(&told);
        assert_eq!(status.json()["machines"]["1"]["machine"], "RUNNING");
    }
    // A change that names what it makes may be asked for twice.
    refused.order("HTTPError 503: Internal error.", 1);
    refused
        .0
        .raftctl(&["kill", "1", "--vm"])
        .code(0)
        .says("stop machine raft-demo-n1: Google answers 503; again in ");
    let calls = std::fs::read_to_string(refused.path("calls")).unwrap();
    assert_eq!(
        calls.matches("instances stop raft-demo-n1").count(),
        2,
        "{calls}"
    );
}

// `down` says that nothing is left only where it has seen that, and keeps the key and the state until
// then: without them nobody could look again.
fn down_keeps_what_is_needed_until_it_has_seen_that_nothing_is_left() {
    let refused = Refused::new();
    refused.write("instances.json", "[]");
    for words in [FORBIDDEN, SILENT, BUSY] {
        refused.order(words, FOR_EVER);
        let down = refused.0.raftctl(&["down", "--yes"]).code(10);
        for words in ["costs money, is not known", "run `raftctl down` again"] {
            assert!(down.stderr.contains(words), "{words}: {down:?}");
        }
        assert!(!down.stdout.contains("nothing of it is left"), "{down:?}");
        assert!(refused.path(".raftctl/demo/id_ed25519").exists());
    }
    refused.order("", 0);
    let down = refused.0.raftctl(&["down", "--yes"]).code(0);
    assert!(down.stdout.contains("nothing of it is left"), "{down:?}");
    assert!(!refused.path(".raftctl/demo").exists());
}
