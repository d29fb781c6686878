//! `/v1/health/`: checks, and the instances that may be used.

use std::sync::Arc;

use service::Answer;
use service::health::InstanceQuery;
use service::watch::CheckScope;
use state::{Check, Instance, Status};

use crate::Gateway;
use crate::catalog::{chosen, question};
use crate::json::{Json, catalog as catalog_shape, check as shape};
use crate::near;
use crate::reply::{Content, Reply};
use crate::request::Ask;
use crate::status::{Fault, Outcome};

/// `GET /v1/health/node/:node`
pub(crate) async fn node(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.named("node name")?;
    list(gateway, ask, CheckScope::Node(name.as_ref().into())).await
}

/// `GET /v1/health/checks/:service`
pub(crate) async fn checks(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.named("service name")?;
    list(gateway, ask, CheckScope::Service(name.as_ref().into())).await
}

/// `GET /v1/health/state/:state`; a state that does not exist has no checks.
pub(crate) async fn state(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.named("check state")?;
    match (&*name, Status::from_name(&name)) {
        ("any", _) => list(gateway, ask, CheckScope::Any).await,
        (_, Some(status)) => list(gateway, ask, CheckScope::Status(status)).await,
        (_, None) => {
            let mut reply = list(gateway, ask, CheckScope::Any).await?;
            let mut json = Json::new();
            json.array(|_| ());
            reply.content = Content::Bytes(gateway.body(ask, json));
            Ok(reply)
        }
    }
}

async fn list(gateway: &Gateway, ask: &Ask, scope: CheckScope) -> Outcome<Reply> {
    let filter = ask.filter::<Check>()?;
    let (options, blocking) = ask.reading()?;
    let answer = gateway.service.health_checks(&ask.caller, &options, blocking, &scope, &ask.node_meta()).await?;
    let Answer { value: mut rows, meta } = answer;
    if let Some(near) = near::node(gateway, ask) {
        gateway.service.sort_by_distance(&near, &mut rows, |row| &row.node);
    }
    let mut json = Json::with_capacity(384 * rows.len());
    json.array(|json| rows.iter().filter(|row| chosen(&filter, &***row)).for_each(|row| shape::check(json, row)));
    Ok(gateway.json(ask, json).at(&meta).how(&meta))
}

/// `GET /v1/health/service/:service`
pub(crate) async fn service(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.named("service name")?;
    let filter = ask.filter::<Instance>()?;
    let query = InstanceQuery {
        service: name.as_ref().into(),
        tags: ask.params.all("tag").map(Into::into).collect(),
        passing_only: passing(ask)?,
        node_meta: ask.node_meta(),
    };
    let (options, blocking) = ask.reading()?;
    let answer = gateway.service.health_service(&ask.caller, &options, blocking, &query).await?;
    let body = |rows: &[Arc<Instance>]| {
        let mut json = Json::with_capacity(1024 * rows.len());
        let chosen = rows.iter().filter(|row| chosen(&filter, &***row));
        json.array(|json| chosen.for_each(|row| catalog_shape::instance(json, row)));
        gateway.body(ask, json)
    };
    if let Some(near) = near::node(gateway, ask) {
        let mut rows = answer.value.to_vec();
        gateway.service.sort_by_distance(&near, &mut rows, |row| &row.node.name);
        return Ok(Reply::json(Content::Bytes(body(&rows))).at(&answer.meta).how(&answer.meta));
    }
    let encoded = gateway.cache.encoded(&question("health/service", gateway, ask), answer.value, |rows| body(rows));
    Ok(Reply::json(Content::Shared(encoded)).at(&answer.meta).how(&answer.meta))
}

fn passing(ask: &Ask) -> Outcome<bool> {
    match ask.params.first("passing") {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(_) => Err(Fault::bad("Invalid value for ?passing")),
    }
}
