//! Nodes and service instances.

use std::collections::BTreeMap;

use state::{Instance, Node, Service, ServiceAddress, Str, Weights};

use super::{Json, check};

/// The proxy settings of a service that is no proxy; tools of the mesh expect them to be there.
const NO_PROXY: &str = r#"{"Mode":"","MeshGateway":{},"Expose":{}}"#;

/// One node.
pub(crate) fn node(json: &mut Json, node: &Node) {
    json.object(|json| {
        json.name("ID").text(&node.id);
        json.name("Node").text(&node.name);
        json.name("Address").text(&node.address);
        json.name("Datacenter").text(&node.datacenter);
        json.name("TaggedAddresses").pairs(&node.tagged_addresses);
        json.name("Meta").pairs(&node.meta);
        json.name("CreateIndex").number(node.create_index.0);
        json.name("ModifyIndex").number(node.modify_index.0);
    });
}

/// One instance without its node.
pub(crate) fn node_service(json: &mut Json, service: &Service) {
    json.object(|json| {
        if !service.kind.is_empty() {
            json.name("Kind").text(&service.kind);
        }
        json.name("ID").text(&service.id);
        json.name("Service").text(&service.name);
        json.name("Tags").texts(&service.tags);
        json.name("Address").text(&service.address);
        if !service.tagged_addresses.is_empty() {
            json.name("TaggedAddresses");
            addresses(json, &service.tagged_addresses);
        }
        json.name("Meta").pairs(&service.meta);
        json.name("Port").number(service.port.into());
        if !service.socket_path.is_empty() {
            json.name("SocketPath").text(&service.socket_path);
        }
        json.name("Weights");
        weights(json, &service.weights);
        json.name("EnableTagOverride").flag(service.enable_tag_override);
        json.name("Proxy").raw(NO_PROXY);
        json.name("Connect").nothing();
        json.name("PeerName").text("");
        json.name("CreateIndex").number(service.create_index.0);
        json.name("ModifyIndex").number(service.modify_index.0);
    });
}

/// One instance and its node in one flat row, as the catalog lists them.
pub(crate) fn service_node(json: &mut Json, row: &Instance) {
    let Instance { node, service, .. } = row;
    json.object(|json| {
        json.name("ID").text(&node.id);
        json.name("Node").text(&node.name);
        json.name("Address").text(&node.address);
        json.name("Datacenter").text(&node.datacenter);
        json.name("TaggedAddresses").pairs(&node.tagged_addresses);
        json.name("NodeMeta").pairs(&node.meta);
        json.name("ServiceKind").text(&service.kind);
        json.name("ServiceID").text(&service.id);
        json.name("ServiceName").text(&service.name);
        json.name("ServiceTags").texts(&service.tags);
        json.name("ServiceAddress").text(&service.address);
        if !service.tagged_addresses.is_empty() {
            json.name("ServiceTaggedAddresses");
            addresses(json, &service.tagged_addresses);
        }
        json.name("ServiceWeights");
        weights(json, &service.weights);
        json.name("ServiceMeta").pairs(&service.meta);
        json.name("ServicePort").number(service.port.into());
        json.name("ServiceSocketPath").text(&service.socket_path);
        json.name("ServiceEnableTagOverride").flag(service.enable_tag_override);
        json.name("ServiceProxy").raw(NO_PROXY);
        json.name("ServiceConnect").nothing();
        json.name("ServiceLocality").raw("null");
        json.name("CreateIndex").number(service.create_index.0);
        json.name("ModifyIndex").number(service.modify_index.0);
    });
}

/// One instance with its node and the checks that decide on it.
pub(crate) fn instance(json: &mut Json, row: &Instance) {
    json.object(|json| {
        json.name("Node");
        node(json, &row.node);
        json.name("Service");
        node_service(json, &row.service);
        json.name("Checks").array(|json| row.checks.iter().for_each(|row| check::check(json, row)));
    });
}

pub(super) fn weights(json: &mut Json, weights: &Weights) {
    json.object(|json| {
        json.name("Passing").number(weights.passing.into());
        json.name("Warning").number(weights.warning.into());
    });
}

pub(super) fn addresses(json: &mut Json, addresses: &BTreeMap<Str, ServiceAddress>) {
    json.object(|json| {
        for (tag, address) in addresses {
            json.key(tag).object(|json| {
                json.name("Address").text(&address.address);
                json.name("Port").number(address.port.into());
            });
        }
    });
}
