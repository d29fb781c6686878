//! `/v1/operator/keyring`: GET lists the keys that gossip is sealed with, POST installs one, PUT uses it,
//! DELETE removes it.
//!
//! A key has to be in every pool before it is used in any, because a server is in two. So without `dc`
//! it is done in the pool between datacenters and in that of each datacenter, whose servers are asked in
//! the same way with `dc`. What one pool refuses keeps no other from doing it; all refusals are told.

use std::collections::BTreeMap;

use axum::body::Body;
use bytes::Bytes;
use forward::{Forward, How, To};
use futures::future::join_all;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use service::cluster::{Key, KeyAnswers, KeyOperation, PoolKind};

use crate::Gateway;
use crate::json::Json;
use crate::reply::Reply;
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome};

/// Far more than a key needs.
const BODY_BYTES_MAX: usize = 4096;

/// Far more than the list of a datacenter's keys needs.
const LIST_BYTES_MAX: usize = 1 << 20;

/// Most members by way of which Consul's agents may have an answer sent as well.
const RELAYS_MAX: u64 = 5;

/// The keys of one pool.
struct Ring {
    wan: bool,
    datacenter: String,
    /// How many members have each, and how many seal with it.
    keys: BTreeMap<String, u64>,
    primary: BTreeMap<String, u64>,
    members: u64,
}

/// What came of one pool: nothing to tell of a change that is done.
type Done = Result<Option<Ring>, String>;

/// `/v1/operator/keyring`
pub(crate) async fn keyring(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let only_here = check(ask)? || ask.datacenter().is_some();
    let body = if ask.method == Method::GET { Bytes::new() } else { request::read(&ask.headers, body, BODY_BYTES_MAX).await? };
    let operation = operation(&ask.method, &body)?;
    let service = &gateway.service;
    let mut done = Vec::new();
    if !only_here && service.takes_part(PoolKind::Wan) {
        done.push(here(gateway, ask, PoolKind::Wan, &operation).await);
    }
    done.push(here(gateway, ask, PoolKind::Lan, &operation).await);
    if let (false, Some(forward)) = (only_here, &gateway.options.forward) {
        let others = service.datacenters().into_iter().filter(|name| **name != *service.identity().datacenter);
        done.extend(join_all(others.map(|name| elsewhere(forward, ask, name, body.clone()))).await);
    }
    answer(gateway, ask, done)
}

/// Whether only the pool of this datacenter is meant.
fn check(ask: &Ask) -> Outcome<bool> {
    let is_relays = |text: &str| text.parse::<u64>().is_ok_and(|factor| factor <= RELAYS_MAX);
    if let Some(text) = ask.params.get("relay-factor").filter(|text| !is_relays(text)) {
        return Err(Fault::bad(format!("Invalid relay-factor `{text}`: it is from 0 to {RELAYS_MAX}, and changes nothing here")));
    }
    let local = match ask.params.first("local-only") {
        None | Some("0" | "f" | "false") => false,
        Some("" | "1" | "t" | "true") => true,
        Some(text) => return Err(Fault::bad(format!("Invalid local-only `{text}`: it is true or false"))),
    };
    if local && ask.method != Method::GET {
        return Err(Fault::bad("local-only goes with GET only; name one datacenter's pool with `dc`"));
    }
    Ok(local)
}

fn operation(method: &Method, body: &[u8]) -> Outcome<KeyOperation> {
    if method == Method::GET {
        return Ok(KeyOperation::List);
    }
    let given: Value = serde_json::from_slice(body).map_err(|error| Fault::bad(format!("Request decode failed: {error}")))?;
    let key = given.get("Key").and_then(Value::as_str).unwrap_or_default();
    let key = Key::from_base64(key).map_err(|error| Fault::bad(error.to_string()))?;
    Ok(match *method {
        Method::POST => KeyOperation::Install(key),
        Method::PUT => KeyOperation::Use(key),
        _ => KeyOperation::Remove(key),
    })
}

/// Does it in a pool that this server is in.
async fn here(gateway: &Gateway, ask: &Ask, pool: PoolKind, operation: &KeyOperation) -> Done {
    let datacenter = gateway.service.identity().datacenter.to_string();
    let named = |what: &str| match pool {
        PoolKind::Wan => format!("WAN: {what}"),
        PoolKind::Lan => format!("{datacenter} (LAN): {what}"),
    };
    let answers = gateway.service.gossip_keys(&ask.caller, pool, operation.clone()).await.map_err(|error| named(&error.message))?;
    let failed = answers.iter().filter_map(|(name, keys)| Some(named(&format!("{name}: {}", keys.as_ref().err()?))));
    let failed: Vec<String> = failed.collect();
    if !failed.is_empty() {
        return Err(failed.join("\n"));
    }
    Ok((*operation == KeyOperation::List).then(|| ring(pool == PoolKind::Wan, &datacenter, &answers)))
}

