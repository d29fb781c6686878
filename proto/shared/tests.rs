use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Iter, StreamExt, iter};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::v1::kv_service_client::KvServiceClient;
use crate::v1::kv_service_server::{KvService, KvServiceServer};
use crate::v1::watch_response::Event;
use crate::v1::watch_service_client::WatchServiceClient;
use crate::v1::watch_service_server::{WatchService, WatchServiceServer};
use crate::v1::{Change, Changes, Entry, KvServiceWatchResponse, WatchResponse, change};

/// Longer than anything here can take, so that a fault fails instead of hanging.
const DEADLINE: Duration = Duration::from_secs(10);

/// Value of the watched key: larger than the memory a call sets aside, so that it has to grow.
const VALUE: &[u8] = &[7; 100_000];

type Items<M> = Iter<std::vec::IntoIter<Result<Encoded<M>, Status>>>;

/// What is particular to one watch.
fn head(watch_id: u64) -> WatchResponse {
    WatchResponse {
        watch_id,
        cursor: Bytes::from_static(b"after"),
        previous_cursor: Bytes::from_static(b"before"),
        revision: 42,
        event: None,
    }
}

/// What all watches of a key are told.
fn event() -> Event {
    let entry = Entry { key: Bytes::from_static(b"a/key"), value: Bytes::from_static(VALUE), modify_index: 42, ..Entry::default() };
    let change = Change { change: Some(change::Change::KvPut(entry)) };
    Event::Changes(Changes { changes: vec![change], continued: false })
}

fn body() -> Bytes {
    let body = WatchResponse { event: Some(event()), ..WatchResponse::default() };
    body.encode_to_vec().into()
}

fn expected(watch_id: u64) -> WatchResponse {
    WatchResponse { event: Some(event()), ..head(watch_id) }
}

/// Answers every watch with a change, encoded once.
struct Watches;

#[tonic::async_trait]
impl WatchService for Watches {
    type WatchStream = Items<WatchResponse>;

    async fn watch(&self, request: Request<Streaming<v1::WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let body = body();
        let mut answers = Vec::new();
        while let Some(request) = requests.message().await? {
            let Some(v1::watch_request::Request::Create(create)) = request.request else {
                return Err(Status::invalid_argument("only creations are expected"));
            };
            answers.push(Ok(Encoded::joined(&head(create.watch_id), body.clone())));
        }
        Ok(Response::new(iter(answers)))
    }
}

/// Knows one key; what it is not asked for here it refuses.
struct OneKey;

#[tonic::async_trait]
impl KvService for OneKey {
    type ListStream = tokio_stream::Empty<Result<v1::ListResponse, Status>>;
    type WatchStream = Items<KvServiceWatchResponse>;

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let key = request.into_inner().key;
        let entry = Entry { key, value: Bytes::from_static(VALUE), ..Entry::default() };
        Ok(Response::new(v1::GetResponse { meta: None, entry: Some(entry) }))
    }

    async fn watch(&self, _: Request<v1::KvServiceWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let event = Encoded::joined(&head(0), body());
        Ok(Response::new(iter(vec![Ok(event.wrapped())])))
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        Err(Status::unimplemented("list"))
    }

    async fn put(&self, _: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        Err(Status::unimplemented("put"))
    }

    async fn delete(&self, _: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        Err(Status::unimplemented("delete"))
    }

    async fn delete_prefix(&self, _: Request<v1::DeletePrefixRequest>) -> Result<Response<v1::DeletePrefixResponse>, Status> {
        Err(Status::unimplemented("delete_prefix"))
    }

    async fn txn(&self, _: Request<v1::TxnRequest>) -> Result<Response<v1::TxnResponse>, Status> {
        Err(Status::unimplemented("txn"))
    }
}

/// Serves both on a free port of the loopback interface, as long as the runtime lives.
async fn serve() -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        Server::builder()
            .add_service(WatchServiceServer::new(Watches))
            .add_service(KvServiceServer::new(OneKey))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    format!("http://{address}")
}

fn create(watch_id: u64) -> v1::WatchRequest {
    let create = v1::WatchCreate { watch_id, ..v1::WatchCreate::default() };
    v1::WatchRequest { request: Some(v1::watch_request::Request::Create(create)) }
}

#[tokio::test]
async fn a_client_decodes_shared_bytes_as_the_message_they_stand_for() {
    let mut client = WatchServiceClient::connect(serve().await).await.unwrap();
    let requests = tokio_stream::iter([create(1), create(u64::MAX)]);
    let stream = client.watch(requests).await.unwrap().into_inner();

    let answers = stream.map(|answer| answer.unwrap()).collect::<Vec<_>>();
    let answers = timeout(DEADLINE, answers).await.unwrap();

    assert_eq!(answers, [expected(1), expected(u64::MAX)]);
}

#[tokio::test]
async fn a_simple_watch_wraps_the_same_bytes() {
    let mut client = KvServiceClient::connect(serve().await).await.unwrap();
    let request = v1::KvServiceWatchRequest::default();
    let mut stream = client.watch(request).await.unwrap().into_inner();

    let answer = timeout(DEADLINE, stream.message()).await.unwrap().unwrap();

    assert_eq!(answer, Some(KvServiceWatchResponse { event: Some(expected(0)) }));
}

#[tokio::test]
async fn ordinary_answers_go_through_the_same_codec() {
    let mut client = KvServiceClient::connect(serve().await).await.unwrap();
    let request = v1::GetRequest { key: Bytes::from_static(b"a/key"), ..Default::default() };

    let answer = timeout(DEADLINE, client.get(request)).await.unwrap().unwrap().into_inner();

    let entry = answer.entry.expect("the server knows every key");
    assert_eq!((&entry.key[..], &entry.value[..]), (&b"a/key"[..], VALUE));
}

#[test]
fn every_wrapper_holds_its_message_in_the_field_it_says() {
    let event = || Some(expected(0));
    let encoded = Encoded::joined(&head(0), body());
    fn bytes<M>(encoded: Encoded<M>) -> Vec<u8> {
        [encoded.head, encoded.body].concat()
    }

    let service = v1::WatchServiceResponse { event: event() };
    assert_eq!(bytes(encoded.clone().wrapped::<v1::WatchServiceResponse>()), service.encode_to_vec());
    let services = v1::WatchServicesResponse { event: event() };
    assert_eq!(bytes(encoded.clone().wrapped::<v1::WatchServicesResponse>()), services.encode_to_vec());
    let nodes = v1::WatchNodesResponse { event: event() };
    assert_eq!(bytes(encoded.clone().wrapped::<v1::WatchNodesResponse>()), nodes.encode_to_vec());
    assert_eq!(bytes(Encoded::whole(&expected(3))), expected(3).encode_to_vec());
}
