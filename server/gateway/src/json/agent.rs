//! What is registered with the agent of this machine.

use service::agent::LocalService;

use super::Json;
use super::catalog::{addresses, weights};

/// An instance registered here. `hash` is shown where it can be waited on.
pub(crate) fn service(json: &mut Json, local: &LocalService, datacenter: &str, hash: Option<&str>) {
    let row = &local.row;
    json.object(|json| {
        if !row.kind.is_empty() {
            json.name("Kind").text(&row.kind);
        }
        json.name("ID").text(&row.id);
        json.name("Service").text(&row.name);
        json.name("Tags").texts(&row.tags);
        json.name("Meta").pairs(&row.meta);
        json.name("Port").number(row.port.into());
        json.name("Address").text(&row.address);
        if !row.socket_path.is_empty() {
            json.name("SocketPath").text(&row.socket_path);
        }
        if !row.tagged_addresses.is_empty() {
            json.name("TaggedAddresses");
            addresses(json, &row.tagged_addresses);
        }
        json.name("Weights");
        weights(json, &row.weights);
        json.name("EnableTagOverride").flag(row.enable_tag_override);
        if let Some(hash) = hash {
            json.name("ContentHash").text(hash);
        }
        json.name("Datacenter").text(datacenter);
    });
}
