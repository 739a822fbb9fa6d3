//! A cluster in a company's own network: a subnetwork of a shared VPC, whose project is another one.

use std::collections::BTreeSet;

use harness::{Test, tests};
use serde_json::json;
use testprovider::value::Value;

use crate::cloud::{Cloud, GCLOUD, TERRAFORM, which};
use crate::interrupted::{at_google, yaml};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        a_shared_network_is_used_and_left,
        a_policy_s_refusal_names_its_setting
    )
}

const YAML: &str = "\
name: demo
provider: gcp
timing: wan
nodes: 2
binary: /bin/true
gcp:
  project: my-project
  zones: [us-central1-a, us-east1-b]
  network: shared
  subnetwork: {us-central1: shared-central, us-east1: shared-east}
  network_project: host-project
  ssh_via: external
  operator_cidrs: [127.0.0.1/32]
";

/// Lets nobody look at a subnetwork who does not do so while somebody else does.
const MEETING_GCLOUD: &str = r#"#!/bin/sh
cd "$(dirname "$0")/.." || exit 9
case "$*" in *'subnets describe'*)
    touch "meeting.$$"
    for try in $(seq 300); do
        [ "$(ls meeting.* | wc -l)" -lt 2 ] || exec GCLOUD "$@"
        sleep 0.1
    done
    echo 'ERROR: (gcloud) nobody else is here' >&2
    exit 1
esac
exec GCLOUD "$@"
"#;

/// The path of something of the company's, which is made here.
fn made(cloud: &Cloud, resource_type: &str, members: &[(&str, &str)]) -> String {
    let schema = testprovider::resources::schema(resource_type).unwrap();
    let mut planned = schema.unset();
    for (name, value) in members {
        planned.set(name, (*value).into());
    }
    for name in ["id", "self_link"] {
        planned.set(name, Value::Unknown);
    }
    let google = &cloud.provider.google;
    let made = google.create(resource_type, &schema, "host-project", &planned);
    made.unwrap().get("id").text().unwrap().to_owned()
}

/// A network with a subnetwork in each region.
fn shared_network(cloud: &Cloud) -> BTreeSet<String> {
    let network = made(cloud, "google_compute_network", &[("name", "shared")]);
    let subnet = |name: &str, region: &str, range: &str| {
        let members = [
            ("name", name),
            ("region", region),
            ("network", &network),
            ("ip_cidr_range", range),
        ];
        made(cloud, "google_compute_subnetwork", &members)
    };
    let central = subnet("shared-central", "us-central1", "10.9.0.0/24");
    let east = subnet("shared-east", "us-east1", "10.9.1.0/24");
    [network, central, east].into()
}

// Machines and addresses come to be in the company's subnetworks, the rules in the network's project, where
// one that is lost is found again; the network is never touched, and outlives the cluster.
fn a_shared_network_is_used_and_left() {
    let cloud = Cloud::new(YAML);
    let shared = shared_network(&cloud);
    let gcloud = which("gcloud").display().to_string();
    cloud.install("gcloud", &MEETING_GCLOUD.replace("GCLOUD", &gcloud));
    let check = cloud.raftctl(&["check"]).code(0).stdout;
    for words in [
        "ok    subnetwork: shared-central exists in us-central1",
        "ok    subnetwork: shared-east exists in us-east1",
        "ok    firewall rules: project host-project can be looked at, and has 0 of raft-demo",
    ] {
        assert!(check.contains(words), "{words:?} is not in {check}");
    }
    cloud.list_quickly();
    // Nobody hears of the end of a rule's creation.
    cloud.order(&json!({"op_ms": {"*": 100}, "poll_ms": {"*": 50}, "faults": [
        {"kind": "refused", "on": "poll", "times": 1, "resource": "google_compute_firewall", "name": "raft-demo-ssh"}
    ]}));
    cloud.raftctl(&["up"]).code(10).says("let go of it");
    cloud.order(&json!({}));
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("take in 1")
        .says("not ready after 1 s");
    let google = &cloud.provider.google;
    let find = |id: &str| {
        let found = google.find(id);
        found.unwrap_or_else(|| panic!("{id} is not there")).state
    };
    for rule in ["ssh", "peers"] {
        let rule = find(&format!(
            "projects/host-project/global/firewalls/raft-demo-{rule}"
        ));
        assert_eq!(
            rule["network"],
            "projects/host-project/global/networks/shared"
        );
    }
    let address = find("projects/my-project/regions/us-east1/addresses/raft-demo-n2");
    assert!(address["address"].as_str().unwrap().starts_with("10.9.1."));
    let machine = find("projects/my-project/zones/us-east1-b/instances/raft-demo-n2");
    assert_eq!(
        machine["network_interface"][0]["subnetwork"],
        "projects/host-project/regions/us-east1/subnetworks/shared-east"
    );
    assert_eq!(google.of_type("google_compute_network").len(), 1);
    assert_eq!(google.of_type("google_compute_subnetwork").len(), 2);
    let down = cloud.raftctl(&["down", "--yes"]).code(0);
    assert!(down.stdout.contains("nothing of it is left"), "{down:?}");
    assert_eq!(at_google(&cloud), shared);
}

// What an organization forbids is told with the setting that complies, one policy after the other; with all of
// them the machine is made. (Each policy's words have a row in the unit tests of causes.)
fn a_policy_s_refusal_names_its_setting() {
    let no_secure_boot = "gcp:\n  secure_boot: false\n";
    let mut yaml = yaml(1, "us-central1-a").replace("gcp:\n", no_secure_boot);
    let cloud = Cloud::new(&yaml);
    cloud.list_quickly();
    cloud.order(
        &json!({"policies": ["restrictNonCmekServices", "requireOsLogin", "requireShieldedVm"]}),
    );
    const KEY: &str = "kms_key: projects/P/locations/L/keyRings/R/cryptoKeys/K";
    for (policy, setting) in [
        ("gcp.restrictNonCmekServices", KEY),
        ("compute.requireOsLogin", "os_login: true"),
        ("compute.requireShieldedVm", "secure_boot: true"),
    ] {
        let forbidden = format!("a policy of your organization forbids it: {policy}");
        let refused = cloud.raftctl(&["up"]).code(10).says(&forbidden);
        let refused = refused.says(&format!("write gcp: {{{setting}}} in cluster.yaml"));
        assert_eq!(
            refused.stderr.matches(&forbidden).count(),
            1,
            "{}",
            refused.stderr
        );
        let setting = setting.replace("locations/L", "locations/us-central1");
        if setting.starts_with("secure_boot") {
            yaml = yaml.replace("  secure_boot: false\n", "");
        }
        yaml = yaml.replace("gcp:\n", &format!("gcp:\n  {setting}\n"));
        cloud.write(&yaml);
    }
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("not ready after 1 s");
    let machines = cloud.provider.google.of_type("google_compute_instance");
    assert_eq!(machines.len(), 1);
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}
