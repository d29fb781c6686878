//! Locks.

use ::service::lock::{Holder, LockEvent, Loss, SeenHolder};
use ::service::session::NewSession;
use ::service::{Error, Service};
use proto::v1;
use proto::v1::lock_service_acquire_request::Holder as Asked;
use proto::v1::lock_service_acquire_response::State;
use state::SessionId;

use super::common::{duration, millis, session as session_id, wire_duration, wire_fence, write_meta};
use super::session;
use crate::status::invalid;

/// Whose session is to hold the lock.
pub(crate) fn holder(asked: Option<Asked>) -> Result<Holder, Error> {
    match asked {
        None => Err(invalid("holder", "nobody is to hold the lock; give `session_id`, or `session` for one that ends with the stream")),
        Some(Asked::SessionId(id)) => Ok(Holder::Session(session_id("session_id", &id)?)),
        Some(Asked::Session(v1::StreamSession { name, ttl, lock_delay, behavior })) => Ok(Holder::Stream(Box::new(NewSession {
            name: name.into(),
            ttl: ttl.map(|ttl| duration("ttl", ttl)).transpose()?,
            lock_delay_ms: millis("lock_delay", lock_delay)?,
            behavior: session::behavior(behavior)?,
            ..NewSession::default()
        }))),
    }
}

/// What happened to who wants a lock.
pub(crate) fn event(service: &Service, event: LockEvent) -> v1::LockServiceAcquireResponse {
    let state = match event {
        LockEvent::Queued { position, holder, session } => State::Queued(v1::LockQueued {
            position,
            holder: holder.map(|holder| holder.to_string()).unwrap_or_default(),
            session_id: session.to_string(),
        }),
        LockEvent::Granted { grant, session, valid_for } => State::Granted(v1::LockGranted {
            meta: Some(write_meta(service, grant.index)),
            fence: Some(wire_fence(&grant.fence)),
            session_id: session.to_string(),
            valid_for: valid_for.map(wire_duration),
        }),
        LockEvent::Extended { valid_for } => State::Extended(v1::LockExtended { valid_for: Some(wire_duration(valid_for)) }),
        LockEvent::Lost { cause, index } => State::Lost(lost(cause, index.0)),
    };
    v1::LockServiceAcquireResponse { state: Some(state) }
}

fn lost(cause: Loss, revision: u64) -> v1::LockLost {
    let (cause, end, message) = match cause {
        Loss::Released => (v1::LockLoss::Released, None, "it was released"),
        Loss::KeyDeleted => (v1::LockLoss::KeyDeleted, None, "its key was deleted"),
        Loss::SessionEnded(end) => {
            let (end, why) = session::words(end);
            (v1::LockLoss::SessionEnded, Some(end), why)
        }
    };
    let message = match end {
        Some(_) => format!("the session of the lock has ended: {message}"),
        None => format!("the lock is not held any more: {message}"),
    };
    v1::LockLost { cause: cause.into(), session_end: end.unwrap_or_default().into(), revision, message }
}

/// Who holds a lock, for those who look on.
pub(crate) fn seen(holder: &SeenHolder) -> v1::LockHolder {
    let SeenHolder { entry, session, node, waiting } = holder;
    let session: &SessionId = session;
    v1::LockHolder {
        session_id: session.to_string(),
        node: node.to_string(),
        value: entry.value().to_vec().into(),
        fencing_token: entry.fence().0,
        waiting: *waiting,
        key: entry.key().to_vec().into(),
    }
}
