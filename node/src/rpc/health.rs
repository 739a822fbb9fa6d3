//! What the standard health service says of this node: that it serves, and whether it leads.

use raftkv::admin::admin_server::SERVICE_NAME as ADMIN;
use raftkv::kv::classic_server::SERVICE_NAME as CLASSIC;
use raftkv::kv::kv_server::SERVICE_NAME as KV;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The name that only a leader with a valid lease calls serving. A client that watches the health
/// of its connections, as gRPC's libraries do when they are told to, finds the leader by it.
const LEADER: &str = "leader";

/// What is said before anybody can ask.
#[derive(Debug)]
pub struct Health {
    reporter: HealthReporter,
}

/// What is said while the node runs.
#[derive(Debug)]
pub struct LiveHealth {
    reporter: HealthReporter,
    following: JoinHandle<()>,
}

impl Health {
    pub(super) fn new(reporter: HealthReporter) -> Self {
        Health { reporter }
    }

    /// From now on the node serves, and leads when `leads` says so.
    pub async fn begin(self, leads: watch::Receiver<bool>) -> LiveHealth {
        let Health { reporter } = self;
        set_services(&reporter, true).await;
        set(&reporter, LEADER, false).await;
        let following = tokio::spawn(follow(reporter.clone(), leads));
        LiveHealth {
            reporter,
            following,
        }
    }
}

impl LiveHealth {
    /// The node stops: it serves nobody any more and is not to be taken for the leader.
    pub async fn end(&mut self) {
        self.following.abort();
        // Its last word, if it was about to say one, comes before ours.
        (&mut self.following).await.ok();
        set(&self.reporter, LEADER, false).await;
        set_services(&self.reporter, false).await;
    }
}

async fn follow(reporter: HealthReporter, mut leads: watch::Receiver<bool>) {
    loop {
        let now = *leads.borrow_and_update();
        set(&reporter, LEADER, now).await;
        if leads.changed().await.is_err() {
            return; // The loop has ended, and the node with it.
        }
    }
}

/// Of the node as a whole, and of each service for clients.
async fn set_services(reporter: &HealthReporter, serving: bool) {
    for service in ["", KV, CLASSIC, ADMIN] {
        set(reporter, service, serving).await;
    }
}

async fn set(reporter: &HealthReporter, service: &str, serving: bool) {
    let status = match serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    reporter.set_service_status(service, status).await;
}
