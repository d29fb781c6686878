//! Where the cluster stands, and how it is changed: `/v1/status/`, `/v1/agent/join` and its like,
//! `/v1/operator/`.

use service::cluster::PoolKind;

use crate::Gateway;
use crate::json::Json;
use crate::reply::Reply;
use crate::request::Ask;
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
pub(crate) async fn raft_configuration(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    // What this server believes is current once a read as current as asked for was possible.
    let (options, _) = ask.reading()?;
    drop(gateway.service.directory(&ask.caller, &options).await?);
    let (status, last_indexes) = (gateway.service.consensus_status(), gateway.service.last_indexes());
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
                    json.name("LastIndex").number(last_indexes.get(&peer.id).copied().unwrap_or(0));
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
