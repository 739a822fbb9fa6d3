//! The farewell: hand over the leadership, let replies go out, end.

use super::Failure;
use crate::desk::Waiter;
use crate::dump::Happening;
use crate::engine::Request;
use crate::flags::Settings;
use crate::raft::Role;
use crate::rpc::{Front, LiveHealth};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long those who wait for a reply may keep the node from ending, and then those who hold a
/// connection.
const LAST_REPLIES_TIMEOUT: Duration = Duration::from_millis(500);
/// The same for streams whose last words nobody takes.
const STREAMS_TIMEOUT: Duration = Duration::from_millis(500);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// Between two looks at whether everybody has a reply.
const LOOK: Duration = Duration::from_millis(2);

type Serving = JoinHandle<Result<(), tonic::transport::Error>>;

/// The two running servers.
pub(super) struct Servers {
    pub(super) health: LiveHealth,
    /// Taken when clients are to leave.
    pub(super) close_clients: Option<oneshot::Sender<()>>,
    pub(super) clients_serving: Serving,
    pub(super) peers_serving: Serving,
}

impl Servers {
    /// Waits for one of them to end, which it should not.
    pub(super) async fn failed(&mut self) -> Failure {
        let (whom, ended) = tokio::select! {
            ended = &mut self.clients_serving => ("clients", ended),
            ended = &mut self.peers_serving => ("peers", ended),
        };
        let error = match ended {
            Ok(Ok(())) => "it ended by itself".into(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Failure::ListenEnded { whom, error }
    }
}

/// Leaves in good order, while the loop goes on. Bounded by one election timeout and a second.
pub(super) async fn stop(front: &Front, servers: &mut Servers, settings: &Settings) {
    tracing::info!("stopping");
    front.dump.tell(Happening::Stopping);
    servers.health.end().await;
    if front.view.gate().role == Role::Leader && has_other_voters(front) {
        hand_over(front, *settings.election_timeout_ms.end()).await;
    }
    front.desk.stop();
    let patience = Instant::now() + LAST_REPLIES_TIMEOUT;
    while front.desk.waiting() > 0 && Instant::now() < patience {
        sleep(LOOK).await;
    }
    close(front, servers).await;
}

/// The end of a node that was removed, after that of its loop: what it was about to answer goes out, and who
/// waits for more is told that nobody knows the outcome.
pub(super) async fn take_leave(front: &Front, servers: &mut Servers) {
    servers.health.end().await;
    front.desk.dismiss();
    close(front, servers).await;
}

async fn close(front: &Front, servers: &mut Servers) {
    // Streams end now, each with an outcome for everything that it has begun.
    front.closing.send_replace(true);
    // Before their connections are told to end: that ends with a question which each client answers
    // when it has read what came before, so nothing is cut off that it has not seen.
    drop(timeout(STREAMS_TIMEOUT, front.closing.closed()).await);
    if let Some(close) = servers.close_clients.take() {
        // Gone already when the server has failed.
        close.send(()).ok();
    }
    // Long-lived streams do not end by themselves; what they were owed has been sent.
    drop(timeout(CLOSE_TIMEOUT, &mut servers.clients_serving).await);
}

fn has_other_voters(front: &Front) -> bool {
    let (_, members) = front.roster.in_force();
    let own = front.identity.id;
    members.all_voters().iter().any(|id| *id != own)
}

async fn hand_over(front: &Front, patience_ms: u64) {
    let (reply, outcome) = oneshot::channel();
    let transfer = Request::Transfer { target: None };
    let patience = Duration::from_millis(patience_ms);
    if front.desk.submit(transfer, Waiter::Call(reply)).is_err() {
        return tracing::warn!("too busy to hand over the leadership");
    }
    let outcome = tokio::select! {
        outcome = timeout(patience, outcome) => outcome,
        () = majority_gone(front) => {
            return tracing::info!("no majority is left to hand over the leadership to");
        }
    };
    match outcome {
        Ok(Ok(Ok(_))) => tracing::info!("handed over the leadership"),
        Ok(Ok(Err(error))) => tracing::warn!("could not hand over the leadership: {error}"),
        Ok(Err(_)) | Err(_) => tracing::warn!("nobody took over the leadership in time"),
    }
}

/// Waits until so few peers are connected that nobody could be elected, as when all nodes of a
/// cluster are stopped at once.
async fn majority_gone(front: &Front) {
    while let Ok(inspection) = front.desk.inspect().await {
        let status = inspection.status;
        let is_there = |id| {
            let mut peers = status.peers.iter();
            id == front.identity.id || peers.any(|peer| peer.id == id && peer.connected)
        };
        // A node that no longer leads has no peers to show: the transfer's own answer tells.
        if status.lease.role == Role::Leader && !status.members.has_quorum(is_there) {
            return;
        }
        sleep(LOOK).await;
    }
}
