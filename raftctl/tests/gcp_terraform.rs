//! raftctl drives real Terraform: plans, refusals, failures in Terraform's own words, Ctrl-C.
//! Instances are entries in a file here; `gcp.rs` puts hosts behind them.

#[path = "support/cloud.rs"]
mod cloud;

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use cloud::{Cloud, ended, fault, gcloud_is_missing, terraform_is_missing, which};
use rustix::process::Signal;
use serde_json::json;

const FIVE: &str = "\
name: demo
provider: gcp
timing: wan
nodes: 5
binary: /bin/true
gcp:
  project: my-project
  zones: [us-central1-a, us-central1-b, us-east1-b]
  ssh_via: external
  operator_cidrs: [127.0.0.1/32]
  lifetime: 12h
";

// Five machines in two regions, files and processes in one list; and nothing is made by a plan.
#[test]
fn a_plan_shows_everything_and_makes_nothing() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    let changes = cloud.changes(&plan);
    assert_eq!(changes.len(), 20, "{changes:?}");
    assert_eq!(changes[0], "create network");
    for what in [
        "create subnet us-east1",
        "create data disk n5",
        "create machine n3",
        "create firewall rule ssh",
    ] {
        assert!(
            changes.iter().any(|change| change == what),
            "{what} is not in {changes:?}"
        );
    }
    let steps = plan.json()["steps"].as_array().unwrap().clone();
    let actions: Vec<_> = steps
        .iter()
        .map(|step| step["action"].as_str().unwrap())
        .collect();
    assert!(actions.ends_with(&["start", "wait"]), "{actions:?}");
    assert_eq!(cloud.count(), 0);
    assert!(
        !cloud.folder.path().join(".raftctl/demo/gcp.json").exists(),
        "a plan decides nothing"
    );
    // Where Terraform keeps Google's provider for all clusters.
    assert!(cloud.folder.path().join("cache/raftctl/terraform").is_dir());

    let text = cloud.raftctl(&["up", "--dry-run"]).code(0);
    assert!(
        text.stdout.contains("create machine n1") && text.stdout.contains("start"),
        "{}",
        text.stdout
    );
    assert_eq!(cloud.count(), 0);
}

// What is wrong at Google is told as a cause with the next command, from Terraform's own output.
#[test]
fn failures_become_causes() {
    if terraform_is_missing() {
        return;
    }
    let cases = [
        (
            "no_credentials",
            "no valid credentials",
            "gcloud auth application-default login",
        ),
        (
            "service_disabled",
            "compute.googleapis.com is not enabled",
            "gcloud services enable",
        ),
        (
            "quota_exceeded",
            "the quota CPUS (limit 8.0) is used up",
            "smaller machine_type",
        ),
        (
            "zone_exhausted",
            "no machine of this type left",
            "another zone",
        ),
        (
            "forbidden",
            "lacks the permission compute.networks.create",
            "compute.networkAdmin",
        ),
        ("already_exists", "exists already", "another name"),
    ];
    let cloud = Cloud::new(FIVE);
    for (kind, cause, next) in cases {
        cloud.order(&fault(kind, "google_compute_network"));
        cloud.raftctl(&["up"]).code(10).says(cause).says(next);
    }
}

// Where only OpenTofu is installed it is used. (Here it is Terraform by another name.)
#[test]
fn tofu_takes_terraform_s_place() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    let programs = cloud.folder.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for (name, program) in [("tofu", "terraform"), ("ssh-keygen", "ssh-keygen")] {
        std::os::unix::fs::symlink(which(program), programs.join(name)).unwrap();
    }
    let mut command = cloud.command(&["plan", "--output", "json"]);
    command.env("PATH", &programs);
    assert_eq!(cloud.changes(&ended(command).code(0)).len(), 20);
}

