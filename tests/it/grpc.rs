//! gRPC as a stranger meets it: reflection, health, refusals with their reasons, bounds.

use bytes::Bytes;
use harness::{Node, PATIENCE, Setup};
use lictor_client::{Client, ErrorReason, Options, PutOptions, ReadOptions, v1};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

const SERVICES: [&str; 10] = [
    "KvService",
    "CatalogService",
    "HealthService",
    "SessionService",
    "LockService",
    "EventService",
    "WatchService",
    "AgentService",
    "StatusService",
    "OperatorService",
];

async fn reflect(channel: Channel, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut answers = ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_without_our_files_can_list_and_describe_everything() {
    let node = Node::dev();
    let channel = node.client().await.channel();
    let listed = reflect(channel.clone(), MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    for service in SERVICES {
        let name = format!("lictor.v1.{service}");
        assert!(names.contains(&name), "`{name}` is not among {names:?}");
        let described = reflect(channel.clone(), MessageRequest::FileContainingSymbol(name.clone())).await;
        assert!(matches!(described, MessageResponse::FileDescriptorResponse(_)), "{name}: {described:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_in_the_standard_way() {
    let node = Node::dev();
    let mut health = HealthClient::new(node.client().await.channel());
    for service in ["", "lictor.v1.KvService", "lictor.v1.WatchService"] {
        let status = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "none".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_written_compared_listed_and_removed() {
    let node = Node::dev();
    let client = node.client().await;
    let kv = client.kv();
    let first = kv.put_with("k", "1", PutOptions::new().flags(7).if_absent()).await.unwrap();
    let entry = kv.get("k").await.unwrap().value.unwrap();
    assert_eq!((entry.value.as_ref(), entry.flags, entry.modify_index), (&b"1"[..], 7, first.value.modify_index));
    let refused = kv.put_with("k", "2", PutOptions::new().if_absent()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::FailedPrecondition, Some(ErrorReason::PreconditionFailed)));
    assert_eq!(refused.detail("modify_index"), Some(entry.modify_index.to_string().as_str()), "{refused}");
    kv.put_with("k", "2", PutOptions::new().if_modify_index(entry.modify_index)).await.unwrap();
    assert_eq!(kv.get("none").await.unwrap().value, None);

    for n in 0..2500 {
        kv.put(format!("many/{n:04}"), "x").await.unwrap();
    }
    let listed = kv.list("many/").await.unwrap().value;
    assert_eq!(listed.len(), 2500);
    assert!(listed.is_sorted_by_key(|entry| entry.key.clone()));
    assert_eq!(kv.keys("", "/").await.unwrap().value, ["k", "many/"].map(Bytes::from));
    assert_eq!(kv.delete_prefix("many/").await.unwrap().value, 2500);
    assert!(kv.delete("k").await.unwrap().value);
    assert!(!kv.delete("k").await.unwrap().value);
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_are_read_back_however_stale_one_reads() {
    let node = Node::dev();
    let client = node.client().await;
    for n in 0..50u32 {
        let written = client.kv().put("k", n.to_string()).await.unwrap();
        for read in [ReadOptions::linearizable(), ReadOptions::leased(), ReadOptions::stale().at_least(written.revision())] {
            let answer = client.kv().get_with("k", &read).await.unwrap();
            assert_eq!(answer.value.as_ref().unwrap().value, n.to_string(), "{read:?}");
            assert!(answer.meta.leader_known && answer.meta.applied_revision >= answer.revision());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_a_reason() {
    let node = Node::dev();
    let client = node.client().await;
    let limits = client.status().limits().await.unwrap();
    let large = vec![b'x'; limits.value_bytes_max as usize + 1];
    let long = vec![b'k'; limits.key_bytes_max as usize + 1];
    let elsewhere = ReadOptions::default().datacenter("mars");
    for (error, code, reason) in [
        (client.kv().put("k", large).await.unwrap_err(), Code::InvalidArgument, ErrorReason::ValueTooLarge),
        (client.kv().put(long, "v").await.unwrap_err(), Code::InvalidArgument, ErrorReason::KeyTooLong),
        (client.kv().put("", "v").await.unwrap_err(), Code::InvalidArgument, ErrorReason::InvalidArgument),
        (client.kv().get_with("k", &elsewhere).await.unwrap_err(), Code::NotFound, ErrorReason::UnknownDatacenter),
        (client.agent().deregister_service("none").await.unwrap_err(), Code::NotFound, ErrorReason::UnknownService),
        (client.agent().services("Colour = ").await.unwrap_err(), Code::InvalidArgument, ErrorReason::InvalidFilter),
    ] {
        assert_eq!((error.code(), error.reason()), (code, Some(reason)), "{error}");
    }
    let many = (0..=limits.txn_operations_max).fold(lictor_client::Txn::new(), |txn, n| txn.put(format!("k{n}"), "x"));
    let error = client.kv().txn(many).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::TxnTooManyOperations), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_to_come_says_so() {
    let node = Node::dev();
    let channel = node.client().await.channel();
    let chosen = v1::ListMembersRequest { filter: "Name == x".into(), ..Default::default() };
    let refused = v1::agent_service_client::AgentServiceClient::new(channel).list_members(chosen).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "NOT_IMPLEMENTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_and_the_agent_lives_on() {
    let node = Node::dev();
    let client = node.client().await;
    let limit = client.status().limits().await.unwrap().request_bytes_max as usize;
    let error = client.kv().put("k", vec![0u8; limit + 1024]).await.unwrap_err();
    assert!(matches!(error.code(), Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument), "{error}");
    client.kv().put("k", "small").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_in_both_forms() {
    let node = Node::dev();
    let options = Options { token: Some("some-token".into()), ..Options::default() };
    let client = Client::connect_with(node.addresses().grpc, options).await.unwrap();
    client.kv().put("k", "v").await.unwrap();
    let mut request = tonic::Request::new(v1::GetRequest { options: None, key: Bytes::from("k") });
    request.metadata_mut().insert("x-consul-token", "some-token".parse().unwrap());
    let mut kv = v1::kv_service_client::KvServiceClient::new(client.channel());
    assert!(kv.get(request).await.unwrap().into_inner().entry.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watches_share_a_stream_and_each_hears_its_own() {
    let node = Node::dev();
    let client = node.client().await;
    let limits = client.status().limits().await.unwrap();
    let watches = limits.watches_per_stream_max.min(1000);
    let (requests, stream) = tokio::sync::mpsc::channel(64);
    let mut watch = v1::watch_service_client::WatchServiceClient::new(client.channel());
    let mut answers = watch.watch(tokio_stream::wrappers::ReceiverStream::new(stream)).await.unwrap().into_inner();
    let feeder = tokio::spawn(async move {
        for id in 1..=watches {
            let target = Some(v1::WatchTarget { target: Some(v1::watch_target::Target::KvKey(format!("k{id}").into())) });
            let create = v1::WatchCreate { watch_id: id, target, skip_snapshot: true, ..v1::WatchCreate::default() };
            requests.send(v1::WatchRequest { request: Some(v1::watch_request::Request::Create(create)) }).await.unwrap();
        }
        requests
    });
    let mut created = 0;
    while created < watches {
        let message = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
        created += u64::from(matches!(message.event, Some(v1::watch_response::Event::Created(_))));
    }
    let _requests = feeder.await.unwrap();
    for id in [1, watches / 2, watches] {
        client.kv().put(format!("k{id}"), "x").await.unwrap();
        loop {
            let message = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
            match message.event {
                Some(v1::watch_response::Event::Changes(_)) => {
                    assert_eq!(message.watch_id, id);
                    break;
                }
                Some(v1::watch_response::Event::Bookmark(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_version_are_told() {
    let node = Setup::dev().config("limits { kv_max_value_size = 1048576 }").start();
    let limits = node.client().await.status().limits().await.unwrap();
    assert_eq!(limits.value_bytes_max, 1024 * 1024);
    let version = node.client().await.status().version().await.unwrap();
    assert!(version.apis.contains(&"lictor.v1".to_owned()), "{version:?}");
}
