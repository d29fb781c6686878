//! Requests for whom holds the answer: another server, or another datacenter.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use forward::{Error, Forward};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::Gateway;
use crate::reply::Reply;
use crate::request::Ask;
use crate::route::Endpoint;

/// Where a request belongs.
pub(crate) enum Place {
    /// Here.
    Here,
    /// A server of this datacenter.
    Server,
    /// The leader, by its address.
    Leader(String),
    /// Another datacenter.
    Elsewhere(String),
}

/// Whether a request might belong elsewhere: for nearly all that come to a server a look is enough.
pub(crate) fn is_possible(gateway: &Gateway, endpoint: Endpoint, uri: &http::Uri) -> bool {
    !gateway.service.identity().server || endpoint.is_for_the_leader() || uri.query().is_some_and(|query| query.contains("dc"))
}

/// Where a request belongs.
pub(crate) fn place(gateway: &Gateway, endpoint: Endpoint, ask: &Ask) -> Place {
    let identity = gateway.service.identity();
    let elsewhere = ask.datacenter().filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(&identity.datacenter));
    match elsewhere {
        Some(_) if !identity.server && !endpoint.is_of_this_agent() => Place::Server,
        Some(name) if !endpoint.is_of_this_agent() => Place::Elsewhere(name.to_lowercase()),
        _ if !identity.server && !endpoint.is_local() => Place::Server,
        _ if endpoint.is_for_the_leader() => leader(gateway),
        _ => Place::Here,
    }
}

fn leader(gateway: &Gateway) -> Place {
    let status = gateway.service.consensus_status();
    match gateway.service.leader_address() {
        Some(address) if status.leader != Some(status.id) => Place::Leader(address),
        _ => Place::Here,
    }
}

/// How long the answer to a request may take; `None` when it waits for something, or is as long as a
/// snapshot is.
pub(crate) fn patience(endpoint: Endpoint, ask: &Ask) -> Option<Duration> {
    let waits = ask.may_block() || matches!(endpoint, Endpoint::Snapshot | Endpoint::Watch);
    (!waits).then_some(forward::ANSWER)
}

/// Carries a request, and answers what came back. One that only reads is sent once more when the
/// server that had it dies.
pub(crate) async fn carry(
    gateway: &Gateway,
    forward: &Forward,
    place: &Place,
    patience: Option<Duration>,
    request: Request<Body>,
) -> Result<Response, Box<Reply>> {
    let (mut parts, body) = request.into_parts();
    if let (false, Ok(own)) = (parts.headers.contains_key(forward::AGENT), gateway.service.identity().node_name.parse()) {
        parts.headers.insert(forward::AGENT, own);
    }
    let reads = parts.method == Method::GET;
    let again = reads.then(|| rebuilt(&parts, Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()));
    let first = Request::from_parts(parts, body.map_err(Into::into).boxed_unsync());
    let mut answer = send(forward, place, patience, first).await;
    if let (Err(error), Some(again)) = (&answer, again)
        && error.is_worth_another_try()
    {
        answer = send(forward, place, patience, again).await;
    }
    match answer {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            forward::strip(&mut parts.headers);
            parts.version = http::Version::HTTP_11;
            Ok(Response::from_parts(parts, Body::new(body)))
        }
        Err(error) => Err(Box::new(Reply::text(StatusCode::INTERNAL_SERVER_ERROR, capitalized(&error.told(reads))))),
    }
}

fn rebuilt(parts: &http::request::Parts, body: forward::Body) -> Request<forward::Body> {
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.headers_mut() = parts.headers.clone();
    request
}

async fn send(
    forward: &Forward,
    place: &Place,
    patience: Option<Duration>,
    request: Request<forward::Body>,
) -> Result<http::Response<hyper::body::Incoming>, Error> {
    match place {
        Place::Leader(address) => forward.carry_to(address, request, patience).await,
        Place::Elsewhere(datacenter) => forward.carry(Some(datacenter), request, patience).await,
        Place::Here | Place::Server => forward.carry(None, request, patience).await,
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
