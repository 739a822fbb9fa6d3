//! What turns an instance into a test host: a command, or a function of the test itself.
//!
//! It is told `create`, `remove`, `stop` or `start`, and about the instance. `create` and `start` may
//! answer with an address from outside; without an answer the instance keeps the one that the
//! stand-in gave it. One that fails makes the request fail, with the cause that it gave.
//!
//! A command is run as `COMMAND create`, with a JSON object on its standard input, and answers
//! `{"external_ip": "..."}`; its cause is what it wrote on standard error.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::AsyncWriteExt;

/// A test host is up within seconds; a hook whose host keeps its standard output open never ends.
const HOOK_TIME_MAX: Duration = Duration::from_secs(120);

/// What a test does itself: (action, instance) -> external address, if it has another one.
pub type Act = dyn Fn(&str, &Machine) -> Result<Option<String>, String> + Send + Sync;

/// What turns an instance into a host.
#[derive(Clone, Default)]
pub enum Hook {
    /// Nothing: instances are entries in a file, and no more.
    #[default]
    Nothing,
    /// A command, run by `sh -c`.
    Command(String),
    /// A function.
    Function(Arc<Act>),
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
    /// Does it; the external address that it answers, if any.
    ///
    /// # Errors
    /// The cause of its failure.
    pub async fn run(&self, action: &str, machine: &Machine) -> Result<Option<String>, String> {
        match self {
            Hook::Nothing => Ok(None),
            Hook::Command(command) => run_command(command, action, machine).await,
            Hook::Function(act) => {
                let (act, action, machine) = (Arc::clone(act), action.to_owned(), machine.clone());
                tokio::task::spawn_blocking(move || act(&action, &machine))
                    .await
                    .unwrap_or_else(|error| Err(format!("the hook panicked: {error}")))
            }
        }
    }
}

async fn run_command(
    command: &str,
    action: &str,
    machine: &Machine,
) -> Result<Option<String>, String> {
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
