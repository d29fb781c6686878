//! `/v1/watch/`: changes as they happen, one JSON line each.
//!
//! ```text
//! GET /v1/watch/kv/<key>[?recurse]          GET /v1/watch/services
//! GET /v1/watch/service/<name>[?passing&tag=…]
//! GET /v1/watch/nodes                       GET /v1/watch/node/<name>
//! GET /v1/watch/checks[/node/<name>|/service/<name>|/state/<status>]
//! ```
//!
//! The answer begins with what there is (`snapshot` lines and a `snapshot_end`), and then tells
//! each change once and in order (`put`, `delete`). Whoever remembers the last `Cursor` that was
//! read can go on after it, on any server, with `?cursor=`. When that is not possible any more, or
//! when the reader was too slow, a `reset` line says so and a snapshot follows. A `bookmark` line
//! carries a newer cursor while nothing happens. Asked for `text/event-stream`, the same lines come
//! as server-sent events, whose id is the cursor: browsers resume by themselves.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::HeaderValue;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use service::watch::{CheckScope, Cursor, Event, Format, ResetReason, Start, Target, WatchEvent, WatchStream};
use state::{LogIndex, Status};
use tokio_util::sync::CancellationToken;

use crate::Gateway;
use crate::json::{Json, catalog, check, kv};
use crate::reply::{Content, Reply};
use crate::request::Ask;
use crate::status::{Fault, Outcome};

/// The number of the only watch on a stream.
const WATCH: u64 = 1;