// Without a way to the registry, that is what is said.
#[test]
fn a_missing_registry_is_told() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    let mut command = cloud.command(&["plan"]);
    // Nobody listens there, and Terraform asks once.
    command
        .env_remove("TF_REATTACH_PROVIDERS")
        .env("HTTPS_PROXY", "http://127.0.0.1:9");
    command
        .env("TF_REGISTRY_DISCOVERY_RETRY", "0")
        .env("TF_REGISTRY_CLIENT_TIMEOUT", "2");
    ended(command)
        .code(10)
        .says("can't fetch Google's provider")
        .says("HTTPS_PROXY");
}

// While somebody else applies, Terraform names who it is and since when.
#[test]
fn a_locked_state_is_told() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    cloud.raftctl(&["plan"]).code(0);
    cloud.order(&json!({"slow_ms": {"google_compute_network": 60_000}}));
    let folder = "-chdir=.raftctl/demo/terraform";
    let mut other = cloud.program("terraform", &[folder, "apply", "-auto-approve"]);
    // Nobody reads what it says, and a pipe that is full would stop it.
    let mut other = other
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lock = cloud
        .folder
        .path()
        .join(".raftctl/demo/terraform/.terraform.tfstate.lock.info");
    let give_up = Instant::now() + Duration::from_secs(30);
    while !lock.exists() {
        assert!(
            Instant::now() < give_up,
            "the other Terraform takes no lock"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = cloud
        .raftctl(&["plan", "--timeout", "100ms"])
        .code(10)
        .stderr;
    // The lock as Terraform keeps it, and the words that its message makes of it.
    let kept: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&lock).unwrap()).unwrap();
    let text = |key: &str| kept[key].as_str().unwrap().to_owned();
    let who = format!("{} has been changing this cluster since", text("Who"));
    // `--timeout` says how long to wait for it.
    assert!(said.contains(&who) && said.contains("UTC"), "{said}");
    let terraform = cloud.folder.path().join(".raftctl/demo/terraform");
    let unlock = format!(
        "`terraform -chdir={} force-unlock {}`",
        terraform.display(),
        text("ID")
    );
    assert!(said.contains(&unlock), "{unlock} is not in {said}");
    interrupt(other.id());
    other.wait().unwrap();
}

// A quota stops one machine of five: the cause is told, what was made is remembered, and the next
// plan makes the one that is missing.
#[test]
fn a_quota_failure_can_be_gone_on_from() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    cloud.order(&json!({"faults": [
        {"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n3"}
    ]}));
    // Four of five are enough to go on with; but nobody is at their addresses.
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("the quota CPUS (limit 8.0) is used up in us-east1")
        .says("not ready after 1 s")
        // A line for each resource as it is done, in words.
        .says("create subnet us-east1 (")
        .says("create machine n5 (");
    assert_eq!(cloud.count(), 19);
    cloud.order(&json!({}));
    let state = ended(cloud.program(
        "terraform",
        &["-chdir=.raftctl/demo/terraform", "plan", "-no-color"],
    ));
    assert!(
        state
            .stdout
            .contains("Plan: 1 to add, 0 to change, 0 to destroy"),
        "{}",
        state.stdout
    );
    assert!(
        state
            .stdout
            .contains("google_compute_instance.node[\"n3\"] will be created")
    );
}

// A first try with machines that are too large: the advice to take smaller ones can be followed, since
// there is no cluster yet that has to serve meanwhile.
#[test]
fn a_first_try_can_be_corrected() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    let fault = |name: &str| json!({"kind": "quota_exceeded", "resource": "google_compute_instance", "name": name});
    let faults = ["raft-demo-n3", "raft-demo-n4", "raft-demo-n5"].map(fault);
    cloud.order(&json!({"faults": faults}));
    cloud
        .raftctl(&["up"])
        .code(10)
        .says("a smaller machine_type");
    cloud.order(&json!({}));
    cloud.write(&FIVE.replace("gcp:\n", "gcp:\n  machine_type: e2-micro\n"));
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    let changes = cloud.changes(&plan);
    assert_eq!(
        changes,
        [
            "change machine n1",
            "change machine n2",
            "create machine n3",
            "create machine n4",
            "create machine n5"
        ]
    );
}

