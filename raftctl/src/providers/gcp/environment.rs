//! What of the operator's environment reaches Terraform and gcloud. Pure but for asking for it.
//!
//! Whoever is to be let in, how the network is reached and where programs are kept is the operator's
//! right. What would make the same command mean something else (another workspace, more arguments,
//! another value of a variable, another form of output) is not: a `plan` must not delete anything
//! because of a shell that was set up for something else.

use std::ffi::OsString;

use tokio::process::Command;

/// Variables of Terraform and OpenTofu that stay; each other `TF_` goes.
const KEPT: [&str; 16] = [
    // Where providers come from.
    "TF_CLI_CONFIG_FILE",
    "TF_PLUGIN_CACHE_DIR",
    "TF_REATTACH_PROVIDERS",
    "TF_PROVIDER_DOWNLOAD_RETRY",
    "TF_REGISTRY_CLIENT_TIMEOUT",
    "TF_REGISTRY_DISCOVERY_RETRY",
    "TF_DISABLE_PLUGIN_TLS",
    "TF_SKIP_PROVIDER_VERIFY",
    // How the state is kept: without it, it could not be read any more.
    "TF_ENCRYPTION",
    "TF_APPEND_USER_AGENT",
    // Taken away where no file is named: see below.
    "TF_LOG",
    "TF_LOG_CORE",
    "TF_LOG_PROVIDER",
    "TF_LOG_PROVIDER_GOOGLE",
    "TF_LOG_PATH",
    "TF_FORK",
];

/// Credentials for registries, one a host.
const TOKENS: &str = "TF_TOKEN_";

/// Settings of gcloud that decide what it prints, and what a question without an answer looks like. Those
/// in its configuration files are overruled by it, too. An empty one is taken away.
const GCLOUD: [(&str, &str); 8] = [
    ("CLOUDSDK_CORE_DISABLE_PROMPTS", "1"),
    // Else a list that failed is an empty list.
    ("CLOUDSDK_COMPUTE_ALLOW_PARTIAL_ERROR", "false"),
    ("CLOUDSDK_CORE_USER_OUTPUT_ENABLED", "true"),
    ("CLOUDSDK_CORE_SHOW_STRUCTURED_LOGS", "never"),
    ("CLOUDSDK_CORE_VERBOSITY", "warning"),
    ("CLOUDSDK_CORE_LOG_HTTP", "false"),
    ("CLOUDSDK_CORE_TRACE_TOKEN", ""),
    ("CLOUDSDK_CORE_DEFAULT_FORMAT", ""),
];

/// Whether a variable may reach Terraform. What it logs must go to a file: else it stands among what
/// raftctl reads.
#[must_use]
fn reaches_terraform(name: &str, has_log_file: bool) -> bool {
    match name {
        _ if !name.starts_with("TF_") => true,
        _ if name.starts_with("TF_LOG") => KEPT.contains(&name) && has_log_file,
        _ => KEPT.contains(&name) || name.starts_with(TOKENS),
    }
}

/// The names that are kept from Terraform.
fn kept_back(names: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let names: Vec<OsString> = names.collect();
    let has_log_file = names.iter().any(|name| name == "TF_LOG_PATH");
    let is_kept_back = |name: &OsString| {
        let text = name.to_string_lossy();
        !reaches_terraform(&text, has_log_file)
    };
    names.into_iter().filter(is_kept_back).collect()
}

/// Prepares the environment of a Terraform.
pub fn for_terraform(command: &mut Command) {
    for name in kept_back(std::env::vars_os().map(|(name, _)| name)) {
        command.env_remove(name);
    }
    command
        .env("TF_IN_AUTOMATION", "1")
        .env("TF_INPUT", "0")
        .env("CHECKPOINT_DISABLE", "1");
}

/// Prepares the environment of a gcloud.
pub fn for_gcloud(command: &mut Command) {
    for (name, value) in GCLOUD {
        match value {
            "" => command.env_remove(name),
            value => command.env(name, value),
        };
    }
    // Each question names its own place.
    command
        .env_remove("CLOUDSDK_COMPUTE_ZONE")
        .env_remove("CLOUDSDK_COMPUTE_REGION")
        .env_remove("CLOUDSDK_CORE_PROJECT");
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whoever has set up a shell for another workspace, other arguments, or another cluster's variables,
    // gets the same commands; who has credentials, a mirror or a cache of their own keeps them.
    #[test]
    fn what_changes_a_command_is_kept_back() {
        let gone = [
            "TF_WORKSPACE",
            "TF_CLI_ARGS",
            "TF_CLI_ARGS_plan",
            "TF_CLI_ARGS_apply",
            "TF_VAR_nodes",
            "TF_VAR_cluster",
            "TF_DATA_DIR",
            "TF_IGNORE",
            "TF_STATE_PERSIST_INTERVAL",
            "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE",
            "TF_RECURSION_DEPTH",
            "TF_LOG",
            "TF_LOG_PROVIDER",
        ];
        let stays = [
            "TF_CLI_CONFIG_FILE",
            "TF_PLUGIN_CACHE_DIR",
            "TF_REATTACH_PROVIDERS",
            "TF_TOKEN_app_terraform_io",
            "TF_ENCRYPTION",
            "GOOGLE_OAUTH_ACCESS_TOKEN",
            "HTTPS_PROXY",
            "HOME",
        ];
        let all = gone.iter().chain(&stays).map(OsString::from);
        assert_eq!(kept_back(all), gone.map(OsString::from));
    }

    // A log is the operator's right where it goes to a file, and not among what raftctl reads.
    #[test]
    fn a_log_needs_a_file() {
        let names = ["TF_LOG", "TF_LOG_PATH", "TF_WORKSPACE"].map(OsString::from);
        assert_eq!(kept_back(names.into_iter()), ["TF_WORKSPACE"]);
    }
}
