//! Watches: what is looked at, and what is told.

use ::service::Error;
use ::service::watch::{CheckScope, Chunk, Cursor, Delta, Event, Format, ResetReason, Start, Target};
use bytes::Bytes;
use prost::Message;
use proto::v1;
use proto::v1::change::Change;
use proto::v1::checks_target::Selection;
use proto::v1::watch_response::Event as Told;
use proto::v1::watch_target::Target as Wire;

use super::check::{check, required_status};
use super::kv::entry;
use super::node::node;
use super::service::{instance, summary};
use crate::status::invalid;

/// What a watch looks at.
pub(crate) fn target(target: Option<v1::WatchTarget>) -> Result<Target, Error> {
    let wire = target.and_then(|v1::WatchTarget { target }| target);
    match wire.ok_or_else(|| invalid("target", "it is missing; say what to watch"))? {
        Wire::KvKey(key) => kv_key(&key),
        Wire::KvPrefix(prefix) => Ok(Target::KvPrefix((*prefix).into())),
        Wire::Service(service) => service_target(Some(service)),
        Wire::Node(name) => named("node", name).map(|name| Target::Node(name.into())),
        Wire::Checks(checks) => checks_target(Some(checks)).map(Target::Checks),
        Wire::Services(v1::AllServices {}) => Ok(Target::Services),
        Wire::Nodes(v1::AllNodes {}) => Ok(Target::Nodes),
    }
}

/// One key.
pub(crate) fn kv_key(key: &[u8]) -> Result<Target, Error> {
    if key.is_empty() { Err(invalid("key", "it has no bytes")) } else { Ok(Target::KvKey(key.into())) }
}

/// The instances of one service.
pub(crate) fn service_target(service: Option<v1::ServiceTarget>) -> Result<Target, Error> {
    let v1::ServiceTarget { name, passing_only, tags } = service.unwrap_or_default();
    let name = named("service", name)?.into();
    Ok(Target::Service { name, passing_only, tags: super::common::strs(tags) })
}

/// A choice of checks.
pub(crate) fn checks_target(target: Option<v1::ChecksTarget>) -> Result<CheckScope, Error> {
    let selection = target.and_then(|v1::ChecksTarget { selection }| selection);
    match selection.ok_or_else(|| invalid("selection", "it is missing; say which checks, or `all`"))? {
        Selection::Node(name) => named("node", name).map(|name| CheckScope::Node(name.into())),
        Selection::Service(name) => named("service", name).map(|name| CheckScope::Service(name.into())),
        Selection::Status(status) => required_status("status", status).map(CheckScope::Status),
        Selection::All(true) => Ok(CheckScope::Any),
        Selection::All(false) => Err(invalid("all", "only `true` is valid")),
    }
}

fn named(field: &'static str, name: String) -> Result<String, Error> {
    if name.is_empty() { Err(invalid(field, "it has no name")) } else { Ok(name) }
}

/// How a watch begins.
pub(crate) fn start(resume_from: &[u8], skip_snapshot: bool) -> Result<Start, Error> {
    match (resume_from, skip_snapshot) {
        (b"", false) => Ok(Start::Snapshot),
        (b"", true) => Ok(Start::Now),
        (cursor, _) => {
            let cursor = Cursor::from_bytes(cursor);
            cursor.map(Start::Resume).ok_or_else(|| invalid("resume_from", "no server made this cursor; begin with an empty one"))
        }
    }
}

/// A cursor for the wire.
pub(crate) fn cursor(cursor: Cursor) -> Bytes {
    Bytes::copy_from_slice(&cursor.to_bytes())
}

/// The changes of one chunk as all watches of the target are told them: the fields of a
/// [`v1::WatchResponse`] that do not differ, encoded once.
pub(crate) fn encoded(delta: &Delta, chunk: usize) -> Bytes {
    let continued = chunk + 1 < delta.chunks.len();
    let part: &Chunk = &delta.chunks[chunk];
    part.encoded(Format::Proto, |events| {
        let changes = v1::Changes { changes: events.iter().map(change).collect(), continued };
        v1::WatchResponse { event: Some(Told::Changes(changes)), ..v1::WatchResponse::default() }.encode_to_vec().into()
    })
}

/// A part of a snapshot.
pub(crate) fn snapshot(events: &[Event]) -> Told {
    Told::Snapshot(v1::SnapshotChunk { changes: events.iter().map(change).collect() })
}

