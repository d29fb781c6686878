//! Requests for whom holds the answer: from an agent without a log to a server, and from one
//! datacenter to another.
//!
//! A request goes as it came, over HTTP/2 to the server's own port, where every face is served: HTTP
//! requests, gRPC calls with their streams, and DNS questions (RFC 8484). Nothing is taken apart on
//! the way, so an agent in between never has to know what it carries.
//!
//! Which servers there are is told by gossip. One of them is kept for a few minutes, so that
//! connections stay few and the servers' load even; when it fails the next one is asked at once. A
//! request is sent again only if it is certain that the first server never got it.
//!
//! A server that dies is told by its connection, at once. One that hangs is told by its silence: it
//! is asked last for a while.

mod connection;
mod error;
mod servers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use metrics::counter;
use parking_lot::Mutex;

use connection::{Connections, Failed};
pub use error::Error;
use servers::Servers;

/// What a request carries.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Counts how often a request was carried.
pub const HOPS: HeaderName = HeaderName::from_static("x-lictor-hops");

/// The node of the agent that a request came to first.
pub const AGENT: HeaderName = HeaderName::from_static("x-lictor-agent");

/// The datacenter that a gRPC call is for.
pub const DATACENTER: HeaderName = HeaderName::from_static("x-lictor-datacenter");

/// A request may go from an agent to its server, from there to another datacenter, and there to the
/// leader. More means that two servers send it back and forth.
const HOPS_MAX: u32 = 3;

/// How long one server is kept, at least; up to half as long is added by chance.
const KEEP: Duration = Duration::from_secs(120);

/// How long it is remembered whether there are other datacenters: every call asks.
const FEDERATED_LOOK: Duration = Duration::from_secs(1);

/// How long the answer to a request may take that waits for nothing: longer than a server itself waits
/// for a leader, or for a quorum that changes.
pub const ANSWER: Duration = Duration::from_secs(20);

/// How long a server that was silent is asked last.
const SILENT: Duration = Duration::from_secs(10);

/// Carries requests. Clones share connections and choices.
#[derive(Clone)]
pub struct Forward {
    shared: Arc<Shared>,
}

struct Shared {
    servers: Servers,
    connections: Connections,
    chosen: Mutex<HashMap<String, (String, Instant)>>,
    /// Servers that were silent, and until when they are asked last.
    silent: Mutex<HashMap<String, Instant>>,
    /// Whether there are other datacenters, and when that was looked up.
    federated: Mutex<Option<(bool, Instant)>>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("datacenter", &self.shared.servers.datacenter).finish_non_exhaustive()
    }
}

impl Forward {
    /// Carries to the servers that `lan` and, on servers, `wan` know. `datacenter` is the own one.
    pub fn new(datacenter: &str, network: net::Network, lan: gossip::Pool, wan: Option<gossip::Pool>) -> Self {
        let servers = Servers { datacenter: datacenter.to_owned(), lan, wan };
        Forward {
            shared: Arc::new(Shared {
                servers,
                connections: Connections::new(network),
                chosen: Mutex::default(),
                silent: Mutex::default(),
                federated: Mutex::default(),
            }),
        }
    }

    /// Whether a server of the own datacenter is known.
    pub fn has_servers(&self) -> bool {
        !self.shared.servers.of(&self.shared.servers.datacenter).is_empty()
    }

    /// Whether there are other datacenters, as of a moment ago.
    pub fn is_federated(&self) -> bool {
        let mut federated = self.shared.federated.lock();
        match *federated {
            Some((federated, at)) if at.elapsed() < FEDERATED_LOOK => federated,
            _ => {
                let now = self.shared.servers.datacenters().len() > 1;
                *federated = Some((now, Instant::now()));
                now
            }
        }
    }

    /// Whether a datacenter is known, be it reachable or not.
    pub fn knows(&self, datacenter: &str) -> bool {
        self.shared.servers.datacenters().iter().any(|name| name == datacenter)
    }

    /// The addresses of the own datacenter's servers, the one that is kept first.
    pub fn servers(&self) -> Vec<String> {
        self.order(&self.shared.servers.datacenter)
    }

    /// Carries a request to a server of `datacenter`, or of the own one. With `patience` its answer has
    /// to begin within that time.
    pub async fn carry(
        &self,
        datacenter: Option<&str>,
        request: Request<Body>,
        patience: Option<Duration>,
    ) -> Result<Response<Incoming>, Error> {
        let own = self.shared.servers.datacenter.as_str();
        let datacenter = datacenter.filter(|name| !name.is_empty()).unwrap_or(own);
        let candidates = self.order(datacenter);
        if candidates.is_empty() {
            return Err(self.shared.servers.why_none(datacenter));
        }
        self.try_each(datacenter, &candidates, request, patience).await
    }

    /// Carries a request to the server of the own datacenter at `address`, with `patience` as
    /// [`Forward::carry`] has it.
    pub async fn carry_to(&self, address: &str, request: Request<Body>, patience: Option<Duration>) -> Result<Response<Incoming>, Error> {
        let own = self.shared.servers.datacenter.clone();
        self.try_each(&own, &[address.to_owned()], request, patience).await
    }

