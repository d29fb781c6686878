//! Nodes, services and their indexes.

use std::collections::BTreeMap;

use proto::storage::v1 as pb;
use state::{LogIndex, Millis, Node, Row, Service, ServiceAddress, Str, Weights};

use crate::encode::{from_pairs, from_strs, to_pairs, to_strs};

/// `index` is that of everything on the node, where it is known.
pub(super) fn from_node(node: &Node, index: LogIndex) -> pb::Node {
    pb::Node {
        id: node.id.to_string(),
        name: node.name.to_string(),
        address: node.address.to_string(),
        datacenter: node.datacenter.to_string(),
        tagged_addresses: from_pairs(&node.tagged_addresses),
        meta: from_pairs(&node.meta),
        create_index: node.create_index.0,
        modify_index: node.modify_index.0,
        index: index.0,
    }
}

pub(super) fn to_node(node: pb::Node) -> (Node, LogIndex) {
    let index = LogIndex(node.index);
    let node = Node {
        id: node.id.into(),
        name: node.name.into(),
        address: node.address.into(),
        datacenter: node.datacenter.into(),
        tagged_addresses: to_pairs(node.tagged_addresses),
        meta: to_pairs(node.meta),
        create_index: LogIndex(node.create_index),
        modify_index: LogIndex(node.modify_index),
    };
    (node, index)
}

pub(super) fn from_service(service: &Service) -> pb::Service {
    pb::Service {
        node: service.node.to_string(),
        id: service.id.to_string(),
        name: service.name.to_string(),
        tags: from_strs(&service.tags),
        address: service.address.to_string(),
        port: service.port,
        socket_path: service.socket_path.to_string(),
        meta: from_pairs(&service.meta),
        tagged_addresses: from_tagged(&service.tagged_addresses),
        weight_passing: service.weights.passing,
        weight_warning: service.weights.warning,
        enable_tag_override: service.enable_tag_override,
        kind: service.kind.to_string(),
        create_index: service.create_index.0,
        modify_index: service.modify_index.0,
    }
}

pub(super) fn to_service(service: pb::Service) -> Service {
    Service {
        node: service.node.into(),
        id: service.id.into(),
        name: service.name.into(),
        tags: to_strs(service.tags),
        address: service.address.into(),
        port: service.port,
        socket_path: service.socket_path.into(),
        meta: to_pairs(service.meta),
        tagged_addresses: to_tagged(service.tagged_addresses),
        weights: Weights { passing: service.weight_passing, warning: service.weight_warning },
        enable_tag_override: service.enable_tag_override,
        kind: service.kind.into(),
        create_index: LogIndex(service.create_index),
        modify_index: LogIndex(service.modify_index),
    }
}

pub(super) fn from_tagged(addresses: &BTreeMap<Str, ServiceAddress>) -> Vec<pb::TaggedAddress> {
    let tagged =
        |(tag, to): (&Str, &ServiceAddress)| pb::TaggedAddress { tag: tag.to_string(), address: to.address.to_string(), port: to.port };
    addresses.iter().map(tagged).collect()
}

pub(super) fn to_tagged(addresses: Vec<pb::TaggedAddress>) -> BTreeMap<Str, ServiceAddress> {
    let untagged = |tagged: pb::TaggedAddress| (tagged.tag.into(), ServiceAddress { address: tagged.address.into(), port: tagged.port });
    addresses.into_iter().map(untagged).collect()
}

pub(super) fn from_service_index(name: &str, index: LogIndex, gone: Option<Millis>) -> pb::ServiceIndex {
    pb::ServiceIndex { name: name.to_owned(), index: index.0, gone_ms: gone.map(|at| at.0) }
}

pub(super) fn to_service_index(row: pb::ServiceIndex) -> Row {
    Row::ServiceIndex { name: row.name.into(), index: LogIndex(row.index), gone: row.gone_ms.map(Millis) }
}
