//! Questions in HTTP requests (RFC 8484), from agents that hold no catalog.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use forward::Forward;
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

/// Answers questions that were carried here. Cheap to clone.
#[derive(Clone)]
pub struct Answerer {
    handler: Arc<Handler>,
}

impl Answerer {
    /// Answers from `service`, and has servers of other datacenters answer for theirs.
    pub fn new(service: Service, options: DnsOptions, forward: Option<Forward>) -> Self {
        Answerer { handler: Arc::new(Handler::new(service, options, forward)) }
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
        let Ok(question) = Limited::new(Box::pin(request.into_body()), QUESTION_MAX).collect().await else {
            return status(http::StatusCode::BAD_REQUEST);
        };
        let source = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut reply = Vec::new();
        match self.handler.answer(&question.to_bytes(), source, transport, &mut reply) {
            Outcome::Replied => {}
            Outcome::Ignored => return status(http::StatusCode::BAD_REQUEST),
            Outcome::Pending(pending) => self.handler.wait(*pending, &mut reply).await,
        }
        http::Response::new(http_body_util::Full::new(reply.into()))
    }
}

fn status(status: http::StatusCode) -> http::Response<http_body_util::Full<Bytes>> {
    let mut response = http::Response::new(http_body_util::Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
