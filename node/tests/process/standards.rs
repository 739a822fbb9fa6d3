//! What any gRPC client expects of any server.

use crate::cluster::Cluster;
use tokio_stream::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

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
        let service = service.to_owned();
        let reply = health.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(reply.into_inner().status(), ServingStatus::Serving);
    }
}

// A client that knows nothing finds every service and the description of each.
#[tokio::test]
async fn reflection() {
    let cluster = Cluster::start(1, &[]).await;
    let mut reflection = ServerReflectionClient::new(cluster.channel(1));
    let mut ask = async |message_request| {
        let request = ServerReflectionRequest {
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
    let names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    for name in [
        "raftkv.v1.Kv",
        "raftkv.v1.Classic",
        "raftkv.admin.v1.Admin",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
        let found = ask(MessageRequest::FileContainingSymbol(name.into())).await;
        assert!(
            matches!(found, MessageResponse::FileDescriptorResponse(_)),
            "{name}"
        );
    }
}
