//! The gRPC calls of operators, each with a deadline of its own.
//!
//! Every call makes its own connection: an operator's verb talks to a node once or twice, and a
//! connection that is kept would have to be told apart from one to a node that has since died. Only
//! [`Watch`] keeps one, for whoever asks the same again and again.

use std::time::Duration;

use raftkv::admin::admin_client::AdminClient;
use raftkv::admin::{
    BackupPiece, BackupRequest, ChangeMembersRequest, CutLinksRequest, HealLinksRequest, Member,
    StatusReply, StatusRequest, TakeSnapshotReply, TakeSnapshotRequest, TransferLeadershipRequest,
};
use tonic::transport::{Channel, Endpoint};

use crate::client::{connector, security, tunnel_trouble};
use crate::cluster::NodeId;

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// Nobody answers at the address, or not in time.
    #[error("no answer from {address}: {cause}")]
    Silent {
        /// Where it was asked.
        address: String,
        /// What stood in the way.
        cause: String,
    },
    /// Someone else answers there: a node of another cluster, or another node of this one.
    #[error("{address} is answered by node {node_id} of cluster {cluster:?}")]
    Stranger {
        /// Where it was asked.
        address: String,
        /// Who answered.
        node_id: NodeId,
        /// And of which cluster.
        cluster: String,
    },
    /// The node answered that it will not.
    #[error("{}", .0.message())]
    Refused(tonic::Status),
}

/// What a node says of itself.
///
/// # Errors
/// It doesn't answer.
pub async fn status(address: &str, deadline: Duration) -> Result<StatusReply, AdminError> {
    call(address, deadline, async |mut node| {
        node.status(StatusRequest {}).await
    })
    .await
}

/// Asks one node again and again, on a connection that is kept until it fails.
#[derive(Debug)]
pub struct Watch {
    address: String,
    channel: Option<Channel>,
}

impl Watch {
    /// Connects with the first question.
    #[must_use]
    pub fn new(address: String) -> Self {
        Watch {
            address,
            channel: None,
        }
    }

    /// What the node says of itself. After any failure the next call connects anew: another process may
    /// answer there by then.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn status(&mut self, deadline: Duration) -> Result<StatusReply, AdminError> {
        let kept = self.channel.take();
        let address = &self.address;
        let exchange = Box::pin(async {
            let channel = match kept {
                Some(channel) => channel,
                None => connect(address).await?,
            };
            let request =
                async |mut node: AdminClient<Channel>| node.status(StatusRequest {}).await;
            let reply = ask(address, channel.clone(), request).await?;
            Ok((channel, reply))
        });
        let (channel, reply) = within(address, deadline, exchange).await?;
        self.channel = Some(channel);
        Ok(reply)
    }
}

/// Cuts a node off from peers, for at most `length`.
///
/// # Errors
/// It doesn't answer, or was not started with fault injection allowed.
pub async fn cut_links(
    address: &str,
    peers: &[NodeId],
    length: Duration,
    deadline: Duration,
) -> Result<(), AdminError> {
    let request = CutLinksRequest {
        peer_ids: peers.to_vec(),
        for_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
    };
    call(address, deadline, async |mut node| {
        node.cut_links(request.clone()).await
    })
    .await?;
    Ok(())
}

/// Undoes the cuts of a node to some peers; of all where none are named.
///
/// # Errors
/// It doesn't answer.
pub async fn heal_links(
    address: &str,
    peers: &[NodeId],
    deadline: Duration,
) -> Result<(), AdminError> {
    let request = HealLinksRequest {
        peer_ids: peers.to_vec(),
    };
    call(address, deadline, async |mut node| {
        node.heal_links(request.clone()).await
    })
    .await?;
    Ok(())
}

/// Asks the leader to hand over to `target`, or to whom it likes; the new leader.
///
/// # Errors
/// It doesn't answer, does not lead, or the transfer failed.
pub async fn transfer(
    address: &str,
    target: Option<NodeId>,
    deadline: Duration,
) -> Result<NodeId, AdminError> {
    let request = TransferLeadershipRequest {
        target_id: target.unwrap_or(0),
    };
    let transfer = async |mut node: AdminClient<Channel>| node.transfer_leadership(request).await;
    Ok(call(address, deadline, transfer).await?.leader_id)
}

