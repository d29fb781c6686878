//! Requests for whom holds the answer: another server, or another datacenter.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use forward::{Error, Forward, How, To};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;

use crate::Gateway;
use crate::reply::Reply;
use crate::request::Ask;
use crate::route::Endpoint;

/// Where a request belongs.
pub(crate) enum Place {
    /// Here.
    Here,
    /// A server of this datacenter, for the datacenter that is named.
    Server(Option<String>),
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
        Some(name) if !identity.server && !endpoint.is_of_this_agent() => Place::Server(Some(name.to_lowercase())),
        Some(name) if !endpoint.is_of_this_agent() => Place::Elsewhere(name.to_lowercase()),
        _ if !identity.server && !endpoint.is_local() => Place::Server(None),
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

/// Carries a request, and answers what came back.
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
    let (to, datacenter) = match place {
        Place::Leader(address) => (To::Address(address), None),
        Place::Elsewhere(name) => (To::Datacenter(name), Some(name)),
        Place::Here | Place::Server(None) => (To::Server, None),
        Place::Server(Some(name)) => (To::Server, Some(name)),
    };
    // A body would have to be kept for it, and reads have none as a rule.
    let again = (reads && body.is_end_stream()).then(Bytes::new);
    let how = How { patience, again, datacenter: datacenter.cloned() };
    match forward.carry(to, Request::from_parts(parts, body.map_err(Into::into).boxed_unsync()), how).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            forward::strip(&mut parts.headers);
            parts.version = http::Version::HTTP_11;
            Ok(Response::from_parts(parts, Body::new(body)))
        }
        Err(error) => Err(Box::new(refused(&error, datacenter.map(String::as_str), reads))),
    }
}

fn refused(error: &Error, datacenter: Option<&str>, reads: bool) -> Reply {
    let status = if matches!(error, Error::Full { .. }) { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::INTERNAL_SERVER_ERROR };
    Reply::text(status, capitalized(&error.told(datacenter, reads))).because(error.reason(reads))
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_could_not_be_carried_is_refused_with_a_reason_for_programs() {
        let silent = Error::Silent { datacenter: "dc1".into(), server: "10.0.0.1:8300".into() };
        let full = Error::Full { datacenter: "dc1".into(), servers: "10.0.0.1:8300".into(), limit: 4096 };
        for (error, reads, status, reason) in
            [(&silent, true, 500, "DATACENTER_UNREACHABLE"), (&silent, false, 500, "OUTCOME_UNKNOWN"), (&full, false, 429, "OVERLOADED")]
        {
            let refused = refused(error, Some("dc2"), reads);
            assert_eq!((refused.status.as_u16(), &refused.headers["x-lictor-reason"]), (status, &http::HeaderValue::from_static(reason)));
        }
    }
}