    async fn try_each(
        &self,
        datacenter: &str,
        candidates: &[String],
        request: Request<Body>,
        patience: Option<Duration>,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = prepared(request)?;
        let mut why = Vec::new();
        for address in candidates {
            set_authority(&mut request, address);
            let failed = match self.shared.connections.send(address, request, patience).await {
                Ok(response) => {
                    self.keep(datacenter, address);
                    counter!("consul_forward_requests").increment(1);
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            self.shared.chosen.lock().remove(datacenter);
            let (server, datacenter) = (address.clone(), datacenter.to_owned());
            match failed {
                Failed::Unsent(back, error) => {
                    why.push(format!("{address}: {error}"));
                    request = *back;
                    continue;
                }
                Failed::Sent(why) => return Err(Error::Broken { datacenter, server, why }),
                Failed::Silent => {
                    self.ask_last(address);
                    return Err(Error::Silent { datacenter, server, alone: candidates.len() == 1 });
                }
                Failed::Late(waited) => return Err(Error::Late { datacenter, server, waited }),
            }
        }
        counter!("consul_forward_failures").increment(1);
        Err(Error::Unreachable { datacenter: datacenter.to_owned(), why: why.join("; ") })
    }

    fn ask_last(&self, address: &str) {
        let (mut silent, now) = (self.shared.silent.lock(), Instant::now());
        silent.retain(|_, until| now < *until);
        silent.insert(address.to_owned(), now + SILENT);
    }

    /// The servers in the order in which they are tried: the one that is kept, then the others by chance,
    /// and last those that were silent.
    fn order(&self, datacenter: &str) -> Vec<String> {
        let mut candidates = self.shared.servers.of(datacenter);
        for at in (1..candidates.len()).rev() {
            candidates.swap(at, rand::random_range(0..=at));
        }
        let kept =
            self.shared.chosen.lock().get(datacenter).filter(|(_, until)| Instant::now() < *until).map(|(address, _)| address.clone());
        if let Some(at) = kept.and_then(|kept| candidates.iter().position(|address| *address == kept)) {
            candidates.swap(0, at);
        }
        let (silent, now) = (self.shared.silent.lock(), Instant::now());
        candidates.sort_by_key(|address| silent.get(address).is_some_and(|until| now < *until));
        candidates
    }

    fn keep(&self, datacenter: &str, address: &str) {
        let mut chosen = self.shared.chosen.lock();
        let until = Instant::now() + KEEP.mul_f64(1.0 + rand::random::<f64>() / 2.0);
        match chosen.get_mut(datacenter) {
            Some((kept, _)) if kept == address => {}
            _ => drop(chosen.insert(datacenter.to_owned(), (address.to_owned(), until))),
        }
    }
}

/// Takes out what belongs to one connection only (RFC 9110, §7.6.1), and counts the hop.
fn prepared(mut request: Request<Body>) -> Result<Request<Body>, Error> {
    let headers = request.headers_mut();
    let hops = headers.get(HOPS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok()).unwrap_or(0);
    if hops >= HOPS_MAX {
        return Err(Error::Loop);
    }
    strip(headers);
    headers.insert(HOPS, HeaderValue::from(hops + 1));
    *request.version_mut() = http::Version::HTTP_2;
    Ok(request)
}

/// Takes out the fields that mean something to one connection only.
pub fn strip(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"] {
        headers.remove(name);
    }
}

fn set_authority(request: &mut Request<Body>, address: &str) {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let uri = Uri::builder().scheme("http").authority(address).path_and_query(path).build();
    // A path that was one before is one again, and an address that was connected to is an authority.
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty};

    use super::*;

    fn request(hops: Option<&str>) -> Request<Body> {
        let mut request = Request::builder().uri("/v1/kv/a?raw").header("connection", "close").header("x-consul-token", "t");
        if let Some(hops) = hops {
            request = request.header(HOPS, hops);
        }
        request.body(Empty::new().map_err(|never| match never {}).boxed_unsync()).unwrap()
    }

    #[test]
    fn a_request_goes_as_it_came_but_for_its_connection() {
        let mut request = prepared(request(None)).unwrap();
        set_authority(&mut request, "10.0.0.1:8300");
        assert_eq!(request.uri().to_string(), "http://10.0.0.1:8300/v1/kv/a?raw");
        assert!(!request.headers().contains_key("connection"));
        assert_eq!(
            (&request.headers()["x-consul-token"], &request.headers()[HOPS]),
            (&HeaderValue::from_static("t"), &HeaderValue::from(1))
        );
    }

    #[test]
    fn a_request_comes_from_an_agent_to_another_datacenters_leader_and_does_not_go_round() {
        let mut carried = request(None);
        for _agent_then_server_then_server_there in 0..3 {
            carried = prepared(carried).unwrap();
        }
        assert!(matches!(prepared(carried), Err(Error::Loop)));
    }
}
