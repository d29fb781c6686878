//! From a request to its handler and back.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, LOCATION};
use http::{Method, Request, StatusCode};
use service::Reason;

use crate::carry::{self, Place};
use crate::json::{Indenter, Json};
use crate::percent;
use crate::reply::{Content, Reply, takes_gzip, with_headers};
use crate::request::{self, Ask};
use crate::route::{self, Endpoint, Found, Route};
use crate::status::{Fault, Outcome};
use crate::{
    Gateway, LiveOptions, agent, catalog, cluster, coordinate, event, health, keyring, kv, operator, session, snapshot, txn, watch,
};

/// Answers one request. It can't fail: what goes wrong is an answer as well.
pub(crate) async fn dispatch(gateway: Arc<Gateway>, request: Request<Body>) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let gzip = takes_gzip(&parts.headers);
    let live = gateway.options.live.load_full();
    let (path, route) = match locate(&gateway, &live, &parts.uri, &parts.method) {
        Ok(found) => found,
        Err(reply) => return Ok(reply.finish(gzip, &live.response_headers)),
    };
    let is_possible = route.endpoint.names_its_datacenter() || carry::is_possible(&gateway, route.endpoint, &parts.uri);
    let carried = gateway.options.forward.as_ref().filter(|_| is_possible);
    let carried = carried.map(|forward| (forward, parts.clone()));
    let reply = match Ask::new(parts, path) {
        Ok(ask) => match (place(&gateway, route.endpoint, &ask, body).await, carried) {
            (Err(fault), _) => Err(fault),
            (Ok((Place::Here, body)), _) | (Ok((_, body)), None) => answer(&gateway, route, ask, body).await,
            (Ok((place, body)), Some((forward, parts))) => {
                let extra = &live.response_headers;
                let patience = carry::patience(route.endpoint, &ask);
                let answer = carry::carry(&gateway, forward, &place, patience, Request::from_parts(parts, body)).await;
                return Ok(match answer {
                    Ok(answer) => with_headers(answer, extra),
                    Err(reply) => reply.finish(gzip, extra),
                });
            }
        },
        Err(fault) => Err(fault),
    };
    let reply = reply.unwrap_or_else(|fault| Reply::fault(fault, route.endpoint.is_indexed()));
    Ok(reply.finish(gzip, &live.response_headers))
}

/// Where a request belongs, and its body: some bodies say so as well, and then what they say counts.
async fn place(gateway: &Gateway, endpoint: Endpoint, ask: &Ask, body: Body) -> Outcome<(Place, Body)> {
    let place = carry::place(gateway, endpoint, ask);
    match (endpoint, &gateway.options.forward) {
        // Any server tells what it believes.
        (Endpoint::RaftConfiguration, _) if matches!(place, Place::Leader(_)) && ask.params.has("stale") => Ok((Place::Here, body)),
        (_, Some(forward)) if endpoint.names_its_datacenter() && gateway.service.identity().server && forward.is_federated() => {
            let body = request::read(&ask.headers, body, gateway.options.body_bytes_max).await?;
            let own = &gateway.service.identity().datacenter;
            let place = match catalog::datacenter_named(&body).map(|name| name.to_lowercase()) {
                Some(name) if !name.eq_ignore_ascii_case(own) && forward.knows(&name) => Place::Elsewhere(name),
                // This one; or one that is unknown, which is refused with the reason.
                Some(_) => Place::Here,
                None => place,
            };
            Ok((place, Body::from(body)))
        }
        _ => Ok((place, body)),
    }
}

/// The route of a request and what follows it in the path, or what is answered without one.
fn locate(gateway: &Gateway, live: &LiveOptions, uri: &http::Uri, method: &Method) -> Result<(Vec<u8>, &'static Route), Box<Reply>> {
    let text = |status, text: &str| Err(Box::new(Reply::text(status, text.to_owned())));
    let Ok(path) = percent::decode(uri.path()) else {
        return text(StatusCode::BAD_REQUEST, "Invalid URL path: a `%` is not followed by two hexadecimal digits");
    };
    if !gateway.options.allow_unprintable && has_unprintable(&path) {
        return text(StatusCode::BAD_REQUEST, "Invalid URL path: it contains an unprintable character");
    }
    if let Some(clean) = route::cleaned(&path) {
        return Err(Box::new(moved(&clean, uri.query())));
    }
    if live.block_endpoints.iter().any(|prefix| path.starts_with(prefix.as_bytes())) {
        return text(StatusCode::FORBIDDEN, "Endpoint is blocked by agent configuration");
    }
    let (route, at) = match route::find(&path) {
        Found::Route(route, at) => (route, at),
        Found::Slash => return Err(Box::new(moved(&[&path[..], b"/"].concat(), uri.query()))),
        Found::Nothing if *path == *b"/" => return text(StatusCode::OK, &gateway.options.ui_disabled_text),
        Found::Nothing if path.windows(4).any(|part| part == b"/v1/") => {
            return text(StatusCode::NOT_FOUND, "Invalid URL path: not a recognized HTTP API endpoint\n");
        }
        Found::Nothing => {
            return text(
                StatusCode::NOT_FOUND,
                "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n",
            );
        }
    };
    if *method == Method::OPTIONS {
        return Err(Box::new(Reply::empty().with_text(ALLOW, &route.allow())));
    }
    if !route.methods.contains(method) {
        let mut fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, format!("method {method} not allowed"));
        fault.allow = Some(route.allow());
        return Err(Box::new(Reply::fault(fault, route.endpoint.is_indexed())));
    }
    Ok((path[at..].to_vec(), route))
}

