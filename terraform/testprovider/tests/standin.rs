//! The stand-in for Google's provider fails as the real one does: what is asked of Google goes on there
//! when nobody waits for it any more, and Terraform knows nothing of it.

use harness::{Test, tests};
use std::io::Read;

use crate::support::{TERRAFORM, Workspace, interrupt};
use serde_json::{Value as Json, json};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM],
        what_is_being_made_at_an_interruption_is_orphaned,
        an_interruption_is_heard_at_the_next_poll,
        a_broken_poll_orphans_as_well,
        a_killed_terraform_leaves_google_at_work,
        an_interrupted_deletion_or_change_goes_on,
        everything_can_be_imported,
        what_is_in_use_stays
    )
}

const NETWORK: &str = "projects/example-project/global/networks/raft-demo";
const CANCELLED: &str = "unable to finish polling, context has been cancelled";
const APPLY: [&str; 4] = ["apply", "-input=false", "-auto-approve", "-no-color"];

/// One node: what is shown here is the same for five.
fn one_node() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.variables["nodes"] =
        json!({"n1": {"id": 1, "region": "us-central1", "zone": "us-central1-a"}});
    workspace.variables["regions"] = json!({"us-central1": "10.80.0.0/24"});
    workspace
}

/// All ids and addresses of a cluster of one node.
fn everything() -> [(&'static str, &'static str); 7] {
    [
        (
            "google_compute_network.cluster[0]",
            "global/networks/raft-demo",
        ),
        (
            "google_compute_subnetwork.region[\"us-central1\"]",
            "regions/us-central1/subnetworks/raft-demo-us-central1",
        ),
        (
            "google_compute_firewall.ssh[0]",
            "global/firewalls/raft-demo-ssh",
        ),
        (
            "google_compute_firewall.peers[0]",
            "global/firewalls/raft-demo-peers",
        ),
        (
            "google_compute_address.node[\"n1\"]",
            "regions/us-central1/addresses/raft-demo-n1",
        ),
        (
            "google_compute_disk.data[\"n1\"]",
            "zones/us-central1-a/disks/raft-demo-n1-data",
        ),
        (
            "google_compute_instance.node[\"n1\"]",
            "zones/us-central1-a/instances/raft-demo-n1",
        ),
    ]
}

/// Terraform's import blocks for ids.
fn blocks<'a>(ids: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> String {
    let blocks = ids.into_iter().map(|(address, id)| {
        format!("import {{\n  to = {address}\n  id = \"projects/example-project/{id}\"\n}}\n")
    });
    blocks.collect()
}

