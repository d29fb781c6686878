//! `/v1/agent/health/service/`: the worst status of local instances, also as a status code, for
//! load balancers that ask no more.

use http::header::ACCEPT;
use http::{HeaderName, StatusCode};
use service::agent::{Aggregate, InstanceHealth};

use crate::Gateway;
use crate::json::{Json, agent as shape, check as check_shape};
use crate::reply::Reply;
use crate::request::Ask;
use crate::status::Outcome;

const REASON: HeaderName = HeaderName::from_static("x-consul-reason");

fn code(status: Aggregate) -> StatusCode {
    match status {
        Aggregate::Passing => StatusCode::OK,
        Aggregate::Warning => StatusCode::TOO_MANY_REQUESTS,
        Aggregate::Critical | Aggregate::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `GET /v1/agent/health/service/id/:id`
pub(crate) fn health_by_id(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let id = ask.named("service ID")?;
    let Ok(judged) = gateway.service.agent().health_by_id(&ask.caller, &id) else {
        return Ok(unknown(ask, &format!("ServiceId {id} not found")));
    };
    let mut json = Json::new();
    print(&mut json, gateway, &judged);
    Ok(answer(gateway, ask, json, judged.status))
}

/// `GET /v1/agent/health/service/name/:name`
pub(crate) fn health_by_name(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.named("service name")?;
    let judged = gateway.service.agent().health_by_name(&ask.caller, &name);
    let Some(worst) = judged.iter().map(|judged| judged.status).max() else {
        return Ok(unknown(ask, &format!("ServiceName {name} not found")));
    };
    let mut json = Json::new();
    json.array(|json| judged.iter().for_each(|judged| print(json, gateway, judged)));
    Ok(answer(gateway, ask, json, worst))
}

fn print(json: &mut Json, gateway: &Gateway, judged: &InstanceHealth) {
    json.object(|json| {
        json.name("AggregatedStatus").text(judged.status.as_str());
        json.name("Service");
        shape::service(json, &judged.service, &gateway.service.identity().datacenter, None);
        json.name("Checks").array(|json| judged.checks.iter().for_each(|check| check_shape::check(json, check)));
    });
}

fn answer(gateway: &Gateway, ask: &Ask, json: Json, status: Aggregate) -> Reply {
    let reply = if wants_text(ask) { Reply::text(code(status), status.as_str()) } else { gateway.json(ask, json) };
    let reply = reply.status(code(status));
    if status == Aggregate::Passing { reply } else { reply.with_text(REASON, status.as_str()) }
}

fn unknown(ask: &Ask, reason: &str) -> Reply {
    let text = if wants_text(ask) { Aggregate::Critical.as_str() } else { reason };
    Reply::text(StatusCode::NOT_FOUND, text.to_owned()).with_text(REASON, reason)
}

fn wants_text(ask: &Ask) -> bool {
    let accept = ask.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ask.params.get("format") == Some("text") || accept.starts_with("text/plain")
}
