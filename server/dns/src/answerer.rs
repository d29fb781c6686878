//! What answers questions: those from sockets, and those in HTTP requests (RFC 8484), from agents that
//! hold no catalog. Its options can be replaced while it answers.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use forward::Forward;
use net::Network;
use service::Service;

use crate::handler::{Handler, Outcome};
use crate::limits::Transport;
use crate::options::DnsOptions;

/// Where questions are posted to.
pub const PATH: &str = "/dns-query";

/// Tells what the asking program's answer has to fit into: `udp` or `tcp`.
pub(crate) const TRANSPORT: &str = "x-lictor-transport";

/// Largest question, in bytes.
const QUESTION_MAX: usize = 64 << 10;

/// Answers questions, those from sockets and those that were carried here. Cheap to clone.
#[derive(Clone)]
pub struct Answerer {
    handler: Arc<ArcSwap<Handler>>,
    service: Service,
    forward: Option<Forward>,
    network: Network,
}

impl Answerer {
    /// Answers from `service`, and has servers of other datacenters answer for theirs. Recursors are
    /// asked over `network`.
    pub fn new(service: Service, options: DnsOptions, forward: Option<Forward>, network: Network) -> Self {
        let handler = Handler::new(service.clone(), options, forward.clone(), network.clone());
        Answerer { handler: Arc::new(ArcSwap::from_pointee(handler)), service, forward, network }
    }

    /// Answers as `options` say from the next question on. Bounds on connections stay as they are.
    pub fn set_options(&self, options: DnsOptions) {
        self.handler.store(Arc::new(Handler::new(self.service.clone(), options, self.forward.clone(), self.network.clone())));
    }

    /// What answers now.
    pub(crate) fn handler(&self) -> Arc<Handler> {
        self.handler.load_full()
    }

    /// Answers one request. What can't be answered is an empty answer with a status.
    pub async fn answer<B>(&self, request: http::Request<B>) -> http::Response<http_body_util::Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        use http_body_util::{BodyExt, Limited};
        let udp = request.headers().get(TRANSPORT).is_some_and(|value| value == "udp");
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let hops = forward::hops(request.headers());
        let Ok(question) = Limited::new(Box::pin(request.into_body()), QUESTION_MAX).collect().await else {
            return status(http::StatusCode::BAD_REQUEST);
        };
        let source = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut reply = Vec::new();
        let handler = self.handler();
        match handler.answer_carried(&question.to_bytes(), source, (transport, hops), &mut reply) {
            Outcome::Replied => {}
            Outcome::Ignored => return status(http::StatusCode::BAD_REQUEST),
            Outcome::Pending(pending) => handler.wait(*pending, &mut reply).await,
        }
        http::Response::new(http_body_util::Full::new(reply.into()))
    }
}

fn status(status: http::StatusCode) -> http::Response<http_body_util::Full<Bytes>> {
    let mut response = http::Response::new(http_body_util::Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
