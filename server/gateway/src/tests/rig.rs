//! A gateway on a port of its own, and a client that hides nothing.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use service::Service;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::{GatewayOptions, ServeLimits, router, serve};

/// How long anything in a test may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Rig {
    pub(super) address: SocketAddr,
    pub(super) service: Service,
    pub(super) stop: CancellationToken,
    pub(super) task: AbortOnDropHandle<()>,
}

pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Got {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in `{}`", self.text()))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn index(&self) -> u64 {
        self.header("x-consul-index").parse().unwrap()
    }

    /// Status and text, for refusals.
    pub(super) fn told(&self) -> (u16, &str) {
        (self.status.as_u16(), self.text())
    }
}

impl Rig {
    pub(super) async fn start() -> Rig {
        Rig::with(GatewayOptions::default()).await
    }

    pub(super) async fn with(options: GatewayOptions) -> Rig {
        Rig::over(service::testing::dev().await, options).await
    }

    pub(super) async fn over(service: Service, options: GatewayOptions) -> Rig {
        registered(&service).await;
        let listener = net::Network::host().listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_address().unwrap();
        let stop = CancellationToken::new();
        let router = router(service.clone(), options);
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, router, ServeLimits::default(), stop.clone())));
        Rig { address, service, stop, task }
    }

    /// Sends a request and returns the answer with its body still on the way.
    pub(super) async fn open(&self, request: Request<Body>) -> http::Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Got {
        let exchange = async {
            let (parts, body) = self.open(request).await.into_parts();
            Got { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
        };
        tokio::time::timeout(DEADLINE, exchange).await.expect("an answer in time")
    }

    pub(super) async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> Got {
        self.send(Request::builder().method(method).uri(path).header("host", "x").body(body.into()).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Got {
        self.ask(Method::GET, path, Body::empty()).await
    }

    pub(super) async fn get_with(&self, path: &str, header: &str, value: &str) -> Got {
        self.send(Request::builder().uri(path).header(header, value).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn put(&self, path: &str, body: impl Into<Body>) -> Got {
        self.ask(Method::PUT, path, body).await
    }

    pub(super) async fn delete(&self, path: &str) -> Got {
        self.ask(Method::DELETE, path, Body::empty()).await
    }

    /// Writes that must succeed with `true`.
    pub(super) async fn put_true(&self, path: &str, body: impl Into<Body>) {
        let got = self.put(path, body).await;
        assert_eq!(got.told(), (200, "true"), "{path}");
    }

    /// Waits until `count` queries or watches wait for a change.
    pub(super) async fn watchers(&self, count: usize) {
        let wait = async {
            while self.service.watchers() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("the watchers in time");
    }
}

/// Waits until the agent has written its own node to the catalog, so that no test meets that write
/// by chance.
async fn registered(service: &Service) {
    let (caller, options) = (service::Caller::default(), service::ReadOptions::default());
    let wait = async {
        let mut index = state::LogIndex(1);
        loop {
            let blocking = service::Blocking { index, wait: DEADLINE };
            let answer = service.catalog_node(&caller, &options, Some(blocking), "dev").await.unwrap();
            if answer.value.is_some() {
                break;
            }
            index = answer.meta.index;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the agent's node in time");
}
