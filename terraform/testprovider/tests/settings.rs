//! The module's settings for companies, and what becomes of a cluster that is there already: rules that
//! are narrowed, disks that are deleted by hand, an older module's cluster.

use crate::support::{TERRAFORM, Workspace, of};
use harness::{Test, tests};
use serde_json::{Value as Json, json};
use testprovider::value::Value;

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM],
        a_data_disk_deleted_by_hand_takes_its_machine_along,
        a_narrowed_rule_is_closed,
        an_older_cluster_is_taken_over_in_place,
        a_company_s_rules_can_be_kept,
        an_address_is_made_in_one_operation,
        machines_may_be_left_off,
        a_new_external_address_shows_at_the_next_apply
    )
}

// A data disk that somebody deleted by hand comes back blank: its machine is made anew with it, since one
// that runs on would neither format nor mount it.
fn a_data_disk_deleted_by_hand_takes_its_machine_along() {
    let workspace = Workspace::new();
    workspace.apply();
    let google = &workspace.provider.google;
    let disk = "projects/example-project/zones/us-central1-b/disks/raft-demo-n2-data";
    google.detach(disk).unwrap();
    google.delete(disk).unwrap();
    let actions = workspace.plan();
    assert_eq!(
        of(&actions, "google_"),
        [
            (r#"google_compute_disk.data["n2"]"#, "create"),
            (r#"google_compute_instance.node["n2"]"#, "delete,create"),
        ]
    );
    workspace.apply();
    assert_eq!(workspace.plan(), []);
}

/// What a rule of Google's is open to.
fn ranges(workspace: &Workspace, rule: &str) -> Json {
    let id = format!("projects/example-project/global/firewalls/raft-demo-{rule}");
    let rule = workspace.provider.google.find(&id).unwrap();
    rule.state["source_ranges"].clone()
}

// A rule that was open to everybody and gets one range is open to that range alone, after one apply:
// Google's provider takes the removal of 0.0.0.0/0 for no difference.
fn a_narrowed_rule_is_closed() {
    let mut workspace = Workspace::new();
    workspace.variables["nodes"] =
        json!({"n1": {"id": 1, "region": "us-central1", "zone": "us-central1-a"}});
    for name in ["operator_cidrs", "client_cidrs"] {
        workspace.variables[name] = json!(["0.0.0.0/0"]);
    }
    workspace.apply();
    assert_eq!(ranges(&workspace, "ssh"), json!(["0.0.0.0/0"]));
    for name in ["operator_cidrs", "client_cidrs"] {
        workspace.variables[name] = json!(["198.51.100.7/32"]);
    }
    workspace.apply();
    for rule in ["ssh", "clients"] {
        assert_eq!(
            ranges(&workspace, rule),
            json!(["198.51.100.7/32"]),
            "{rule}"
        );
    }
    workspace.variables["operator_cidrs"] = json!(["0.0.0.0/0"]);
    workspace.apply();
    workspace.variables["ssh_via"] = json!("iap");
    workspace.apply();
    assert_eq!(ranges(&workspace, "ssh"), json!(["35.235.240.0/20"]));
    assert_eq!(workspace.plan(), []);
}

// A cluster that an older module made is taken over as it is: nothing is made anew, and what is new is
// known to Terraform alone or set in place.
fn an_older_cluster_is_taken_over_in_place() {
    let mut workspace = Workspace::older();
    workspace.variables["client_cidrs"] = json!(["198.51.100.0/24"]);
    workspace.variables["labels"] = json!({"team": "storage"});
    workspace.apply();
    workspace.upgrade();
    workspace.variables["owner"] = json!("3f9a1c20");
    workspace.variables["secure_boot"] = json!(false);
    for (address, action) in workspace.plan() {
        let is_ours = address.starts_with("terraform_data");
        assert_eq!(
            action,
            if is_ours { "create" } else { "update" },
            "{address}"
        );
    }
    workspace.apply();
    assert_eq!(workspace.plan(), []);
    let disk = "projects/example-project/zones/us-east1-b/disks/raft-demo-n4-data";
    let disk = workspace.provider.google.find(disk).unwrap();
    assert_eq!(disk.state["effective_labels"]["raft-owner"], "3f9a1c20");
}

/// A network and a subnetwork of somebody else's, in the project `host-project`.
fn shared_network(workspace: &Workspace) -> (String, String) {
    let made = |resource_type: &str, members: &[(&str, &str)]| {
        let schema = testprovider::resources::schema(resource_type).unwrap();
        let mut planned = schema.unset();
        for (name, value) in members {
            planned.set(name, (*value).into());
        }
        planned.set("id", Value::Unknown);
        planned.set("self_link", Value::Unknown);
        let google = &workspace.provider.google;
        let made = google.create(resource_type, &schema, "host-project", &planned);
        made.unwrap().get("id").text().unwrap().to_owned()
    };
    let network = made("google_compute_network", &[("name", "shared")]);
    let subnet = made(
        "google_compute_subnetwork",
        &[
            ("name", "shared-east"),
            ("region", "us-east1"),
            ("network", &network),
            ("ip_cidr_range", "10.9.0.0/24"),
        ],
    );
    (network, subnet)
}

// In a company: a network of the company's, keys of its own, OS Login, a service account, labels on
// all, no Secure Boot for its image; rules in the network's own project, or none.
fn a_company_s_rules_can_be_kept() {
    let mut workspace = Workspace::new();
    let (network, subnet) = shared_network(&workspace);
    let key = "projects/keys/locations/us-east1/keyRings/ring/cryptoKeys/key";
    let node = json!({"n1": {"id": 1, "region": "us-east1", "zone": "us-east1-b"}});
    let mut settings = json!({
        "nodes": node, "regions": {}, "network": network, "subnetworks": {"us-east1": subnet},
        "network_project": "host-project", "kms_key": key, "os_login": true, "secure_boot": false,
        "service_account": {"email": "raft@example-project.iam.gserviceaccount.com"},
        "labels": {"team": "storage"}, "boot_disk_gb": 20, "owner": "3f9a1c20",
    });
    let variables = workspace.variables.as_object_mut().unwrap();
    variables.append(settings.as_object_mut().unwrap());
    workspace.apply();

    let google = &workspace.provider.google;
    let find = |id: &str| {
        let found = google.find(id);
        found.unwrap_or_else(|| panic!("{id} is not there")).state
    };
    assert_eq!(google.of_type("google_compute_network").len(), 1);
    assert_eq!(google.of_type("google_compute_subnetwork").len(), 1);
    let rule = find("projects/host-project/global/firewalls/raft-demo-peers");
    assert_eq!(rule["network"], network);
    let address = find("projects/example-project/regions/us-east1/addresses/raft-demo-n1");
    assert!(address["address"].as_str().unwrap().starts_with("10.9.0."));
    assert_eq!(address["effective_labels"]["team"], "storage");
    let disk = find("projects/example-project/zones/us-east1-b/disks/raft-demo-n1-data");
    assert_eq!(disk["disk_encryption_key"][0]["kms_key_self_link"], key);
    let machine = find("projects/example-project/zones/us-east1-b/instances/raft-demo-n1");
    let boot = &machine["boot_disk"][0];
    assert_eq!(boot["kms_key_self_link"], key);
    assert_eq!(boot["initialize_params"][0]["labels"]["team"], "storage");
    assert_eq!(boot["initialize_params"][0]["size"], 20);
    assert_eq!(machine["network_interface"][0]["subnetwork"], subnet);
    assert_eq!(
        machine["service_account"][0]["email"],
        "raft@example-project.iam.gserviceaccount.com"
    );
    assert_eq!(
        machine["shielded_instance_config"][0]["enable_secure_boot"],
        false
    );
    let metadata = &machine["metadata"];
    assert_eq!(metadata["enable-oslogin"], "TRUE");
    assert!(metadata["ssh-keys"].is_null(), "{metadata}");
    assert_eq!(metadata["enable-guest-attributes"], "TRUE");
    for thing in [&rule, &address, &disk, &machine] {
        assert_eq!(thing["description"], "Raft cluster demo, owner 3f9a1c20");
    }
    assert_eq!(workspace.plan(), []);

    workspace.variables["firewall_rules"] = json!(false);
    let rules = workspace.plan();
    let rules = of(&rules, "google_");
    assert_eq!(rules.len(), 2, "{rules:?}");
    assert!(
        rules.iter().all(|(_, action)| *action == "delete"),
        "{rules:?}"
    );

    workspace.variables["subnetworks"] = json!({"us-central1": subnet});
    let plan = workspace.terraform(&["plan", "-input=false", "-no-color"]);
    assert!(
        plan.text.contains("subnetworks names none in us-east1"),
        "{}",
        plan.text
    );
}

// A fresh cluster is four operations deep, one for each of network, subnet, address and machine: no step
// is taken twice. Google's provider asks each 10 s whether an operation is done.
fn an_address_is_made_in_one_operation() {
    let workspace = Workspace::new();
    workspace.apply();
    for (id, address) in workspace.provider.google.of_type("google_compute_address") {
        assert_eq!(address.state["effective_labels"], json!({}), "{id}");
    }
}

// Whoever starts machines otherwise saves the wait for each; when they are to be started after all, one
// that is off is, and the others are left alone.
fn machines_may_be_left_off() {
    let mut workspace = Workspace::new();
    workspace.variables["start_machines"] = json!(false);
    workspace.apply();
    let google = &workspace.provider.google;
    let id = "projects/example-project/zones/us-central1-b/instances/raft-demo-n2";
    google.switch(id, "TERMINATED").unwrap();
    assert_eq!(workspace.plan(), []);
    workspace.variables["start_machines"] = json!(true);
    let actions = workspace.plan();
    assert!(
        actions.iter().all(|(_, action)| action == "update"),
        "{actions:?}"
    );
    workspace.apply();
    let google = &workspace.provider.google;
    assert_eq!(google.find(id).unwrap().state["current_status"], "RUNNING");
    assert_eq!(workspace.plan(), []);
}

// The address of a machine that an apply has started is in the output after the next apply, and so is
// one that it has given for the first time: Google's provider plans with what is there before.
fn a_new_external_address_shows_at_the_next_apply() {
    let mut workspace = Workspace::new();
    workspace.variables["nodes"] =
        json!({"n1": {"id": 1, "region": "us-central1", "zone": "us-central1-a"}});
    workspace.variables["ssh_via"] = json!("iap");
    workspace.apply();
    let shown = |workspace: &Workspace| workspace.output()["nodes"]["n1"]["external_ip"].clone();
    workspace.variables["ssh_via"] = json!("external");
    workspace.apply();
    assert_eq!(shown(&workspace), Json::Null);
    workspace.apply();
    assert!(shown(&workspace).is_string());

    let id = "projects/example-project/zones/us-central1-a/instances/raft-demo-n1";
    workspace.provider.google.switch(id, "TERMINATED").unwrap();
    workspace.apply();
    assert_eq!(shown(&workspace), Json::Null);
    workspace.apply();
    assert!(shown(&workspace).is_string());
}
