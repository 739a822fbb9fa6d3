//! A folder with the module in it, the test provider, and Terraform run there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{Need, program_is_missing};
use serde_json::{Value as Json, json};
use testprovider::server::{Options, Running};

/// The files that make up the module.
const MODULE: [&str; 5] = [
    "versions.tf",
    "variables.tf",
    "main.tf",
    "outputs.tf",
    "startup.sh",
];

/// The module's folder in this checkout.
pub fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Terraform itself.
pub static TERRAFORM: Need = Need::new(|| {
    program_is_missing(
        "terraform",
        "see https://developer.hashicorp.com/terraform/install",
    )
});

/// A run of Terraform: how it ended and what it said.
pub struct Run {
    pub code: i32,
    pub text: String,
}

/// A project of its own for one test.
pub struct Workspace {
    pub directory: tempfile::TempDir,
    pub provider: Running,
    pub variables: Json,
}

impl Workspace {
    /// A copy of the module beside a provider that holds nothing, initialized.
    pub fn new() -> Workspace {
        Workspace::with(&module())
    }

    /// The same with the module as it was before it marked owners, closed rules and watched disks.
    pub fn older() -> Workspace {
        Workspace::with(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/older"))
    }

    /// Puts the module as it is now in the place of an older one.
    pub fn upgrade(&self) {
        for file in MODULE {
            std::fs::copy(module().join(file), self.path(file)).unwrap();
        }
    }

    fn with(module_then: &Path) -> Workspace {
        let directory = tempfile::tempdir().unwrap();
        for file in MODULE {
            let then = module_then.join(file);
            let file_then = if then.exists() {
                then
            } else {
                module().join(file)
            };
            std::fs::copy(file_then, directory.path().join(file)).unwrap();
        }
        std::fs::write(directory.path().join("cli.tfrc"), "").unwrap();
        let provider = Running::start(Options {
            state: Some(directory.path().join("google.json")),
            faults: Some(directory.path().join("faults.json")),
            ..Options::default()
        })
        .unwrap();
        let workspace = Workspace {
            directory,
            provider,
            variables: five_nodes(),
        };
        let init = workspace.terraform(&["init", "-input=false"]);
        assert_eq!(init.code, 0, "{}", init.text);
        workspace
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs Terraform with the variables as they are now.
    pub fn terraform(&self, arguments: &[&str]) -> Run {
        std::fs::write(
            self.path("test.auto.tfvars.json"),
            self.variables.to_string(),
        )
        .unwrap();
        let output = self.command().args(arguments).output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            text: said(&output),
        }
    }

    /// Terraform at work, to be interrupted or killed. What it says goes nowhere.
    pub fn spawn(&self, arguments: &[&str]) -> std::process::Child {
        let mut command = self.command();
        command.args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Workspace) -> bool) {
        let give_up = Instant::now() + Duration::from_secs(60);
        while !is_so(self) {
            assert!(Instant::now() < give_up, "not so after 60 s: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("terraform");
        command
            .current_dir(self.directory.path())
            .env("TF_REATTACH_PROVIDERS", &self.provider.reattach)
            .env("TF_CLI_CONFIG_FILE", self.path("cli.tfrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env_remove("TF_PLUGIN_CACHE_DIR");
        command
    }

    /// Plans, and answers the actions by address: `google_compute_disk.data["n1"]` -> `create`.
    /// A replacement reads `delete,create`.
    pub fn plan(&self) -> Vec<(String, String)> {
        let plan = self.terraform(&["plan", "-input=false", "-no-color", "-out=test.tfplan"]);
        assert_eq!(plan.code, 0, "{}", plan.text);
        let shown = self.terraform(&["show", "-json", "test.tfplan"]);
        let plan: Json = serde_json::from_str(&shown.text).unwrap();
        let changes = plan["resource_changes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut actions: Vec<_> = changes
            .iter()
            .map(|change| {
                let actions = change["change"]["actions"].as_array().unwrap();
                let actions: Vec<_> = actions.iter().filter_map(Json::as_str).collect();
                (
                    change["address"].as_str().unwrap().to_owned(),
                    actions.join(","),
                )
            })
            .filter(|(_, actions)| actions != "no-op")
            .collect();
        actions.sort();
        actions
    }

    /// Applies, which must succeed.
    pub fn apply(&self) {
        let run = self.try_apply();
        assert_eq!(run.code, 0, "{}", run.text);
    }

    /// Applies, which may fail.
    pub fn try_apply(&self) -> Run {
        self.terraform(&["apply", "-input=false", "-auto-approve", "-no-color"])
    }

    /// The module's one output.
    pub fn output(&self) -> Json {
        let output = self.terraform(&["output", "-json", "raftctl"]);
        assert_eq!(output.code, 0, "{}", output.text);
        serde_json::from_str(&output.text).unwrap()
    }

    /// Orders failures of Google.
    pub fn order(&self, faults: &Json) {
        // At once: half of it would order something else.
        let new = self.path("faults.json.new");
        std::fs::write(&new, faults.to_string()).unwrap();
        std::fs::rename(new, self.path("faults.json")).unwrap();
    }

    /// The addresses in the state.
    pub fn state(&self) -> Vec<String> {
        self.terraform(&["state", "list"])
            .text
            .lines()
            .map(String::from)
            .collect()
    }
}

fn said(output: &Output) -> String {
    // Standard output first: where it is JSON, standard error is empty.
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Interrupts a program, as Ctrl-C does.
pub fn interrupt(child: &std::process::Child) {
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}

/// Five nodes in two regions.
pub fn five_nodes() -> Json {
    json!({
        "project_id": "example-project",
        "cluster": "demo",
        "regions": {"us-central1": "10.80.0.0/24", "us-east1": "10.80.1.0/24"},
        "nodes": {
            "n1": {"id": 1, "region": "us-central1", "zone": "us-central1-a"},
            "n2": {"id": 2, "region": "us-central1", "zone": "us-central1-b"},
            "n3": {"id": 3, "region": "us-central1", "zone": "us-central1-c"},
            "n4": {"id": 4, "region": "us-east1", "zone": "us-east1-b"},
            "n5": {"id": 5, "region": "us-east1", "zone": "us-east1-c"},
        },
        "ssh_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ demo",
        "operator_cidrs": ["198.51.100.7/32"],
        "lifetime_seconds": 43200,
    })
}

/// The actions of a plan on one resource type.
pub fn of<'a>(actions: &'a [(String, String)], resource_type: &str) -> Vec<(&'a str, &'a str)> {
    actions
        .iter()
        .filter(|(address, _)| address.starts_with(resource_type))
        .map(|(address, action)| (address.as_str(), action.as_str()))
        .collect()
}
