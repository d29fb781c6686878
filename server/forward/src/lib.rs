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
//! is asked last for a while, and so is one that says that it has no leader or is not ready. What only reads
//! is then asked of one more server.

mod body;
mod choice;
mod connection;
mod error;
mod line;
mod servers;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use metrics::counter;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use body::Answer;
use body::Progress;
use choice::Choice;
use connection::{Connections, Failed, Why};
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

/// The stable code of a refusal, beside it.
pub static REASON: HeaderName = HeaderName::from_static("x-lictor-reason");

/// Refusals that say nothing of the request: another server may answer it.
const UNABLE: [&str; 3] = ["NO_LEADER", "NOT_READY", "SHUTTING_DOWN"];

/// A request may go from an agent to its server, from there to another datacenter, and there to the
/// leader. More means that two servers send it back and forth.
const HOPS_MAX: u32 = 3;

/// How long it is remembered what the pools say of servers and datacenters: every call asks, and every connection
/// where there are too many.
const LOOK: Duration = Duration::from_secs(1);

/// How long the answer to a request may take that waits for nothing: longer than a server itself waits
/// for a leader, or for a quorum that changes.
pub const ANSWER: Duration = Duration::from_secs(20);

/// Where a request is carried to.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    /// A server of the own datacenter.
    Server,
    /// A server of this datacenter.
    Datacenter(&'a str),
    /// The server of the own datacenter at this address.
    Address(&'a str),
}

/// How a request is carried.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// How long the server that answers may take to begin; whoever is further away from it waits a little
    /// longer, so that the one who knows best tells what is wrong. `None` waits for as long as the server lives.
    pub patience: Option<Duration>,
    /// All that the request carries, if it only reads: it may be sent once more.
    pub again: Option<Bytes>,
    /// The datacenter that the request names.
    pub datacenter: Option<String>,
}

/// Carries requests. Clones share connections and choices.
#[derive(Clone)]
pub struct Forward {
    shared: Arc<Shared>,
}

struct Shared {
    servers: Servers,
    connections: Connections,
    choice: Choice,
    /// Counts how often the own pool has changed.
    changes: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Whether it had a server when it had changed so often, and when that was looked up.
    populated: Mutex<Option<(u64, bool, Instant)>>,
    /// Whether there are other datacenters, and when that was looked up.
    federated: Mutex<Option<(bool, Instant)>>,
    /// Where servers live, and when that was looked up.
    hosts: Mutex<Option<(HashSet<IpAddr>, Instant)>>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("datacenter", &self.shared.servers.datacenter).finish_non_exhaustive()
    }
}

impl Forward {
    /// Carries to the servers that `lan` and, on servers, `wan` know. `datacenter` is the own one. A server in it that holds
    /// another cluster's data is none of its servers.
    pub fn new(datacenter: &str, network: net::Network, lan: gossip::Pool, wan: Option<gossip::Pool>) -> Self {
        let changes = lan.changes();
        let lan = move || lan.members().into_iter().filter(lan.kinship()).collect();
        let servers = Servers::new(datacenter, lan, wan.map(|wan| move || wan.members()));
        Forward::to(servers, move || *changes.borrow(), network)
    }

    /// `changes` is another number whenever the own pool has changed.
    fn to(servers: Servers, changes: impl Fn() -> u64 + Send + Sync + 'static, network: net::Network) -> Self {
        let connections = Connections::new(network);
        let choice = Choice::default();
        Forward {
            shared: Arc::new(Shared {
                servers,
                connections,
                choice,
                changes: Box::new(changes),
                populated: Mutex::default(),
                federated: Mutex::default(),
                hosts: Mutex::default(),
            }),
        }
    }

    /// Whether a server of the own datacenter is known. Costs next to nothing while the pool stays as it is.
    pub fn has_servers(&self) -> bool {
        let mut known = self.shared.populated.lock();
        let now = (self.shared.changes)();
        match *known {
            Some((then, populated, at)) if then == now && at.elapsed() < LOOK => populated,
            _ => {
                let populated = !self.shared.servers.of(&self.shared.servers.datacenter).is_empty();
                *known = Some((now, populated, Instant::now()));
                populated
            }
        }
    }

