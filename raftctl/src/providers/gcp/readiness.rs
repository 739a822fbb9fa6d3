//! Waiting until machines can be worked on: SSH answers, and the startup script has mounted the
//! data disk.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::outcomes::Outcomes;
use crate::error::{Error, Result, TransportError};
use crate::hosts::inventory::Host;
use crate::transport::Request;
use crate::transport::ssh::is_changed_key;

/// A machine boots in half a minute, and formats a large disk in another.
pub const TIME_MAX: Duration = Duration::from_secs(180);

/// A machine that is asked more often than that refuses logins.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// One try, connecting included; ssh itself gives up before that, and tells the cause.
const TRY_TIME_MAX: Duration = Duration::from_secs(30);

/// Even a wait that is shorter has one try, which may come to an answer.
const TRY_TIME_MIN: Duration = Duration::from_secs(1);

/// How long a machine may refuse logins while it boots: its SSH server answers before Google's guest
/// agent has made the account and, on the first boot, the host keys. A wrong key is told after that.
const REFUSED_MAX: Duration = Duration::from_secs(75);

/// What the startup script leaves behind when it is done.
const SCRIPT: &str =
    "if test -e /run/raft-host-ready; then echo ready; else echo starting; fi\necho end=ok\n";

/// Waits for hosts, all at once.
///
/// # Errors
/// Every host that did not come up, with the cause.
pub async fn wait_for(hosts: &[Host], time_max: Duration) -> Result<()> {
    let outcomes = wait(hosts, time_max, |_| false).await;
    let mut failed: Vec<String> = outcomes
        .into_values()
        .filter_map(Result::err)
        .map(|error| error.to_string())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    failed.sort();
    Err(Error::Cloud(failed.join("\n")))
}

/// The same with an answer for each node. `on_new_key` is told of a host, by its name, whose key is not the one
/// that was seen before, and says whether to try again: whoever made the machine just now can forget the old one.
pub async fn wait(
    hosts: &[Host],
    time_max: Duration,
    on_new_key: impl Fn(&str) -> bool + Clone + Send + 'static,
) -> Outcomes<()> {
    let mut waiting = JoinSet::new();
    for host in hosts {
        let (host, on_new_key) = (host.clone(), on_new_key.clone());
        waiting.spawn(async move {
            let outcome = one(&host, time_max, REFUSED_MAX, on_new_key).await;
            (host.nodes, outcome)
        });
    }
    let mut outcomes = Outcomes::new();
    for (nodes, outcome) in waiting.join_all().await {
        outcomes.extend(nodes.into_iter().map(|id| (id, outcome.clone())));
    }
    outcomes
}

