//! Waiting until machines can be worked on: SSH answers, and the startup script has mounted the
//! data disk.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::hosts::inventory::{Host, Inventory};
use crate::hosts::{Request, TransportError};

/// A machine boots in half a minute, and formats a large disk in another.
pub const TIME_MAX: Duration = Duration::from_secs(180);

/// A machine that is asked more often than that refuses logins.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// One try, connecting included.
const TRY_TIME_MAX: Duration = Duration::from_secs(20);

/// What the startup script leaves behind when it is done.
const SCRIPT: &str =
    "if test -e /run/raft-host-ready; then echo ready; else echo starting; fi\necho end=ok\n";

/// Waits for all hosts at once.
///
/// # Errors
/// Every host that did not come up, with the cause.
pub async fn wait(inventory: &Inventory, time_max: Duration) -> Result<()> {
    wait_for(&inventory.hosts, time_max).await
}

/// The same for some hosts.
///
/// # Errors
/// As above.
pub async fn wait_for(hosts: &[Host], time_max: Duration) -> Result<()> {
    let mut waiting = JoinSet::new();
    for host in hosts {
        let host = host.clone();
        waiting.spawn(async move { one(&host, time_max).await });
    }
    let mut failed: Vec<String> = waiting
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::err)
        .map(|e| e.to_string())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    failed.sort();
    Err(Error::Cloud(failed.join("\n")))
}

async fn one(host: &Host, time_max: Duration) -> Result<()> {
    let deadline = Instant::now() + time_max;
    loop {
        let request = Request::new("see whether the machine is ready", SCRIPT, TRY_TIME_MAX);
        let cause = match host.transport.run(request).await {
            Ok(output) if output.stdout.starts_with("ready") => return Ok(()),
            Ok(_) => "its startup script is not done; see `sudo journalctl -u google-startup-scripts` there".into(),
            Err(error @ TransportError::Refused { .. }) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if Instant::now() + ASK_EVERY > deadline {
            let seconds = time_max.as_secs();
            return Err(Error::Cloud(format!(
                "machine {} is not ready after {seconds} s: {cause}",
                host.name()
            )));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
