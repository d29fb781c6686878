//! `/v1/catalog/`: nodes and services, written and listed.

use std::sync::Arc;

use axum::body::Body;
use service::Answer;
use service::filter::{Filter, ServiceNode};
use state::{Deregistration, Instance, Node, NodeView, Service, Str};

use crate::Gateway;
use crate::decode::Object;
use crate::definition;
use crate::json::{Json, catalog as shape};
use crate::near;
use crate::reply::{Content, Reply};
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome};

/// `PUT /v1/catalog/register`
pub(crate) async fn register(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let body = request::read(&ask.headers, body, gateway.options.body_bytes_max).await?;
    let (registration, datacenter) = definition::registration(&body)?;
    let datacenter = datacenter.as_deref().or(ask.datacenter());
    gateway.service.catalog_register(&ask.caller, datacenter, registration).await?;
    Ok(gateway.verdict(ask, true))
}

/// `PUT /v1/catalog/deregister`
pub(crate) async fn deregister(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let body = request::read(&ask.headers, body, gateway.options.body_bytes_max).await?;
    let (request, datacenter) = deregistration(&body).map_err(|error| Fault::bad(format!("Request decode failed: {error}")))?;
    let datacenter = datacenter.as_deref().or(ask.datacenter());
    gateway.service.catalog_deregister(&ask.caller, datacenter, request).await?;
    Ok(gateway.verdict(ask, true))
}

/// The datacenter that the body of a registration or a removal names. What can't be read names none: it is
/// refused by who reads all of it.
pub(crate) fn datacenter_named(body: &[u8]) -> Option<Str> {
    Object::parse(body).ok()?.text("Datacenter").ok().filter(|name| !name.is_empty())
}

fn deregistration(body: &[u8]) -> Result<(Deregistration, Option<Str>), String> {
    let mut fields = Object::parse(body)?;
    let some = |text: Str| if text.is_empty() { None } else { Some(text) };
    let request =
        Deregistration { node: fields.text("Node")?, service_id: some(fields.text("ServiceID")?), check_id: some(fields.text("CheckID")?) };
    let datacenter = some(fields.text("Datacenter")?);
    fields.text("Address")?;
    fields.no_enterprise()?;
    fields.finish()?;
    Ok((request, datacenter))
}

/// `GET /v1/catalog/datacenters`
pub(crate) fn datacenters(gateway: &Gateway, ask: &Ask) -> Reply {
    let mut json = Json::new();
    json.texts(&gateway.service.catalog_datacenters(&ask.caller));
    gateway.json(ask, json)
}

/// `GET /v1/catalog/nodes`
pub(crate) async fn nodes(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let filter = ask.filter::<Node>()?;
    let (options, blocking) = ask.reading()?;
    let Answer { value: mut nodes, meta } = gateway.service.catalog_nodes(&ask.caller, &options, blocking, &ask.node_meta()).await?;
    if let Some(near) = near::node(gateway, ask) {
        gateway.service.sort_by_distance(&near, &mut nodes, |node| &node.name);
    }
    let mut json = Json::with_capacity(256 * nodes.len());
    json.array(|json| nodes.iter().filter(|node| chosen(&filter, &***node)).for_each(|node| shape::node(json, node)));
    Ok(gateway.json(ask, json).at(&meta).how(&meta))
}

/// `GET /v1/catalog/services`
pub(crate) async fn services(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let filter = ask.filter::<ServiceNode<'_>>()?;
    let (options, blocking) = ask.reading()?;
    let (caller, node_meta) = (&ask.caller, ask.node_meta());
    let Answer { value: services, meta } = match &filter {
        Some(filter) => gateway.service.catalog_services_filtered(caller, &options, blocking, &node_meta, filter).await?,
        None => gateway.service.catalog_services(caller, &options, blocking, &node_meta).await?,
    };
    let mut json = Json::with_capacity(48 * services.len());
    json.object(|json| {
        for (name, tags) in &services {
            json.key(name).texts(tags);
        }
    });
    Ok(gateway.json(ask, json).at(&meta).how(&meta))
}

