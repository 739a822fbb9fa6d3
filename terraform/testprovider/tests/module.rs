//! The module under real Terraform: from nothing to five machines and back, every change that an
//! operator makes, and the failures that Google answers with.

use harness::{Test, tests};
use std::process::Command;

use crate::support::{TERRAFORM, Workspace, module, of};
use serde_json::json;

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM],
        the_module_is_formatted_and_valid,
        a_cluster_comes_stays_and_goes,
        nothing_is_open_to_everybody,
        ssh_from_nowhere_is_refused,
        behind_iap_there_is_no_external_address,
        a_new_node_only_adds,
        a_removed_node_only_removes_its_own,
        of_a_node_that_leaves_parts_are_kept,
        another_zone_replaces_the_data_disk,
        a_subnet_grows_in_place_and_is_replaced_when_it_moves,
        another_machine_type_is_changed_in_place,
        image_and_lifetime_leave_running_machines_alone,
        a_replaced_data_disk_takes_its_machine_along,
        a_stopped_machine_has_no_external_address,
        a_machine_that_deleted_itself_is_made_again,
        a_stopped_machine_is_started,
        data_disks_can_be_kept,
        a_quota_failure_leaves_a_state_to_go_on_from,
        google_s_failures_come_in_its_own_words,
        a_wrong_configuration_is_rejected,
        wrong_variables_are_refused
    )
}

// The files are formatted as `terraform fmt` does, and the configuration is valid.
fn the_module_is_formatted_and_valid() {
    let format = Command::new("terraform")
        .args(["fmt", "-check", "-diff"])
        .arg(module())
        .output()
        .unwrap();
    assert!(
        format.status.success(),
        "{}",
        String::from_utf8_lossy(&format.stdout)
    );
    let validate = Workspace::new().terraform(&["validate", "-no-color"]);
    assert_eq!(validate.code, 0, "{}", validate.text);
}

// From nothing to five machines, a second run that changes nothing, and back to nothing.
fn a_cluster_comes_stays_and_goes() {
    let workspace = Workspace::new();
    workspace.apply();

    let output = workspace.output();
    assert_eq!(output["schema"], 1);
    assert_eq!(output["ssh_user"], "raft");
    let n4 = &output["nodes"]["n4"];
    assert_eq!(n4["instance"], "raft-demo-n4");
    assert_eq!(n4["zone"], "us-east1-b");
    assert_eq!(n4["region"], "us-east1");
    assert_eq!(n4["data_disk"], "raft-demo-n4-data");
    assert_eq!(n4["data_device"], "/dev/disk/by-id/google-raft-data");
    assert!(
        n4["internal_ip"].as_str().unwrap().starts_with("10.80.1."),
        "{n4}"
    );
    assert!(
        n4["external_ip"]
            .as_str()
            .unwrap()
            .starts_with("203.0.113."),
        "{n4}"
    );

    assert_eq!(workspace.plan(), []);
    let destroy = workspace.terraform(&["destroy", "-auto-approve", "-no-color"]);
    assert_eq!(destroy.code, 0, "{}", destroy.text);
    assert_eq!(workspace.state(), Vec::<String>::new());
}

// Nothing is open to the world: SSH from the operator, Raft among the cluster's own machines, and
// clients from nowhere until ranges are named.
fn nothing_is_open_to_everybody() {
    let mut workspace = Workspace::new();
    let firewalls = of(&workspace.plan(), "google_compute_firewall").len();
    assert_eq!(firewalls, 2, "the client port has no rule of its own yet");

    workspace.variables["client_cidrs"] = json!(["198.51.100.0/24"]);
    workspace.apply();
    let google = &workspace.provider.google;
    let rule = |name: &str| {
        google
            .find(&format!(
                "projects/example-project/global/firewalls/raft-demo-{name}"
            ))
            .unwrap()
            .state
    };
    assert_eq!(rule("ssh")["source_ranges"], json!(["198.51.100.7/32"]));
    assert_eq!(rule("peers")["source_tags"], json!(["raft-demo"]));
    assert!(rule("peers")["source_ranges"].is_null());
    assert_eq!(rule("clients")["source_ranges"], json!(["198.51.100.0/24"]));
    assert_eq!(rule("clients")["allow"][0]["ports"], json!(["7500"]));
    for name in ["ssh", "peers", "clients"] {
        assert_eq!(rule(name)["target_tags"], json!(["raft-demo"]));
    }
}

