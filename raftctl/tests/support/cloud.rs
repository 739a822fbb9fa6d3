//! A Google Cloud of a test's own: the stand-in for Google behind real Terraform and real gcloud,
//! and a folder with a cluster.yaml.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testprovider::hook::Hook;
use testprovider::server::{Options, Running};

/// How raftctl ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The same, after a check of the exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// The same, after a check that standard error says something.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(
            self.stderr.contains(words),
            "{words:?} is not in:\n{}",
            self.stderr
        );
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Google, Terraform's view of it, and an operator's folder.
pub struct Cloud {
    pub folder: tempfile::TempDir,
    pub provider: Running,
}

/// Whether Terraform is there. Where it isn't, the test says so and ends; with `CI` set it fails.
pub fn terraform_is_missing() -> bool {
    let version = Command::new("terraform").arg("version").output();
    let found = version.is_ok_and(|output| output.status.success());
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "terraform is not installed, and CI must test with it"
        );
        eprintln!("LEFT OUT: terraform is not installed, so nothing was tested here");
    }
    !found
}

/// The same for gcloud.
pub fn gcloud_is_missing() -> bool {
    let found = Command::new("gcloud")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "gcloud is not installed, and CI must test with it"
        );
        eprintln!("LEFT OUT: gcloud is not installed, so nothing was tested here");
    }
    !found
}

impl Cloud {
    /// A Google that holds nothing, and no host behind any instance.
    pub fn new(yaml: &str) -> Cloud {
        Cloud::with_hosts(yaml, Hook::Nothing)
    }

    /// The same, where `hook` makes hosts of instances.
    pub fn with_hosts(yaml: &str, hook: Hook) -> Cloud {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("gcloud")).unwrap();
        for (file, text) in [
            ("cli.tfrc", ""),
            ("token", "no-real-token"),
            ("cluster.yaml", yaml),
        ] {
            std::fs::write(path(file), text).unwrap();
        }
        let provider = Running::start(Options {
            state: Some(path("google.json")),
            faults: Some(path("faults.json")),
            hook,
            ..Options::default()
        });
        Cloud {
            provider: provider.unwrap(),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes another cluster.yaml.
    pub fn write(&self, yaml: &str) {
        std::fs::write(self.path("cluster.yaml"), yaml).unwrap();
    }

    /// Forgets what raftctl keeps here, as in the folder of another operator.
    pub fn forget_kept(&self) {
        std::fs::remove_dir_all(self.path(".raftctl")).unwrap();
    }

    /// Orders failures of Google.
    pub fn order(&self, faults: &Value) {
        std::fs::write(self.path("faults.json"), faults.to_string()).unwrap();
    }

    /// How many resources Google holds.
    pub fn count(&self) -> usize {
        self.provider.google.count()
    }

    /// Puts a program of the test's own before any other of its name.
    pub fn install(&self, name: &str, text: &str) {
        let folder = self.path("bin");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A program with the environment of an operator, not started yet.
    pub fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.path("bin")).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(path).unwrap());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TF_REATTACH_PROVIDERS", &self.provider.reattach)
            .env("TF_CLI_CONFIG_FILE", self.path("cli.tfrc"))
            .env("CLOUDSDK_CONFIG", self.path("gcloud"))
            .env(
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE",
                &self.provider.compute_endpoint,
            )
            .env(
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE",
                &self.provider.services_endpoint,
            )
            .env(
                "GOOGLE_BACKEND_STORAGE_CUSTOM_ENDPOINT",
                &self.provider.storage_endpoint,
            )
            .env("GOOGLE_OAUTH_ACCESS_TOKEN", "no-real-token")
            .env("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", self.path("token"))
            .env("CLOUDSDK_CORE_DISABLE_USAGE_REPORTING", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("NO_COLOR", "1")
            .env_remove("RAFTCTL_CONFIG")
            .env_remove("TF_PLUGIN_CACHE_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// raftctl, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_raftctl"), arguments)
    }

    /// Runs raftctl.
    pub fn raftctl(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments))
    }

    /// The infrastructure that `plan` would change, in words.
    #[track_caller]
    pub fn changes(&self, plan: &Ended) -> Vec<String> {
        let plan = plan.json();
        let changes = plan["infrastructure"].as_array().unwrap().iter();
        changes
            .map(|change| change["text"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until Google holds so many resources at least.
    #[track_caller]
    pub fn wait_for_resources(&self, count: usize) {
        let give_up = Instant::now() + Duration::from_secs(60);
        while self.count() < count {
            assert!(
                Instant::now() < give_up,
                "Google holds {} resources only",
                self.count()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where a program of this machine lies.
pub fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(program));
    files
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("no {program}"))
}

/// Runs a command to its end.
pub fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Faults of one kind that strike one resource type.
pub fn fault(kind: &str, resource: &str) -> Value {
    json!({"faults": [{"kind": kind, "resource": resource}]})
}
