//! The command that turns an instance into a test host.
//!
//! It is run as `COMMAND create|remove|stop|start`, with a JSON object about the instance on its
//! standard input. `create` and `start` may answer with `{"external_ip": "..."}`; without an
//! answer the instance has the address that the stand-in gave it. A command that fails makes the
//! request fail, with what it wrote on standard error.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::AsyncWriteExt;

/// A test host is up within seconds; a hook whose host keeps its standard output open never ends.
const HOOK_TIME_MAX: Duration = Duration::from_secs(120);

/// Runs the test's command, where there is one.
#[derive(Debug, Clone, Default)]
pub struct Hook {
    command: Option<String>,
}

/// What there is to know of an instance.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The instance's name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its address within the network.
    pub internal_ip: String,
    /// The address from outside; empty where it has none.
    pub external_ip: String,
    /// The metadata item `ssh-keys`: `user:key`.
    pub ssh_keys: String,
}

impl Hook {
    /// A hook that runs `command` by `sh -c`, or nothing.
    #[must_use]
    pub fn new(command: Option<String>) -> Hook {
        Hook { command }
    }

    /// Runs the command; the external address that it answers, if any.
    ///
    /// # Errors
    /// When the command can't be started or fails.
    pub async fn run(&self, action: &str, machine: &Machine) -> Result<Option<String>, String> {
        let Some(command) = &self.command else {
            return Ok(None);
        };
        let input = json!({
            "name": machine.name, "zone": machine.zone, "internal_ip": machine.internal_ip,
            "external_ip": machine.external_ip, "ssh_keys": machine.ssh_keys,
        });
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", &format!("{command} \"$1\""), "hook", action])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start the hook: {error}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A hook that does not care to read is fine.
            let _ = stdin.write_all(input.to_string().as_bytes()).await;
        }
        let output = tokio::time::timeout(HOOK_TIME_MAX, child.wait_with_output())
            .await
            .map_err(|_| format!("the hook did not end within {HOOK_TIME_MAX:?} on {action}"))?
            .map_err(|error| format!("cannot await the hook: {error}"))?;
        if !output.status.success() {
            let cause = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "the hook failed on {action} ({}): {cause}",
                output.status
            ));
        }
        let answer: Json = serde_json::from_slice(&output.stdout).unwrap_or(Json::Null);
        Ok(answer["external_ip"].as_str().map(String::from))
    }
}
