//! Tells the other nodes that a run of a node has ended.

use super::greeting;
use super::outgoing::CONNECT_TIMEOUT;
use super::trouble::Lost;
use crate::convert;
use crate::raft::{NodeId, Run};
use crate::tls::Tls;
use raftkv::raft as wire;
use raftkv::raft::raft_client::RaftClient;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;
use tonic::{Code, Request};

/// A peer that can't be reached is tried again after this time.
const RETRY: Duration = Duration::from_millis(50);

/// What is said, and by whom.
#[derive(Clone, Debug)]
pub struct Testimony {
    /// The run that has ended.
    pub run: Run,
    /// The name of its cluster.
    pub cluster: String,
    /// The cluster's id; 0: it had none.
    pub cluster_id: u128,
}

/// Tells all of these peers at once, each until it has heard. Whoever can't be reached within this time
/// waits out what it has promised.
pub async fn testify(
    testimony: &Arc<Testimony>,
    peers: &BTreeMap<NodeId, String>,
    tls: Option<&Arc<Tls>>,
    patience: Duration,
) {
    let mut told = JoinSet::new();
    for (peer, address) in peers {
        let (testimony, peer, address) = (Arc::clone(testimony), *peer, address.clone());
        let tls = tls.cloned();
        told.spawn(timeout(patience, async move {
            while let Err(lost) = tell(&testimony, peer, &address, tls.as_ref()).await {
                if is_final(&lost) {
                    return;
                }
                sleep(RETRY).await;
            }
        }));
    }
    while told.join_next().await.is_some() {}
}

/// The peer has heard, and is of a version that knows nothing of this, or takes it from nobody.
fn is_final(lost: &Lost) -> bool {
    let codes = [
        Code::Unimplemented,
        Code::PermissionDenied,
        Code::InvalidArgument,
    ];
    matches!(lost, Lost::Status(status) if codes.contains(&status.code()))
}

async fn tell(
    testimony: &Testimony,
    peer: NodeId,
    address: &str,
    tls: Option<&Arc<Tls>>,
) -> Result<(), Lost> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    let channel = match tls {
        None => endpoint.connect().await?,
        Some(tls) => {
            let dial = tls.dial(peer, CONNECT_TIMEOUT);
            endpoint.connect_with_connector(dial).await?
        }
    };
    let mut request = Request::new(wire::Testimony {
        ended: Some(convert::run_to_wire(&testimony.run)),
    });
    let (cluster, cluster_id) = (&testimony.cluster, testimony.cluster_id);
    greeting::write_cluster(cluster, cluster_id, request.metadata_mut())?;
    RaftClient::new(channel).testify(request).await?;
    Ok(())
}
