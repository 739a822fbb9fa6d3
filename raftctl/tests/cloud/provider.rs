//! Google's provider as a process of its own, which Terraform starts: here one that passes on to the stand-in what
//! Terraform asks. It may be killed, as the real one by a machine without memory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use harness::{Test, tests};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cloud::{Cloud, GCLOUD, TERRAFORM, ended};
use crate::interrupted::{
    at_google, in_state, said, signal, terraform_of, wait_until_begun, wait_until_made, yaml,
};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        a_killed_provider_costs_one_more_command
    )
}

/// Says where it listens, as Terraform's plugins do, and passes bytes on until Terraform hangs up, which gives it
/// seconds to end.
const PROVIDER: &str = r#"#!/usr/bin/env -S python3 -SE
import os, socket, threading

def pass_on(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    os._exit(0)

server = socket.create_server(("127.0.0.1", 0))
print("1|6|tcp|127.0.0.1:%d|grpc" % server.getsockname()[1], flush=True)
while True:
    near, _ = server.accept()
    host, port = "ADDRESS".rsplit(":", 1)
    far = socket.create_connection((host, int(port)))
    for pair in ((near, far), (far, near)):
        threading.Thread(target=pass_on, args=pair, daemon=True).start()
"#;

const FILE: &str = "terraform-provider-google_v7.45.0_x5";

/// A Google whose provider Terraform starts.
fn with_provider() -> Cloud {
    let cloud = Cloud::new(&yaml(1, "us-central1-a"));
    cloud.list_quickly();
    let platform = "mirror/registry.terraform.io/hashicorp/google/7.45.0/linux_amd64";
    let reattach: Value = serde_json::from_str(&cloud.provider.reattach).unwrap();
    let address = &reattach["registry.terraform.io/hashicorp/google"]["Addr"]["String"];
    let text = PROVIDER.replace("ADDRESS", address.as_str().unwrap());
    cloud.install(FILE, &text);
    let folder = cloud.folder.path();
    std::fs::create_dir_all(folder.join(platform)).unwrap();
    std::fs::rename(
        folder.join("bin").join(FILE),
        folder.join(platform).join(FILE),
    )
    .unwrap();
    let mirror = folder.join("mirror");
    let installation =
        format!("provider_installation {{ filesystem_mirror {{ path = {mirror:?} }} }}\n");
    std::fs::write(folder.join("cli.tfrc"), installation).unwrap();
    cloud
}

fn command(cloud: &Cloud, arguments: &[&str]) -> Command {
    let mut command = cloud.command(arguments);
    command
        .env_remove("TF_REATTACH_PROVIDERS")
        // The stand-in speaks no TLS.
        .env("TF_DISABLE_PLUGIN_TLS", "1");
    command
}

/// The provider that a Terraform has started.
#[track_caller]
fn provider_of(terraform: u32) -> u32 {
    let is_it = |process: &PathBuf| {
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        String::from_utf8_lossy(&command).contains(FILE) && parent == Some(&terraform.to_string())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut processes = processes.map(|entry| entry.path()).filter(is_it);
    let found = processes.next().expect("Terraform has a provider");
    found
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// Kills the provider of a raftctl that works; what was said.
fn killed(cloud: &Cloud, running: std::process::Child) -> String {
    signal(provider_of(terraform_of(cloud)), Signal::KILL);
    let (code, stderr) = said(running.wait_with_output().unwrap());
    assert_eq!(code, 10, "{stderr}");
    cloud.order(&json!({}));
    stderr
}

// The provider is killed while it makes things, for one kind after the other. Each stands at Google and in no state,
// is named, and is taken in by the next `up`, whichever way that one ends; the last one makes all. Likewise
// `down`.
fn a_killed_provider_costs_one_more_command() {
    let cloud = with_provider();
    for kinds in [
        ["google_compute_network", "google_compute_disk"].as_slice(),
        &["google_compute_subnetwork", "google_compute_firewall"],
        &["google_compute_address"],
        &["google_compute_instance"],
    ] {
        cloud.order(&json!({"hold": kinds, "poll_ms": {"*": 50}}));
        let running = command(&cloud, &["up"]).spawn().unwrap();
        for kind in kinds {
            wait_until_made(&cloud, kind);
        }
        let said = killed(&cloud, running);
        assert!(said.contains("`raftctl up` looks at Google"), "{said}");
        let lost = &at_google(&cloud) - &in_state(&cloud);
        assert!(lost.len() >= kinds.len(), "{lost:?}");
    }
    let up = ended(command(&cloud, &["up", "--timeout", "1s"])).code(10);
    up.says("take in").says("not ready after 1 s");
    assert_eq!(at_google(&cloud), in_state(&cloud));

    cloud.order(&json!({"hold": ["google_compute_instance"], "poll_ms": {"*": 50}}));
    let running = command(&cloud, &["down", "--yes"]).spawn().unwrap();
    wait_until_begun(&cloud, "delete", "google_compute_instance");
    let said = killed(&cloud, running);
    assert!(said.contains("`raftctl down` looks at Google"), "{said}");
    let down = ended(command(&cloud, &["down", "--yes"])).code(0);
    assert!(down.stdout.contains("nothing of it is left"), "{down:?}");
    assert_eq!(at_google(&cloud), BTreeSet::new());
}
