//! `/v1/status/`: where the cluster stands.

use crate::Gateway;
use crate::json::Json;
use crate::reply::Reply;
use crate::request::Ask;
use crate::status::Outcome;

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
