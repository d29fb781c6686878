//! `/v1/kv/`: keys and values.

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use service::kv::{KvRange, Put};
use service::{Error, Meta, Reason};
use state::{Compare, KvEntry, LockAction, LogIndex};

use crate::Gateway;
use crate::json::{Indenter, Json, kv as shape};
use crate::reply::{Content, Reply};
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome};

/// Lists are sent in pieces of about this many bytes, and at once when one is enough.
const PIECE_BYTES: usize = 256 * 1024;

/// `GET`: one key, everything under a prefix, or names only.
pub(crate) async fn get(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    if ask.params.has("keys") {
        return keys(gateway, ask).await;
    }
    if ask.params.has("recurse") {
        return tree(gateway, ask).await;
    }
    if ask.rest.is_empty() {
        return Err(Fault::bad("Missing key name"));
    }
    let (options, blocking) = ask.reading()?;
    let answer = gateway.service.kv_get(&ask.caller, &options, blocking, &ask.rest).await?;
    let Some(entry) = answer.value else { return Ok(nothing(&answer.meta)) };
    if ask.params.has("raw") {
        return Ok(raw(&entry).at(&answer.meta));
    }
    let mut json = Json::with_capacity(shape::size(&entry) + 2);
    json.array(|json| shape::entry(json, &entry, true));
    Ok(gateway.json(ask, json).at(&answer.meta))
}

/// What is answered for what is not there: no body, but a place in time to wait from.
fn nothing(meta: &Meta) -> Reply {
    Reply::empty().status(StatusCode::NOT_FOUND).at(meta)
}

/// The value as it is. The headers keep a browser from taking it for a page of this site.
fn raw(entry: &KvEntry) -> Reply {
    Reply { content: Content::Bytes(Bytes::copy_from_slice(entry.value())), ..Reply::empty() }
        .with(CONTENT_TYPE, HeaderValue::from_static("text/plain"))
        .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .with(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"))
}

async fn keys(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (options, blocking) = ask.reading()?;
    let separator = ask.params.get("separator").or_else(|| ask.params.get("seperator")).unwrap_or_default();
    let answer = gateway.service.kv_list(&ask.caller, &options, blocking, &ask.rest).await?;
    if answer.value.is_empty() && !ask.rest.is_empty() {
        return Ok(nothing(&answer.meta));
    }
    let mut json = Json::new();
    json.array(|json| {
        for key in answer.value.keys(separator.as_bytes()) {
            json.lossy(key);
        }
    });
    Ok(gateway.json(ask, json).at(&answer.meta))
}

async fn tree(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (options, blocking) = ask.reading()?;
    let answer = gateway.service.kv_list(&ask.caller, &options, blocking, &ask.rest).await?;
    if answer.value.is_empty() {
        return Ok(nothing(&answer.meta));
    }
    let mut walk = Walk::new(answer.value, gateway.pretty(ask));
    let first = walk.next_piece();
    let content = match walk.done {
        true => Content::Bytes(first),
        false => {
            let rest = stream::iter(std::iter::once(first).chain(walk));
            Content::Stream(Body::from_stream(futures::StreamExt::map(rest, Ok::<Bytes, std::convert::Infallible>)))
        }
    };
    Ok(Reply::json(content).at(&answer.meta))
}

/// A list of entries being written, a piece at a time: a reader who stops reading costs one piece
/// and a snapshot, however large the list.
struct Walk {
    range: KvRange,
    after: Option<Vec<u8>>,
    indenter: Option<Indenter>,
    started: bool,
    done: bool,
}

impl Walk {
    fn new(range: KvRange, pretty: bool) -> Self {
        Walk { range, after: None, indenter: pretty.then(Indenter::default), started: false, done: false }
    }

    fn next_piece(&mut self) -> Bytes {
        let mut json = Json::with_capacity(PIECE_BYTES / 16);
        json.out.push(if self.started { b',' } else { b'[' });
        self.started = true;
        let mut last = None;
        let mut cut = false;
        for entry in self.range.iter_after(self.after.as_deref()) {
            if json.out.len() >= PIECE_BYTES {
                cut = true;
                break;
            }
            shape::entry(&mut json, entry, true);
            last = Some(entry.clone());
        }
        self.after = last.map(|entry| entry.key().to_vec()).or_else(|| self.after.take());
        if !cut {
            self.done = true;
            json.out.push(b']');
        }
        self.indented(json.out)
    }

    fn indented(&mut self, piece: Vec<u8>) -> Bytes {
        let Some(indenter) = &mut self.indenter else { return piece.into() };
        let mut out = Vec::with_capacity(piece.len() * 2);
        indenter.feed(&piece, &mut out);
        if self.done {
            out.push(b'\n');
        }
        out.into()
    }
}

impl Iterator for Walk {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done { None } else { Some(self.next_piece()) }
    }
}