/// Asks the leader for a change of members, made against the configuration `base`; returns when it is over.
///
/// # Errors
/// It doesn't answer in time, does not lead, or refuses.
pub async fn change_members(
    address: &str,
    base: u64,
    members: Vec<Member>,
    deadline: Duration,
) -> Result<(), AdminError> {
    let request = ChangeMembersRequest {
        base_index: base,
        members,
    };
    let change = async |mut node: AdminClient<Channel>| node.change_members(request).await;
    call(address, deadline, change).await.map(drop)
}

/// Has a node take a snapshot of what it has applied; returns when that is durable.
///
/// # Errors
/// It doesn't answer in time, or may not take one.
pub async fn take_snapshot(
    address: &str,
    deadline: Duration,
) -> Result<TakeSnapshotReply, AdminError> {
    call(address, deadline, async |mut node| {
        node.take_snapshot(TakeSnapshotRequest {}).await
    })
    .await
}

/// The state of a node as it comes in: see [`backup`].
pub struct Backup {
    pieces: tonic::Streaming<BackupPiece>,
    address: String,
}

impl Backup {
    /// The next piece, within `deadline`; `None` behind the last.
    ///
    /// # Errors
    /// The node gives up, or is silent.
    pub async fn next(&mut self, deadline: Duration) -> Result<Option<BackupPiece>, AdminError> {
        let silent = |cause: String| AdminError::Silent {
            address: self.address.clone(),
            cause,
        };
        match tokio::time::timeout(deadline, self.pieces.message()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(status)) => Err(match broken_off(&status) {
                Some(cause) => silent(cause),
                None => AdminError::Refused(status),
            }),
            Err(_) => Err(silent(format!(
                "nothing more within {} s",
                deadline.as_secs()
            ))),
        }
    }
}

/// Begins to take the state of a node, once that is the one after entry `not_before` or a later one.
///
/// # Errors
/// It doesn't answer, does not come so far, or is too busy.
pub async fn backup(
    address: &str,
    not_before: u64,
    deadline: Duration,
) -> Result<Backup, AdminError> {
    let request = BackupRequest {
        not_before_index: not_before,
    };
    let pieces = call(address, deadline, async |mut node| {
        node.backup(request).await
    })
    .await?;
    let address = address.to_owned();
    Ok(Backup { pieces, address })
}

async fn call<T>(
    address: &str,
    deadline: Duration,
    request: impl AsyncFnOnce(AdminClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, AdminError> {
    // Large: on the heap, it is moved through its wrappers as a pointer.
    let exchange = Box::pin(async { ask(address, connect(address).await?, request).await });
    within(address, deadline, exchange).await
}

async fn connect(address: &str) -> Result<Channel, AdminError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| silent(address, error.to_string()))?
        .tcp_nodelay(true);
    let connected = match security::of(address) {
        None => endpoint.connect().await,
        Some(_) => {
            let connector = tower::service_fn(connector::connect);
            endpoint.connect_with_connector(connector).await
        }
    };
    connected.map_err(|error| silent(address, root_cause(&error)))
}

async fn ask<T>(
    address: &str,
    channel: Channel,
    request: impl AsyncFnOnce(AdminClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, AdminError> {
    let answer = request(AdminClient::new(channel)).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| match broken_off(&status) {
            Some(cause) => silent(address, cause),
            None => AdminError::Refused(status),
        })
}

async fn within<T>(
    address: &str,
    deadline: Duration,
    exchange: impl Future<Output = Result<T, AdminError>>,
) -> Result<T, AdminError> {
    let in_time = tokio::time::timeout(deadline, exchange).await;
    in_time.unwrap_or_else(|_| {
        let cause = format!("not within {} ms", deadline.as_millis());
        Err(silent(address, cause))
    })
}

fn silent(address: &str, cause: String) -> AdminError {
    AdminError::Silent {
        address: address.to_owned(),
        cause: tunnel_trouble::explain(address, cause),
    }
}

/// Why no node has answered, where it is no node that says so: the connection broke on the way, as when
/// the process is killed.
fn broken_off(status: &tonic::Status) -> Option<String> {
    let is_of_a_node = !status.details().is_empty();
    match std::error::Error::source(status) {
        Some(source) if !is_of_a_node => Some(root_cause(source)),
        None if !is_of_a_node && status.code() == tonic::Code::Unavailable => {
            Some(status.message().to_owned())
        }
        _ => None,
    }
}

/// The last of a chain of causes: "Connection refused" rather than "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