// Ctrl-C, even twice, ends the work in order: what Google holds is what Terraform remembers.
#[test]
fn an_interrupted_up_leaves_a_usable_state() {
    interrupted_with([Signal::INT, Signal::INT]);
}

// So does a service manager that ends raftctl, and a terminal that is closed.
#[test]
fn an_ended_up_leaves_a_usable_state() {
    interrupted_with([Signal::HUP, Signal::TERM]);
}

fn interrupted_with(signals: [Signal; 2]) {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    // Disks are in the making at both: Google goes on, and Terraform would know nothing of them if it
    // heard of the second Ctrl-C, too.
    cloud.order(&json!({"stubborn_ms": {"google_compute_disk": 3_000}}));
    let up = cloud.command(&["up"]).spawn().unwrap();
    cloud.wait_for_resources(1);
    signal(up.id(), signals[0]);
    std::thread::sleep(Duration::from_millis(200)); // as fast as a person presses it again
    signal(up.id(), signals[1]);
    let output = up.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(10), "{stderr}");
    assert!(
        stderr.contains("interrupted") && stderr.contains("raftctl up"),
        "{stderr}"
    );

    let made = cloud.count();
    assert!(made < 20, "it was interrupted too late to show anything");
    let list = ended(cloud.program(
        "terraform",
        &["-chdir=.raftctl/demo/terraform", "state", "list"],
    ));
    assert_eq!(list.stdout.lines().count(), made, "{}", list.stdout);
    cloud.order(&json!({}));
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(cloud.changes(&plan).len(), 20 - made);
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// Where raftctl itself is killed, Terraform goes on, and what Google holds is what it remembers.
#[test]
fn terraform_outlives_raftctl() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    cloud.order(&json!({"stubborn_ms": {"google_compute_disk": 3_000}}));
    let mut up = cloud.command(&["up"]).spawn().unwrap();
    cloud.wait_for_resources(1);
    up.kill().unwrap();
    up.wait().unwrap();
    let terraform = cloud.folder.path().join(".raftctl/demo/terraform");
    let give_up = Instant::now() + Duration::from_secs(120);
    while cloud.count() < 20 || terraform.join(".terraform.tfstate.lock.info").exists() {
        assert!(
            Instant::now() < give_up,
            "Terraform ended with raftctl, and Google holds {} resources",
            cloud.count()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let list = ["-chdir=.raftctl/demo/terraform", "state", "list"];
    let list = ended(cloud.program("terraform", &list));
    assert_eq!(list.stdout.lines().count(), 20, "{}", list.stdout);
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// Once the machines are there raftctl waits for them, and Ctrl-C ends that at once.
#[test]
fn waiting_for_machines_can_be_interrupted() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
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

// What destroys asks for the cluster's name; where nobody is there to ask, --yes is needed.
#[test]
fn down_asks_and_leaves_nothing() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    cloud.order(&json!({"faults": [
        {"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n3"}
    ]}));
    // The other four would do for a cluster, but these machines are none to log in to.
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    cloud.raftctl(&["down"]).code(2).says("--yes");
    assert_eq!(cloud.count(), 19);
    cloud.raftctl(&["down", "--keep-data", "--yes"]).code(0);
    assert_eq!(cloud.count(), 5, "the data disks");
    let down = ["down", "--yes", "--output", "json"];
    let down = cloud.raftctl(&down).code(0).json();
    assert_eq!(down, json!({"cluster": "demo", "data_disks": "deleted"}));
    assert_eq!(cloud.count(), 0);
    assert!(!cloud.folder.path().join(".raftctl/demo").exists());
}

// While `down` asks, nobody else plans in its folder: it would apply the other one's plan, and forget
// machines that are still there.
#[test]
fn a_plan_is_applied_by_whoever_made_it() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    // Left by one that was killed.
    let left = cloud
        .folder
        .path()
        .join(".raftctl/demo/terraform/raftctl-999999999.tfplan");
    std::fs::write(&left, "").unwrap();
    let mut terminal = down_on_a_terminal(&cloud);
    read_until(terminal.stdout.as_mut().unwrap(), "name to go on: ");
    assert!(!left.exists());
    cloud.order(&json!({}));
    cloud
        .raftctl(&["plan", "--lock-wait", "100ms"])
        .code(1)
        .says("is being changed by")
        .says("`raftctl down`");
    let mut stdin = terminal.stdin.take().unwrap();
    writeln!(stdin, "demo").unwrap();
    let output = terminal.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cloud.count(), 0);
}

