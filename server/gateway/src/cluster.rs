//! Where the cluster stands, and how it is changed: `/v1/status/`, `/v1/agent/join` and its like,
//! `/v1/operator/`, `/v1/coordinate/`.

use axum::body::Body;
use http::Method;
use service::cluster::{Coordinate, Key, KeyOperation, PoolKind};
use state::Str;

use crate::Gateway;
use crate::json::Json;
use crate::reply::Reply;
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome};

/// Which pool a request is about.
pub(crate) fn pool(ask: &Ask) -> PoolKind {
    let wan = ask.params.first("wan").is_some_and(|value| !matches!(value, "0" | "false"));
    if wan { PoolKind::Wan } else { PoolKind::Lan }
}

/// `GET /v1/status/leader`
pub(crate) fn leader(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let mut json = Json::new();
    json.text(&gateway.service.leader_address().unwrap_or_default());
    Ok(gateway.json(ask, json))
}

/// `GET /v1/status/peers`
pub(crate) fn peers(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let mut json = Json::new();
    json.array(|json| {
        for peer in gateway.service.peers().iter().filter(|peer| peer.voter) {
            json.text(&peer.address);
        }
    });
    Ok(gateway.json(ask, json))
}

/// `PUT /v1/agent/join/:address`
pub(crate) async fn join(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let address = ask.named("address")?;
    let report = gateway.service.join(&ask.caller, pool(ask), &[address.into_owned()]).await?;
    match report.failed.into_iter().next() {
        Some((address, why)) => Err(Fault::server(format!("failed to join {address}: {why}"))),
        None => Ok(Reply::empty()),
    }
}

/// `PUT /v1/agent/leave`
pub(crate) async fn leave(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    gateway.service.leave(&ask.caller).await?;
    Ok(Reply::empty())
}

/// `PUT /v1/agent/force-leave/:node`
pub(crate) fn force_leave(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let node = ask.named("node name")?;
    let known = gateway.service.members(&ask.caller, pool(ask))?.iter().any(|member| member.name == *node);
    if !known {
        return Err(Fault::server(format!("agent: No node found with name '{node}'")));
    }
    gateway.service.force_leave(&ask.caller, pool(ask), &node, ask.params.has("prune"))?;
    Ok(Reply::empty())
}

/// `GET /v1/operator/raft/configuration`
pub(crate) fn raft_configuration(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let status = gateway.service.consensus_status();
    let mut json = Json::new();
    json.object(|json| {
        json.name("Servers").array(|json| {
            for peer in &status.peers {
                json.object(|json| {
                    json.name("ID").text(&peer.id.to_string());
                    json.name("Node").text(&peer.name);
                    json.name("Address").text(&peer.address);
                    json.name("Leader").flag(status.leader == Some(peer.id));
                    json.name("ProtocolVersion").text("3");
                    json.name("Voter").flag(peer.voter);
                    json.name("LastIndex").number(if peer.id == status.id { status.last_index } else { 0 });
                });
            }
        });
        json.name("Index").number(status.membership_index);
    });
    Ok(gateway.json(ask, json))
}

/// `DELETE /v1/operator/raft/peer`
pub(crate) async fn remove_peer(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (id, address) = (ask.params.get("id"), ask.params.get("address"));
    let id = match (id, address) {
        (None, None) => {
            return Err(Fault::bad("Must specify either ?id with the server's ID or ?address with IP:port of peer to remove"));
        }
        (Some(_), Some(_)) => return Err(Fault::bad("Must specify only one of ?id or ?address")),
        (id, _) => id.map(|id| id.parse().map_err(|_| Fault::bad(format!("`{id}` is no server's ID")))).transpose()?,
    };
    gateway.service.remove_peer(&ask.caller, id, address).await?;
    Ok(Reply::empty())
}

/// `POST /v1/operator/raft/transfer-leader`
pub(crate) async fn transfer_leader(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let to = ask.params.get("id").map(|id| id.parse().map_err(|_| Fault::bad(format!("`{id}` is no server's ID")))).transpose()?;
    gateway.service.transfer_leader(&ask.caller, to).await?;
    let mut json = Json::new();
    json.object(|json| {
        json.name("Success").flag(true);
    });
    Ok(gateway.json(ask, json))
}