fn ring(wan: bool, datacenter: &str, answers: &KeyAnswers) -> Ring {
    let (mut keys, mut primary) = (BTreeMap::new(), BTreeMap::new());
    for own in answers.values().flatten() {
        own.iter().for_each(|key| *keys.entry(key.to_base64()).or_insert(0) += 1);
        own.iter().take(1).for_each(|key| *primary.entry(key.to_base64()).or_insert(0) += 1);
    }
    Ring { wan, datacenter: datacenter.to_owned(), keys, primary, members: answers.len() as u64 }
}

/// Has a server of another datacenter do it in the pool there.
async fn elsewhere(forward: &Forward, ask: &Ask, datacenter: String, body: Bytes) -> Done {
    let named = |what: String| format!("{datacenter} (LAN): {what}");
    let mut carried = Request::builder().method(ask.method.clone()).uri(format!("/v1/operator/keyring?dc={datacenter}"));
    for name in [forward::HOPS, forward::AGENT] {
        carried = ask.headers.get(&name).into_iter().fold(carried, |carried, value| carried.header(&name, value));
    }
    if let Some(token) = &ask.caller.token {
        carried = carried.header("x-consul-token", &**token);
    }
    let reads = ask.method == Method::GET;
    let how = How { patience: Some(forward::ANSWER), again: reads.then(|| body.clone()), datacenter: Some(datacenter.clone()) };
    let carried = carried.body(forward::full(body)).map_err(|error| named(error.to_string()))?;
    let answer = forward.carry(To::Datacenter(&datacenter), carried, how).await;
    let (head, body) = answer.map_err(|error| named(error.told(Some(&datacenter), reads)))?.into_parts();
    let body = Limited::new(body, LIST_BYTES_MAX).collect().await.map_err(|error| named(error.to_string()))?.to_bytes();
    match head.status {
        StatusCode::OK if reads => listed(&datacenter, &body).map(Some).ok_or_else(|| named("its answer is no list of keys".into())),
        StatusCode::OK => Ok(None),
        // It names its pool itself.
        _ => Err(String::from_utf8_lossy(&body).into_owned()),
    }
}

/// What another datacenter told of its pool.
fn listed(datacenter: &str, body: &[u8]) -> Option<Ring> {
    let rings: Value = serde_json::from_slice(body).ok()?;
    let found = rings.as_array()?.iter().find(|ring| ring["WAN"] == false)?;
    let counts = |name: &str| -> Option<BTreeMap<String, u64>> {
        found[name].as_object()?.iter().map(|(key, count)| Some((key.clone(), count.as_u64()?))).collect()
    };
    let (keys, primary) = (counts("Keys")?, counts("PrimaryKeys")?);
    Some(Ring { wan: false, datacenter: datacenter.to_owned(), keys, primary, members: found["NumNodes"].as_u64()? })
}

fn answer(gateway: &Gateway, ask: &Ask, done: Vec<Done>) -> Outcome<Reply> {
    let (mut rings, mut failed) = (Vec::new(), Vec::new());
    for done in done {
        match done {
            Ok(ring) => rings.extend(ring),
            Err(why) => failed.push(why),
        }
    }
    if !failed.is_empty() {
        return Err(Fault::server(failed.join("\n")));
    }
    if ask.method != Method::GET {
        return Ok(Reply::empty());
    }
    let mut json = Json::new();
    json.array(|json| rings.iter().for_each(|ring| shape(json, ring)));
    Ok(gateway.json(ask, json))
}

fn shape(json: &mut Json, ring: &Ring) {
    json.object(|json| {
        json.name("WAN").flag(ring.wan);
        json.name("Datacenter").text(&ring.datacenter);
        json.name("Segment").text("");
        for (name, keys) in [("Keys", &ring.keys), ("PrimaryKeys", &ring.primary)] {
            json.name(name).object(|json| keys.iter().for_each(|(key, count)| _ = json.key(key).number(*count)));
        }
        json.name("NumNodes").number(ring.members);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_datacenter_tells_another_is_read_as_it_is_printed() {
        let key = Key::generate();
        let answers: KeyAnswers = [("a".to_owned(), Ok(vec![key.clone()])), ("b".to_owned(), Ok(vec![key.clone()]))].into();
        let mut json = Json::new();
        json.array(|json| shape(json, &ring(false, "dc2", &answers)));
        let read = listed("dc2", &json.out).expect("it is a list");
        assert_eq!((read.wan, read.datacenter.as_str(), read.members), (false, "dc2", 2));
        assert_eq!((read.keys.get(&key.to_base64()), &read.primary), (Some(&2), &read.keys));
        for odd in ["", "[]", r#"[{"WAN": true}]"#, r#"[{"WAN": false, "Keys": {"k": -1}}]"#] {
            assert!(listed("dc2", odd.as_bytes()).is_none(), "{odd}");
        }
    }
}
