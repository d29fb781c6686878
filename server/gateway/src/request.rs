//! A request, taken apart.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use service::catalog::NodeMeta;
use service::filter::{Filter, Selectable};
use service::{Blocking, Caller, Consistency, ReadOptions};
use state::LogIndex;
use tokio_util::sync::CancellationToken;

use crate::duration;
use crate::percent;
use crate::status::{Fault, Outcome};

/// What is known of the connection that a request came on.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    /// Cancelled when the listener is shut down.
    pub(crate) stop: CancellationToken,
}

/// The parameters of the query string, in their order.
#[derive(Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    fn parse(query: Option<&str>) -> Outcome<Self> {
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(Params::default()) };
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((percent::decode_form(name)?, percent::decode_form(value)?))
        };
        let pairs: Result<_, percent::BadEscape> = query.split('&').filter(|part| !part.is_empty()).map(pair).collect();
        pairs.map(Params).map_err(|_| Fault::bad("Invalid query: a `%` is not followed by two hexadecimal digits"))
    }

    /// The first value of `name`; a parameter without a value counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.first(name).filter(|value| !value.is_empty())
    }

    /// The first value of `name`, which may be empty.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A request without its body.
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// What follows the route's path, decoded.
    pub(crate) rest: Vec<u8>,
    pub(crate) uri: Uri,
    pub(crate) params: Params,
    pub(crate) headers: HeaderMap,
    pub(crate) caller: Caller,
    pub(crate) stop: Option<CancellationToken>,
    /// Ask the leader although a stale answer was allowed, because the one here is too old.
    pub(crate) insist: bool,
}

impl Ask {
    pub(crate) fn new(parts: http::request::Parts, rest: Vec<u8>) -> Outcome<Self> {
        let params = Params::parse(parts.uri.query())?;
        refuse_enterprise(&params, &parts.headers)?;
        let connection = parts.extensions.get::<Connection>();
        let agent = parts.headers.get(forward::AGENT).and_then(|name| name.to_str().ok()).map(Into::into);
        let caller = Caller { token: token(&params, &parts.headers), source: connection.map(|connection| connection.peer.ip()), agent };
        Ok(Ask {
            method: parts.method,
            rest,
            params,
            caller,
            stop: connection.map(|connection| connection.stop.clone()),
            uri: parts.uri,
            headers: parts.headers,
            insist: false,
        })
    }

    /// What follows the route's path, as text.
    pub(crate) fn rest_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.rest)
    }

    /// The same where it must not be empty.
    pub(crate) fn named(&self, what: &str) -> Outcome<Cow<'_, str>> {
        if self.rest.is_empty() { Err(Fault::bad(format!("Missing {what}"))) } else { Ok(self.rest_text()) }
    }

    /// The datacenter asked for, if any.
    pub(crate) fn datacenter(&self) -> Option<&str> {
        self.params.get("datacenter").or_else(|| self.params.get("dc"))
    }

    /// Whether the request may wait for a change.
    pub(crate) fn may_block(&self) -> bool {
        self.params.get("index").is_some_and(|index| index != "0") || self.params.get("hash").is_some()
    }

    /// How a read is to be answered, and whether it waits.
    pub(crate) fn reading(&self) -> Outcome<(ReadOptions, Option<Blocking>)> {
        let blocking = self.blocking()?;
        let has = |name| self.params.has(name);
        let max_staleness = match self.params.get("max_stale") {
            Some(text) => Some(duration::parse(text).ok_or_else(|| Fault::bad(format!("Invalid max_stale value \"{text}\"")))?),
            None => None,
        };
        let stale = has("stale") || max_staleness.is_some();
        let consistent = has("consistent");
        if stale && consistent {
            return Err(Fault::bad("Cannot specify ?stale with ?consistent, conflicting semantics."));
        }
        if has("cached") && consistent {
            return Err(Fault::bad("Cannot specify ?cached with ?consistent, conflicting semantics."));
        }
        let consistency = match (consistent, stale && !self.insist) {
            (true, _) => Consistency::Linearizable,
            (_, true) => Consistency::Stale,
            _ => Consistency::Leased,
        };
        let max_staleness = max_staleness.filter(|_| !self.insist);
        let options = ReadOptions { datacenter: self.datacenter().map(Into::into), consistency, min_index: LogIndex::ZERO, max_staleness };
        Ok((options, blocking))
    }

    fn blocking(&self) -> Outcome<Option<Blocking>> {
        let wait = self.wait()?;
        let index = match self.params.get("index") {
            Some(text) => text.parse().map_err(|_| Fault::bad("Invalid index"))?,
            None => 0,
        };
        Ok((index > 0).then_some(Blocking { index: LogIndex(index), wait }))
    }

    /// The longest wait that is asked for; zero when none is.
    pub(crate) fn wait(&self) -> Outcome<Duration> {
        match self.params.get("wait") {
            Some(text) => duration::parse(text).ok_or_else(|| Fault::bad("Invalid wait time")),
            None => Ok(Duration::ZERO),
        }
    }

    /// The pairs of `?node-meta=key:value`.
    pub(crate) fn node_meta(&self) -> NodeMeta {
        let pair = |text: &str| {
            let (key, value) = text.split_once(':').unwrap_or((text, ""));
            (key.into(), value.into())
        };
        self.params.all("node-meta").map(pair).collect()
    }

    /// The expression of `?filter`, made for rows of kind `T`.
    pub(crate) fn filter<T: Selectable>(&self) -> Outcome<Option<Filter>> {
        match self.params.get("filter") {
            Some(text) => Filter::compile::<T>(text).map(Some).map_err(Fault::from),
            None => Ok(None),
        }
    }
}

/// Namespaces and partitions are refused, not ignored: ignoring them would answer another question.
fn refuse_enterprise(params: &Params, headers: &HeaderMap) -> Outcome<()> {
    for (name, header, feature) in [("ns", "X-Consul-Namespace", "Namespaces are"), ("partition", "X-Consul-Partition", "Partitions are")] {
        if params.get(name).is_some() {
            return Err(Fault::bad(format!("Invalid query parameter: \"{name}\" - {feature} a Consul Enterprise feature")));
        }
        if headers.get(header).is_some_and(|value| !value.is_empty()) {
            return Err(Fault::bad(format!("Invalid header: \"{header}\" - {feature} a Consul Enterprise feature")));
        }
    }
    Ok(())
}

fn token(params: &Params, headers: &HeaderMap) -> Option<std::sync::Arc<str>> {
    if let Some(token) = params.get("token") {
        return Some(token.into());
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
    if let Some(token) = header("x-consul-token") {
        return Some(token.into());
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty()).map(Into::into)
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read(headers: &HeaderMap, mut body: Body, limit: usize) -> Outcome<Bytes> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(size) = declared.filter(|size| *size > limit as u64) {
        return Err(too_large(size, limit));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::bad(format!("the request body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
        let size = first.len() + rest.len();
        if size > limit {
            return Err(too_large(size as u64, limit));
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn too_large(size: u64, limit: usize) -> Fault {
    let text = format!("Request body({size} bytes) too large, max size: {limit} bytes. See `limits` in the agent's configuration.");
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}
