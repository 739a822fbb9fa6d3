//! Machines of Google Cloud whose init is systemd, as Google's images have it: their nodes are units.
//! The stand-in's instances are containers here.

use harness::{Test, tests};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cloud::{Cloud, GCLOUD, TERRAFORM};
use testhosts::containers::{CONTAINERS, TestContainers, docker};
use testprovider::hook::{Hook, Machine};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD, CONTAINERS],
        a_node_on_google_cloud_is_a_unit
    )
}

const YAML: &str = "\
name: demo
provider: gcp
tls: on
nodes: 1
gcp:
  project: my-project
  zones: [us-central1-a]
  ssh_via: external
  operator_cidrs: [127.0.0.1/32]
";

/// Longer than anything takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What Google's guest agent and the startup script do: an account with sudo that lets the key in,
/// the address, the folder of the data disk.
fn furnish(set: &TestContainers, machine: &Machine) -> String {
    let (user, key) = machine.ssh_keys.split_once(':').unwrap();
    let script = format!(
        "id -u {user} >/dev/null 2>&1 || useradd --create-home {user}; \
         echo '{user} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/guest; \
         mkdir -p /home/{user}/.ssh /opt/raftkv; echo '{key}' >/home/{user}/.ssh/authorized_keys; \
         chown -R {user} /home/{user}; touch /run/raft-host-ready"
    );
    let done = set.run(0, &script);
    assert!(done.status.success(), "{done:?}");
    // The image has no program for that, and the container not the right to it.
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &set.names[0]]);
    let address = format!("{}/16", machine.internal_ip);
    let added = Command::new("nsenter")
        .args(["-t", &pid, "-n", "ip", "address", "replace", &address])
        .args(["dev", "eth0"])
        .status();
    assert!(added.unwrap().success());
    set.addresses[0].clone()
}

// Found out at the machine, not assumed: where systemd runs, it looks after the node, tells when it
// is ready, confines it, and starts it again when it fails.
fn a_node_on_google_cloud_is_a_unit() {
    let set = TestContainers::start(1);
    let set = Arc::new(set);
    let hook = Arc::clone(&set);
    let act = move |action: &str, machine: &Machine| {
        Ok((action == "create").then(|| furnish(&hook, machine)))
    };
    let cloud = Cloud::with_hosts(YAML, Hook::Function(Arc::new(act)));
    let plan = cloud.raftctl(&["plan"]).code(0);
    assert!(plan.stdout.contains("start node 1"), "{plan:?}");
    cloud.raftctl(&["up"]).code(0);
    let must = |script: &str| {
        let output = set.run(0, script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let property = |name: &str| {
        must(&format!(
            "systemctl show --property {name} --value raftkv-demo-1"
        ))
    };
    assert_eq!(property("Type"), "notify");
    assert_eq!(property("ProtectSystem"), "strict");
    let pid = property("MainPID");
    assert_eq!(must(&format!("stat -c %U /proc/{pid}")), "raftkv");
    cloud.raftctl(&["up"]).code(0).says("nothing to do");

    must(&format!("kill -ABRT {pid}"));
    let give_up = Instant::now() + PATIENCE;
    while property("ActiveState") != "active" || property("MainPID") == pid {
        assert!(
            Instant::now() < give_up,
            "systemd does not start the node again"
        );
    }
    cloud.raftctl(&["set", "name1", "Jaggu"]).code(0);
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}