/// Terraform, interrupted as soon as Google has begun to make the network; what it said.
fn interrupted(workspace: &Workspace) -> String {
    let mut apply = workspace.spawn(&APPLY);
    workspace.wait_until("the network is there", |workspace| {
        workspace.provider.google.find(NETWORK).is_some()
    });
    interrupt(&apply);
    assert!(!apply.wait().unwrap().success());
    let mut said = String::new();
    apply
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    said.replace(['\n', '│'], " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Takes in all that Google has and the state doesn't, as Terraform's own import does: the network, and
/// whatever else was just being made beside it.
fn import_strangers(workspace: &Workspace) {
    let state = workspace.state();
    for (address, id) in everything() {
        let id = format!("projects/example-project/{id}");
        let is_known = state.iter().any(|known| known == address);
        if is_known || workspace.provider.google.find(&id).is_none() {
            continue;
        }
        let import = workspace.terraform(&["import", "-no-color", address, &id]);
        assert_eq!(import.code, 0, "{}", import.text);
    }
}

// Ctrl-C while something is being made: Google makes it, and it is in no state, so that the next apply
// meets it as a stranger. Taken in by its id, it is the cluster's own again.
fn what_is_being_made_at_an_interruption_is_orphaned() {
    let workspace = one_node();
    workspace.order(&json!({"op_ms": {"*": 60_000}}));
    let said = interrupted(&workspace);
    assert!(said.contains(CANCELLED), "{said}");
    let state = workspace.state().join(" ");
    assert!(!state.contains("google_compute_network"), "{state}");

    workspace.order(&json!({}));
    let again = workspace.try_apply();
    assert_eq!(again.code, 1);
    assert!(again.text.contains("Error 409"), "{}", again.text);

    import_strangers(&workspace);
    workspace.apply();
    assert_eq!(workspace.plan(), []);
}

// The provider hears of an interruption at its next question, as the real one, which asks each 10 s.
fn an_interruption_is_heard_at_the_next_poll() {
    let workspace = one_node();
    // The operation ends before the question, and is not seen to have ended.
    workspace.order(&json!({
        "op_ms": {"google_compute_network": 500}, "poll_ms": {"google_compute_network": 8_000}
    }));
    let said = interrupted(&workspace);
    assert!(said.contains(CANCELLED), "{said}");
}

// One question that gets no answer has the same end, with nobody's doing.
fn a_broken_poll_orphans_as_well() {
    let workspace = one_node();
    for (kind, words) in [
        ("unauthorized", "Error 401"),
        ("forbidden", "globalOperations.get"),
        ("refused", "connection refused"),
    ] {
        workspace.order(&json!({"faults": [
            {"kind": kind, "on": "poll", "resource": "google_compute_disk", "times": 1}
        ]}));
        let run = workspace.try_apply();
        assert_eq!(run.code, 1, "{kind}");
        let text = run.text.replace(['\n', '│'], " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{kind}: {text}");
        assert!(
            text.contains("Error waiting to create Disk: Error waiting for Creating Disk"),
            "{text}"
        );
        let state = workspace.state().join(" ");
        assert!(!state.contains("google_compute_disk"), "{state}");
        let disk = "projects/example-project/zones/us-central1-a/disks/raft-demo-n1-data";
        let google = &workspace.provider.google;
        assert!(google.find(disk).is_some(), "{kind}");
        google.delete(disk).unwrap();
    }
}

// Terraform that is killed leaves Google at work.
fn a_killed_terraform_leaves_google_at_work() {
    let workspace = one_node();
    workspace.order(&json!({"hold": ["google_compute_instance"]}));
    let mut apply = workspace.spawn(&APPLY);
    let id = "projects/example-project/zones/us-central1-a/instances/raft-demo-n1";
    let status = |workspace: &Workspace| {
        let found = workspace.provider.google.find(id);
        found.map_or(Json::Null, |found| found.state["current_status"].clone())
    };
    workspace.wait_until("the machine is being made", |workspace| {
        status(workspace) == "STAGING"
    });
    apply.kill().unwrap();
    apply.wait().unwrap();
    workspace.order(&json!({}));
    workspace.wait_until("the machine runs", |workspace| {
        status(workspace) == "RUNNING"
    });
}

// A deletion that is interrupted goes on, and so does a change: Terraform's state is as it was, and the
// next run finds out.
fn an_interrupted_deletion_or_change_goes_on() {
    let mut workspace = one_node();
    workspace.apply();
    let disk = "projects/example-project/zones/us-central1-a/disks/raft-demo-n1-data";
    workspace.order(&json!({"op_ms": {"google_compute_disk": 1_500}, "faults": [
        {"kind": "refused", "on": "poll", "resource": "google_compute_disk"}
    ]}));
    workspace.variables["data_disk_gb"] = json!(20);
    assert_eq!(workspace.try_apply().code, 1);
    workspace.wait_until("the disk has grown", |workspace| {
        let disk = workspace.provider.google.find(disk).unwrap();
        disk.state["size"] == 20
    });

    let destroy = ["destroy", "-auto-approve", "-no-color"];
    let run = workspace.terraform(&destroy);
    assert_eq!(run.code, 1, "{}", run.text);
    let state = workspace.state().join(" ");
    assert!(state.contains("google_compute_disk"), "{state}");
    workspace.wait_until("the disk is gone", |workspace| {
        workspace.provider.google.find(disk).is_none()
    });
    workspace.order(&json!({}));
    assert_eq!(workspace.terraform(&destroy).code, 0);
    assert_eq!(workspace.provider.google.count(), 0);
}

// All six kinds can be taken in by their ids, also a machine that is off: nothing is made anew, labels
// are set, the machine is started, and then there is nothing left to do. What isn't there is an error.
fn everything_can_be_imported() {
    let workspace = one_node();
    workspace.apply();
    let machine = "projects/example-project/zones/us-central1-a/instances/raft-demo-n1";
    let google = &workspace.provider.google;
    google.switch(machine, "TERMINATED").unwrap();
    let file = |name: &str| workspace.directory.path().join(name);
    std::fs::remove_file(file("terraform.tfstate")).unwrap();
    std::fs::write(file("import.tf"), blocks(&everything())).unwrap();
    let changes = workspace.plan();
    let google_s = changes
        .iter()
        .filter(|(address, _)| address.starts_with("google_"));
    for (address, action) in google_s {
        assert_eq!(action, "update", "{address}");
    }
    workspace.apply();
    assert_eq!(
        google.find(machine).unwrap().state["current_status"],
        "RUNNING"
    );
    assert_eq!(workspace.plan(), []);

    let stranger = [(
        "google_compute_firewall.clients[0]",
        "global/firewalls/raft-demo-clients",
    )];
    std::fs::write(file("import.tf"), blocks(&stranger)).unwrap();
    let mut workspace = workspace;
    workspace.variables["client_cidrs"] = json!(["198.51.100.0/24"]);
    let plan = workspace.terraform(&["plan", "-input=false", "-no-color"]);
    assert_eq!(plan.code, 1, "{}", plan.text);
    assert!(
        plan.text.contains("non-existent remote object"),
        "{}",
        plan.text
    );
}

// What is in use can't be deleted, an address no less than a network: whoever plans it in the wrong
// order hears of it.
fn what_is_in_use_stays() {
    let workspace = one_node();
    workspace.apply();
    for (_, id) in everything() {
        let id = format!("projects/example-project/{id}");
        let refused = workspace.provider.google.refuse_in_use(&id);
        let is_free = id.contains("firewalls") || id.contains("instances");
        assert_eq!(refused.is_ok(), is_free, "{id}: {refused:?}");
    }
    let run = workspace.terraform(&[
        "destroy",
        "-auto-approve",
        "-no-color",
        "-target=google_compute_address.node",
        "-target=google_compute_instance.node",
    ]);
    assert_eq!(run.code, 0, "{}", run.text);
}
