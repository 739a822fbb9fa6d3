//! A Google Cloud of a test's own: the stand-in for Google behind real Terraform and real gcloud,
//! and a folder with a cluster.yaml.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::{Need, program_is_missing};
use serde_json::{Value, json};
use testprovider::hook::Hook;
use testprovider::server::{Options, Running};

pub use crate::support::ended;
use crate::support::{Ended, replace_file};

/// Google, Terraform's view of it, and an operator's folder.
pub struct Cloud {
    pub folder: tempfile::TempDir,
    pub provider: Running,
}

/// Terraform itself.
pub static TERRAFORM: Need = Need::new(|| {
    program_is_missing(
        "terraform",
        "see https://developer.hashicorp.com/terraform/install",
    )
});

/// Google's own tool.
pub static GCLOUD: Need =
    Need::new(|| program_is_missing("gcloud", "see https://cloud.google.com/sdk/docs/install"));

/// What raftctl asks Google by where it is there.
pub static CURL: Need = Need::new(|| program_is_missing("curl", "install curl"));

/// Lists what Google has as gcloud does, without a second of gcloud's own for each; all that is not a list, or
/// is refused, is left to gcloud itself. What it was called for is in the file `calls`.
const QUICK_GCLOUD: &str = r#"#!/usr/bin/env -S python3 -SE
import http.client, json, os, re, sys, urllib.parse
KINDS = {
    "instances": "aggregated/instances", "disks": "aggregated/disks", "addresses": "aggregated/addresses",
    "firewall-rules": "global/firewalls", "networks": "global/networks", "networks subnets": "aggregated/subnetworks",
}

def listed(words):
    options = dict(word[2:].split("=", 1) for word in words if re.match("--[a-z]+=", word))
    path = KINDS[" ".join(words[1:words.index("list")])]
    test = re.fullmatch(r"([\w.-]+)(~|=)(.*)", options["filter"])
    endpoint = urllib.parse.urlsplit(os.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"])
    google = http.client.HTTPConnection(endpoint.netloc)
    google.request("GET", "%sprojects/%s/%s" % (endpoint.path, options["project"], path))
    answer = google.getresponse()
    if answer.status != 200:
        raise LookupError
    things = json.load(answer)["items"]
    if path.startswith("aggregated"):
        if any("warning" in place for place in things.values()):
            raise LookupError
        things = [thing for place in things.values() for thing in place[path.split("/")[1]]]

    def fits(thing):
        value = thing
        for part in test[1].split("."):
            value = value.get(part, {})
        is_text = isinstance(value, str)
        return is_text and (re.search(test[3], value) is not None if test[2] == "~" else value == test[3])

    return [thing for thing in things if fits(thing)]

words = sys.argv[1:]
with open(os.path.join(os.path.dirname(__file__), "../calls"), "a") as calls:
    print(" ".join(words), file=calls)
try:
    if words[0] != "compute":
        raise LookupError
    print(json.dumps(listed(words)))
except (LookupError, OSError, TypeError, ValueError):
    os.execv("GCLOUD", ["gcloud"] + words)
"#;

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
        replace_file(self.path("cluster.yaml"), yaml);
    }

    /// Forgets what raftctl keeps here, as in the folder of another operator.
    pub fn forget_kept(&self) {
        std::fs::remove_dir_all(self.path(".raftctl")).unwrap();
    }

    /// Orders failures of Google.
    pub fn order(&self, faults: &Value) {
        // At once: half of it would order something else.
        let new = self.path("faults.json.new");
        std::fs::write(&new, faults.to_string()).unwrap();
        std::fs::rename(new, self.path("faults.json")).unwrap();
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

    /// Lets what lists things at Google go without gcloud, where a test is about something else.
    pub fn list_quickly(&self) {
        let gcloud = which("gcloud");
        let text = QUICK_GCLOUD.replace("GCLOUD\"", &format!("{}\"", gcloud.display()));
        self.install("gcloud", &text);
    }

    /// What such a gcloud was called for since this was asked last, a line each.
    pub fn calls(&self) -> Vec<String> {
        let file = self.path("calls");
        let calls = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file); // nothing may have been called
        calls.lines().map(String::from).collect()
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
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_OSLOGIN",
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
}

/// Where a program of this machine lies.
pub fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(program));
    files
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("no {program}"))
}

/// Faults of one kind that strike one resource type.
pub fn fault(kind: &str, resource: &str) -> Value {
    json!({"faults": [{"kind": kind, "resource": resource}]})
}