/// Starts a watch.
pub(crate) async fn stream(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let target = target(ask)?;
    let start = match resume(ask)? {
        Some(cursor) => Start::Resume(cursor),
        None => Start::Snapshot,
    };
    let (options, _) = ask.reading()?;
    let mut watches = gateway.service.watch_stream(&ask.caller);
    watches.create(WATCH, target, &options, start).await?;
    let accept = ask.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let events = accept.contains("text/event-stream");
    let lines = Lines { watches, events, stop: ask.stop.clone().unwrap_or_default(), ended: false };
    let body = Body::from_stream(stream::unfold(lines, |mut lines| async {
        let piece = lines.next_piece().await?;
        Some((Ok::<Bytes, Infallible>(piece), lines))
    }));
    let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
    Ok(Reply { content: Content::Stream(body), ..Reply::empty() }
        .with(CONTENT_TYPE, HeaderValue::from_static(kind))
        .with(CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

fn target(ask: &Ask) -> Outcome<Target> {
    let path = ask.rest_text();
    let (noun, name) = path.split_once('/').unwrap_or((&path, ""));
    let target = match (noun, name) {
        ("kv", _) if ask.params.has("recurse") => Target::KvPrefix(key(ask).into()),
        ("kv", name) if !name.is_empty() => Target::KvKey(key(ask).into()),
        ("service", name) if !name.is_empty() => {
            let passing_only = ask.params.first("passing").is_some_and(|value| !matches!(value, "0" | "false"));
            Target::Service { name: name.into(), passing_only, tags: ask.params.all("tag").map(Into::into).collect() }
        }
        ("services", "") => Target::Services,
        ("nodes", "") => Target::Nodes,
        ("node", name) if !name.is_empty() => Target::Node(name.into()),
        ("checks", scope) => Target::Checks(check_scope(scope)?),
        _ => return Err(unknown()),
    };
    Ok(target)
}

/// The bytes of the key, which need not be text.
fn key(ask: &Ask) -> &[u8] {
    ask.rest.strip_prefix(b"kv/").unwrap_or_default()
}

fn check_scope(scope: &str) -> Outcome<CheckScope> {
    match scope.split_once('/').unwrap_or((scope, "")) {
        ("" | "any", "") => Ok(CheckScope::Any),
        ("node", name) if !name.is_empty() => Ok(CheckScope::Node(name.into())),
        ("service", name) if !name.is_empty() => Ok(CheckScope::Service(name.into())),
        ("state", "any") => Ok(CheckScope::Any),
        ("state", name) => Status::from_name(name).map(CheckScope::Status).ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

fn unknown() -> Fault {
    Fault::missing(
        "Nothing can be watched under this path; there are kv/<key>, service/<name>, services, nodes, node/<name> \
         and checks, checks/node/<name>, checks/service/<name>, checks/state/<status>",
    )
}

fn resume(ask: &Ask) -> Outcome<Option<Cursor>> {
    let header = ask.headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let Some(text) = ask.params.get("cursor").or(header).filter(|text| !text.is_empty()) else { return Ok(None) };
    let cursor = unhex(text).and_then(|bytes| Cursor::from_bytes(&bytes));
    cursor.map(Some).ok_or_else(|| Fault::bad(format!("Invalid cursor \"{text}\"; pass one that a watch has told")))
}

fn hex(cursor: Cursor) -> String {
    cursor.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}

/// A watch being written. It holds no more than the piece that the reader is about to take.
struct Lines {
    watches: WatchStream,
    events: bool,
    stop: CancellationToken,
    ended: bool,
}

impl Lines {
    async fn next_piece(&mut self) -> Option<Bytes> {
        while !self.ended {
            let event = tokio::select! {
                event = self.watches.next() => event,
                () = self.stop.cancelled() => {
                    self.ended = true;
                    return Some(self.framed(error_line("SHUTTING_DOWN", "the agent is shutting down; resume on another"), None));
                }
            };
            if let Some(piece) = self.piece(event) {
                return Some(piece);
            }
        }
        None
    }

    fn piece(&mut self, event: WatchEvent) -> Option<Bytes> {
        let (lines, cursor) = match event {
            WatchEvent::Created { .. } => return None,
            WatchEvent::Snapshot { index, events, .. } => (rows(&events, index, None, true), None),
            WatchEvent::SnapshotEnd { cursor, .. } => (mark_line("snapshot_end", cursor), Some(cursor)),
            WatchEvent::Bookmark { cursor } => (mark_line("bookmark", cursor), Some(cursor)),
            WatchEvent::Reset { reason, .. } => (reset_line(reason), None),
            WatchEvent::Changes { cursor, delta, chunk, .. } => {
                let lines = delta.chunks[chunk].encoded(Format::Json, |events| rows(events, delta.index, Some(cursor), false));
                (lines, Some(cursor))
            }
            WatchEvent::Cancelled { error, .. } => {
                self.ended = true;
                let error = error?;
                (error_line(error.reason.as_str(), &error.message), None)
            }
        };
        Some(self.framed(lines, cursor))
    }

    /// The lines as they are, or each as a server-sent event. The last one carries the id, so that
    /// a reader who is cut off in between asks for all of them again.
    fn framed(&self, lines: Bytes, cursor: Option<Cursor>) -> Bytes {
        if !self.events {
            return lines;
        }
        let mut out = Vec::with_capacity(lines.len() + 64);
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        for (position, line) in lines.split(|byte| *byte == b'\n').take(count).enumerate() {
            if let Some(kind) = kind_of(line) {
                out.extend_from_slice(b"event: ");
                out.extend_from_slice(kind);
                out.push(b'\n');
            }
            if let Some(cursor) = cursor.filter(|_| position + 1 == count) {
                out.extend_from_slice(format!("id: {}\n", hex(cursor)).as_bytes());
            }
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.extend_from_slice(b"\n\n");
        }
        out.into()
    }
}

/// The type of a line: it stands first in each.
fn kind_of(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(br#"{"Type":""#)?;
    rest.split(|byte| *byte == b'"').next()
}

fn rows(events: &[Event], index: LogIndex, cursor: Option<Cursor>, snapshot: bool) -> Bytes {
    let mut json = Json::with_capacity(512 * events.len());
    for (position, event) in events.iter().enumerate() {
        let is_put =
            matches!(event, Event::KvPut(_) | Event::InstancePut(_) | Event::NodePut(_) | Event::CheckPut(_) | Event::ServicePut(_));
        let kind = match (snapshot, is_put) {
            (true, _) => "snapshot",
            (_, true) => "put",
            (_, false) => "delete",
        };
        json.object(|json| {
            json.name("Type").text(kind).name("Index").number(index.0);
            row(json, event);
            if let Some(cursor) = cursor.filter(|_| position + 1 == events.len()) {
                json.name("Cursor").text(&hex(cursor));
            }
        });
        json.out.push(b'\n');
    }
    json.out.into()
}

fn row(json: &mut Json, event: &Event) {
    match event {
        Event::KvPut(entry) | Event::KvDelete(entry) => {
            json.name("KV");
            kv::entry(json, entry, true);
        }
        Event::InstancePut(row) | Event::InstanceDelete(row) => {
            json.name("Instance");
            catalog::instance(json, row);
        }
        Event::NodePut(row) | Event::NodeDelete(row) => {
            json.name("Node");
            catalog::node(json, row);
        }
        Event::CheckPut(row) | Event::CheckDelete(row) => {
            json.name("Check");
            check::check(json, row);
        }
        Event::SessionPut(row) | Event::SessionDelete(row) => {
            json.name("Session");
            crate::json::session::session(json, row);
        }
        Event::ServicePut(row) | Event::ServiceDelete(row) => {
            json.name("Service").object(|json| {
                json.name("Name").text(&row.name).name("Tags").texts(&row.tags);
            });
        }
    }
}

fn mark_line(kind: &str, cursor: Cursor) -> Bytes {
    line(|json| {
        json.name("Type").text(kind).name("Index").number(cursor.index.0).name("Cursor").text(&hex(cursor));
    })
}

fn reset_line(reason: ResetReason) -> Bytes {
    let reason = match reason {
        ResetReason::Compacted => "COMPACTED",
        ResetReason::SlowConsumer => "SLOW_CONSUMER",
        ResetReason::ForeignCursor => "FOREIGN_CURSOR",
    };
    line(|json| {
        json.name("Type").text("reset").name("Reason").text(reason);
    })
}

fn error_line(reason: &str, message: &str) -> Bytes {
    line(|json| {
        json.name("Type").text("error").name("Reason").text(reason).name("Message").text(message);
    })
}

fn line(fields: impl FnOnce(&mut Json)) -> Bytes {
    let mut json = Json::new();
    json.object(fields);
    json.out.push(b'\n');
    json.out.into()
}