/// One row that came, changed or went.
fn change(event: &Event) -> v1::Change {
    let change = match event {
        // No watch of the contract asks for sessions.
        Event::SessionPut(_) | Event::SessionDelete(_) => return v1::Change::default(),
        Event::KvPut(row) => Change::KvPut(entry(row)),
        Event::KvDelete(row) => Change::KvDelete(Bytes::copy_from_slice(row.key())),
        Event::InstancePut(row) => Change::InstancePut(instance(row)),
        Event::InstanceDelete(row) => Change::InstanceDelete(v1::InstanceDelete {
            node: row.node.name.to_string(),
            service_id: row.service.id.to_string(),
            service: row.service.name.to_string(),
        }),
        Event::NodePut(row) => Change::NodePut(node(row)),
        Event::NodeDelete(row) => Change::NodeDelete(row.name.to_string()),
        Event::CheckPut(row) => Change::CheckPut(check(row)),
        Event::CheckDelete(row) => Change::CheckDelete(v1::CheckKey { node: row.node.to_string(), check_id: row.id.to_string() }),
        Event::ServicePut(row) => Change::ServicePut(summary(&row.name, &row.tags, None)),
        Event::ServiceDelete(row) => Change::ServiceDelete(row.name.to_string()),
    };
    v1::Change { change: Some(change) }
}

/// Why a watch begins anew.
pub(crate) fn reset(reason: ResetReason) -> v1::Reset {
    let (reason, message) = match reason {
        ResetReason::Compacted => (
            v1::ResetReason::Compacted,
            "the cursor is older than the history that is kept; a snapshot follows: come back sooner, or keep more history",
        ),
        ResetReason::SlowConsumer => (
            v1::ResetReason::SlowConsumer,
            "this reader fell behind the history that is kept; a snapshot follows: read faster, or watch less",
        ),
        ResetReason::ForeignCursor => {
            (v1::ResetReason::ForeignCursor, "the cursor is from another cluster, or from before a restore; a snapshot follows")
        }
    };
    v1::Reset { reason: reason.into(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(target: Wire) -> Option<v1::WatchTarget> {
        Some(v1::WatchTarget { target: Some(target) })
    }

    fn checks(selection: Selection) -> Option<v1::WatchTarget> {
        wire(Wire::Checks(v1::ChecksTarget { selection: Some(selection) }))
    }

    #[test]
    fn every_target_is_taken() {
        let service = v1::ServiceTarget { name: "Web".into(), passing_only: true, tags: vec!["a".into()] };
        let expected = Target::Service { name: "Web".into(), passing_only: true, tags: vec!["a".into()] };
        for (given, expected) in [
            (wire(Wire::KvKey("k".into())), Target::KvKey((*b"k").into())),
            (wire(Wire::KvPrefix("".into())), Target::KvPrefix(Box::default())),
            (wire(Wire::Service(service)), expected),
            (wire(Wire::Node("n".into())), Target::Node("n".into())),
            (wire(Wire::Services(v1::AllServices {})), Target::Services),
            (wire(Wire::Nodes(v1::AllNodes {})), Target::Nodes),
            (checks(Selection::All(true)), Target::Checks(CheckScope::Any)),
            (checks(Selection::Status(3)), Target::Checks(CheckScope::Status(state::Status::Critical))),
        ] {
            assert_eq!(target(given).unwrap(), expected);
        }
    }

    #[test]
    fn a_target_that_names_nothing_is_refused() {
        for given in [
            None,
            Some(v1::WatchTarget::default()),
            wire(Wire::KvKey("".into())),
            wire(Wire::Node(String::new())),
            wire(Wire::Service(v1::ServiceTarget::default())),
            wire(Wire::Checks(v1::ChecksTarget::default())),
            checks(Selection::All(false)),
            checks(Selection::Status(0)),
        ] {
            assert!(target(given.clone()).is_err(), "{given:?}");
        }
    }

    #[test]
    fn a_cursor_is_read_back_and_one_that_nobody_made_is_refused() {
        let given = Cursor { incarnation: 7, index: state::LogIndex(9), offset: 2 };
        assert!(matches!(start(&cursor(given), true), Ok(Start::Resume(read)) if read == given));
        assert!(matches!(start(b"", false), Ok(Start::Snapshot)));
        assert!(matches!(start(b"", true), Ok(Start::Now)));
        assert!(start(b"made up", false).is_err());
    }
}
