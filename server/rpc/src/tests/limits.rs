//! What bad input gets: a clear refusal, and everybody else is served on.

use lictor_client::{Client, ErrorReason, Options};
use proto::v1;
use proto::v1::kv_service_client::KvServiceClient;
use service::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Request};

use super::{Server, refused, soon};

#[tokio::test]
async fn what_is_too_large_is_refused_with_the_limit() {
    let server = Server::start().await;
    let client = server.client().await;
    let value = vec![0; 512 * 1024 + 1];
    let error = soon(client.kv().put("a", value)).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::InvalidArgument, Some(ErrorReason::ValueTooLarge)));
    assert_eq!(error.detail("limit"), Some("524288"));
    let error = soon(client.kv().put("k".repeat(2000), "v")).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::KeyTooLong));
    let error = soon(client.kv().get("")).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::InvalidArgument));
    soon(client.kv().put("a", vec![0; 512 * 1024])).await.unwrap();
}

#[tokio::test]
async fn a_message_beyond_all_bounds_ends_its_call_only() {
    let server = Server::start().await;
    let mut raw = KvServiceClient::new(server.channel().await);
    let huge = v1::PutRequest { key: "a".into(), value: vec![0; 8 * 1024 * 1024].into(), ..Default::default() };
    assert_eq!(soon(raw.put(huge)).await.unwrap_err().code(), Code::OutOfRange);
    let small = v1::PutRequest { key: "a".into(), value: "v".into(), ..Default::default() };
    soon(raw.put(small)).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_message_end_their_call_only() {
    let server = Server::start().await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    // A key whose length says more than there is, sent as the health service's message, which has a
    // field of the same shape.
    let codec = tonic_prost::ProstCodec::<v1::DeregisterServiceRequest, v1::GetResponse>::default();
    let path = "/lictor.v1.KvService/Get".parse().unwrap();
    let nonsense = v1::DeregisterServiceRequest { service_id: "not read options".into() };
    let error = soon(grpc.unary(Request::new(nonsense), path, codec)).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    soon(server.client().await.kv().get("a")).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_not_http_close_their_connection_only() {
    let server = Server::start().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n and more that no server of this protocol understands").await.unwrap();
    let mut rest = Vec::new();
    // Whatever it says, it must end.
    let _ = soon(socket.read_to_end(&mut rest)).await;
    soon(server.client().await.kv().get("a")).await.unwrap();
}

#[tokio::test]
async fn a_value_that_no_enum_has_is_refused() {
    let server = Server::start().await;
    let mut raw = KvServiceClient::new(server.channel().await);
    let options = Some(v1::ReadOptions { consistency: 99, ..Default::default() });
    let request = v1::GetRequest { options, key: "a".into() };
    assert_eq!(refused(&soon(raw.get(request)).await.unwrap_err()), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
}

#[tokio::test]
async fn a_token_may_be_given_and_another_scheme_is_refused() {
    let server = Server::start().await;
    let options = Options { token: Some("secret".into()), ..Default::default() };
    let client = Client::connect_with(server.address, options).await.unwrap();
    soon(client.kv().get("a")).await.unwrap();
    let mut raw = KvServiceClient::new(server.channel().await);
    let mut request = Request::new(v1::GetRequest { key: "a".into(), ..Default::default() });
    request.metadata_mut().insert("authorization", "Basic abc".parse().unwrap());
    assert_eq!(soon(raw.get(request)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_room_is_found_again() {
    let server = Server::start_with(Limits::default(), |options| options.max_connections = 1).await;
    let first = server.channel().await;
    let mut kv = KvServiceClient::new(first);
    let get = || v1::GetRequest { key: "a".into(), ..Default::default() };
    soon(kv.get(get())).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let mut nothing = Vec::new();
    soon(second.read_to_end(&mut nothing)).await.unwrap();
    assert!(nothing.is_empty());
    drop(kv);
    let found = async {
        loop {
            let client = Client::lazy(server.address, Options { connections: 1, ..Default::default() }).unwrap();
            if client.kv().get("a").await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(found).await;
}
