//! Streams between datacenters: each goes where its first message says, by way of any agent.

use bytes::Bytes;
use harness::{Node, PATIENCE, eventually};
use lictor_client::{PutOptions, v1};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use v1::session_service_client::SessionServiceClient;
use v1::session_service_keep_alive_response::State;
use v1::watch_response::Event;
use v1::watch_service_client::WatchServiceClient;

use crate::cluster::fleet::Fleet;

/// Two datacenters of one server each, the first with an agent without a log as well.
async fn federated() -> (Fleet, Fleet) {
    let one = Fleet::start("dc1", 1, 1);
    let two = Fleet::start("dc2", 1, 0);
    one.meet(&two);
    for node in one.nodes() {
        let client = node.client().await;
        let there = PutOptions::new().datacenter("dc2");
        eventually!(
            PATIENCE,
            client.kv().put_with("ready", "yes", there.clone()).await,
            "dc2 is reached by way of `{}`",
            node.addresses().grpc
        );
    }
    (one, two)
}

fn watch(watch_id: u64, key: &str, datacenter: &str) -> v1::WatchRequest {
    let target = Some(v1::WatchTarget { target: Some(v1::watch_target::Target::KvKey(Bytes::copy_from_slice(key.as_bytes()))) });
    let options = Some(v1::ReadOptions { datacenter: datacenter.into(), ..Default::default() });
    let create = v1::WatchCreate { watch_id, target, options, ..Default::default() };
    v1::WatchRequest { request: Some(v1::watch_request::Request::Create(create)) }
}

/// The next thing that a watch is told.
async fn told(answers: &mut Streaming<v1::WatchResponse>) -> (u64, Event) {
    loop {
        let message = timeout(PATIENCE, answers.message()).await.expect("an answer in time").unwrap().expect("the stream goes on");
        match message.event {
            Some(Event::Bookmark(_)) | None => {}
            Some(event) => return (message.watch_id, event),
        }
    }
}

async fn begun(answers: &mut Streaming<v1::WatchResponse>, watch_id: u64) {
    loop {
        let (id, event) = told(answers).await;
        assert_eq!(id, watch_id);
        match event {
            Event::Created(_) | Event::Snapshot(_) => {}
            Event::SnapshotEnd(_) => return,
            other => panic!("{other:?}"),
        }
    }
}

async fn changed(answers: &mut Streaming<v1::WatchResponse>, watch_id: u64, value: &str) {
    let (id, event) = told(answers).await;
    let Event::Changes(v1::Changes { changes, .. }) = event else { panic!("{event:?}") };
    let [v1::Change { change: Some(v1::change::Change::KvPut(entry)) }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((id, &entry.value[..]), (watch_id, value.as_bytes()));
}

async fn watches_are_in_one_datacenter(node: &Node, there: &Node, key: &str) {
    let mut stub = WatchServiceClient::new(node.client().await.channel());
    let (requests, queue) = mpsc::channel(4);
    // The call is answered although nobody knows yet where it belongs.
    let calling = timeout(PATIENCE, stub.watch(ReceiverStream::new(queue))).await.expect("the answer begins");
    let mut answers = calling.unwrap().into_inner();
    requests.send(watch(1, key, "dc2")).await.unwrap();
    begun(&mut answers, 1).await;
    assert_eq!(node.put(&format!("/v1/kv/{key}"), "here").status, 200, "dc1 has a key of that name as well");
    assert_eq!(there.put(&format!("/v1/kv/{key}"), "over there").status, 200);
    changed(&mut answers, 1, "over there").await;

    requests.send(watch(2, key, "dc1")).await.unwrap();
    let (id, event) = told(&mut answers).await;
    let Event::Cancelled(v1::Cancelled { refusal: Some(refusal) }) = event else { panic!("{event:?}") };
    assert_eq!((id, refusal.reason()), (2, v1::ErrorReason::InvalidArgument));
    assert!(refusal.message.contains("`dc2`") && refusal.message.contains("open a stream for each datacenter"), "{refusal:?}");

    requests.send(watch(3, key, "")).await.unwrap();
    begun(&mut answers, 3).await;
    assert_eq!(there.put(&format!("/v1/kv/{key}"), "again").status, 200);
    for _ in [1, 3] {
        let (_, event) = told(&mut answers).await;
        assert!(matches!(event, Event::Changes(_)), "who names no datacenter means that of the stream: {event:?}");
    }

    let (requests, queue) = mpsc::channel(4);
    requests.send(watch(1, key, "dc9")).await.unwrap();
    let refused = match stub.watch(ReceiverStream::new(queue)).await {
        Ok(answers) => timeout(PATIENCE, answers.into_inner().message()).await.expect("an answer in time").unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    assert!(refused.message().contains("`dc9`") && refused.message().contains("dc2"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_watches_goes_to_the_datacenter_that_its_first_message_names() {
    let (one, two) = federated().await;
    for (at, node) in one.nodes().enumerate() {
        watches_are_in_one_datacenter(node, &two.servers[0], &format!("watched/{at}")).await;
    }
}

fn renewal(session_id: &str, datacenter: &str) -> v1::SessionServiceKeepAliveRequest {
    let options = Some(v1::WriteOptions { datacenter: datacenter.into() });
    v1::SessionServiceKeepAliveRequest { session_id: session_id.to_owned(), options }
}

async fn sessions_are_in_one_datacenter(node: &Node) {
    let mut stub = SessionServiceClient::new(node.client().await.channel());
    let create = v1::SessionServiceCreateRequest {
        options: Some(v1::WriteOptions { datacenter: "dc2".into() }),
        node: "dc2-server-0".into(),
        ..Default::default()
    };
    let id = stub.create(create).await.unwrap().into_inner().session.expect("it was made").id;
    let (requests, queue) = mpsc::channel(4);
    let calling = timeout(PATIENCE, stub.keep_alive(ReceiverStream::new(queue))).await.expect("the answer begins");
    let mut answers = calling.unwrap().into_inner();
    for datacenter in ["dc2", ""] {
        requests.send(renewal(&id, datacenter)).await.unwrap();
        let answer = timeout(PATIENCE, answers.message()).await.expect("an answer in time").unwrap().expect("the stream goes on");
        assert!(matches!(answer.state, Some(State::Renewed(_))), "{answer:?}");
    }
    requests.send(renewal(&id, "dc1")).await.unwrap();
    let refused = timeout(PATIENCE, answers.message()).await.expect("an answer in time").unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("open a stream for each datacenter"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_renewals_goes_to_the_datacenter_that_its_first_message_names() {
    let (one, _two) = federated().await;
    for node in one.nodes() {
        sessions_are_in_one_datacenter(node).await;
    }
}
