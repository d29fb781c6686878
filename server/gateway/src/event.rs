//! `/v1/event/`: events to every agent.

use std::time::Duration;

use axum::body::Body;
use http::StatusCode;
use service::event::{Event, NewEvent, PAYLOAD_MAX, Selection};
use tokio::time::{Instant, timeout_at};

use crate::Gateway;
use crate::json::Json;
use crate::reply::Reply;
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome};

/// The version of the shape.
const VERSION: u64 = 1;

/// `PUT /v1/event/fire/:name`
pub(crate) async fn fire(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let name = ask.rest_text().into_owned();
    if name.is_empty() {
        return Err(Fault::bad("Missing name"));
    }
    // One byte more than allowed, so that what is too large is refused by the rule and in its words.
    let payload = request::read(&ask.headers, body, 16 * PAYLOAD_MAX).await.map_err(too_large)?.to_vec();
    let Selection { node: node_filter, service: service_filter, tag: tag_filter, .. } = selection(ask);
    let event = NewEvent { name, payload, node_filter, service_filter, tag_filter };
    let fired = gateway.service.fire_event(&ask.caller, event).map_err(|error| known(error.into()))?;
    let mut json = Json::new();
    shape(&mut json, &fired, 0);
    Ok(gateway.json(ask, json))
}

/// No setting changes how large an event may be.
fn too_large(mut fault: Fault) -> Fault {
    if fault.status == StatusCode::PAYLOAD_TOO_LARGE {
        service::event::event_refused();
        fault.text = format!("the payload of an event has at most {PAYLOAD_MAX} bytes; put what is larger under a key, and name it");
    }
    known(fault)
}

/// Whatever is too large for an event is told with the code that clients know for it.
fn known(mut fault: Fault) -> Fault {
    if fault.status == StatusCode::PAYLOAD_TOO_LARGE {
        fault.status = StatusCode::INTERNAL_SERVER_ERROR;
    }
    fault
}

fn selection(ask: &Ask) -> Selection {
    let given = |name: &str| ask.params.get(name).unwrap_or_default().to_owned();
    Selection { name: given("name"), node: given("node"), service: given("service"), tag: given("tag") }
}

/// `GET /v1/event/list`: blocks until an event comes that is not the one of `index`.
///
/// The order is that of arrival, and not of Lamport time: programs that know Consul look for the event of the last
/// index and go on behind it, so one that comes late must stand there.
pub(crate) async fn list(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let selection = selection(ask);
    let waited: Option<u64> = ask.params.get("index").and_then(|index| index.parse().ok());
    let wait = ask.wait()?;
    let wait =
        if wait.is_zero() { gateway.service.limits().blocking_wait_default } else { wait.min(gateway.service.limits().blocking_wait_max) };
    let deadline = Instant::now() + wait.max(Duration::from_millis(1));
    let mut changes = gateway.service.event_changes(&ask.caller)?;
    loop {
        changes.borrow_and_update();
        let events = gateway.service.events(&ask.caller, &selection)?;
        let index = events.last().map_or(1, |last| index_of(&last.event));
        if waited != Some(index) || Instant::now() >= deadline {
            let mut json = Json::new();
            json.array(|json| events.iter().for_each(|arrived| shape(json, &arrived.event, arrived.event.ltime)));
            return Ok(gateway.json(ask, json).with_text(http::HeaderName::from_static("x-consul-index"), &index.to_string()));
        }
        let _ = timeout_at(deadline, changes.changed()).await;
    }
}

/// What stands for the last event: the two halves of its id, one over the other.
fn index_of(event: &Event) -> u64 {
    let half = |at: usize| event.id[at..at + 8].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    half(0) ^ half(8)
}

fn shape(json: &mut Json, event: &Event, ltime: u64) {
    json.object(|json| {
        json.name("ID").text(&state::SessionId(event.id).to_string());
        json.name("Name").text(&event.name);
        json.name("Payload").base64(&event.payload);
        json.name("NodeFilter").text(&event.node_filter);
        json.name("ServiceFilter").text(&event.service_filter);
        json.name("TagFilter").text(&event.tag_filter);
        json.name("Version").number(VERSION);
        json.name("LTime").number(ltime);
    });
}
