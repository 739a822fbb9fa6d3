//! The gRPC calls of operators, each with a deadline of its own.
//!
//! Every call makes its own connection: an operator's verb talks to a node once or twice, and a
//! connection that is kept would have to be told apart from one to a node that has since died.

use std::time::Duration;

use raftkv::admin::admin_client::AdminClient;
use raftkv::admin::{
    CutLinksRequest, HealLinksRequest, StatusReply, StatusRequest, TransferLeadershipRequest,
};
use tonic::transport::{Channel, Endpoint};

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

async fn call<T>(
    address: &str,
    deadline: Duration,
    request: impl AsyncFnOnce(AdminClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, AdminError> {
    let silent = |cause: String| AdminError::Silent {
        address: address.to_owned(),
        cause,
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| silent(error.to_string()))?
        .tcp_nodelay(true);
    let exchange = async {
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| silent(root_cause(&error)))?;
        let answer = request(AdminClient::new(channel)).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| match status.code() {
                // The connection broke on the way, as when the process is killed.
                tonic::Code::Unavailable if status.details().is_empty() => {
                    silent(status.message().to_owned())
                }
                _ => AdminError::Refused(status),
            })
    };
    let in_time = tokio::time::timeout(deadline, exchange).await;
    in_time.unwrap_or_else(|_| Err(silent(format!("not within {} ms", deadline.as_millis()))))
}

/// The last of a chain of causes: "Connection refused" rather than "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
