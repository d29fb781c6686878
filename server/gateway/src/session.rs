//! `/v1/session/`: whether somebody is still there.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use serde_json::Value;
use service::session::NewSession;
use service::{Answer, Reason};
use state::{Behavior, Session, SessionId, Str};

use crate::Gateway;
use crate::decode::{self, Object};
use crate::duration;
use crate::json::{Json, session as shape};
use crate::reply::Reply;
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome};

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Numbers below this are seconds, as people write them, and not nanoseconds.
const SECONDS_BELOW: f64 = 1000.0;

/// `PUT /v1/session/create`
pub(crate) async fn create(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let body = request::read(&ask.headers, body, BODY_BYTES_MAX).await?;
    let wanted = match body.iter().all(u8::is_ascii_whitespace) {
        true => Wanted::default(),
        false => parse(&body).map_err(|error| Fault::bad(format!("Request decode failed: {error}")))?,
    };
    let limits = gateway.service.limits();
    let mut new = wanted.session;
    new.behavior = match &*wanted.behavior {
        "" | "release" => Behavior::Release,
        "delete" => Behavior::Delete,
        other => return Err(Fault::server(format!("Invalid Behavior setting '{other}'"))),
    };
    new.ttl = match &*wanted.ttl {
        "" => None,
        text => match duration::parse(text) {
            None => return Err(Fault::server(format!("Session TTL '{text}' invalid: time: invalid duration \"{text}\""))),
            Some(ttl) if ttl.is_zero() => None,
            Some(ttl) if ttl < limits.session_ttl_min || ttl > limits.session_ttl_max => {
                let [min, max] = [limits.session_ttl_min, limits.session_ttl_max].map(print);
                return Err(Fault::server(format!("Invalid Session TTL '{}', must be between [{min}={max}]", ttl.as_nanos())));
            }
            ttl => ttl,
        },
    };
    let done = gateway.service.session_create(&ask.caller, ask.datacenter(), new).await?;
    let mut json = Json::new();
    json.object(|json| {
        json.name("ID").text(&done.session.id.to_string());
    });
    Ok(gateway.json(ask, json))
}

/// `PUT /v1/session/destroy/:id`; one that does not exist has ended.
pub(crate) async fn destroy(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    if let Some(id) = id(ask)? {
        gateway.service.session_destroy(&ask.caller, ask.datacenter(), id, true).await?;
    }
    Ok(gateway.verdict(ask, true))
}

/// `PUT /v1/session/renew/:id`
pub(crate) async fn renew(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let missing = || Fault::missing(format!("Session id '{}' not found", ask.rest_text()));
    let id = id(ask)?.ok_or_else(missing)?;
    match gateway.service.session_renew(&ask.caller, ask.datacenter(), id).await {
        Ok(done) => Ok(gateway.json(ask, list_of(&[done.session]))),
        Err(error) if error.reason == Reason::UnknownSession => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// `GET /v1/session/info/:id`; no text names a session unless it is a UUID.
pub(crate) async fn info(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (options, blocking) = ask.reading()?;
    let id = id(ask)?.unwrap_or(SessionId([0; 16]));
    let Answer { value, meta } = gateway.service.session_get(&ask.caller, &options, blocking, id).await?;
    Ok(gateway.json(ask, list_of(value.as_slice())).at(&meta))
}

/// `GET /v1/session/node/:node`
pub(crate) async fn node(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.named("node name")?;
    sessions(gateway, ask, Some(&name)).await
}

/// `GET /v1/session/list`
pub(crate) async fn list(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    sessions(gateway, ask, None).await
}

async fn sessions(gateway: &Gateway, ask: &Ask, node: Option<&str>) -> Outcome<Reply> {
    let (options, blocking) = ask.reading()?;
    let Answer { value, meta } = gateway.service.session_list(&ask.caller, &options, blocking, node).await?;
    Ok(gateway.json(ask, list_of(&value)).at(&meta))
}

fn list_of(sessions: &[Arc<Session>]) -> Json {
    let mut json = Json::with_capacity(256 * sessions.len() + 2);
    json.array(|json| sessions.iter().for_each(|session| shape::session(json, session)));
    json
}

/// The id that ends the path; `None` when no session can have it.
fn id(ask: &Ask) -> Outcome<Option<SessionId>> {
    Ok(ask.named("session")?.parse().ok())
}

fn print(length: Duration) -> String {
    duration::print_ms(length.as_millis() as u64)
}

/// A session as it was asked for; texts that only the state of this server can judge are kept.
#[derive(Default)]
struct Wanted {
    session: NewSession,
    behavior: Str,
    ttl: Str,
}

fn parse(body: &[u8]) -> Result<Wanted, String> {
    let mut fields = Object::parse(body)?;
    let (behavior, ttl) = (fields.text("Behavior")?, fields.text("TTL")?);
    let checks = named_checks(&mut fields, "Checks")?;
    let session = NewSession {
        name: fields.text("Name")?,
        node: fields.text("Node")?,
        lock_delay_ms: lock_delay(&mut fields)?,
        node_checks: named_checks(&mut fields, "NodeChecks")?.or(checks),
        service_checks: service_checks(&mut fields)?,
        ..Default::default()
    };
    // What only an answer carries may be sent back.
    for name in ["ID", "CreateIndex", "ModifyIndex"] {
        fields.take(name);
    }
    fields.no_enterprise()?;
    fields.finish()?;
    Ok(Wanted { session, behavior, ttl })
}

/// An empty list asks for no check; one that is left out for the usual.
fn named_checks(fields: &mut Object, name: &str) -> Result<Option<Vec<Str>>, String> {
    fields.take(name).map(|value| decode::texts(value, name)).transpose()
}

fn service_checks(fields: &mut Object) -> Result<Vec<Str>, String> {
    let read = |mut check: Object| {
        let id = check.text("ID")?;
        check.no_enterprise()?;
        check.finish()?;
        Ok(id)
    };
    fields.objects("ServiceChecks")?.into_iter().map(read).collect()
}

/// A text with a unit, nanoseconds, or a small number of seconds.
fn lock_delay(fields: &mut Object) -> Result<Option<u64>, String> {
    let problem = |value: &dyn std::fmt::Display| format!("time: invalid duration {value} in field LockDelay");
    match fields.take("LockDelay") {
        None => Ok(None),
        Some(Value::String(text)) => {
            let length = duration::parse(&text).ok_or_else(|| problem(&format_args!("\"{text}\"")))?;
            Ok(Some(length.as_millis() as u64))
        }
        Some(value) => match value.as_f64() {
            Some(number) if number < 0.0 => Ok(Some(0)),
            Some(seconds) if seconds < SECONDS_BELOW => Ok(Some((seconds * 1e3) as u64)),
            Some(nanos) => Ok(Some((nanos / 1e6) as u64)),
            None => Err(problem(&value)),
        },
    }
}
