//! The two servers: one for peers, one for clients and operators.

use super::admin::AdminService;
use super::classic::ClassicService;
use super::kv::KvService;
use super::limited::LimitedService;
use super::listen::Connections;
use super::refusal::no_such_service;
use super::{Front, Health, Listen};
use crate::peers::{self, RaftService};
use raftkv::admin::admin_server::SERVICE_NAME as ADMIN;
use raftkv::kv::classic_server::SERVICE_NAME as CLASSIC;
use raftkv::kv::kv_server::SERVICE_NAME as KV;
use raftkv::raft::raft_server::RaftServer;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::{Error, Server};
use tonic_health::pb::health_server::SERVICE_NAME as HEALTH;
use tonic_health::server::health_reporter;
use tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME as REFLECTION;
use tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME as REFLECTION_ALPHA;

/// What a connection may hold: what it sends and nobody reads yet, and calls at a time.
struct Width {
    window_bytes: u32,
    streams: u32,
}

/// For so many connections at a time, those that come first: room for a few large messages in flight,
/// also over a long way.
const WIDE_CONNECTIONS: usize = 256;
const WIDE: Width = Width {
    window_bytes: 1024 * 1024,
    streams: 1024,
};
/// For all others. Both together hold less than 512 MiB, whatever clients do.
const NARROW: Width = Width {
    window_bytes: 64 * 1024,
    streams: 64,
};
/// For peers, of which there are few: an append is a few MiB long.
const PEERS: Width = Width {
    window_bytes: 8 * 1024 * 1024,
    streams: 8,
};
/// Most bytes of the metadata of one call.
const HEADERS_BYTES_MAX: u32 = 8 * 1024;
/// A client that is gone without a word is noticed after these two, and gives its place back. For
/// one that never said a word, see `listen`.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves clients until `stop` is ready, then until they have their replies. With `reflection` they can
/// ask which services there are.
pub fn serve_clients<S: Future<Output = ()>>(
    front: &Arc<Front>,
    listen: Listen,
    reflection: bool,
    stop: S,
) -> Result<(Health, impl Future<Output = Result<(), Error>> + use<S>), ReflectionError> {
    let (reporter, health) = health_reporter();
    let mut routes = Routes::default()
        .add_service(LimitedService::new(
            front,
            KvService::server(Arc::clone(front)),
        ))
        .add_service(LimitedService::new(
            front,
            ClassicService::server(Arc::clone(front)),
        ))
        .add_service(LimitedService::new(
            front,
            AdminService::server(Arc::clone(front)),
        ))
        .add_service(LimitedService::new(front, health));
    if reflection {
        routes = routes
            .add_service(LimitedService::new(front, described().build_v1()?))
            // What many tools still ask: grpcurl until 1.8.6, Python's grpcio-reflection.
            .add_service(LimitedService::new(front, described().build_v1alpha()?));
    }
    let counting = Arc::clone(front);
    let router = std::mem::take(routes.axum_router_mut());
    *routes.axum_router_mut() = router.fallback(move || no_such_service(Arc::clone(&counting)));
    Ok((Health::new(reporter), serve_both(routes, listen, stop)))
}

/// What reflection tells: the services of this port, and how their errors are described. The one
/// between nodes is served on another port.
fn described() -> tonic_reflection::server::Builder<'static> {
    let services = [KV, CLASSIC, ADMIN, HEALTH, REFLECTION, REFLECTION_ALPHA];
    let files = [
        raftkv::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        tonic_types::pb::FILE_DESCRIPTOR_SET,
    ];
    let mut described = tonic_reflection::server::Builder::configure();
    for file in files {
        described = described.register_encoded_file_descriptor_set(file);
    }
    for service in services {
        described = described.with_service_name(service);
    }
    described
}

/// Serves wide and narrow connections alike.
async fn serve_both(
    routes: Routes,
    listen: Listen,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let Connections { wide, narrow } = listen.connections(WIDE_CONNECTIONS);
    let (close, closed) = watch::channel(());
    let serve = |width, connections| {
        let mut closed = closed.clone();
        server(width)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(connections, async move {
                // Closed, or nobody there any more to close it: the same.
                closed.changed().await.ok();
            })
    };
    let (wide, narrow) = (serve(WIDE, wide), serve(NARROW, narrow));
    let closing = async {
        stop.await;
        close.send_replace(());
        Ok(())
    };
    tokio::try_join!(wide, narrow, closing).map(|_| ())
}

/// The descriptors of the services are not what the reflection service expects.
pub type ReflectionError = tonic_reflection::server::Error;

/// Serves peers, for as long as the node runs.
pub fn serve_peers(
    service: RaftServer<RaftService>,
    listen: Listen,
) -> impl Future<Output = Result<(), Error>> {
    server(PEERS)
        .http2_keepalive_interval(Some(peers::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(peers::KEEPALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming(listen.connections(usize::from(u16::MAX)).wide)
}

fn server(width: Width) -> Server {
    Server::builder()
        .max_concurrent_streams(width.streams)
        .initial_stream_window_size(width.window_bytes)
        .initial_connection_window_size(width.window_bytes)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
}
