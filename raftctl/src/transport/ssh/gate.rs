//! One jump host that all hosts of a cluster are behind: what it refuses, it refuses for all of them.
//!
//! sshd (9.8 and later) locks out addresses from which too many logins fail. So the first login through
//! a jump host goes alone; once one has passed it the others go side by side, and where it refuses one
//! nobody else tries.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::TransportError;

/// For how long nobody tries again: longer than a verb asks, shorter than someone needs who mends it
/// while raftctl runs.
const SHUT_FOR: Duration = Duration::from_secs(30);

/// How a login went that led through a jump host.
#[derive(Debug)]
pub struct Refusal {
    /// What is told of the host that was to be reached.
    pub error: TransportError,
    /// Whether the jump host itself has refused the login.
    pub is_by_jump_host: bool,
}

#[derive(Debug, Default)]
enum Gate {
    /// Nobody has passed it yet.
    #[default]
    Unknown,
    /// The login is let in, or it is not the login that fails.
    Open,
    /// Since when it refuses the login, and the cause that is told.
    Shut(Instant, String),
}

type Shared = Arc<tokio::sync::Mutex<Gate>>;

fn gate(jump_host: &str) -> Shared {
    static GATES: Mutex<BTreeMap<String, Shared>> = Mutex::new(BTreeMap::new());
    // A map of gates is whole whenever it can be seen.
    let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(gates.entry(jump_host.to_owned()).or_default())
}

/// Logs in to `host` through a jump host, by its name and whoever logs in there.
///
/// # Errors
/// Those of the login, or what the jump host answered to another one a moment ago.
pub async fn pass<T>(
    jump_host: &str,
    host: &str,
    login: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let gate = gate(jump_host);
    let mut held = gate.lock().await;
    match &*held {
        Gate::Shut(since, cause) if since.elapsed() < SHUT_FOR => {
            return Err(Refusal {
                error: TransportError::Refused {
                    host: host.to_owned(),
                    cause: cause.clone(),
                },
                is_by_jump_host: true,
            });
        }
        Gate::Open => {
            drop(held);
            return login.await;
        }
        Gate::Unknown | Gate::Shut(..) => {}
    }
    let outcome = login.await;
    *held = match &outcome {
        Err(Refusal {
            error: TransportError::Refused { cause, .. },
            is_by_jump_host: true,
        }) => Gate::Shut(Instant::now(), cause.clone()),
        _ => Gate::Open,
    };
    outcome
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    // A jump host that refuses the login is asked once for all hosts behind it, and each is told so;
    // one that lets it in keeps nobody waiting, even where the host behind it fails.
    #[tokio::test]
    async fn a_jump_host_that_refuses_is_asked_once() {
        let asked = AtomicU32::new(0);
        let login = |is_by_jump_host| {
            let asked = &asked;
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Err::<(), _>(Refusal {
                    error: TransportError::Refused {
                        host: "n1".into(),
                        cause: "Permission denied".into(),
                    },
                    is_by_jump_host,
                })
            }
        };
        let (one, two) = tokio::join!(
            pass("gate/a", "n1", login(true)),
            pass("gate/a", "n2", login(true))
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(one.unwrap_err().error.to_string().starts_with("n1: "));
        assert!(two.unwrap_err().error.to_string().starts_with("n2: "));
        for host in ["n1", "n2"] {
            let refused = pass("gate/b", host, login(false)).await.unwrap_err();
            assert!(!refused.is_by_jump_host);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
