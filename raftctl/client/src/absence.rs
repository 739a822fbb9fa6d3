//! Whether there is anybody to wait for.
//!
//! A client can't tell a cluster that is down from one that comes back in a moment: both refuse its
//! connections. Whoever can look at the hosts knows better, and gives the client a way to ask.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What a look at the hosts may take; a host that is silent for longer is no proof of anything.
const LOOK_MAX: Duration = Duration::from_secs(2);

type Look = dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync;

/// Asks the hosts whether it is certain that no node runs on any of them.
#[derive(Clone)]
pub struct Absence(Arc<Look>);

impl Absence {
    /// `look` returns true only where every host has answered, and none has a process of the cluster.
    pub fn new<F>(look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        Absence(Arc::new(move || Box::pin(look())))
    }

    /// Whether it is certain.
    pub async fn is_certain(&self) -> bool {
        let looked = tokio::time::timeout(LOOK_MAX, (self.0)()).await;
        looked.unwrap_or(false)
    }
}

impl fmt::Debug for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Absence")
    }
}