fn moved(path: &[u8], query: Option<&str>) -> Reply {
    let mut location = percent::encode_path(path);
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    Reply::empty().status(StatusCode::MOVED_PERMANENTLY).with_text(LOCATION, &location)
}

fn has_unprintable(path: &[u8]) -> bool {
    if path.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        return false;
    }
    String::from_utf8_lossy(path).chars().any(|c| {
        let invisible = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        c.is_control() || invisible || (c.is_whitespace() && c != ' ')
    })
}

/// Runs the handler. A stale read that turns out too old is asked once more of the leader; one
/// that waits is given up when the listener is shut down.
async fn answer(gateway: &Arc<Gateway>, route: &Route, mut ask: Ask, body: Body) -> Outcome<Reply> {
    if ask.method != Method::GET {
        return write(gateway, route.endpoint, &ask, body).await;
    }
    let stop = ask.stop.clone().filter(|_| ask.may_block());
    let result = match stop {
        None => read(gateway, route.endpoint, &ask).await,
        Some(stop) => tokio::select! {
            result = read(gateway, route.endpoint, &ask) => result,
            () = stop.cancelled() => Err(Fault::server("the agent is shutting down; ask another")),
        },
    };
    match result {
        Err(fault) if fault.reason == Some(Reason::TooStale) => {
            ask.insist = true;
            read(gateway, route.endpoint, &ask).await
        }
        result => result,
    }
}

async fn read(gateway: &Arc<Gateway>, endpoint: Endpoint, ask: &Ask) -> Outcome<Reply> {
    match endpoint {
        Endpoint::Kv => kv::get(gateway, ask).await,
        Endpoint::CatalogDatacenters => Ok(catalog::datacenters(gateway, ask)),
        Endpoint::CatalogNodes => catalog::nodes(gateway, ask).await,
        Endpoint::CatalogServices => catalog::services(gateway, ask).await,
        Endpoint::CatalogService => catalog::service(gateway, ask).await,
        Endpoint::CatalogNode => catalog::node(gateway, ask).await,
        Endpoint::CatalogNodeServices => catalog::node_services(gateway, ask).await,
        Endpoint::HealthNode => health::node(gateway, ask).await,
        Endpoint::HealthChecks => health::checks(gateway, ask).await,
        Endpoint::HealthState => health::state(gateway, ask).await,
        Endpoint::HealthService => health::service(gateway, ask).await,
        Endpoint::AgentSelf => agent::about(gateway, ask),
        Endpoint::AgentVersion => agent::version(gateway, ask),
        Endpoint::AgentHost => agent::host(gateway, ask),
        Endpoint::AgentMetrics => agent::metrics(gateway, ask),
        Endpoint::AgentMetricsStream => agent::metrics_stream(gateway, ask),
        Endpoint::AgentMonitor => agent::monitor(gateway, ask),
        Endpoint::AgentServices => agent::services(gateway, ask),
        Endpoint::AgentService => agent::service(gateway, ask).await,
        Endpoint::AgentChecks => agent::checks(gateway, ask),
        Endpoint::AgentMembers => agent::members(gateway, ask),
        Endpoint::AgentHealthById => agent::health_by_id(gateway, ask),
        Endpoint::AgentHealthByName => agent::health_by_name(gateway, ask),
        Endpoint::SessionInfo => session::info(gateway, ask).await,
        Endpoint::SessionNode => session::node(gateway, ask).await,
        Endpoint::SessionList => session::list(gateway, ask).await,
        Endpoint::StatusLeader => cluster::leader(gateway, ask),
        Endpoint::StatusPeers => cluster::peers(gateway, ask),
        Endpoint::EventList => event::list(gateway, ask).await,
        Endpoint::RaftConfiguration => cluster::raft_configuration(gateway, ask).await,
        Endpoint::AutopilotHealth => operator::health(gateway, ask),
        Endpoint::AutopilotState => operator::state(gateway, ask),
        Endpoint::AutopilotConfiguration => operator::configuration(gateway, ask).await,
        Endpoint::CoordinateDatacenters => coordinate::datacenters(gateway, ask),
        Endpoint::Keyring => keyring::keyring(gateway, ask, Body::empty()).await,
        Endpoint::Coordinates => coordinate::nodes(gateway, ask).await,
        Endpoint::Snapshot => snapshot::save(gateway, ask).await,
        Endpoint::Watch => watch::stream(gateway, ask).await,
        other => Err(absent(other)),
    }
}

