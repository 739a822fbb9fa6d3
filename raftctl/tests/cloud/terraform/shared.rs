//! What several share: the state, the cache of providers, the shell, the folder.

use harness::{Test, tests};
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{FIVE, down_on_a_terminal, interrupt, made_of, read_until};
use crate::cloud::{GCLOUD, TERRAFORM, ended, fault, which};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD],
        a_locked_state_is_told,
        the_shell_of_the_operator_changes_no_plan,
        a_broken_download_poisons_nothing,
        the_cache_of_providers_is_used_in_turn,
        a_plan_is_applied_by_whoever_made_it,
        a_long_preparation_is_told,
        what_lasts_is_told_while_it_does
    )
}

// While somebody else applies, Terraform names who it is and since when.
fn a_locked_state_is_told() {
    let cloud = made_of(FIVE);
    cloud.raftctl(&["plan"]).code(0);
    cloud.order(&json!({"hold": ["google_compute_network"], "poll_ms": {"*": 50}}));
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
    // The lock of a file can't be broken by anybody, and ends with its process.
    assert!(!said.contains("force-unlock"), "{said}");
    assert!(said.contains("its lock ends with it"), "{said}");
    interrupt(other.id());
    other.wait().unwrap();
}

// A shell that was set up for another workspace, with more arguments and variables of another cluster,
// changes nothing of what a verb means.
fn the_shell_of_the_operator_changes_no_plan() {
    let cloud = made_of(FIVE);
    cloud.order(&fault("quota_exceeded", "google_compute_instance"));
    cloud.raftctl(&["up"]).code(10);
    cloud.order(&json!({}));
    for (name, value) in [
        ("TF_WORKSPACE", "staging"),
        ("TF_CLI_ARGS_plan", "-destroy"),
        ("TF_CLI_ARGS", "-no-such-option"),
        ("TF_VAR_cluster", "other"),
        ("TF_DATA_DIR", "elsewhere"),
        ("TF_LOG", "trace"),
    ] {
        let mut command = cloud.command(&["plan", "--output", "json"]);
        command.env(name, value);
        let plan = ended(command).code(0);
        let changes = cloud.changes(&plan);
        assert_eq!(changes.len(), 5, "{name}: {changes:?}");
        assert_eq!(changes[0], "create machine n1", "{name}");
    }
}

// A download that ended half-way is no provider: each later cluster fetches it whole, and goes by the
// checksums of the first one.
fn a_broken_download_poisons_nothing() {
    let cloud = made_of(FIVE);
    let at = |name: &str| cloud.folder.path().join(name);
    // A mirror as `terraform providers mirror` writes it, with a provider that does not run.
    let mirror = at("mirror/registry.terraform.io/hashicorp/google");
    std::fs::create_dir_all(&mirror).unwrap();
    std::fs::write(
        at("terraform-provider-google_v7.45.0_x5"),
        "#!/bin/sh\nexit 1\n",
    )
    .unwrap();
    let zip = "import os, sys, zipfile\narchive = zipfile.ZipFile(sys.argv[1], 'w')\n\
               info = zipfile.ZipInfo(sys.argv[2])\ninfo.external_attr = 0o755 << 16\n\
               archive.writestr(info, open(sys.argv[2]).read())\narchive.close()";
    let package = mirror.join("terraform-provider-google_7.45.0_linux_amd64.zip");
    let arguments = [
        "-c",
        zip,
        package.to_str().unwrap(),
        "terraform-provider-google_v7.45.0_x5",
    ];
    ended(cloud.program("python3", &arguments)).code(0);
    let config = format!(
        "provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n",
        at("mirror").display()
    );
    std::fs::write(at("cli.tfrc"), config).unwrap();
    let cache = "cache/raftctl/terraform/registry.terraform.io/hashicorp/google/7.45.0/linux_amd64";
    let provider = at(cache).join("terraform-provider-google_v7.45.0_x5");
    // As a full disk leaves it.
    std::fs::create_dir_all(at(cache)).unwrap();
    std::fs::write(&provider, "#!").unwrap();
    let plan = |name: &str| {
        let file = at(&format!("{name}.yaml"));
        std::fs::write(&file, FIVE.replace("name: demo", &format!("name: {name}"))).unwrap();
        let mut command = cloud.command(&["--config", file.to_str().unwrap(), "plan"]);
        command.env_remove("TF_REATTACH_PROVIDERS");
        // It is fetched, and ends at once.
        let said = ended(command)
            .code(10)
            .says("cannot plan the infrastructure");
        let terraform = at(&format!(".raftctl/{name}/terraform/.terraform.lock.hcl"));
        (said, std::fs::read_to_string(terraform).unwrap())
    };
    let (_, first) = plan("first");
    assert_eq!(
        std::fs::read_to_string(&provider).unwrap(),
        "#!/bin/sh\nexit 1\n"
    );
    // Cut after it was whole; then the next cluster comes.
    std::fs::write(&provider, "#!").unwrap();
    let (_, second) = plan("second");
    assert_eq!(
        std::fs::read_to_string(&provider).unwrap(),
        "#!/bin/sh\nexit 1\n"
    );
    assert_eq!(first, second, "what was recorded is the whole one");
}

// Two clusters that fetch the provider at the same time share the cache in turn: Terraform itself does
// not lock it.
fn the_cache_of_providers_is_used_in_turn() {
    let cloud = made_of(FIVE);
    let busy = format!(
        "#!/bin/sh
if [ \"$1\" = init ]; then
  [ -z \"$TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE\" ] || exit 1
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

// While `down` asks, nobody else plans in its folder: it would apply the other one's plan, and forget
// machines that are still there.
fn a_plan_is_applied_by_whoever_made_it() {
    let cloud = made_of(FIVE);
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

// Where Terraform is long at its preparation, and that is where the provider is fetched, it is said what is waited
// for while it lasts, and not after it.
fn a_long_preparation_is_told() {
    let cloud = made_of(FIVE);
    let slow = format!(
        "#!/bin/sh\nif [ \"$1\" = init ]; then
  for _ in $(seq 600); do [ -e ../../../told ] && break; sleep 0.1; done
fi
exec {} \"$@\"\n",
        which("terraform").display()
    );
    cloud.install("terraform", &slow);
    let mut plan = cloud.command(&["plan"]).spawn().unwrap();
    let words = "waiting until Terraform is prepared, for 1 s: Google's provider";
    read_until(plan.stderr.as_mut().unwrap(), words);
    std::fs::write(cloud.folder.path().join("told"), "").unwrap();
    let output = plan.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

// Where nobody sees moving lines, too: what is being made says so while it lasts, and so does what Google's
// provider waits for without a word.
fn what_lasts_is_told_while_it_does() {
    let cloud = made_of(&FIVE.replace("nodes: 5", "nodes: 1"));
    cloud.order(&json!({"op_ms": {"google_compute_network": 5_000}, "poll_ms": {"*": 50}}));
    cloud
        .raftctl(&["up", "--timeout", "1s"])
        .code(10)
        .says("create network: under way\n");
    cloud.order(&json!({"faults": [
        {"kind": "unavailable", "on": "read", "times": 1, "resource": "google_compute_network", "after_ms": 5_000}
    ]}));
    cloud
        .raftctl(&["plan"])
        .says("Terraform has been waiting for Google for 2 s: look at network");
    cloud.order(&json!({}));
    cloud.raftctl(&["down", "--yes"]).code(0);
}
