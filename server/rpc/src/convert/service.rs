//! Services: instances, joined and alone, and their summaries.

use std::sync::Arc;

use proto::v1;
use state::{Check, Instance, Service, ServiceAddress, ServiceInput, Status, Str, Weights};

use super::common::{pairs, strs, wire_pairs, wire_strs};
use super::{check, node};

/// Id of the check that takes a whole node out of work.
const NODE_MAINTENANCE: &str = "_node_maintenance";

/// What the ids of checks begin with that take one instance out of work.
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// An instance alone, for the wire.
pub(crate) fn service(service: &Service) -> v1::Service {
    let Service { node: _, id, name, tags, address, port, socket_path, meta, tagged_addresses, .. } = service;
    let Service { weights, enable_tag_override, kind, create_index, modify_index, .. } = service;
    v1::Service {
        id: id.to_string(),
        name: name.to_string(),
        tags: wire_strs(tags),
        address: address.to_string(),
        port: *port,
        socket_path: socket_path.to_string(),
        tagged_addresses: tagged_addresses.iter().map(|(tag, address)| (tag.to_string(), tagged(address))).collect(),
        meta: wire_pairs(meta),
        weights: Some(v1::Weights { passing: weights.passing, warning: weights.warning }),
        enable_tag_override: *enable_tag_override,
        kind: kind.to_string(),
        create_index: create_index.0,
        modify_index: modify_index.0,
    }
}

/// An instance as it is registered. What is only told, never set, is left out.
pub(crate) fn input(service: v1::Service) -> ServiceInput {
    let v1::Service {
        id,
        name,
        tags,
        address,
        port,
        socket_path,
        tagged_addresses,
        meta,
        weights,
        enable_tag_override,
        kind,
        create_index: _,
        modify_index: _,
    } = service;
    let from_wire = |address: v1::ServiceAddress| {
        let v1::ServiceAddress { address, port } = address;
        ServiceAddress { address: address.into(), port }
    };
    ServiceInput {
        id: id.into(),
        name: name.into(),
        tags: strs(tags),
        address: address.into(),
        port,
        socket_path: socket_path.into(),
        meta: pairs(meta),
        tagged_addresses: tagged_addresses.into_iter().map(|(tag, address)| (tag.into(), from_wire(address))).collect(),
        weights: weights.map_or_else(Weights::default, |v1::Weights { passing, warning }| Weights { passing, warning }),
        enable_tag_override,
        kind: kind.into(),
    }
}

/// A joined instance for the wire.
pub(crate) fn instance(instance: &Instance) -> v1::Instance {
    let Instance { node, service, checks, status } = instance;
    v1::Instance {
        node: Some(node::node(node)),
        service: Some(self::service(service)),
        checks: checks.iter().map(|row| check::check(row)).collect(),
        status: sum(checks, *status).into(),
    }
}

/// A joined instance for the wire, without checks and status: what the catalog tells.
pub(crate) fn instance_without_checks(instance: &Instance) -> v1::Instance {
    let (node, service) = (node::node(&instance.node), service(&instance.service));
    v1::Instance { node: Some(node), service: Some(service), ..v1::Instance::default() }
}

/// A service as a whole, for the wire.
pub(crate) fn summary(name: &str, tags: &[Str], instances: Option<usize>) -> v1::ServiceSummary {
    v1::ServiceSummary { name: name.to_owned(), tags: wire_strs(tags), instances: instances.map(|count| count as u64) }
}

/// The sum of checks: an instance that an operator took out of work says so.
fn sum(checks: &[Arc<Check>], worst: Status) -> v1::HealthStatus {
    let maintenance = |check: &Arc<Check>| &*check.id == NODE_MAINTENANCE || check.id.starts_with(SERVICE_MAINTENANCE);
    match worst {
        Status::Critical if checks.iter().any(maintenance) => v1::HealthStatus::Maintenance,
        worst => check::status(worst),
    }
}

fn tagged(address: &ServiceAddress) -> v1::ServiceAddress {
    let ServiceAddress { address, port } = address;
    v1::ServiceAddress { address: address.to_string(), port: *port }
}