    /// Whether there are other datacenters, as of a moment ago.
    pub fn is_federated(&self) -> bool {
        let mut federated = self.shared.federated.lock();
        match *federated {
            Some((federated, at)) if at.elapsed() < LOOK => federated,
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

    /// Whether a server of any datacenter lives at this address, or did, as of a moment ago.
    pub fn is_server(&self, host: IpAddr) -> bool {
        let mut hosts = self.shared.hosts.lock();
        let known = hosts.take().filter(|(_, at)| at.elapsed() < LOOK);
        let (known, _) = hosts.insert(known.unwrap_or_else(|| (self.shared.servers.hosts(), Instant::now())));
        known.contains(&host.to_canonical())
    }

    /// The addresses of the own datacenter's servers, the one that is kept first.
    pub fn servers(&self) -> Vec<String> {
        self.order(&self.shared.servers.datacenter)
    }

    /// Carries a request, and waits until its answer begins.
    ///
    /// # Errors
    ///
    /// Nobody answers. [`Error::is_in_doubt`] says whether the request may have been carried out.
    pub async fn carry(&self, to: To<'_>, request: Request<Body>, how: How) -> Result<Response<Answer>, Error> {
        let own = self.shared.servers.datacenter.as_str();
        let (datacenter, servers) = match to {
            To::Server => (own, self.order(own)),
            To::Datacenter(name) => (name, self.order(name)),
            To::Address(address) => (own, vec![address.to_owned()]),
        };
        if servers.is_empty() {
            return Err(self.shared.servers.why_none(datacenter));
        }
        let keeps = !matches!(to, To::Address(_));
        let carried = self.try_each(datacenter, servers, keeps, request, how).await;
        match carried {
            Ok(_) => counter!("consul_forward_requests").increment(1),
            Err(_) => counter!("consul_forward_failures").increment(1),
        }
        carried
    }

    /// Asks one server after another until one has the request, and one more if it may be sent again.
    /// With `keeps` the one that answers is asked next time as well.
    async fn try_each(
        &self,
        datacenter: &str,
        servers: Vec<String>,
        keeps: bool,
        request: Request<Body>,
        how: How,
    ) -> Result<Response<Answer>, Error> {
        let mut request = prepared(request)?;
        let patience = how.patience.map(|patience| patience_at(hops(request.headers()), patience));
        let progress = Progress::since(Instant::now());
        let mut again = how.again.map(|body| (head(&request), body));
        // What another datacenter has refused says nothing of the server that brings it.
        let answers_itself = how.datacenter.is_none_or(|named| named.eq_ignore_ascii_case(datacenter));
        let mut refused = None;
        let mut failures = Failures::default();
        let mut servers = servers.into_iter().peekable();
        let mut next = servers.next();
        while let Some(address) = next {
            next = servers.next();
            set_authority(&mut request, &address);
            match self.shared.connections.send(&address, request, patience, &progress).await {
                Ok(response) if answers_itself && is_unable(&response) => {
                    self.no_help(datacenter, &address);
                    let better = next.as_ref().is_some_and(|next| !self.shared.choice.is_last(next));
                    let Some((head, body)) = again.take_if(|_| better) else { return Ok(refused.unwrap_or(response)) };
                    refused = Some(response);
                    request = whole(head, body);
                }
                Ok(response) => {
                    if keeps {
                        self.shared.choice.keep(datacenter, &address);
                    }
                    return Ok(response);
                }
                Err(Failed::Unsent(back, why)) => {
                    if matches!(why, Why::Unconnected(_)) {
                        self.no_help(datacenter, &address);
                    }
                    failures.add(&address, why);
                    request = *back;
                }
                Err(Failed::Late(waited)) => {
                    self.shared.choice.drop_kept(datacenter);
                    return refused.ok_or(Error::Late { datacenter: datacenter.to_owned(), server: address, waited });
                }
                Err(Failed::Sent(why)) => {
                    self.shared.choice.drop_kept(datacenter);
                    let Some((head, body)) = again.take() else {
                        return refused.ok_or(Error::Broken { datacenter: datacenter.to_owned(), server: address, why });
                    };
                    // The same one may have been started anew.
                    next = next.or_else(|| Some(address.clone()));
                    failures.add(&address, Why::Unconnected(format!("the connection broke: {why}")));
                    request = whole(head, body);
                }
                Err(Failed::Silent) => {
                    self.no_help(datacenter, &address);
                    let Some((head, body)) = again.take_if(|_| next.is_some()) else {
                        return refused.ok_or(Error::Silent { datacenter: datacenter.to_owned(), server: address });
                    };
                    failures.add(&address, Why::Unconnected("it is silent".into()));
                    request = whole(head, body);
                }
            }
        }
        refused.ok_or_else(|| failures.error(datacenter))
    }

    /// Asks another server next, and this one last for a while.
    fn no_help(&self, datacenter: &str, address: &str) {
        self.shared.choice.drop_kept(datacenter);
        self.shared.choice.ask_last(address);
    }

    fn order(&self, datacenter: &str) -> Vec<String> {
        self.shared.choice.order(datacenter, self.shared.servers.of(datacenter))
    }
}

/// What went wrong with servers that have not got the request.
#[derive(Default)]
struct Failures {
    unconnected: Vec<String>,
    full: Vec<String>,
}

impl Failures {
    fn add(&mut self, address: &str, why: Why) {
        match why {
            Why::Full => self.full.push(address.to_owned()),
            Why::Unconnected(why) => self.unconnected.push(format!("{address}: {why}")),
        }
    }

    fn error(mut self, datacenter: &str) -> Error {
        let datacenter = datacenter.to_owned();
        if self.unconnected.is_empty() {
            return Error::Full { datacenter, servers: self.full.join(", "), limit: connection::CONNECTIONS * connection::REQUESTS };
        }
        self.unconnected.extend(self.full.into_iter().map(|address| format!("{address}: it is asked for as much as it may be")));
        Error::Unreachable { datacenter, why: self.unconnected.join("; ") }
    }
}

/// Whether a server has said that it can answer nobody.
fn is_unable(response: &Response<Answer>) -> bool {
    response.headers().get(&REASON).is_some_and(|reason| UNABLE.iter().any(|unable| reason == unable))
}

/// How often a request was carried.
pub fn hops(headers: &HeaderMap) -> u32 {
    headers.get(HOPS).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// The patience of whoever carries a request as the `hop`th: a tenth more for each that may come after.
fn patience_at(hop: u32, patience: Duration) -> Duration {
    patience + patience / 10 * HOPS_MAX.saturating_sub(hop)
}

/// Takes out what belongs to one connection only (RFC 9110, §7.6.1), and counts the hop.
fn prepared(mut request: Request<Body>) -> Result<Request<Body>, Error> {
    let headers = request.headers_mut();
    let hops = hops(headers);
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

/// A request without its body.
fn head(request: &Request<Body>) -> request::Parts {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head.into_parts().0
}

/// A request whose body is known.
fn whole(head: request::Parts, body: Bytes) -> Request<Body> {
    Request::from_parts(head, full(body))
}

/// A body that is known.
pub fn full(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
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
mod tests;
