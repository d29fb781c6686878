//! What a watch tells, as messages: a small head for one watch, and a body that all share.

use bytes::Bytes;
use proto::v1::watch_response::Event;
use proto::{Encoded, v1};
use service::watch::WatchEvent;
use service::{Error, Service};

use crate::convert::watch as convert;
use crate::status::refusal;

/// An event as a message. `instead` stands in for the number of its watch.
pub(super) fn encode(service: &Service, event: WatchEvent, instead: Option<u64>) -> Encoded<v1::WatchResponse> {
    let number = |watch_id: u64| instead.unwrap_or(watch_id);
    match event {
        WatchEvent::Created { watch_id, cursor } => {
            let (cursor, revision) = cursor.map_or((Bytes::new(), 0), |cursor| (convert::cursor(cursor), cursor.index.0));
            whole(number(watch_id), cursor, revision, Event::Created(v1::Created {}))
        }
        WatchEvent::Snapshot { watch_id, index, events } => whole(number(watch_id), Bytes::new(), index.0, convert::snapshot(&events)),
        WatchEvent::SnapshotEnd { watch_id, cursor } => {
            whole(number(watch_id), convert::cursor(cursor), cursor.index.0, Event::SnapshotEnd(v1::SnapshotEnd {}))
        }
        WatchEvent::Changes { watch_id, cursor, previous, delta, chunk } => {
            let head = v1::WatchResponse {
                watch_id: number(watch_id),
                cursor: convert::cursor(cursor),
                previous_cursor: convert::cursor(previous),
                revision: delta.index.0,
                event: None,
            };
            Encoded::joined(&head, convert::encoded(&delta, chunk))
        }
        WatchEvent::Bookmark { cursor } => {
            let bookmark = v1::Bookmark { leader_known: service.consensus_status().leader.is_some() };
            whole(0, convert::cursor(cursor), cursor.index.0, Event::Bookmark(bookmark))
        }
        WatchEvent::Reset { watch_id, reason } => whole(number(watch_id), Bytes::new(), 0, Event::Reset(convert::reset(reason))),
        WatchEvent::Cancelled { watch_id, error } => cancelled(number(watch_id), error),
    }
}

/// The watch has ended, at the client's wish or with a refusal.
pub(super) fn cancelled(watch_id: u64, error: Option<Error>) -> Encoded<v1::WatchResponse> {
    whole(watch_id, Bytes::new(), 0, Event::Cancelled(v1::Cancelled { refusal: error.map(refusal) }))
}

fn whole(watch_id: u64, cursor: Bytes, revision: u64, event: Event) -> Encoded<v1::WatchResponse> {
    Encoded::whole(&v1::WatchResponse { watch_id, cursor, previous_cursor: Bytes::new(), revision, event: Some(event) })
}
