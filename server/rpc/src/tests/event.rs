//! Events over gRPC.

use lictor_client::{Client, EventStream};
use proto::v1;
use service::Limits;
use tonic::Code;

use super::{RpcOptions, Server, refused, soon};

async fn server() -> Server {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Server::serve(service::testing::dev_in_a_pool().await, RpcOptions::new(&Limits::default()), address).await
}

async fn fire(client: &Client, name: &str) -> v1::Event {
    let event = v1::EventServiceFireRequest { name: name.into(), payload: "x".into(), ..Default::default() };
    soon(client.events().fire(event)).await.unwrap()
}

async fn next(stream: &mut EventStream) -> (String, u64, bool) {
    let (event, gap) = soon(stream.next()).await.unwrap().expect("the stream goes on");
    (event.name, event.lamport_time, gap)
}

#[tokio::test]
async fn a_stream_tells_each_event_once_and_goes_on_after_the_last_one() {
    let server = server().await;
    let client = server.client().await;
    fire(&client, "before").await;
    let mut stream = soon(client.events().subscribe("", "", "")).await.unwrap();
    let first = fire(&client, "a").await;
    fire(&client, "b").await;
    assert_eq!([next(&mut stream).await, next(&mut stream).await], [("a".into(), 2, false), ("b".into(), 3, false)]);
    drop(stream);
    let last = fire(&client, "a").await;
    let mut stream = soon(client.events().subscribe("a", &first.id, "")).await.unwrap();
    fire(&client, "a").await;
    assert_eq!([next(&mut stream).await, next(&mut stream).await], [("a".into(), 4, false), ("a".into(), 5, false)]);
    let listed = soon(client.events().listed("", "")).await.unwrap();
    assert_eq!(listed.events.iter().map(|event| event.lamport_time).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(listed.last_id == listed.events[4].id && listed.events[3].id == last.id);
    let mut odd = v1::event_service_client::EventServiceClient::new(server.channel().await);
    let request = v1::EventServiceSubscribeRequest { after_id: "x".into(), ..Default::default() };
    assert_eq!(refused(&soon(odd.subscribe(request)).await.unwrap_err()).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_that_begins_after_a_forgotten_event_tells_of_the_gap() {
    let server = server().await;
    let client = server.client().await;
    let first = fire(&client, "a").await;
    for _ in 0..256 {
        fire(&client, "a").await;
    }
    let mut stream = soon(client.events().subscribe("", &first.id, "")).await.unwrap();
    assert_eq!(next(&mut stream).await, ("a".into(), 2, true), "the oldest that is kept");
    for ltime in 3..=257 {
        assert_eq!(next(&mut stream).await, ("a".into(), ltime, false));
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_size() {
    let server = server().await;
    let mut events = v1::event_service_client::EventServiceClient::new(server.channel().await);
    let large = v1::EventServiceFireRequest { name: "a".into(), payload: vec![0; 513].into(), ..Default::default() };
    let status = soon(events.fire(large)).await.unwrap_err();
    assert_eq!(refused(&status).1, "VALUE_TOO_LARGE");
    assert!(status.message().contains("at most 512"), "{}", status.message());
}