// An operator who names no range must not open SSH to everybody, which is what Google makes of a
// rule without a source.
fn ssh_from_nowhere_is_refused() {
    let mut workspace = Workspace::new();
    workspace.variables["operator_cidrs"] = json!([]);
    let plan = workspace.terraform(&["plan", "-no-color"]);
    assert_eq!(plan.code, 1);
    assert!(
        plan.text.contains("operator_cidrs must name"),
        "{}",
        plan.text
    );
}

// By way of Identity-Aware Proxy no machine has an address of its own outside.
fn behind_iap_there_is_no_external_address() {
    let mut workspace = Workspace::new();
    workspace.variables["ssh_via"] = json!("iap");
    workspace.variables["operator_cidrs"] = json!([]);
    workspace.apply();
    for (name, node) in workspace.output()["nodes"].as_object().unwrap() {
        assert!(node["external_ip"].is_null(), "{name}: {node}");
    }
    let ssh = workspace
        .provider
        .google
        .find("projects/example-project/global/firewalls/raft-demo-ssh");
    assert_eq!(
        ssh.unwrap().state["source_ranges"],
        json!(["35.235.240.0/20"])
    );
}

// A node in a new region adds its own resources, and touches nothing that is there.
fn a_new_node_only_adds() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["nodes"]["n6"] =
        json!({"id": 6, "region": "asia-east1", "zone": "asia-east1-a"});
    // Sorted before the regions that exist, which must not move them.
    workspace.variables["regions"]["asia-east1"] = json!("10.80.2.0/24");
    let expected = [
        r#"google_compute_address.node["n6"]"#,
        r#"google_compute_disk.data["n6"]"#,
        r#"google_compute_instance.node["n6"]"#,
        r#"google_compute_subnetwork.region["asia-east1"]"#,
    ];
    let actions = workspace.plan();
    assert_eq!(
        of(&actions, "google_"),
        expected.map(|address| (address, "create"))
    );
}

// A node in the middle goes, and the others don't shift.
fn a_removed_node_only_removes_its_own() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["nodes"]
        .as_object_mut()
        .unwrap()
        .remove("n2");
    let expected = [
        r#"google_compute_address.node["n2"]"#,
        r#"google_compute_disk.data["n2"]"#,
        r#"google_compute_instance.node["n2"]"#,
    ];
    let actions = workspace.plan();
    assert_eq!(
        of(&actions, "google_"),
        expected.map(|address| (address, "delete"))
    );
}

// A node that is about to go keeps what is named of it: nothing of that is made again, and the rest goes. A machine
// can't be without the others.
fn of_a_node_that_leaves_parts_are_kept() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["nodes"]["n2"]["parts"] = json!(["address", "disk", "machine"]);
    assert_eq!(workspace.plan(), [], "all of it is what it has");
    workspace.variables["nodes"]["n2"]["parts"] = json!(["address", "disk"]);
    let machine = r#"google_compute_instance.node["n2"]"#;
    let actions = workspace.plan();
    assert_eq!(of(&actions, "google_"), [(machine, "delete")]);
    workspace.apply();
    assert!(workspace.output()["nodes"]["n2"].is_null());
    workspace.variables["nodes"]["n2"]["parts"] = json!(["address"]);
    let disk = r#"google_compute_disk.data["n2"]"#;
    let actions = workspace.plan();
    assert_eq!(of(&actions, "google_"), [(disk, "delete")]);
    for wrong in [json!(["machine"]), json!(["disk", "house"])] {
        workspace.variables["nodes"]["n2"]["parts"] = wrong;
        let plan = workspace.terraform(&["plan", "-no-color"]);
        assert_eq!(plan.code, 1);
        assert!(
            plan.text.contains("and a machine needs the"),
            "{}",
            plan.text
        );
    }
}

