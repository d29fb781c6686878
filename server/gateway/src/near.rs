//! `?near=`: lists sorted by the round trip from a node.

use crate::Gateway;
use crate::request::Ask;

/// The node that a list is to be sorted from, if it is.
pub(crate) fn node(gateway: &Gateway, ask: &Ask) -> Option<String> {
    let near = ask.params.get("near").filter(|near| !near.is_empty())?;
    if near != "_agent" && near != "_ip" {
        return Some(near.to_owned());
    }
    Some(ask.caller.agent.as_deref().map_or_else(|| gateway.service.identity().node_name.to_string(), str::to_owned))
}