// What is kept about a cluster goes only when Terraform's state is empty, however Terraform ended.
#[test]
fn a_state_with_resources_is_not_forgotten() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    let lazy = format!(
        "#!/bin/sh\nif [ \"$1\" = apply ]; then exit 0; fi\nexec {} \"$@\"\n",
        which("terraform").display()
    );
    cloud.install("terraform", &lazy);
    cloud
        .raftctl(&["down", "--yes"])
        .code(10)
        .says("Terraform's state still has resources: ")
        .says("google_compute_disk.data[\"n5\"]");
    assert!(
        cloud
            .folder
            .path()
            .join(".raftctl/demo/id_ed25519")
            .exists()
    );
    cloud.install("terraform", &lazy.replace("exit 0", ":"));
    cloud.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// Without its state Terraform knows of nothing, and yet machines and disks cost money: they are
// listed, with the commands that delete them.
#[test]
fn what_is_left_at_google_is_told() {
    if terraform_is_missing() || gcloud_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    std::fs::remove_dir_all(cloud.folder.path().join(".raftctl/demo/terraform")).unwrap();
    let down = cloud
        .raftctl(&["down", "--yes"])
        .code(10)
        .says("machines or disks of cluster demo are still at Google, and cost money");
    let commands = down.stderr.lines().map(str::trim);
    let commands: Vec<_> = commands
        .filter(|line| line.starts_with("gcloud compute "))
        .collect();
    assert_eq!(commands.len(), 10, "{down:?}");
    assert_eq!(
        commands[0],
        "gcloud compute instances delete raft-demo-n1 --zone=us-central1-a --project=my-project"
    );
}

// Two clusters that fetch the provider at the same time share the cache in turn: Terraform itself does
// not lock it.
#[test]
fn the_cache_of_providers_is_used_in_turn() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    let busy = format!(
        "#!/bin/sh
if [ \"$1\" = init ]; then
  [ \"$TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE\" = true ] || exit 1
  mkdir \"$TF_PLUGIN_CACHE_DIR/busy\" || {{ echo 'Failed to install provider: text file busy' >&2; exit 1; }}
  sleep 2
  rmdir \"$TF_PLUGIN_CACHE_DIR/busy\"
fi
exec {} \"$@\"
",
        which("terraform").display()
    );
    cloud.install("terraform", &busy);
    let other = cloud.folder.path().join("other.yaml");
    std::fs::write(&other, FIVE.replace("name: demo", "name: other")).unwrap();
    let other = cloud.command(&["--config", other.to_str().unwrap(), "plan"]);
    let other = std::thread::spawn(|| ended(other));
    cloud.raftctl(&["plan"]).code(0);
    other.join().unwrap().code(0);
}

// On a terminal the cluster's name has to be written; anything else changes nothing.
#[test]
fn down_wants_the_name() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    let made = cloud.count();
    let answer = |answer: &str| {
        let mut terminal = down_on_a_terminal(&cloud);
        let mut said = read_until(terminal.stdout.as_mut().unwrap(), "name to go on: ");
        let mut stdin = terminal.stdin.take().unwrap();
        write!(stdin, "{answer}").unwrap();
        let output = terminal.wait_with_output().unwrap();
        drop(stdin);
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        (output.status.code(), said)
    };
    const CTRL_C: &str = "\u{3}";
    let (code, said) = answer(CTRL_C);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(cloud.count(), made);
    let (code, said) = answer("demi\n");
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("delete data disk n5") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(cloud.count(), made);
    let (code, said) = answer("demo\n");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(cloud.count(), 0);
}