async fn one(
    host: &Host,
    time_max: Duration,
    refused_max: Duration,
    on_new_key: impl Fn(&str) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + time_max;
    let (mut refused_since, mut has_new_key) = (None, false);
    loop {
        host.transport.try_again();
        // Whoever wants to wait a second does not wait for ssh to give up.
        let left = deadline.saturating_duration_since(Instant::now());
        let try_time_max = left.clamp(TRY_TIME_MIN, TRY_TIME_MAX);
        let request = Request::new("see whether the machine is ready", SCRIPT, try_time_max);
        let answer = host.transport.run(request).await;
        if !matches!(answer, Err(TransportError::Refused { .. })) {
            refused_since = None;
        }
        let cause = match answer {
            Ok(output) if output.stdout.starts_with("ready") => return Ok(()),
            Ok(_) => "its startup script is not done; see `sudo journalctl -u google-startup-scripts` there".into(),
            Err(error @ TransportError::Refused { .. }) => {
                // No machine gets another key while it boots, but a new one.
                let is_changed = is_changed_key(&error);
                let is_final = is_changed && !on_new_key(host.name());
                if is_changed && !is_final && !std::mem::replace(&mut has_new_key, true) {
                    continue; // It is known again who that is: no reason to wait.
                }
                let since = *refused_since.get_or_insert_with(Instant::now);
                if is_final || since.elapsed() >= refused_max {
                    return Err(error.into());
                }
                error.to_string()
            }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::scripts::layout::HostLayout;
    use crate::transport::fake::{Answer, Fake};
    use crate::transport::{BoxFuture, Exit, Transport};
    use tokio::io::{AsyncWrite, AsyncWriteExt};

    const NAME: &str = "raft-demo-n1";

    fn host(
        answer: impl Fn(&Request<'_>) -> std::result::Result<Answer, TransportError>
        + Send
        + Sync
        + 'static,
    ) -> Host {
        Host {
            transport: Arc::new(Fake(NAME, answer)),
            layout: HostLayout::remote("/opt/raftkv/demo"),
            nodes: vec![1],
        }
    }

    fn refused<T>(cause: &str) -> std::result::Result<T, TransportError> {
        Err(TransportError::Refused {
            host: NAME.into(),
            cause: cause.into(),
        })
    }

    fn ready() -> Answer {
        Answer::Ran {
            stdout: "ready\nend=ok\n".into(),
            stderr: String::new(),
            status: 0,
        }
    }

    // Who gives a second waits a second, and not as long as ssh would; who gives minutes has more than one try.
    #[tokio::test]
    async fn a_try_is_no_longer_than_the_wait() {
        for (time_max, tried_ms) in [(5, 5_000), (1, 1_000), (0, 1_000), (180, 30_000)] {
            let longest = Arc::new(AtomicU64::new(0));
            let seen = Arc::clone(&longest);
            let silent = host(move |request| {
                let given_ms = u64::try_from(request.deadline.as_millis()).unwrap();
                seen.fetch_max(given_ms, Ordering::Relaxed);
                refused("Connection timed out")
            });
            let time_max = Duration::from_secs(time_max);
            one(&silent, time_max, Duration::ZERO, |_| false)
                .await
                .unwrap_err();
            let tried = longest.load(Ordering::Relaxed);
            assert!((tried_ms - 500..=tried_ms).contains(&tried), "{tried}");
        }
    }

    // The account is made after the SSH server answers: a refusal is no end, but many are.
    #[tokio::test]
    async fn a_booting_machine_may_refuse_for_a_while() {
        let waited = async |refusals: u32, refused_max| {
            let left = Mutex::new(refusals);
            let booting = host(move |_| {
                let mut left = left.lock().unwrap();
                match left.checked_sub(1) {
                    Some(rest) => {
                        *left = rest;
                        refused("Permission denied (publickey)")
                    }
                    None => Ok(ready()),
                }
            });
            one(&booting, Duration::from_secs(60), refused_max, |_| false).await
        };
        waited(2, Duration::from_secs(30)).await.unwrap();
        let text = waited(u32::MAX, Duration::from_millis(500)).await;
        let text = text.unwrap_err().to_string();
        assert_eq!(text, "raft-demo-n1: Permission denied (publickey)");
    }

    /// A machine that boots: whoever has not reached it is told the same until it is to be tried again.
    struct Booting {
        tries_left: AtomicU64,
        is_left_alone: AtomicBool,
    }

    impl Transport for Booting {
        fn host(&self) -> &str {
            NAME
        }

        fn try_again(&self) {
            self.is_left_alone.store(false, Ordering::Relaxed);
        }

        fn execute<'a>(
            &'a self,
            _: Request<'a>,
            stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
        ) -> BoxFuture<'a, std::result::Result<Exit, TransportError>> {
            Box::pin(async move {
                if self.is_left_alone.swap(true, Ordering::Relaxed)
                    || self.tries_left.fetch_sub(1, Ordering::Relaxed) > 0
                {
                    return Err(TransportError::Unreachable {
                        host: NAME.into(),
                        cause: "Connection refused".into(),
                    });
                }
                stdout.write_all(b"ready\nend=ok\n").await.unwrap();
                Ok(Exit {
                    status: 0,
                    stderr: String::new(),
                })
            })
        }
    }

    // A host that could not be reached is left alone for longer the longer that took: not so one that boots.
    #[tokio::test]
    async fn each_try_reaches_for_the_machine() {
        let transport = Arc::new(Booting {
            tries_left: AtomicU64::new(2),
            is_left_alone: AtomicBool::new(true),
        });
        let booting = Host {
            transport: transport.clone(),
            layout: HostLayout::remote("/opt/raftkv/demo"),
            nodes: vec![1],
        };
        one(&booting, TIME_MAX, REFUSED_MAX, |_| false)
            .await
            .unwrap();
    }

    // Another key than before is forgotten where the machine is new; otherwise it is told, and not waited for.
    #[tokio::test]
    async fn another_key_is_waited_for_where_the_machine_is_new() {
        let waited = async |is_new: bool| {
            let is_forgotten = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&is_forgotten);
            let tries = Arc::new(AtomicU64::new(0));
            let tried = Arc::clone(&tries);
            let changed = host(move |_| {
                tried.fetch_add(1, Ordering::Relaxed);
                match seen.load(Ordering::Relaxed) {
                    true => Ok(ready()),
                    false => refused("its host key is not the one that was seen before"),
                }
            });
            let forget = move |name: &str| {
                assert_eq!(name, NAME);
                is_forgotten.store(is_new, Ordering::Relaxed);
                is_new
            };
            let outcome = one(&changed, TIME_MAX, REFUSED_MAX, forget).await;
            (outcome, tries.load(Ordering::Relaxed))
        };
        let (outcome, tries) = waited(true).await;
        outcome.unwrap();
        assert_eq!(tries, 2);
        let (outcome, tries) = waited(false).await;
        outcome.unwrap_err();
        assert_eq!(tries, 1);
    }
}