async fn write(gateway: &Gateway, endpoint: Endpoint, ask: &Ask, body: Body) -> Outcome<Reply> {
    match endpoint {
        Endpoint::Kv if ask.method == Method::DELETE => kv::delete(gateway, ask).await,
        Endpoint::Kv => kv::put(gateway, ask, body).await,
        Endpoint::Txn => txn::run(gateway, ask, body).await,
        Endpoint::SessionCreate => session::create(gateway, ask, body).await,
        Endpoint::SessionDestroy => session::destroy(gateway, ask).await,
        Endpoint::SessionRenew => session::renew(gateway, ask).await,
        Endpoint::CatalogRegister => catalog::register(gateway, ask, body).await,
        Endpoint::CatalogDeregister => catalog::deregister(gateway, ask, body).await,
        Endpoint::AgentRegisterService => agent::register_service(gateway, ask, body).await,
        Endpoint::AgentDeregisterService => agent::deregister_service(gateway, ask).await,
        Endpoint::AgentRegisterCheck => agent::register_check(gateway, ask, body).await,
        Endpoint::AgentDeregisterCheck => agent::deregister_check(gateway, ask).await,
        Endpoint::AgentMaintenance => agent::node_maintenance(gateway, ask).await,
        Endpoint::AgentServiceMaintenance => agent::service_maintenance(gateway, ask).await,
        Endpoint::AgentJoin => cluster::join(gateway, ask).await,
        Endpoint::AgentLeave => cluster::leave(gateway, ask).await,
        Endpoint::AgentForceLeave => cluster::force_leave(gateway, ask),
        Endpoint::EventFire => event::fire(gateway, ask, body).await,
        Endpoint::AutopilotConfiguration => operator::configure(gateway, ask, body).await,
        Endpoint::RaftPeer => cluster::remove_peer(gateway, ask).await,
        Endpoint::RaftTransfer => cluster::transfer_leader(gateway, ask).await,
        Endpoint::Keyring => keyring::keyring(gateway, ask, body).await,
        Endpoint::Snapshot => snapshot::restore(gateway, ask, body).await,
        Endpoint::AgentReload => agent::reload(gateway, ask).await,
        Endpoint::AgentPass => agent::report(gateway, ask, state::Status::Passing).await,
        Endpoint::AgentWarn => agent::report(gateway, ask, state::Status::Warning).await,
        Endpoint::AgentFail => agent::report(gateway, ask, state::Status::Critical).await,
        Endpoint::AgentUpdate => agent::update(gateway, ask, body).await,
        other => Err(absent(other)),
    }
}

fn absent(endpoint: Endpoint) -> Fault {
    match endpoint {
        Endpoint::Acl => Fault::new(StatusCode::UNAUTHORIZED, "ACL support disabled"),
        _ => Fault::unsupported("This endpoint is known, but this build of Lictor does not have it yet"),
    }
}

impl Gateway {
    /// The body of an answer, indented when that is asked for.
    pub(crate) fn body(&self, ask: &Ask, json: Json) -> Bytes {
        if self.pretty(ask) { Indenter::whole(&json.out).into() } else { json.out.into() }
    }

    /// An answer in JSON.
    pub(crate) fn json(&self, ask: &Ask, json: Json) -> Reply {
        Reply::json(Content::Bytes(self.body(ask, json)))
    }

    /// Whether the answer is to be indented.
    pub(crate) fn pretty(&self, ask: &Ask) -> bool {
        self.options.pretty || ask.params.has("pretty")
    }

    /// `true` or `false` as the whole answer.
    pub(crate) fn verdict(&self, ask: &Ask, verdict: bool) -> Reply {
        match (self.pretty(ask), verdict) {
            (false, true) => Reply::json(Content::Bytes(Bytes::from_static(b"true"))),
            (false, false) => Reply::json(Content::Bytes(Bytes::from_static(b"false"))),
            (true, true) => Reply::json(Content::Bytes(Bytes::from_static(b"true\n"))),
            (true, false) => Reply::json(Content::Bytes(Bytes::from_static(b"false\n"))),
        }
    }
}