// An address that Google changed by itself is no change of a resource, and yet the next `up` goes by
// the new one.
#[test]
fn a_new_address_is_heeded() {
    if terraform_is_missing() {
        return;
    }
    let cloud = Cloud::new(FIVE);
    // Nobody is there: these addresses are set aside for examples.
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("not ready after 1 s");
    let id = "projects/my-project/zones/us-central1-a/instances/raft-demo-n1";
    let moved = json!("192.0.2.77");
    let google = &cloud.provider.google;
    let address = moved.clone();
    google
        .touch(id, |state| {
            state["network_interface"][0]["access_config"][0]["nat_ip"] = address
        })
        .unwrap();
    cloud.raftctl(&["up", "--timeout", "1s"]).code(10);
    let kept =
        std::fs::read_to_string(cloud.folder.path().join(".raftctl/demo/machines.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["nodes"]["n1"]["external_ip"], moved);
}

// Another zone would replace the node's data disk: refused before anything is done.
#[test]
fn another_zone_is_refused() {
    if terraform_is_missing() {
        return;
    }
    let list = |zone: &str| {
        FIVE.replace(
            "nodes: 5",
            &format!("nodes: [{{id: 1, zone: {zone}}}, {{id: 2}}, {{id: 3}}]"),
        )
    };
    let cloud = Cloud::new(&list("us-central1-a"));
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    let made = cloud.count();
    cloud.write(&list("us-central1-f"));
    cloud
        .raftctl(&["up"])
        .code(2)
        .says("REPLACE data disk n1")
        .says("--allow-data-loss");
    assert_eq!(cloud.count(), made);
    let plan = cloud
        .raftctl(&["plan", "--allow-data-loss", "--output", "json"])
        .code(0);
    assert!(
        cloud
            .changes(&plan)
            .contains(&"REPLACE data disk n1".to_owned())
    );
}

// The private key is for the operator alone: neither Terraform nor its state ever sees it.
#[test]
fn the_private_key_stays_here() {
    if terraform_is_missing() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let cloud = Cloud::new(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    let base = cloud.folder.path().join(".raftctl/demo");
    let key = base.join("id_ed25519");
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let secret = std::fs::read_to_string(&key).unwrap();
    let line = secret.lines().nth(1).unwrap();
    for entry in std::fs::read_dir(base.join("terraform")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&text);
            assert!(
                !text.contains(line),
                "the private key is in {}",
                path.display()
            );
        }
    }
}

/// `raftctl down` with a terminal of its own, whose exit code is passed on.
fn down_on_a_terminal(cloud: &Cloud) -> Child {
    // In the shell's place: some shells wait for it, are interrupted as well, and end with 130.
    let down = format!("exec {} down", env!("CARGO_BIN_EXE_raftctl"));
    let terminal = ["--foreground", "600", "script", "-qec", &down, "/dev/null"];
    let mut terminal = cloud.program("timeout", &terminal);
    terminal.stdin(Stdio::piped()).spawn().unwrap()
}

/// What is written until some words come.
fn read_until(from: &mut impl Read, words: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(words.as_bytes()) {
        let said = String::from_utf8_lossy(&text);
        assert_eq!(from.read(&mut byte).unwrap(), 1, "it ends with {said}");
        text.extend(byte);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn interrupt(pid: u32) {
    signal(pid, Signal::INT);
}

fn signal(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
