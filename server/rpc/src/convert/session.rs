//! Sessions.

use ::service::Error;
use ::service::session::NewSession;
use proto::v1;
use state::{Behavior, LogIndex, Session, SessionEnd, SessionId};

use super::common::{duration, millis, strs, wire_millis, wire_strs};
use crate::status::invalid;

/// A session for the wire.
pub(crate) fn session(session: &Session) -> v1::Session {
    let behavior = match session.behavior {
        Behavior::Release => v1::SessionBehavior::Release,
        Behavior::Delete => v1::SessionBehavior::Delete,
    };
    v1::Session {
        id: session.id.to_string(),
        name: session.name.to_string(),
        node: session.node.to_string(),
        behavior: behavior.into(),
        ttl: session.ttl_ms.map(wire_millis),
        lock_delay: Some(wire_millis(session.lock_delay_ms)),
        node_checks: wire_strs(&session.node_checks),
        service_checks: wire_strs(&session.service_checks),
        create_index: session.create_index.0,
        modify_index: session.modify_index.0,
    }
}

/// A session to begin, and where.
pub(crate) fn new(request: v1::SessionServiceCreateRequest) -> Result<(Option<v1::WriteOptions>, NewSession), Error> {
    let v1::SessionServiceCreateRequest { options, name, node, behavior, ttl, lock_delay, node_checks, service_checks, .. } = request;
    let node_checks = match (node_checks.is_empty(), request.ignore_node_failure) {
        (true, false) => None,
        (_, true) => Some(strs(node_checks)),
        (false, false) => {
            let mut checks = strs(node_checks);
            let alive = state::catalog::register::SERF_HEALTH;
            if !checks.iter().any(|check| **check == *alive) {
                checks.push(alive.into());
            }
            Some(checks)
        }
    };
    let new = NewSession {
        name: name.into(),
        node: node.into(),
        behavior: self::behavior(behavior)?,
        ttl: ttl.map(|ttl| duration("ttl", ttl)).transpose()?,
        lock_delay_ms: millis("lock_delay", lock_delay)?,
        node_checks,
        service_checks: strs(service_checks),
    };
    Ok((options, new))
}

pub(crate) fn behavior(wanted: i32) -> Result<Behavior, Error> {
    match v1::SessionBehavior::try_from(wanted) {
        Ok(v1::SessionBehavior::Unspecified | v1::SessionBehavior::Release) => Ok(Behavior::Release),
        Ok(v1::SessionBehavior::Delete) => Ok(Behavior::Delete),
        Err(_) => Err(invalid("behavior", format_args!("`{wanted}` is not known"))),
    }
}

/// How a session ended, as far as that is still known.
pub(crate) fn ended(id: SessionId, end: Option<(SessionEnd, LogIndex)>) -> v1::SessionEnded {
    let (cause, words) = words(end.map(|(cause, _)| cause));
    let revision = end.map_or(0, |(_, index)| index.0);
    v1::SessionEnded { cause: cause.into(), revision, message: format!("session `{id}` has ended: {words}") }
}

/// Why a session ended, as far as that is still known, for programs and for people.
pub(crate) fn words(end: Option<SessionEnd>) -> (v1::SessionEnd, &'static str) {
    match end {
        None => (v1::SessionEnd::Unspecified, "it does not exist; why it ended is not known any more"),
        Some(SessionEnd::Destroyed) => (v1::SessionEnd::Destroyed, "it was destroyed on request"),
        Some(SessionEnd::Expired) => (v1::SessionEnd::Expired, "it was not renewed within its TTL"),
        Some(SessionEnd::NodeRemoved) => (v1::SessionEnd::NodeRemoved, "its node was removed"),
        Some(SessionEnd::CheckCritical) => (v1::SessionEnd::CheckCritical, "one of its checks became critical"),
        Some(SessionEnd::CheckRemoved) => (v1::SessionEnd::CheckRemoved, "one of its checks was removed"),
    }
}
