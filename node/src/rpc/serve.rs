//! The two servers: one for peers, one for clients and operators.

use super::admin::AdminService;
use super::classic::ClassicService;
use super::kv::KvService;
use super::room::Roomed;
use super::{Front, Listen};
use crate::peers::{self, RaftService};
use raftkv::admin::admin_server::SERVICE_NAME as ADMIN;
use raftkv::kv::classic_server::SERVICE_NAME as CLASSIC;
use raftkv::kv::kv_server::SERVICE_NAME as KV;
use raftkv::raft::raft_server::RaftServer;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Error, Server};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

/// Most calls of one connection at a time.
const STREAMS_MAX: u32 = 1024;
/// A client that is gone without a word is noticed after these two, and gives its place back. For
/// one that never said a word, see `listen`.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for a few large messages in flight, in each direction.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// What the health service says of this node.
#[derive(Clone, Debug, Default)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Sets what is said of the node as a whole and of each service for clients.
    pub async fn set_serving(&self, serving: bool) {
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for service in ["", KV, CLASSIC, ADMIN] {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

/// Serves clients until `stop` is ready, then until they have their replies.
pub fn serve_clients<S: Future<Output = ()>>(
    front: &Arc<Front>,
    listen: Listen,
    stop: S,
) -> Result<(Health, impl Future<Output = Result<(), Error>> + use<S>), ReflectionError> {
    let (reporter, health) = health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(raftkv::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let serving = server()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(Roomed::new(front, KvService::server(Arc::clone(front))))
        .add_service(Roomed::new(
            front,
            ClassicService::server(Arc::clone(front)),
        ))
        .add_service(Roomed::new(front, AdminService::server(Arc::clone(front))))
        .add_service(Roomed::new(front, health))
        .add_service(Roomed::new(front, reflection))
        .serve_with_incoming_shutdown(listen.connections(), stop);
    Ok((Health { reporter }, serving))
}

/// The descriptors of the services are not what the reflection service expects.
pub type ReflectionError = tonic_reflection::server::Error;

/// Serves peers, for as long as the node runs.
pub fn serve_peers(
    service: RaftServer<RaftService>,
    listen: Listen,
) -> impl Future<Output = Result<(), Error>> {
    server()
        .http2_keepalive_interval(Some(peers::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(peers::KEEPALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming(listen.connections())
}

fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}