// Another zone means another data disk, and the plan says so: this is what raftctl looks for
// before it lets a plan through.
fn another_zone_replaces_the_data_disk() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["nodes"]["n1"]["zone"] = json!("us-central1-f");
    let actions = workspace.plan();
    assert_eq!(
        of(&actions, "google_compute_disk"),
        [(r#"google_compute_disk.data["n1"]"#, "delete,create")]
    );
    assert!(
        of(&actions, "google_compute_address").is_empty(),
        "the address stays: {actions:?}"
    );
}

// A range that moved replaces the subnet with its addresses and machines, in an order in which nothing
// that goes is in use any more; one that grew is changed in place.
fn a_subnet_grows_in_place_and_is_replaced_when_it_moves() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["regions"]["us-east1"] = json!("10.80.0.0/16");
    let grown = workspace.plan();
    let subnet = r#"google_compute_subnetwork.region["us-east1"]"#;
    assert_eq!(
        of(&grown, "google_compute_subnetwork"),
        [(subnet, "update")]
    );
    assert_eq!(grown.len(), 1, "{grown:?}");

    workspace.variables["regions"]["us-east1"] = json!("10.81.0.0/24");
    let actions = workspace.plan();
    assert_eq!(
        of(&actions, "google_compute_subnetwork"),
        [(subnet, "delete,create")]
    );
    let machines =
        [r#"["n4"]"#, r#"["n5"]"#].map(|key| format!("google_compute_instance.node{key}"));
    let expected = machines
        .each_ref()
        .map(|machine| (machine.as_str(), "delete,create"));
    assert_eq!(of(&actions, "google_compute_instance"), expected);
    workspace.apply();
    let nodes = &workspace.output()["nodes"];
    for (name, net) in [("n1", "10.80.0."), ("n4", "10.81.0."), ("n5", "10.81.0.")] {
        let address = nodes[name]["internal_ip"].as_str().unwrap();
        assert!(address.starts_with(net), "{name}: {address}");
    }
    assert_eq!(workspace.plan(), []);
}

// Another machine type is changed in place: the machine is stopped, keeps its disks and comes back.
fn another_machine_type_is_changed_in_place() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["nodes"]["n5"]["machine_type"] = json!("e2-standard-2");
    assert_eq!(
        workspace.plan(),
        [(
            r#"google_compute_instance.node["n5"]"#.into(),
            "update".into()
        )]
    );
    workspace.apply();
    assert_eq!(workspace.plan(), []);
}

// A newer image and another lifetime leave running machines alone: Google's provider would make
// all of them anew, at once.
fn image_and_lifetime_leave_running_machines_alone() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["image"] = json!("projects/debian-cloud/global/images/family/debian-13");
    workspace.variables["lifetime_seconds"] = json!(0);
    workspace.variables["boot_disk_type"] = json!("hyperdisk-balanced");
    assert_eq!(workspace.plan(), []);
}

// A data disk of another type is another disk, though of the same name: its machine is made anew with
// it, or it would be left without. One that grows leaves its machine alone.
fn a_replaced_data_disk_takes_its_machine_along() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["data_disk_gb"] = json!(20);
    let grown = workspace.plan();
    assert_eq!(grown.len(), 5, "{grown:?}");
    assert_eq!(of(&grown, "google_compute_disk").len(), 5, "{grown:?}");
    workspace.apply();

    workspace.variables["data_disk_type"] = json!("pd-ssd");
    workspace.apply();
    let google = &workspace.provider.google;
    let instances = google.of_type("google_compute_instance");
    assert_eq!(instances.len(), 5);
    for (id, instance) in instances {
        let attached = instance.state["attached_disk"].as_array().unwrap();
        assert_eq!(attached.len(), 1, "{id} has no data disk");
    }
    assert_eq!(workspace.plan(), []);
}

