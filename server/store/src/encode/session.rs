//! Sessions, and the keys that they leave behind for a while.

use bytes::Bytes;
use proto::storage::v1 as pb;
use state::{Behavior, LogIndex, Millis, Row, Session, SessionEnd};

use crate::encode::{Malformed, from_session, from_strs, to_session, to_strs};

pub(super) fn from_row(session: &Session) -> pb::Session {
    let behavior = match session.behavior {
        Behavior::Release => pb::SessionBehavior::Release,
        Behavior::Delete => pb::SessionBehavior::Delete,
    };
    pb::Session {
        id: from_session(Some(session.id)),
        name: session.name.to_string(),
        node: session.node.to_string(),
        behavior: behavior.into(),
        ttl_ms: session.ttl_ms,
        lock_delay_ms: session.lock_delay_ms,
        node_checks: from_strs(&session.node_checks),
        service_checks: from_strs(&session.service_checks),
        renewed_ms: session.renewed.0,
        create_index: session.create_index.0,
        modify_index: session.modify_index.0,
    }
}

pub(super) fn to_row(session: pb::Session) -> Result<Session, Malformed> {
    let behavior = match session.behavior() {
        pb::SessionBehavior::Unspecified => return Err(Malformed::Unknown("behavior")),
        pb::SessionBehavior::Release => Behavior::Release,
        pb::SessionBehavior::Delete => Behavior::Delete,
    };
    Ok(Session {
        id: to_session(&session.id, "id")?.ok_or(Malformed::Missing("id"))?,
        name: session.name.into(),
        node: session.node.into(),
        behavior,
        ttl_ms: session.ttl_ms,
        lock_delay_ms: session.lock_delay_ms,
        node_checks: to_strs(session.node_checks),
        service_checks: to_strs(session.service_checks),
        renewed: Millis(session.renewed_ms),
        create_index: LogIndex(session.create_index),
        modify_index: LogIndex(session.modify_index),
    })
}

pub(super) fn from_delay(key: &[u8], until: Millis) -> pb::LockDelay {
    pb::LockDelay { key: Bytes::copy_from_slice(key), until_ms: until.0 }
}

pub(super) fn to_delay(row: &pb::LockDelay) -> Row {
    Row::LockDelay(row.key[..].into(), Millis(row.until_ms))
}

pub(super) fn from_end(end: Option<SessionEnd>) -> pb::SessionEnd {
    match end {
        None => pb::SessionEnd::Unspecified,
        Some(SessionEnd::Destroyed) => pb::SessionEnd::Destroyed,
        Some(SessionEnd::Expired) => pb::SessionEnd::Expired,
        Some(SessionEnd::NodeRemoved) => pb::SessionEnd::NodeRemoved,
        Some(SessionEnd::CheckCritical) => pb::SessionEnd::CheckCritical,
        Some(SessionEnd::CheckRemoved) => pb::SessionEnd::CheckRemoved,
    }
}

pub(super) fn to_end(end: i32, field: &'static str) -> Result<Option<SessionEnd>, Malformed> {
    Ok(match pb::SessionEnd::try_from(end).map_err(|_| Malformed::Unknown(field))? {
        pb::SessionEnd::Unspecified => None,
        pb::SessionEnd::Destroyed => Some(SessionEnd::Destroyed),
        pb::SessionEnd::Expired => Some(SessionEnd::Expired),
        pb::SessionEnd::NodeRemoved => Some(SessionEnd::NodeRemoved),
        pb::SessionEnd::CheckCritical => Some(SessionEnd::CheckCritical),
        pb::SessionEnd::CheckRemoved => Some(SessionEnd::CheckRemoved),
    })
}