/// `GET /v1/catalog/service/:service`
pub(crate) async fn service(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.named("service name")?;
    let filter = ask.filter::<ServiceNode<'_>>()?;
    let (options, blocking) = ask.reading()?;
    let tags: Vec<Str> = ask.params.all("tag").map(Into::into).collect();
    let answer = gateway.service.catalog_service(&ask.caller, &options, blocking, &name, &tags, &ask.node_meta()).await?;
    let body = |rows: &[Arc<Instance>]| {
        let mut json = Json::with_capacity(640 * rows.len());
        let chosen = rows.iter().filter(|row| chosen(&filter, &ServiceNode(row)));
        json.array(|json| chosen.for_each(|row| shape::service_node(json, row)));
        gateway.body(ask, json)
    };
    if let Some(near) = near::node(gateway, ask) {
        let mut rows = answer.value.to_vec();
        gateway.service.sort_by_distance(&near, &mut rows, |row| &row.node.name);
        return Ok(Reply::json(Content::Bytes(body(&rows))).at(&answer.meta).how(&answer.meta));
    }
    let question = question("catalog/service", gateway, ask);
    let encoded = gateway.cache.encoded(&question, answer.value, |rows| body(rows));
    Ok(Reply::json(Content::Shared(encoded)).at(&answer.meta).how(&answer.meta))
}

/// Names everything but the rows that an encoded list depends on.
pub(crate) fn question(face: &str, gateway: &Gateway, ask: &Ask) -> Vec<u8> {
    let mut question = Vec::with_capacity(96);
    question.extend_from_slice(face.as_bytes());
    question.push(gateway.pretty(ask) as u8);
    question.extend_from_slice(&ask.rest);
    for name in ["filter", "passing", "tag", "node-meta"] {
        for value in ask.params.all(name) {
            question.push(0);
            question.extend_from_slice(name.as_bytes());
            question.push(0);
            question.extend_from_slice(value.as_bytes());
        }
    }
    question
}

/// `GET /v1/catalog/node/:node`
pub(crate) async fn node(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (answer, filter) = on_node(gateway, ask).await?;
    let mut json = Json::new();
    match &answer.value {
        None => {
            json.raw("null");
        }
        Some(view) => {
            json.object(|json| {
                json.name("Node");
                shape::node(json, &view.node);
                json.name("Services").object(|json| {
                    for row in view.services.values().filter(|row| chosen(&filter, &***row)) {
                        json.key(&row.id);
                        shape::node_service(json, row);
                    }
                });
            });
        }
    }
    Ok(gateway.json(ask, json).at(&answer.meta).how(&answer.meta))
}

/// `GET /v1/catalog/node-services/:node`
pub(crate) async fn node_services(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (answer, filter) = on_node(gateway, ask).await?;
    let mut json = Json::new();
    json.object(|json| {
        json.name("Node");
        match &answer.value {
            None => {
                json.raw("null");
            }
            Some(view) => shape::node(json, &view.node),
        }
        json.name("Services").array(|json| {
            let rows = answer.value.iter().flat_map(|view| view.services.values());
            rows.filter(|row| chosen(&filter, &***row)).for_each(|row| shape::node_service(json, row));
        });
    });
    Ok(gateway.json(ask, json).at(&answer.meta).how(&answer.meta))
}

async fn on_node(gateway: &Gateway, ask: &Ask) -> Outcome<(Answer<Option<std::sync::Arc<NodeView>>>, Option<Filter>)> {
    let name = ask.named("node name")?;
    let filter = ask.filter::<Service>()?;
    let (options, blocking) = ask.reading()?;
    Ok((gateway.service.catalog_node(&ask.caller, &options, blocking, &name).await?, filter))
}

/// Whether a row is in the answer.
pub(crate) fn chosen<T: service::filter::Selectable>(filter: &Option<Filter>, row: &T) -> bool {
    filter.as_ref().is_none_or(|filter| filter.matches(row))
}