/// `PUT`: writes a key, under a condition or with a lock if asked.
pub(crate) async fn put(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    if ask.rest.is_empty() {
        return Err(Fault::bad("Missing key name"));
    }
    let (cas, acquire, release) = (ask.params.first("cas"), ask.params.first("acquire"), ask.params.first("release"));
    if [cas, acquire, release].iter().flatten().count() > 1 {
        return Err(conflicting(ask));
    }
    let flags = match ask.params.first("flags") {
        Some(text) => number(text)?,
        None => 0,
    };
    let compare = match cas.map(number).transpose()? {
        None => Compare::Any,
        Some(0) => Compare::Absent,
        Some(index) => Compare::ModifyIndex(LogIndex(index)),
    };
    let lock = match (acquire, release) {
        (Some(session), _) => LockAction::Acquire(session_id(session)?),
        (_, Some(session)) => LockAction::Release(session_id(session)?),
        _ => LockAction::Keep,
    };
    let value = request::read(&ask.headers, body, gateway.service.limits().value_bytes_max).await?;
    let put = Put { key: ask.rest.clone(), value: value.into(), flags, compare, lock, fence: None };
    let result = gateway.service.kv_put(&ask.caller, ask.datacenter(), put).await;
    verdict(gateway, ask, result.map(drop))
}

/// `DELETE`: one key, or everything under a prefix.
pub(crate) async fn delete(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let cas = ask.params.first("cas");
    if ask.params.has("recurse") {
        if cas.is_some() {
            return Err(conflicting(ask));
        }
        gateway.service.kv_delete_prefix(&ask.caller, ask.datacenter(), &ask.rest, None).await?;
        return Ok(gateway.verdict(ask, true));
    }
    if ask.rest.is_empty() {
        return Err(Fault::bad("Missing key name"));
    }
    let compare = match cas.map(number).transpose()? {
        None => Compare::Any,
        Some(index) => Compare::ModifyIndex(LogIndex(index)),
    };
    let result = gateway.service.kv_delete(&ask.caller, ask.datacenter(), &ask.rest, compare).await;
    verdict(gateway, ask, result.map(drop))
}

/// A condition that does not hold is an answer here, not an error.
fn verdict(gateway: &Gateway, ask: &Ask, result: Result<(), Error>) -> Outcome<Reply> {
    match result {
        Ok(()) => Ok(gateway.verdict(ask, true)),
        Err(error) if matches!(error.reason, Reason::PreconditionFailed | Reason::LockHeld | Reason::LockDelay | Reason::LockNotHeld) => {
            Ok(gateway.verdict(ask, false))
        }
        Err(error) => Err(error.into()),
    }
}

fn conflicting(ask: &Ask) -> Fault {
    Fault::bad(format!("Conflicting flags: {}\n", ask.uri.query().unwrap_or_default()))
}

fn number(text: &str) -> Outcome<u64> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let problem = if all_digits { "value out of range" } else { "invalid syntax" };
    let number = if all_digits { text.parse().ok() } else { None };
    number.ok_or_else(|| Fault::server(format!("strconv.ParseUint: parsing \"{text}\": {problem}")))
}

fn session_id(text: &str) -> Outcome<state::SessionId> {
    if text.is_empty() {
        return Err(Fault::server("raft apply failed: missing session"));
    }
    text.parse().map_err(|_| Fault::server(format!("raft apply failed: invalid session \"{text}\"")))
}
