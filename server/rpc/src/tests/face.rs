//! What stands around the services: readiness, reflection, what is still to come, the end.

use proto::v1;
use proto::v1::event_service_client::EventServiceClient;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::{Server, refused, soon};

#[tokio::test]
async fn a_ready_server_says_that_it_serves_and_a_stopped_one_that_it_does_not() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "lictor.v1.KvService"] {
        let request = HealthCheckRequest { service: service.into() };
        let mut told = soon(health.watch(request)).await.unwrap().into_inner();
        let serving = async {
            while let Some(Ok(update)) = told.next().await {
                if update.status() == ServingStatus::Serving {
                    return true;
                }
            }
            false
        };
        assert!(soon(serving).await, "{service}");
    }
    let mut told = soon(health.watch(HealthCheckRequest::default())).await.unwrap().into_inner();
    assert_eq!(soon(told.next()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.stop.cancel();
    assert_eq!(soon(told.next()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn reflection_lists_every_service_of_the_contract() {
    let server = Server::start().await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers = soon(reflection.server_reflection_info(tokio_stream::once(request))).await.unwrap().into_inner();
    let answer = soon(answers.next()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("a list was asked for") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["Kv", "Catalog", "Health", "Watch", "Agent", "Status", "Operator", "Session", "Lock", "Event"] {
        let name = format!("lictor.v1.{name}Service");
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

#[tokio::test]
async fn a_snapshot_goes_out_and_comes_back_in_whatever_pieces() {
    let server = Server::start().await;
    let client = server.client().await;
    soon(client.kv().put("kept", vec![7; 300_000])).await.unwrap();
    let mut snapshot = soon(client.operator().save_snapshot(&Default::default())).await.unwrap();
    let mut file = Vec::new();
    while let Some(bytes) = soon(snapshot.next()).await.unwrap() {
        file.extend_from_slice(&bytes);
    }
    soon(client.kv().put("later", "1")).await.unwrap();
    let mut restore = client.operator().restore_snapshot("");
    for piece in file.chunks(70_001) {
        assert!(soon(restore.send(piece.to_vec().into())).await);
    }
    let restored = soon(restore.finish()).await.unwrap();
    assert_eq!(restored.snapshot_revision, snapshot.revision());
    assert!(restored.meta.unwrap().revision > snapshot.revision());
    assert_eq!(soon(client.kv().get("kept")).await.unwrap().value.unwrap().value.len(), 300_000);
    assert!(soon(client.kv().get("later")).await.unwrap().value.is_none());
    let mut cut = client.operator().restore_snapshot("");
    soon(cut.send(file[..file.len() / 2].to_vec().into())).await;
    let refused = soon(cut.finish()).await.unwrap_err();
    assert_eq!(refused.reason(), Some(v1::ErrorReason::InvalidSnapshot), "{refused}");
}

#[tokio::test]
async fn an_agent_without_gossip_says_so_instead_of_dropping_an_event() {
    let server = Server::start().await;
    let mut event = EventServiceClient::new(server.channel().await);
    let named = v1::EventServiceFireRequest { name: "deploy".into(), ..Default::default() };
    let status = soon(event.fire(named)).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "PRECONDITION_FAILED".to_owned()));
    assert!(status.message().contains("takes part in no pool"), "{}", status.message());
    let backwards = v1::EventServiceFireRequest { name: "deploy".into(), tag_filter: "blue".into(), ..Default::default() };
    assert_eq!(soon(event.fire(backwards)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn status_and_quorum_are_told() {
    let server = Server::start().await;
    let client = server.client().await;
    let leader = soon(client.status().leader()).await.unwrap();
    assert!(leader.meta.leader_known && leader.revision() > 0);
    assert_eq!(leader.value.expect("a quorum of one leads itself").node, "dev");
    assert_eq!(soon(client.status().peers()).await.unwrap().value.len(), 1);
    let limits = soon(client.status().limits()).await.unwrap();
    assert_eq!(limits.value_bytes_max, 512 * 1024);
    assert!(limits.request_bytes_max > limits.value_bytes_max);
    assert_eq!(soon(client.status().version()).await.unwrap().apis, ["lictor.v1"]);
    let quorum = soon(client.operator().raft_configuration(&Default::default())).await.unwrap().value;
    assert!(quorum.servers.len() == 1 && quorum.servers[0].leader && quorum.servers[0].voter);
}

#[tokio::test]
async fn a_stopped_server_ends_its_streams_and_then_itself() {
    let server = Server::start().await;
    let mut watches = v1::watch_service_client::WatchServiceClient::new(server.channel().await);
    let mut stream = soon(watches.watch(tokio_stream::pending())).await.unwrap().into_inner();
    server.stop.cancel();
    let status = soon(stream.message()).await.unwrap_err();
    assert_eq!(refused(&status), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
    drop((stream, watches));
    let Server { task, .. } = server;
    soon(task).await.unwrap().unwrap();
}
