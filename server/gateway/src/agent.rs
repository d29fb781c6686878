//! `/v1/agent/`: this machine, and what is registered with it.

mod about;
mod health;
mod host;
mod monitor;

use axum::body::Body;
use http::HeaderName;
use service::{Error, Reason};
use state::{Check, Service, Status};
use tokio::time::Duration;

pub(crate) use about::{about, members, metrics, version};
pub(crate) use health::{health_by_id, health_by_name};
pub(crate) use host::host;
pub(crate) use monitor::{metrics_stream, monitor};

use crate::Gateway;
use crate::catalog::chosen;
use crate::definition;
use crate::json::{Json, agent as shape, check as check_shape};
use crate::reply::Reply;
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome, local};

const CONTENT_HASH: HeaderName = HeaderName::from_static("x-consul-contenthash");

/// `PUT /v1/agent/service/register`
pub(crate) async fn register_service(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let body = request::read(&ask.headers, body, gateway.options.body_bytes_max).await?;
    let definition = definition::service(&body)?;
    let replace = ask.params.first("replace-existing-checks").is_some_and(|value| !matches!(value, "false" | "0"));
    gateway.service.agent().register_service(&ask.caller, definition, replace).await.map_err(local)?;
    Ok(Reply::empty())
}

/// `PUT /v1/agent/service/deregister/:id`
pub(crate) async fn deregister_service(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let id = ask.named("service ID")?;
    let result = gateway.service.agent().deregister_service(&ask.caller, &id).await;
    result.map_err(|error| about_service(error, &id))?;
    Ok(Reply::empty())
}

/// `PUT /v1/agent/check/register`
pub(crate) async fn register_check(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let body = request::read(&ask.headers, body, gateway.options.body_bytes_max).await?;
    let check = definition::check(&body)?;
    let service_id = check.service_id.clone();
    let result = gateway.service.agent().register_check(&ask.caller, check).await;
    result.map_err(|error| match error.reason {
        Reason::UnknownService => Fault::missing(format!("ServiceID \"{service_id}\" does not exist")),
        _ => local(error),
    })?;
    Ok(Reply::empty())
}

/// `PUT /v1/agent/check/deregister/:id`
pub(crate) async fn deregister_check(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let id = ask.named("check ID")?;
    gateway.service.agent().deregister_check(&ask.caller, &id).await.map_err(|error| about_check(error, &id))?;
    Ok(Reply::empty())
}

/// `PUT /v1/agent/check/{pass,warn,fail}/:id`
pub(crate) async fn report(gateway: &Gateway, ask: &Ask, status: Status) -> Outcome<Reply> {
    let output = ask.params.first("note").unwrap_or_default();
    update_ttl(gateway, ask, status, output).await
}

/// `PUT /v1/agent/check/update/:id`
pub(crate) async fn update(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let body = request::read(&ask.headers, body, gateway.options.body_bytes_max).await?;
    let (status, output) = definition::report(&body)?;
    update_ttl(gateway, ask, status, &output).await
}

async fn update_ttl(gateway: &Gateway, ask: &Ask, status: Status, output: &str) -> Outcome<Reply> {
    let id = ask.named("check ID")?;
    let result = gateway.service.agent().update_ttl(&ask.caller, &id, status, output).await;
    result.map_err(|error| about_check(error, &id))?;
    Ok(Reply::empty())
}

/// `PUT /v1/agent/maintenance`
pub(crate) async fn node_maintenance(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    maintenance(gateway, ask, "").await
}

/// `PUT /v1/agent/service/maintenance/:id`
pub(crate) async fn service_maintenance(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let id = ask.named("service ID")?;
    maintenance(gateway, ask, &id).await
}

async fn maintenance(gateway: &Gateway, ask: &Ask, service_id: &str) -> Outcome<Reply> {
    let enabled = match ask.params.get("enable") {
        None | Some("") => return Err(Fault::bad("Missing value for enable")),
        Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
        Some(other) => return Err(Fault::bad(format!("Invalid value for enable: \"{other}\""))),
    };
    let reason = ask.params.first("reason").unwrap_or_default();
    let result = gateway.service.agent().set_maintenance(&ask.caller, service_id, enabled, reason).await;
    result.map_err(|error| about_service(error, service_id))?;
    Ok(Reply::empty())
}

/// `PUT /v1/agent/reload`
pub(crate) async fn reload(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    gateway.service.agent().reload(&ask.caller).await?;
    Ok(Reply::empty())
}

fn about_service(error: Error, id: &str) -> Fault {
    match error.reason {
        Reason::UnknownService => {
            Fault::missing(format!("Unknown service ID \"{id}\". Ensure that the service ID is passed, not the service name."))
        }
        _ => local(error),
    }
}

fn about_check(error: Error, id: &str) -> Fault {
    match error.reason {
        Reason::UnknownCheck => {
            Fault::missing(format!("Unknown check ID \"{id}\". Ensure that the check ID is passed, not the check name."))
        }
        Reason::CheckNotTtl => Fault::server(format!("CheckID \"{id}\" does not have associated TTL")),
        _ => local(error),
    }
}

/// `GET /v1/agent/services`
pub(crate) fn services(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let filter = ask.filter::<Service>()?;
    let datacenter = &gateway.service.identity().datacenter;
    let mut json = Json::new();
    json.object(|json| {
        for (id, local) in gateway.service.agent().services(&ask.caller).iter().filter(|(_, local)| chosen(&filter, &*local.row)) {
            json.key(id);
            shape::service(json, local, datacenter, None);
        }
    });
    Ok(gateway.json(ask, json))
}

/// `GET /v1/agent/checks`
pub(crate) fn checks(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let filter = ask.filter::<Check>()?;
    let mut json = Json::new();
    json.object(|json| {
        for (id, check) in gateway.service.agent().checks(&ask.caller).iter().filter(|(_, check)| chosen(&filter, &***check)) {
            json.key(id);
            check_shape::check(json, check);
        }
    });
    Ok(gateway.json(ask, json))
}

/// `GET /v1/agent/service/:id`; with `?hash` it waits until the instance looks different.
pub(crate) async fn service(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let id = ask.named("service ID")?;
    let wait = match ask.wait()? {
        Duration::ZERO => gateway.service.limits().blocking_wait_default,
        wait => wait.min(gateway.service.limits().blocking_wait_max),
    };
    let known = ask.params.get("hash");
    let found = gateway.service.agent().service_once_changed(&ask.caller, &id, known, wait).await;
    let (local, hash) = found.ok_or_else(|| Fault::missing(format!("unknown service ID: {id}")))?;
    let mut json = Json::new();
    shape::service(&mut json, &local, &gateway.service.identity().datacenter, Some(&hash));
    Ok(gateway.json(ask, json).with_text(CONTENT_HASH, &hash))
}