/// `/v1/operator/keyring`: GET lists, POST installs, PUT uses, DELETE removes.
pub(crate) async fn keyring(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let operation = if ask.method == Method::GET {
        KeyOperation::List
    } else {
        let body = request::read(&ask.headers, body, 4096).await?;
        let text: serde_json::Value =
            serde_json::from_slice(&body).map_err(|error| Fault::bad(format!("Request decode failed: {error}")))?;
        let key = text.get("Key").and_then(|key| key.as_str()).unwrap_or_default();
        let key = Key::from_base64(key).map_err(|error| Fault::bad(error.to_string()))?;
        match ask.method {
            Method::POST => KeyOperation::Install(key),
            Method::PUT => KeyOperation::Use(key),
            _ => KeyOperation::Remove(key),
        }
    };
    let answers = gateway.service.gossip_keys(&ask.caller, PoolKind::Lan, operation.clone()).await?;
    let failed: Vec<String> = answers.iter().filter_map(|(name, keys)| Some(format!("{name}: {}", keys.as_ref().err()?))).collect();
    if !failed.is_empty() {
        return Err(Fault::server(failed.join("; ")));
    }
    if operation != KeyOperation::List {
        return Ok(Reply::empty());
    }
    let (mut all, mut primary) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    for keys in answers.values().flatten() {
        keys.iter().for_each(|key| *all.entry(key.to_base64()).or_insert(0u64) += 1);
        keys.iter().take(1).for_each(|key| *primary.entry(key.to_base64()).or_insert(0u64) += 1);
    }
    let mut json = Json::new();
    json.array(|json| {
        json.object(|json| {
            json.name("WAN").flag(false);
            json.name("Datacenter").text(&gateway.service.identity().datacenter);
            json.name("Segment").text("");
            for (name, keys) in [("Keys", &all), ("PrimaryKeys", &primary)] {
                json.name(name).object(|json| keys.iter().for_each(|(key, count)| _ = json.key(key).number(*count)));
            }
            json.name("NumNodes").number(answers.len() as u64);
        });
    });
    Ok(gateway.json(ask, json))
}

/// `GET /v1/coordinate/datacenters`: where the servers of each datacenter are.
pub(crate) fn datacenters(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let by_datacenter = gateway.service.coordinates_by_datacenter(&ask.caller)?;
    let mut json = Json::new();
    json.array(|json| {
        for (datacenter, servers) in &by_datacenter {
            json.object(|json| {
                json.name("Datacenter").text(datacenter);
                json.name("AreaID").text("WAN");
                json.name("Coordinates").array(|json| {
                    for (name, at) in servers {
                        place(json, name, at);
                    }
                });
            });
        }
    });
    Ok(gateway.json(ask, json))
}

/// `GET /v1/coordinate/nodes` and `/v1/coordinate/node/:name`
pub(crate) fn coordinates(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let wanted: Str = ask.rest_text().as_ref().into();
    let all = gateway.service.coordinates(&ask.caller, PoolKind::Lan)?;
    let chosen: Vec<_> = all.iter().filter(|(name, _)| wanted.is_empty() || **name == *wanted).collect();
    if !wanted.is_empty() && chosen.is_empty() {
        return Err(Fault::missing(""));
    }
    let mut json = Json::new();
    json.array(|json| {
        for (name, at) in chosen {
            place(json, name, at);
        }
    });
    Ok(gateway.json(ask, json))
}

/// A node and where it is.
fn place(json: &mut Json, node: &str, at: &Coordinate) {
    json.object(|json| {
        json.name("Node").text(node);
        json.name("Segment").text("");
        json.name("Coord");
        coordinate(json, at);
    });
}

pub(crate) fn coordinate(json: &mut Json, at: &Coordinate) {
    json.object(|json| {
        json.name("Vec").array(|json| at.vec.iter().for_each(|length| _ = json.float(*length)));
        json.name("Error").float(at.error);
        json.name("Adjustment").float(at.adjustment);
        json.name("Height").float(at.height);
    });
}