// A machine that is off has no external address, which Google writes as an empty one.
fn a_stopped_machine_has_no_external_address() {
    let workspace = Workspace::new();
    workspace.apply();
    let id = "projects/example-project/zones/us-central1-b/instances/raft-demo-n2";
    workspace.provider.google.switch(id, "TERMINATED").unwrap();
    let refresh = ["apply", "-refresh-only", "-auto-approve", "-no-color"];
    let refresh = workspace.terraform(&refresh);
    assert_eq!(refresh.code, 0, "{}", refresh.text);
    let nodes = &workspace.output()["nodes"];
    assert!(nodes["n2"]["external_ip"].is_null(), "{nodes}");
    assert!(nodes["n1"]["external_ip"].is_string(), "{nodes}");
}

// A machine that deleted itself at the end of its lifetime comes back with its disk and address.
fn a_machine_that_deleted_itself_is_made_again() {
    let workspace = Workspace::new();
    workspace.apply();
    let before = workspace.output();
    let id = "projects/example-project/zones/us-central1-b/instances/raft-demo-n2";
    workspace.provider.google.delete(id).unwrap();
    assert_eq!(
        workspace.plan(),
        [(
            r#"google_compute_instance.node["n2"]"#.into(),
            "create".into()
        )]
    );
    workspace.apply();
    let after = workspace.output();
    assert_eq!(
        after["nodes"]["n2"]["internal_ip"],
        before["nodes"]["n2"]["internal_ip"]
    );
}

// A machine that was stopped, by hand or by Google, is started again.
fn a_stopped_machine_is_started() {
    let workspace = Workspace::new();
    workspace.apply();
    let id = "projects/example-project/zones/us-central1-b/instances/raft-demo-n2";
    let google = &workspace.provider.google;
    google
        .touch(id, |state| state["current_status"] = json!("TERMINATED"))
        .unwrap();
    assert_eq!(
        workspace.plan(),
        [(
            r#"google_compute_instance.node["n2"]"#.into(),
            "update".into()
        )]
    );
    workspace.apply();
    assert_eq!(google.find(id).unwrap().state["current_status"], "RUNNING");
    assert_eq!(workspace.plan(), []);
}

// All goes but the data disks, and the next run attaches them again.
fn data_disks_can_be_kept() {
    let mut workspace = Workspace::new();
    workspace.apply();
    workspace.variables["data_disks_only"] = json!(true);
    workspace.apply();
    let left = workspace.state();
    assert_eq!(left.len(), 5, "{left:?}");
    assert!(
        left.iter()
            .all(|address| address.starts_with("google_compute_disk.data")),
        "{left:?}"
    );
    assert_eq!(workspace.output()["nodes"], json!({}));

    workspace.variables["data_disks_only"] = json!(false);
    assert!(of(&workspace.plan(), "google_compute_disk").is_empty());
    workspace.apply();
    assert_eq!(workspace.output()["nodes"].as_object().unwrap().len(), 5);
}

// A quota stops one machine of five: the others are made and remembered, the cause is in the
// answer, and the next run makes the one that is missing.
fn a_quota_failure_leaves_a_state_to_go_on_from() {
    let workspace = Workspace::new();
    workspace.order(&json!({"faults": [
        {"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n3"}
    ]}));
    let run = workspace.try_apply();
    assert_eq!(run.code, 1);
    assert!(
        run.text
            .contains("Quota 'CPUS' exceeded.  Limit: 8.0 in region us-central1"),
        "{}",
        run.text
    );
    let made = workspace.state();
    let machines = made
        .iter()
        .filter(|address| address.starts_with("google_compute_instance"));
    assert_eq!(machines.count(), 4, "{made:?}");

    workspace.order(&json!({}));
    assert_eq!(
        workspace.plan(),
        [(
            r#"google_compute_instance.node["n3"]"#.into(),
            "create".into()
        )]
    );
    workspace.apply();
    assert_eq!(workspace.output()["nodes"].as_object().unwrap().len(), 5);
}

