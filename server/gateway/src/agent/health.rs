//! `/v1/agent/health/service/`: the worst status of local instances, also as a status code, for
//! load balancers that ask no more.

use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderName, StatusCode};
use service::agent::LocalService;
use state::{Check, Status};

use crate::Gateway;
use crate::json::{Json, agent as shape, check as check_shape};
use crate::reply::Reply;
use crate::request::Ask;
use crate::status::Outcome;

const REASON: HeaderName = HeaderName::from_static("x-consul-reason");

const NODE_MAINTENANCE: &str = "_node_maintenance";
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// The worst of several checks, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Aggregate {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

impl Aggregate {
    fn of(check: &Check) -> Self {
        match check.status {
            Status::Critical if &*check.id == NODE_MAINTENANCE || check.id.starts_with(SERVICE_MAINTENANCE) => Aggregate::Maintenance,
            Status::Critical => Aggregate::Critical,
            Status::Warning => Aggregate::Warning,
            Status::Passing => Aggregate::Passing,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Aggregate::Passing => "passing",
            Aggregate::Warning => "warning",
            Aggregate::Critical => "critical",
            Aggregate::Maintenance => "maintenance",
        }
    }

    fn code(self) -> StatusCode {
        match self {
            Aggregate::Passing => StatusCode::OK,
            Aggregate::Warning => StatusCode::TOO_MANY_REQUESTS,
            Aggregate::Critical | Aggregate::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An instance with the checks that decide on it.
struct Judged {
    local: LocalService,
    checks: Vec<Arc<Check>>,
    status: Aggregate,
}

/// `GET /v1/agent/health/service/id/:id`
pub(crate) fn health_by_id(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let id = ask.named("service ID")?;
    let Some(local) = gateway.service.agent().service(&ask.caller, &id) else {
        return Ok(unknown(ask, &format!("ServiceId {id} not found")));
    };
    let judged = judge(gateway, ask, local);
    let mut json = Json::new();
    print(&mut json, gateway, &judged);
    Ok(answer(gateway, ask, json, judged.status))
}

/// `GET /v1/agent/health/service/name/:name`
pub(crate) fn health_by_name(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.named("service name")?;
    let named = gateway.service.agent().services(&ask.caller).into_values().filter(|local| *local.row.name == *name);
    let judged: Vec<Judged> = named.map(|local| judge(gateway, ask, local)).collect();
    let Some(worst) = judged.iter().map(|judged| judged.status).max() else {
        return Ok(unknown(ask, &format!("ServiceName {name} not found")));
    };
    let mut json = Json::new();
    json.array(|json| judged.iter().for_each(|judged| print(json, gateway, judged)));
    Ok(answer(gateway, ask, json, worst))
}

fn judge(gateway: &Gateway, ask: &Ask, local: LocalService) -> Judged {
    let decides = |check: &Arc<Check>| check.service_id.is_empty() || check.service_id == local.row.id;
    let checks: Vec<Arc<Check>> = gateway.service.agent().checks(&ask.caller).into_values().filter(decides).collect();
    let status = checks.iter().map(|check| Aggregate::of(check)).max().unwrap_or(Aggregate::Passing);
    Judged { local, checks, status }
}

fn print(json: &mut Json, gateway: &Gateway, judged: &Judged) {
    json.object(|json| {
        json.name("AggregatedStatus").text(judged.status.name());
        json.name("Service");
        shape::service(json, &judged.local, &gateway.service.identity().datacenter, None);
        json.name("Checks").array(|json| judged.checks.iter().for_each(|check| check_shape::check(json, check)));
    });
}

fn answer(gateway: &Gateway, ask: &Ask, json: Json, status: Aggregate) -> Reply {
    let reply = if wants_text(ask) { Reply::text(status.code(), status.name()) } else { gateway.json(ask, json) };
    let reply = reply.status(status.code());
    if status == Aggregate::Passing { reply } else { reply.with_text(REASON, status.name()) }
}

fn unknown(ask: &Ask, reason: &str) -> Reply {
    let text = if wants_text(ask) { Aggregate::Critical.name() } else { reason };
    Reply::text(StatusCode::NOT_FOUND, text.to_owned()).with_text(REASON, reason)
}

fn wants_text(ask: &Ask) -> bool {
    let accept = ask.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ask.params.get("format") == Some("text") || accept.starts_with("text/plain")
}
