//! What any gRPC client expects of any server.

use crate::cluster::{Cluster, SOON};
use prost::Message;
use raftkv::admin::{CutLinksRequest, TransferLeadershipRequest};
use std::collections::BTreeMap;
use tokio_stream::StreamExt;
use tonic::Streaming;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::{v1, v1alpha};

fn request(service: &str) -> HealthCheckRequest {
    let service = service.to_owned();
    HealthCheckRequest { service }
}

// The health service says that the node serves, as a whole and by service.
#[tokio::test]
async fn health() {
    let cluster = Cluster::start(1, &[]).await;
    let mut health = HealthClient::new(cluster.channel(1));
    for service in [
        "",
        "raftkv.v1.Kv",
        "raftkv.v1.Classic",
        "raftkv.admin.v1.Admin",
    ] {
        let reply = health.check(request(service)).await.unwrap();
        assert_eq!(reply.into_inner().status(), ServingStatus::Serving);
    }
}

/// Watches the name that only a leader calls serving.
struct LeaderWatch(Streaming<HealthCheckResponse>);

impl LeaderWatch {
    async fn of(cluster: &Cluster, id: u64) -> Self {
        let mut health = HealthClient::new(cluster.channel(id));
        LeaderWatch(health.watch(request("leader")).await.unwrap().into_inner())
    }

    /// What the node says next. It says so by itself: nobody asks again.
    async fn next(&mut self) -> bool {
        let next = tokio::time::timeout(SOON, self.0.message()).await;
        let status = next.expect("news in time").unwrap().unwrap().status();
        status == ServingStatus::Serving
    }

    /// Waits until the node says so. It may have said the contrary on the way.
    async fn until(&mut self, leads: bool) {
        while self.next().await != leads {}
    }
}

// Who watches the name `leader` at every node learns who leads, as it changes: after a hand-over,
// after a stop, and when a leader has lost its lease.
#[tokio::test]
async fn the_leader_is_found_by_its_health() {
    let mut cluster = Cluster::start(3, &["--allow-fault-injection"]).await;
    let first = cluster.leader().await;
    let mut watches = BTreeMap::new();
    for id in cluster.ids() {
        let mut watch = LeaderWatch::of(&cluster, id).await;
        watch.until(id == first).await;
        watches.insert(id, watch);
    }
    let second = cluster.others(first)[0];
    let transfer = TransferLeadershipRequest { target_id: second };
    let mut admin = cluster.admin(first);
    let transferred = admin.transfer_leadership(transfer).await;
    assert_eq!(transferred.unwrap().into_inner().leader_id, second);
    watches.get_mut(&first).unwrap().until(false).await;
    watches.get_mut(&second).unwrap().until(true).await;

    cluster.signal(second, rustix::process::Signal::TERM);
    watches.get_mut(&second).unwrap().until(false).await;
    cluster.ended(second).await;
    let two = cluster.others(second);
    let last = cluster.leader_among(&two).await;
    watches.get_mut(&last).unwrap().until(true).await;

    let cut = CutLinksRequest {
        peer_ids: cluster.others(last),
        for_ms: 60_000,
    };
    cluster.admin(last).cut_links(cut).await.unwrap();
    watches.get_mut(&last).unwrap().until(false).await;
}

// A node says that it does not lead from the moment that it can be asked.
#[tokio::test]
async fn a_node_without_a_leader_says_so() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    let mut watch = crate::cluster::eventually("an open port", async || {
        let mut health = HealthClient::new(cluster.channel(1));
        match health.watch(request("leader")).await {
            Ok(watch) => Some(LeaderWatch(watch.into_inner())),
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
                None
            }
        }
    })
    .await;
    assert!(!watch.next().await);
}

const SERVICES: [&str; 6] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "raftkv.admin.v1.Admin",
    "raftkv.v1.Classic",
    "raftkv.v1.Kv",
];

// A client that knows nothing finds every service of the port, and no other, and the description of
// each and of its errors, with all files that it needs.
#[tokio::test]
async fn reflection() {
    use v1::server_reflection_client::ServerReflectionClient;
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let cluster = Cluster::start(1, &[]).await;
    let mut reflection = ServerReflectionClient::new(cluster.channel(1));
    let mut ask = async |message_request| {
        let request = v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        let replies = reflection
            .server_reflection_info(tokio_stream::once(request))
            .await;
        let reply = replies.unwrap().into_inner().next().await.unwrap().unwrap();
        reply.message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("services were asked for");
    };
    let mut names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    names.sort();
    assert_eq!(names, SERVICES);
    let symbols = SERVICES.into_iter().chain(["google.rpc.ErrorInfo"]);
    let symbols = symbols.map(|symbol| MessageRequest::FileContainingSymbol(symbol.into()));
    let mut wanted: Vec<_> = symbols.collect();
    let mut known = Vec::new();
    while let Some(asked) = wanted.pop() {
        let MessageResponse::FileDescriptorResponse(found) = ask(asked.clone()).await else {
            panic!("{asked:?} is not described");
        };
        for file in found.file_descriptor_proto {
            let file = prost_types::FileDescriptorProto::decode(&*file).unwrap();
            for name in file.dependency {
                if !known.contains(&name) {
                    known.push(name.clone());
                    wanted.push(MessageRequest::FileByFilename(name));
                }
            }
        }
    }
}

// The older version of the same, for tools that ask for nothing else.
#[tokio::test]
async fn reflection_of_before() {
    use v1alpha::server_reflection_client::ServerReflectionClient;
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let cluster = Cluster::start(1, &[]).await;
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(cluster.channel(1));
    let replies = reflection.server_reflection_info(tokio_stream::once(request));
    let mut replies = replies.await.unwrap().into_inner();
    let reply = replies.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else {
        panic!("services were asked for");
    };
    let mut names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    names.sort();
    assert_eq!(names, SERVICES);
}