// Each failure that can be ordered is said in Google's words.
fn google_s_failures_come_in_its_own_words() {
    let workspace = Workspace::new();
    let cases = [
        ("service_disabled", "SERVICE_DISABLED"),
        ("zone_exhausted", "ZONE_RESOURCE_POOL_EXHAUSTED"),
        ("forbidden", "Error 403: Required"),
        ("already_exists", "Error 409"),
        ("no_credentials", "No credentials loaded"),
    ];
    for (kind, words) in cases {
        workspace.order(&json!({"faults": [{"kind": kind, "resource": "google_compute_network"}]}));
        let run = workspace.try_apply();
        assert_eq!(run.code, 1, "{kind}");
        // Terraform breaks long lines where it likes.
        let text = run.text.replace(['\n', '│'], " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{kind}: {text}");
    }
}

// The stand-in is as strict about the configuration as Google's provider: a test against one that
// takes anything would show nothing.
fn a_wrong_configuration_is_rejected() {
    let cases = [
        (
            "machine_type =",
            "machine_typ =",
            "Missing required argument",
        ),
        (
            "device_name = local",
            "device_nam = local",
            "Unsupported argument",
        ),
        (
            "  shielded_instance_config {",
            "  shielded_instance {",
            "Unsupported block type",
        ),
        (
            "tags         = [local.tag]",
            "tags = { a = 1 }",
            "Inappropriate value for attribute",
        ),
        (
            "direction     = \"INGRESS\"",
            "direction = \"INWARD\"",
            "expected direction to be one of",
        ),
        (
            "  boot_disk {",
            "  dynamic \"boot_disk\" {\n    for_each = []\n    content {",
            "boot_disk",
        ),
    ];
    let workspace = Workspace::new();
    let file = workspace.directory.path().join("main.tf");
    let right = std::fs::read_to_string(&file).unwrap();
    for (from, to, words) in cases {
        let mut wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "main.tf no longer says {from}");
        if from.contains("boot_disk") {
            wrong = wrong.replacen("  attached_disk {", "  }\n  attached_disk {", 1);
        }
        std::fs::write(&file, wrong).unwrap();
        let validate = workspace.terraform(&["validate", "-no-color"]);
        assert_eq!(validate.code, 1, "{to} was accepted");
        assert!(validate.text.contains(words), "{to}: {}", validate.text);
    }
}

// Wrong variables are refused with a sentence that says what is right.
fn wrong_variables_are_refused() {
    let cases = [
        ("cluster", json!("Demo_1"), "lower-case letter"),
        ("project_id", json!("123456789012"), "project's id"),
        (
            "regions",
            json!({"us-central1": "10.80.0.0/24", "us-east1": "10.80.0.0/24"}),
            "share one CIDR",
        ),
        (
            "nodes",
            json!({"n1": {"id": 1, "region": "us-east1", "zone": "us-central1-a"}}),
            "must lie in its region",
        ),
        ("ssh_user", json!("root"), "refuse a root login"),
        (
            "ssh_public_key",
            json!("-----BEGIN OPENSSH PRIVATE KEY-----"),
            ".pub file",
        ),
        ("ssh_via", json!("vpn"), "external or iap"),
        ("kms_key", json!("my-key"), "cryptoKeys/K"),
        ("owner", json!("Me"), "lower-case letters"),
        ("operator_cidrs", json!(["198.51.100.7"]), "is a CIDR"),
        ("lifetime_seconds", json!(5), "60 seconds to 120 days"),
    ];
    let mut workspace = Workspace::new();
    let right = workspace.variables.clone();
    for (name, value, words) in cases {
        workspace.variables = right.clone();
        workspace.variables[name] = value;
        let plan = workspace.terraform(&["plan", "-no-color"]);
        assert_eq!(plan.code, 1, "{name} was accepted");
        assert!(plan.text.contains(words), "{name}: {}", plan.text);
    }
}
